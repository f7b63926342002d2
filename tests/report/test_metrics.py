"""Every figure against a case that can be counted by hand, or against a simulation whose truth is known."""
import dataclasses
import json

import numpy as np
import pytest

from mcvqa.base.files import RunLog
from mcvqa.base.uncertainty import Accuracy, pack_right
from mcvqa.data.questions import Question
from mcvqa.report.metrics import (
    FoldEpochs,
    Selection,
    circular_accuracy,
    confusion_counts,
    json_value,
    leaderboard_estimate,
    letter_bias,
    measure,
    read_epochs,
    reliability,
    selection_of,
    spell_selection,
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


def test_accuracy_by_source_where_there_are_several() -> None:
    scores, truth = answered([[0], [1], [2], [0], [1], [1]], [[0, 1, 2]]), [0, 1, 0, None, 1, 2]
    prior = np.log([[0.6, 0.2, 0.2]] * 6)
    rows = [dataclasses.replace(q, source="dev" if i > 1 else "train") for i, q in enumerate(asked(truth))]
    found = measure(rows, scores, np.zeros(6), groups=np.array([0, 1, 2, 3, 4, 4]), prior=prior)
    train, dev = found.by_source
    assert (train.name, train.accuracy, train.blind) == ("from train", Accuracy(2, 2), Accuracy(1, 2))
    assert (dev.name, dev.accuracy.right, dev.accuracy.n, dev.accuracy.groups) == ("from dev", 1, 3, 2)
    assert found.to_json()["by_source"][1]["accuracy"]["low"] < 1 / 3
    assert measure(asked(truth), scores, np.zeros(6)).by_source == ()


def test_gains_are_paired_and_skip_unknown_answers() -> None:
    scores = answered([[0], [1], [2]], [[0, 1, 2]])
    after, before = np.array([True, True, True]), np.array([False, True, False])
    found = measure(asked([0, 1, None]), scores, np.zeros(3), variants={"EMA": (after, before)})
    assert found.gains["EMA"].n == 2
    assert found.gains["EMA"].value == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, s, f: (q[::-1], s, f), "has the scores of"),
        (lambda q, s, f: (q[:-1], s, f), "do not match"),
        (lambda q, s, f: (q, s, f[:-1]), "do not match"),
        (lambda q, s, f: ([dataclasses.replace(x, answer=None) for x in q], s, f), "No row has a known answer"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message, make_run) -> None:
    with pytest.raises(ValueError, match=message):
        measure(*change(*make_run(n=6)))


def test_scores_that_are_no_numbers_are_refused_by_name(make_run) -> None:
    questions, scores, folds = make_run(n=6)
    scores.logprobs[4] = np.nan  # argmax would answer "a"
    with pytest.raises(ValueError, match=r"1 row has NaN .* 행4"):
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
    predicted, answers = np.array([0, 1, 1, 2]), np.array([0, 1, 0, 2])
    assert confusion_counts(predicted, answers, 3) == ((1, 1, 0), (0, 1, 0), (0, 0, 1))
    assert confusion_counts(predicted, answers, 4)[3] == (0, 0, 0, 0)  # a letter that is never true


def test_leaderboard_interval_holds_the_test_accuracy_in_95_of_100_cases() -> None:
    rng, p = np.random.default_rng(0), 0.8
    inside = 0
    for _ in range(1000):
        estimate = leaderboard_estimate(Accuracy(int(rng.binomial(300, p)), 300), 600)
        inside += estimate.low <= rng.binomial(600, p) / 600 <= estimate.high
    assert 930 <= inside <= 970


def test_all_right_is_not_certain() -> None:
    assert leaderboard_estimate(Accuracy(20, 20), 1000).low < 0.95


