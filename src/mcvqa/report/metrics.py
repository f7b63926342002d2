"""Measures a model on its out-of-fold rows, with error bars."""
import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import Accuracy, Gain, accuracy_of_right, paired_gain, selection_optimism, spell_error, unpack_right
from mcvqa.data.kinds import KINDS, question_kind
from mcvqa.data.questions import Question
from mcvqa.scoring.scores import Scores, log_softmax


# %% records
@dataclass(frozen=True)
class GroupAccuracy:
    """Holds the accuracy on a subset of the rows, with that of the text-only prior (blind) and of guessing (chance)."""

    name: str
    accuracy: Accuracy
    blind: Accuracy | None
    chance: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Describes rows with a confidence in (low, high]: their mean confidence and accuracy."""

    low: float
    high: float
    confidence: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Reliability:
    """Describes the calibration of probabilities.

    Attributes:
        ece: expected calibration error, 0..1 (Guo et al. 2017, "On Calibration of Modern Neural Networks").
        brier: mean squared error of the probabilities, summed over the choices, 0..2 (Brier 1950).
        nll: mean negative log-probability of the answer, nats.
        bins: the non-empty bins.
    """

    ece: float
    brier: float
    nll: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class LetterUse:
    """Holds the shares of the letters a, b, ... among predictions and answers.

    A letter is the slot in which a choice was shown.

    Attributes:
        n: number of rows and views.
        predicted, truth: share of each letter.
        distance: total variation distance between the two, 0 (equal shares) to 1.
    """

    n: int
    predicted: tuple[float, ...]
    truth: tuple[float, ...]
    distance: float


@dataclass(frozen=True)
class LetterBias:
    """Describes whether the model prefers some letters.

    Attributes:
        overall: all views together.
        per_order: each option order on its own.
        p_value: probability of such a distance without a preference. A model without one confuses x with y as often as y with x,
            so the null distribution comes from swapping prediction and answer of random image groups.
    """

    overall: LetterUse
    per_order: tuple[LetterUse, ...]
    p_value: float


@dataclass(frozen=True)
class WrongAnswer:
    """Describes a row that was answered wrongly, with the probability of each choice."""

    id: str
    image: str
    kind: str
    question: str
    choices: tuple[str, ...]
    predicted: int
    answer: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class LeaderboardEstimate:
    """Holds the expected accuracy on `n` test rows, corrected for the optimism of a chosen epoch.

    Its error includes the sampling of the test rows and of the measured rows.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Selection:
    """Records that the best epoch of each fold was chosen on its own validation rows.

    Attributes:
        epochs: the largest number of epochs that a fold chose from.
        optimism: how much the accuracy is therefore too high, as a share of all rows.
    """

    epochs: int
    optimism: float


@dataclass(frozen=True)
class Metrics:
    """Holds all figures of the report, measured on out-of-fold rows with a known answer.

    Attributes:
        overall: accuracy on all rows.
        by_fold, by_kind, by_choices: accuracy by fold, kind of question and number of choices.
        over_blind: gain over the text-only prior; None: no prior.
        circular: share of rows right in every option order, of those with at least two (CircularEval of MMBench,
            Liu et al. 2023); None: there are none.
        letters: preference for letters.
        temperature: temperature that calibrates the probabilities.
        before, after: reliability of the probabilities without and with the temperature.
        confusion: confusion[true][predicted] counts, by the letters of the original order.
        gains: name of a technique -> gain on the same rows.
        errors: wrong answers, most confident first.
        leaderboard: estimate for the test rows; None: there are none.
        selection: optimism of choosing the best epoch; None: nothing was chosen, or the log does not say.
        by_source: accuracy by source file; empty if there is only one.
        own: name of a user's own metric -> its value and standard error.
    """

    overall: GroupAccuracy
    by_fold: tuple[GroupAccuracy, ...]
    by_kind: tuple[GroupAccuracy, ...]
    by_choices: tuple[GroupAccuracy, ...]
    over_blind: Gain | None
    circular: Accuracy | None
    letters: LetterBias
    temperature: float
    before: Reliability
    after: Reliability
    confusion: tuple[tuple[int, ...], ...]
    gains: dict[str, Gain]
    errors: tuple[WrongAnswer, ...]
    leaderboard: LeaderboardEstimate | None
    selection: Selection | None = None
    by_source: tuple[GroupAccuracy, ...] = ()
    own: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Convert to data that JSON can hold.

        Returns:
            Lists, dicts, strings and numbers; NaN becomes None.
        """
        return {f.name: json_value(getattr(self, f.name)) for f in dataclasses.fields(self)}


def json_value(value: Any) -> Any:
    """Convert a value to JSON data; an Accuracy includes its value, error and interval, or why they are not measured."""
    if isinstance(value, Accuracy):
        low, high = value.interval
        figures: dict[str, Any] = {"value": value.value, "standard_error": value.standard_error, "low": low, "high": high}
        if value.not_measured:
            figures = {**dict.fromkeys(figures), "not_measured": value.not_measured}
        clusters = {"design_effect": value.design_effect, "groups": value.groups}
        return json_value(figures | {"right": value.right, "n": value.n} | clusters)
    if dataclasses.is_dataclass(value):
        return {f.name: json_value(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): json_value(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [json_value(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def own_figures(metrics: Metrics) -> dict[str, str]:
    """Spell the user's metrics, 'not measured' if the accuracy is not."""
    unseen = not metrics.overall.accuracy.not_measured
    shown = {name: spell_error(*figure).removesuffix(" ± nan") for name, figure in metrics.own.items()}
    return shown if unseen else dict.fromkeys(shown, "not measured")


