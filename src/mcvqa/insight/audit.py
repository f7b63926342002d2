"""Audits labels: ranks rows by how suspicious their labels are, and estimates how many of the first k are wrong.

Nothing is changed here. A person decides on each row of fixes.csv, and the setting `fixes` applies the decisions.
"""
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcvqa.base.informing import counted, one_line
from mcvqa.data.fixes import FIXES_HEADER, Decision, Proposal, write_fixes
from mcvqa.data.questions import Question
from mcvqa.insight.label_noise import LabelNoise

FIXES = "fixes.csv"
WORTH_A_LOOK = 0.1  # rows that are less probably wrong are not proposed
SHOWN_ROWS = 10
DEPTHS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class LabelAudit:
    """Holds the result of an audit.

    Attributes:
        proposals: proposed fixes, most probably wrong labels first.
        rows: number of labels that were judged.
        expected: estimated number of wrong labels among them.
        n_orders: number of views (option orders and scales) per row.
        n_members: number of members of the ensemble.
    """

    proposals: tuple[Proposal, ...]
    rows: int
    expected: float
    n_orders: int
    n_members: int

    def expected_precision(self, k: int) -> float:
        """Return the expected share of wrong labels among the first k proposals."""
        return float(np.mean([one.probability for one in self.proposals[:k]]))


def audit_labels(
    questions: Sequence[Question], noise: LabelNoise, n_orders: int, decided: Collection[str] = ()
) -> LabelAudit:
    """Rank labels, the most suspicious first.

    Args:
        questions: N rows.
        noise: estimates for the same rows, in their order.
        n_orders: number of views per row in the scores.
        decided: ids of rows that a person has already decided.

    Returns:
        Proposals for the other rows whose probability is at least WORTH_A_LOOK.
    """
    judged = np.flatnonzero(~np.isnan(noise.wrong))
    order = judged[np.argsort(-noise.suspicion[judged], kind="stable")]
    proposals = tuple(
        Proposal(questions[i], int(noise.proposed[i]), float(noise.wrong[i])) for i in order
        if noise.wrong[i] >= WORTH_A_LOOK and questions[i].id not in decided
    )
    return LabelAudit(proposals, len(judged), float(noise.wrong[judged].sum()), n_orders, len(noise.weights))


# %% shown
def spell_audit(audit: LabelAudit) -> str:
    """Describe the audit for a terminal."""
    share = audit.expected / audit.rows if audit.rows else 0.0
    views = counted(audit.n_orders, "view", "views (option orders and scales)")
    members = counted(audit.n_members, "member")
    lines = [
        f"{counted(audit.rows, 'label')} judged by models that never saw them, in {views} by {members}",
        f"expected to be wrong: {audit.expected:.0f} ({share:.1%}), roughly: a model's confident mistakes look like wrong labels",
    ]
    depths = [k for k in DEPTHS if k < len(audit.proposals)]
    precision = ", ".join(f"{audit.expected_precision(k):.0%} of the first {k}" for k in [*depths, len(audit.proposals)] if k)
    lines += [f"expected precision: {precision}"] if precision else ["no label needs a second look"]
    lines += [f"  {one_line(_spell_proposal(one))}" for one in audit.proposals[:SHOWN_ROWS]]
    return "\n".join(lines)


def _spell_proposal(one: Proposal) -> str:
    q = one.question
    assert q.answer is not None
    return f"{one.probability:4.0%}  {q.id}: {q.choices[q.answer]!r} -> {q.choices[one.proposed]!r}   {q.text[:60]}"


def write_audit(audit: LabelAudit, path: Path, decided: Sequence[Decision] = ()) -> str:
    """Write fixes.csv.

    Args:
        audit: the audit.
        path: the file.
        decided: earlier decisions of a person, which the file keeps.

    Returns:
        Text that says what to do with the file.
    """
    write_fixes(path, audit.proposals, decided)
    kept = f" and {counted(len(decided), 'earlier decision')}" if decided else ""
    return (
        f"written: {path} ({counted(len(audit.proposals), 'row')}{kept}). Review each row, write fix, drop or keep into the "
        f"column {FIXES_HEADER[3]!r}, and train with --set fixes={path}. Empty cells change nothing."
    )
