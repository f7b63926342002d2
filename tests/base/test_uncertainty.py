"""Error bars: against tables, exact tests of scipy, all flips counted one by one, and simulations whose truth is known."""
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mcvqa.base.uncertainty import (
    Accuracy,
    Gain,
    accuracy_of,
    accuracy_of_right,
    pack_right,
    paired_gain,
    selection_optimism,
    sign_flip_p_value,
    significantly_worse,
    spell_error,
    spell_interval,
    spell_p_value,
    spell_points,
    unpack_right,
)


def clustered(rng: np.random.Generator, groups: int, share: float, together: float, sizes=(4,)) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong (N,) and image group (N,): with probability `together` a photograph's rows are right or wrong as one."""
    group = np.repeat(np.arange(groups), rng.choice(sizes, groups))
    as_one = (rng.random(groups) < together)[group]
    return np.where(as_one, (rng.random(groups) < share)[group], rng.random(len(group)) < share), group


# %% accuracy
def test_an_accuracy_of_no_rows_says_so_and_has_no_figures():
    assert str(Accuracy(0, 0)) == "no rows" and str(Accuracy(0, 5)) != "no rows"


def test_accuracy_with_its_error():
    accuracy = Accuracy(93, 100)
    assert accuracy.value == 0.93
    assert accuracy.standard_error == pytest.approx(0.0255, abs=1e-4)
    assert accuracy.interval == pytest.approx((0.8625, 0.9657), abs=1e-3)  # Wilson, as in the tables
    assert Accuracy(472, 508).standard_error == pytest.approx(0.0113, abs=1e-3)
    assert "0.930 ± 0.026 (n=100)" in str(accuracy)
    assert str(Accuracy(0, 0)) == "no rows"