# %% measuring
def measure(
    questions: Sequence[Question],
    scores: Scores,
    folds: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    prior: np.ndarray | None = None,
    temperature: float = 1.0,
    variants: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    epochs: Mapping[int, "FoldEpochs"] | None = None,
    test_size: int = 0,
    max_errors: int = 24,
    not_measured: Mapping[int, str] | None = None,
    own: Mapping[str, tuple[float, float]] | None = None,
) -> Metrics:
    """Measure a model on the rows it was not trained on.

    Args:
        questions: N questions in the order of `scores`; those without a known answer are ignored.
        scores: out-of-fold scores, each row by the model of its own fold.
        folds: (N,) fold of each row.
        groups: (N,) image group of each row, by which errors are clustered; None: each row is its own group.
        prior: (N, C) out-of-fold log-probabilities of the text-only prior.
        temperature: fitted on these rows; probabilities are softmax(log-probabilities / temperature).
        variants: technique -> (after, before), each (N,) booleans: right with and without it.
        epochs: fold -> its epochs, if the best one is scored; the rows of a fold are in the order of `questions`.
        test_size: number of test rows; 0: no leaderboard estimate.
        max_errors: the most wrong answers to list.
        not_measured: fold -> why its model may have been trained on its rows.
        own: results of the user's metrics.

    Returns:
        All figures of the report.

    Raises:
        ValueError: the arguments are about different rows, no answer is known, or scores are NaN.
    """
    known = _measurable_rows(questions, scores, folds)
    questions, scores, folds = [questions[i] for i in known], scores.rows(known), np.asarray(folds)[known]
    groups = np.arange(len(known)) if groups is None else np.asarray(groups)[known]
    answers = np.array([q.answer for q in questions], dtype=int)
    logprobs = scores.mean()  # (N, C)
    right = logprobs.argmax(-1) == answers
    blind_right = None if prior is None else prior[known].argmax(-1) == answers
    n_choices = np.array([len(q.choices) for q in questions])
    kinds, sources = np.array([question_kind(q) for q in questions]), np.array([q.source for q in questions])
    calibrated = np.exp(log_softmax(logprobs / temperature))

    def one_group(name: str, rows: np.ndarray) -> GroupAccuracy:
        reason = next((text for fold, text in (not_measured or {}).items() if (folds[rows] == fold).any()), "")
        return group_accuracy(name, rows, right, blind_right, n_choices, groups, reason)

    def accuracies(labels: np.ndarray, names: Sequence[Any], title: str = "{}") -> tuple[GroupAccuracy, ...]:
        members = ((title.format(name), labels == name) for name in names)
        return tuple(one_group(name, rows) for name, rows in members if rows.any())

    def gain(after: np.ndarray, before: np.ndarray) -> Gain:
        return paired_gain(after, before, groups)

    overall = one_group("all", np.ones(len(known), bool))
    unseen = not overall.accuracy.not_measured
    selection = selection_of(epochs or {}, folds, groups) if unseen else None
    return Metrics(
        overall=overall,
        by_fold=accuracies(folds, sorted(set(folds.tolist())), "fold {}"),
        by_kind=accuracies(kinds, KINDS),
        by_choices=accuracies(n_choices, sorted(set(n_choices.tolist())), "{} choices"),
        over_blind=None if blind_right is None else gain(right, blind_right),
        circular=circular_accuracy(scores, answers, groups),
        letters=letter_bias(scores, answers, groups),
        temperature=float(temperature),
        before=reliability(np.exp(logprobs), answers, groups),
        after=reliability(calibrated, answers, groups),
        confusion=confusion_counts(logprobs.argmax(-1), answers, int(n_choices.max())),
        gains={name: gain(after[known], before[known]) for name, (after, before) in (variants or {}).items()},
        errors=worst_errors(questions, kinds, calibrated, max_errors),
        leaderboard=leaderboard_estimate(overall.accuracy, test_size, selection) if test_size and unseen else None,
        selection=selection,
        by_source=accuracies(sources, names, "from {}") if len(names := list(dict.fromkeys(sources.tolist()))) > 1 else (),
        own=dict(own or {}),
    )


