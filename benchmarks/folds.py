"""Measures how similar folds are: ours and scikit-learn's StratifiedGroupKFold, with answer and kind of question as its label.

    python benchmarks/folds.py train.csv [more.csv ...] [--rows 2000]

For each table, 3 and 5 folds and ten seeds: how far the fold that is farthest off is from the whole, in points: rows of a fold
(of the rows a fold should have), share of an answer, of a kind of question, of an answer within a kind; mean over the seeds.
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mcvqa.data.folds import assign_folds, question_groups
from mcvqa.data.kinds import question_kind
from mcvqa.data.questions import Question, read_questions

SEEDS = range(10)


def labels_of(questions: Sequence[Question]) -> dict[str, np.ndarray]:
    """What should be spread evenly, (N,) numbers each."""
    answers = [str(q.answer) for q in questions]
    kinds = [question_kind(q) for q in questions]
    named = {"answer": answers, "kind": kinds, "answer in kind": [" ".join(pair) for pair in zip(answers, kinds, strict=True)]}
    return {name: np.unique(values, return_inverse=True)[1] for name, values in named.items()}


def scikit_folds(labels: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    folds = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
        folds[rows] = fold
    return folds


def deviations(folds: np.ndarray, labels: dict[str, np.ndarray], n_folds: int) -> list[float]:
    """Of the fold that is farthest off, in points."""
    sizes = np.bincount(folds, minlength=n_folds)
    found = [np.abs(sizes * n_folds / len(folds) - 1).max()]
    for values in labels.values():
        whole = np.bincount(values) / len(values)
        shares = [np.bincount(values[folds == fold], minlength=len(whole)) / sizes[fold] for fold in range(n_folds)]
        found.append(np.abs(np.array(shares) - whole).max())
    return [100 * float(value) for value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+", help="train.csv files")
    parser.add_argument("--rows", type=int, default=4000, help="at most so many rows of each, the first ones")
    options = parser.parse_args()
    print(f"{'':44} {'rows':>7} {'answer':>7} {'kind':>7} {'answer in kind':>15}")
    for table in options.tables:
        questions = read_questions(table).questions[: options.rows]
        groups, labels = question_groups(questions), labels_of(questions)
        for n_folds in (3, 5):
            ways = {
                "ours": [assign_folds(questions, groups, n_folds, seed) for seed in SEEDS],
                "StratifiedGroupKFold": [scikit_folds(labels["answer in kind"], groups, n_folds, seed) for seed in SEEDS],
            }
            for name, drawn in ways.items():
                off = np.mean([deviations(folds, labels, n_folds) for folds in drawn], axis=0)
                title = f"{table.parent.name}, {len(questions):,} rows, {groups.max() + 1:,} groups, {n_folds} folds"
                print(f"{title:44} {off[0]:7.2f} {off[1]:7.2f} {off[2]:7.2f} {off[3]:15.2f}  {name}", flush=True)


if __name__ == "__main__":
    main()
