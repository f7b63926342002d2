import numpy as np
import pytest

from mcvqa.data.questions import Question
from mcvqa.ensemble.blend import (
    BLEND_METHODS,
    BlendError,
    Member,
    blend_members,
    read_predictions,
    stacking_weights,
    vote_weights,
)
from mcvqa.scoring.scores import Scores, joined, log_softmax, plain_scores


class World:
    """Questions with four choices, half of them training rows; members see the truth through noise of a known size."""

    def __init__(self, n=2000, seed=0, n_choices=4):
        self.random = np.random.default_rng(seed)
        self.truth = self.random.integers(0, n_choices, n)
        self.ids = np.array([f"{part}_{i}" for part in ("train", "test") for i in range(n // 2)])
        self.half, self.n_choices = n // 2, n_choices
        self.answers = dict(zip(self.ids[: self.half].tolist(), self.truth[: self.half].tolist(), strict=True))

    def scores(self, signal, sharpness=1.0):
        logits = signal * np.eye(self.n_choices)[self.truth] + self.random.normal(size=(len(self.ids), self.n_choices))
        return plain_scores(self.ids, log_softmax(sharpness * logits), np.full(len(self.ids), self.n_choices), {})

    def member(self, name, signal, sharpness=1.0, folds=1):
        first, *others = [self.scores(signal, sharpness) for _ in range(folds)]
        test = tuple(s.rows(np.arange(self.half, 2 * self.half)) for s in (first, *others))
        return Member(name, first.rows(np.arange(self.half)), test)

    def accuracy(self, predictions):
        return (predictions == self.truth[self.half :]).mean()


def constant(ids, *shares, name="m"):
    """A member that says the same to every row, once per given list of shares."""
    with np.errstate(divide="ignore"):
        models = tuple(plain_scores(list(ids), np.log([s] * len(ids)), [len(s)] * len(ids), {}) for s in shares)
    return Member(name, None, models)


# %% what combining is worth
@pytest.mark.parametrize("method", [*BLEND_METHODS, "auto"])
def test_equal_members_together_beat_each_alone(method):
    world = World()
    members = [world.member(f"m{i}", 1.5) for i in range(4)]
    blend = blend_members(members, world.answers, method)
    alone = max(world.accuracy(m.test[0].predictions()) for m in members)
    assert world.accuracy(blend.predictions) > alone + 0.03
    assert blend.table[blend.method].value > max(a.value for a in blend.alone.values()) + 0.03
    assert set(blend.table) == set(BLEND_METHODS)
    np.testing.assert_allclose(np.exp(blend.logprobs).sum(-1), 1, rtol=1e-6)
    assert blend.ids.tolist() == world.ids[world.half :].tolist()


def test_calibration_keeps_a_loud_member_from_shouting_the_others_down():
    world = World(seed=1)
    quiet = [world.member(f"quiet{i}", 1.5, sharpness=0.5) for i in range(2)]
    members = [world.member("loud", 0.8, sharpness=8), *quiet]
    blend = blend_members(members, world.answers)
    shouted = sum(m.test[0].mean() for m in members).argmax(-1)
    assert blend.temperatures["loud"] > 5 > 1 > blend.temperatures["quiet0"]
    assert world.accuracy(blend.predictions) > world.accuracy(shouted) + 0.05


def test_learned_weights_are_used_where_they_are_proven():
    world = World(n=4000, seed=2)
    members = [world.member("good", 2.5), *(world.member(f"weak{i}", 0.7) for i in range(5))]
    # the weak ones are copies of one opinion: calibrated each, yet counted five times by equal weights
    members[2:] = [Member(f"weak{i}", members[1].oof, members[1].test) for i in range(1, 5)]
    blend = blend_members(members, world.answers)
    assert blend.method == "stacking" and "p < 0.001" in blend.reason
    assert blend.weights["good"] > 2 * blend.weights["weak0"]
    equal = blend_members(members, world.answers, "geometric")
    assert world.accuracy(blend.predictions) > world.accuracy(equal.predictions)


def test_weights_proven_on_five_photographs_are_not_proven():
    world = World(n=4000, seed=2)
    weak = world.member("weak", 0.7)
    members = [world.member("good", 2.5), *(Member(f"weak{i}", weak.oof, weak.test) for i in range(5))]
    groups = {name: i % 5 for i, name in enumerate(world.answers)}
    alone, together = blend_members(members, world.answers), blend_members(members, world.answers, groups=groups)
    assert alone.method == "stacking" and together.method == "geometric" and "p = 0.06" in together.reason
    assert together.table["stacking"].groups == together.alone["good"].groups == 5
    assert together.table["stacking"].value == alone.table["stacking"].value


@pytest.mark.parametrize("seed", range(5))
def test_learned_weights_are_not_used_where_they_fit_noise(seed):
    world = World(n=200, seed=seed)  # 100 validation rows, as in the public solutions
    blend = blend_members([world.member(f"m{i}", 1.5) for i in range(6)], world.answers)
    assert blend.method == "geometric" and "no significant improvement" in blend.reason
    assert set(blend.weights.values()) == {1.0}


def test_weights_reported_out_of_fold_never_saw_the_row():
    """With more members than rows, fitted weights explain random answers (0.6 where they saw them); unseen ones not."""
    world = World(n=80, seed=3)
    blend = blend_members([world.member(f"m{i}", 0.0) for i in range(100)], world.answers, "stacking")
    assert blend.table[blend.method].value < 0.4


def test_a_useless_member_gets_no_vote():
    world = World()
    blend = blend_members([world.member("good", 2.0), world.member("noise", 0.0)], world.answers, "weighted_vote")
    assert blend.weights["noise"] < 0.1 and world.accuracy(blend.predictions) > 0.75


# %% folds and members without out-of-fold scores
def test_each_fold_model_votes_and_folds_share_their_member_s_weight():
    votes = [constant("x", [0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.01, 0.98, 0.01], name="run")]
    assert blend_members(votes, {}, "vote").predictions.tolist() == [0]
    assert blend_members(votes, {}, "mean").predictions.tolist() == [1]
    three = constant("x", [0.6, 0.4], [0.6, 0.4], [0.6, 0.4], name="three")
    two = [constant("x", [0.4, 0.6], name=f"one{i}") for i in range(2)]
    assert blend_members([three, *two], {}, "vote").predictions.tolist() == [1]
    np.testing.assert_allclose(blend_members([three, two[0]], {}, "geometric").logprobs, np.log([[0.5, 0.5]]))


def test_an_imported_member_takes_part_with_weight_one():
    world = World()
    imported = world.member("imported", 1.5)
    imported = Member("imported", None, imported.test)
    for method in BLEND_METHODS:
        blend = blend_members([imported, world.member("a", 1.0), world.member("b", 2.0)], world.answers, method)
        assert blend.weights["imported"] == 1.0 and blend.temperatures["imported"] == 1.0
        assert list(blend.alone) == ["a", "b"]


def test_without_out_of_fold_scores_weights_are_equal_and_it_is_said():
    members = [constant("x", [0.6, 0.4], name="a"), constant("x", [0.3, 0.7], name="b")]
    blend = blend_members(members, {})
    assert blend.method == "geometric" and not blend.table and not blend.alone and len(blend.oof_ids) == 0
    assert "equal" in blend_members(members, {}, "stacking").reason


# %% rows
def test_rows_are_matched_by_id_and_not_by_position():
    world = World()
    a, b = world.member("a", 1.5), world.member("b", 1.5)
    mixed = world.random.permutation(world.half)
    turned = Member("b", b.oof.rows(mixed), (b.test[0].rows(mixed),))
    np.testing.assert_allclose(
        blend_members([a, turned], world.answers).logprobs, blend_members([a, b], world.answers).logprobs
    )


def test_only_rows_every_member_scored_are_compared():
    world = World()
    a, b = world.member("a", 1.5), world.member("b", 1.5)
    half = Member("b", b.oof.rows(np.arange(300)), b.test)
    blend = blend_members([a, half], world.answers)
    assert blend.oof_ids.tolist() == world.ids[:300].tolist() and blend.table[blend.method].n == 300


def test_missing_and_double_rows_are_named():
    with pytest.raises(BlendError, match=r"b has no scores for 1 row \(y\)"):
        blend_members([constant("xy", [0.5, 0.5], name="a"), constant("x", [0.5, 0.5], name="b")], {})
    with pytest.raises(BlendError, match=r"b has duplicate rows: 1 row \(x\)"):
        blend_members([constant("xy", [0.5, 0.5], name="a"), constant("xxy", [0.5, 0.5], name="b")], {})
    with pytest.raises(BlendError, match="a different number of choices"):
        blend_members([constant("x", [0.5, 0.5], name="a"), constant("x", [0.4, 0.3, 0.3], name="b")], {})
    with pytest.raises(BlendError, match="nothing to combine"):
        blend_members([], {})


def test_nan_is_refused_and_does_not_become_a_letter():
    broken = Scores(np.array(["x"]), np.full((1, 1, 2), np.nan, np.float32), np.array([[[0, 1]]], np.int8), np.ones(1))
    with pytest.raises(BlendError, match=r"no usable log-probabilities.*\(x\)"):
        blend_members([Member("m", None, (broken,))], {})


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_rows_with_fewer_choices_never_get_another_letter(method):
    world = World(n=400)
    a, b = world.member("a", 1.5), world.member("b", 1.5)

    def with_two_choices(scores):
        return plain_scores(scores.ids, scores.logprobs[:, 0], np.where(np.arange(len(scores.ids)) % 2, 4, 2), {})

    members = [Member(m.name, with_two_choices(m.oof), (with_two_choices(m.test[0]),)) for m in (a, b)]
    answers = {i: min(c, 1) for i, c in world.answers.items()}
    blend = blend_members(members, answers, method)
    assert (blend.predictions[::2] < 2).all() and (blend.logprobs[::2, 2:] == -np.inf).all()
    assert np.isfinite(blend.logprobs[1::2]).all()
    truth = np.array([answers[i] for i in members[0].oof.ids.tolist()])
    assert blend.alone["a"].right == (members[0].oof.predictions() == truth).sum() > 0.5 * len(truth)


def test_a_choice_one_model_rules_out_can_still_win():
    members = [constant("x", [1.0, 0.0], name="sure"), *(constant("x", [1e-12, 1.0], name=f"m{i}") for i in range(3))]
    assert blend_members(members, {}).predictions.tolist() == [1]


# %% ties
def asked_twice(ids, first, second, name):
    ways = np.log(np.array([[first, second]] * len(ids), np.float32))
    orders = np.array([[[0, 1, 2], [1, 2, 0]]] * len(ids), np.int8)
    return Member(name, None, (Scores(np.array(list(ids)), ways, orders, np.ones(2, np.float32)),))


def test_ties_go_to_the_choice_more_orders_agree_on():
    ids = [f"row{i}" for i in range(20)]
    wavering = asked_twice(ids, [0.9, 0.05, 0.05], [0.3, 0.35, 0.35], "wavering")  # a, but in one order only
    steady = asked_twice(ids, [0.2, 0.2, 0.6], [0.2, 0.2, 0.6], "steady")  # c, in both
    assert blend_members([wavering, steady], {}, "vote").predictions.tolist() == [2] * 20


def test_further_ties_go_to_the_best_member():
    world = World(n=2000)
    good, bad = world.member("good", 2.0), world.member("bad", 0.5)
    for members in ([good, bad], [bad, good]):
        blend = blend_members(members, world.answers, "vote")
        assert (blend.predictions == good.test[0].predictions()).all()


def test_last_ties_are_spread_by_the_id_and_not_given_to_the_first_letter():
    ids = [f"row{i}" for i in range(400)]
    members = [constant(ids, [0.7, 0.1, 0.2], name="a"), constant(ids, [0.1, 0.7, 0.2], name="b")]
    blend = blend_members(members, {}, "vote")
    assert set(blend.predictions.tolist()) == {0, 1} and 0.4 < blend.predictions.mean() < 0.6
    again = blend_members(members[::-1], {}, "vote")
    assert (blend.predictions == again.predictions).all()


# %% weights
def test_stacking_finds_the_weights_answers_were_drawn_with():
    random = np.random.default_rng(0)
    logprobs = log_softmax(random.normal(size=(3, 20_000, 4)) * 2)
    logprobs[:, ::2, 3] = -np.inf
    logits = 1 / 3 * (2.0 * logprobs[0] + 1.0 * logprobs[1] + np.where(np.isinf(logprobs[0]), -np.inf, 0.0))
    truth = (logits + random.gumbel(size=logits.shape)).argmax(-1)
    np.testing.assert_allclose(stacking_weights(logprobs, truth), [2.0, 1.0, 0.0], atol=0.12)


def test_few_rows_hardly_move_the_weights():
    logprobs = log_softmax(np.random.default_rng(0).normal(size=(3, 3, 4)))
    np.testing.assert_allclose(stacking_weights(logprobs, np.array([0, 1, 2])), 1.0, atol=0.35)


def test_vote_weights_are_log_odds_over_guessing():
    weights = vote_weights(np.array([900, 700, 250, 100]), 1000, 4)
    assert weights[2] < 0.01 and weights[3] == 0 and weights.mean() == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx(np.log(27) / np.log(7), rel=0.01)
    assert vote_weights(np.array([0, 0]), 10, 4).tolist() == [1, 1]


# %% imported files
QUESTIONS = [
    Question("007", "", "", ("컵", "병", "상자", "캔")), Question("b,2", "", "", ("red", "blue")),
    Question("x", "", "", ("2", "3", "4", "1")),
]


def imported(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "friend.csv"
    path.write_bytes(content.encode(encoding))
    member = read_predictions(path, QUESTIONS)
    return member, np.exp(member.test[0].mean())


def test_letters_are_read(tmp_path):
    member, shares = imported(tmp_path, 'id,answer\nx,d\n"b,2",A\n007,c\n')
    assert (member.name, member.oof, member.note) == ("friend", None, "")
    assert shares.argmax(-1).tolist() == [2, 0, 3]
    assert shares[1].tolist() == pytest.approx([0.8, 0.2, 0, 0]) and member.test[0].ids.tolist() == ["007", "b,2", "x"]


def test_ids_that_we_wrote_as_text_for_a_spreadsheet_are_understood(tmp_path):
    questions = [Question(name, "", "", ("red", "blue")) for name in ("=1+1", "'=2", "-3", "'@4")]
    (tmp_path / "friend.csv").write_text("id,answer\n'-3,a\n'=2,b\n'=1+1,a\n''@4,b\n", encoding="utf-8")
    member = read_predictions(tmp_path / "friend.csv", questions)
    assert member.test[0].ids.tolist() == [q.id for q in questions]
    assert member.test[0].mean().argmax(-1).tolist() == [0, 1, 0, 1]


def test_free_text_is_read_and_what_is_unclear_counts_as_undecided(tmp_path):
    member, shares = imported(
        tmp_path, '번호;Prediction\n007;"정답은 상자입니다.\n분명합니다."\nb,2;It is red or blue\nx;정답: 1\n', "cp949"
    )
    assert shares.argmax(-1)[[0, 2]].tolist() == [2, 3] and shares[1, :2].tolist() == [0.5, 0.5]
    assert "friend.csv: no clear answer in 1 row (b,2)" in member.note
    assert "1 row (b,2)" in blend_members([member], {}).reason


def test_numbers_counted_from_zero_are_noticed(tmp_path):
    _, shares = imported(tmp_path, 'id,answer\n007,0\n"b,2",1\nx,0\n')
    assert shares.argmax(-1)[:2].tolist() == [0, 1]


def test_probabilities_are_read(tmp_path):
    _, shares = imported(tmp_path, 'id,a,b,c,d\n007,0.1,0.2,0.3,0.4\n"b,2",0.9,0.1,,\nx,1,0,0,0\n')
    np.testing.assert_allclose(shares, [[0.1, 0.2, 0.3, 0.4], [0.9, 0.1, 0, 0], [1, 0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('id,a,b,c,d\n007,1,2,3,4\n"b,2",0.9,0.1,0,0\nx,1,0,0,0\n', r"sum to 1.*1 row \(007\)"),
        ('id,a,b,c,d\n007,nan,0,0,1\n"b,2",0.9,0.1,0,0\nx,1,0,0,0\n', r"sum to 1.*1 row \(007\)"),
        ("id,answer\n007,a\nx,b\n", r"no prediction for 1 row \(b,2\)"),
        ('id,answer\n007,a\n007,b\n"b,2",a\nx,b\n', r"duplicate rows.*007"),
        ("id,answer\nother,a\n", "none of the test ids"),
        ('id,score,choice\n007,1,a\n"b,2",1,a\nx,2,a\n', "which column holds the answers"),
        ('id,answer\n007,?\n"b,2",?\nx,?\n', "no answer could be parsed"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path, content, message):
    with pytest.raises(BlendError, match=message):
        imported(tmp_path, content)


def test_out_of_fold_scores_of_folds_join():
    world = World(n=400)
    whole = world.member("run", 1.5, folds=3)
    parts = [whole.oof.rows(np.arange(k, 200, 3)) for k in range(3)]
    blend = blend_members([Member("run", joined(parts), whole.test)], world.answers)
    assert blend.table[blend.method].n == 200 and blend.method == "geometric" and "nothing to weigh" in blend.reason
