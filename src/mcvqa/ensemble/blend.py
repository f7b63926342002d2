"""Ensemble: several models' scores -> one answer per question, combined in the way that can be defended.

The default averages calibrated log-probabilities with equal weights. Weights are learned too, but used only where they
have proven themselves on rows they were not fitted on: weights tuned on a few validation rows mostly fit their noise.
"""
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from mcvqa.base.files import from_spreadsheet_cell
from mcvqa.base.uncertainty import Accuracy, accuracy_of, paired_gain, spell_p_value
from mcvqa.config import McvqaError
from mcvqa.data.answers import LETTERS, AnswerConvention, find_convention, read_answer
from mcvqa.data.questions import Question
from mcvqa.data.table import csv_delimiter, csv_records, csv_text
from mcvqa.ensemble.calibrate import RULED_OUT, fit_temperature
from mcvqa.scoring.scores import Scores, log_softmax, plain_scores

BLEND_METHODS = ("vote", "weighted_vote", "mean", "geometric", "stacking")
NESTED_FOLDS = 5
EQUAL = 1e-9  # differences below are rounding: a tie
WEIGHT_SPREAD = 0.5  # standard deviation of the prior on stacking weights, around 1


# %% records
class BlendError(McvqaError, ValueError):
    """Members that cannot be combined; the message names the member and the rows."""


@dataclass(frozen=True)
class Member:
    """One voice of the ensemble: a run with its folds, or an imported prediction file.

    Attributes:
        oof: every training row scored by the fold model that has not seen it; None where there is no such thing.
        test: the test rows as scored by each of the run's fold models, at least one; they share the member's weight.
        note: what a reader should know about it.
    """

    name: str
    oof: Scores | None
    test: tuple[Scores, ...]
    note: str = ""


