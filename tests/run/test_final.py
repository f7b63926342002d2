"""final_fit: after the folds one model on all labelled rows, and what becomes of it."""
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcvqa import run
from mcvqa.answer.answerer import Answerer
from mcvqa.answer.export import export_run
from mcvqa.answer.trained import find_trained, fold_number
from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, ConfigError
from mcvqa.data.folds import FINAL
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.final_steps import final_steps
from mcvqa.run.folds import split_rows
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import combine_only, predict_only, train_only
from mcvqa.scoring.scores import load_scores
from tests.conftest import make_dataset, other_weights, tiny_settings


def read(config: Config) -> RunData:
    return split_rows(read_data(open_project(config)), config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Config:
    """A finished run of two folds of two epochs, and a final model."""
    top = tmp_path_factory.mktemp("final")
    config = tiny_settings(
        top, data_dir=str(make_dataset(top / "data")), n_folds=2, num_epochs=2, run_name="r", final_fit=True)
    run(config)
    return config


def folder_of(config: Config, *parts: str) -> Path:
    return Path(config.output_dir).joinpath(*parts)


def test_it_learns_from_all_rows_as_long_as_the_folds(finished):
    data, project = read(finished), open_project(finished)
    train, validation = data.fold_rows(FINAL)
    assert train == list(data.train) and validation == []
    best = [read_json(folder_of(finished, f"checkpoints/r/fold{fold}/result.json"))["best_epoch"] + 1 for fold in (0, 1)]
    course, taken = final_steps(project, data)
    assert course == 2 * 3 and taken == round(np.mean(best) * 3), "24 rows, 8 in a step"
    assert read_json(folder_of(finished, "checkpoints/r/final/result.json"))["steps"] == taken


def test_steps_are_those_of_best_epochs_and_of_shortened_trainings(finished):
    data, project = read(finished), open_project(finished)
    files = [folder_of(finished, f"checkpoints/r/fold{fold}/result.json") for fold in (0, 1)]
    before = [read_json(file) for file in files]
    try:
        for file, facts, best in zip(files, before, (0, 1), strict=True):
            write_json(file, facts | {"best_epoch": best, "steps": 4})
        assert final_steps(project, data) == (6, round(1.5 * 3))
        kept_last = open_project(finished.replace(keep="last"))
        assert final_steps(kept_last, data) == (6, 6)
        for file, facts in zip(files, before, strict=True):
            write_json(file, facts | {"best_epoch": 0, "steps": 1})
        assert final_steps(project, data) == (2, 2), "a time budget ended after half an epoch"
    finally:
        for file, facts in zip(files, before, strict=True):
            write_json(file, facts)


def test_it_answers_the_test_rows_with_the_folds(finished):
    member = combine_only(finished).members[0]
    assert member.final and member.models == "r (2 folds and final)" and len(member.test) == 3
    own = load_scores(folder_of(finished, "experiments/r/scores/final-test.npz"))
    np.testing.assert_array_equal(member.test[-1].logprobs, own.logprobs)
    with open(folder_of(finished, "experiments/r/test_predictions.csv"), newline="", encoding="utf-8") as handle:
        shares = np.array([float(row["prob_a"]) for row in csv.DictReader(handle)])
    np.testing.assert_allclose(shares, np.mean([np.exp(s.mean()[:, 0]) for s in member.test], axis=0), rtol=1e-5)


def test_its_accuracy_is_said_to_be_not_measured(finished):
    page = folder_of(finished, "experiments/r/report.html").read_text(encoding="utf-8")
    assert "No rows are left to measure its accuracy" in page and "정확도를 측정할 수 없습니다" in page
    metrics = read_json(folder_of(finished, "experiments/r/metrics.json"))["metrics"]
    assert [group["name"] for group in metrics["by_fold"]] == ["fold 0", "fold 1"]


def test_it_is_not_trained_again_unless_it_is_damaged(finished, capsys):
    weights = folder_of(finished, "checkpoints/r/final/result.json")
    before, scores = weights.stat().st_mtime_ns, load_scores(folder_of(finished, "experiments/r/scores/final-test.npz"))
    run(finished)
    assert weights.stat().st_mtime_ns == before
    shutil.rmtree(weights.parent / "best")
    with pytest.raises(RunStopped, match="the final model of the run 'r' is not trained and scored"):
        combine_only(finished)
    run(finished)
    again = load_scores(folder_of(finished, "experiments/r/scores/final-test.npz"))
    assert weights.stat().st_mtime_ns > before
    np.testing.assert_array_equal(again.logprobs, scores.logprobs)


def test_without_the_setting_it_is_never_read(finished):
    combined = combine_only(finished.replace(final_fit=False))
    assert not combined.members[0].final and len(combined.members[0].test) == 2
    combine_only(finished)


def test_as_a_member_of_another_run_it_comes_along(finished):
    other = finished.replace(run_name="other", final_fit=False, num_epochs=0, members=("r",))
    run(other)
    assert combine_only(other).members[1].models == "r (2 folds and final)"


def test_answers_come_from_it_alone_or_with_the_folds(finished):
    answerer = Answerer(finished, fold="final")
    assert answerer.trained.folds == (FINAL,)
    assert find_trained(finished).folds == (0, 1, FINAL)
    with pytest.raises(RunStopped, match=r"There is no final model \(final_fit=true trains one\): the run has folds 0, 1"):
        find_trained(finished.replace(final_fit=False), FINAL)
    with pytest.raises(ConfigError, match="write the number of a fold, counted from 0, or final"):
        fold_number("last")


def test_it_is_what_is_exported_where_it_is_there(finished, tmp_path, capsys):
    export_run(finished, tmp_path / "model")
    assert "the final model of r" in capsys.readouterr().out
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "# r, final model" in card and "24 labelled rows; the model was trained on all of them." in card
    assert "Not measured: this model was trained on all labelled rows." in card
    assert "The run's folds, trained in the same way" in card
    assert len(json.loads((tmp_path / "model/trained_on.json").read_text())["photographs"]) > 0
    export_run(finished, tmp_path / "fold", fold=1)
    assert "# r, fold 1" in (tmp_path / "fold" / "README.md").read_text(encoding="utf-8")


def test_pseudo_labels_of_the_final_model_are_what_all_folds_say(finished):
    data = read(finished.replace(run_name="taught", pseudo="r", pseudo_min=0.0, pseudo_targets="soft"))
    rows = data.guidance.pseudo[FINAL]
    assert len(rows) == 9
    scores = [load_scores(folder_of(finished, f"experiments/r/scores/fold{fold}-test.npz")).mean()[0] for fold in (0, 1)]
    mean = np.exp(np.mean(scores, axis=0))
    np.testing.assert_allclose(rows[0].targets, (mean / mean.sum())[: len(rows[0].choices)], rtol=1e-5)


def test_a_later_session_takes_it_over(finished, tmp_path, capsys):
    run(finished.replace(output_dir=str(tmp_path), resume_from=finished.output_dir))
    assert "final epoch" not in capsys.readouterr().err
    made = [Path(base) / "checkpoints/r/final/result.json" for base in (finished.output_dir, tmp_path)]
    assert made[0].read_bytes() == made[1].read_bytes()


@pytest.mark.nightly
def test_it_is_left_out_while_a_fold_that_it_follows_was_trained_again(finished, tmp_path):
    """It learned for as long as earlier folds did, and answered and blended with the new ones."""
    config = finished.replace(output_dir=str(shutil.copytree(finished.output_dir, tmp_path / "out")))
    other = config.replace(run_name="other", final_fit=False, num_epochs=0, members=("r",))
    shutil.rmtree(folder_of(config, "checkpoints/r/fold1"))
    with other_weights():
        train_only(config, 1)
    with pytest.raises(RunStopped, match="lacks the final model: finish it"):
        find_trained(config)
    predict_only(config)
    run(other)
    assert combine_only(other).members[1].models == "r (2 folds)"
    with pytest.raises(RunStopped, match="the final model of the run 'r' is not trained and scored"):
        combine_only(config)
    run(config)
    assert find_trained(config).folds == (0, 1, FINAL)
    assert combine_only(other).members[1].models == "r (2 folds and final)"


def test_without_time_for_it_the_folds_are_handed_in(tmp_path, dataset, capsys, monkeypatch):
    monkeypatch.setattr("mcvqa.run.final_fit.TIME_OF_FINAL", 1e6)
    outcome = run(tiny_settings(
        tmp_path, data_dir=str(dataset), use_kfold=False, run_name="short", final_fit=True, time_budget="20m"))
    said = capsys.readouterr().out
    assert "no final model: it would take about" in said and "left out: the final model" in said and outcome.submission.exists()
