"""Names the files and folders of a run. Does not import torch."""
from dataclasses import dataclass
from pathlib import Path

from mcvqa.data.folds import fold_title

START_FILE = "start.json"  # in experiments/<run>
# all that is copied from other outputs: people publish these folders
WEIGHTS_FOLDERS = r"(?:fold\d+|final)/(?:best|last|raw|ema|swa|resume/[\d-]+)"
KNOWN_FILES = (
    r"checkpoints/{run}/(?:fold\d+|final)/result\.json|logs/{run}\.jsonl|"
    r"experiments/{run}/(?:config\.yaml|data\.json|start\.json|folds\.csv|(?:steps|tasks)/[\w.-]+\.json|scores/(?:fold\d+|final|prior)-\w+\.npz)"
)


@dataclass(frozen=True)
class RunPaths:
    """Names a run's files and folders."""

    root: Path
    run: str

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints" / self.run

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.run}.jsonl"

    @property
    def experiment(self) -> Path:
        return self.root / "experiments" / self.run

    @property
    def scores(self) -> Path:
        return self.experiment / "scores"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def written(self) -> tuple[Path, ...]:
        """Folders that runs write to."""
        return tuple(self.root / name for name in ("cache", "checkpoints", "experiments", "logs", "outputs"))

    def fold(self, fold: int) -> Path:
        return self.checkpoints / fold_title(fold).replace(" ", "")

    def scores_of(self, fold: int, rows: str) -> Path:
        """Return the file of scores by a fold's model.

        Args:
            fold: number of the fold.
            rows: 'oof', 'test' or 'train'; or 'raw', 'ema' or 'swa' for validation rows scored with these weights.
        """
        return self.scores / f"{self.fold(fold).name}-{rows}.npz"

    def lock(self, fold: int | None = None) -> Path:
        """Return the file locked by the process that works on the run or, with `fold`, trains this fold."""
        return self.root / "logs" / (f"{self.run}.lock" if fold is None else f"{self.run}.{self.fold(fold).name}.lock")
