"""Processes that make batches: real ones that die, hang, or run out of shared memory."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcvqa.model import batches
from tests.faults import needs_mounts

FAILING = """
import multiprocessing
from mcvqa.model.batches import Batches
def work():
    batches = iter(Batches(range(100), range(100), 2, pin=False))  # an error keeps it, as it keeps all local names
    print(next(batches), len(multiprocessing.active_children()), flush=True)
    raise ValueError("in the middle")
if __name__ == "__main__":
    work()
"""


def ran(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess:
    script = folder / "script.py"
    script.write_text(program, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != batches.NO_LOADERS}  # another test may have met trouble
    return subprocess.run([*words, sys.executable, script], capture_output=True, text=True, timeout=100, env=env)


def test_an_error_amid_batches_ends_the_program(tmp_path):
    """It used to wait for ever: Python sent SIGTERM, which processes that make batches ignore."""
    ended = ran(tmp_path, FAILING)
    assert (ended.returncode, ended.stdout) == (1, "0 2\n") and ended.stderr.endswith("ValueError: in the middle\n")


LARGE = """
import multiprocessing
from dataclasses import dataclass
import torch
from mcvqa.model.batches import Batches

@dataclass(frozen=True)
class Part:
    values: dict
    none: None = None

class Rows(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return [Part({"values": torch.full((500_000,), float(key)), "empty": torch.empty(0)})]

if __name__ == "__main__":
    for run in range(2):
        assert [int(batch[0].values["values"].sum()) for batch in Batches(Rows(), range(20), 2, pin=False)] == [
            500_000 * key for key in range(20)]
    print(len(multiprocessing.active_children()))
"""


def test_shared_memory_that_is_too_small_is_done_without(tmp_path):
    """A real one of 8 MB, as Docker gives 64: the loader processes cannot pass on what they make."""
    in_small = needs_mounts("mount -t tmpfs -o size=8m tmpfs /dev/shm")
    ended = ran(tmp_path, LARGE, *in_small)
    assert ended.returncode == 0, ended.stderr
    *said, workers = ended.stdout.splitlines()
    assert len(said) == 1 and workers == "0", "it is said once, and no loader process stays"
    assert "unable to allocate shared memory" in said[0] or "out of shared memory: a bus error" in said[0]  # as torch 2.6 ends
    assert "--set num_workers=0" in said[0] and "--shm-size" in said[0] and "batches are made without" in said[0]


STOPPED = """
import multiprocessing, os, signal
import torch
from mcvqa.model import batches
batches.POLL, batches.SILENCE = 0.5, 6.0

class Rows(torch.utils.data.Dataset):
    def __getitem__(self, key):
        if key == 7 and torch.utils.data.get_worker_info():
            os.kill(os.getpid(), signal.SIGSTOP)
        return key

if __name__ == "__main__":
    for run in range(2):
        assert list(batches.Batches(Rows(), range(20), 2, pin=False)) == list(range(20))
    print(len(multiprocessing.active_children()))
"""


@pytest.mark.nightly
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
def test_a_loader_process_that_hangs_is_not_waited_for_without_end(tmp_path):
    ended = ran(tmp_path, STOPPED)
    assert ended.returncode == 0, ended.stderr
    said, workers = ended.stdout.splitlines()
    assert "Loader processes have made no batch for 6 s (--set num_workers=0" in said and "batches are made without" in said
    assert workers == "0", "what hung is ended"


TORN = """
import multiprocessing, os, pathlib, signal, time
import torch
from mcvqa.model import batches
batches.POLL = 0.5
sending, reads_no_more = (pathlib.Path(__file__).with_name(name) for name in ("sending", "reads_no_more"))

class Rows(torch.utils.data.Dataset):
    def __getitem__(self, key):
        if key == 3 and torch.utils.data.get_worker_info():
            while not reads_no_more.exists():  # else a slow start of the other process lets the whole message through
                time.sleep(0.1)
            sending.with_suffix(".part").write_text(str(os.getpid()))
            sending.with_suffix(".part").rename(sending)
            return bytes(10_000_000)  # a pipe holds 64 KB, so this waits in the middle of the message
        return bytes(1)

def kill_the_sender():
    children = multiprocessing.active_children()
    reads_no_more.touch()
    while not sending.exists():
        time.sleep(0.1)
    time.sleep(0.5)  # until the pipe is full
    os.kill(int(sending.read_text()), signal.SIGKILL)
    while all(process.exitcode is None for process in children):
        time.sleep(0.1)

if __name__ == "__main__":
    sizes = []
    for batch in batches.Batches(Rows(), range(8), 2, pin=False):
        sizes.append(len(batch))
        if len(sizes) == 1:
            kill_the_sender()
    print(sizes == [1] * 8, len(multiprocessing.active_children()))
"""


@pytest.mark.nightly
def test_a_loader_process_that_is_killed_in_the_middle_of_a_message_is_not_waited_for(tmp_path):
    """The rest of the message never comes, and other processes keep the pipe open."""
    ended = ran(tmp_path, TORN)
    assert ended.returncode == 0, ended.stderr
    said, last = ended.stdout.splitlines()
    assert "a loader process was ended" in said and "batches are made without" in said and last == "True 0"


@pytest.mark.nightly
def test_a_slow_loader_process_is_waited_for(tmp_path):
    """Silence of a few polls is no failure, nor does it lose or double a batch."""
    slow = STOPPED.replace("os.kill(os.getpid(), signal.SIGSTOP)", "import time; time.sleep(2)")
    assert slow != STOPPED
    ended = ran(tmp_path, slow)
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
