"""Combines the scores of several models into one answer per question.

By default, calibrated log-probabilities are averaged with equal weights. Learned weights are used only if they are significantly
better on rows they were not fitted on: weights tuned on a few validation rows mostly fit their noise.
"""
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from mcvqa.base.files import from_spreadsheet_cell
from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import Accuracy, accuracy_of, paired_gain, spell_p_value
from mcvqa.config import McvqaError
from mcvqa.data.answers import LETTERS, AnswerConvention, find_convention, read_answer
from mcvqa.data.questions import Question
from mcvqa.data.table import column_of_ids, csv_delimiter, csv_records, csv_text
from mcvqa.ensemble.calibrate import RULED_OUT, fit_temperature
from mcvqa.scoring.scores import Scores, log_softmax, plain_scores

BLEND_METHODS = ("vote", "weighted_vote", "mean", "geometric", "stacking")
BLEND_NAMES = {
    "vote": "majority vote", "weighted_vote": "weighted vote", "mean": "mean", "geometric": "geometric mean",
    "stacking": "stacking",
}
NESTED_FOLDS = 5
EQUAL = 1e-9  # smaller differences are rounding errors: a tie
WEIGHT_SPREAD = 0.5  # standard deviation of the prior on stacking weights, around 1


# %% records
class BlendError(McvqaError, ValueError):
    """Raised if members cannot be combined; the message names the member and the rows."""


@dataclass(frozen=True)
class Member:
    """Represents a member of the ensemble: a run with its folds, or an imported prediction file.

    Attributes:
        name: unique among the members.
        oof: out-of-fold scores of the training rows; None: there are none.
        test: scores of the test rows by each fold's model, at least one; the folds share the member's weight.
        note: remark for the report.
        final: whether the last of `test` is by a model on all rows, in addition to the folds.
    """

    name: str
    oof: Scores | None
    test: tuple[Scores, ...]
    note: str = ""
    final: bool = False

    @property
    def models(self) -> str:
        """Its models, for display: 'demo (3 folds and final)'."""
        folds = counted(len(self.test) - self.final, "fold") + " and final" * self.final
        return f"{self.name} ({folds})" if len(self.test) > 1 else self.name


