"""The ten steps as a user runs them, on real files with the tiny model: what is there afterwards, and what a second call does."""
import contextlib
import csv
import dataclasses
import io
import re
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from mcvqa import run
from mcvqa.base.files import DiskError, RunLog, read_json
from mcvqa.base.plots import draw_each
from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import Config, ConfigError, settings_hash
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_encoder
from mcvqa.model.vision.features import bytes_needed
from mcvqa.report.submission import find_form, validate_submission
from mcvqa.run import model_side
from mcvqa.run import steps as pipeline
from mcvqa.run.dataset import read_data
from mcvqa.run.execution import prepare_model
from mcvqa.run.folds import split_rows
from mcvqa.run.model_side import ModelSide, features_fit, images_seen, plan_weights
from mcvqa.run.project import Project, RunStopped, open_project
from mcvqa.run.single import combine_only, predict_only, report_only, train_only
from mcvqa.run.space import DiskNeed
from mcvqa.run.submissions import ENSEMBLE_FILE, Answers, read_submitted, write_answers
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import CheckpointError, adapter_hash, verified
from tests.conftest import make_dataset, tiny_settings
from tests.model.other_families import save_family
from tests.run.conftest import figures_made_by


def said_by(step, *args):
    """(what `step` returns, what it prints)"""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        result = step(*args)
    return result, said.getvalue()


def short_run(data: Path, out: Path, **changes) -> Config:
    return tiny_settings(out, **dict(data_dir=str(data), n_folds=2, run_name="r") | changes)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """One run of everything. Tests that go on from it work on a copy of its folder."""
    config = short_run(dataset, tmp_path_factory.mktemp("finished"))
    with figures_made_by(draw_each):
        outcome, said = said_by(run, config)
    paths = open_project(config).paths
    return SimpleNamespace(config=config, outcome=outcome, said=said, paths=paths, root=Path(config.output_dir))


@pytest.fixture
def copied(finished, tmp_path):
    """copied(**changes) -> settings that go on in a copy of the finished run's folder."""
    shutil.copytree(finished.root, tmp_path / "out")
    return lambda **changes: finished.config.replace(output_dir=str(tmp_path / "out"), **changes)


@pytest.fixture
def data_copy(tmp_path) -> Path:
    return make_dataset(tmp_path / "data")


def answers_in(file: Path) -> dict[str, str]:
    with open(file, newline="", encoding="utf-8") as handle:
        return {row["id"]: row["answer"] for row in csv.DictReader(handle)}


def load_side(config: Config) -> tuple[Project, ModelSide]:
    project = open_project(config)
    data = split_rows(read_data(project), config)
    return project, ModelSide(project, data, plan_weights(project, plan_device(config)), keep_features=True)


def ensemble_file(config: Config) -> Path:
    return Path(config.output_dir) / "outputs" / "submission_ensemble.csv"


# %% everything, once
@pytest.mark.parametrize(("family", "dora"), [
    ("qwen3_vl", False), pytest.param("qwen3_vl", True, marks=pytest.mark.nightly),
    pytest.param("idefics3", False, marks=pytest.mark.nightly),
])
def test_other_families_go_all_the_way(dataset, tmp_path, family, dora):
    """By the fast path and by the plain one: two folds, several orders and scales, features only where there is a fast path."""
    config = short_run(
        dataset, tmp_path / "out", model_id=save_family(family, tmp_path / "model"), image_size=64, num_epochs=1, use_tta=True,
        train_orders=2, order_consistency=0.1, tta_orders=2, tta_scales=(1.0, 1.5), use_dora=dora,
    )
    outcome, said = said_by(run, config)
    assert re.findall(r"^\[(\d+)/10\]", said, re.MULTILINE) == [str(n) for n in range(1, 11)]
    assert not validate_submission(outcome.submission, read_questions(dataset / "test.csv", labelled=False).questions).problems
    assert outcome.accuracy.n == 24
    assert bool(list((tmp_path / "out").rglob("features/*/*.npy"))) == (family == "qwen3_vl")
    assert ("has no fast path" in said) == (family == "idefics3")
    assert ("use_dora=true uses PEFT's layers" in said) == dora


def test_each_of_the_ten_steps_is_announced_once_and_in_order(finished):
    assert re.findall(r"^\[(\d+)/10\]", finished.said, re.MULTILINE) == [str(n) for n in range(1, 11)]


