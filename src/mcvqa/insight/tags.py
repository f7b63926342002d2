"""Tags: what is probably the matter with a row, by rules that are read from top to bottom; the first that fits names it.

A rule returns its reason in words, or nothing. A row that no rule fits has no tag.
"""
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.data.explore import bare_text
from mcvqa.insight.evidence import Neighbour, RowEvidence

WRONG = 0.5  # probability from which a label counts as probably wrong
AGREEMENT = 0.75  # below it, the answer depends on the order of the choices
GUESSED = 0.5  # probability of the label from which the texts alone count as right
MAJORITY = 2 / 3  # of the annotators; below it, a question counts as ambiguous
CLUELESS = 0.9  # entropy, as a share of what even probabilities have


# %% rules
def _unreadable_photograph(row: RowEvidence) -> str:
    return f"the photograph cannot be read: {row.photograph_problem}" if row.photograph_problem else ""


def _label_probably_wrong(row: RowEvidence) -> str:
    if row.truth is None or row.said is None:
        return ""
    label, said = row.question.choices[row.truth], row.question.choices[row.said]
    if row.label_wrong is not None and row.label_wrong >= WRONG:
        return f"{row.label_wrong:.0%} probable that {label!r} is wrong; models that never saw the label say {said!r}"
    if row.is_right:
        return ""
    agreeing = [other for other in _contradictions(row) if bare_text(other.answer) == bare_text(said)]
    return f"{_spelled(agreeing[0])}, which was said here too" if agreeing else ""


def _spelled(other: Neighbour) -> str:
    return f"row {other.id} asks the same about a look-alike photograph and is labelled {other.answer!r}"


def _contradictions(row: RowEvidence) -> list[Neighbour]:
    """Look-alike rows with the same question whose answer is a choice of this row, and another than its label."""
    assert row.truth is not None
    choices, label = {bare_text(choice) for choice in row.question.choices}, bare_text(row.question.choices[row.truth])
    return [one for one in row.look_alikes if one.same_question and bare_text(one.answer) in choices - {label}]


def _order_sensitive(row: RowEvidence) -> str:
    if row.order_agreement is None or row.order_agreement >= AGREEMENT:
        return ""
    return f"{row.order_agreement:.0%} of the option orders give this answer"


def _misled_by_the_picture(row: RowEvidence) -> str:
    if row.truth is None or row.is_right is not False or not row.prior:
        return ""
    if int(np.argmax(row.prior)) != row.truth or row.prior[row.truth] < GUESSED:
        return ""
    label, share = row.question.choices[row.truth], row.prior[row.truth]
    return f"the texts alone say {label!r} with {share:.0%}, which is right; with the picture the answer is wrong"


def _resolution_sensitive(row: RowEvidence) -> str:
    if row.scale_agreement is None or row.scale_agreement == 1:
        return ""
    return f"{row.scale_agreement:.0%} of the image scales give this answer"


def _ambiguous(row: RowEvidence) -> str:
    votes = row.question.votes or ()
    if sum(votes) > 1 and max(votes) < MAJORITY * sum(votes):
        return f"{max(votes)} of {sum(votes)} annotators agree"
    if row.truth is not None and (others := _contradictions(row)):
        return _spelled(others[0])
    if row.entropy is not None and row.entropy >= CLUELESS:
        return f"no choice stands out: the most probable one has {max(row.probabilities):.0%} among {len(row.probabilities)}"
    return ""


RULES_OF_TAGS: tuple[tuple[str, Callable[[RowEvidence], str]], ...] = (
    ("unreadable photograph", _unreadable_photograph),
    ("label probably wrong", _label_probably_wrong),
    ("order-sensitive", _order_sensitive),
    ("misled by the picture", _misled_by_the_picture),
    ("resolution-sensitive", _resolution_sensitive),
    ("ambiguous", _ambiguous),
)


# %% which rule fits
def tag_of(row: RowEvidence) -> tuple[str, str]:
    """The tag of a row and its reason in words; both empty where no rule fits."""
    return next(((tag, reason) for tag, rule in RULES_OF_TAGS if (reason := rule(row))), ("", ""))


def tagged(rows: Sequence[RowEvidence]) -> list[RowEvidence]:
    """The rows with their tags and reasons."""
    return [replace(row, tag=tag, reason=reason) for row in rows for tag, reason in [tag_of(row)]]


def tag_counts(rows: Sequence[RowEvidence]) -> str:
    """How many rows have each tag, in a line."""
    count = Counter(row.tag for row in rows)
    named = [f"{tag} {count[tag]:,}" for tag, _ in RULES_OF_TAGS if count[tag]]
    return f"{counted(len(rows), 'row')}; " + (", ".join(named) or "none has a tag")
