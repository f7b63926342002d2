"""Text-only prior: what can be guessed without looking at the photograph.

A vision model's accuracy means little until it is read against this one. The prior is also the first valid submission.

Every (question, choice) pair gets a score, linear in sparse features of the texts; a softmax over the row's own choices
turns scores into probabilities (conditional logit, McFadden 1974), so rows may have any number of choices.
"""
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mcvqa.data.folds import assign_folds
from mcvqa.data.questions import Question
from mcvqa.uncertainty import Accuracy, accuracy_of

MIN_PRIOR_ROWS = 20  # answered rows; below this nothing can be learned from texts
PRIOR_FOLDS = 5
PRIOR_STRENGTH = 3.0  # inverse of the L2 penalty; best of 1, 3, 10 on the 2025 competition's data
HASHED_COLUMNS = 2**18  # per family of features; hashing needs no vocabulary, so nothing leaks from validation rows
NEGATION = re.compile(r"않|없|아닌|아니|제외|\bnot\b|\bno\b|n't\b|\bexcept\b|\bwithout\b", re.IGNORECASE)


@dataclass(frozen=True)
class Prior:
    """Attributes:
    oof_logprobs: (N, C) log-probabilities of the training rows, each from a model that never saw the row's group.
    test_logprobs: (M, C) of the test rows. In both -inf beyond a row's own choices.
    accuracy: of `oof_logprobs`; over no rows where nothing was learned.
    note: why nothing was learned, else empty.
    """

    oof_logprobs: np.ndarray
    test_logprobs: np.ndarray
    accuracy: Accuracy
    note: str = ""


# %% fit
def fit_prior(
    train: Sequence[Question], test: Sequence[Question], groups: np.ndarray | None = None, seed: int = 42
) -> Prior:
    """Out-of-fold predictions of the training rows, and predictions of the test rows by a model of all training rows.

    Args:
        groups: (N,) rows of one group (an image and its near-duplicates) share a fold; None: each row is on its own.
    """
    answers = np.array([-1 if q.answer is None else q.answer for q in train], dtype=np.int64)  # (N,)
    groups = np.arange(len(train)) if groups is None else np.asarray(groups)
    width = max((len(q.choices) for q in (*train, *test)), default=2)
    known = answers >= 0
    n_folds = min(PRIOR_FOLDS, len(np.unique(groups[known])))
    if known.sum() < MIN_PRIOR_ROWS or n_folds < 2:
        note = f"{known.sum()} answered rows are too few for a text-only prior: every choice is taken as equally likely."
        even = [np.log(_row_softmax(PairTable(rows), np.zeros(PairTable(rows).size))) for rows in (train, test)]
        return Prior(_spread(train, even[0], width), _spread(test, even[1], width), Accuracy(0, 0), note)

    pairs = PairTable([*train, *test])
    in_train = np.arange(len(train) + len(test)) < len(train)
    right = np.concatenate([answers, np.full(len(test), -1)])  # (N + M,)
    folds = np.full(len(right), -1)
    folds[: len(train)] = assign_folds(train, groups, min(PRIOR_FOLDS, len(np.unique(groups))), seed)
    logprobs = np.empty(pairs.size)
    for fold in range(-1, folds.max() + 1):  # -1: the test rows, from all training rows
        predicted = folds == fold
        learned = in_train & ~predicted & (right >= 0)
        logprobs[predicted[pairs.row]] = _fit_and_predict(pairs, right, learned, predicted)
    split = int(in_train[pairs.row].sum())
    oof, blind = _spread(train, logprobs[:split], width), _spread(test, logprobs[split:], width)
    return Prior(oof, blind, accuracy_of(oof.argmax(-1), answers))


