"""Nothing stale is ever used: results of other weights, rows, settings or files, each of which was let in once."""
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mcvqa import run
from mcvqa.base.files import RunLog, read_json
from mcvqa.config import Config, ConfigError, McvqaError
from mcvqa.report.experiments import list_experiments
from mcvqa.run.check import check_run
from mcvqa.run.dataset import fit_text_prior, read_run_data
from mcvqa.run.folds import split_rows
from mcvqa.run.project import RunStopped, open_project, settings_of_run
from mcvqa.run.single import combine_only, explore_only, predict_only, report_only, split_only, train_only
from mcvqa.run.tasks import Task, TaskRecords
from mcvqa.run.train import start_attempt
from mcvqa.run.unfinished import hand_in_parts
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import CheckpointError, adapter_hash
from tests.conftest import make_dataset, tiny_settings
from tests.faults import drop_drive
from tests.run.test_steps import answers_in, ensemble_file, said_by


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """A finished run of two folds, its data and a model folder of its own."""
    root = tmp_path_factory.mktemp("trained")
    data = make_dataset(root / "data")
    package = Path(__import__("mcvqa").__file__).parent / "tiny"
    shutil.copytree(package, root / "model")
    config = tiny_settings(root / "out", data_dir=str(data), n_folds=2, run_name="r", model_id=str(root / "model"))
    said_by(run, config)
    return SimpleNamespace(root=root, config=config)


@pytest.fixture
def own(trained, tmp_path) -> Config:
    """Settings that go on in a copy of the run and its data."""
    for name in ("out", "data"):
        shutil.copytree(trained.root / name, tmp_path / name)
    return trained.config.replace(output_dir=str(tmp_path / "out"), data_dir=str(tmp_path / "data"))


def change_test_rows(config: Config) -> None:
    """The same ids, other questions, as when an organiser corrects test.csv."""
    file = Path(config.data_dir) / "test.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("색은", "색깔은"), encoding="utf-8")


# %% scores
@pytest.mark.parametrize("step", [combine_only, report_only])
def test_scores_of_other_test_rows_are_refused_until_they_are_scored_again(own, step):
    """14 of 20 answers were old, and the file was called valid."""
    change_test_rows(own)
    with pytest.raises(RunStopped, match=r"Fold 0 of the run 'r' was scored on other rows.*mcvqa predict r"):
        said_by(step, own)
    said_by(predict_only, own)
    said_by(step, own)
    assert len(RunLog(open_project(own).paths.log).events("step")) == 4, "nothing was trained again"


def test_scores_in_other_ways_are_refused(own):
    """One fold read in eight ways was blended with one read in one."""
    richer = own.replace(use_tta=True, tta_orders=4, tta_scales=(1.0,))
    said_by(predict_only, richer.replace(train_folds=(0,)))
    with pytest.raises(RunStopped, match=r"Fold 0 .* was scored in 4 option orders at scales \[1.0\], while .* ask for 1"):
        said_by(combine_only, own)
    with pytest.raises(RunStopped, match=r"Fold 1 .* was scored in 1 option orders .* while the settings ask for 4"):
        said_by(report_only, richer)
    said_by(predict_only, richer)
    said_by(report_only, richer)


@pytest.mark.parametrize("changes", [dict(use_tta=True), dict(answer_by="generate")])
def test_a_report_tells_what_was_scored_and_not_what_is_asked_for(own, changes):
    kept = open_project(own).paths.experiment / "config.yaml"
    before = kept.read_bytes()
    with pytest.raises(RunStopped, match="Fold 0 of the run 'r' was scored"):
        said_by(report_only, own.replace(**changes))
    assert kept.read_bytes() == before, "the next report would be refused too"


def test_scores_of_earlier_weights_are_not_blended_after_a_fold_is_trained_again(own):
    """A run started over under its name, cut by the clock, blended three models, two of them old."""
    project = open_project(own)
    shutil.rmtree(project.paths.fold(1))
    with pytest.raises(CheckpointError, match=r"There is no checkpoint in .*fold1"):
        said_by(combine_only, own)
    said_by(train_only, own, 1)
    with pytest.raises(RunStopped, match=r"Fold 1 of the run 'r' is not scored"):
        said_by(combine_only, own)
    assert not list(project.paths.scores.glob("fold1-oof.npz")), "training removed what the fold had before"
    said_by(predict_only, own)
    said_by(combine_only, own)