def test_submissions_are_valid(finished, dataset):
    questions = read_questions(dataset / "test.csv", labelled=False).questions
    form = find_form(questions, dataset / "sample_submission.csv", read_questions(dataset / "train.csv").convention)
    for name in ("single", "ensemble"):
        report = validate_submission(finished.paths.outputs / f"submission_{name}.csv", questions, form)
        assert not report.problems and report.rows == 9
    assert finished.outcome.submission == finished.paths.outputs / "submission_ensemble.csv"
    assert read_submitted(finished.paths.outputs / "submission_single.csv").source == "fold 0 of r"
    # nine photographs of noise teach little: the model's answers are handed in unless the prior is significantly better
    held = read_submitted(finished.outcome.submission)
    assert held.source.startswith("geometric mean of r") and held == finished.outcome.submitted
    own = finished.paths.experiment / "submission.csv"
    assert own.read_bytes() == finished.outcome.submission.read_bytes()


def test_the_accuracy_of_a_run_is_that_of_the_file_handed_in(copied, capsys):
    """A run whose answers are worse says so, and shows the accuracy of the file that stays."""
    config = copied()
    project = open_project(config)
    data = split_rows(read_data(project), config)
    held = project.paths.outputs / ENSEMBLE_FILE
    better = Answers("votes of better", np.ones(9, int), np.array([q.id for q in data.train]), np.ones(24, bool))
    write_answers(open_project(config.replace(run_name="better")), data, better, held)
    outcome, said = said_by(report_only, config)
    assert (outcome.submitted.run, outcome.accuracy) == ("better", Accuracy(24, 24)) and set(answers_in(held).values()) == {"b"}
    assert outcome.metrics.overall.accuracy != outcome.accuracy and "votes of better of the run 'better'" in said
    for page in ("REPORT.md", "report.html"):
        shown = (project.paths.experiment / page).read_text(encoding="utf-8")
        assert "The submission contains the answers of the run better (votes of better): accuracy 100.0%" in shown
        assert "(95%: 86.2–100.0%, n = 24)" in shown
    assert set(answers_in(project.paths.experiment / "submission.csv").values()) != {"b"}
    said_by(combine_only, config)
    said_by(lambda: combine_only(config, force=True))
    assert read_submitted(held).run == "r"


def test_scores_are_what_later_rooms_expect(finished):
    """Each training row is scored once, by the fold that has not learned from it; each test row by both folds."""
    with open(finished.paths.experiment / "folds.csv", encoding="utf-8") as handle:
        folds = {row["id"]: int(row["fold"]) for row in csv.DictReader(handle)}
    for fold in (0, 1):
        oof, test = (load_scores(finished.paths.scores / f"fold{fold}-{split}.npz") for split in ("oof", "test"))
        assert set(oof.ids.tolist()) == {name for name, f in folds.items() if f == fold}
        assert test.ids.tolist() == [f"test_{i:04d}" for i in range(9)]
        assert oof.logprobs.dtype == np.float32 and oof.logprobs.shape == (12, 1, 4) and test.orders.shape == (9, 1, 4)
        assert test.n_choices.tolist() == [4, 4, 2] * 3 and (test.logprobs[2, 0, 2:] == -np.inf).all()
        for split, scores in (("oof", oof), ("test", test)):
            record = read_json(finished.paths.experiment / "tasks" / f"score-fold-{fold}-{split}.json")
            assert scores.provenance == {
                "run": "r", "fold": fold, "split": split, "adapter": adapter_hash(finished.paths.fold(fold) / "best"),
                "config": settings_hash(finished.config.weight_settings()), "precision": "float32", "four_bit": False,
                "task": record["key"], "content": scores.content,
            }
    assert finished.outcome.accuracy.n == 24


def test_checkpoints_are_whole(finished):
    for fold in (0, 1):
        for name in ("best", "last"):
            assert verified(finished.paths.fold(fold) / name)["fold"] == fold
        assert read_json(finished.paths.fold(fold) / "result.json")["trained_parameters"] > 0
    first, second = (adapter_hash(finished.paths.fold(fold) / "best") for fold in (0, 1))
    assert first != second


