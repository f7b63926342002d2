"""mcvqa: fine-tune vision-language models on multiple-choice visual question answering and write a checked submission.

    from mcvqa import Config, run
    run(Config(data_dir="data"))

    from mcvqa import Answerer
    Answerer("experiments/RUN").answer("photo.jpg", "What color is it?", ["red", "blue"])

Every error that is meant for people derives from `McvqaError`; an interrupt is `Interrupted`, a KeyboardInterrupt.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mcvqa.config import Config, ConfigError, McvqaError, UnusualFile, load_config

if TYPE_CHECKING:
    from mcvqa.answer.answerer import Answer, Answerer
    from mcvqa.answer.merge import ExportError
    from mcvqa.answer.typed import AskError
    from mcvqa.base.files import DamagedFile, DiskError
    from mcvqa.base.interrupt import Interrupted
    from mcvqa.data.folds import FoldError
    from mcvqa.data.images import ImageError
    from mcvqa.data.table import DataError
    from mcvqa.ensemble.blend import BlendError
    from mcvqa.model.augment import AugmentError
    from mcvqa.model.batches import NotShared
    from mcvqa.model.device import DeviceError
    from mcvqa.model.families.family import FamilyError
    from mcvqa.model.fast.overflow import OverflowInModel
    from mcvqa.model.source import ModelError
    from mcvqa.model.text.template import AlignmentError
    from mcvqa.report.submission import SubmissionError
    from mcvqa.run.events import Callback
    from mcvqa.run.ownership import Owned
    from mcvqa.run.project import RunStopped
    from mcvqa.run.steps import run
    from mcvqa.run.store import StoreError
    from mcvqa.training.checkpoint import CheckpointError, NotSaved
    from mcvqa.training.job import TrainingError

__version__ = "0.2.0"
__all__ = [
    "AlignmentError", "Answer", "Answerer", "AskError", "AugmentError", "BlendError", "Callback", "CheckpointError", "Config",
    "ConfigError",
    "DamagedFile", "DataError", "DeviceError", "DiskError", "ExportError", "FamilyError", "FoldError", "ImageError",
    "Interrupted", "McvqaError", "ModelError", "NotSaved", "NotShared", "OverflowInModel", "Owned", "RunStopped", "StoreError",
    "SubmissionError", "TrainingError", "UnusualFile", "__version__", "load_config", "run",
]
# Most of these modules bring torch along, so each is imported when a name of it is asked for.
_MODULES = {
    "answer.answerer": ("Answer", "Answerer"),
    "answer.merge": ("ExportError",),
    "answer.typed": ("AskError",),
    "base.files": ("DamagedFile", "DiskError"),
    "base.interrupt": ("Interrupted",),
    "data.folds": ("FoldError",),
    "data.images": ("ImageError",),
    "data.table": ("DataError",),
    "ensemble.blend": ("BlendError",),
    "model.augment": ("AugmentError",),
    "model.batches": ("NotShared",),
    "model.device": ("DeviceError",),
    "model.families.family": ("FamilyError",),
    "model.fast.overflow": ("OverflowInModel",),
    "model.source": ("ModelError",),
    "model.text.template": ("AlignmentError",),
    "report.submission": ("SubmissionError",),
    "run.events": ("Callback",),
    "run.ownership": ("Owned",),
    "run.project": ("RunStopped",),
    "run.store": ("StoreError",),
    "training.checkpoint": ("CheckpointError", "NotSaved"),
    "training.job": ("TrainingError",),
}


def __getattr__(name: str) -> Any:
    if name == "run":  # a package that can be called
        return import_module("mcvqa.run")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"mcvqa.{module}"), name)
    raise AttributeError(f"module 'mcvqa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