@dataclass(frozen=True)
class Blend:
    """Holds the combined answers to N test rows with up to C choices, and how they were combined.

    Attributes:
        ids: (N,) text.
        logprobs: (N, C); -inf: the row has no such choice.
        predictions: (N,) choice indices.
        method: one of BLEND_METHODS.
        reason: why this method was used, in a sentence for the report.
        weights: weight of each member; 1 is the weight of an ordinary member.
        temperatures: temperature of each member.
        oof_ids: (R,) training rows that all members with out-of-fold scores share.
        oof_predictions: (R,) answers of the method to these rows, with temperatures and weights from five-fold cross-fitting.
        table: accuracy of every method on these rows; empty without such rows.
        alone: accuracy of each member on these rows; empty without such rows.
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
class _StackedScores:
    """Stacks the scores of V models (the fold models of M members) for the same R rows.

    Attributes:
        logprobs: (V, R, C), finite; 0 if the row has no such choice.
        exists: (R, C) whether the row has the choice.
        agreement: (V, R, C) share of the model's views that favour each choice.
        member: (V,) index of the model's member.
        share: (V,) the model's share of the member's weight.
    """

    logprobs: np.ndarray
    exists: np.ndarray
    agreement: np.ndarray
    member: np.ndarray
    share: np.ndarray

    def rows(self, index: np.ndarray) -> "_StackedScores":
        return _StackedScores(self.logprobs[:, index], self.exists[index], self.agreement[:, index], self.member, self.share)

    def among_choices(self, values: np.ndarray) -> np.ndarray:
        """Compute the log-softmax of (..., R, C) over existing choices."""
        return log_softmax(np.where(self.exists, values, -np.inf))


@dataclass(frozen=True)
class _Fit:
    """Holds parameters fitted on answered rows: (M,) temperatures, (M,) weights per method, index of the best member or None."""

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
        members: at least one, with scores of the same test rows; the order of the first member is kept.
        answers: id of a training row -> index of its answer.
        method: one of BLEND_METHODS, or auto: the geometric mean of calibrated probabilities, or stacking if it is significantly
            better on rows its weights were not fitted on.
        seed: seed of the parts for cross-fitting.
        groups: id of a training row -> image group, for standard errors; None: each row is its own group.

    Returns:
        The combined answers.

    Raises:
        BlendError: rows are missing, duplicated, differ in their number of choices, or have NaN scores.
    """
    if not members:
        raise BlendError("There is nothing to combine: no member has been scored yet.")
    scored = [m for m in members if m.oof is not None]
    oof_ids = _common_rows(scored, answers)
    truth = np.array([answers[i] for i in oof_ids], dtype=int)
    oof = _stack_scores([(m.name, (m.oof,)) for m in scored if m.oof is not None], oof_ids) if len(oof_ids) else None
    nested = _nested_predictions(oof, truth, oof_ids, seed) if oof else {}
    clusters = None if groups is None else np.array([groups[i] for i in oof_ids], dtype=int)
    alone = dict(zip([m.name for m in scored], oof.among_choices(oof.logprobs).argmax(-1), strict=True)) if oof else {}
    if method == "auto":
        method, reason = _choose_method(nested, truth, len(scored), clusters)
    else:
        reason = f"The configuration asks for {method}."
    if method in ("weighted_vote", "stacking") and len(scored) < 2:
        reason += " Its weights are equal: fewer than two members have out-of-fold scores to learn them from."

    fit = _extend_fit(members, _fit(oof, truth) if oof else None, method, answers)
    test = _stack_scores([(m.name, m.test) for m in members], members[0].test[0].ids)
    logprobs = _combine(method, test, fit)
    return Blend(
        ids=members[0].test[0].ids,
        logprobs=logprobs,
        predictions=_break_ties(logprobs, test, fit, members[0].test[0].ids),
        method=method,
        reason=" ".join([reason, *(m.note for m in members if m.note)]),
        weights={m.name: float(w) for m, w in zip(members, fit.weights[method], strict=True)},
        temperatures={m.name: float(t) for m, t in zip(members, fit.temperatures, strict=True)},
        oof_ids=oof_ids,
        oof_predictions=nested.get(method, np.empty(0, dtype=int)),
        table={name: accuracy_of(predicted, truth, clusters) for name, predicted in nested.items()},
        alone={name: accuracy_of(predicted, truth, clusters) for name, predicted in alone.items()},
    )


def _choose_method(
    nested: Mapping[str, np.ndarray], truth: np.ndarray, n_scored: int, groups: np.ndarray | None
) -> tuple[str, str]:
    if not nested:
        return "geometric", "Equal weights: no rows have both an answer and out-of-fold scores."
    if n_scored < 2:
        return "geometric", "Equal weights: only one member has out-of-fold scores, so there is nothing to weigh."
    gain = paired_gain(nested["stacking"] == truth, nested["geometric"] == truth, groups)
    measured = f"learned weights change the accuracy on rows they were not fitted on by {gain} (n={gain.n:,}"
    if gain.is_better:
        return "stacking", f"Learned weights: {measured}, {spell_p_value(gain.p_value)})."
    return "geometric", f"Equal weights: {measured}, {spell_p_value(gain.p_value)}), no significant improvement."


# %% aligned rows
def _common_rows(members: Sequence[Member], answers: Mapping[str, int]) -> np.ndarray:
    """Return the ids (R,) with a known answer that all `members` have scored out of fold, in the order of the first one."""
    if not members:
        return np.empty(0, dtype=np.str_)
    shared = set(answers).intersection(*(m.oof.ids.tolist() for m in members if m.oof is not None))
    first = members[0].oof.ids.tolist() if members[0].oof is not None else []
    return np.array([i for i in first if i in shared and answers[i] >= 0], dtype=np.str_)


