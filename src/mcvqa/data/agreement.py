"""Measures how much the annotators of a file agree, if several voted on a row."""
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import spell_error
from mcvqa.data.folds import question_groups
from mcvqa.data.questions import Table


@dataclass(frozen=True)
class VoteAgreement:
    """Describes how much the annotators of one file agree.

    Attributes:
        file: name of the file.
        rows: (votes in a row, votes of its most voted choice, whether several choices are tied) -> number of rows.
        kappa, standard_error: see `fleiss_kappa`.
    """

    file: str
    rows: dict[tuple[int, int, bool], int]
    kappa: float
    standard_error: float

    def lines(self) -> list[str]:
        """Make the lines of the summary: kappa, and the number of rows by votes for the answer."""
        n, each = sum(self.rows.values()), sorted({votes for votes, _, _ in self.rows})
        votes = f"{each[0]} to {each[-1]}" if len(each) > 1 else f"{each[0]}"
        winners: Counter[str] = Counter()
        for (_, most, tied), rows in sorted(self.rows.items(), key=lambda item: (item[0][2], -item[0][1])):
            winners["tied" if tied else f"{most}"] += rows
        shares = "   ".join(f"{most}: {rows / n:.1%}" for most, rows in winners.items())
        kappa = "not known" if np.isnan(self.standard_error) else spell_error(self.kappa, self.standard_error)
        return [
            f"Votes       {self.file}: {counted(n, 'row')}, votes a row: {votes}; Fleiss' kappa {kappa} "
            "(0: as by chance, 1: all agree)",
            f"  votes of the answer, share of the rows   {shares} (votes.csv)",
        ]


# %% files
def agreements_of(tables: Sequence[Table], image_groups: dict[str, int]) -> list[VoteAgreement]:
    """Measure how much the annotators of each file with votes agree, ties included.

    Args:
        tables: the files.
        image_groups: written path -> group of near-duplicate photographs.
    """
    agreements = []
    for table in tables:
        voted = [(q, q.votes) for q in table.questions if q.votes is not None]
        if voted:
            rows = Counter((sum(votes), max(votes), votes.count(max(votes)) > 1) for _, votes in voted)
            groups = question_groups([q for q, _ in voted], image_groups)
            agreements.append(VoteAgreement(table.name, dict(rows), *fleiss_kappa([votes for _, votes in voted], groups)))
    return agreements


# %% kappa
def fleiss_kappa(votes: Sequence[tuple[int, ...]], groups: np.ndarray) -> tuple[float, float]:
    """Compute Fleiss' kappa (1971), and its standard error by image group (jackknife).

    Rows may differ in their number of votes: each counts once, those with fewer than two votes not at all (Gwet 2014, "Handbook
    of Inter-Rater Reliability"). Rows may differ in their number of choices: chance agreement is computed among rows with the
    same number. If neither differs, both are Fleiss' own formula.

    Args:
        votes: votes per choice, of N rows.
        groups: (N,) image group of each row.

    Returns:
        Kappa and its error; both NaN if no row has two votes, or all votes are for the same choice.
    """
    judged = [i for i, row in enumerate(votes) if sum(row) > 1]
    sizes, stratum = np.unique([len(votes[i]) for i in judged], return_inverse=True)  # rows with as many choices
    if not judged:
        return float("nan"), float("nan")
    index = np.unique(np.asarray(groups)[judged], return_inverse=True)[1].reshape(-1)
    n_groups = int(index.max()) + 1
    agreed, rows = np.zeros(n_groups), np.zeros((n_groups, len(sizes)))
    shares = np.zeros((n_groups, len(sizes), int(sizes.max())))  # of the votes, by group, stratum and choice
    for i, group, size_index in zip(judged, index.tolist(), stratum.reshape(-1).tolist(), strict=True):
        counts = np.array(votes[i])
        agreed[group] += (counts * (counts - 1)).sum() / (counts.sum() * (counts.sum() - 1))
        rows[group, size_index] += 1
        shares[group, size_index, : len(counts)] += counts / counts.sum()
    every = agreed.sum(), shares.sum(0), rows.sum(0)
    if n_groups < 2:
        return float(_kappa(*every)), float("nan")
    without = _kappa(every[0] - agreed, every[1] - shares, every[2] - rows)  # (G,) each group left out once
    spread = ((without - without.mean()) ** 2).sum() * (n_groups - 1) / n_groups
    return float(_kappa(*every)), float(np.sqrt(spread))


def _kappa(agreed: np.ndarray, shares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute kappa (...) from sums over rows: agreed (...), shares (..., S, C), rows (..., S)."""
    total = rows.sum(-1)
    by_chance = ((shares / np.maximum(rows, 1)[..., None]) ** 2).sum(-1)  # (..., S)
    expected = (rows * by_chance).sum(-1) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (agreed / total - expected) / (1 - expected), np.nan)
