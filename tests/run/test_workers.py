"""Folds at several places: the same as one after the other, told, stopped and ended together."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mcvqa import run
from mcvqa.base.budget import Rows, Schedule, Work
from mcvqa.base.files import RunLog
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted
from mcvqa.config import Config
from mcvqa.model.device import plan_device
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import train_only
from mcvqa.run.steps import Bench, _share_of_time
from mcvqa.run.workers import processes as places
from mcvqa.run.workers.processes import FREE, PlaceProcess, Places, fold_places
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import adapter_hash
from mcvqa.training.loop import RESUME
from tests.run.test_steps import said_by, short_run


# %% where
@pytest.mark.parametrize(("visible", "wanted", "found"), [
    (None, 0, ["0", "1"]), ("3,GPU-7f", 0, ["3", "GPU-7f"]), (None, 1, ["0"]), (None, 5, ["0", "1"]),
])
def test_one_place_for_each_gpu(monkeypatch, visible, wanted, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert fold_places(Config(parallel_folds=wanted), "cuda") == found


def test_without_gpus_one_place_unless_more_are_asked_for(monkeypatch):
    assert fold_places(Config(), "cpu") == [""] and fold_places(Config(parallel_folds=2), "cpu") == ["", ""]
    assert fold_places(Config(parallel_folds=5, n_folds=3), "cpu") == ["", "", ""], "no more than there are folds"
    assert fold_places(Config(parallel_folds=2), "mps") == [""]
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert fold_places(Config(parallel_folds=2), "cpu") == [""]


# %% within a time budget
@pytest.mark.parametrize(("trained", "folds", "left", "found"), [
    (0, 3, 3, (2, 0)), (0, 3, 2, (1, 1)), (0, 4, 1, (1, 1)), (2, 1, 1, (1, 1)), (0, 2, 2, (1, 0)),
])
def test_each_place_is_told_what_it_has_still_to_do(tmp_path, trained, folds, left, found):
    """Of two places; the numbers are folds to train with the next one, and rounds of scoring besides these."""
    log = RunLog(tmp_path / "log.jsonl")
    schedule = Schedule(lambda: 1e6, Work(folds, 1, 1, (1.0,)), Rows(8, 4, 4, 16), variants=1)
    bench = SimpleNamespace(schedule=schedule, places=["0", "1"])
    share = _share_of_time(SimpleNamespace(log=log), bench, trained, folds, left)
    assert share == dict(zip(("folds", "waiting"), found, strict=True))
    log.write("pace", learn=1e9, read=1.0, look=0.0)
    share = _share_of_time(SimpleNamespace(log=log), bench, trained, folds, left)
    assert (share is None) == (trained > 0 or folds - left >= 2), "those that begin at once measure for the others"
    assert schedule.pace.read == 1.0


def test_without_a_time_budget_there_is_nothing_to_tell():
    assert _share_of_time(None, SimpleNamespace(schedule=None), 0, 3, 3) == {}


# %% what is shown
def test_lines_are_passed_on_and_bars_in_a_few_words(tmp_path):
    file = tmp_path / "said.txt"
    file.write_bytes(b"of an earlier session\n")
    child = PlaceProcess(None, file, file.stat().st_size, fold=1, free=False)
    assert child.progress == "fold 1 ..."
    with open(file, "ab") as said:
        said.write(b"\rfold 1 epoch 1:  10%|#         | 3/27 [00:10<01:12,  1.2step/s, loss=0.5, skipped=0]")
        said.flush()
        assert list(child.new_lines()) == [] and child.progress == "fold 1 epoch 1 10% <01:12, loss=0.5, skipped=0"
        said.write("\r          \rfold 1 epoch 1: accuracy 0.6\n  4 rows 행".encode()[:-1])
        said.flush()
        assert list(child.new_lines()) == ["fold 1 epoch 1: accuracy 0.6"]
        said.write(b"\n\rvalidation: 100%|###| 2/2 [00:01<00:00, 3batch/s]\n")
        said.flush()
        assert len(list(child.new_lines())) == 1 and not child.free
        said.write(f"\n{FREE[:9]}".encode())
        said.flush()
        assert list(child.new_lines()) == [] and not child.free
        said.write(f"{FREE[9:]}\n".encode())
    assert list(child.new_lines()) == [] and child.free, "what is for the main process is not passed on"


# %% one process a place
ECHO = """
from mcvqa.run.workers.processes import at_place
at_place(lambda project, job: print(f"{job.step} fold {job.fold} in {job.settings['run_name']}"))
print("ended well")
"""


@pytest.fixture
def echoing(tmp_path, monkeypatch) -> Places:
    """Two places whose processes only say what they are asked for."""
    monkeypatch.setattr(places, "_program", lambda *_: [sys.executable, "-c", ECHO])
    return Places(Project(Config(run_name="r", output_dir=str(tmp_path))), ["", ""], 2)


def worked_at(place: Places, step: str, folds: tuple[int, ...], share=lambda left: {}) -> str:
    return said_by(place.work, None, step, place.project.config.replace(run_name=step), folds, share)[1]


def test_a_process_is_started_once_for_all_folds_and_steps(echoing):
    with echoing:
        echoing.begin(None, 1)
        (first,) = echoing.processes
        said = worked_at(echoing, "train", (0, 1, 2))
        assert first in echoing.processes
        started = [child.process for child in echoing.processes]
        said += worked_at(echoing, "score", (0, 1, 2), share=lambda left: None if left == 1 else {})
        assert [child.process for child in echoing.processes] == started and len(started) == 2
    assert {f"  {step} fold {fold} in {step}" for step in ("train", "score") for fold in (0, 1)} <= set(said.splitlines())
    assert "train fold 2" in said and "fold 2: left out" in said and FREE not in said
    assert [process.returncode for process in started] == [0, 0] and not echoing.processes
    assert both(echoing.project.paths.log).count("ended well") == 2


@pytest.mark.parametrize(("number", "error", "told"), [
    (signal.SIGKILL, RunStopped, "was ended by SIGKILL"), (signal.SIGTERM, Interrupted, "was asked to stop"),
])
def test_a_process_that_is_ended_while_it_waits_is_told(echoing, number, error, told):
    with pytest.raises(error, match=f"The process of fold 1 {told}"), echoing:
        worked_at(echoing, "train", (0, 1))
        first, second = (child.process for child in echoing.processes)
        second.send_signal(number)
        second.wait()
        worked_at(echoing, "score", (0, 1))
    assert first.returncode == 0


def test_processes_end_though_a_forked_one_holds_their_pipes_open(echoing):
    """As loader processes do, which an error keeps alive."""
    with echoing:
        worked_at(echoing, "train", (0, 1))
        started = [child.process for child in echoing.processes]
        holder = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
        holder.start()
    holder.kill()
    assert [process.returncode for process in started] == [0, 0]


def test_processes_that_still_import_are_not_waited_for(echoing, monkeypatch):
    monkeypatch.setattr(places, "_program", lambda *_: [sys.executable, "-c", "import time; time.sleep(100)"])
    with echoing:
        echoing.begin(None, 2)
        started = [child.process for child in echoing.processes]
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


def test_a_process_that_cannot_begin_is_told(echoing, monkeypatch):
    monkeypatch.setattr(places, "_program", lambda *_: [sys.executable, "-c", "import nothing_of_that_name"])
    with pytest.raises(RunStopped, match="A process that was to work on a fold was ended by an error, status 1"), echoing:
        worked_at(echoing, "train", (0, 1))


def test_an_error_that_is_not_written_for_people_is_told_with_its_fold(echoing, monkeypatch):
    fails = "from mcvqa.run.workers.processes import at_place; at_place(lambda project, job: 1 // job.fold)"
    monkeypatch.setattr(places, "_program", lambda *_: [sys.executable, "-c", fails])
    with pytest.raises(RunStopped, match="Fold 0: ZeroDivisionError"), echoing:
        worked_at(echoing, "train", (1, 0))
    assert "Traceback" in both(echoing.project.paths.log)


def test_a_process_that_waits_ends_with_its_owner(echoing):
    """However that one ends: here by SIGKILL."""
    owner = f"""