class PairTable:
    """All (question, choice) pairs of N rows one below the other, P in all, with what does not depend on other rows.

    Attributes:
        row, slot: (P,) the row and the place of the choice in it.
        texts: P choices. negated: (P,) whether the question asks for what is not there.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        counts = np.array([len(q.choices) for q in questions], dtype=np.int64)
        self.questions = questions
        self.row = np.repeat(np.arange(len(counts)), counts)
        self.slot = np.concatenate([np.arange(n) for n in counts]) if len(counts) else counts
        self.starts = np.cumsum(counts) - counts  # (N,) first pair of each row
        self.counts = counts
        self.texts = [choice for q in questions for choice in q.choices]
        self.negated = np.array([bool(NEGATION.search(q.text)) for q in questions], dtype=bool)[self.row]

    @property
    def size(self) -> int:
        return len(self.row)


def _spread(questions: Sequence[Question], values: np.ndarray, width: int) -> np.ndarray:
    """(P,) values of pairs -> (N, width), -inf where a row has no such choice."""
    counts = np.array([len(q.choices) for q in questions], dtype=np.int64)
    table = np.full((len(counts), width), -np.inf)
    table[np.arange(width) < counts[:, None]] = values
    return table


# %% features
def _text_features(pairs: PairTable):  # noqa: ANN202 - a scipy sparse matrix (P, 4 * HASHED_COLUMNS)
    """Four families, each of unit length: characters of the choice; the same where the question is negated ("what is NOT
    there" turns the usual guess round); question word and choice; choice and its rivals."""
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
    """The stem of each question word (two characters pass over Korean endings) with the choice, its start and its end."""
    parts = {choice, choice[:2], choice[-1:]}
    return [f"{word[:2]}|{part}" for word in re.findall(r"\w+", question.lower()) for part in parts]


def _with_rivals(choices: tuple[str, ...], i: int) -> list[str]:
    rivals = [c for c in choices if c != choices[i]]
    return [f"{choices[i]}>{r}" for r in rivals] + [f"{choices[i][-2:]}>{r[-2:]}" for r in rivals]


def _dense_features(pairs: PairTable, learned: np.ndarray) -> np.ndarray:
    """(P, D) length, and how common the choice and its words are among the choices of the `learned` rows (N,).

    Wrong choices are mostly stock phrases; right ones describe one photograph and are longer and rarer.
    A learned row does not count itself, so that its figures mean the same as those of a row never seen.
    """
    own = learned[pairs.row].astype(int)  # (P,)
    seen = [text for text, mine in zip(pairs.texts, own, strict=True) if mine]
    words = [text.split() for text in pairs.texts]
    choice_counts, word_counts = Counter(seen), Counter(w for text in seen for w in text.split())
    columns = [
        np.log1p([len(text) for text in pairs.texts]),
        np.log1p([len(w) for w in words]),
        np.log1p([choice_counts[t] - mine for t, mine in zip(pairs.texts, own, strict=True)]) / 3,
        np.array([_mean_log(word_counts[w] - mine for w in ws) for ws, mine in zip(words, own, strict=True)]) / 3,
    ]
    means = [np.add.reduceat(c, pairs.starts) / pairs.counts for c in columns]
    relative = [c - mean[pairs.row] for c, mean in zip(columns, means, strict=True)]
    plain = np.stack([*columns, *relative, *(_rank_in_row(c, pairs) for c in columns)], axis=1) / 2
    places = np.eye(26)[np.minimum(pairs.slot, 25)]
    return np.concatenate([plain, plain * pairs.negated[:, None], places], axis=1)


def _mean_log(counts: Iterable[int]) -> float:
    logs = [np.log1p(max(count, 0)) for count in counts]
    return float(np.mean(logs)) if logs else 0.0


def _rank_in_row(values: np.ndarray, pairs: PairTable) -> np.ndarray:
    """(P,) share of the row's choices that are smaller; equal ones count half."""
    width = int(pairs.counts.max())
    table = np.full((len(pairs.counts), width), np.nan)
    table[pairs.row, pairs.slot] = values
    smaller = (table[:, :, None] > table[:, None, :]).sum(-1) + (table[:, :, None] == table[:, None, :]).sum(-1) / 2
    return (smaller / pairs.counts[:, None])[pairs.row, pairs.slot]


# %% conditional logit
