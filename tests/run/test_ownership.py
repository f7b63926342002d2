"""One run, one owner: real second processes, real kills."""
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcvqa.base.files import read_json
from mcvqa.run import ownership
from mcvqa.run.ownership import OWNER, Owned, Ownership
from mcvqa.run.project import open_project
from mcvqa.run.single import combine_only, train_only
from mcvqa.run.steps import run
from tests.conftest import tiny_settings

HOLDING = """
import fcntl, os, sys, time
from pathlib import Path
from mcvqa.run.ownership import Ownership
if "forks" in sys.argv:  # as older versions of filelock leave it to forked processes
    handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    Ownership._acquire = lambda mine: None
mine = Ownership(Path(sys.argv[1]), "the run 'r'")
mine.take()
if "forks" in sys.argv and os.fork() == 0:
    time.sleep(float(sys.argv[3]))
    os._exit(0)
print("taken", flush=True)
time.sleep(60)
"""


@contextmanager
def held(lock: Path, *words: str):
    """Another process has the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(lock), *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "taken\n"
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_second_process_is_refused_and_the_first_is_named(tmp_path):
    with held(tmp_path / "r.lock") as other:
        with pytest.raises(Owned) as refusal:
            Ownership(tmp_path / "r.lock", "the run 'r'").take()
        message = str(refusal.value)
        assert "Another process is working on the run 'r', on " in message and f"Stop it with: kill {other.pid}\n" in message
        assert f", since {time.strftime('%Y-')}" in message and "-c" in message and "--set run_name" in message
        ended(other)
        mine = Ownership(tmp_path / "r.lock", "the run 'r'")
        mine.take()  # a process that was killed leaves its facts, and no lock
    assert read_json(tmp_path / "r.json")["pid"] == os.getpid()
    mine.give_back()
    assert not (tmp_path / "r.json").exists()


def test_the_same_process_may_take_it_again(tmp_path):
    """As a notebook does after an interrupt; it is free when all of them have given it back."""
    first, second = (Ownership(tmp_path / "r.lock", "r") for _ in range(2))
    first.take()
    second.take()
    second.give_back()
    assert (tmp_path / "r.json").exists()
    first.give_back()
    first.give_back()
    with held(tmp_path / "r.lock"):
        pass


@pytest.mark.parametrize("seconds", [1, 6])
def test_children_of_a_killed_owner_hold_nobody_up(tmp_path, monkeypatch, seconds):
    """Forked loader processes inherit the lock: they are waited for, but not for long."""
    monkeypatch.setattr("mcvqa.run.ownership.ORPHANS_END", 2.0)
    with held(tmp_path / "r.lock", "forks", str(seconds)) as other:
        ended(other)
        mine = Ownership(tmp_path / "r.lock", "r")
        mine.take()
        assert read_json(tmp_path / "r.json")["pid"] == os.getpid()
        mine.give_back()


def test_a_number_of_a_process_that_is_used_again_is_no_owner(tmp_path):
    with held(tmp_path / "r.lock", "forks", "1") as other:
        facts = read_json(tmp_path / "r.json")
        ended(other)
        (tmp_path / "r.json").write_text(json.dumps(facts | {"pid": os.getpid(), "birth": "1"}))
        mine = Ownership(tmp_path / "r.lock", "r")
        mine.take()
        mine.give_back()


def test_a_child_of_the_owner_passes_and_others_do_not(tmp_path, monkeypatch):
    with held(tmp_path / "r.lock") as owner:
        monkeypatch.setenv(OWNER, str(owner.pid))
        mine = Ownership(tmp_path / "r.lock", "r")
        mine.take()
        mine.give_back()
        assert read_json(tmp_path / "r.json")["pid"] == owner.pid, "it is still the owner's"
        monkeypatch.setenv(OWNER, str(os.getpid()))
        with pytest.raises(Owned):
            mine.take()


def test_where_files_cannot_be_locked_it_is_said(tmp_path, monkeypatch, capsys):
    """A folder in the place of the lock: a real error of the system, as some mounted drives give one."""
    (tmp_path / "r.lock").mkdir()
    Ownership(tmp_path / "r.lock", "the run 'r'").take()
    assert "cannot be locked here" in capsys.readouterr().out and (tmp_path / "r.json").exists()


@pytest.mark.parametrize("facts", ["", "[]", "{", "{\"pid\": 1}", "null"])
def test_damaged_facts_are_no_reason_to_stop(tmp_path, facts):
    (tmp_path / "r.json").write_text(facts)
    mine = Ownership(tmp_path / "r.lock", "r")
    mine.take()
    mine.give_back()
    with held(tmp_path / "r.lock"):
        (tmp_path / "r.json").write_text(facts)
        with pytest.raises(Owned, match="which has just started or ended"):
            mine.take()


class Kernel:
    """Windows' answers for a process that runs, one that has ended, one of the system, and one that there is not."""

    def __init__(self) -> None:
        self.opened, self.closed, self.error = [], [], 0

    def OpenProcess(self, access, inherit, pid):  # noqa: N802
        self.opened.append((access, pid))
        self.error = {4: 5}.get(pid, 87)
        return {10: 1, 11: 2}.get(pid, 0)

    def GetExitCodeProcess(self, handle, status):  # noqa: N802
        status._obj.value = {1: 259, 2: 1}[handle]
        return 1

    def CloseHandle(self, handle):  # noqa: N802
        self.closed.append(handle)


def test_on_windows_a_process_is_asked_for_without_a_signal(monkeypatch):
    """There os.kill(pid, 0) is Ctrl-C for the process and all that share its console."""
    kernel = Kernel()
    monkeypatch.setattr(ownership.ctypes, "WinDLL", lambda name, use_last_error: kernel, raising=False)
    monkeypatch.setattr(ownership.ctypes, "get_last_error", lambda: kernel.error, raising=False)
    monkeypatch.setattr(os, "kill", lambda *given: pytest.fail("a signal"))
    assert [ownership._process_runs(pid, "win32") for pid in (10, 11, 4, 12)] == [True, False, True, False]
    assert kernel.closed == [1, 2] and {access for access, _ in kernel.opened} == {0x1000}


def test_a_process_is_asked_for_by_its_number():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert ownership._process_runs(process.pid)
        process.communicate(b"\n")
    assert not ownership._process_runs(process.pid)


# %% whole runs
def test_a_run_that_is_owned_is_not_touched(dataset, tmp_path):
    config = tiny_settings(tmp_path, data_dir=str(dataset), run_name="r", use_kfold=False)
    paths = open_project(config).paths
    with held(paths.lock()):
        for step in (run, train_only, combine_only):
            with pytest.raises(Owned, match="is working on the run 'r'"):
                step(config)
    assert not paths.experiment.exists() and not paths.log.exists(), "nor does it stand anywhere as failed"


def test_a_fold_that_is_being_trained_is_refused_to_a_sibling(dataset, tmp_path, monkeypatch):
    """Children of one owner pass its lock, and each still has its fold for itself."""
    config = tiny_settings(tmp_path, data_dir=str(dataset), run_name="r", n_folds=2)
    paths = open_project(config).paths
    with held(paths.lock()) as owner, held(paths.lock(1)):
        monkeypatch.setenv(OWNER, str(owner.pid))
        with pytest.raises(Owned, match="is working on fold 1 of the run 'r'"):
            train_only(config)
    assert (paths.fold(0) / "result.json").exists() and not paths.fold(1).exists()
