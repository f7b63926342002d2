"""Fits the text-only prior: the answers that can be guessed without looking at the photograph.

A vision model's accuracy means little until it is compared with this one. The prior is also the first valid submission.

Every (question, choice) pair gets a score, linear in sparse features of the texts; a softmax over the row's own choices turns
scores into probabilities (conditional logit, McFadden 1974), so rows may have any number of choices.
"""
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import Accuracy, accuracy_of
from mcvqa.data.folds import assign_folds
from mcvqa.data.questions import Question

MIN_PRIOR_ROWS = 20  # answered rows; below this nothing can be learned from texts
PRIOR_FOLDS = 5
PRIOR_STRENGTH = 3.0  # inverse of the L2 penalty; best of 1, 3, 10 on the 2025 competition's data
NEWTON_STEPS = 6  # the accuracy has settled by then
HASHED_COLUMNS = 2**18  # per family of features; hashing needs no vocabulary, so nothing leaks from validation rows
NEGATION = re.compile(r"않|없|아닌|아니|제외|\bnot\b|\bno\b|n't\b|\bexcept\b|\bwithout\b", re.IGNORECASE)


@dataclass(frozen=True)
class Prior:
    """Holds the text-only predictions of every row.

    Attributes:
        oof_logprobs: (N, C) log-probabilities of the training rows, each from a model that never saw the row's group.
        test_logprobs: (M, C) log-probabilities of the test rows. In both, -inf beyond a row's own choices.
        accuracy: accuracy of `oof_logprobs`; on no rows if nothing was fitted.
        note: why nothing was fitted, else empty.
    """

    oof_logprobs: np.ndarray
    test_logprobs: np.ndarray
    accuracy: Accuracy
    note: str = ""


# %% fit and predict
def fit_prior(
    train: Sequence[Question], test: Sequence[Question], groups: np.ndarray | None = None, seed: int = 42
) -> Prior:
    """Predict the training rows out of fold, and the test rows by a model of all training rows.

    Args:
        train, test: rows.
        groups: (N,) rows of one group (an image and its near-duplicates) share a fold; None: each row is its own group.
        seed: seed of the folds.
    """
    answers = np.array([-1 if q.answer is None else q.answer for q in train], dtype=np.int64)  # (N,)
    groups = np.arange(len(train)) if groups is None else np.asarray(groups)
    pairs = PairTable([*train, *test])
    n_known, n_folds = int((answers >= 0).sum()), min(PRIOR_FOLDS, len(np.unique(groups)))
    if n_known < MIN_PRIOR_ROWS or n_folds < 2:
        even = pairs.as_table(pairs.even())
        note = (
            f"{counted(n_known, 'answered row is', 'answered rows are')} too few for a text-only prior: all choices count as "
            "equally likely, and each row's answer is drawn by a hash of its id."
        )
        return Prior(even[: len(train)], even[len(train) :], Accuracy(0, 0), note)

    right = np.concatenate([answers, np.full(len(test), -1)])  # (N + M,)
    # a test row is in no fold (-1): it is predicted from all training rows
    folds = np.concatenate([assign_folds(train, groups, n_folds, seed), np.full(len(test), -1)])
    texts = _text_features(pairs)
    logprobs = np.empty(pairs.size)
    for fold in range(-1, n_folds):
        predicted = (folds == fold)[pairs.row]  # (P,)
        learned = (right >= 0) & (folds != fold)  # (N + M,)
        logprobs[predicted] = _predict_pairs(pairs, texts, right, learned)[predicted]
    table = pairs.as_table(logprobs)
    return Prior(table[: len(train)], table[len(train) :], accuracy_of(table[: len(train)].argmax(-1), answers, groups))