def _stack_scores(named: Sequence[tuple[str, tuple[Scores, ...]]], ids: np.ndarray) -> _StackedScores:
    """Stack the scores of the rows `ids` by all models of (name, scores per model)."""
    models = [(m, len(folds), _aligned(name, s, ids)) for m, (name, folds) in enumerate(named) for s in folds]
    width = max(scores.logprobs.shape[2] for _, _, scores in models)
    exists = np.arange(width) < models[0][2].n_choices[:, None]  # (R, C)
    logprobs, agreement = [], []
    for m, _, scores in models:
        name = named[m][0]
        if (differs := scores.n_choices != exists.sum(-1)).any():
            raise BlendError(f"{name} has a different number of choices than {named[0][0]}: {_some_ids(ids[differs])}.")
        if (broken := ~np.isfinite(_first_view(scores).max(-1))).any():
            raise BlendError(f"{name} has no usable log-probabilities (NaN or infinite): {_some_ids(ids[broken])}.")
        pad = ((0, 0), (0, width - scores.logprobs.shape[2]))
        logprobs.append(np.where(exists, np.maximum(np.pad(scores.mean(), pad), RULED_OUT), 0.0))
        agreement.append(np.pad(_view_agreement(scores), pad))
    return _StackedScores(
        np.stack(logprobs), exists, np.stack(agreement),
        np.array([m for m, _, _ in models]), np.array([1 / k for _, k, _ in models]),
    )


def _aligned(name: str, scores: Scores, ids: np.ndarray) -> Scores:
    """Select the rows `ids` of `scores`, in that order; the error names rows that are missing or do not match."""
    known = {*scores.ids.tolist()}
    if len(known) < len(scores.ids):
        values, counts = np.unique(scores.ids, return_counts=True)
        raise BlendError(f"{name} has duplicate rows: {_some_ids(values[counts > 1])}.")
    missing = [i for i in ids.tolist() if i not in known]
    if missing:
        raise BlendError(f"{name} has no scores for {_some_ids(missing)}.")
    return scores.of_ids(ids)


def _first_view(scores: Scores) -> np.ndarray:
    """Return the log-probabilities (N, C) of each row in its first view."""
    has_view = ~np.isnan(scores.logprobs).all(-1)  # (N, K)
    return scores.logprobs[np.arange(len(has_view)), has_view.argmax(1)]


def _view_agreement(scores: Scores) -> np.ndarray:
    """Compute the share (N, C) of each row's views that favour each choice; a tied view is split among its choices."""
    views = np.nan_to_num(scores.per_view(), nan=-np.inf)  # (N, K, C)
    best = views.max(-1, keepdims=True)
    favoured = (views >= best - EQUAL) & np.isfinite(best)
    shares = favoured / np.maximum(favoured.sum(-1, keepdims=True), 1)
    return shares.sum(1) / np.isfinite(best).sum(1)


def _some_ids(ids: Sequence[str] | np.ndarray) -> str:
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"{counted(len(ids), 'row')} ({', '.join(map(str, ids[:10]))}{more})"


# %% methods
def _combine(method: str, stacked: _StackedScores, fit: _Fit) -> np.ndarray:
    """Combine the log-probabilities to (R, C)."""
    weights = (fit.weights[method][stacked.member] * stacked.share)[:, None, None]
    temperatures = fit.temperatures[stacked.member][:, None, None]
    calibrated = stacked.among_choices(stacked.logprobs / temperatures)  # (V, R, C)
    if method in ("geometric", "stacking"):
        finite = np.where(stacked.exists, calibrated, 0.0)
        return stacked.among_choices((weights * finite).sum(0) / len(fit.temperatures))
    shares = np.exp(calibrated)
    if method in ("vote", "weighted_vote"):
        favoured = stacked.exists & (calibrated >= calibrated.max(-1, keepdims=True) - EQUAL)
        shares = favoured / favoured.sum(-1, keepdims=True)  # an undecided model splits its vote
    total = (weights * shares).sum(0) / weights.sum()
    return stacked.among_choices(np.log(np.maximum(total, np.exp(RULED_OUT))))