def test_the_experiment_can_be_read_and_repeated(finished):
    folder = finished.paths.experiment
    assert Config(**yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))) == finished.config
    record = read_json(folder / "metrics.json")
    accuracy = finished.outcome.accuracy
    assert record["status"] == "finished" and record["seconds"] > 0
    overall = record["metrics"]["overall"]
    assert (overall["accuracy"]["right"], overall["accuracy"]["n"]) == (accuracy.right, 24)
    assert overall["blind"]["n"] == 24, "blind accuracy stands beside it"
    report = (folder / "REPORT.md").read_text(encoding="utf-8")
    assert f"| {accuracy.value:.1%} | ± {accuracy.standard_error:.1%}, n = 24 |" in report
    figures = re.findall(r"\]\(([\w./-]+\.png)\)", report)
    assert figures and all((folder / name).stat().st_size > 1000 for name in figures), "drawn, not blank"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.count("data:image/png;base64,") >= len(figures)
    index = (folder.parent / "README.md").read_text(encoding="utf-8")
    assert f"[r](r/REPORT.md) | {accuracy}" in index


def test_the_log_holds_every_figure(finished):
    log = RunLog(finished.paths.log)
    steps = log.events("step")
    assert [(s["fold"], s["step"]) for s in steps] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert all({"loss", "lr", "grad_norm", "skipped", "rows_per_s"} <= set(s) for s in steps)
    assert {(e["fold"], e["variant"]) for e in log.events("epoch")} == {(f, v) for f in (0, 1) for v in ("raw", "ema")}
    assert {(e["fold"], e["split"], e["rows"]) for e in log.events("scored")} == {
        (f, split, n) for f in (0, 1) for split, n in (("oof", 12), ("test", 9))
    }
    assert len(log.events("session")) == 1
    assert {event: len(log.events(event)) for event in ("prior", "folds", "features", "ensemble", "result")} == {
        "prior": 1, "folds": 1, "features": 1, "ensemble": 1, "result": 1,
    }
    assert log.events("result")[0]["accuracy"] == finished.outcome.accuracy.value


def test_nothing_is_left_half_written(finished):
    assert not [p for p in finished.root.rglob("*") if p.name.endswith((".part", ".old"))]


# %% once more
def test_a_second_run_does_nothing_again_and_says_so(finished, copied):
    config = copied()
    outcome, said = said_by(run, config)
    for fold in (0, 1):
        assert f"fold {fold}: already trained" in said and f"fold {fold}: already scored" in said
    assert "already done" in said and "[6/10] model: every fold is trained and scored" in said, "not even the model is loaded"
    log = RunLog(open_project(config).paths.log)
    assert len(log.events("step")) == 4 and len(log.events("scored")) == 4 and len(log.events("session")) == 2
    assert outcome.submission.read_bytes() == finished.outcome.submission.read_bytes()
    assert outcome.accuracy == finished.outcome.accuracy


def test_other_tta_settings_score_again_and_do_not_train_again(finished, copied):
    config = copied(use_tta=True, tta_orders=4, tta_scales=(1.0, 1.3))
    said_by(train_only, config)
    said_by(predict_only, config)
    blend = said_by(combine_only, config)[1]
    log = RunLog(open_project(config).paths.log)
    assert len(log.events("step")) == 4 and len(log.events("scored")) == 8 and "valid: 9 rows" in blend
    assert "  out of fold: " in blend and "stacking" not in blend, "one member: one accuracy"
    scores = load_scores(open_project(config).paths.scores / "fold0-test.npz")
    assert scores.logprobs.shape == (9, 8, 4)
    np.testing.assert_allclose(scores.scales, [1.0] * 4 + [1.3] * 4)
    assert (~np.isnan(scores.logprobs[2, :, 0])).sum() == 4, "two choices have two orders, at each scale"
    assert np.ptp(scores.per_view()[0, :4, 0]) > 0, "orders make a difference"
    np.testing.assert_allclose(
        scores.logprobs[:, 0], load_scores(finished.paths.scores / "fold0-test.npz").logprobs[:, 0], atol=1e-5
    )
    said_by(report_only, config)
    gains = read_json(open_project(config).paths.experiment / "metrics.json")["metrics"]["gains"]
    assert {"EMA", "TTA orders", "TTA scales"} <= set(gains)


