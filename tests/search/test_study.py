"""The study: one for all processes, which goes on where it stopped, tries again what was killed, and ends what falls behind."""
import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from mcvqa.base.files import RunLog
from mcvqa.run.project import RunStopped
from mcvqa.search import trial as trial_module
from mcvqa.search.study import SearchPlan, SearchStudy, startup_trials, was_killed
from mcvqa.search.trial import EpochReports, PrunedTrial, ReportedLog, do_trial
from mcvqa.training.job import TrainingError
from tests.conftest import tiny_settings

optuna = pytest.importorskip("optuna")
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "lora_r": [4, 8], "num_epochs": {"low": 1, "high": 3}}


def plan_in(folder, **changes) -> SearchPlan:
    config = tiny_settings(folder, n_folds=2, **changes.pop("settings", {}))
    given = dict(name="s", storage=str(folder / "journal.log"), space=SPACE, trials=4, confirm=2)
    return SearchPlan(config, **given | changes)


def rows(**changes) -> SimpleNamespace:
    return SimpleNamespace(**dict(train_print="abc", folds=np.arange(4) % 2, validates=np.ones(4, bool)) | changes)


def begun(plan: SearchPlan) -> SearchStudy:
    study = SearchStudy(plan)
    study.settle(rows())
    return study


def finish(study: SearchStudy, taken, value: float) -> None:
    taken.trial.set_user_attr("seconds", 1.0)
    study.study.tell(taken.trial, value)
    taken.ownership.give_back()


def test_two_handles_share_a_study_that_ends_with_its_number_of_trials_and_goes_on_with_more(tmp_path):
    first, second = begun(plan_in(tmp_path)), begun(plan_in(tmp_path))
    for number, study in enumerate((first, second, first, second)):
        finish(study, study.take(), 1.0 - number / 10)
    assert first.take() is None and second.take() is None and len(first.finished()) == 4
    own = first.trials[0].user_attrs["values"]
    assert own == {"learning_rate": 1e-3, "lora_r": 8, "num_epochs": 1}, "the first trial is what was there"
    more = begun(plan_in(tmp_path, trials=5))
    taken = more.take()
    assert taken.trial.number == 4
    assert len({trial.user_attrs["run"] for trial in more.trials}) == 5, "going on does not draw the first values again"
    assert taken.config.train_folds == (0,) and taken.config.executor == "inline" and not taken.config.time_budget
    taken.ownership.give_back()


