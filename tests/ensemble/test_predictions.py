"""The predictions of a run as tables: what stands in them, that they can be members, and that nobody takes them for data."""
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcvqa.data.locate import WRITTEN_BY_RUNS
from mcvqa.data.questions import Question
from mcvqa.ensemble.blend import Member, blend_members
from mcvqa.ensemble.predictions import (
    OOF_PREDICTIONS,
    TEST_PREDICTIONS,
    is_of_run,
    mean_probabilities,
    most_probable,
    stored_member,
    write_run_predictions,
)
from mcvqa.insight.audit import FIXES
from mcvqa.insight.evidence import EVIDENCE
from mcvqa.run.dataset import read_data
from mcvqa.run.project import open_project
from mcvqa.scoring.scores import Scores, plain_scores
from tests.conftest import make_dataset, tiny_settings

TEST = (Question("=1+1", "a.jpg", "?", ("red", "green", "blue")), Question("t2", "b.jpg", "?", ("yes", "no")))
TRAIN = tuple(Question(f"r{i}", "c.jpg", "?", ("red", "green", "blue"), answer=i % 3) for i in range(6))


def scores_of(questions, shares) -> Scores:
    with np.errstate(divide="ignore"):
        return plain_scores([q.id for q in questions], np.log(shares), [len(q.choices) for q in questions], {})


@pytest.fixture
def member() -> Member:
    folds = [[[0.1, 0.9, 0.0], [0.6, 0.4, 0.0]], [[0.5, 0.1, 0.4], [0.2, 0.8, 0.0]]]
    oof = scores_of(TRAIN[:4], [[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])
    return Member("r", oof, tuple(scores_of(TEST, np.array(shares)) for shares in folds))


def read(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_one_line_a_row_with_the_mean_of_the_folds(member, tmp_path):
    write_run_predictions(tmp_path, member, TRAIN, np.array([0, 1, 0, 1, -1, -1]), TEST, "one")
    first, second = read(tmp_path / TEST_PREDICTIONS)
    assert first == {"id": "'=1+1", "answer": "2", "prob_a": "0.3", "prob_b": "0.5", "prob_c": "0.2"}
    assert second == {"id": "t2", "answer": "2", "prob_a": "0.4", "prob_b": "0.6", "prob_c": ""}
    rows = read(tmp_path / OOF_PREDICTIONS)
    assert [(row["id"], row["answer"], row["fold"], row["truth"]) for row in rows] == [
        ("r0", "1", "0", "1"), ("r1", "1", "1", "2"), ("r2", "3", "0", "3"), ("r3", "1", "1", "1")]


def test_choices_that_are_equally_probable_are_not_always_the_first():
    shares, ids = np.tile([0.4, 0.4, 0.2], (40, 1)), [f"row {i}" for i in range(40)]
    chosen = most_probable(shares, ids)
    assert set(chosen.tolist()) == {0, 1} and (chosen == most_probable(shares, ids)).all()


def test_views_are_averaged_before_folds():
    """The geometric mean of a row's views, the arithmetic one of the folds, as the name says."""
    views = np.log(np.array([[[0.9, 0.1], [0.5, 0.5]]], np.float32))
    scores = Scores(np.array(["x"]), views, np.array([[[0, 1], [1, 0]]], np.int8), np.ones(2, np.float32))
    assert np.allclose(mean_probabilities([scores]), [[0.75, 0.25]])


def test_they_are_a_member_with_its_out_of_fold_rows(member, tmp_path):
    folder = tmp_path / "other-run"
    write_run_predictions(folder, member, TRAIN, np.array([0, 1, 0, 1, -1, -1]), TEST, "lower")
    assert is_of_run(folder / TEST_PREDICTIONS)
    found = stored_member(folder / TEST_PREDICTIONS, TEST, TRAIN, None)
    assert found.name == "other-run" and found.oof is not None
    assert found.oof.ids.tolist() == ["r0", "r1", "r2", "r3"]
    assert np.allclose(np.exp(found.oof.mean()), mean_probabilities([member.oof]), atol=1e-6)
    assert np.allclose(np.exp(found.test[0].mean()), mean_probabilities(member.test), atol=1e-6)
    blend = blend_members([member, found], {q.id: q.answer for q in TRAIN})
    assert len(blend.oof_ids) == 4, "it is judged on rows that it has not learned from"


def test_a_file_by_itself_is_anybodys(tmp_path):
    assert not is_of_run(tmp_path / TEST_PREDICTIONS)
    (tmp_path / OOF_PREDICTIONS).write_text("id,answer\nr0,a\n")
    assert not is_of_run(tmp_path / "friend.csv") and is_of_run(tmp_path / TEST_PREDICTIONS)


# %% never input
def test_the_search_for_data_knows_their_names():
    assert {f"{stem}.csv" for stem in WRITTEN_BY_RUNS} == {OOF_PREDICTIONS, TEST_PREDICTIONS, EVIDENCE, FIXES}


@pytest.mark.parametrize("where", ["data", "data/experiments/r", "data/old/experiments/r"])
@pytest.mark.parametrize("with_test", [True, False])
def test_the_search_for_data_passes_them_over(member, tmp_path, where, with_test):
    """Beside train.csv, and in the output folder of a run inside the data folder, another run's included."""
    data = make_dataset(tmp_path / "data", 12, 3)
    if not with_test:
        shutil.rmtree(data / "test")
        (data / "test.csv").unlink()
    write_run_predictions(tmp_path / where, member, TRAIN, np.array([0, 1, 0, 1, -1, -1]), TEST, "lower")
    found = read_data(open_project(tiny_settings(data, data_dir=str(data))))
    assert (len(found.train), len(found.test)) == (12, 3 if with_test else 0)
    assert found.files.train == data / "train.csv"
