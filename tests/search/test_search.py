"""The whole search with `tiny`: trials are runs, the best is confirmed and trained no second time, what is killed goes on."""
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcvqa.base.files import RunLog, read_json
from mcvqa.config import McvqaError, load_config
from mcvqa.ensemble.blend import blend_members
from mcvqa.report.experiments import read_experiment
from mcvqa.run import single
from mcvqa.run.members import run_member
from mcvqa.run.of_search import searched_member, with_members_of_search
from mcvqa.run.other_runs import other_run
from mcvqa.run.project import RunStopped, open_project
from mcvqa.search.search import search_settings
from mcvqa.search.space import space_as_yaml
from tests.conftest import make_dataset, tiny_settings

optuna = pytest.importorskip("optuna")
SPACE = {"learning_rate": {"low": 3e-4, "high": 1e-2, "log": True}, "lora_r": [4, 8], "num_epochs": {"low": 1, "high": 2}}


def settings(folder: Path, **changes):
    return tiny_settings(folder, data_dir=str(folder / "data"), n_folds=2, run_name="s", **changes)


def space_in(folder: Path, **changes) -> Path:
    file = folder / "space.yaml"
    file.write_text(space_as_yaml(SPACE | changes))
    return file


def steps(folder: Path) -> dict[str, list[int]]:
    """Run -> the fold of each optimizer step."""
    logs = sorted((folder / "logs").glob("*.jsonl"))
    return {log.stem: [event["fold"] for event in RunLog(log).events("step")] for log in logs}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a search of four trials, two of which were confirmed."""
    folder = tmp_path_factory.mktemp("searched")
    make_dataset(folder / "data")
    return folder, search_settings(settings(folder), trials=4, space=space_in(folder), best=2, by_hand={"lora_dropout"})


@pytest.mark.nightly
def test_trials_are_runs_judged_on_one_fold_and_the_best_are_confirmed_on_the_others(searched):
    folder, found = searched
    records = read_json(folder / "experiments" / "s-search" / "trials.json")
    assert len(records) == 4 and found.plan.name == "s-search"
    losses = [one["log_loss"] for one in records if "log_loss" in one]
    assert losses == sorted(losses) and losses[0] == found.ranked[0].judged.log_loss
    trained = steps(folder)
    for one in found.trials:
        used, experiment = load_config(folder / "experiments" / one.run / "config.yaml"), folder / "experiments" / one.run
        assert all(getattr(used, name) == value for name, value in one.values.items())
        assert set(trained[one.run]) == ({0, 1} if one.run in [c.trial.run for c in found.confirmed] else {0})
        entry = read_experiment(experiment)
        assert (folder / "checkpoints" / one.run).exists() == (one.judged is not None), "weights of pruned trials are gone"
        assert entry.status == ("trial" if one.judged else "pruned") and "of the search s-search" in entry.note
    rows = [one.judged.ids.tolist() for one in found.ranked]
    assert len(rows[0]) == 12 and all(one == rows[0] for one in rows), "the same rows judge them all"
    assert len(found.confirmed) == 2 and found.best is found.confirmed[0].trial
    for one in found.confirmed:
        assert len(one.everywhere.ids) == 24 and not {*one.elsewhere.ids.tolist()} & {*one.trial.judged.ids.tolist()}
    assert "s-search" in (folder / "experiments" / "README.md").read_text()
    assert (folder / "experiments" / "s-search" / "search.html").exists()


@pytest.mark.nightly
def test_photographs_are_encoded_once_for_all_trials_of_one_size(searched):
    folder, found = searched
    encoded = [event["images"] for log in (folder / "logs").glob("*.jsonl") for event in RunLog(log).events("features")]
    assert len(found.trials) == 4 and sum(encoded) == 24 + 9, "each photograph of train and test once"


@pytest.mark.nightly
def test_the_best_settings_are_a_run_whose_folds_are_there_already(searched, capsys):
    folder, found = searched
    before = steps(folder)
    config = load_config(folder / "experiments" / "s-search" / "best.yaml")
    assert config.run == found.best.run and config.folds_to_train == (0, 1)
    single.predict_only(config)
    single.combine_only(config)
    assert steps(folder) == before, "nothing was trained again"
    said = capsys.readouterr().out
    assert "The search chose these settings by fold 0" in said and "s-search/trials.json" in said, "the accuracy includes it"
    assert (folder / "outputs" / "submission_ensemble.csv").exists()


@pytest.mark.nightly
def test_the_same_search_does_nothing_again_and_goes_on_with_more_trials(searched):
    folder, found = searched
    before = steps(folder)
    again = search_settings(settings(folder), trials=4, space=space_in(folder), best=2, by_hand={"lora_dropout"})
    assert steps(folder) == before
    assert [one.run for one in again.trials] == [one.run for one in found.trials] and again.best.run == found.best.run
    assert again.best.judged.log_loss == found.best.judged.log_loss


@pytest.mark.nightly
def test_members_of_a_search_are_judged_by_rows_that_did_not_choose_them(searched):
    folder, found = searched
    project = open_project(settings(folder))
    config = with_members_of_search(project.config.replace(members=("search:s-search:2", "prior")))
    assert config.members == (*(one.run for one in found.ranked[:2]), "prior")
    first = found.plan.final_config(found.ranked[0].values)
    own = with_members_of_search(first.replace(members=("search:s-search:2",)))
    assert own.members == (found.ranked[1].run,), "a run is a member of its own ensemble anyway"
    best = open_project(own)
    data, _ = single._prepare_data(best)
    member = searched_member(other_run(data, own, found.ranked[1].run, "members"), data)
    judging = {data.train[i].id for i in range(24) if data.folds[i] == 1}
    assert set(member.oof.ids.tolist()) == judging and len(member.test) == 2 and "fold 0" in member.note
    blend = blend_members([run_member(best, data), member], {q.id: q.answer for q in data.train})
    assert set(blend.oof_ids.tolist()) == judging, "of all members"
    only = searched_member(dataclasses.replace(other_run(data, own, found.ranked[1].run, "members"), folds=(0,)), data)
    assert only.oof is None, "a run that has only the fold that chose it is not judged"
    with pytest.raises(RunStopped, match=r"not all are trained on all folds yet|has . different trials"):
        with_members_of_search(config.replace(members=("search:s-search:4",)))


@pytest.mark.parametrize(("member", "message"), [
    ("search:nix:5", "no search 'nix'"), ("search:nix", "not of the form search:NAME:5"), ("search:nix:0", "not of the form"),
])
def test_a_search_that_is_not_there_is_one_clear_line(tmp_path, member, message):
    with pytest.raises(RunStopped, match=message):
        with_members_of_search(tiny_settings(tmp_path, members=(member,)))


@pytest.mark.torture
def test_of_two_processes_one_is_killed_and_the_other_does_its_trial_again(tmp_path):
    make_dataset(tmp_path / "data")
    (tmp_path / "s.yaml").write_text(settings(tmp_path, save_minutes=0.0).to_yaml())
    command = [sys.executable, "-m", "mcvqa", "search", "--config", str(tmp_path / "s.yaml"), "--trials", "3", "--parallel", "2",
               "--best", "0", "--space", str(space_in(tmp_path))]
    search = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    victim = None
    while victim is None and search.poll() is None:
        owners = [read_json(file) for file in (tmp_path / "logs").glob("s-search-????????.json")]
        victim = next((owner["pid"] for owner in owners if _has_stepped(tmp_path)), None)
        time.sleep(0.05)
    os.kill(victim, signal.SIGKILL)
    said = search.communicate(timeout=300)[0]
    assert search.returncode == 0, said
    study = optuna.load_study(study_name="s-search", storage=_journal(tmp_path))
    states = [trial.state.name for trial in study.trials]
    assert states.count("FAIL") == 1 and len(states) == 4, "three trials and the one that was killed"
    killed = next(trial for trial in study.trials if trial.state.name == "FAIL")
    assert [trial.params for trial in study.trials].count(killed.params) == 2
    assert len(read_json(tmp_path / "experiments" / "s-search" / "trials.json")) == 4


@pytest.mark.nightly
def test_what_another_process_confirms_counts_too(searched, capsys):
    folder, outcome = searched
    run = outcome.confirmed[1].trial.run
    confirming = (
        "import time; from pathlib import Path\n"
        "from mcvqa.run.ownership import Ownership; from mcvqa.run.paths import RunPaths\n"
        f"owner = Ownership(RunPaths(Path({str(folder)!r}), {run!r}).lock(), 'the run')\n"
        "owner.take(); print(flush=True); time.sleep(8)"
    )
    with subprocess.Popen([sys.executable, "-c", confirming], stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        again = search_settings(settings(folder), trials=4, space=space_in(folder), best=2, by_hand={"lora_dropout"})
    said = f"trial {outcome.confirmed[1].trial.number} is being confirmed by another process; its result is waited for"
    assert said in capsys.readouterr().out
    assert [one.trial.run for one in again.confirmed] == [one.trial.run for one in outcome.confirmed]


def _has_stepped(folder: Path) -> bool:
    return any(b'"step"' in log.read_bytes() for log in (folder / "logs").glob("s-search-*.jsonl"))


def _journal(folder: Path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "experiments" / "s-search" / "journal.log")))


@pytest.mark.torture
def test_a_time_budget_is_that_of_the_whole_search(tmp_path):
    make_dataset(tmp_path / "data")
    found = search_settings(settings(tmp_path, time_budget="50s"), trials=1000, space=space_in(tmp_path), best=1)
    assert 0 < len(found.trials) < 1000
    assert load_config(tmp_path / "experiments" / "s-search" / "best.yaml").time_budget == "50s"
    assert not load_config(tmp_path / "experiments" / found.trials[0].run / "config.yaml").time_budget, "all trials are alike"


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunStopped, match=r"pip install 'mcvqa\[search\]'"):
        search_settings(tiny_settings(tmp_path), trials=1)
    assert not list(tmp_path.iterdir())


def test_a_search_without_data_leaves_nothing_behind(tmp_path):
    with pytest.raises(McvqaError, match=r"train\.csv|no-data"):
        search_settings(tiny_settings(tmp_path, data_dir=str(tmp_path / "no-data")), trials=1)
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize(("name", "message"), [
    ("a/b", "--study 'a/b' cannot be a folder name"), ("..", "cannot be a folder name"), ("x" * 192, "at most 200 bytes"),
])
def test_a_study_has_a_name_that_folders_can_have(tmp_path, name, message):
    with pytest.raises(McvqaError, match=message):
        search_settings(settings(tmp_path), trials=1, space=space_in(tmp_path), study=name)
    assert [file.name for file in tmp_path.iterdir()] == ["space.yaml"]


def test_the_folder_of_a_run_is_not_taken_for_a_study(tmp_path):
    (tmp_path / "experiments" / "mine").mkdir(parents=True)
    (tmp_path / "experiments" / "mine" / "config.yaml").write_text(settings(tmp_path).to_yaml())
    with pytest.raises(RunStopped, match=r"mine is the folder of a run\. A study needs its own folder: --study NAME"):
        search_settings(settings(tmp_path), trials=1, space=space_in(tmp_path), study="mine")
    assert [file.name for file in (tmp_path / "experiments" / "mine").iterdir()] == ["config.yaml"]


def test_it_says_which_settings_lie_outside_the_space(tmp_path, capsys):
    make_dataset(tmp_path / "data")
    config = settings(tmp_path, num_epochs=3, time_budget="0.001s")
    with pytest.raises(RunStopped, match="No trial was trained to the end"):
        search_settings(config, trials=1, space=space_in(tmp_path))
    assert "outside the search space, so no trial has it: num_epochs=3\n" in capsys.readouterr().out
