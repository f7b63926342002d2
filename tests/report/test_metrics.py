"""Every figure against a case that can be counted by hand, or against a simulation whose truth is known."""
import dataclasses
import json

import numpy as np
import pytest

from mcvqa.base.uncertainty import Accuracy
from mcvqa.data.questions import Question
from mcvqa.report.metrics import (
    circular_accuracy,
    confusion_matrix,
    json_value,
    leaderboard_estimate,
    letter_bias,
    measure,
    reliability,
    spell_p_value,
)
from mcvqa.scoring.scores import Scores, plain_scores


def answered(predicted: list[list[int]], orders: list[list[int]], scales: list[float] | None = None) -> Scores:
    """Scores of N rows that choose predicted[n][k] when asked in order k; -1: not asked."""
    chosen = np.array(predicted)
    n, k, c = *chosen.shape, len(orders[0])
    logprobs = np.where(np.arange(c) == chosen[:, :, None], -0.1, -3.0).astype(np.float32)
    logprobs[chosen < 0] = np.nan
    every = np.broadcast_to(np.array(orders, np.int8), (n, k, c))
    return Scores(np.array([f"r{i}" for i in range(n)]), logprobs, every, np.array(scales or [1.0] * k, np.float32))


def asked(answers: list[int | None], size: int = 3) -> list[Question]:
    return [Question(f"r{i}", "x.jpg", "?", tuple("xyzw"[:size]), answer) for i, answer in enumerate(answers)]


# %% accuracy
def test_counts_by_hand_and_leaves_unknown_answers_out() -> None:
    scores = answered([[0], [1], [2], [0], [1]], [[0, 1, 2]])
    prior = np.log([[0.6, 0.2, 0.2]] * 5)
    truth = [0, 1, 0, None, 2]
    found = measure(asked(truth), scores, np.array([0, 0, 1, 1, 1]), prior=prior, test_size=10)
    assert found.overall.accuracy == Accuracy(2, 4)
    assert found.overall.blind == Accuracy(2, 4)  # the prior says 0 always
    assert found.overall.chance == pytest.approx(1 / 3)
    assert [(g.name, g.accuracy) for g in found.by_fold] == [("fold 0", Accuracy(2, 2)), ("fold 1", Accuracy(0, 2))]
    assert found.confusion == ((1, 0, 1), (0, 1, 0), (0, 1, 0))
    assert found.over_blind is not None
    assert found.over_blind.value == 0


def test_groups_cover_every_row_once(make_run) -> None:
    questions, scores, folds = make_run()
    found = measure(questions, scores, folds)
    for groups in (found.by_fold, found.by_kind, found.by_choices):
        assert sum(g.accuracy.n for g in groups) == len(questions)
        assert sum(g.accuracy.right for g in groups) == found.overall.accuracy.right
    assert [(g.name, g.chance) for g in found.by_choices] == [
        ("2 choices", 0.5), ("3 choices", pytest.approx(1 / 3)), ("4 choices", 0.25),
    ]
    assert found.overall.blind is None
    assert found.leaderboard is None


def test_gains_are_paired_and_skip_unknown_answers() -> None:
    scores = answered([[0], [1], [2]], [[0, 1, 2]])
    after, before = np.array([True, True, True]), np.array([False, True, False])
    found = measure(asked([0, 1, None]), scores, np.zeros(3), variants={"EMA": (after, before)})
    assert found.gains["EMA"].n == 2
    assert found.gains["EMA"].value == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, s, f: (q[::-1], s, f), "stands beside the scores of"),
        (lambda q, s, f: (q[:-1], s, f), "not one set"),
        (lambda q, s, f: (q, s, f[:-1]), "not one set"),
        (lambda q, s, f: ([dataclasses.replace(x, answer=None) for x in q], s, f), "No row has a known answer"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message, make_run) -> None:
    with pytest.raises(ValueError, match=message):
        measure(*change(*make_run(n=6)))


def test_scores_that_are_no_numbers_are_refused_by_name(make_run) -> None:
    questions, scores, folds = make_run(n=6)
    scores.logprobs[4] = np.nan  # argmax would answer "a"
    with pytest.raises(ValueError, match=r"1 rows .* 행4"):
        measure(questions, scores, folds)


def test_worst_errors_are_wrong_and_most_confident_first(make_run) -> None:
    questions, scores, folds = make_run()
    errors = measure(questions, scores, folds, max_errors=5).errors
    confidence = [e.probabilities[e.predicted] for e in errors]
    assert len(errors) == 5
    assert all(e.predicted != e.answer for e in errors)
    assert confidence == sorted(confidence, reverse=True)
    wrong = scores.predictions() != [q.answer for q in questions]
    assert confidence[0] == pytest.approx(np.exp(scores.mean()).max(-1)[wrong].max())


def test_confusion_counts_true_by_predicted() -> None:
    assert confusion_matrix(np.array([0, 1, 1, 2]), np.array([0, 1, 0, 2]), 3) == ((1, 1, 0), (0, 1, 0), (0, 0, 1))


