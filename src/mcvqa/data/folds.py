"""Assigns rows to folds: the rows on which a model is trained, and those by which it is judged.

Rows with similar images stay together (otherwise a model is rewarded for memorising), and every fold gets its share of each
answer and of each kind of question.
"""
from collections.abc import Sequence

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.config import McvqaError
from mcvqa.data.kinds import basic_kind
from mcvqa.data.questions import Question

TRAINING_ONLY, LEFT_OUT = -1, -2  # instead of a fold's number
FINAL = 50  # the model on all rows (final_fit)


def fold_title(fold: int) -> str:
    return "final" if fold == FINAL else f"fold {fold}"


# %% what must stay together, what must be spread
class FoldError(McvqaError, ValueError):
    """Raised if rows cannot be split as requested."""


def question_groups(questions: Sequence[Question], image_groups: dict[str, int] | None = None) -> np.ndarray:
    """Return the group number (N,) of each row: that of its image in `image_groups`, else one group per written image path."""
    keys: list[int | str] = [(image_groups or {}).get(q.image, q.image) for q in questions]
    numbers: dict[int | str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _strata(questions: Sequence[Question]) -> np.ndarray:
    """Return the stratum number (N,) of each row, given by its answer and its kind of question."""
    return _numbered([f"{-1 if q.answer is None else q.answer:02d} {basic_kind(q)}" for q in questions])


def _numbered(values: np.ndarray | Sequence) -> np.ndarray:
    """Number equal values equally, 0, 1, ... in sorted order."""
    return np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1)


# %% folds
def assign_folds(
    questions: Sequence[Question], groups: np.ndarray, n_folds: int, seed: int, use_kfold: bool = True
) -> np.ndarray:
    """Assign each row to the fold in which it is validated.

    Groups are assigned one at a time to the fold that has the smallest share of their contents: of rows, of their answers, and of
    their answers within their kind of question (after the iterative stratification of Sechidis et al. 2011). Rare answers
    therefore need no special case.

    Args:
        questions: N rows.
        groups: (N,) rows of one group are never on both sides.
        n_folds: number of folds.
        seed: seed of the order among equal groups.
        use_kfold: if false, one fold of size N / n_folds is for validation and everything else for training only.

    Returns:
        (N,) int, 0 to n_folds - 1; without K-fold 0 for validation, else TRAINING_ONLY.

    Raises:
        FoldError: there are fewer groups than folds.
    """
    group = _numbered(groups)
    n_groups = int(group.max(initial=-1)) + 1
    if n_groups < n_folds:
        raise FoldError(
            f"{n_folds} folds need at least {n_folds} groups of different images; rows to validate with: "
            f"{len(questions):,}, in {counted(n_groups, 'group')}. Use more rows or a smaller n_folds."
        )
    fold_of_group = _spread_groups(_group_contents(questions, group), n_folds, seed)  # (G,)
    folds = fold_of_group[group]
    if use_kfold:
        return folds
    # a very large group may have swollen one fold: validate on the one closest to the asked size
    sizes = np.bincount(folds, minlength=n_folds)
    return np.where(folds == np.abs(sizes - len(folds) / n_folds).argmin(), 0, TRAINING_ONLY)


def folds_of_groups(groups: np.ndarray, assigned: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Extend the folds of some rows to all rows: each gets the fold of its group, or TRAINING_ONLY.

    So no model is trained on a row whose photograph is used to validate it.

    Args:
        groups: (N,) group of each row.
        assigned: (N,) booleans, M of them true: the rows that have a fold.
        folds: (M,) their folds, the same for all rows of a group.
    """
    fold_of_group = dict(zip(groups[assigned].tolist(), folds.tolist(), strict=True))
    return np.array([fold_of_group.get(group, TRAINING_ONLY) for group in groups.tolist()], dtype=np.int64)


def _group_contents(questions: Sequence[Question], group: np.ndarray) -> np.ndarray:
    """Compute each group's share (G, S) of all rows, of all rows with an answer, and of all rows of each stratum."""
    answers = _numbered([-1 if q.answer is None else q.answer for q in questions])
    columns = []
    for labels in (np.zeros_like(group), answers, _strata(questions)):
        counts = np.zeros((group.max() + 1, labels.max() + 1))
        np.add.at(counts, (group, labels), 1)
        columns.append(counts / counts.sum(0))
    return np.concatenate(columns, axis=1)


def _spread_groups(contents: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Assign groups to folds, (G,).

    Args:
        contents: (G, S) non-negative shares, the first column that of all rows.
    """
    shuffled = np.random.default_rng(seed).permutation(len(contents))
    # large groups first, then those with rare contents; the common rest evens out the differences
    order = shuffled[np.lexsort((-contents[shuffled].sum(1), -contents[shuffled, 0]))]
    held = np.zeros((n_folds, contents.shape[1]))
    folds = np.empty(len(contents), dtype=np.int64)
    for group in order:
        present = contents[group] > 0
        crowding = held[:, present].sum(1)  # (n_folds,)
        folds[group] = crowding.argmin()
        held[folds[group]] += contents[group]
    return folds


def large_group_warning(groups: np.ndarray, n_folds: int) -> str:
    """Make the warning that one group alone is larger than a fold; empty if none is."""
    largest, rows = int(np.bincount(_numbered(groups)).max(initial=0)), len(groups)
    if largest <= rows / n_folds:
        return ""
    return (
        f"One group of similar images holds {largest} of {rows} rows, more than one of {n_folds} folds ({rows / n_folds:.0f} "
        "rows): the folds differ in size, so compare their accuracies with care."
    )


# %% a sample that looks like the whole
def sample_rows(questions: Sequence[Question], groups: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Draw a sample with the same shares of answers and kinds as all rows.

    Rows are ordered by stratum, at random within it, and taken at equal distances from a random start (systematic sampling). If
    there are enough groups, each gives one row: different images teach more than the same one twice.

    Args:
        questions: N rows.
        groups: (N,) group of each row.
        size: size of the sample.
        seed: seed of the sample.

    Returns:
        (size,) ascending row numbers; all rows if there are no more.
    """
    if size >= len(questions):
        return np.arange(len(questions))
    random = np.random.default_rng(seed)
    rows = random.permutation(len(questions))
    firsts = rows[np.sort(np.unique(np.asarray(groups)[rows], return_index=True)[1])]
    rows = firsts if len(firsts) >= size else rows
    rows = rows[np.argsort(_strata(questions)[rows], kind="stable")]
    positions = ((np.arange(size) + random.random()) * len(rows) / size).astype(np.int64)
    return np.sort(rows[positions])
