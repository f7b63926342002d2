"""A fold as the tests train it: the job, and on demand the stepper whose state they look at."""
import dataclasses
from functools import cached_property
from typing import Any

import torch

from mcvqa.model.device import set_seeds
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import FoldResult, train_fold
from mcvqa.training.micro_batch import settle_micro_batch
from mcvqa.training.state import TrainingState
from mcvqa.training.step import Stepper, prepare


class Fold:
    """One fold to train. What a FoldJob has can be read here too."""

    def __init__(self, job: FoldJob) -> None:
        self.job = job

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("job", "stepper"):
            raise AttributeError(name)
        return getattr(self.job, name)

    def change(self, **changes: Any) -> "Fold":
        """This fold with other rows, another folder, ...; before it is trained."""
        self.job = dataclasses.replace(self.job, **changes)
        return self

    @cached_property
    def stepper(self) -> Stepper:
        set_seeds(self.job.config.seed + self.job.fold)
        return prepare(self.job)

    @property
    def ready(self) -> Stepper:
        """The stepper, with its micro-batch found and the model in training mode."""
        settle_micro_batch(self.stepper)
        self.stepper.answers.train()
        return self.stepper

    @property
    def state(self) -> TrainingState:
        return self.stepper.state

    def run(self) -> FoldResult:
        return train_fold(self.job, self.stepper)

    def weights(self) -> torch.Tensor:
        """The trained weights as one vector."""
        return torch.cat([p.detach().flatten() for p in self.state.parameters.values()])
