"""Tags rows with their probable problem, by rules in a fixed order; the first matching rule wins.

A rule returns its reason in words, English and Korean, or nothing. A row without a matching rule has no tag.
"""
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.data.explore import bare_text
from mcvqa.insight.evidence import Neighbour, RowEvidence

WRONG = 0.5  # probability from which a label counts as probably wrong
AGREEMENT = 0.75  # below it, the answer depends on the order of the choices
GUESSED = 0.5  # probability of the label from which the texts alone count as right
MAJORITY = 2 / 3  # of the annotators; below it, a question counts as ambiguous
CLUELESS = 0.9  # entropy, as a share of what even probabilities have


class Reason(NamedTuple):
    """Explains why a rule matches a row."""

    english: str
    korean: str


# %% rules
def _unreadable_photograph(row: RowEvidence) -> Reason | None:
    problem = row.photograph_problem
    return Reason(f"the photograph cannot be read: {problem}", f"사진을 읽을 수 없습니다: {problem}") if problem else None


def _label_probably_wrong(row: RowEvidence) -> Reason | None:
    if row.truth is None or row.said is None:
        return None
    label, said = row.question.choices[row.truth], row.question.choices[row.said]
    if row.label_wrong is not None and row.label_wrong >= WRONG:
        return Reason(
            f"{row.label_wrong:.0%} probable that {label!r} is wrong; models that never saw the label say {said!r}",
            f"라벨 {label!r}: 틀렸을 확률 {row.label_wrong:.0%}. 이 라벨을 학습하지 않은 모델의 답은 {said!r}입니다",
        )
    if row.is_right:
        return None
    agreeing = [other for other in _contradictions(row) if bare_text(other.answer) == bare_text(said)]
    if not agreeing:
        return None
    spelled = _spelled(agreeing[0])
    return Reason(f"{spelled.english}, which was said here too", f"{spelled.korean}. 모델의 답도 같습니다")


def _spelled(other: Neighbour) -> Reason:
    return Reason(
        f"row {other.id} asks the same about a look-alike photograph and is labelled {other.answer!r}",
        f"거의 같은 사진에 같은 질문을 한 {other.id} 행의 라벨은 {other.answer!r}입니다",
    )


def _contradictions(row: RowEvidence) -> list[Neighbour]:
    """List near-duplicate rows with the same question whose answer is a choice of this row but not its label."""
    assert row.truth is not None
    choices, label = {bare_text(choice) for choice in row.question.choices}, bare_text(row.question.choices[row.truth])
    return [one for one in row.look_alikes if one.same_question and bare_text(one.answer) in choices - {label}]


def _never_learned(row: RowEvidence) -> Reason | None:
    if row.truth is None or not row.learned or int(np.argmax(row.learned)) == row.truth:
        return None
    label, said, share = row.question.choices[row.truth], row.question.choices[int(np.argmax(row.learned))], max(row.learned)
    return Reason(
        f"models that have learned the label {label!r} still say {said!r} with {share:.0%}",
        f"라벨 {label!r}: 이 라벨을 학습한 모델의 답도 {said!r}입니다({share:.0%})",
    )


def _order_sensitive(row: RowEvidence) -> Reason | None:
    share = row.order_agreement
    if share is None or share >= AGREEMENT:
        return None
    return Reason(f"{share:.0%} of the option orders give this answer", f"보기 순서 가운데 {share:.0%}에서만 이 답을 골랐습니다")


def _misled_by_the_picture(row: RowEvidence) -> Reason | None:
    if row.truth is None or row.is_right is not False or not row.prior:
        return None
    if int(np.argmax(row.prior)) != row.truth or row.prior[row.truth] < GUESSED:
        return None
    label, share = row.question.choices[row.truth], row.prior[row.truth]
    return Reason(
        f"the texts alone say {label!r} with {share:.0%}, which is right; with the picture the answer is wrong",
        f"질문과 보기 글만 보면 맞히지만({label!r} {share:.0%}), 사진을 보면 틀립니다",
    )


def _resolution_sensitive(row: RowEvidence) -> Reason | None:
    share = row.scale_agreement
    if share is None or share == 1:
        return None
    return Reason(f"{share:.0%} of the image scales give this answer", f"이미지 배율 가운데 {share:.0%}에서만 이 답을 골랐습니다")


def _ambiguous(row: RowEvidence) -> Reason | None:
    votes = row.question.votes or ()
    if sum(votes) > 1 and max(votes) < MAJORITY * sum(votes):
        agree, all_votes = max(votes), sum(votes)
        return Reason(f"{agree} of {all_votes} annotators agree", f"평가자 {all_votes}명 중 {agree}명만 의견이 같습니다")
    if row.truth is not None and (others := _contradictions(row)):
        return _spelled(others[0])
    if row.entropy is not None and row.entropy >= CLUELESS:
        best, count = max(row.probabilities), len(row.probabilities)
        return Reason(
            f"no choice stands out: the most probable one has {best:.0%} among {count}",
            f"두드러진 보기가 없습니다. 보기 {count}개 중 가장 높은 확률이 {best:.0%}입니다",
        )
    return None


RULES_OF_TAGS: tuple[tuple[str, Callable[[RowEvidence], Reason | None]], ...] = (
    ("unreadable photograph", _unreadable_photograph),
    ("label probably wrong", _label_probably_wrong),
    ("never learned", _never_learned),
    ("order-sensitive", _order_sensitive),
    ("misled by the picture", _misled_by_the_picture),
    ("resolution-sensitive", _resolution_sensitive),
    ("ambiguous", _ambiguous),
)


# %% which rule fits
def tag_of(row: RowEvidence) -> tuple[str, Reason]:
    """Return the tag of a row and its reason; all of them empty if no rule matches."""
    return next(((tag, reason) for tag, rule in RULES_OF_TAGS if (reason := rule(row))), ("", Reason("", "")))


def tagged(rows: Sequence[RowEvidence]) -> list[RowEvidence]:
    """Return the rows with their tags and reasons."""
    return [replace(row, tag=tag, reason=why.english, reason_in_korean=why.korean) for row in rows for tag, why in [tag_of(row)]]


def tag_counts(rows: Sequence[RowEvidence]) -> str:
    """Describe in a line how many rows have each tag."""
    count = Counter(row.tag for row in rows)
    named = [f"{tag} {count[tag]:,}" for tag, _ in RULES_OF_TAGS if count[tag]]
    return f"{counted(len(rows), 'row')}; " + (", ".join(named) or "no row has a tag")