def test_weights_put_in_the_place_of_others_make_their_scores_stale(own):
    """The files exist, their names fit, and they are whole: only their content is another."""
    project = open_project(own)
    first, second = (project.paths.fold(fold) for fold in (0, 1))
    for name in ("best", "last"):
        shutil.rmtree(first / name)
        shutil.copytree(second / name, first / name)
    for step in (combine_only, predict_only):
        with pytest.raises(RunStopped, match=r"weights other than the current ones|other settings, rows or code"):
            said_by(step, own)


def test_scores_that_were_tampered_with_are_not_believed(own):
    file = open_project(own).paths.scores / "fold0-test.npz"
    scores = load_scores(file)
    dataclasses.replace(scores, logprobs=scores.logprobs[:, :, ::-1].copy()).save(file)
    with pytest.raises(RunStopped, match="Fold 0"):
        said_by(combine_only, own)
    said_by(predict_only, own)
    np.testing.assert_allclose(load_scores(file).logprobs, scores.logprobs, atol=1e-5)


def test_started_over_with_a_time_budget_nothing_old_is_handed_in(own):
    """The advice to delete the checkpoints was followed: '2 folds' were reported with nothing trained."""
    shutil.rmtree(open_project(own).paths.checkpoints)
    change_test_rows(own)
    with pytest.raises(RunStopped, match="The run 'r' has no scores"):
        said_by(combine_only, own.replace(time_budget="1h"))


def test_a_member_that_is_trained_again_brings_nothing_of_its_earlier_attempt(own):
    """Fold 0 was trained and scored again, fold 1 not yet: its old scores, without weights, were blended with the new ones."""
    project = open_project(own)
    shutil.copytree(project.paths.experiment, project.paths.experiment.with_name("mine"))
    shutil.copytree(project.paths.checkpoints, project.paths.checkpoints.with_name("mine"))
    mine = own.replace(run_name="mine", members=("r",))
    said_by(combine_only, mine)
    stale = (project.paths.scores / "fold0-oof.npz").read_bytes()
    shutil.rmtree(project.paths.checkpoints)
    said_by(combine_only, mine)  # all weights are gone, to save space for example: the scores are those of one attempt
    only = own.replace(train_folds=(0,), train_seed=5)
    (project.paths.experiment / "config.yaml").unlink()
    said_by(train_only, only, 0)
    with pytest.raises(RunStopped, match="members: the run 'r' has no scores of its current weights"):
        said_by(combine_only, mine)
    said_by(predict_only, only)
    (project.paths.experiment / "config.yaml").write_text(own.to_yaml())
    assert "members: mine (2 folds), r\n" in said_by(combine_only, mine)[1], "one fold of r"
    (project.paths.scores / "fold0-oof.npz").write_bytes(stale)  # as when an earlier copy of the folder is synced back
    with pytest.raises(RunStopped, match="members: the run 'r' has no scores of its current weights"):
        said_by(combine_only, mine)


# %% trained weights
def change_learning_rate(config: Config) -> Config:
    file = open_project(config).paths.experiment / "config.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("learning_rate: 0.001", "learning_rate: 0.002"), encoding="utf-8")
    return Config(**settings_of_run(str(file.parent)))


def cut_result(config: Config) -> None:
    file = open_project(config).paths.fold(0) / "result.json"
    file.write_text(file.read_text()[:50])


@pytest.mark.parametrize(("change", "reason"), [
    (change_learning_rate, "with other settings, rows, other runs' answers"),
    (cut_result, r"checkpoints/r/fold0/result\.json changed afterwards"),
    (lambda config: shutil.rmtree(open_project(config).paths.experiment), r"train-fold-0\.json is missing"),
    (lambda config: open_project(config).records.file("train fold 0").write_text("{"), r"train-fold-0\.json is .*damaged"),
], ids=["config.yaml edited", "result.json cut", "no experiments", "record cut"])
def test_trained_weights_are_not_replaced_without_being_asked(own, change, reason):
    """Hours of training were deleted without a word because a small file beside them was edited, cut or not copied."""
    fold = open_project(own).paths.fold(0)
    before = adapter_hash(fold / "best")
    changed = change(own)
    config = changed if isinstance(changed, Config) else own
    with pytest.raises(RunStopped, match=f"Fold 0 of the run 'r' is trained, but .*{reason}.* does not overwrite it"):
        said_by(run, config)
    assert adapter_hash(fold / "best") == before


