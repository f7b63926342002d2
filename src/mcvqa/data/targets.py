"""Defines training targets: the target of each row, also if it differs from the row's own answer."""
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mcvqa.config import settings_hash
from mcvqa.data.questions import Question


def answer_target(question: Question, *, soft_votes: bool = False) -> np.ndarray:
    """Make the target (C,) float32 of a row; its sum is the row's weight in the loss, and all zero if nothing is known.

    It is one-hot at the answer, or the shares of the annotators' votes, unless the row has separate targets.

    Args:
        question: the row.
        soft_votes: whether to use vote shares.
    """
    target = np.zeros(len(question.choices), np.float32)
    if question.targets is not None:
        target[:] = question.targets
    elif soft_votes and question.votes is not None and any(question.votes):
        target[:] = np.array(question.votes, np.float32) / sum(question.votes)
    elif question.answer is not None:
        target[question.answer] = 1.0
    return target * np.float32(question.weight)


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Holds training targets other than the rows' own answers. Validation rows are never changed.

    Attributes:
        weights: id -> weight; rows without one have weight 1, rows with weight 0 are not trained on.
        targets: id -> probability of each choice, which replaces the answer.
        pseudo: fold -> additional training rows, whose answers a model has given.
        notes: all this in sentences, for people.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    targets: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    pseudo: Mapping[int, tuple[Question, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def guided(self, questions: Sequence[Question], fold: int) -> list[Question]:
        """Return the training rows of a fold, followed by the fold's pseudo-labelled rows."""
        changed = [
            dataclasses.replace(q, weight=self.weights.get(q.id, 1.0), targets=self.targets.get(q.id)) for q in questions
        ] if self.weights or self.targets else questions
        return [*(q for q in changed if q.weight), *self.pseudo.get(fold, ())]

    def key(self, fold: int) -> dict[str, str]:
        """Return the guidance's part of the key of a fold's weights; empty without guidance."""
        pseudo = [(q.id, q.image, q.text, q.choices, q.answer, q.targets) for q in self.pseudo.get(fold, ())]
        if not (self.weights or self.targets or pseudo):
            return {}
        return {"guidance": settings_hash({"weights": dict(self.weights), "targets": dict(self.targets), "pseudo": pseudo})}