def test_leaderboard_interval_holds_the_test_accuracy_in_95_of_100_cases() -> None:
    rng, p = np.random.default_rng(0), 0.8
    inside = 0
    for _ in range(1000):
        estimate = leaderboard_estimate(Accuracy(int(rng.binomial(300, p)), 300), 600)
        inside += estimate.low <= rng.binomial(600, p) / 600 <= estimate.high
    assert 930 <= inside <= 970


def test_all_right_is_not_certain() -> None:
    assert leaderboard_estimate(Accuracy(20, 20), 1000).low < 0.95


# %% orders and letters
def test_circular_wants_every_order_and_nothing_else() -> None:
    orders = [[0, 1, 2], [1, 2, 0], [0, 1, 2]]
    predicted = [
        [0, 0, 1],  # right in both orders; wrong at another scale, which does not count
        [0, 1, 0],  # wrong in the second order
        [0, -1, 0],  # asked once at the original scale: not in the sum
    ]
    scores = answered(predicted, orders, [1.0, 1.0, 1.1])
    assert circular_accuracy(scores, np.array([0, 0, 0])) == Accuracy(1, 2)
    assert circular_accuracy(answered([[0]], [[0, 1, 2]]), np.array([0])) is None


def test_a_model_that_always_says_a_is_found_out() -> None:
    rotations = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    truth = np.arange(60) % 3
    bias = letter_bias(answered([[0, 1, 2]] * 60, rotations), truth)
    assert bias.overall.predicted == (1.0, 0.0, 0.0)
    assert bias.overall.truth == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert bias.overall.distance == pytest.approx(2 / 3)
    assert bias.p_value < 0.01
    assert len(bias.per_order) == 3


def test_a_preferred_choice_is_no_preferred_letter() -> None:
    """Choice 0 in every rotation stands in each slot equally often, and so does the truth."""
    bias = letter_bias(answered([[0, 0, 0]] * 60, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]), np.zeros(60))
    assert bias.overall.predicted == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert bias.overall.truth == bias.overall.predicted
    assert (bias.overall.distance, bias.p_value) == (0, 1)


def test_the_p_value_of_an_unbiased_model_is_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(200):
        truth = rng.integers(0, 3, 90)
        said = np.where(rng.random(90) < 0.6, truth, rng.integers(0, 3, 90))
        small += letter_bias(answered(said[:, None].tolist(), [[0, 1, 2]]), truth, draws=200).p_value < 0.1
    assert 8 <= small <= 34  # about 20


def test_rows_with_fewer_choices_have_no_letter_beyond_them() -> None:
    scores = plain_scores(np.array(["r0", "r1"]), np.log([[0.9, 0.1, 0.0001], [0.1, 0.2, 0.7]]), np.array([2, 3]), {})
    bias = letter_bias(scores, np.array([0, 2]))
    assert bias.overall.predicted == (0.5, 0.0, 0.5)
    assert bias.overall.n == 2


def test_p_values_are_never_spelled_as_zero() -> None:
    assert (spell_p_value(0.0005), spell_p_value(0.0312)) == ("p < 0.001", "p = 0.031")


# %% calibration
def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])
    found = reliability(probabilities, np.array([0, 1, 1, 0]), bins=5)
    # (0.6, 0.8]: 1 of 2 right at 0.8; (0.4, 0.6]: 1 of 1 at 0.6; (0.8, 1.0]: 1 of 1 at 1.0
    assert found.ece == pytest.approx((2 * 0.3 + 1 * 0.4 + 0) / 4)
    assert found.brier == pytest.approx((2 * 0.2**2 + 2 * 0.8**2 + 2 * 0.4**2 + 0) / 4)
    assert found.nll == pytest.approx(-np.log([0.8, 0.2, 0.6, 1.0]).mean())
    assert [(b.low, b.accuracy.n) for b in found.bins] == [(0.4, 1), (0.6, 2), (0.8, 1)]


def test_honest_probabilities_have_no_calibration_error_and_a_temperature_restores_them() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    logits = rng.normal(0, 1.5, (n, 4))
    honest = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = (honest.cumsum(-1) > rng.random((n, 1))).argmax(-1)
    questions = [Question(str(i), "", "?", ("x", "y", "z", "w"), int(t)) for i, t in enumerate(truth)]
    scores = plain_scores(np.array([q.id for q in questions]), 2 * logits, np.full(n, 4), {})  # twice too sure
    found = measure(questions, scores, np.zeros(n), temperature=2.0)
    assert found.before.ece > 0.1
    assert found.after.ece < 0.02
    assert found.after.nll < found.before.nll
    assert found.after.brier < found.before.brier


# %% JSON
def test_json_is_strict_and_complete(metrics) -> None:
    plain = metrics.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == {f.name for f in dataclasses.fields(metrics)}
    accuracy = plain["overall"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert accuracy["right"] / accuracy["n"] == accuracy["value"]


def test_what_is_no_number_becomes_null() -> None:
    assert json_value({"accuracy": Accuracy(0, 0)})["accuracy"]["value"] is None
    assert json_value((np.float32("inf"), np.int64(3))) == [None, 3]