import os
from mcvqa.run.workers import processes as places
from mcvqa.config import Config
from mcvqa.run.project import open_project
places._program = lambda *_: [{sys.executable!r}, "-c", {ECHO!r}]
at = places.Places(Project(Config(run_name="r", output_dir={str(echoing.project.paths.root)!r})), ["", ""], 2)
at.work(None, "train", at.project.config, (0, 1), lambda left: {{}})
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", owner], timeout=100).returncode == -signal.SIGKILL
    until = time.monotonic() + 20
    while both(echoing.project.paths.log).count("ended well") < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert both(echoing.project.paths.log).count("ended well") == 2


# %% the same as one after the other
def weights_and_scores(config: Config) -> SimpleNamespace:
    paths = open_project(config).paths
    return SimpleNamespace(
        weights=[adapter_hash(paths.fold(fold) / name) for fold in (0, 1, 2) for name in ("best", "last")],
        scores=[load_scores(file).logprobs for file in sorted(paths.scores.glob("fold*.npz"))],
        names=sorted(file.name for file in paths.scores.glob("*.npz")),
        log=RunLog(paths.log),
    )


@pytest.mark.parametrize("settings", [
    dict(lora_dropout=0.1, use_tta=True, tta_orders=2), dict(lora_r=0, num_epochs=1),
], ids=["adapters", "all weights"])
def test_three_folds_at_two_places_are_those_one_after_the_other(dataset, tmp_path, settings):
    """Bit for bit: weights, scores, submissions; the features are computed once."""
    settings = dict(n_folds=3, num_workers=0) | settings
    one, two = (short_run(dataset, tmp_path / f"{n}", parallel_folds=n, **settings) for n in (1, 2))
    outcome = said_by(run, one)[0]
    other, said = said_by(run, two)
    assert other.accuracy == outcome.accuracy and other.submission.read_bytes() == outcome.submission.read_bytes()
    alone, beside = map(weights_and_scores, (one, two))
    assert alone.weights == beside.weights and alone.names == beside.names
    for left, right in zip(alone.scores, beside.scores, strict=True):
        np.testing.assert_array_equal(left, right)
    assert said.count("2 folds at a time, each in a process of its own, on the CPU") == 2 and FREE not in said
    assert said.count("image features:") == (one.lora_r > 0) and all(f"fold {fold}: accuracy" in said for fold in range(3))
    assert [said.count(f"[{n}/10]") for n in range(1, 11)] == [1] * 10
    for event in ("step", "epoch", "scored", "features", "session"):
        assert len(alone.log.events(event)) == len(beside.log.events(event)), event
    assert both(beside.log.path).count(FREE) == 2 + 6, "two processes, and three folds in two steps"
    assert (open_project(two).paths.outputs / "submission_single.csv").exists()


