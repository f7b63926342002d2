"""Workers in processes of their own: the same results as one after the other, errors reported, stopped and ended together."""
import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mcvqa import run
from mcvqa.base.budget import RowCounts, Schedule, Work
from mcvqa.base.files import RunLog
from mcvqa.base.interrupt import RUN_ME_AGAIN, Interrupted
from mcvqa.config import Config
from mcvqa.model.device import plan_device
from mcvqa.run.dataset import read_data
from mcvqa.run.execution import allot_training, begin_tasks, data_key, prepare_model, worker_pool
from mcvqa.run.folds import split_rows
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import train_only
from mcvqa.run.tasks import Task, TaskGraph
from mcvqa.run.workers import processes
from mcvqa.run.workers.inline import InlineWorker
from mcvqa.run.workers.pool import ReportedBars, ReportedLines
from mcvqa.run.workers.processes import MainProcess, ProcessWorkers, worker_gpus
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import adapter_hash
from mcvqa.training.resume import RESUME
from tests.run.test_steps import said_by, short_run


# %% where
@pytest.mark.parametrize(("visible", "wanted", "found"), [
    (None, 0, ["0", "1"]), ("3,GPU-7f", 0, ["3", "GPU-7f"]), (None, 1, ["0"]), (None, 5, ["0", "1"]),
])
def test_one_worker_for_each_gpu(monkeypatch, visible, wanted, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert worker_gpus(Config(parallel_folds=wanted), "cuda") == found


def test_a_worker_has_as_many_gpus_as_its_model_needs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,8")
    assert worker_gpus(Config(gpus_per_model="2"), "cuda") == ["4,5", "6,7"], "the fifth would be half a worker"
    assert worker_gpus(Config(), "cuda", 2) == ["4,5", "6,7"], "as the model turned out to need"
    assert worker_gpus(Config(gpus_per_model="4"), "cuda", 2) == ["4,5,6,7"]
    assert worker_gpus(Config(gpus_per_model="2", parallel_folds=1), "cuda") == ["4,5"]


def test_without_gpus_one_worker_unless_more_are_asked_for(monkeypatch):
    assert worker_gpus(Config(), "cpu") == [""] and worker_gpus(Config(parallel_folds=2), "cpu") == ["", ""]
    assert worker_gpus(Config(parallel_folds=5, n_folds=3), "cpu") == ["", "", ""], "no more than there are folds"
    assert worker_gpus(Config(parallel_folds=2), "mps") == [""]
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert worker_gpus(Config(parallel_folds=2), "cpu") == [""]


# %% tasks
def folds_of_a_run(folds: int) -> list[Task]:
    """Train and score so many folds, as a run would."""
    return [
        *(Task("train", f"train fold {k}", "key", arguments={"fold": k}) for k in range(folds)),
        *(Task("score", f"score fold {k}", "key", needs=(f"train fold {k}",), arguments={"fold": k}) for k in range(folds)),
    ]


def graph_of(folds: int) -> TaskGraph:
    return TaskGraph.of(folds_of_a_run(folds), lambda task: False)


def test_what_was_made_from_a_lost_result_is_made_again_with_it():
    graph = TaskGraph.of(folds_of_a_run(2), lambda task: task.name != "train fold 1")
    assert graph.done == {"train fold 0", "score fold 0"}
    assert graph.outstanding(["score fold 0", "score fold 1"]) == ["train fold 1", "score fold 1"]


def test_one_after_the_other_in_this_process():
    done: list[str] = []
    worker, graph = InlineWorker(lambda task: done.append(task.name)), graph_of(2)
    worker.run(graph, ["score fold 1"])
    assert done == ["train fold 1", "score fold 1"], "what the goal needs, and nothing else"
    worker.run(graph, ["score fold 0", "score fold 1"])
    assert done[2:] == ["train fold 0", "score fold 0"]


def test_what_needs_a_task_that_is_left_out_is_left_out_too(capsys):
    done: list[str] = []
    graph = graph_of(2)
    InlineWorker(lambda task: done.append(task.name)).run(
        graph, ["score fold 0", "score fold 1"], lambda task: None if task.name == "train fold 1" else task
    )
    assert done == ["train fold 0", "score fold 0"] and graph.left_out == {"train fold 1", "score fold 1"}
    assert "train fold 1: left out, there is no time for it" in capsys.readouterr().out


# %% within a time budget
@pytest.mark.parametrize(("trained", "folds", "left", "found"), [
    (0, 3, 3, (2, 0)), (0, 3, 2, (1, 1)), (0, 4, 1, (1, 1)), (2, 1, 1, (1, 1)), (0, 2, 2, (1, 0)),
])
def test_each_worker_knows_what_it_has_still_to_do(trained, folds, left, found):
    """Of two workers; the numbers are folds to train with the next one, and rounds of scoring besides these."""
    schedule = Schedule(lambda: 1e6, Work(folds, 1, 1, (1.0,)), RowCounts(8, 4, 4, 16), variants=1)
    workers = ProcessWorkers(None, None, ["0", "1"], {}, 0)
    execution = SimpleNamespace(schedule=schedule, workers=workers, side=SimpleNamespace(unencoded=0), encode_on_demand=False)
    allot = allot_training(execution, trained, range(folds))
    tasks = folds_of_a_run(folds)
    for task in tasks[: folds - left]:
        allot(task)
    assert allot(tasks[folds - left]).arguments["share"] == dict(zip(("folds", "waiting"), found, strict=True))

    workers.facts |= {"pace": {"learn": 1e9, "read": 1.0, "encode": 0.0}, "unencoded": 0}
    allot = allot_training(execution, trained, range(folds))
    message = [allot(task) for task in tasks[: folds - left + 1]][-1]
    assert (message is None) == (trained > 0 or folds - left >= 2), "those that begin at once measure for the others"
    assert schedule.pace.read == 1.0


def test_without_a_time_budget_a_task_is_done_as_it_is():
    task = folds_of_a_run(1)[0]
    assert allot_training(SimpleNamespace(schedule=None, workers=[1]), 0, [0])(task) is task


# %% what a worker reports
class Pipe:
    """What a worker's reports are written to."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def flush(self) -> None:
        pass


def test_whole_lines_and_bars_are_reported_and_everything_is_kept(tmp_path):
    """Also Korean text that is written in pieces."""
    pipe, main = Pipe(), None
    main = MainProcess(pipe)
    with open(tmp_path / "log.txt", "w", encoding="utf-8") as log:
        lines, bars = ReportedLines(main, log), ReportedBars(main, log)
        lines.write("fold 1: 정확")
        lines.write("도 0.6\n\n  4 rows")
        bars.write("\rfold 1 epoch 1 10% <01:12, 1.2step/s, loss=0.5")
        bars.write("\r        \r")
        bars.write("a warning of a library\n")
        lines.write(" left\n")
    assert [json.loads(line) for line in pipe.written.splitlines()] == [
        {"line": "fold 1: 정확도 0.6"}, {"bar": "fold 1 epoch 1 10% <01:12, 1.2step/s, loss=0.5"}, {"line": "4 rows left"},
    ]
    kept = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "정확도" in kept and "a warning" in kept and "10%" not in kept


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_log_that_cannot_be_written_ends_no_work():
    pipe, log = Pipe(), io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)
    ReportedLines(MainProcess(pipe), log).write("accuracy 0.6\n")
    ReportedBars(MainProcess(pipe), log).write("a warning of a library\n")
    assert json.loads(pipe.written) == {"line": "accuracy 0.6"}


# %% one process a worker
ECHO = """
import sys
from mcvqa.run.workers.processes import serve
def begin(project, settings):
    def do(task):
        print(f"{task.name} in {project.config.run} {settings['word']}")
        return {"last": task.name}
    print("begun", file=sys.__stderr__, flush=True)
    return do
serve(begin)
print("ended well", file=sys.__stderr__)
"""


@pytest.fixture
def workers_of(tmp_path, monkeypatch):
    """workers_of(program) -> two workers whose processes run it."""
    started: list[ProcessWorkers] = []

    def start(program: str = ECHO) -> ProcessWorkers:
        monkeypatch.setattr(processes, "worker_command", lambda *_: [sys.executable, "-c", program])
        started.append(ProcessWorkers(
            open_project(Config(run_name="r", output_dir=str(tmp_path))), print, ["", ""], {"word": "well"}, 2
        ))
        return started[-1]

    yield start
    for workers in started:
        workers.close()


def doing(what: str) -> str:
    """A program of a worker that does `what` with each task."""
    return f"""
import os, signal, sys, time
from mcvqa.run.workers.processes import serve
def do(task):
    {what}
    return {{}}
serve(lambda project, settings: do)
"""


def test_a_process_is_started_once_for_all_tasks_and_a_free_one_takes_what_is_ready(workers_of):
    workers, graph = workers_of(), graph_of(3)
    said = said_by(workers.run, graph, [f"train fold {k}" for k in range(3)])[1]
    started = [worker.process for worker in workers.workers]
    said += said_by(workers.run, graph, [f"score fold {k}" for k in range(3)])[1]
    assert [worker.process for worker in workers.workers] == started and len(started) == 2
    assert graph.done == set(graph.tasks)
    assert {f"  {task} in r well" for task in graph.tasks} <= set(said.splitlines())
    assert workers.facts["last"].startswith("score fold")
    workers.close()
    assert [process.returncode for process in started] == [0, 0] and not workers.workers
    assert both(workers.project.paths.log).count("ended well") == 2


def test_processes_are_launched_before_the_data_are_read_and_end_with_a_run_that_fails_then(dataset, tmp_path, monkeypatch):
    launched: list[processes.WorkerProcess] = []

    def explore(project):
        assert [worker.process.poll() for worker in launched] == [None, None], "they import meanwhile"
        raise RunStopped("nothing to read")

    plain = ProcessWorkers._launched
    monkeypatch.setattr(processes, "worker_command", lambda *_: [sys.executable, "-c", ECHO])
    monkeypatch.setattr(ProcessWorkers, "_launched", lambda self, n: launched.append(plain(self, n)) or launched[-1])
    monkeypatch.setattr("mcvqa.run.steps.explore_data", explore)
    with pytest.raises(RunStopped, match="nothing to read"):
        said_by(run, short_run(dataset, tmp_path, parallel_folds=2))
    assert [worker.process.returncode for worker in launched] == [-signal.SIGKILL] * 2, "they have nothing to save"


def test_a_process_whose_owner_is_gone_before_it_begins_ends(tmp_path):
    ended = subprocess.run([sys.executable, "-c", ECHO], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0 and "ended well" in ended.stderr and "begun" not in ended.stderr and not ended.stdout


def test_a_free_worker_scores_while_another_trains(workers_of, tmp_path):
    """The second fold trains until the first one's scores are there."""
    waits = f"""
    flag = {str(tmp_path / 'scored')!r}
    if task.name == "train fold 1":
        while not os.path.exists(flag):
            time.sleep(0.05)
    if task.name == "score fold 0":
        open(flag, "w").close()"""
    workers, graph = workers_of(doing(waits)), graph_of(2)
    workers.run(graph, ["train fold 0", "train fold 1"])
    assert "score fold 0" in graph.done


def test_a_task_that_still_runs_when_goals_are_done_is_not_done_again(workers_of, tmp_path):
    """A free worker scores fold 0, which takes until fold 2 is scored; fold 1 is trained once that has begun."""
    what = f"""
    done, scored = {str(tmp_path / 'done.txt')!r}, {str(tmp_path / 'scored')!r}
    while task.name == "train fold 1" and not (os.path.exists(done) and "score fold 0" in open(done).read()):
        time.sleep(0.05)
    if os.path.exists(done) and task.name in open(done).read().splitlines():
        raise ValueError("again")
    print(task.name, file=open(done, "a"), flush=True)
    while task.name == "score fold 0" and not os.path.exists(scored):
        time.sleep(0.05)
    if task.name == "score fold 2":
        open(scored, "w").close()"""
    workers = workers_of(doing(what))
    workers.run(graph_of(2), ["train fold 0", "train fold 1"])
    assert [worker.task for worker in workers.workers].count("score fold 0") == 1
    graph = TaskGraph.of(folds_of_a_run(3), lambda task: task.kind == "train")
    workers.run(graph, ["score fold 0", "score fold 1", "score fold 2"])
    names = (tmp_path / "done.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(names) == ["score fold 0", "score fold 1", "score fold 2", "train fold 0", "train fold 1"]


def test_which_worker_did_which_task_is_logged(workers_of, monkeypatch):
    workers, graph, clock = workers_of(), graph_of(3), itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: next(clock))  # which is set back again and again
    workers.run(graph, list(graph.tasks))
    events = workers.project.log.events("task")
    assert sorted(event["task"] for event in events) == sorted(graph.tasks)
    assert all(event["worker"] in ("worker 0", "worker 1") and "began" in event and event["seconds"] >= 0 for event in events)


def test_a_task_that_is_left_out(workers_of):
    workers, graph = workers_of(), graph_of(2)
    goals = list(graph.tasks)
    _, said = said_by(workers.run, graph, goals, lambda task: None if task.name == "train fold 1" else task)
    assert "train fold 1: left out" in said and graph.done == {"train fold 0", "score fold 0"}


@pytest.mark.parametrize(("number", "error", "message"), [
    (signal.SIGKILL, RunStopped, "was ended by SIGKILL"), (signal.SIGTERM, Interrupted, "was asked to stop"),
])
def test_a_process_that_is_ended_while_it_waits_is_reported(workers_of, number, error, message):
    workers = workers_of()
    workers.run(TaskGraph.of(folds_of_a_run(2)[:2], lambda task: False), ["train fold 0", "train fold 1"])
    first, second = (worker.process for worker in workers.workers)
    assert wait_for(lambda: both(workers.project.paths.log).count("begun") == 2, 60)
    second.send_signal(number)
    second.wait()
    with pytest.raises(error, match=f"Worker 1.* {message}"):
        workers.run(graph_of(2), ["score fold 0", "score fold 1"])
    assert first.returncode in (0, RUN_ME_AGAIN), "it was free, or had begun a task"


def test_processes_end_though_a_forked_one_holds_their_pipes_open(workers_of):
    """As loader processes do, which an error keeps alive."""
    workers = workers_of()
    workers.run(graph_of(2), ["train fold 0", "train fold 1"])
    started = [worker.process for worker in workers.workers]
    holder = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
    holder.start()
    workers.close()
    holder.kill()
    assert {process.returncode for process in started} <= {0, RUN_ME_AGAIN}, "one may still have been starting"


def test_a_process_that_cannot_begin_is_reported(workers_of):
    with pytest.raises(RunStopped, match=r"Worker [01] was ended by an error, status 1\. Its full output: .*worker"):
        workers_of("import nothing_of_that_name").run(graph_of(2), ["train fold 0", "train fold 1"])


def test_an_error_that_is_not_written_for_people_is_reported_with_its_task(workers_of):
    workers = workers_of(doing("1 // task.arguments['fold']"))
    with pytest.raises(RunStopped, match="Train fold 0: ZeroDivisionError"):
        workers.run(graph_of(2), ["train fold 1", "train fold 0"])
    assert "Traceback" in both(workers.project.paths.log)


def test_a_process_that_waits_ends_with_its_owner(workers_of):
    """However that one ends: here by SIGKILL."""
    workers = workers_of()
    owner = f"""
import os
from mcvqa.config import Config
from mcvqa.run.project import open_project
from mcvqa.run.tasks import Task, TaskGraph
from mcvqa.run.workers import processes
processes.worker_command = lambda *_: [{sys.executable!r}, "-c", {ECHO!r}]
project = open_project(Config(run_name="r", output_dir={str(workers.project.paths.root)!r}))
tasks = [Task("train", f"train fold {{k}}", "key", arguments={{"fold": k}}) for k in (0, 1)]
processes.ProcessWorkers(project, print, ["", ""], {{"word": "well"}}, 2).run(
    TaskGraph.of(tasks, lambda task: False), [task.name for task in tasks])
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", owner], timeout=200).returncode == -signal.SIGKILL
    assert wait_for(lambda: both(workers.project.paths.log).count("ended well") == 2, 60)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


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
    pytest.param(dict(lora_dropout=0.1, use_tta=True, tta_orders=2), id="adapters", marks=pytest.mark.nightly),
    pytest.param(dict(lora_r=0, num_epochs=1), id="all weights", marks=pytest.mark.torture),
])
def test_three_folds_on_two_workers_are_those_one_after_the_other(dataset, tmp_path, settings):
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
    assert said.count("2 workers, each in a process of its own, on the CPU") == 1
    assert said.count("image features") == 1 and all(f"fold {fold}: accuracy" in said for fold in range(3))
    assert [said.count(f"[{n}/10]") for n in range(1, 11)] == [1] * 10
    for event in ("step", "epoch", "scored", "session"):
        assert len(alone.log.events(event)) == len(beside.log.events(event)), event
    images = [[event["images"] for event in each.log.events("features")] for each in (alone, beside)]
    assert sum(images[0]) == sum(images[1]) and (one.lora_r == 0 or (len(images[0]), len(images[1])) == (1, 2)), "all make some"
    assert (open_project(two).paths.outputs / "submission_single.csv").exists()


def test_the_main_process_gives_back_the_memory_of_its_model_before_workers_load_theirs(dataset, tmp_path):
    config = short_run(dataset, tmp_path, parallel_folds=2)
    project = open_project(config)
    data = split_rows(read_data(project), config)
    execution = said_by(prepare_model, project, data, plan_device(config))[0]
    model = weakref.ref(execution.side.load().base.model)
    execution.unload_model()
    assert model() is None


def test_workers_that_were_launched_early_get_the_settings_as_they_were_settled_then(dataset, tmp_path):
    config = short_run(dataset, tmp_path, parallel_folds=2)
    project, plan = open_project(config), plan_device(config)
    launched = worker_pool(project, plan)
    settled = open_project(config.replace(user_prompt="{question} {options}"))
    data = split_rows(read_data(settled), config)
    execution = said_by(prepare_model, settled, data, plan, launched)[0]
    assert execution.workers is launched and launched.project is settled and "keep_features" in launched.settings


def test_a_worker_that_reads_other_rows_than_the_run_began_with_refuses(dataset, tmp_path):
    """train.csv was saved again while workers started, or a node has a copy of its own: weights counted as of the old rows."""
    shutil.copytree(dataset, tmp_path / "data")
    config = short_run(tmp_path / "data", tmp_path, parallel_folds=2)
    project = open_project(config)
    settings = {"keep_features": True, "data": data_key(config, split_rows(read_data(project), config))}
    assert callable(begin_tasks(project, settings))
    train = tmp_path / "data" / "train.csv"
    train.write_text(train.read_text(encoding="utf-8").replace("사진 3의", "사진 33의"), encoding="utf-8")
    with pytest.raises(RunStopped, match=r"has read other rows or photographs in .*data than this run began"):
        begin_tasks(project, settings)


# %% errors and signals
@pytest.mark.nightly
def test_a_fold_that_fails_is_said_and_the_others_save(dataset, tmp_path):
    """Fold 1 finds a resume point of other rows; fold 0, which would take long, stops and can go on."""
    config = short_run(dataset, tmp_path, parallel_folds=2, num_epochs=1)
    alone = config.replace(parallel_folds=1)
    said_by(train_only, alone, 1)
    folder, record = open_project(config).paths.fold(1), open_project(config).records.file("train fold 1")
    record.unlink()
    (folder / "result.json").unlink()
    (folder / "best" / "adapter_model.safetensors").unlink()
    point = folder / RESUME / "0000-00000001"
    point.mkdir(parents=True)
    (point / "state.json").write_text('{"format": 0}')
    (point / "manifest.json").write_text('{"files": {}}')
    (point / "tensors.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(RunStopped, match=r"(?s)Fold 1 was interrupted with other settings or rows.*its format is 0"):
        said_by(train_only, config.replace(save_minutes=0))
    assert "Traceback" not in both(open_project(config).paths.log)
    said_by(train_only, alone.replace(train_folds=(0,)))


@pytest.mark.parametrize("number", [
    pytest.param(signal.SIGTERM, marks=pytest.mark.torture), pytest.param(signal.SIGKILL, marks=pytest.mark.nightly),
])
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
    assert wait_for(lambda: both(paths.log).count("Stopped") == 2, 60) and "Traceback" not in both(paths.log)
    assert all(any((paths.fold(fold) / RESUME).iterdir()) for fold in (0, 1))


def both(log: Path) -> str:
    """The full output of two workers."""
    return "".join(log.with_name(f"r-worker{number}.txt").read_text() for number in (0, 1))
