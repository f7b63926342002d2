"""Estimates the disk space of a run; `check` reports it, and a run requires it before training."""
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcvqa.base.files import existing_folder
from mcvqa.config import Config
from mcvqa.model.device import GIB
from mcvqa.run.dataset import RunData
from mcvqa.run.project import RunStopped
from mcvqa.scoring.orders import tta_plan

POINTS_AT_ONCE = 4  # resume points: the two newest, the beginning of the epoch, and the one that is being written


@dataclass(frozen=True)
class DiskNeed:
    """Holds the bytes that the folds of a run need besides the image features."""

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
    """Estimate the space of the files still to be written.

    Args:
        config: all settings.
        trained: number of trained parameters.
        data: the rows.
        folds: number of folds still to be trained.
        at_once: number of folds trained at the same time, each with resume points, which are deleted when the fold is finished.
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
    """Return the free bytes of the disk that has, or will have, `folder`."""
    return shutil.disk_usage(existing_folder(folder)).free


def require_space(need: DiskNeed, config: Config) -> None:
    """Check that the disk has enough space.

    Args:
        need: space for the files of the run.
        config: all settings.

    Raises:
        RunStopped: it has not; the message gives the figures.
        OSError: the folder of checkpoints is not writable.
    """
    folder = Path(config.output_dir) / "checkpoints"  # perhaps a link to another disk
    if os.path.lexists(folder):
        folder.mkdir(exist_ok=True)  # refused if a file or a link that leads nowhere has its name
    with tempfile.TemporaryFile(dir=existing_folder(folder)):  # what cannot be written to shows now, not after an epoch
        free = free_space(folder)
    if need.total > free:
        raise RunStopped(
            f"{folder} has {free / GIB:.2f} GiB free; training needs {need.total / GIB:.2f}: {need}"
            ".\nFree some space (cache/ may be deleted), train fewer folds (--set train_folds=0) or use a smaller lora_r, or "
            "choose another folder: --set output_dir=FOLDER."
        )