def test_the_main_process_computes_the_features_and_gives_the_models_memory_back(dataset, tmp_path):
    config = short_run(dataset, tmp_path, use_tta=True, tta_scales=(1.0, 1.5))
    bench = Bench(open_project(config), plan_device(config))
    model = weakref.ref(said_by(lambda: bench.base)[0].model)
    said_by(bench.share)
    assert model() is None
    assert {event["scale"] for event in RunLog(open_project(config).paths.log).events("features")} == {1.0, 1.5}


# %% errors and signals
def test_a_fold_that_fails_is_told_and_the_others_save(dataset, tmp_path):
    """Fold 1 finds a resume point of other rows; fold 0, which would take long, stops and can go on."""
    config = short_run(dataset, tmp_path, parallel_folds=2, num_epochs=1)
    said_by(train_only, config, 1)
    folder = open_project(config).paths.fold(1)
    (folder / "result.json").unlink()
    (folder / "best" / "adapter_model.safetensors").unlink()
    point = folder / RESUME / "0000-00000001"
    point.mkdir(parents=True)
    (point / "state.json").write_text('{"format": 0}')
    (point / "manifest.json").write_text('{"files": {}}')
    (point / "tensors.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(RunStopped, match=r"(?s)Fold 1 was cut off at another state of things.*it has format 0"):
        said_by(train_only, config.replace(save_minutes=0))
    assert "Traceback" not in both(open_project(config).paths.log)
    said_by(train_only, config.replace(train_folds=(0,)))


def test_a_fold_whose_process_is_killed_is_told(dataset, tmp_path, monkeypatch):
    config = short_run(dataset, tmp_path, parallel_folds=2)
    killed = "import os; from mcvqa.run.workers.processes import at_place; at_place(lambda project, job: os.kill(os.getpid(), 9))"
    monkeypatch.setattr(places, "_program", lambda *_: [sys.executable, "-c", killed])
    with pytest.raises(RunStopped, match=r"The process of fold [01] was ended by SIGKILL"):
        said_by(train_only, config)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_processes_of_folds_save_and_end_with_the_main_one(dataset, tmp_path, number):
    config = short_run(dataset, tmp_path, parallel_folds=2, num_epochs=200, batch_size=1)
    (tmp_path / "settings.yaml").write_text(config.to_yaml(), encoding="utf-8")
    paths = open_project(config).paths
    command = [sys.executable, "-m", "mcvqa", "train", "--config", str(tmp_path / "settings.yaml")]
    with open(tmp_path / "said.txt", "w+b") as said, subprocess.Popen(
        command, stdout=said, stderr=said, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        until = time.monotonic() + 120
        while {e["fold"] for e in RunLog(paths.log).events("step")} != {0, 1} and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, number)
        status = process.wait(timeout=60)
    assert status == (-number if number == signal.SIGKILL else RUN_ME_AGAIN), (tmp_path / "said.txt").read_text()
    while both(paths.log).count("Stopped") < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert both(paths.log).count("Stopped") == 2 and "Traceback" not in both(paths.log)
    assert all(any((paths.fold(fold) / RESUME).iterdir()) for fold in (0, 1))


def both(log: Path) -> str:
    """What the processes of two places said."""
    return "".join(log.with_name(f"r-place{place}.txt").read_text() for place in (0, 1))
