"""Evidence: what the columns hold, from scores whose numbers are known."""
import csv

import numpy as np
import pytest

from mcvqa.data.questions import Question
from mcvqa.insight.evidence import COLUMNS, Judged, Neighbour, Neighbours, gather_evidence, write_evidence
from mcvqa.insight.label_noise import LabelNoise, stacked_means
from mcvqa.scoring.scores import Scores, plain_scores

ROWS = (
    Question("r0", "a.png", "What color is it?", ("red", "green", "blue"), 0, votes=(2, 1, 0), source="train"),
    Question("r1", "b.png", "what color is it", ("red", "green"), 1, source="dev"),
)
PRIOR = np.log(np.array([[0.2, 0.5, 0.3], [0.4, 0.6, 1e-9]]))
ALONE = Neighbours(ROWS, {})


def scores_of(views, scales, n_choices=(3, 2)) -> Scores:
    """Args: views (N, K, C) probabilities; NaN: no such view."""
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.array(views, np.float32))
    slots = np.where(np.arange(3) < np.array(n_choices)[:, None], np.arange(3), -1)
    orders = np.repeat(slots[:, None], len(scales), 1).astype(np.int8)
    return Scores(np.array(["r0", "r1"]), logprobs, orders, np.array(scales, np.float32))


NO_VIEW = (np.nan,) * 3
SCORES = scores_of(
    [[(0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.5, 0.4, 0.1), (0.1, 0.8, 0.1)],
     [(0.1, 0.9, 0), NO_VIEW, (0.2, 0.8, 0), NO_VIEW]], (1.0, 1.0, 1.2, 1.2))


def gathered(judged: Judged, noise: LabelNoise | None = None, rows=ROWS, split: str = "train"):
    return gather_evidence(rows, split, [0, 1], PRIOR, ALONE, {"b.png": "no such file"}, judged, noise)


def test_orders_and_scales_are_counted_apart():
    first, second = gathered(Judged((SCORES,), stacked_means([SCORES]), 1.0))
    assert first.said == 1 and first.is_right is False and first.rank_of_truth == 2
    assert first.order_agreement == 0.5 and first.scale_agreement == 1.0, "each scale's mean says green"
    assert second.said == 1 and second.is_right and second.rank_of_truth == 1
    assert second.order_agreement is None and second.scale_agreement == 1.0, "its one order was scored at two scales"
    assert first.member_agreement is first.fold_agreement is second.member_agreement is None
    assert second.photograph_problem == "no such file" and first.prior == pytest.approx((0.2, 0.5, 0.3))


def test_a_scale_that_says_otherwise():
    scores = scores_of([[(0.6, 0.3, 0.1), (0.1, 0.8, 0.1)], [(0.1, 0.9, 0), (0.2, 0.8, 0)]], (1.0, 1.2))
    first, second = gathered(Judged((scores,), stacked_means([scores]), 1.0))
    assert (first.scale_agreement, second.scale_agreement) == (0.5, 1.0)


def test_probabilities_are_calibrated_and_spread_is_measured_on_them():
    scores = plain_scores(["r0", "r1"], np.log([[0.8, 0.1, 0.1], [0.5, 0.5, 1e-9]]), [3, 2], {})
    cold, warm = (gathered(Judged((scores,), stacked_means([scores]), t))[0] for t in (1.0, 2.0))
    assert cold.probabilities == pytest.approx((0.8, 0.1, 0.1)) and cold.margin == pytest.approx(0.7)
    assert warm.margin < cold.margin and warm.entropy > cold.entropy > 0
    even = gathered(Judged((scores,), stacked_means([scores]), 1.0))[1]
    assert even.entropy == pytest.approx(1) and even.margin == pytest.approx(0) and len(even.probabilities) == 2


def test_folds_and_members_that_agree():
    one, other = (plain_scores(["r0", "r1"], np.log(shares), [3, 2], {}) for shares in (
        [[0.8, 0.1, 0.1], [0.9, 0.1, 1e-9]], [[0.2, 0.7, 0.1], [0.8, 0.2, 1e-9]]))
    found = gathered(Judged((one, other, one), stacked_means([one, other]), 1.0), split="test")
    assert [row.fold_agreement for row in found] == [pytest.approx(2 / 3), 1.0]
    assert [row.member_agreement for row in found] == [0.5, 1.0]


def test_neighbours_are_found_by_photograph_and_by_text():
    rows = (
        *ROWS, Question("r2", "a2.png", "WHAT COLOR IS IT?", ("red", "teal"), 1),
        Question("r3", "a2.png", "How many?", ("1", "2"), 0),
        Question("tied", "a.png", "What color is it?", ("red", "blue"), None),
    )
    neighbours = Neighbours(rows, {"a.png": 0, "a2.png": 0, "b.png": 1})
    alike, elsewhere = neighbours.of(rows[0])
    assert alike == [Neighbour("r2", "teal", True), Neighbour("r3", "1", False)]
    assert elsewhere == [Neighbour("r1", "green", True)]
    assert neighbours.of(Question("new", "c.png", "What colour?", ("red", "green"))) == ([], [])


def test_the_table_has_every_column_and_runs_no_formula(tmp_path):
    rows = (Question("=1+1", "a.png", "-What?", ("@red", "green", "blue"), 0, votes=(2, 1, 0), source="train"), ROWS[1])
    noise = LabelNoise(np.array([0.9, np.nan]), np.array([0.25, np.nan]), np.array([2, 0]), 0.1, np.ones(1))
    evidence = gathered(Judged((SCORES,), stacked_means([SCORES]), 1.0), noise, rows)
    write_evidence(tmp_path / "evidence.csv", evidence)
    assert (tmp_path / "evidence.csv").read_bytes().startswith(b"\xef\xbb\xbf"), "without the mark, Excel reads Korean as cp949"
    with open(tmp_path / "evidence.csv", encoding="utf-8-sig", newline="") as handle:
        first, second = csv.DictReader(handle)
    assert tuple(first) == COLUMNS
    assert first["id"] == "'=1+1" and first["question"] == "'-What?" and first["truth_text"] == "'@red"
    assert (first["truth"], first["said"], first["proposed"], first["label_wrong"]) == ("a", "b", "c", "0.25")
    assert (second["label_wrong"], second["proposed"], second["order_agreement"]) == ("", "", "")
    assert first["votes"] == "2 1 0" and first["prior_said"] == "b" and first["prior_of_truth"] == "0.2"
    assert first["choices"] == "'@red | green | blue"