@pytest.mark.parametrize("lost", ["config.yaml", "data.json"])
def test_a_lost_record_is_not_written_anew_with_what_is_refused(own, lost):
    """The refused value was recorded as that of the run, so the right one was refused from then on."""
    (open_project(own).paths.experiment / lost).unlink()
    table = Path(own.data_dir) / "train.csv"
    before = table.read_bytes()
    table.write_bytes(before.replace("사진 3".encode(), "사진 33".encode()) if lost == "data.json" else before)
    with pytest.raises(RunStopped, match="Fold 0 of the run 'r' is trained, but with other settings, rows"):
        said_by(run, own if lost == "data.json" else own.replace(learning_rate=2e-3))
    with pytest.raises(RunStopped, match="Fold 0 of the run 'r' is trained, but with other settings, rows"):
        said_by(train_only, own if lost == "data.json" else own.replace(learning_rate=2e-3), 1)
    table.write_bytes(before)
    assert "fold 1: already trained" in said_by(run, own)[1]
    assert (open_project(own).paths.experiment / lost).exists()


def test_a_run_may_be_renamed(own):
    project = open_project(own)
    for folder in (project.paths.experiment, project.paths.checkpoints):
        folder.rename(folder.with_name("renamed"))
    project.paths.log.rename(project.paths.log.with_name("renamed.jsonl"))
    _, said = said_by(run, own.replace(run_name="renamed"))
    assert "fold 1: already trained" in said and "fold 1: already scored" in said


