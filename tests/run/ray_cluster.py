"""A run on a real Ray cluster of two nodes on this machine: bit for bit the results of one process, whatever dies meanwhile.

    python -m pytest -m '' tests/run/ray_cluster.py      all of it

test_ray.py runs what is not marked nightly, in a network of its own.
"""
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ray = pytest.importorskip("ray", reason="executor=ray needs ray: pip install 'mcvqa[ray]'")

from ray._raylet import GcsClient  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from mcvqa import run  # noqa: E402
from mcvqa.base.files import RunLog  # noqa: E402
from mcvqa.base.interrupt import RUN_ME_AGAIN  # noqa: E402
from mcvqa.config import Config, ConfigError  # noqa: E402
from mcvqa.run.project import RunStopped, open_project  # noqa: E402
from mcvqa.run.tasks import Task, TaskGraph  # noqa: E402
from mcvqa.run.workers import ray as ray_module  # noqa: E402
from mcvqa.run.workers.ray import RayWorkers, connect, ray_workers  # noqa: E402
from mcvqa.scoring.scores import load_scores  # noqa: E402
from mcvqa.search.space import space_as_yaml  # noqa: E402
from tests.conftest import make_dataset, tiny_settings  # noqa: E402
from tests.faults import bind, drop_drive, unmount  # noqa: E402

RESULTS = ("experiments/r/submission.csv", "experiments/r/oof_predictions.csv", "experiments/r/folds.csv",
           *(f"checkpoints/r/fold{k}/{which}/adapter_model.safetensors" for k in (0, 1) for which in ("best", "last")),
           *(f"experiments/r/scores/fold{k}-{split}.npz" for k in (0, 1) for split in ("oof", "test")))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


CLIENTS = free_port() if importlib.util.find_spec("grpc") else None  # of the cluster, for ray://; without the package it has none


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with two cores each."""
    head = {"num_cpus": 2, "include_dashboard": False, **({"ray_client_server_port": CLIENTS} if CLIENTS else {})}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.add_node(num_cpus=2)
    os.environ["RAY_ADDRESS"] = nodes.address
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def settings(dataset: Path, out: Path, **changes) -> Config:
    fixed = dict(data_dir=str(dataset), run_name="r", n_folds=2, lora_dropout=0.1, use_tta=True, tta_orders=2, num_epochs=1)
    return tiny_settings(out, **fixed | changes)


@pytest.fixture(scope="module")
def inline(dataset, tmp_path_factory) -> Path:
    """The output folder of the same run in one process."""
    out = tmp_path_factory.mktemp("inline")
    run(settings(dataset, out, executor="inline"))
    return out


def require_same(out: Path, inline: Path) -> None:
    for name in RESULTS:
        assert (out / name).read_bytes() == (inline / name).read_bytes(), name


@pytest.mark.nightly
def test_a_run_gives_bit_for_bit_the_results_of_one_process(cluster, dataset, inline, tmp_path, capsys):
    run(settings(dataset, tmp_path, executor="ray"))
    require_same(tmp_path, inline)
    assert "on a Ray cluster of 2 nodes" in capsys.readouterr().out


# %% what dies
def in_background(config: Config) -> "Background":
    background = Background(lambda: run(config))
    background.start()
    return background


class Background(threading.Thread):
    """A run or a search in a thread, as the cluster can be shut down by the main one alone."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work, self.result, self.error = work, None, None

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error

    def until(self, reached) -> None:
        """Wait until `reached()`; fail where the run ends first."""
        ends = time.monotonic() + 240
        while not reached():
            assert self.is_alive(), f"the run has ended: {self.error!r}"
            assert time.monotonic() < ends, "nothing happens"
            time.sleep(0.02)

    def finish(self) -> Any:
        self.join(timeout=400)
        assert not self.is_alive(), "the run does not end"
        if self.error:
            raise self.error
        return self.result