@dataclass(frozen=True)
class Blend:
    """The combined answers to N test rows with up to C choices, and why they were combined so.

    Attributes:
        ids: (N,) text. logprobs: (N, C), -inf where a row has no such choice. predictions: (N,) choice indices.
        method: one of BLEND_METHODS; reason: why this one, in a sentence for the report.
        weights, temperatures: by member; a weight of 1 is the weight of an ordinary member.
        oof_ids, oof_predictions: (R,) training rows that all members with out-of-fold scores share, and the answers of
            the chosen method to them, temperatures and weights fitted on the others of five parts each.
        table: accuracy on these rows of every method; alone: of each member; empty without such rows.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    predictions: np.ndarray
    method: str
    reason: str
    weights: dict[str, float]
    temperatures: dict[str, float]
    oof_ids: np.ndarray
    oof_predictions: np.ndarray
    table: dict[str, Accuracy] = field(default_factory=dict)
    alone: dict[str, Accuracy] = field(default_factory=dict)


@dataclass(frozen=True)
class _Opinions:
    """What V models (the fold models of M members) say about the same R rows.

    Attributes:
        logprobs: (V, R, C), finite; 0 where the row has no such choice. exists: (R, C).
        agreement: (V, R, C) share of the orders in which a model was asked that favour each choice.
        member: (V,) whose model it is. share: (V,) its part of the member's weight.
    """

    logprobs: np.ndarray
    exists: np.ndarray
    agreement: np.ndarray
    member: np.ndarray
    share: np.ndarray

    def rows(self, index: np.ndarray) -> "_Opinions":
        return _Opinions(self.logprobs[:, index], self.exists[index], self.agreement[:, index], self.member, self.share)

    def among_choices(self, values: np.ndarray) -> np.ndarray:
        """Log-softmax of (..., R, C) over the choices that exist."""
        return log_softmax(np.where(self.exists, values, -np.inf))


@dataclass(frozen=True)
class _Fit:
    """What is learned from rows with answers: (M,) temperatures, (M,) weights per method, the best member if known."""

    temperatures: np.ndarray
    weights: dict[str, np.ndarray]
    best: int | None


# %% the ensemble
def blend_members(
    members: Sequence[Member], answers: Mapping[str, int], method: str = "auto", *, seed: int = 42,
    groups: Mapping[str, int] | None = None,
) -> Blend:
    """Combine members into one answer per test row.

    Args:
        members: their test scores must hold the same rows; the first one's order is kept.
        answers: id of a training row -> index of its answer.
        method: one of BLEND_METHODS, or auto: the geometric mean of calibrated probabilities, but stacking where it is
            significantly better on rows its weights were not fitted on.
        groups: id of a training row -> image group, for the errors; None: each row is its own group.
    Raises:
        BlendError: rows are missing or twice, differ in their number of choices, or hold no numbers.
    """
    if not members:
        raise BlendError("There is nothing to combine: no member has been scored yet.")
    scored = [m for m in members if m.oof is not None]
    oof_ids = _common_rows(scored, answers)
    truth = np.array([answers[i] for i in oof_ids], dtype=int)
    oof = _opinions([(m.name, (m.oof,)) for m in scored if m.oof is not None], oof_ids) if len(oof_ids) else None
    nested = _nested_predictions(oof, truth, oof_ids, seed) if oof else {}
    clusters = None if groups is None else np.array([groups[i] for i in oof_ids], dtype=int)
    alone = dict(zip([m.name for m in scored], oof.among_choices(oof.logprobs).argmax(-1), strict=True)) if oof else {}
    if method == "auto":
        method, reason = _defended_method(nested, truth, len(scored), clusters)
    else:
        reason = f"The configuration asks for {method}."
    if method in ("weighted_vote", "stacking") and len(scored) < 2:
        reason += " Its weights are equal: fewer than two members have out-of-fold scores to learn them from."

    known = _fit(oof, truth) if oof else None
    fit = _for_all_members(members, known, method, answers)
    test = _opinions([(m.name, m.test) for m in members], members[0].test[0].ids)
    logprobs = _combined(method, test, fit)
    return Blend(
        ids=members[0].test[0].ids,
        logprobs=logprobs,
        predictions=_decided(logprobs, test, fit, members[0].test[0].ids),
        method=method,
        reason=" ".join([reason, *(m.note for m in members if m.note)]),
        weights={m.name: float(w) for m, w in zip(members, fit.weights[method], strict=True)},
        temperatures={m.name: float(t) for m, t in zip(members, fit.temperatures, strict=True)},
        oof_ids=oof_ids,
        oof_predictions=nested.get(method, np.empty(0, dtype=int)),
        table={name: accuracy_of(predicted, truth, clusters) for name, predicted in nested.items()},
        alone={name: accuracy_of(predicted, truth, clusters) for name, predicted in alone.items()},
    )


def _defended_method(
    nested: Mapping[str, np.ndarray], truth: np.ndarray, n_scored: int, groups: np.ndarray | None
) -> tuple[str, str]:
    if not nested:
        return "geometric", "Equal weights: no rows have both an answer and out-of-fold scores."
    if n_scored < 2:
        return "geometric", "Equal weights: one member has out-of-fold scores, so there is nothing to weigh."
    gain = paired_gain(nested["stacking"] == truth, nested["geometric"] == truth, groups)
    measured = f"learned weights change the accuracy on rows they were not fitted on by {gain} (n={gain.n:,}"
    if gain.is_better:
        return "stacking", f"Learned weights: {measured}, {spell_p_value(gain.p_value)})."
    return "geometric", f"Equal weights: {measured}, {spell_p_value(gain.p_value)}), no significant improvement."


# %% rows side by side
def _common_rows(members: Sequence[Member], answers: Mapping[str, int]) -> np.ndarray:
    """(R,) ids with a known answer that every one of `members` has scored out of fold, in the first one's order."""
    if not members:
        return np.empty(0, dtype=np.str_)
    shared = set(answers).intersection(*(m.oof.ids.tolist() for m in members if m.oof is not None))
    first = members[0].oof.ids.tolist() if members[0].oof is not None else []
    return np.array([i for i in first if i in shared and answers[i] >= 0], dtype=np.str_)