def _measurable_rows(questions: Sequence[Question], scores: Scores, folds: np.ndarray) -> np.ndarray:
    """Return the indices of the rows with a known answer, after checking that all arguments are about the same rows."""
    if len(questions) != len(scores.ids) or len(folds) != len(scores.ids):
        raise ValueError(f"{len(questions)} questions, {len(scores.ids)} scores, {len(folds)} folds do not match.")
    for row, (question, scored) in enumerate(zip(questions, scores.ids, strict=True)):
        if question.id != scored:
            raise ValueError(f"Row {row}: question {question.id!r} has the scores of {str(scored)!r}.")
    known = np.array([i for i, q in enumerate(questions) if q.answer is not None], dtype=int)
    if not len(known):
        raise ValueError("No row has a known answer: there is nothing to measure against.")
    with np.errstate(invalid="ignore"):  # argmax over NaN would look like a valid letter
        broken = scores.ids[known][np.isnan(scores.mean()[known]).any(-1)]
    if len(broken):
        raise ValueError(f"{counted(len(broken), 'row has', 'rows have')} NaN scores, first {', '.join(broken[:5])}.")
    return known


# %% accuracy
def group_accuracy(
    name: str, rows: np.ndarray, right: np.ndarray, blind_right: np.ndarray | None, n_choices: np.ndarray, groups: np.ndarray,
    not_measured: str = "",
) -> GroupAccuracy:
    """Measure the accuracy on the rows of a group.

    Args:
        name: name of the group.
        rows, right, blind_right: (N,) booleans: in the group, right, right without the photograph.
        n_choices, groups: (N,) number of choices, image group.
        not_measured: see `Accuracy`.
    """
    accuracy = dataclasses.replace(accuracy_of_right(right[rows], groups[rows]), not_measured=not_measured)
    blind = None if blind_right is None else accuracy_of_right(blind_right[rows], groups[rows])
    return GroupAccuracy(name, accuracy, blind, float((1 / n_choices[rows]).mean()))


def confusion_counts(predicted: np.ndarray, answers: np.ndarray, size: int) -> tuple[tuple[int, ...], ...]:
    """Count the rows by true and predicted choice, (size, size).

    Args:
        predicted, answers: (N,) choice indices.
        size: number of choices.
    """
    from sklearn.metrics import confusion_matrix

    return tuple(map(tuple, confusion_matrix(answers, predicted, labels=range(size)).tolist()))


def leaderboard_estimate(measured: Accuracy, test_size: int, selection: Selection | None = None) -> LeaderboardEstimate:
    """Estimate the accuracy on `test_size` new rows of the same kind, with as many rows per photograph.

    Two right and two wrong answers are added for the error (Agresti and Coull 1998), so that 20 of 20 is not certainty.

    Args:
        measured: accuracy on validation rows.
        test_size: number of test rows.
        selection: optimism to subtract.
    """
    value = measured.value - (selection.optimism if selection else 0.0)
    p = (measured.right + 2) / (measured.n + 4)
    independent = max(1.0, measured.effective_n)
    error = math.sqrt(p * (1 - p) * (1 / independent + measured.design_effect / test_size))
    return LeaderboardEstimate(value, error, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error), test_size)


