"""What a training row teaches."""
import numpy as np
import pytest

from mcvqa.data.questions import Question
from mcvqa.data.targets import Guidance, answer_target

ROW = Question("r", "r.jpg", "?", ("x", "y", "z"), answer=1, votes=(1, 3, 0))


@pytest.mark.parametrize(("question", "soft", "target"), [
    (ROW, False, [0, 1, 0]),
    (ROW, True, [0.25, 0.75, 0]),
    (Question("n", "", "?", ("x", "y")), False, [0, 0]),
    (Question("w", "", "?", ("x", "y"), answer=0, weight=0.5), False, [0.5, 0]),
    (Question("t", "", "?", ("x", "y"), answer=0, targets=(0.3, 0.7)), False, [0.3, 0.7]),
    (Question("t", "", "?", ("x", "y"), votes=(4, 0), targets=(0.5, 0.5), weight=2.0), True, [1, 1]),
])
def test_a_target_sums_to_the_weight_of_its_row(question, soft, target):
    np.testing.assert_allclose(answer_target(question, soft_votes=soft), target, rtol=1e-6)


def test_training_rows_are_guided_and_pseudo_labelled_rows_follow_them():
    rows = [Question(name, "", "?", ("x", "y"), answer=0) for name in "abc"]
    extra = Question("pseudo:t", "", "?", ("x", "y"), answer=1, source="pseudo")
    guidance = Guidance({"a": 0.0, "b": 2.0}, {"c": (0.5, 0.5)}, {1: (extra,)})
    assert [(q.id, q.weight, q.targets) for q in guidance.guided(rows, 0)] == [("b", 2.0, None), ("c", 1.0, (0.5, 0.5))]
    assert guidance.guided(rows, 1)[-1] is extra
    assert guidance.key(0) != guidance.key(1) != Guidance(pseudo={1: (extra,)}).key(1)
    assert Guidance(pseudo={1: (extra,)}).key(0) == Guidance().key(0) == {}, "keys of runs without guidance stay as they are"