def _break_ties(logprobs: np.ndarray, stacked: _StackedScores, fit: _Fit, ids: np.ndarray) -> np.ndarray:
    """Choose the most probable choices (R,); ties go by agreement across views, then the best member, then a hash of the id."""
    candidates = _highest(logprobs, stacked.exists)
    candidates = _highest((stacked.agreement * stacked.share[:, None, None]).sum(0), candidates)
    if fit.best is not None:
        best = stacked.member == fit.best
        candidates = _highest(stacked.logprobs[best].mean(0), candidates)
    return untied(candidates, ids)


def untied(candidates: np.ndarray, ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Choose one of the candidates of each row, by a hash of its id if there are several: never just the first letter.

    Args:
        candidates: (R, C) booleans.
        ids: (R,) ids.

    Returns:
        (R,) choice indices.
    """
    chosen = candidates.argmax(-1)
    for row in np.flatnonzero(candidates.sum(-1) > 1).tolist():
        tied = np.flatnonzero(candidates[row])
        chosen[row] = tied[int(hashlib.sha256(str(ids[row]).encode()).hexdigest(), 16) % len(tied)]
    return chosen


def _highest(values: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Select the candidates (R, C) with the highest value of their row."""
    values = np.where(candidates, values, -np.inf)
    return candidates & (values >= values.max(-1, keepdims=True) - EQUAL)


# %% fitting on out-of-fold rows
def _fit(stacked: _StackedScores, truth: np.ndarray) -> _Fit:
    """Fit temperatures and weights of M members, each with one model in `stacked`."""
    masked = np.where(stacked.exists, stacked.logprobs, -np.inf)  # (M, R, C)
    temperatures = np.array([fit_temperature(logprobs, truth) for logprobs in masked])
    right = (masked.argmax(-1) == truth).sum(-1)  # (M,)
    equal = np.ones(len(masked))
    weights = dict.fromkeys(BLEND_METHODS, equal)
    if len(masked) > 1 and len(truth):
        weights |= {
            "weighted_vote": vote_weights(right, len(truth), float(stacked.exists.sum(-1).mean())),
            "stacking": stacking_weights(masked / temperatures[:, None, None], truth),
        }
    return _Fit(temperatures, weights, int(right.argmax()))


def vote_weights(right: np.ndarray, n: int, n_choices: float) -> np.ndarray:
    """Compute optimal weights of independent voters: log-odds of being right minus those of guessing (Nitzan and Paroush 1982).

    Args:
        right: (M,) number of right answers among `n`.
        n: number of rows.
        n_choices: mean number of choices.

    Returns:
        (M,) with mean 1; 0 for a member no better than guessing.
    """
    share = (right + 1) / (n + 2)
    odds = np.maximum(np.log(share * (n_choices - 1) / (1 - share)), 0.0)
    return odds / odds.mean() if odds.any() else np.ones(len(odds))


def stacking_weights(logprobs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fit one non-negative weight per member: a conditional logit over the members' log-probabilities.

    Stacking (Wolpert 1992) with non-negative weights (Breiman 1996); the conditional logit (McFadden 1974) handles any
    number of choices. A prior around 1 keeps the weights equal unless the data disagree.

    Args:
        logprobs: (M, R, C) calibrated; -inf: the row has no such choice.
        truth: (R,) answers.

    Returns:
        (M,) weights; the ensemble's logits are the weighted sum over members, divided by M.
    """
    exists = np.isfinite(logprobs[0])
    inputs = np.where(exists, log_softmax(logprobs), 0.0) / len(logprobs)  # (M, R, C)
    rows = np.arange(len(truth))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = log_softmax(np.where(exists, np.tensordot(weights, inputs, 1), -np.inf))  # (R, C)
        residual = np.exp(blended)
        residual[rows, truth] -= 1
        gradient = np.einsum("mrc,rc->m", inputs, residual)
        deviation = (weights - 1) / WEIGHT_SPREAD
        return -blended[rows, truth].sum() + (deviation**2).sum() / 2, gradient + deviation / WEIGHT_SPREAD

    bounds = [(0.0, None)] * len(inputs)
    return minimize(loss, np.ones(len(inputs)), jac=True, method="L-BFGS-B", bounds=bounds).x


def _nested_predictions(stacked: _StackedScores, truth: np.ndarray, ids: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Predict (R,) by each method with cross-fitting: temperatures and weights are fitted without the row."""
    part = np.random.default_rng(seed).permutation(len(truth)) % NESTED_FOLDS
    predictions = {method: np.empty(len(truth), dtype=int) for method in BLEND_METHODS}
    for held_out in range(NESTED_FOLDS):
        inside, outside = np.flatnonzero(part == held_out), np.flatnonzero(part != held_out)
        if not len(inside):
            continue
        fit, held_rows = _fit(stacked.rows(outside), truth[outside]), stacked.rows(inside)
        for method in BLEND_METHODS:
            predictions[method][inside] = _break_ties(_combine(method, held_rows, fit), held_rows, fit, ids[inside])
    return predictions


def _extend_fit(members: Sequence[Member], fit: _Fit | None, method: str, answers: Mapping[str, int]) -> _Fit:
    """Extend a fit to members without out-of-fold scores (weight 1); temperatures are fitted on all rows of a member."""
    scored = np.array([m.oof is not None for m in members])
    weights, best = np.ones(len(members)), None
    if fit:
        weights[scored] = fit.weights[method]
        best = int(np.flatnonzero(scored)[fit.best])
    temperatures = np.ones(len(members))
    for i, member in enumerate(members):
        if member.oof is not None:
            temperatures[i] = temperature_of(member.oof, answers)
    return _Fit(temperatures, {method: weights}, best)


def temperature_of(oof: Scores, answers: Mapping[str, int]) -> float:
    """Fit the temperature of a single member on all its out-of-fold rows.

    Args:
        oof: its out-of-fold scores.
        answers: id -> choice index of each labelled row.
    """
    return fit_temperature(oof.mean(), np.array([answers.get(row, -1) for row in oof.ids.tolist()], dtype=int))


# %% imported predictions
LETTER_CONFIDENCE = 0.8  # probability of a bare answer, about the accuracy of a model worth importing
ANSWER_NAMES = ("answer", "prediction", "predicted", "pred", "label", "response", "output", "text", "정답", "답")


def read_predictions(path: str | Path, questions: Sequence[Question], known: AnswerConvention | None = None) -> Member:
    """Import a prediction CSV: `id,answer` with letters or free text, or `id,a,b,c,d` with probabilities.

    Answers that cannot be parsed count as undecided (all choices equal); the member's note lists them.

    Args:
        path: the file.
        questions: the test rows; the file must contain each of them once, in any order.
        known: how the competition writes answers, used where the file is ambiguous.

    Returns:
        A member without out-of-fold scores.

    Raises:
        BlendError: rows are missing or duplicated, or no answer can be parsed.
        DataError: the file is not a table.
    """
    path = Path(path)
    text, _ = csv_text(path)
    header, *records = csv_records(path, text, csv_delimiter(text)) or [[]]
    by_id = {q.id: q for q in questions}
    # our own tables have a leading quote before what looks like a formula
    records = [[cell if cell in by_id else from_spreadsheet_cell(cell) for cell in row] for row in records]
    id_column = column_of_ids(header, records, by_id)
    if id_column is None:
        raise BlendError(f"{path} contains none of the test ids; its columns are {', '.join(header)}.")
    counts = Counter(row[id_column] for row in records if len(row) > id_column)
    if duplicates := [i for i, count in counts.items() if count > 1 and i in by_id]:
        raise BlendError(f"{path} has duplicate rows: {_some_ids(duplicates)}.")
    if missing := [i for i in by_id if i not in counts]:
        raise BlendError(f"{path} has no prediction for {_some_ids(missing)}.")
    cells = {row[id_column]: row + [""] * (len(header) - len(row)) for row in records if len(row) > id_column}
    rows, n_choices = [cells[q.id] for q in questions], np.array([len(q.choices) for q in questions])
    columns, notes = _probability_columns(header, n_choices.max()), []
    if columns and all(_as_number(row[column]) is not None for row in rows for column in columns):
        probabilities = _given_probabilities(path, questions, [[row[column] for column in columns] for row in rows])
    else:
        answer_column = _answer_column(path, header, id_column)
        probabilities, undecided = _answered_probabilities(path, questions, [row[answer_column] for row in rows], known)
        if undecided:
            notes.append(f"{path.name}: no clear answer in {_some_ids(undecided)}, counted as undecided.")
    if unused := [i for i in counts if i not in by_id]:
        notes.append(f"{path.name}: {_some_ids(unused)} are not in the test set and are not used.")
    logprobs = np.log(np.maximum(probabilities, np.exp(RULED_OUT)))
    scores = plain_scores(np.array([q.id for q in questions]), logprobs, n_choices, {"file": str(path)})
    return Member(path.stem, None, (scores,), " ".join(notes))


def _probability_columns(header: list[str], width: int) -> list[int]:
    """Find columns named a, b, c, ... (or prob_a, p_a) for each of `width` letters; empty unless all of them exist."""
    names = [name.strip().lower().removeprefix("prob_").removeprefix("p_") for name in header]
    return [names.index(letter) for letter in LETTERS[:width]] if set(LETTERS[:width]) <= set(names) else []


def _answer_column(path: Path, header: list[str], id_column: int) -> int:
    others = [i for i in range(len(header)) if i != id_column]
    named = [i for i in others if header[i].strip().lower() in ANSWER_NAMES] or others
    if len(named) != 1:
        raise BlendError(
            f"{path}: it is not clear which column holds the answers. Name it 'answer', or give probabilities in columns a, b, "
            f"c, ... Its columns are {', '.join(header)}."
        )
    return named[0]


def _as_number(cell: str) -> float | None:
    try:
        return float(cell or 0)  # the last cells are empty for rows with fewer choices
    except ValueError:
        return None


def _given_probabilities(path: Path, questions: Sequence[Question], cells: list[list[str]]) -> np.ndarray:
    """Read the probabilities (N, C) from the file, normalised over each row's choices."""
    values = np.array([[_as_number(cell) for cell in row] for row in cells], dtype=np.float64)
    values[np.arange(values.shape[1]) >= np.array([[len(q.choices)] for q in questions])] = 0.0
    total = values.sum(-1, keepdims=True)
    wrong = ~((values >= 0).all(-1) & (abs(total[:, 0] - 1) < 0.05))
    if wrong.any():
        ids = [q.id for q, bad in zip(questions, wrong, strict=True) if bad]
        raise BlendError(
            f"{path}: probabilities must be 0 or more and sum to 1 over a row's choices; "
            f"they are not in {_some_ids(ids)}."
        )
    return values / total


def _read_sentence(text: str, choices: tuple[str, ...]) -> int | None:
    from mcvqa.scoring.parse import parse_answer  # long rules, not needed for letters and choices

    return parse_answer(text, choices)


def _answered_probabilities(
    path: Path, questions: Sequence[Question], answers: list[str], known: AnswerConvention | None
) -> tuple[np.ndarray, list[str]]:
    """Give the written answers LETTER_CONFIDENCE, (N, C); also return the ids whose answer cannot be parsed."""
    cells = [(cell, q.choices) for cell, q in zip(answers, questions, strict=True) if cell.strip()]
    convention = find_convention(cells, known=known)
    n_choices = np.array([[len(q.choices)] for q in questions])
    probabilities = np.broadcast_to(1 / n_choices, (len(questions), n_choices.max())).copy()
    undecided = []
    for row, (cell, question) in enumerate(zip(answers, questions, strict=True)):
        choice = read_answer(cell, question.choices, convention)
        choice = _read_sentence(cell, question.choices) if choice is None and cell.strip() else choice
        if choice is None:
            undecided.append(question.id)
        else:
            probabilities[row] = (1 - LETTER_CONFIDENCE) / (len(question.choices) - 1)
            probabilities[row, choice] = LETTER_CONFIDENCE
    if len(undecided) == len(questions):
        raise BlendError(
            f"{path}: no answer could be parsed, the first is {answers[0]!r}. "
            "Expected letters, choice texts or sentences."
        )
    return probabilities, undecided