def _opinions(named: Sequence[tuple[str, tuple[Scores, ...]]], ids: np.ndarray) -> _Opinions:
    """The models of (name, scores per model) on the rows `ids`."""
    models = [(m, len(folds), _aligned(name, s, ids)) for m, (name, folds) in enumerate(named) for s in folds]
    width = max(scores.logprobs.shape[2] for _, _, scores in models)
    exists = np.arange(width) < models[0][2].n_choices[:, None]  # (R, C)
    logprobs, agreement = [], []
    for m, _, scores in models:
        name = named[m][0]
        if (differ := scores.n_choices != exists.sum(-1)).any():
            raise BlendError(f"{name} has other numbers of choices than {named[0][0]}: {_some_ids(ids[differ])}.")
        if (broken := ~np.isfinite(_first_asked(scores).max(-1))).any():
            raise BlendError(f"{name} has no usable log-probabilities (NaN or infinite): {_some_ids(ids[broken])}.")
        pad = ((0, 0), (0, width - scores.logprobs.shape[2]))
        logprobs.append(np.where(exists, np.maximum(np.pad(scores.mean(), pad), RULED_OUT), 0.0))
        agreement.append(np.pad(_order_agreement(scores), pad))
    return _Opinions(
        np.stack(logprobs), exists, np.stack(agreement),
        np.array([m for m, _, _ in models]), np.array([1 / k for _, k, _ in models]),
    )


def _aligned(name: str, scores: Scores, ids: np.ndarray) -> Scores:
    """The rows `ids` of `scores`, in that order; rows are matched by id, never by position."""
    place = {i: n for n, i in enumerate(scores.ids.tolist())}
    if len(place) < len(scores.ids):
        values, counts = np.unique(scores.ids, return_counts=True)
        raise BlendError(f"{name} has rows twice: {_some_ids(values[counts > 1])}.")
    missing = [i for i in ids.tolist() if i not in place]
    if missing:
        raise BlendError(f"{name} has no scores for {_some_ids(missing)}.")
    return scores.rows(np.array([place[i] for i in ids.tolist()], dtype=int))


def _first_asked(scores: Scores) -> np.ndarray:
    """(N, C) log-probabilities of each row in the first way in which it was asked."""
    asked = ~np.isnan(scores.logprobs).all(-1)  # (N, K)
    return scores.logprobs[np.arange(len(asked)), asked.argmax(1)]


def _order_agreement(scores: Scores) -> np.ndarray:
    """(N, C) share of the orders asked that favour each choice; an order that favours several is split among them."""
    ways = np.nan_to_num(scores.per_way(), nan=-np.inf)  # (N, K, C)
    best = ways.max(-1, keepdims=True)
    favoured = (ways >= best - EQUAL) & np.isfinite(best)
    shares = favoured / np.maximum(favoured.sum(-1, keepdims=True), 1)
    return shares.sum(1) / np.isfinite(best).sum(1)


def _some_ids(ids: Sequence[str] | np.ndarray) -> str:
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"{len(ids)} rows ({', '.join(map(str, ids[:10]))}{more})"


# %% methods
def _combined(method: str, opinions: _Opinions, fit: _Fit) -> np.ndarray:
    """(R, C) log-probabilities of the ensemble."""
    weights = (fit.weights[method][opinions.member] * opinions.share)[:, None, None]
    temperatures = fit.temperatures[opinions.member][:, None, None]
    calibrated = opinions.among_choices(opinions.logprobs / temperatures)  # (V, R, C)
    if method in ("geometric", "stacking"):
        finite = np.where(opinions.exists, calibrated, 0.0)
        return opinions.among_choices((weights * finite).sum(0) / len(fit.temperatures))
    shares = np.exp(calibrated)
    if method in ("vote", "weighted_vote"):
        favoured = opinions.exists & (calibrated >= calibrated.max(-1, keepdims=True) - EQUAL)
        shares = favoured / favoured.sum(-1, keepdims=True)  # an undecided model splits its vote
    total = (weights * shares).sum(0) / weights.sum()
    return opinions.among_choices(np.log(np.maximum(total, np.exp(RULED_OUT))))


