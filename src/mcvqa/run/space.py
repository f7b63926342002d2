"""Room on the disk: what a run will write, told by `check`, and asked for before any training."""
import shutil
from dataclasses import dataclass
from pathlib import Path

from mcvqa.config import Config
from mcvqa.model.device import GIB
from mcvqa.run.dataset import RunData
from mcvqa.run.project import RunStopped
from mcvqa.scoring.orders import tta_plan

POINTS_AT_ONCE = 4  # resume points: the two newest, the beginning of the epoch, and the one that is being written


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that the folds of a run take, beside the image features."""

    weights: int
    points: int
    scores: int

    @property
    def total(self) -> int:
        return self.weights + self.points + self.scores

    def __str__(self) -> str:
        weights, points, scores = (f"{part / GIB:.2f}" for part in (self.weights, self.points, self.scores))
        return f"trained weights {weights}, resume points {points}, scores {scores}"


def disk_need(config: Config, trained: int, data: RunData, folds: int, at_once: int = 1) -> DiskNeed:
    """What is still to be written.

    Args:
        trained: parameters.
        folds: that are still to be trained.
        at_once: folds trained at the same time, each with resume points of its own; they go when the fold is finished.
    """
    averages = config.use_ema + config.use_swa
    kinds = 2 + averages  # the best, the last, and the other weights at the end
    orders, scales = tta_plan(config)
    widest = max(len(q.choices) for q in (*data.train, *data.test))
    asked = len(data.train) + len(data.test)  # at most: rows of a fold and the test rows
    one_view = 5 * widest * asked * folds  # a float32 and the position of each choice
    points = min(at_once, folds) * POINTS_AT_ONCE * (3 + averages) * 4 * trained
    return DiskNeed(kinds * folds * 4 * trained, points, one_view * (orders * len(scales) + kinds))


def free_space(folder: Path) -> int:
    """Bytes that are free where `folder` is or will be."""
    return shutil.disk_usage(existing_folder(folder)).free


def existing_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())


def require_space(need: DiskNeed, config: Config) -> None:
    """Raises RunStopped, with the figures, where the disk is too small."""
    free = free_space(Path(config.output_dir))
    if need.total > free:
        raise RunStopped(
            f"output_dir={config.output_dir!r} has {free / GIB:.2f} GiB free; training needs {need.total / GIB:.2f}: {need}.\n"
            "Make space (cache/ may be deleted), train fewer folds (--set train_folds=0) or a smaller lora_r, or choose another "
            "folder: --set output_dir=FOLDER."
        )