# %% the best of several epochs
@dataclass(frozen=True)
class FoldEpochs:
    """Holds the validation results of a fold after each epoch.

    Attributes:
        right: (E, N) booleans of the rows with a known answer.
        losses: (E,) validation losses.
    """

    right: np.ndarray
    losses: np.ndarray


def read_epochs(events: Iterable[Mapping[str, Any]]) -> dict[int, FoldEpochs]:
    """Read each fold's epochs from the log, for the weights used for scoring.

    Args:
        events: events "epoch" of the run's log; after a rollback, the repeated epochs count.

    Returns:
        Fold -> its epochs, without folds whose events do not say which rows were right.
    """
    by_fold: dict[int, dict[int, Mapping[str, Any]]] = {}
    for event in events:
        if not event.keys() >= {"fold", "epoch", "chosen", "n", "nll", "right"}:
            continue
        fold, epoch = event["fold"], event["epoch"]
        if event["chosen"] and epoch >= 0:
            by_fold[fold] = {e: earlier for e, earlier in by_fold.get(fold, {}).items() if e < epoch} | {epoch: event}
    epochs: dict[int, FoldEpochs] = {}
    for fold, by_epoch in by_fold.items():
        last = by_epoch[max(by_epoch)]["n"]
        ordered = [by_epoch[epoch] for epoch in sorted(by_epoch) if by_epoch[epoch]["n"] == last]
        with contextlib.suppress(ValueError):  # a line was edited
            right = np.stack([unpack_right(event["right"], last) for event in ordered])
            epochs[fold] = FoldEpochs(right, np.array([event["nll"] for event in ordered], dtype=float))
    return epochs


def selection_of(epochs: Mapping[int, FoldEpochs], folds: np.ndarray, groups: np.ndarray) -> Selection | None:
    """Estimate the optimism of all folds together; None: no fold chose among several epochs.

    Args:
        epochs: fold -> its epochs.
        folds, groups: (N,) fold and image group of each row with a known answer.
    """
    most_epochs, optimism = 0, 0.0
    for fold, fold_epochs in epochs.items():
        rows = np.flatnonzero(folds == fold)
        if len(fold_epochs.right) > 1 and fold_epochs.right.shape[1] == len(rows):
            most_epochs = max(most_epochs, len(fold_epochs.right))
            optimism += len(rows) * selection_optimism(fold_epochs.right, groups[rows], fold_epochs.losses)
    return Selection(most_epochs, optimism / len(folds)) if most_epochs else None


def spell_selection(selection: Selection | None) -> str:
    """Spell the optimism: 'of which choosing the best of 5 epochs adds about 2.2 points'; '' for None."""
    return f"of which choosing the best of {selection.epochs} epochs adds {spell_optimism(selection)}" if selection else ""


def spell_optimism(selection: Selection) -> str:
    points = 100 * selection.optimism
    return f"about {points:.1f} points" if points >= 0.05 else "less than 0.1 points"


# %% the most confident errors
def worst_errors(
    questions: Sequence[Question], kinds: np.ndarray, probabilities: np.ndarray, count: int
) -> tuple[WrongAnswer, ...]:
    """List the most confident wrong answers.

    Args:
        questions: N questions.
        kinds: (N,) kind of each question.
        probabilities: (N, C).
        count: the most answers to list.
    """
    predicted = probabilities.argmax(-1)
    wrong = [i for i in np.argsort(-probabilities.max(-1), kind="stable") if predicted[i] != questions[i].answer]
    return tuple(
        WrongAnswer(
            q.id, q.image, str(kinds[i]), q.text, q.choices, int(predicted[i]), int(q.answer or 0),
            tuple(probabilities[i, : len(q.choices)].tolist()),
        )
        for i, q in ((i, questions[i]) for i in wrong[:count])
    )


# %% orders and letters
def _orders_at_original_scale(scores: Scores) -> np.ndarray:
    """Return (N, K) whether a row has the k-th view and that view shows the image at its original size."""
    original = scores.scales[np.argmin(np.abs(scores.scales - 1))]  # the nearest if 1.0 is not among them
    return ~np.isnan(scores.logprobs[:, :, 0]) & np.isclose(scores.scales, original)


