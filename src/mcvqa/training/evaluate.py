"""Validates a fold: its raw weights and their averages, on its validation rows.

Shapes: N rows, C choices.
"""
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mcvqa.base.uncertainty import Accuracy, accuracy_of_right, pack_right
from mcvqa.data.questions import Question
from mcvqa.model.distributed import by_main, is_main_process
from mcvqa.model.fast.forward import Answering
from mcvqa.model.rows import encode_rows, read_rows, rows_per_pass, without_empty
from mcvqa.training.job import FoldJob
from mcvqa.training.state import TrainingState


@dataclass(frozen=True)
class Validation:
    """Holds the validation result of one set of weights.

    Attributes:
        logprobs: letter log-probabilities (C,) of each row, in the original order of its choices.
        accuracy: accuracy on the rows with a known answer.
        loss: mean negative log-probability of the answer among the choices, in nats.
        right: (N,) whether each row with a known answer was answered correctly.
    """

    logprobs: list[np.ndarray]
    accuracy: Accuracy
    loss: float
    right: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def is_better(self, old: "Validation") -> bool:
        """Return whether the accuracy is higher or, at equal accuracy, the loss lower."""
        return (self.accuracy.value, -self.loss) > (old.accuracy.value, -old.loss)


class Evaluator:
    """Validates a fold's raw weights or one of their averages."""

    def __init__(self, job: FoldJob, answers: Answering, state: TrainingState) -> None:
        self.job, self.answers, self.state = job, answers, state
        self.maker = job.validating or job.maker
        self._indices: list[int] = []
        self._rows: list[Any] = []
        self._rows_per_pass = 0

    def scoring_variant(self) -> str:
        """Return the kind of weights used for scoring: SWA if available, else EMA, else raw."""
        config, averages = self.job.config, self.state.averages
        if config.use_swa and averages["swa"].updates:
            return "swa"
        return "ema" if config.use_ema and averages["ema"].updates else "raw"

    @contextlib.contextmanager
    def weights(self, variant: str) -> Iterator[None]:
        """Within the block, load the weights of one variant into the model."""
        average = contextlib.nullcontext() if variant == "raw" else self.state.averages[variant].applied(self.state.parameters)
        with average:
            yield

    def validate(self, epoch: int, *, every_variant: bool) -> dict[str, Validation]:
        """Validate the weights used for scoring.

        Args:
            epoch: number of the epoch, from 0; -1: the untrained model.
            every_variant: validate raw weights and all averages, to measure the gain of each.

        Returns:
            Name of each validated variant -> its result.
        """
        chosen = self.scoring_variant()
        names = ["raw", *(n for n, a in self.state.averages.items() if a.updates)] if every_variant else [chosen]
        if not self.job.validation:
            return dict.fromkeys(names, Validation([], Accuracy(0, 0), float("nan")))
        results = {}
        if not self._indices:
            self._choose_rows()
        for name in names:
            started = time.monotonic()
            with self.weights(name):
                results[name] = self._score(f"validation ({name})" if len(names) > 1 else "validation")
            if self.job.schedule and self.questions:
                self.job.schedule.pace.read = (time.monotonic() - started) / len(self.questions)
            self._log(epoch, name, results[name], chosen=name == chosen)
        shown = results[chosen]
        self.state.right.append(shown.right)
        if is_main_process():
            when = "untrained" if epoch < 0 else f"epoch {epoch + 1}"
            tqdm.write(f"{self.job.title} {when}: accuracy {shown.accuracy} ({chosen}), loss {shown.loss:.3f}")
        return results

    @property
    def questions(self) -> Sequence[Question]:
        """The rows that `validate` uses: all, or within a time budget a random sample."""
        return [self.job.validation[i] for i in self._indices]

    def _choose_rows(self) -> None:
        """Choose the validation rows, the same in every session, and encode them; all processes do it together."""
        job, available, state = self.job, len(self.job.validation), self.state
        if not state.validation_rows:
            wanted = by_main(job.schedule.validation_rows, available) if job.schedule else available
            state.validation_rows = min(max(wanted, 1), available)
        order = np.random.default_rng([job.config.seed, job.fold]).permutation(available)
        self._indices = sorted(order[: state.validation_rows].tolist())
        if job.features:  # before scoring is timed
            job.features([question.image for question in self.questions])
        self._rows = encode_rows(self.maker, self.questions, [None] * len(self.questions), job.base.plan.workers)
        self._rows_per_pass = rows_per_pass(self.answers, self.maker, self._rows, job.config, job.base.plan)

    def _score(self, title: str) -> Validation:
        job, questions = self.job, self.questions
        by_row = read_rows(self.answers, self.maker, self._rows, self._rows_per_pass, job.base.plan, title=title)
        logprobs = [without_empty(question, orders)[0] for question, orders in zip(questions, by_row, strict=True)]
        normalised = [values - np.logaddexp.reduce(values) for values in logprobs]  # among the row's choices
        answers = np.array([-1 if q.answer is None else q.answer for q in questions], dtype=int)  # (N,)
        known = answers >= 0
        right = (np.array([values.argmax() for values in normalised], dtype=int) == answers)[known]
        groups = None if job.groups is None else job.groups[self._indices][known]
        losses = [-values[a] for values, a in zip(normalised, answers, strict=True) if a >= 0]
        accuracy = replace(accuracy_of_right(right, groups), not_measured=job.not_measured)
        return Validation(logprobs, accuracy, float(np.mean(losses)) if losses else float("nan"), right)

    def _log(self, epoch: int, name: str, result: Validation, *, chosen: bool) -> None:
        if is_main_process():
            self.job.log.write(
                "epoch", fold=self.job.fold, epoch=epoch, variant=name, accuracy=result.accuracy.value, nll=result.loss,
                standard_error=result.accuracy.standard_error, n=result.accuracy.n, chosen=chosen,
                not_measured=result.accuracy.not_measured,
                right=pack_right(result.right),  # for the optimism of choosing the best epoch
            )