def actors_at_work() -> list[int]:
    """Process ids of the actors that do a task."""
    found = subprocess.run(["pgrep", "-f", "^ray::RayTasks.do"], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def kill_one() -> bool:
    for process in actors_at_work():
        os.kill(process, signal.SIGKILL)
        return True
    return False


def test_workers_and_nodes_that_go_and_come_change_nothing(cluster, dataset, inline, tmp_path):
    """Killed in training, between training and scoring, and in scoring; a node goes with what works on it, another comes."""
    leaving = cluster.add_node(num_cpus=4)
    background = in_background(settings(dataset, tmp_path, executor="ray", parallel_folds=2, save_minutes=0))
    for sign in ("checkpoints/r/fold*/resume/*", "checkpoints/r/fold*/best/manifest.json", "experiments/r/scores/fold*-test.npz"):
        background.until(lambda sign=sign: any(tmp_path.glob(sign)))
        background.until(lambda: kill_one() or not background.is_alive())  # the last score may be written already
        if leaving:
            cluster.remove_node(leaving, allow_graceful=False)
            leaving = None
            cluster.add_node(num_cpus=2)
    background.finish()
    require_same(tmp_path, inline)


@pytest.mark.torture
def test_storage_that_is_away_for_a_while_changes_nothing(cluster, dataset, inline, tmp_path):
    """20 seconds each in training, while the trained weights are published, and in scoring."""
    out, away = tmp_path / "out", threading.Event()
    out.mkdir()
    background = in_background(settings(dataset, out, executor="ray", parallel_folds=2, save_minutes=0))
    for sign in ("checkpoints/r/fold*/resume/*", "checkpoints/r/fold*/best/manifest.json", "experiments/r/scores/fold*-test.npz"):
        background.until(lambda sign=sign: any(out.glob(sign)))
        drop_drive(out)
        away.wait(20)
        unmount(out)
    background.finish()
    require_same(out, inline)


@pytest.mark.torture
def test_an_unmounted_output_folder_is_waited_for(cluster, dataset, inline, tmp_path):
    """Its mount point is left as an empty folder, in training and in scoring; nothing is written there."""
    out, drive = tmp_path / "out", tmp_path / "drive"
    out.mkdir()
    drive.mkdir()
    bind(drive, out)
    try:
        running = command(settings(dataset, out, executor="ray", parallel_folds=2, save_minutes=0), tmp_path / "run.yaml")
        for sign in ("checkpoints/r/fold*/resume/*", "experiments/r/scores/fold*-test.npz"):
            while not any(drive.glob(sign)):
                assert running.poll() is None, running.communicate()[0]
                time.sleep(0.02)
            unmount(out)
            time.sleep(12)
            assert [path for path in out.rglob("*") if path.is_file()] == []
            bind(drive, out)
        said = running.communicate(timeout=400)[0]
    finally:
        unmount(out)
    assert running.returncode == 0, said
    require_same(drive, inline)


def until_alive(address: str, count: int) -> None:
    """Wait until a cluster has so many nodes."""
    ends, client = time.monotonic() + 120, GcsClient(address=address)
    while sum(node.state == 0 for node in client.get_all_node_info().values()) < count:  # ALIVE
        assert time.monotonic() < ends, "a node is missing"
        time.sleep(0.2)


@pytest.mark.torture
def test_nodes_without_a_common_folder_share_a_run_through_a_store(dataset, inline, tmp_path):
    """The second node has a file system of its own at output_dir; a worker is killed in training. Nothing is done again."""
    out = tmp_path / "out"
    out.mkdir()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    apart = subprocess.Popen([
        "unshare", "--mount", "bash", "-c", 'mount -t tmpfs none "$0" && exec "$1" -m ray.scripts.scripts start --address "$2" '
        "--num-cpus 1 --block", out, sys.executable, nodes.address,
    ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    there = dict(executor="ray", ray_address=nodes.address, shared_dir=f"file://{tmp_path}/store")
    config = settings(dataset, out, save_minutes=0, **there)
    try:
        until_alive(nodes.address, 2)
        main = command(config, tmp_path / "run.yaml")
        ends = time.monotonic() + 240
        while not any(tmp_path.glob("store/r/parcels/train-fold-*.json")):
            assert main.poll() is None and time.monotonic() < ends, main.communicate()[0]
            time.sleep(0.02)
        kill_one()
        said = main.communicate(timeout=400)[0]
    finally:
        apart.terminate()
        nodes.shutdown()
    assert main.returncode == 0, said
    require_same(out, inline)
    done = RunLog(out / "logs" / "r.jsonl").events("task")
    assert {event["worker"] for event in done} == {"worker 0", "worker 1"}
    assert sum(event["task"].startswith("train") for event in done) == 2


SPACE = {"learning_rate": {"low": 3e-4, "high": 1e-2, "log": True}, "lora_r": [4, 8]}


@pytest.mark.torture
def test_a_search_loses_no_trial_when_a_worker_is_killed(cluster, dataset, tmp_path):
    """The killed trial is done again, and what was judged is, bit for bit, what the same run gives in one process."""
    pytest.importorskip("optuna")
    from mcvqa.search.search import search_settings

    space, where = tmp_path / "space.yaml", tmp_path / "out"
    space.write_text(space_as_yaml(SPACE), encoding="utf-8")
    config = settings(dataset, where, executor="ray", run_name="s", use_tta=False, save_minutes=0)
    background = Background(lambda: search_settings(config, trials=4, parallel=2, space=space, best=1, prune=False))
    background.start()
    background.until(lambda: any((where / "checkpoints").glob("s-search-*/fold0/resume/*")))
    background.until(kill_one)
    found = background.finish()
    assert sum(one.judged is not None for one in found.trials) == 4 and len(found.confirmed) == 1
    best = found.best
    alone = settings(dataset, tmp_path / "alone", executor="inline", run_name="s", use_tta=False, train_folds=(0,), **best.values)
    run(alone)
    judged = load_scores(where / f"experiments/s-search/scores/{best.run}.npz")
    again = load_scores(tmp_path / "alone/experiments/s/scores/fold0-oof.npz")
    assert judged.ids.tolist() == again.ids.tolist() and (judged.logprobs == again.logprobs).all()


@pytest.mark.torture
def test_more_seeds_a_final_model_and_changed_photographs_survive_a_kill(cluster, dataset, tmp_path):
    more = dict(use_tta=False, n_seeds=2, final_fit=True, average="auto", keep="last", use_swa=True, evidence="full",
                image_augmentation=("crop", "flip", "light"))
    run(settings(dataset, tmp_path / "inline", executor="inline", **more))
    background = in_background(settings(dataset, tmp_path / "ray", executor="ray", save_minutes=0, **more))
    for sign in ("checkpoints/r/fold*/resume/*", "checkpoints/r-seed*/fold*/resume/*"):
        background.until(lambda sign=sign: any((tmp_path / "ray").glob(sign)))
        background.until(kill_one)
    background.finish()
    made = [file for file in (tmp_path / "inline").rglob("*") if file.suffix in (".npz", ".safetensors", ".csv")]
    of_attempt = {f"fold{fold}-{kind}.npz" for fold in (0, 1) for kind in ("raw", "ema", "swa")}  # which attempt is in them
    compared = [
        file.relative_to(tmp_path / "inline") for file in made if "cache" not in file.parts and file.name not in of_attempt]
    assert len(compared) > 40
    for name in compared:
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "inline" / name).read_bytes(), name


def command(config: Config, file: Path) -> subprocess.Popen:
    """The same run by the command line."""
    file.write_text(config.to_yaml(), encoding="utf-8")
    return subprocess.Popen([sys.executable, "-m", "mcvqa", "run", "--config", str(file)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.torture)])
def test_a_main_process_that_is_ended_can_be_started_again(cluster, dataset, inline, tmp_path, number):
    config = settings(dataset, tmp_path / "out", executor="ray", save_minutes=0)
    first = command(config, tmp_path / "run.yaml")
    ends = time.monotonic() + 240
    while not any(tmp_path.glob("out/checkpoints/r/fold*/resume/*")):
        assert first.poll() is None and time.monotonic() < ends
        time.sleep(0.02)
    first.send_signal(number)
    said = first.communicate(timeout=200)[0]
    assert first.returncode == (RUN_ME_AGAIN if number == signal.SIGTERM else -signal.SIGKILL), said
    again = command(config, tmp_path / "run.yaml")
    said = again.communicate(timeout=400)[0]
    assert again.returncode == 0, said
    require_same(tmp_path / "out", inline)


@pytest.mark.torture
@pytest.mark.skipif(CLIENTS is None, reason="ray:// needs Ray's client: pip install 'ray[client]'")
def test_a_run_by_rays_client_is_the_same_whatever_dies(cluster, dataset, inline, tmp_path):
    """A worker is killed in training, then the main process; the same command goes on."""
    config = settings(dataset, tmp_path / "out", executor="ray", ray_address=f"ray://127.0.0.1:{CLIENTS}", save_minutes=0)
    first = command(config, tmp_path / "run.yaml")
    ends, killed = time.monotonic() + 240, False
    while not any(tmp_path.glob("out/checkpoints/r/fold*/best/manifest.json")):
        killed = killed or (any(tmp_path.glob("out/checkpoints/r/fold*/resume/*")) and kill_one())
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < ends
        time.sleep(0.02)
    first.kill()
    first.communicate()
    again = command(config, tmp_path / "run.yaml")
    said = again.communicate(timeout=400)[0]
    assert killed and again.returncode == 0, said
    require_same(tmp_path / "out", inline)


# %% what cannot go on
@pytest.mark.parametrize("address", ["{}", "auto"])
def test_an_address_at_which_nothing_answers_is_not_waited_for(monkeypatch, address):
    """Ray itself tries for a quarter of an hour."""
    with socket.socket() as mute:  # which takes connections and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", where)
        monkeypatch.setattr(ray_module, "ANSWERS_WITHIN", 4.0)
        began = time.monotonic()
        with pytest.raises(ConfigError, match=r"No Ray cluster answers at ray_address=.*\(nothing within 4 s\). Start one with"):
            connect(address.format(where))
        assert time.monotonic() - began < 20


def test_a_cluster_with_a_token_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    port, ray_command = free_port(), [sys.executable, "-m", "ray.scripts.scripts"]
    head = subprocess.Popen(
        [*ray_command, "start", "--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", "--block"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    connecting = [sys.executable, "-c", f"from mcvqa.run.workers.ray import connect; connect('127.0.0.1:{port}')"]
    try:  # each in a process of its own: Ray reads the token once
        assert subprocess.run(connecting, capture_output=True).returncode == 0  # waits until the head has started
        for changed in ({"RAY_AUTH_TOKEN": "b" * 64}, {"RAY_AUTH_TOKEN": ""}, {"RAY_AUTH_MODE": "disabled"}):
            told = subprocess.run(connecting, env=os.environ | changed, capture_output=True, text=True)
            assert "demands its token, and this process has another one or none. Set RAY_AUTH_MODE" in told.stderr
    finally:
        head.terminate()
        head.wait(60)


def dying(project, settings):
    def do(task):
        os._exit(1)

    return do


def refusing(project, settings):
    def do(task):
        raise ConfigError("No photographs here.")

    return do


@pytest.fixture
def workers_of(cluster, tmp_path):
    """workers_of(program) -> workers of a run that do its tasks."""
    started: list[RayWorkers] = []

    def start(program) -> RayWorkers:
        started.append(ray_workers(open_project(Config(run_name="r", output_dir=str(tmp_path), executor="ray")), program, 0))
        return started[-1]

    yield start
    for workers in started:
        workers.close()


def one_task() -> TaskGraph:
    return TaskGraph.of([Task("train", "train fold 0", "key", arguments={"fold": 0})], lambda task: False)


def test_a_task_that_always_ends_its_worker_is_given_up(workers_of):
    with pytest.raises(RunStopped, match=r"Worker 0 on .*, working on .train fold 0., was lost: its process died 6 times"):
        workers_of(dying).run(one_task(), ["train fold 0"])


def test_what_a_task_says_is_said(workers_of):
    with pytest.raises(RunStopped, match=r"No photographs here\."):
        workers_of(refusing).run(one_task(), ["train fold 0"])


def holding(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.nightly
def test_a_cluster_without_room_is_waited_for_and_a_line_says_so(workers_of, monkeypatch, capsys):
    monkeypatch.setattr(ray_module, "STARTS_WITHIN", 2.0)
    workers = workers_of(refusing)
    for _ in range(2):  # on both nodes
        ray.remote(holding).options(num_cpus=2).remote(8.0)
    time.sleep(1)
    with pytest.raises(RunStopped, match=r"No photographs here\."):
        workers.run(one_task(), ["train fold 0"])
    said = "no worker has started yet: no node has 2 CPU cores free (`ray status`). It is waited for."
    assert capsys.readouterr().out.count(said) == 1


def test_a_second_main_process_is_refused(workers_of, monkeypatch):
    from mcvqa.run.ownership import Owned
    from mcvqa.run.workers import ray as module

    workers_of(refusing)
    monkeypatch.setattr(module, "OWNER_LEAVES", 0.0)
    with pytest.raises(Owned, match="Another process is working on the run 'r' on this Ray cluster"):
        workers_of(refusing)