def _decided(logprobs: np.ndarray, opinions: _Opinions, fit: _Fit, ids: np.ndarray) -> np.ndarray:
    """(R,) most probable choices. Ties: agreement across orders, then the best member, then a hash of the id."""
    candidates = _highest(logprobs, opinions.exists)
    candidates = _highest((opinions.agreement * opinions.share[:, None, None]).sum(0), candidates)
    if fit.best is not None:
        best = opinions.member == fit.best
        candidates = _highest(opinions.logprobs[best].mean(0), candidates)
    chosen = candidates.argmax(-1)
    for row in np.flatnonzero(candidates.sum(-1) > 1):  # never simply the first letter
        tied = np.flatnonzero(candidates[row])
        chosen[row] = tied[int(hashlib.sha256(str(ids[row]).encode()).hexdigest(), 16) % len(tied)]
    return chosen


def _highest(values: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(R, C) which candidates have the highest value of their row."""
    values = np.where(candidates, values, -np.inf)
    return candidates & (values >= values.max(-1, keepdims=True) - EQUAL)


# %% what is learned out of fold
def _fit(opinions: _Opinions, truth: np.ndarray) -> _Fit:
    """Temperatures and weights of M members, each with one model in `opinions`."""
    masked = np.where(opinions.exists, opinions.logprobs, -np.inf)  # (M, R, C)
    temperatures = np.array([fit_temperature(logprobs, truth) for logprobs in masked])
    right = (masked.argmax(-1) == truth).sum(-1)  # (M,)
    equal = np.ones(len(masked))
    weights = dict.fromkeys(BLEND_METHODS, equal)
    if len(masked) > 1 and len(truth):
        weights |= {
            "weighted_vote": vote_weights(right, len(truth), float(opinions.exists.sum(-1).mean())),
            "stacking": stacking_weights(masked / temperatures[:, None, None], truth),
        }
    return _Fit(temperatures, weights, int(right.argmax()))


def vote_weights(right: np.ndarray, n: int, n_choices: float) -> np.ndarray:
    """Best weights of independent voters: log-odds of being right over those of guessing (Nitzan and Paroush 1982).

    Args:
        right: (M,) right answers among `n`. n_choices: how many there are to guess from, on average.
    Returns:
        (M,) with mean 1; 0 for a member no better than guessing.
    """
    share = (right + 1) / (n + 2)
    odds = np.maximum(np.log(share * (n_choices - 1) / (1 - share)), 0.0)
    return odds / odds.mean() if odds.any() else np.ones(len(odds))


def stacking_weights(logprobs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One non-negative weight per member, shared by all choices: a conditional logit over members' log-probabilities.

    Stacking: Wolpert 1992, with Breiman's (1996) non-negative weights; the conditional logit (McFadden 1974) works for
    any number of choices. A prior around 1 keeps the weights equal where the rows do not say otherwise.

    Args:
        logprobs: (M, R, C) calibrated; -inf where a row has no such choice. truth: (R,) answers.
    Returns:
        (M,) weights; the ensemble's logits are their weighted sum over members, divided by M.
    """
    exists = np.isfinite(logprobs[0])
    inputs = np.where(exists, log_softmax(logprobs), 0.0) / len(logprobs)  # (M, R, C)
    rows = np.arange(len(truth))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = log_softmax(np.where(exists, np.tensordot(weights, inputs, 1), -np.inf))  # (R, C)
        surprise = np.exp(blended)
        surprise[rows, truth] -= 1
        slope = np.einsum("mrc,rc->m", inputs, surprise)
        away = (weights - 1) / WEIGHT_SPREAD
        return -blended[rows, truth].sum() + (away**2).sum() / 2, slope + away / WEIGHT_SPREAD

    bounds = [(0.0, None)] * len(inputs)
    return minimize(loss, np.ones(len(inputs)), jac=True, method="L-BFGS-B", bounds=bounds).x


def _nested_predictions(opinions: _Opinions, truth: np.ndarray, ids: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Method -> (R,) predictions, each row's by temperatures and weights that were fitted without it."""
    part = np.random.default_rng(seed).permutation(len(truth)) % NESTED_FOLDS
    predictions = {method: np.empty(len(truth), dtype=int) for method in BLEND_METHODS}
    for held_out in range(NESTED_FOLDS):
        inside, outside = np.flatnonzero(part == held_out), np.flatnonzero(part != held_out)
        if not len(inside):
            continue
        fit, unseen = _fit(opinions.rows(outside), truth[outside]), opinions.rows(inside)
        for method in BLEND_METHODS:
            predictions[method][inside] = _decided(_combined(method, unseen, fit), unseen, fit, ids[inside])
    return predictions


def _for_all_members(members: Sequence[Member], known: _Fit | None, method: str, answers: Mapping[str, int]) -> _Fit:
    """The fit widened to members without out-of-fold scores: weight 1. Temperatures use each member's own rows."""
    scored = np.array([m.oof is not None for m in members])
    weights, best = np.ones(len(members)), None
    if known:
        weights[scored] = known.weights[method]
        best = int(np.flatnonzero(scored)[known.best])
    temperatures = np.ones(len(members))
    for i, member in enumerate(members):
        if member.oof is not None:
            own = np.array([answers.get(row, -1) for row in member.oof.ids.tolist()], dtype=int)
            temperatures[i] = fit_temperature(member.oof.mean(), own)
    return _Fit(temperatures, {method: weights}, best)


# %% other people's predictions
LETTER_CONFIDENCE = 0.8  # probability given to a bare answer: about the accuracy of a model worth importing
ANSWER_NAMES = ("answer", "prediction", "predicted", "pred", "label", "response", "output", "text", "정답", "답")


def read_predictions(path: str | Path, questions: Sequence[Question], known: AnswerConvention | None = None) -> Member:
    """Import a prediction CSV: `id,answer` with letters or free text, or `id,a,b,c,d` with probabilities.

    Answers that are not understood count as undecided (all choices equal); the member's note says which.

    Args:
        questions: the test rows; the file must hold each of them once, in any order.
        known: how the competition writes answers; it decides what the file leaves open.
    Raises:
        BlendError, or DataError where the file is no table.
    """
    path = Path(path)
    text, _ = csv_text(path)
    header, *records = csv_records(path, text, csv_delimiter(text)) or [[]]
    by_id = {q.id: q for q in questions}
    # a friend may have made it of a table of ours, where what looks like a formula has a quote in front
    records = [[cell if cell in by_id else from_spreadsheet_cell(cell) for cell in row] for row in records]
    ids = _column_of_ids(path, header, records, by_id)
    found = Counter(row[ids] for row in records if len(row) > ids)
    if twice := [i for i, times in found.items() if times > 1 and i in by_id]:
        raise BlendError(f"{path} has rows twice: {_some_ids(twice)}.")
    if missing := [i for i in by_id if i not in found]:
        raise BlendError(f"{path} has no prediction for {_some_ids(missing)}.")
    cells = {row[ids]: row + [""] * (len(header) - len(row)) for row in records if len(row) > ids}
    rows, n_choices = [cells[q.id] for q in questions], np.array([len(q.choices) for q in questions])
    places, notes = _probability_columns(header, n_choices.max()), []
    if places and all(_as_number(row[place]) is not None for row in rows for place in places):
        probabilities = _given_probabilities(path, questions, [[row[place] for place in places] for row in rows])
    else:
        answer_at = _answer_column(path, header, ids)
        probabilities, undecided = _answered_probabilities(path, questions, [row[answer_at] for row in rows], known)
        if undecided:
            notes.append(f"{path.name}: no clear answer in {_some_ids(undecided)}, counted as undecided.")
    if unused := [i for i in found if i not in by_id]:
        notes.append(f"{path.name}: {_some_ids(unused)} are not in the test set and are not used.")
    logprobs = np.log(np.maximum(probabilities, np.exp(RULED_OUT)))
    scores = plain_scores(np.array([q.id for q in questions]), logprobs, n_choices, {"file": str(path)})
    return Member(path.stem, None, (scores,), " ".join(notes))


def _column_of_ids(path: Path, header: list[str], records: list[list[str]], by_id: Mapping[str, Question]) -> int:
    hits = [sum(len(row) > i and row[i] in by_id for row in records) for i in range(len(header))]
    if not any(hits):
        raise BlendError(f"{path} holds none of the test ids; its columns are {', '.join(header)}.")
    return int(np.argmax(hits))


def _probability_columns(header: list[str], width: int) -> list[int]:
    """Columns named a, b, c, ... (or prob_a, p_a), one for each of `width` letters; empty if there are not."""
    names = [name.strip().lower().removeprefix("prob_").removeprefix("p_") for name in header]
    return [names.index(letter) for letter in LETTERS[:width]] if set(LETTERS[:width]) <= set(names) else []


def _answer_column(path: Path, header: list[str], ids: int) -> int:
    others = [i for i in range(len(header)) if i != ids]
    named = [i for i in others if header[i].strip().lower() in ANSWER_NAMES] or others
    if len(named) != 1:
        raise BlendError(
            f"{path}: which column holds the answers? Name it 'answer', or give probabilities in columns a, b, c, ... "
            f"Its columns are {', '.join(header)}."
        )
    return named[0]


def _as_number(cell: str) -> float | None:
    try:
        return float(cell or 0)  # rows with fewer choices leave the last cells empty
    except ValueError:
        return None


def _given_probabilities(path: Path, questions: Sequence[Question], cells: list[list[str]]) -> np.ndarray:
    """(N, C) the probabilities in the file, scaled to sum to 1 over each row's choices."""
    values = np.array([[_as_number(cell) for cell in row] for row in cells], dtype=np.float64)
    values[np.arange(values.shape[1]) >= np.array([[len(q.choices)] for q in questions])] = 0.0
    total = values.sum(-1, keepdims=True)
    wrong = ~((values >= 0).all(-1) & (abs(total[:, 0] - 1) < 0.05))
    if wrong.any():
        ids = [q.id for q, bad in zip(questions, wrong, strict=True) if bad]
        raise BlendError(
            f"{path}: probabilities must be 0 or more and sum to 1 over a row's choices; "
            f"they do not in {_some_ids(ids)}."
        )
    return values / total


def _read_sentence(text: str, choices: tuple[str, ...]) -> int | None:
    from mcvqa.scoring.parse import parse_answer  # long rules, which letters and choices do not need

    return parse_answer(text, choices)


def _answered_probabilities(
    path: Path, questions: Sequence[Question], written: list[str], known: AnswerConvention | None
) -> tuple[np.ndarray, list[str]]:
    """(N, C) LETTER_CONFIDENCE for the choice that was answered, and the ids whose answer was not understood."""
    cells = [(cell, q.choices) for cell, q in zip(written, questions, strict=True) if cell.strip()]
    convention = find_convention(cells, known=known)
    n_choices = np.array([[len(q.choices)] for q in questions])
    probabilities = np.broadcast_to(1 / n_choices, (len(questions), n_choices.max())).copy()
    undecided = []
    for row, (cell, question) in enumerate(zip(written, questions, strict=True)):
        choice = read_answer(cell, question.choices, convention)
        choice = _read_sentence(cell, question.choices) if choice is None and cell.strip() else choice
        if choice is None:
            undecided.append(question.id)
        else:
            probabilities[row] = (1 - LETTER_CONFIDENCE) / (len(question.choices) - 1)
            probabilities[row, choice] = LETTER_CONFIDENCE
    if len(undecided) == len(questions):
        raise BlendError(
            f"{path}: no answer was understood, the first is {written[0]!r}. "
            "Letters, choice texts or sentences are read."
        )
    return probabilities, undecided