def test_every_error_is_clustered_by_image_group(make_run) -> None:
    """Each row four times in a group: nothing is known that was not known before."""
    questions, scores, folds = make_run(n=60)
    four = np.repeat(np.arange(60), 4)
    copies = [dataclasses.replace(questions[i], id=f"{questions[i].id} {k}") for k, i in enumerate(four)]
    repeated = dataclasses.replace(scores.rows(four), ids=np.array([q.id for q in copies]))
    right = scores.predictions() == [q.answer for q in questions]
    prior, variants = np.tile([0.0, -1, -2, -3], (60, 1)), {"EMA": (right, np.roll(right, 7))}
    once = measure(questions, scores, folds, prior=prior, variants=variants, test_size=500)
    often = measure(
        copies, repeated, folds[four], groups=four, prior=prior[four], test_size=500,
        variants={"EMA": (right[four], np.roll(right, 7)[four])},
    )
    pairs = list(zip(
        (once.overall, *once.by_fold, *once.by_kind, *once.by_choices),
        (often.overall, *often.by_fold, *often.by_kind, *often.by_choices), strict=True,
    ))
    for alone, copied in ((x, y) for a, b in pairs for x, y in ((a.accuracy, b.accuracy), (a.blind, b.blind))):
        assert copied.standard_error == pytest.approx(alone.standard_error, rel=0.15)
    assert often.circular.standard_error == pytest.approx(once.circular.standard_error, rel=0.1)
    assert often.letters.p_value == pytest.approx(once.letters.p_value, abs=0.03)
    for alone, copied in ((once.over_blind, often.over_blind), (once.gains["EMA"], often.gains["EMA"])):
        assert copied.p_value == alone.p_value and copied.standard_error == pytest.approx(alone.standard_error, rel=0.1)
    assert all(b.accuracy.groups is not None for b in often.after.bins)
    row_by_row = measure(copies, repeated, folds[four], test_size=500)
    assert often.leaderboard.standard_error > 1.3 * row_by_row.leaderboard.standard_error


# %% the best of several epochs
def test_the_best_of_equal_epochs_is_stated_and_corrected(make_run) -> None:
    questions, scores, folds = make_run(n=300)
    rng = np.random.default_rng(0)
    epochs = {fold: FoldEpochs(rng.random((5, 100)) < 0.7, np.ones(5)) for fold in range(3)}
    found = measure(questions, scores, folds, epochs=epochs, test_size=500)
    assert found.selection.epochs == 5 and 0.02 < found.selection.optimism < 0.09  # 4.5 points without pairing
    assert found.leaderboard.value == pytest.approx(found.overall.accuracy.value - found.selection.optimism)
    assert "choosing the best of 5 epochs adds about" in spell_selection(found.selection)
    assert measure(questions, scores, folds, test_size=500).selection is None
    assert json.loads(json.dumps(found.to_json()))["selection"]["epochs"] == 5


def test_epochs_of_other_rows_or_a_single_one_choose_nothing() -> None:
    folds, right = np.zeros(40), np.random.default_rng(0).random((3, 40)) < 0.5
    assert selection_of({0: FoldEpochs(right[:1], np.ones(1))}, folds, np.arange(40)) is None
    assert selection_of({0: FoldEpochs(right[:, :30], np.ones(3))}, folds, np.arange(40)) is None
    assert selection_of({1: FoldEpochs(right, np.ones(3))}, folds, np.arange(40)) is None
    half = selection_of({0: FoldEpochs(right, np.ones(3))}, np.repeat([0, 1], 40), np.arange(80))
    assert half.optimism == pytest.approx(selection_of({0: FoldEpochs(right, np.ones(3))}, folds, np.arange(40)).optimism / 2)


def test_epochs_are_read_from_the_log(tmp_path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    right = np.random.default_rng(0).random((2, 3, 11)) < 0.5
    # the second epoch was repeated after a cut; fold 1 was trained anew, with fewer epochs
    for fold, epoch in ((0, 0), (0, 1), (0, 1), (1, 0), (1, 1), (1, 0)):
        for chosen in (True, False):
            answered_right = pack_right(right[fold, epoch] == chosen)
            log.write("epoch", fold=fold, epoch=epoch, chosen=chosen, n=11, nll=0.5, right=answered_right)
    log.write("epoch", fold=2, epoch=0, chosen=True, n=11, nll=0.5)  # of an earlier version
    log.write("epoch", fold=3, epoch=0, chosen=True, n=11, nll=0.5, right="no hex")
    log.write("epoch", fold=4, right=pack_right(right[0, 0]))  # edited
    found = read_epochs(log.events("epoch"))
    assert set(found) == {0, 1} and (found[0].right == right[0, :2]).all() and found[1].losses.tolist() == [0.5]


def test_what_choosing_adds_is_never_spelled_as_zero() -> None:
    assert spell_selection(Selection(3, 0.0001)).endswith("adds less than 0.1 points")
    assert spell_selection(Selection(3, 0.0224)) == "of which choosing the best of 3 epochs adds about 2.2 points"
    assert spell_selection(None) == ""


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


def test_letters_are_judged_by_photograph() -> None:
    """The same 8 wrong rows, once of 8 photographs and once of 2: two coin tosses prove no preference."""
    truth = np.array([1] * 8 + [2] * 30)
    scores = answered([[0]] * 8 + [[2]] * 30, [[0, 1, 2]])
    assert letter_bias(scores, truth, np.arange(38)).p_value < 0.05
    assert letter_bias(scores, truth, np.repeat(np.arange(19), [4] * 2 + [2] * 13 + [1] * 4)).p_value > 0.3


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
