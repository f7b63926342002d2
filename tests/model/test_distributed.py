"""Work in several processes: what is divided comes back whole, what fails ends all and is told once."""
import os
import subprocess
import sys

import pytest
import torch

from mcvqa.config import Config
from mcvqa.model.device import DeviceError
from mcvqa.model.distributed import by_each, by_main, divided, is_main_process, join_processes, own_share


def side_by_side(*words: str, count: int = 2) -> list[tuple[int, str, str]]:
    """(exit status, stdout, stderr) of each of `count` processes: no launcher, so nobody ends the ones that would wait."""
    port = 20_000 + os.getpid() % 10_000  # below those that the system gives out, so nobody else takes it meanwhile
    world = dict(WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                 OMP_NUM_THREADS="1")
    started = [
        subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
                         env=os.environ | world | {"RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(count)
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


# %% one process
def test_one_process_just_calls():
    assert is_main_process() and own_share([3, 4]) == [3, 4]
    assert by_main(max, 2, 5) == by_each(max, 2, 5) == 5
    assert divided([1, 2, 3], lambda own: (2 * i for i in own)) == [2, 4, 6] and divided([], list) == []
    error = ValueError("as it is")
    with pytest.raises(ValueError) as raised:
        divided([1], lambda own: (_ for _ in ()).throw(error))
    assert raised.value is error and not hasattr(error, "__notes__")


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="2 processes need 2 GPUs, but there are 1"):
        join_processes(Config())


# %% several
DIVIDING = """
import os
from unittest.mock import patch
from mcvqa.config import Config
from mcvqa.model.distributed import *
from mcvqa.model.distributed import PartialState
rank = int(os.environ["RANK"])
for run in range(2):  # they stay together between two runs of a program
    join_processes(Config(device="cpu"))
    assert PartialState().num_processes == 3 and is_main_process() == (rank == 0)
    for n in (0, 1, 7):
        assert divided(range(n), lambda own: [(i, 10 * i) for i in own]) == [(i, 10 * i) for i in range(n)]
    assert by_each(lambda: rank) == rank and by_main(lambda: [rank]) == [0]
    assert list(own_share("abcdefg")) == list("abcdefg")[rank::3]
with patch("torch.cuda.is_available", lambda: True), patch("torch.cuda.device_count", lambda: 3):
    try:
        join_processes(Config())
    except DeviceError as error:
        print(error)
print("so far", flush=True)
def work(own):
    if rank == 2:
        {}["lost"]
    return own
divided([1, 2, 3], work)
print("never")
"""


def test_what_is_divided_comes_back_whole_and_an_error_ends_all(tmp_path):
    script = tmp_path / "dividing.py"
    script.write_text(DIVIDING, encoding="utf-8")
    ended = side_by_side(str(script), count=3)
    said = "The processes of this program are already set up to compute on cpu: start this run in a separate program.\nso far\n"
    assert [(status, out) for status, out, _ in ended] == [(1, said), (0, said), (0, said)], ended
    assert "KeyError: 'lost'" in ended[0][2] and (sys.version_info < (3, 11) or "In process 2: Traceback" in ended[0][2])
    # torch itself may warn of a lost connection there, so not every word is ours
    assert all("KeyError" not in message and "Traceback" not in message for _, _, message in ended[1:]), "said once, by one"


TOGETHER = """
import os, signal, time
from mcvqa.base.budget import Alarm, TimeUp
from mcvqa.base.interrupt import Interrupted, StopRequest
from mcvqa.config import Config
from mcvqa.model.distributed import by_each, by_main, divided, join_processes, progress
rank = int(os.environ["RANK"])
join_processes(Config(device="cpu"))
def read(own):
    return [i for i in progress(own)]
def signalled(own):
    if rank == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return read(own)
def leaves(limit, work, *given, **request):
    try:
        with Alarm(limit), StopRequest(at_once=True):
            work(*given)
            print("never", flush=True)
    except (TimeUp, Interrupted) as left:
        print(type(left).__name__, left, flush=True)
    assert divided(range(5), read) == [0, 1, 2, 3, 4]  # the processes still understand one another
mine = 0.0 if rank == 1 else 1000.0  # one clock is over, the others are not
leaves(mine, divided, range(9), read)
leaves(mine, by_each, str)
leaves(mine, by_main, str)
leaves(1.0, by_main, time.sleep, 100)
leaves(1000, divided, range(9), signalled)
leaves(1000, lambda: [signalled([]), by_each(str)])
"""


def test_of_the_end_of_the_time_and_of_a_signal_all_hear_together(tmp_path):
    """Met by one process only; the main one is called away in the middle of what it does by itself."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER, encoding="utf-8")
    ended = side_by_side(str(script), count=3)
    said = 4 * "TimeUp \n" + 2 * "Interrupted Stopped. Finished work is saved.\n"
    assert [(status, out) for status, out, _ in ended] == 3 * [(0, said)], ended
    assert [err.count("SIGTERM: stopping as soon as all processes can") for *_, err in ended] == [0, 0, 2]


@pytest.mark.nightly
def test_an_error_of_the_main_process_does_not_leave_the_others_waiting(tmp_path):
    """The whole program on data that is not there."""
    settings = Config(output_dir=str(tmp_path), data_dir=str(tmp_path / "nowhere"), model_id="tiny", device="cpu", run_name="r")
    (tmp_path / "r.yaml").write_text(settings.to_yaml(), encoding="utf-8")
    ended = side_by_side("-m", "mcvqa", "run", "--config", str(tmp_path / "r.yaml"))
    assert [status for status, *_ in ended] == [1, 0]
    assert ended[0][2].count("error: There is no") == 1 and "Traceback" not in ended[0][2]
    assert ended[0][1].count("[3/10]") == 1
    assert not ended[1][1] and "error:" not in ended[1][2] and "Traceback" not in ended[1][2], "the others end without a word"
    assert not (tmp_path / "experiments").exists(), "what fails before the data are read leaves nothing behind"


def test_a_command_that_divides_nothing_is_refused():
    ended = side_by_side("-m", "mcvqa", "search")
    assert [status for status, *_ in ended] == [1, 0]
    assert ended[0][2].strip() == "error: search runs in a single process: start it without a launcher." and not ended[1][2]