def test_a_kill_before_a_new_attempt_is_recorded_leaves_nothing_of_the_old_one(own, monkeypatch):
    """A resume point of the old attempt was continued by the new one."""
    project = open_project(own)
    task = Task("train", "train fold 0", "another key", arguments={"fold": 0})
    point = project.paths.fold(0) / "resume" / "0-0000-00000001"
    point.mkdir(parents=True)
    monkeypatch.setattr(TaskRecords, "begin", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        start_attempt(project, task, 0)
    assert not point.exists() and not (project.paths.fold(0) / "best").exists()


def test_what_was_measured_of_earlier_weights_is_gone_when_a_fold_is_trained_again(own):
    """The index of runs, an exported model's card and a blend went on with the figures of weights that were no longer there."""
    project = open_project(own)
    shutil.rmtree(project.paths.fold(1))
    said_by(train_only, own, 1)
    for name in ("metrics.json", "REPORT.md", "report.html", "evidence.csv", "oof_predictions.csv", "test_predictions.csv"):
        assert not (project.paths.experiment / name).exists(), name
    assert "unfinished" in list_experiments(project.paths.experiment.parent)
    assert "0." not in (project.paths.experiment.parent / "README.md").read_text(encoding="utf-8").split("Without a result")[0]
    assert (project.paths.experiment / "submission.csv").exists(), "its record says whose answers it holds"


def test_a_report_of_some_folds_stays_while_the_next_one_is_trained(own):
    first = own.replace(run_name="some", train_folds=(0,))
    said_by(run, first)
    report = open_project(first).paths.experiment / "REPORT.md"
    before = report.read_bytes()
    said_by(train_only, first.replace(train_folds=()), 1)
    assert report.read_bytes() == before


def test_a_file_that_the_user_wrote_is_not_replaced_where_a_time_budget_ends(own):
    project = open_project(own)
    data = split_rows(read_run_data(project), own)
    prior, file = fit_text_prior(project, data), ensemble_file(own)
    file.write_text(file.read_text().replace(",b", ",a").replace(",c", ",a").replace(",d", ",a"))
    by_hand = file.read_bytes()
    assert hand_in_parts(project, data, prior) == "" and file.read_bytes() == by_hand
    file.unlink()
    assert "holds the answers of fold" in hand_in_parts(project, data, prior) and file.read_bytes() != by_hand


# %% the log
def test_the_log_of_an_abandoned_attempt_feeds_no_report(own):
    """Curves, advice and seconds were those of both attempts."""
    project = open_project(own)
    log = RunLog(project.paths.log)
    before = len(log.events("step"))
    log.write("session", seconds=1e6)
    shutil.rmtree(project.paths.checkpoints)
    outcome, _ = said_by(run, own)
    assert len(log.events("step")) == 2 * before, "the log keeps everything"
    record = read_json(project.paths.experiment / "metrics.json")
    assert record["seconds"] < 1e5
    attempts = {e["attempt"] for e in log.events("step") if e["fold"] == 0}
    assert len(attempts) == 2
    now = open_project(own).records.read("train fold 0")["attempt"]
    assert now in attempts and outcome.metrics.overall.accuracy.n == 24


# %% the base model
def test_other_files_of_the_base_model_are_refused_by_name(own):
    """'already trained', and the old adapters on the new base."""
    file = Path(own.model_id) / "tokenizer_config.json"
    before = file.read_bytes()
    file.write_bytes(before + b"\n")
    try:
        for step in (run, train_only, predict_only):
            with pytest.raises(RunStopped, match=r"(?s)Fold 0 .* different files of the base model .*config\.json has changed"):
                said_by(step, own)
    finally:
        file.write_bytes(before)


# %% members
def test_a_member_made_on_other_test_rows_is_refused_by_name(own):
    """The same ids and another order of the choices: it was combined with equal weight."""
    other = own.replace(run_name="other", use_kfold=False)
    said_by(run, other)
    change_test_rows(own)
    said_by(predict_only, own)
    with pytest.raises(RunStopped, match=r"members: the run 'other' answered other test rows"):
        said_by(combine_only, own.replace(members=("other",)))
    later = own.replace(run_name="later", members=("other",))
    ready, said = said_by(check_run, later)
    assert not ready and "! members: the run 'other' answered other test rows" in said
    with pytest.raises(RunStopped, match=r"members: the run 'other' answered other test rows"):
        said_by(run, later)
    assert not open_project(later).paths.checkpoints.exists(), "this was said after all training"


def test_a_member_whose_weights_changed_since_it_was_scored_is_refused(own):
    other = own.replace(run_name="other", use_kfold=False)
    said_by(run, other)
    (open_project(other).records.file("score fold 0 test")).unlink()
    with pytest.raises(RunStopped, match="members: the run 'other' has no scores of its current weights"):
        said_by(combine_only, own.replace(members=("other",)))


def test_members_with_points_in_their_names_are_distinguished(own):
    first, second = (own.replace(run_name=f"lr0.{n}", use_kfold=False, num_epochs=0) for n in (1, 2))
    for config in (first, second):
        said_by(run, config)
    said = said_by(combine_only, own.replace(members=("lr0.1", "lr0.2")))[1]
    assert "lr0.1" in said and "lr0.2" in said


# %% looking only
@pytest.mark.parametrize("look", [explore_only, split_only])
def test_looking_at_other_data_under_a_runs_name_changes_nothing(own, tmp_path, look):
    folds = open_project(own).paths.experiment / "folds.csv"
    kept = folds.read_bytes(), (folds.parent / "eda" / "summary.txt").read_bytes()
    with pytest.raises(ConfigError, match="was trained on different data"):
        look(own.replace(data_dir=str(make_dataset(tmp_path / "more", n_train=40))))
    assert kept == (folds.read_bytes(), (folds.parent / "eda" / "summary.txt").read_bytes())


def test_the_folds_of_a_trained_run_are_not_overwritten_by_other_settings(own):
    folds = open_project(own).paths.experiment / "folds.csv"
    kept = folds.read_bytes()
    with pytest.raises(ConfigError, match="n_folds: was 2, now 3"):
        split_only(own.replace(n_folds=3))
    assert folds.read_bytes() == kept


# %% damaged small files
DAMAGED = [
    "experiments/r/tasks/train-fold-0.json", "experiments/r/tasks/score-fold-0-test.json", "experiments/r/tasks/run.json",
    "experiments/r/tasks/prior.json", "experiments/r/tasks/eda.json", "experiments/r/data.json", "experiments/r/config.yaml",
    "experiments/r/scores/fold0-oof.npz", "experiments/r/scores/prior-oof.npz", "experiments/r/scores/fold0-raw.npz",
    "experiments/r/metrics.json", "checkpoints/r/fold0/result.json", "checkpoints/r/fold0/best/manifest.json",
    "outputs/submissions.json", "logs/r.jsonl", "experiments/r/submission_ensemble-rows.npz",
]


def refusal_of(step, config: Config) -> str:
    """What is said where a step refuses, as an error that is written for people; empty where it does not."""
    try:
        said_by(step, config)
    except McvqaError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", [
    "cut off", pytest.param("empty", marks=pytest.mark.nightly), pytest.param("other", marks=pytest.mark.nightly),
])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_small_file_is_named_or_made_again(own, name, how):
    """17 of 24 were tracebacks."""
    file = Path(own.output_dir) / name
    whole = file.read_bytes()
    file.write_bytes({"cut off": whole[: len(whole) // 2], "empty": b"", "other": b"[1, 2]"}[how])
    for step in (combine_only, report_only):
        said = refusal_of(step, own)
        assert not said or file.name in said or "fold0" in said or "Fold 0" in said


# %% tasks and records
def test_a_task_is_done_only_where_its_key_is_beside_whole_results(tmp_path):
    records = TaskRecords(tmp_path / "tasks", tmp_path / "steps", tmp_path)
    first = Task("train", "train fold 0", "k1", ("weights",))
    second = Task("score", "score fold 0", "k2", ("scores",), needs=("train fold 0",))
    (tmp_path / "weights").write_text("w")
    (tmp_path / "scores").write_text("s")
    assert not records.is_done(first), "that a file exists says nothing"
    records.finish(first)
    records.finish(second)
    drop_drive(tmp_path, 0.3)
    assert records.is_done(first), "its drive was away for a moment"
    assert records.is_done(second)
    assert not records.is_done(dataclasses.replace(first, key="other"))
    (tmp_path / "weights").write_text("other")
    assert not records.is_done(first)
    records.finish(first)
    assert records.is_done(first) and not records.is_done(second), "made from the weights that were there before"
    (tmp_path / "scores").unlink()
    records.finish(first)
    assert not records.is_done(second)
    wrong = ('{"key": ["k1"]}', '{"key": "k1", "finished": true}', '{"key": "k1", "made": 3, "finished": true}')
    for damaged in ("{", "[1]", *wrong):
        records.file("train fold 0").write_text(damaged)
        assert not records.is_done(first) and not records.print_of(first.name) and not records.read(first.name)


def test_an_attempt_that_was_cut_off_goes_on_and_another_key_begins_a_new_one(tmp_path):
    records = TaskRecords(tmp_path / "tasks", tmp_path / "steps", tmp_path)
    task = Task("train", "train fold 0", "k1")
    attempt = records.begin(task)
    assert records.begin(task) == attempt and not records.is_done(task)
    assert records.begin(dataclasses.replace(task, key="k2")) != attempt
    records.finish(task)
    assert records.begin(task) != attempt, "a finished one is done again"


def test_a_run_of_version_0_1_is_taken_for_what_it_is(own):
    """Its records are read and left as they are; what they say is marked."""
    project = open_project(own)
    for file in list(project.records.folder.glob("*.json")):
        file.unlink()
    from mcvqa.run.dataset import read_data, weights_key
    from mcvqa.run.folds import split_rows
    from mcvqa.run.score import score_task

    data = split_rows(read_data(project), own)
    project.records.old_folder.mkdir()
    for fold in (0, 1):
        key = weights_key(project, data, fold)
        (project.records.old_folder / f"train-fold-{fold}.json").write_text(json.dumps({"key": key}))
        scored = score_task(project, data, own, fold, "test").of_0_1[1][0]
        (project.records.old_folder / f"score-fold-{fold}.json").write_text(json.dumps({"key": scored}))
    before = {file: file.read_bytes() for file in project.records.old_folder.iterdir()}
    weights = [adapter_hash(project.paths.fold(fold) / "best") for fold in (0, 1)]
    _, said = said_by(run, own)
    assert said.count("(made by 0.1, unverified)") == 2 and "already scored" in said and "made by 0.1, unverified" in said
    assert [adapter_hash(project.paths.fold(fold) / "best") for fold in (0, 1)] == weights
    assert before == {file: file.read_bytes() for file in project.records.old_folder.iterdir()}


# %% RUN on a command line
def test_a_run_is_named_as_experiments_shows_it_or_by_its_folder(own):
    by_name = Config().replace(**settings_of_run("r", own.output_dir))
    by_path = Config().replace(**settings_of_run(str(open_project(own).paths.experiment)))
    assert by_name == by_path and by_name.replace(output_dir=own.output_dir, data_dir=own.data_dir) == own
    with pytest.raises(ConfigError, match=r"There is no run 'x'.* Runs in this folder: r"):
        settings_of_run("x", own.output_dir)


def test_a_rerun_of_a_finished_run_reads_the_same_answers(own):
    before = answers_in(ensemble_file(own))
    said_by(report_only, own)
    assert answers_in(ensemble_file(own)) == before
