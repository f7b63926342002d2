import dataclasses

import numpy as np
import pytest

from mcvqa.base.files import DamagedFile
from mcvqa.scoring.scores import Scores, joined, load_scores, log_softmax, plain_scores

INF = np.inf


def two_ways() -> Scores:
    """Three rows with 3, 2 and 3 choices; the last was asked in one way only."""
    logprobs = np.array([
        [[np.log(0.5), np.log(0.3), np.log(0.2)], [np.log(0.1), np.log(0.8), np.log(0.1)]],
        [[np.log(0.6), np.log(0.4), -INF], [np.log(0.6), np.log(0.4), -INF]],
        [[np.log(0.2), np.log(0.2), np.log(0.6)], [np.nan, np.nan, np.nan]],
    ], np.float32)
    orders = np.array([[[0, 1, 2], [1, 2, 0]], [[0, 1, -1], [1, 0, -1]], [[0, 1, 2], [-1, -1, -1]]], np.int8)
    ids, scales = np.array(["007", "b,é", "가"]), np.ones(2, np.float32)
    return Scores(ids, logprobs, orders, scales, {"run": "시험", "fold": 1})


def test_round_trip(tmp_path):
    scores = two_ways()
    scores.save(tmp_path / "new" / "oof.npz")
    again = load_scores(tmp_path / "new" / "oof.npz")
    for name in ("ids", "logprobs", "orders", "scales"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
    assert again.provenance == scores.provenance | {"content": scores.content}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["oof.npz"]


@pytest.mark.parametrize("name", ["ids", "logprobs", "orders", "scales"])
def test_figures_that_were_edited_are_refused_by_name(tmp_path, name):
    """By numpy or by this class: the digest in the provenance is that of what was scored."""
    file = tmp_path / "fold0-test.npz"
    two_ways().save(file)
    scores = load_scores(file)
    edited = dict(zip(("ids", "logprobs", "orders", "scales"), (
        np.array(["7", "b", "c"]), scores.logprobs[:, ::-1], scores.orders[:, ::-1], scores.scales * 2), strict=True))[name]
    dataclasses.replace(scores, **{name: edited}).save(file)
    with pytest.raises(DamagedFile, match=r"fold0-test\.npz is damaged: its contents were changed"):
        load_scores(file)
    two_ways().save(file)
    with np.load(file) as arrays:
        held = dict(arrays)
    np.savez(file, **held | {name: edited})
    with pytest.raises(DamagedFile, match=r"fold0-test\.npz is damaged: its contents were changed"):
        load_scores(file)


def test_pickled_content_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "bad.npz", ids=np.array([Trap()], dtype=object))
    (tmp_path / "sprung").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_scores(tmp_path / "bad.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "fold0-oof.npz"
    two_ways().save(file)
    whole, random = file.read_bytes(), np.random.default_rng(0)
    damaged = [whole[:size] for size in (0, 1, 30, len(whole) // 2, len(whole) - 1)] + [b"x" * 100, whole[:60] + b"\0" * 60]
    positions = random.integers(len(whole), size=40)
    damaged += [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in positions]
    refused = 0
    for content in damaged:
        file.write_bytes(content)
        try:
            load_scores(file)  # a changed date of an entry does no harm
        except DamagedFile as error:
            assert str(error).startswith(f"{file} is damaged: ")
            refused += 1
    assert refused > 30
    with pytest.raises(FileNotFoundError):
        load_scores(tmp_path / "none.npz")


def test_shapes_must_fit():
    scores = two_ways()
    with pytest.raises(ValueError, match="do not fit"):
        Scores(scores.ids[:2], scores.logprobs, scores.orders, scores.scales)


def test_mean_is_geometric_over_the_ways_that_were_asked():
    mean = np.exp(two_ways().mean())
    wanted = np.sqrt([0.5 * 0.1, 0.3 * 0.8, 0.2 * 0.1])
    np.testing.assert_allclose(mean[0], wanted / wanted.sum(), rtol=1e-6)
    np.testing.assert_allclose(mean[1], [0.6, 0.4, 0.0], rtol=1e-6)
    np.testing.assert_allclose(mean[2], [0.2, 0.2, 0.6], rtol=1e-6)
    assert two_ways().predictions().tolist() == [1, 0, 2]
    assert two_ways().n_choices.tolist() == [3, 2, 3]


def test_per_view_sums_to_one_among_the_row_s_choices():
    scores = two_ways()
    shares = np.exp(Scores(scores.ids, scores.logprobs - 3, scores.orders, scores.scales).per_view())
    np.testing.assert_allclose(shares[:2].sum(-1), 1, rtol=1e-6)
    assert np.isnan(shares[2, 1]).all() and shares[1, 0, 2] == 0


def test_rows_follow_the_index():
    part = two_ways().rows(np.array([2, 0]))
    assert part.ids.tolist() == ["가", "007"] and part.predictions().tolist() == [2, 1]


def test_log_softmax_ignores_what_is_not_there():
    np.testing.assert_allclose(np.exp(log_softmax(np.array([1000.0, 1000.0, -INF]))), [0.5, 0.5, 0.0])


def test_plain_scores_hide_choices_a_row_does_not_have():
    scores = plain_scores(["x", "y"], np.zeros((2, 3)), [2, 3], {})
    assert scores.logprobs[0, 0].tolist() == [0, 0, -INF] and scores.orders[0, 0].tolist() == [0, 1, -1]
    np.testing.assert_allclose(np.exp(scores.mean()[0]), [0.5, 0.5, 0])


def test_joined_folds_keep_every_row_s_figures():
    narrow = plain_scores(["p"], np.log([[0.9, 0.1]]), [2], {"fold": 0})
    whole = joined([narrow, two_ways()])
    assert whole.ids.tolist() == ["p", "007", "b,é", "가"]
    assert whole.logprobs.shape == (4, 2, 3) and whole.n_choices.tolist() == [2, 3, 2, 3]
    np.testing.assert_allclose(np.exp(whole.mean()[0]), [0.9, 0.1, 0], rtol=1e-6)
    np.testing.assert_allclose(whole.mean()[1:], two_ways().mean())
    assert np.isnan(whole.logprobs[0, 1]).all()


def test_a_fold_asked_in_one_way_is_not_labelled_with_another_fold_s_scale():
    """Within a time budget: the plain fold was shown as read at the first scale of the others, 0.9."""
    plain = plain_scores(["p"], np.log([[0.9, 0.1]]), [2], {"fold": 0})
    several = plain_scores(["q"], np.log([[0.6, 0.4]]), [2], {"fold": 1})
    richer = Scores(
        several.ids, np.repeat(several.logprobs, 3, 1), np.repeat(several.orders, 3, 1), np.array([0.9, 1.0, 1.1], np.float32)
    )
    whole = joined([plain, richer])
    np.testing.assert_allclose(whole.scales, [1.0, 0.9, 1.1])
    assert (~np.isnan(whole.logprobs[:, :, 0])).tolist() == [[True, False, False], [True, True, True]]
    assert whole.n_choices.tolist() == [2, 2]
    np.testing.assert_allclose(np.exp(whole.mean()), [[0.9, 0.1], [0.6, 0.4]], rtol=1e-6)
    apart = joined([plain, dataclasses.replace(richer, scales=np.array([0.9, 1.1, 1.2], np.float32))])
    assert apart.n_choices.tolist() == [2, 2] and apart.logprobs.shape == (2, 4, 2)