@pytest.mark.nightly
def test_a_trial_whose_process_was_killed_is_marked_and_its_settings_are_tried_again(tmp_path):
    study = begun(plan_in(tmp_path))
    finish(study, study.take(), 1.0)
    code = (
        "import json, time; from tests.search.test_study import *; from pathlib import Path\n"
        f"study = begun(plan_in(Path({str(tmp_path)!r})))\n"
        "taken = study.take(); print(json.dumps(taken.trial.params), flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    params = json.loads(process.stdout.readline())
    other = study.take()
    assert [was_killed(trial) for trial in study.trials] == [False] * 3, "the other process is alive"
    finish(study, other, 2.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = study.take()
    assert again.trial.params == params and again.trial.number == 3
    assert was_killed(study.trials[1]) and len(study.finished()) == 2, "the killed one does not count"
    assert again.config.run == study.trials[1].user_attrs["run"], "the same run, which goes on from where it was saved"
    again.ownership.give_back()


def test_settings_that_were_tried_are_not_trained_again(tmp_path):
    study = begun(plan_in(tmp_path, space={"lora_r": [4, 8]}))
    finish(study, study.take(), 1.0)
    while taken := study.take():
        finish(study, taken, 0.5)
    assert len(study.finished()) == 4 and len({trial.user_attrs["run"] for trial in study.trials}) <= 2
    by_run = {trial.user_attrs["run"]: trial.value for trial in study.trials}
    assert all(trial.value == by_run[trial.user_attrs["run"]] for trial in study.trials)


@pytest.mark.parametrize(("changes", "message"), [
    (dict(data=dict(train_print="other")), "was made on other data"),
    (dict(data=dict(folds=np.zeros(4))), "was made on other data"),
    (dict(settings=dict(max_grad_norm=2.0)), "has other settings: max_grad_norm was 1.0, is 2.0"),
    (dict(settings=dict(use_rslora=True)), "use_rslora was the default, is True"),
    (dict(space={**SPACE, "loss": ["choices"]}), "loss was not searched, is"),
    (dict(space={**SPACE, "lora_r": [4, 16]}), r"has another search space: lora_r was \[4, 8\], is \[4, 16\]"),
])
def test_a_study_of_something_else_is_refused_in_one_line(tmp_path, changes, message):
    begun(plan_in(tmp_path))
    data = rows(**changes.pop("data", {}))
    with pytest.raises(RunStopped, match=message) as error:
        SearchStudy(plan_in(tmp_path, **changes)).settle(data)
    assert "--study NAME" in str(error.value) and "\n" not in str(error.value)


def test_a_study_is_kept_in_a_database_too_and_belongs_to_one_output_folder(tmp_path):
    database = f"sqlite:///{tmp_path / 'study.db'}"
    finish(study := begun(plan_in(tmp_path, storage=database)), study.take(), 1.0)
    assert len(begun(plan_in(tmp_path, storage=database)).finished()) == 1
    with pytest.raises(RunStopped, match="belongs to another output folder"):
        begun(plan_in(tmp_path / "elsewhere", storage=database))


def test_a_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path):
    with pytest.raises(RunStopped, match=r"The storage nosuch://me:\*\*\*@host/db cannot be opened") as error:
        SearchStudy(plan_in(tmp_path, storage="nosuch://me:secret@host/db"))
    assert "Expected: a file in a folder that exists, or a URL" in str(error.value)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_values_that_do_not_go_together_fail_with_the_reason_and_the_search_goes_on(tmp_path):
    space = {"train_orders": [1, 2], "order_consistency": [0.0, 0.5]}
    study = begun(plan_in(tmp_path, space=space, trials=12))
    while taken := study.take():
        finish(study, taken, 1.0)
    notes = [trial.user_attrs["note"] for trial in study.trials if trial.state.name == "FAIL"]
    assert len(study.finished()) == 12 and any("order_consistency compares several orders" in note for note in notes)


def test_no_trial_begins_when_the_time_is_up(tmp_path):
    study = begun(plan_in(tmp_path, until=time.time() + 3))
    taken = study.take()
    taken.trial.set_user_attr("seconds", 60.0)
    study.study.tell(taken.trial, 1.0)
    taken.ownership.give_back()
    assert study.take() is None, "it would take as long as the first one"


def test_startup_trials_grow_with_the_search():
    assert [startup_trials(n) for n in (1, 12, 50, 200)] == [4, 4, 10, 40]


@pytest.mark.parametrize(("error", "fails"), [
    (TrainingError("No gradient is finite.\nMore."), True), (RunStopped("The memory is full."), True),
    (RunStopped("No disk."), False),
])
def test_a_trial_that_cannot_be_trained_fails_alone_but_what_stops_all_stops_the_search(tmp_path, monkeypatch, error, fails):
    error.__cause__ = MemoryError() if "memory" in str(error) else None

    def cannot(*_):
        raise error

    study = begun(plan_in(tmp_path))
    monkeypatch.setattr(trial_module, "trained_and_scored", cannot)
    if fails:
        do_trial(study, study.take())
        assert study.trials[0].user_attrs["note"] == str(error).splitlines()[0] and not was_killed(study.trials[0])
    else:
        with pytest.raises(RunStopped, match="No disk"):
            do_trial(study, study.take())
    after = study.take()
    assert len(study.finished()) == int(fails) and (after.trial.params == study.trials[0].params) != fails
    after.ownership.give_back()


# %% pruning
def epochs(log: RunLog, losses, attempt="a") -> None:
    for epoch, loss in enumerate(losses):
        log.with_facts(attempt=attempt).write("epoch", fold=0, epoch=epoch, nll=loss, chosen=True)


def reported(study: SearchStudy, folder, losses, epochs_planned=3) -> EpochReports:
    """A trial whose training writes these losses into its log."""
    trial = study.study.ask({one.name: one.distribution() for one in study.plan.searched})
    reports = EpochReports(trial, epochs_planned)
    epochs(ReportedLog(RunLog(folder / f"{trial.number}.jsonl"), reports), losses)
    return reports


def test_a_trial_that_falls_behind_ends_after_its_first_epoch_and_the_best_of_three_goes_on(tmp_path):
    study = begun(plan_in(tmp_path))
    for losses in ([1.0, 0.8, 0.6], [0.9, 0.7, 0.5], [0.8, 0.6, 0.4]):
        assert reported(study, tmp_path, losses).reported.keys() == {33, 66, 100}
    with pytest.raises(PrunedTrial):
        reported(study, tmp_path, [2.0, 0.1, 0.1])
    assert study.trials[-1].intermediate_values == {33: 2.0}, "the second epoch was not trained"
    assert reported(study, tmp_path, [0.7, 0.5, 0.3]).epochs_done == 3
    assert reported(study, tmp_path, [3.0], epochs_planned=1).reported.keys() == {100}, "at its end a trial is judged, not pruned"
    never = begun(plan_in(tmp_path, prune=False))
    assert reported(never, tmp_path, [9.0, 9.0, 9.0]).epochs_done == 3


def test_a_trial_that_is_better_already_than_all_others_at_their_end_is_not_pruned(tmp_path):
    study = begun(plan_in(tmp_path))
    fast = reported(study, tmp_path, [0.7, 0.9, 1.1])
    fast.trial.set_user_attr("seconds", 1.0)
    study.study.tell(fast.trial, 1.1)
    slow = reported(study, tmp_path, [0.9, 0.8, 0.6])
    assert slow.epochs_done == 3, "the first one was better after an epoch, but overfits"
    with pytest.raises(PrunedTrial):
        reported(study, tmp_path, [1.2, 0.8, 0.6])


def test_a_trial_that_goes_on_reports_the_epochs_of_before_and_no_others(tmp_path):
    study, log = begun(plan_in(tmp_path)), RunLog(tmp_path / "run.jsonl")
    epochs(log, [5.0], attempt="abandoned")
    epochs(log, [1.0])
    trial = study.take().trial
    now = ReportedLog(log, EpochReports(trial, 3)).with_facts(attempt="a")
    now.write("step", loss=1.0)
    now.write("epoch", fold=0, epoch=1, nll=0.8, chosen=False)
    assert not study.trials[-1].intermediate_values
    now.write("epoch", fold=0, epoch=1, nll=0.7, chosen=True)
    assert study.trials[-1].intermediate_values == {33: 1.0, 66: 0.7}


# %% the journal
@pytest.mark.parametrize(("content", "message"), [
    (b"notes of somebody\n", "is not a journal of Optuna, or damaged in line 1"),
    (b"half a note", "is not a journal of Optuna, or damaged in line 1"),
    (b'{"a": 1}\n', "damaged in line 1"),
    (bytes(range(256)), "damaged in line 1"),
])
def test_a_file_of_another_program_is_refused_in_one_line_and_stays_as_it_was(tmp_path, content, message):
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(RunStopped, match=message) as error:
        begun(plan_in(tmp_path, storage=str(file)))
    assert "\n" not in str(error.value) and "notes.txt" in str(error.value) and "--study NAME" in str(error.value)
    assert file.read_bytes() == content
    assert not (tmp_path / "experiments" / "s").exists()  # a new study that cannot begin leaves no folder


def test_a_journal_whose_last_entry_was_cut_off_goes_on_and_one_with_a_damaged_entry_is_refused(tmp_path):
    finish(study := begun(plan_in(tmp_path)), study.take(), 1.0)
    file = tmp_path / "journal.log"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker_id":"d4af46')
    assert len(begun(plan_in(tmp_path)).finished()) == 1
    assert len(begun(plan_in(tmp_path)).finished()) == 1  # and what is written next is on a line of its own
    damaged = whole.splitlines(keepends=True)
    damaged[2] = damaged[2][:40] + damaged[3]
    file.write_bytes(b"".join(damaged))
    with pytest.raises(RunStopped, match="damaged in line 3") as error:
        begun(plan_in(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform == "win32", reason="no links as locks")
def test_a_process_that_was_killed_with_the_lock_of_the_journal_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the default output folder is a relative one
    (tmp_path / "sub").mkdir()
    hold = (
        "import os, signal; from mcvqa.search import study; from pathlib import Path\n"
        "study._is_entry = lambda line: os.kill(os.getpid(), signal.SIGKILL)\n"
        "study._open_storage('sub/journal.log')"
    )
    begun(plan_in(tmp_path, storage="sub/journal.log"))
    assert subprocess.run([sys.executable, "-c", hold], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "sub/journal.log.lock").is_symlink()
    assert begun(plan_in(tmp_path, storage="sub/journal.log")).finished() == []  # after Optuna's 30 seconds