def test_a_changed_test_photograph_is_scored_again(data_copy, tmp_path):
    """The weights do not depend on it, the answers do."""
    config = short_run(data_copy, tmp_path / "out", use_kfold=False)
    for step in (train_only, predict_only):
        said_by(step, config)
    file = open_project(config).paths.scores / "fold0-test.npz"
    before, key = load_scores(file), adapter_hash(open_project(config).paths.fold(0) / "best")
    shutil.copy(data_copy / "test" / "test_0001.jpg", data_copy / "test" / "test_0000.jpg")
    for step in (train_only, predict_only):
        said_by(step, config)
    assert adapter_hash(open_project(config).paths.fold(0) / "best") == key
    after = load_scores(file)
    assert not np.array_equal(before.logprobs[0], after.logprobs[0])
    np.testing.assert_allclose(before.logprobs[1:], after.logprobs[1:], atol=1e-5)


def test_other_weight_settings_under_the_same_name_are_refused_and_the_result_stays(finished, copied):
    config = copied(learning_rate=2e-3)
    with pytest.raises(ConfigError, match=r"learning_rate: was 0.001, now 0.002"):
        said_by(run, config)
    record = read_json(open_project(config).paths.experiment / "metrics.json")
    assert record["status"] == "finished" and record["metrics"]["overall"]["accuracy"]["n"] == 24