def _predict_pairs(pairs: "PairTable", texts: Any, right: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Predict the log-probabilities (P,) of all pairs by a model of the `learned` rows.

    Args:
        right, learned: (N,) bool.
    """
    from scipy.sparse import csr_matrix, hstack

    if not learned.any():  # all answered rows are in the one fold
        return pairs.even()
    features = hstack([texts, csr_matrix(_dense_features(pairs, learned))], format="csr")
    mine = learned[pairs.row]  # (P,)
    examples = features[mine]
    seen = np.unique(examples.indices)  # a column met in no example keeps the weight 0
    is_right = pairs.slot[mine] == right[pairs.row[mine]]
    weights = np.zeros(features.shape[1])
    weights[seen] = _fit_conditional_logit(examples[:, seen], pairs.counts[learned], is_right)
    return pairs.log_softmax(features @ weights)


def _fit_conditional_logit(features: Any, counts: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Fit weights (D,) that make the right choices likely, by Newton's method with conjugate gradients.

    Args:
        features: (P, D) sparse.
        counts: (N,) choices of each row.
        is_right: (P,) bool.
    """
    from scipy.optimize import minimize
    from scipy.sparse import diags

    # columns are scaled by their curvature at the start (a softmax' variance is near 1/5): few steps are then enough
    scale = 1 / np.sqrt(np.asarray(features.power(2).sum(0)).ravel() / 5 + 1 / PRIOR_STRENGTH)
    penalty = scale**2 / PRIOR_STRENGTH
    scaled = (features @ diags(scale)).tocsr()
    transposed = scaled.T.tocsr()

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logprobs = _log_softmax_by_row(scaled @ weights, counts)
        loss = weights @ (penalty * weights) / 2 - logprobs[is_right].sum()
        return loss, transposed @ (np.exp(logprobs) - is_right) + penalty * weights

    def curvature_along(weights: np.ndarray, direction: np.ndarray) -> np.ndarray:
        p = np.exp(_log_softmax_by_row(scaled @ weights, counts))
        change = p * (scaled @ direction)
        return transposed @ (change - p * _sum_by_row(change, counts)) + penalty * direction

    start = np.zeros(len(scale))
    optimum = minimize(
        loss_and_gradient, start, jac=True, hessp=curvature_along, method="Newton-CG", options={"maxiter": NEWTON_STEPS}
    )
    return optimum.x * scale


def _sum_by_row(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum over each row, and repeat the sum for each of its pairs, (P,).

    Args:
        values: (P,).
        counts: (N,) pairs of each row, none of them 0.
    """
    return np.repeat(np.add.reduceat(values, np.cumsum(counts) - counts), counts)


def _log_softmax_by_row(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute log-probabilities (P,) among the pairs of each row; see `_sum_by_row` for the arguments."""
    shifted = scores - np.repeat(np.maximum.reduceat(scores, np.cumsum(counts) - counts), counts)
    return shifted - np.log(_sum_by_row(np.exp(shifted), counts))


# %% rows -> pairs
class PairTable:
    """Lists all P (question, choice) pairs of N rows, row by row.

    Attributes:
        row, slot: (P,) the pair's row, and the position of its choice there.
        counts: (N,) choices of each row.
        texts: the P choices.
        negated: (P,) whether the question asks for what is not there.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = questions
        self.counts = np.array([len(q.choices) for q in questions], dtype=np.int64)
        self.row = np.repeat(np.arange(len(questions)), self.counts)
        self.slot = np.arange(self.size) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)
        self.texts = [choice for q in questions for choice in q.choices]
        self.negated = np.array([bool(NEGATION.search(q.text)) for q in questions], dtype=bool)[self.row]

    @property
    def size(self) -> int:
        return int(self.counts.sum())

    def log_softmax(self, scores: np.ndarray) -> np.ndarray:
        """Convert scores (P,) to log-probabilities (P,) among the choices of each row."""
        return _log_softmax_by_row(scores, self.counts) if self.size else scores

    def even(self) -> np.ndarray:
        """Return log-probabilities (P,) of nearly equally likely choices.

        One choice of each row, picked by a hash of its id, is ahead by a hair, so that the most probable choice is not always the
        first letter.
        """
        drawn = [int(hashlib.sha256(q.id.encode()).hexdigest(), 16) % len(q.choices) for q in self.questions]
        return self.log_softmax(1e-6 * (self.slot == np.array(drawn, dtype=np.int64)[self.row]))

    def as_table(self, values: np.ndarray, fill: float = -np.inf) -> np.ndarray:
        """Reshape (P,) to (N, C), with `fill` where a row has no such choice."""
        table = np.full((len(self.counts), self.counts.max(initial=2)), fill)
        table[self.row, self.slot] = values
        return table


# %% features
def _text_features(pairs: PairTable) -> Any:
    """Make sparse features (P, 4 * HASHED_COLUMNS): four families, each of unit length.

    They are the characters of the choice; the same again if the question is negated ("what is not there" reverses the usual
    guess); question word with choice; choice with each of its rivals.
    """
    from scipy.sparse import diags, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=HASHED_COLUMNS, analyzer=_unchanged, alternate_sign=False)
    characters = hashing.transform(map(_character_grams, pairs.texts))
    meetings = hashing.transform(_with_question(q.text, choice) for q in pairs.questions for choice in q.choices)
    rivals = hashing.transform(_with_rivals(q.choices, i) for q in pairs.questions for i in range(len(q.choices)))
    return hstack([characters, diags(pairs.negated.astype(float)) @ characters, meetings, rivals], format="csr")


def _unchanged(tokens: list[str]) -> list[str]:
    return tokens


def _character_grams(text: str, longest: int = 4) -> list[str]:
    words = [f" {word} " for word in text.lower().split()]
    return [w[i : i + n] for w in words for n in range(1, longest + 1) for i in range(len(w) - n + 1)]


def _with_question(question: str, choice: str) -> list[str]:
    """Combine the first two letters of each question word (dropping Korean endings) with the choice, its start and its end."""
    parts = {choice, choice[:2], choice[-1:]}
    return [f"{word[:2]}|{part}" for word in re.findall(r"\w+", question.lower()) for part in parts]


def _with_rivals(choices: tuple[str, ...], i: int) -> list[str]:
    rivals = [c for c in choices if c != choices[i]]
    return [f"{choices[i]}>{r}" for r in rivals] + [f"{choices[i][-2:]}>{r[-2:]}" for r in rivals]


def _dense_features(pairs: PairTable, learned: np.ndarray) -> np.ndarray:
    """Make dense features (P, D): lengths, and how common the choice and its words are among those of the `learned` rows (N,).

    Wrong choices are mostly stock phrases; right ones describe one photograph and are longer and rarer. A learned row does not
    count itself, so that its figures mean the same as those of an unseen row.
    """
    learned_pairs = learned[pairs.row].astype(int)  # (P,)
    seen = [text for text, mine in zip(pairs.texts, learned_pairs, strict=True) if mine]
    words = [text.split() for text in pairs.texts]
    choice_counts, word_counts = Counter(seen), Counter(w for text in seen for w in text.split())
    columns = [
        np.log1p([len(text) for text in pairs.texts]),
        np.log1p([len(w) for w in words]),
        np.log1p([choice_counts[t] - mine for t, mine in zip(pairs.texts, learned_pairs, strict=True)]) / 3,
        np.array([_mean_log(word_counts[w] - mine for w in ws) for ws, mine in zip(words, learned_pairs, strict=True)]) / 3,
    ]
    means = [np.nanmean(table, axis=1) for table in (pairs.as_table(c, np.nan) for c in columns)]  # (N,) each
    relative = [c - mean[pairs.row] for c, mean in zip(columns, means, strict=True)]
    plain = np.stack([*columns, *relative, *(_rank_in_row(c, pairs) for c in columns)], axis=1) / 2
    positions = np.eye(26)[np.minimum(pairs.slot, 25)]
    return np.concatenate([plain, plain * pairs.negated[:, None], positions], axis=1)


def _mean_log(counts: Iterable[int]) -> float:
    logs = [np.log1p(max(count, 0)) for count in counts]
    return float(np.mean(logs)) if logs else 0.0


def _rank_in_row(values: np.ndarray, pairs: PairTable) -> np.ndarray:
    """Compute the share (P,) of the row's choices that are smaller; equal ones count half."""
    table = pairs.as_table(values, np.nan)
    smaller = (table[:, :, None] > table[:, None, :]).sum(-1) + (table[:, :, None] == table[:, None, :]).sum(-1) / 2
    return (smaller / pairs.counts[:, None])[pairs.row, pairs.slot]