def _choices_per_view(scores: Scores) -> np.ndarray:
    """Return the predicted choice (N, K) in each view; meaningless if a row does not have the view."""
    return np.nan_to_num(scores.per_view(), nan=-np.inf).argmax(-1)


def circular_accuracy(scores: Scores, answers: np.ndarray, groups: np.ndarray | None = None) -> Accuracy | None:
    """Compute the share of rows that are right in every option order, of those with at least two; None: there are none.

    Args:
        scores: scores of N rows.
        answers, groups: (N,) choice indices, image groups.
    """
    has_view = _orders_at_original_scale(scores)
    several = has_view.sum(-1) >= 2
    always = ((_choices_per_view(scores) == answers[:, None]) | ~has_view).all(-1)
    return accuracy_of_right(always[several], None if groups is None else groups[several]) if several.any() else None


def letter_bias(
    scores: Scores, answers: np.ndarray, groups: np.ndarray | None = None, *, draws: int = 2000, seed: int = 42
) -> LetterBias:
    """Compare predicted and true letters, by the slots in which choices were shown.

    Args:
        scores: scores of N rows.
        answers, groups: (N,) choice indices, image groups.
        draws: number of random swaps for the p-value.
        seed: seed of the swaps.
    """
    has_view = _orders_at_original_scale(scores)
    slots = scores.n_choices.max()
    shown = scores.orders[:, :, :slots]
    predicted = (shown == _choices_per_view(scores)[:, :, None]) & has_view[:, :, None]  # (N, K, slots), one-hot
    truth = (shown == answers[:, None, None]) & has_view[:, :, None]
    # one sign per image group: rows and views of a photograph are not independent observations
    change = predicted.sum(1, dtype=np.float32) - truth.sum(1, dtype=np.float32)  # (N, slots)
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        group = group.reshape(-1)
        change = np.stack([np.bincount(group, column) for column in change.T], axis=1).astype(np.float32)  # (G, slots)
    change = change[change.any(-1)]
    signs = np.random.default_rng(seed).integers(0, 2, (draws, len(change)), dtype=np.int8) * 2 - 1
    by_chance = np.abs(signs.astype(np.float32) @ change).sum(-1)  # (draws,)
    as_large = int((by_chance >= np.abs(change.sum(0)).sum() - 1e-3).sum())
    views = [k for k in range(has_view.shape[1]) if has_view[:, k].any()]
    return LetterBias(
        _letter_use(predicted, truth), tuple(_letter_use(predicted[:, k], truth[:, k]) for k in views),
        (as_large + 1) / (draws + 1),
    )


def _letter_use(predicted: np.ndarray, truth: np.ndarray) -> LetterUse:
    """Compute the letter shares of (..., slots) one-hot predictions and answers, all zero for missing views."""
    n = int(truth.sum())
    predicted_share, true_share = (one_hot.reshape(-1, one_hot.shape[-1]).sum(0) / n for one_hot in (predicted, truth))
    distance = float(np.abs(predicted_share - true_share).sum() / 2)
    return LetterUse(n, tuple(predicted_share.tolist()), tuple(true_share.tolist()), distance)


# %% calibration
def reliability(
    probabilities: np.ndarray, answers: np.ndarray, groups: np.ndarray | None = None, bins: int = 15
) -> Reliability:
    """Compare confidence with accuracy in bins of equal width.

    Args:
        probabilities: (N, C), 0 beyond a row's choices.
        answers, groups: (N,) choice indices, image groups.
        bins: number of bins.
    """
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == answers
    bin_index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    table = []
    for index in np.unique(bin_index):
        rows = bin_index == index
        accuracy = accuracy_of_right(right[rows], None if groups is None else groups[rows])
        table.append(ReliabilityBin(index / bins, (index + 1) / bins, float(confidence[rows].mean()), accuracy))
    ece = sum(b.accuracy.n * abs(b.accuracy.value - b.confidence) for b in table) / len(answers)
    of_answer = probabilities[np.arange(len(answers)), answers]
    brier = ((probabilities**2).sum(-1) - 2 * of_answer + 1).mean()
    nll = -np.log(np.maximum(of_answer, np.finfo(float).tiny)).mean()
    return Reliability(float(ece), float(brier), float(nll), tuple(table))