def test_a_lost_checkpoint_file_is_noticed(copied):
    config = copied(use_tta=True)
    (open_project(config).paths.fold(1) / "best" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(Exception, match="damaged or missing"):
        said_by(predict_only, config)


# %% the same seed
@pytest.mark.nightly
def test_the_same_seed_gives_the_same_submission_in_another_folder(finished, dataset, tmp_path):
    """Invariant 5, and 4: fold 1 is trained alone first, so it owes nothing to fold 0."""
    config = short_run(dataset, tmp_path)
    said_by(train_only, config, 1)
    for step in (train_only, predict_only, combine_only):
        said_by(step, config)
    for fold in (0, 1):
        assert adapter_hash(open_project(config).paths.fold(fold) / "best") == adapter_hash(finished.paths.fold(fold) / "best")
    assert ensemble_file(config).read_bytes() == finished.outcome.submission.read_bytes()


@pytest.mark.nightly
def test_all_weights_of_a_fold_start_anew_too(dataset, finished, tmp_path):
    """Invariant 4 with lora_r=0: there the base model itself is trained, and the next fold must not inherit it."""
    both, alone = (short_run(dataset, tmp_path, lora_r=0, run_name=name) for name in ("both", "alone"))
    said_by(train_only, both)
    said_by(train_only, alone, 1)
    hashes = [adapter_hash(open_project(c).paths.fold(1) / "best") for c in (both, alone)]
    assert hashes[0] == hashes[1]
    assert (open_project(both).paths.fold(1) / "best" / "model.safetensors").exists()
    for step in (predict_only, combine_only):
        said_by(step, both)
    first, second = (load_scores(open_project(both).paths.scores / f"fold{f}-test.npz") for f in (0, 1))
    assert not np.allclose(first.logprobs[0], second.logprobs[0]) and len(answers_in(ensemble_file(both))) == 9


# %% when image features are kept
def kept_features(project):
    """(whether features are kept on disk, what is printed)"""
    data = split_rows(read_data(project), project.config)
    plan = plan_weights(project, plan_device(project.config))
    return said_by(features_fit, project, data, plan, DiskNeed(0, 0, 0), load_encoder(project.config))


def test_a_vision_tower_in_training_has_no_features_kept_and_says_so(dataset, tmp_path):
    kept, said = kept_features(open_project(short_run(dataset, tmp_path, lora_vision=True)))
    assert not kept and "image features are recomputed in every step: the vision tower is trained" in said


def test_features_are_kept_where_they_fit_beside_what_cannot_be_made_again(dataset, tmp_path, monkeypatch):
    """What is reported before they are made is what they take."""
    project = open_project(short_run(dataset, tmp_path))
    _, side = load_side(project.config)
    images = images_seen(side.data)
    size = bytes_needed(side.load().store, images)
    monkeypatch.setattr(model_side, "free_space", lambda folder: size - 1)
    kept, said = kept_features(project)
    assert not kept and "image features are recomputed in every step: 0.0 GiB do not fit on the disk" in said
    monkeypatch.setattr(model_side, "free_space", lambda folder: size)
    kept, said = kept_features(project)
    assert kept and f"{len(images)} photographs at one scale, {size / 2**20:.0f} MiB in" in said
    said_by(side.make_features, images, 1.0)
    made = sum(np.load(file).nbytes for file in (project.paths.cache / "features").glob("*/*.npy"))
    assert made == size and not side.load().store.missing(images)
    monkeypatch.setattr(model_side, "free_space", lambda folder: 0)
    assert kept_features(project)[0], "they are there already"


# %% what is read does not depend on what is known
def test_the_answer_of_a_validation_row_changes_nothing_that_is_read(finished):
    """A validation row holds no trace of its gold answer."""
    _, side = load_side(finished.config)
    _, validation = side.data.fold_rows(0)
    loaded = side.load()
    blind = [dataclasses.replace(q, answer=None) for q in validation]
    turned = [dataclasses.replace(q, answer=(q.answer + 1) % 4) for q in validation]
    seen, unseen, wrong = (
        score_questions(loaded.base.model, loaded.base, loaded.maker, rows, finished.config, {}).logprobs
        for rows in (validation, blind, turned)
    )
    np.testing.assert_array_equal(seen, unseen)
    np.testing.assert_array_equal(seen, wrong)


def test_a_trained_run_is_not_overwritten_by_other_data(copied, data_copy):
    table = data_copy / "train.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("사진 3의", "그림 3의"), encoding="utf-8")
    config = copied(data_dir=str(data_copy))
    before = verified(open_project(config).paths.fold(0) / "best")
    held = {p: p.read_bytes() for p in open_project(config).paths.experiment.rglob("*.npz")} | {
        p: p.read_bytes() for p in open_project(config).paths.outputs.iterdir()
    }
    for step in (run, train_only, predict_only, combine_only, report_only):
        with pytest.raises(ConfigError, match="trained on different data: 24 training rows"):
            said_by(step, config)
    assert held == {p: p.read_bytes() for p in held}, "scores and submissions are still those of the first data"
    assert verified(open_project(config).paths.fold(0) / "best") == before


def test_a_photograph_that_cannot_be_read_any_more_is_named(copied, data_copy):
    picture = next((data_copy / "train").iterdir())
    picture.unlink()
    with pytest.raises(ConfigError, match=rf"photographs changed\)\. '.*{picture.name}' cannot be read: .*\n"):
        said_by(report_only, copied(data_dir=str(data_copy)))


def test_what_comes_too_early_is_no_failed_run(dataset, tmp_path):
    config = short_run(dataset, tmp_path)
    with pytest.raises(CheckpointError, match="train first"):
        said_by(predict_only, config)
    assert not (tmp_path / "experiments" / "README.md").exists()


def test_a_full_disk_is_said_and_nothing_is_lost(copied):
    """A real error of the system: no file may be longer than the limit."""
    config = copied(use_tta=True, tta_orders=2)
    held = {p: p.read_bytes() for p in Path(config.output_dir).rglob("*.npz")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"The disk is full or unavailable: .*File too large.*run the same command again"):
            said_by(predict_only, config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert held == {p: p.read_bytes() for p in held}


def test_memory_that_is_full_at_last_is_said_with_advice(dataset, tmp_path, monkeypatch):
    def full(*given, **named):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(pipeline, "score_folds", full)
    config = short_run(dataset, tmp_path, train_folds=(0,), num_epochs=0)
    with pytest.raises(RunStopped, match=r"Out of GPU memory\. Finished work is kept\. To use less memory: .*smaller image_size"):
        said_by(run, config)
    assert (open_project(config).paths.fold(0) / "result.json").exists()


# %% other settings
def test_one_split_of_a_sample(dataset, tmp_path):
    config = short_run(dataset, tmp_path, use_kfold=False, use_sample=True, sample_size=16)
    for step in (train_only, predict_only, combine_only):
        said_by(step, config)
    paths = open_project(config).paths
    assert [p.name for p in paths.checkpoints.iterdir()] == ["fold0"]
    assert len(load_scores(paths.scores / "fold0-oof.npz").ids) == 8
    assert len(answers_in(ensemble_file(config))) == 9
    assert (paths.outputs / "submission_single.csv").read_bytes() == ensemble_file(config).read_bytes()


def test_the_prior_a_friend_and_another_run_join_the_ensemble(finished, copied, tmp_path):
    friends = [str(tmp_path / f"friend{n}.csv") for n in range(5)]
    for friend in friends:
        rows = [f"test_{i:04d},정답은 b입니다\n" for i in reversed(range(9))]
        Path(friend).write_text("id,answer\n" + "".join(rows), encoding="utf-8")
    config = copied(run_name="second", use_kfold=False)
    for step in (train_only, predict_only):
        said_by(step, config)
    _, said = said_by(combine_only, config.replace(members=("prior", friends[0], "r")))
    assert "members: second, prior, friend0, r (2 folds)" in said and "valid: 9 rows" in said
    assert "  prior alone " in said and "  stacking " in said
    said_by(combine_only, config.replace(members=friends, ensemble="vote"))
    assert set(answers_in(ensemble_file(config)).values()) == {"b"}, "five of six votes"
    with pytest.raises(RunStopped, match="names must be distinct"):
        said_by(combine_only, config.replace(members=("second",)))
    with pytest.raises(RunStopped, match="nobody"):
        said_by(combine_only, config.replace(members=("nobody",)))


# %% photographs that are not there
def test_a_missing_photograph_is_left_out_of_training_and_answered_in_the_test(data_copy, tmp_path):
    for name in ("train/train_0002.jpg", "train/train_0005.jpg", "test/test_0004.jpg"):
        (data_copy / name).unlink()
    config = short_run(data_copy, tmp_path / "out", use_kfold=False, use_swa=True)
    outcome, said = said_by(run, config)
    assert "one stratified split" in said and "left out: 2 rows" in said and outcome.accuracy.n == 11
    assert set(outcome.metrics.gains) == {"EMA", "SWA"}
    scored = load_scores(open_project(config).paths.scores / "fold0-oof.npz").ids.tolist()
    assert not {"train_0002", "train_0005"} & set(scored)
    assert answers_in(outcome.submission)["test_0004"] in "abcd"
    assert np.isfinite(load_scores(open_project(config).paths.scores / "fold0-test.npz").logprobs[4]).all()
    with open(open_project(config).paths.experiment / "eda" / "problems.csv", encoding="utf-8") as handle:
        listed = handle.read()
    assert all(f"{name}.jpg" in listed for name in ("train/train_0002", "train/train_0005", "test/test_0004"))


def test_without_photographs_the_prior_is_handed_in_and_the_run_stands_in_the_index(data_copy, tmp_path):
    shutil.rmtree(data_copy / "train")
    shutil.rmtree(data_copy / "test")
    config = short_run(data_copy, tmp_path / "out", n_folds=3)
    with pytest.raises(RunStopped, match="24 of 24 training photographs cannot be read"):
        said_by(run, config)
    project = open_project(config)
    assert len(answers_in(ensemble_file(config))) == 9
    assert read_submitted(ensemble_file(config)).source == "prior"
    assert not project.paths.checkpoints.exists() and not RunLog(project.paths.log).events("step")
    record = read_json(project.paths.experiment / "metrics.json")
    assert record["status"] == "failed" and "24 of 24 training photographs" in record["note"]
    index = (project.paths.experiment.parent / "README.md").read_text(encoding="utf-8")
    assert "| r |" in index and "24 of 24 training photographs" in index


# %% nothing is asked twice
def test_features_that_are_there_are_not_asked_for_again_and_release_no_weights(finished, copied):
    """Feature tasks were asked again before scoring, and freed the weights that the next task needed."""
    project = open_project(copied(use_tta=True, tta_orders=2))
    data = split_rows(read_data(project), project.config)
    with said_by(prepare_model, project, data, plan_device(project.config))[0] as execution:
        features = [task for task in execution.training() if task.kind == "features"]
        said_by(execution.run, features, [task.name for task in features])
        assert features and not [task for task in execution.scoring(project.config) if task.kind == "features"]
        model = execution.side.with_weights(project.paths.fold(0) / "best")
        execution.side.make_features(images_seen(data), 1.0)
        assert execution.side.with_weights(project.paths.fold(0) / "best") is model