def test_an_interval_holds_its_value_whatever_the_rounding():
    """Matplotlib refuses error bars that are negative by 1e-17: figures of the data ended whole runs."""
    for n in range(1, 300):
        for right in {0, 1, n // 2, n - 1, n}:
            for accuracy in (Accuracy(right, n), Accuracy(right, n, 1.7, max(1, n // 2))):
                low, high = accuracy.interval
                assert 0 <= low <= accuracy.value <= high <= 1
                assert accuracy.standard_error > 0


def test_rows_without_an_answer_do_not_count():
    assert accuracy_of(np.array([0, 1, 2]), np.array([0, 0, -1])) == Accuracy(1, 2)
    assert accuracy_of(np.array([0, 1, 2]), np.array([0, 0, -1]), np.array([7, 8, 8])) == Accuracy(1, 2)


def test_one_row_a_group_is_the_binomial_error():
    right = np.random.default_rng(0).random(200) < 0.7
    assert accuracy_of_right(right, np.random.default_rng(1).permutation(200)) == Accuracy(int(right.sum()), 200)


def test_copies_of_a_row_tell_nothing_more():
    right = np.arange(100) < 80
    alone, copied = accuracy_of_right(right), accuracy_of_right(np.repeat(right, 4), np.repeat(np.arange(100), 4))
    assert copied.value == alone.value and copied.n == 400
    assert copied.standard_error == pytest.approx(alone.standard_error, rel=0.01)
    assert copied.interval == pytest.approx(alone.interval, abs=0.002)


def test_the_error_is_that_of_photographs():
    """50 photographs of 4 questions, half of the photographs easy: 0.033 was said, 0.044 is true."""
    rng = np.random.default_rng(0)
    draws = [accuracy_of_right(*clustered(rng, 50, 0.7, 0.3)) for _ in range(1500)]
    spread = np.std([a.value for a in draws])
    assert spread == pytest.approx(0.044, abs=0.003)
    assert np.mean([a.standard_error for a in draws]) == pytest.approx(spread, rel=0.05)
    assert np.sqrt(0.7 * 0.3 / 200) == pytest.approx(0.0324, abs=1e-4)


@pytest.mark.parametrize(("groups", "share", "together", "sizes"), [
    (200, 0.7, 0.3, (1,)), (200, 0.98, 0.0, (1,)), (50, 0.7, 0.3, (4,)), (50, 0.9, 0.6, (1, 2, 3, 8)), (200, 0.95, 1.0, (4,)),
    (15, 0.7, 0.5, (4,)), (200, 0.98, 0.3, (1, 2, 3, 8)),
])
def test_the_interval_of_an_accuracy_holds_the_truth(groups, share, together, sizes):
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(600):
        low, high = accuracy_of_right(*clustered(rng, groups, share, together, sizes)).interval
        inside += low <= share <= high
    assert inside >= 0.93 * 600


def test_one_photograph_tells_next_to_nothing():
    one = accuracy_of_right(np.array([True, True, True, False]), np.zeros(4))
    assert one.interval == (0, 1) and one.standard_error > 0.2


def test_an_accuracy_survives_json_and_older_files_are_read():
    for accuracy in (accuracy_of_right(np.arange(12) < 9, np.arange(12) // 3), Accuracy(3, 4)):
        assert Accuracy.from_record(json.loads(json.dumps(accuracy.record))) == accuracy
    assert Accuracy(3, 4).record == [3, 4]


# %% the paired test
def test_one_row_a_group_is_mcnemars_exact_test():
    for better, worse in itertools.product(range(12), repeat=2):
        after = np.repeat([True, False, True], [better, worse, 20])
        before = np.repeat([False, True, True], [better, worse, 20])
        expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
        assert paired_gain(after, before).p_value == pytest.approx(expected, abs=1e-12)
        assert paired_gain(after, before, np.arange(len(after))).p_value == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=10))
def test_all_flips_of_the_signs_are_counted(changes):
    sums = np.array(list(itertools.product((1, -1), repeat=len(changes)))) @ changes
    assert sign_flip_p_value(np.array(changes)) == pytest.approx((np.abs(sums) >= abs(sum(changes))).mean(), abs=1e-12)


def test_thousands_of_groups_need_no_draws():
    rng = np.random.default_rng(0)
    changes = rng.choice([-2, -1, 0, 1, 2], 3000)
    changes[:20] = 2  # somewhat better
    flipped = (rng.integers(0, 2, (4000, 3000), dtype=np.int8) * 2 - 1).astype(np.float32) @ changes.astype(np.float32)
    drawn = (np.abs(flipped) >= abs(changes.sum())).mean()
    assert 0.01 < drawn < 0.9
    assert sign_flip_p_value(changes) == pytest.approx(drawn, abs=0.03)


def test_photographs_are_flipped_as_one():
    """Five photographs of 20 rows each, all better: 100 rows would be certainty, 5 photographs are not."""
    after, before, groups = np.ones(100, bool), np.zeros(100, bool), np.repeat(np.arange(5), 20)
    assert paired_gain(after, before, groups).p_value == 2 / 2**5
    assert paired_gain(after, before).p_value < 1e-20


def test_equal_models_differ_significantly_in_at_most_5_of_100_draws():
    rng = np.random.default_rng(0)
    significant = 0
    for _ in range(500):
        (after, groups), (before, _) = (clustered(rng, 60, 0.7, 0.5) for _ in range(2))
        significant += paired_gain(after, before, groups).p_value < 0.05
    assert 5 <= significant <= 33


# %% gain
@pytest.mark.parametrize(("better", "worse", "groups", "sizes", "together"), [
    (0.02, 0.0, 200, (1,), 0), (0.01, 0.01, 200, (1,), 0), (0.05, 0.01, 200, (1,), 0), (0.1, 0.1, 200, (1,), 0),
    (0.04, 0.01, 50, (4,), 0.3), (0.04, 0.01, 50, (4,), 1.0), (0.1, 0.05, 50, (1, 2, 3, 8), 0.5), (0.04, 0.0, 40, (1,), 0),
])
def test_the_interval_of_a_gain_holds_the_truth(better, worse, groups, sizes, together):
    """Few rows differ in most of these: a bootstrap said [0, 0] and was wrong."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        group = np.repeat(np.arange(groups), rng.choice(sizes, groups))
        drawn = np.where((rng.random(groups) < together)[group], rng.random(groups)[group], rng.random(len(group)))
        gain = paired_gain(drawn < better, (drawn >= better) & (drawn < better + worse), group)
        inside += gain.low <= better - worse <= gain.high
    assert inside >= 0.93 * 400


def test_interval_and_test_say_the_same():
    for better, worse, size in itertools.product(range(14), range(14), (1, 3)):
        counts = [better, worse, 30]
        after, before = np.repeat([True, False, True], counts), np.repeat([False, True, True], counts)
        groups = np.arange(len(after)) // size
        gain = paired_gain(after, before, groups)
        assert gain.low <= gain.value <= gain.high and gain.low < gain.high and gain.standard_error > 0
        if gain.p_value >= 0.05:
            assert gain.low <= 0 <= gain.high and not gain.is_better and not gain.is_worse
        elif gain.is_better:
            assert gain.low >= 0
        else:
            assert gain.is_worse and gain.high <= 0


def test_a_large_gain_is_seen():
    random = np.random.default_rng(0)
    before = random.random(1000) < 0.6
    after = before | (random.random(1000) < 0.3)
    gain = paired_gain(after, before)
    assert gain.is_better and 0 < gain.low < gain.value < gain.high
    # the paired error follows from the share of rows that changed
    assert gain.standard_error == pytest.approx(np.sqrt(gain.value * (1 - gain.value) / 1000), rel=0.1)
    assert paired_gain(before, after).is_worse and significantly_worse(before, after) and not significantly_worse(after, before)


def test_no_rows_are_no_gain():
    gain = paired_gain(np.zeros(0, bool), np.zeros(0, bool))
    assert gain.n == 0 and np.isnan(gain.value) and not gain.is_better and not gain.is_worse


def test_a_model_that_is_better_by_3_points_is_kept():
    """Compared by value alone on 67 rows it lost in 29 of 100 draws."""
    rng = np.random.default_rng(0)
    bare = tested = 0
    for _ in range(500):
        before, after = rng.random(67) < 0.67, rng.random(67) < 0.70
        bare += after.sum() < before.sum()
        tested += significantly_worse(after, before)
    assert bare > 125 and tested <= 10


# %% as text
@pytest.mark.parametrize("n", [1, 5, 200, 12_862, 1_000_000])
def test_no_error_reads_as_zero(n):
    same = np.zeros(n, bool)
    gain = paired_gain(same, same)
    texts = [str(gain), gain.in_points]
    for right in {0, 1, n - 1, n}:
        accuracy = Accuracy(right, n)
        texts += [str(accuracy), spell_error(accuracy.value, accuracy.standard_error), spell_points(accuracy.standard_error)]
        low, high = spell_interval(*accuracy.interval).split(" to ")
        assert low != high
    for text in texts:
        assert not text.endswith("± 0.000") and "± 0.000 " not in text and text not in ("0.0", "0.000")
        assert "[+0.000, +0.000]" not in text and "[-0.000, +0.000]" not in text and "[+0.0, +0.0]" not in text


def test_spelled_numbers():
    assert str(Gain(0.05, 0.01, 0.03, 0.07, 100, 0.01)) == "+0.050 [+0.030, +0.070]"
    assert Gain(0.0, 0.01, -0.0, 0.07, 100, 0.2).in_points == "+0.0 [+0.0, +7.0]"
    assert str(Accuracy(20, 20)) == "1.000 (95 %: 0.839 to 1.000, n=20)"
    assert spell_error(0.5, 0.0002) == "0.5000 ± 0.0002" and spell_points(0.026) == "2.6" and spell_points(0.0001) == "0.01"
    assert (spell_p_value(0.0005), spell_p_value(0.0312)) == ("p < 0.001", "p = 0.031")


# %% the best of several epochs
def epochs_of(rng, shares, n=200, changed=0.3) -> np.ndarray:
    """(E, N) right or wrong: from one epoch to another a share of the rows is answered anew."""
    base = rng.random(n)
    return np.array([np.where(rng.random(n) < changed, rng.random(n), base) < share for share in shares])


def test_the_optimism_of_five_equal_epochs_is_found():
    rng = np.random.default_rng(0)
    drawn = [epochs_of(rng, [0.8] * 5) for _ in range(250)]
    true = np.mean([right.mean(1).max() - 0.8 for right in drawn])
    assert true == pytest.approx(0.022, abs=0.003)
    assert np.mean([selection_optimism(right, draws=100) for right in drawn]) == pytest.approx(true, abs=0.004)


def test_a_choice_that_is_none_is_not_optimistic():
    rng = np.random.default_rng(0)
    right = rng.random(300) < 0.8
    assert selection_optimism(right[None]) == 0
    assert selection_optimism(np.array([right, right, right])) == pytest.approx(0, abs=0.005)
    assert selection_optimism(np.array([rng.random(300) < 0.3, right])) == pytest.approx(0, abs=0.005)  # the second by far
    assert selection_optimism(np.zeros((3, 0), bool)) == 0


def test_of_equal_epochs_the_one_of_lower_loss_is_chosen():
    right = np.array([[True, False] * 50, [False, True] * 50])
    groups = np.arange(100) // 2  # whatever is drawn, both are equally accurate
    assert selection_optimism(right, groups, np.array([0.5, 0.4])) == 0


def test_copies_of_rows_do_not_hide_the_optimism():
    rng = np.random.default_rng(0)
    right = epochs_of(rng, [0.8] * 5, n=60)
    copied = np.repeat(right, 4, axis=1)
    grouped = selection_optimism(copied, np.repeat(np.arange(60), 4))
    assert grouped == pytest.approx(selection_optimism(right), abs=1e-9)


@given(st.lists(st.booleans(), max_size=40))
def test_right_and_wrong_survive_a_log(values):
    right = np.array(values, dtype=bool)
    assert unpack_right(pack_right(right), len(right)).tolist() == values
    with pytest.raises(ValueError):
        unpack_right(pack_right(right), len(right) + 9)
