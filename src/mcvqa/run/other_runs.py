"""Reads the scores of another run in the same output folder."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcvqa.base.files import read_json
from mcvqa.config import Config
from mcvqa.data.folds import fold_title
from mcvqa.run.dataset import RunData
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import RunStopped
from mcvqa.run.score import splits_of
from mcvqa.run.tasks import TaskRecords, content_print
from mcvqa.scoring.scores import Scores, load_scores


@dataclass(frozen=True)
class OtherRun:
    """Describes another run that answered the same test rows.

    Attributes:
        folds: folds with scores of their current weights.
    """

    paths: RunPaths
    folds: tuple[int, ...]

    def scores(self, split: str) -> dict[int, Scores]:
        """Read the scores of 'oof' or 'test' rows by fold."""
        return {fold: load_scores(self.paths.scores_of(fold, split)) for fold in self.folds}

    def has_scores(self, fold: int, splits: Sequence[str]) -> bool:
        """Return whether a fold has scores of all `splits` that match the run's records and current weights."""
        if not all(self.paths.scores_of(fold, split).exists() for split in splits):
            return False
        records = TaskRecords(self.paths.experiment / "tasks", self.paths.experiment / "steps", self.paths.root)
        train = f"train {fold_title(fold)}"
        if not records.read(train):  # without a record, scores are trusted only if version 0.1 recorded the training
            return records.is_of_0_1(train) and self.paths.fold(fold).exists()
        if self.paths.checkpoints.exists() and not self.paths.fold(fold).exists():  # started over: another attempt's scores
            return False
        return all(self._is_scored(records, fold, split) for split in splits)

    def _is_scored(self, records: TaskRecords, fold: int, split: str) -> bool:
        """Return whether a split's scores are the recorded ones, by the recorded weights of the fold."""
        train, score = f"train {fold_title(fold)}", f"score {fold_title(fold)} {split}"
        if not (records.is_current(train) and records.is_current(score)):
            return False
        record = records.read(score)
        return train in record["used"] and [content_print(self.paths.scores_of(fold, split))] == [*record["made"].values()]


def other_run(data: RunData, config: Config, name: str, setting: str) -> OtherRun:
    """Find another run.

    Args:
        data: the rows of this run.
        config: settings of this run.
        name: name of the other run.
        setting: the setting that names it, for messages.

    Raises:
        RunStopped: it is unfinished or answered other rows.
    """
    paths = RunPaths(Path(config.output_dir), name)
    require_same_test(data, config, name, setting)
    folds = sorted(int(f.stem.removeprefix("fold").removesuffix("-oof")) for f in paths.scores.glob("fold*-oof.npz"))
    valid = tuple(fold for fold in folds if OtherRun(paths, ()).has_scores(fold, splits_of(data)))
    if not valid:
        raise RunStopped(f"{setting}: the run {name!r} has no scores of its current weights: finish it first (mcvqa run).")
    return OtherRun(paths, valid)


def require_same_test(data: RunData, config: Config, name: str, setting: str) -> None:
    """Check that another run answers the same test rows: equal ids may have other choices.

    Args:
        data, config, name, setting: see `other_run`.

    Raises:
        RunStopped: it answers other rows.
    """
    paths = RunPaths(Path(config.output_dir), name)
    file = paths.experiment / "data.json"
    if not file.exists():
        raise RunStopped(f"{setting}: the run {paths.run!r} has no {file}: finish it first (mcvqa run).")
    try:
        other = read_json(file)
        same_test = other.get("test_content", data.test_print) == data.test_print
    except (ValueError, AttributeError):
        raise RunStopped(f"{setting}: {file} is damaged, so the data of the run {paths.run!r} are unknown.") from None
    if not same_test:
        raise RunStopped(
            f"{setting}: the run {paths.run!r} answered other test rows ({other.get('folder', 'elsewhere')}): questions, choices "
            f"or photographs differ. Score it on these (mcvqa predict {paths.run} --data {config.data_dir}), or omit it."
        )
