"""Workers on a Ray cluster: what is decided without one, and the proofs of ray_cluster.py on a real one."""
import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mcvqa.config import Config, ConfigError
from mcvqa.run.workers.ray import connect, slots_of
from mcvqa.run.workers.ray_node import require_same_node, versions_here


def node(host: str, alive: bool = True, **resources: float) -> dict:
    """A node as `ray.nodes()` describes it."""
    return {"Alive": alive, "Resources": resources, "NodeManagerHostname": host, "NodeManagerAddress": "10.0.0.1",
            "NodeManagerPort": 70 + len(host)}


@pytest.mark.parametrize(("nodes", "parallel", "found"), [
    ([node("a", CPU=8, GPU=2), node("b", CPU=16, GPU=2)], 0, (3, 1, 4)),  # three folds
    ([node("a", CPU=8, GPU=2), node("b", CPU=16, GPU=2)], 2, (2, 1, 4)),
    ([node("head", CPU=4), node("b", CPU=16, GPU=1)], 0, (1, 1, 16)),
    ([node("a", CPU=4), node("b", CPU=6), node("gone", alive=False, CPU=9)], 0, (2, 0, 4)),
    ([node("a", CPU=4), node("b", CPU=6)], 3, (3, 0, 2)),
    ([node("a", CPU=1)], 0, (1, 0, 1)),
])
def test_a_worker_for_each_gpu_or_node(nodes, parallel, found):
    slots = slots_of(nodes, Config(parallel_folds=parallel), 3)
    assert (slots.workers, slots.gpus, slots.cpus) == found
    assert "gone" not in slots.nodes and f"{found[0]} worker" in str(slots)


def test_nodes_on_one_machine_have_different_names():
    nodes = [node("vm", CPU=1), node("vm", CPU=1) | {"NodeManagerPort": 9}]
    assert slots_of(nodes, Config(), 3).nodes == ("10.0.0.1:72", "10.0.0.1:9")


def test_a_node_without_the_folder_or_with_other_versions_is_refused(tmp_path):
    file = tmp_path / "tasks" / "shared.txt"
    file.parent.mkdir()
    file.write_text("here 7")
    require_same_node((str(file), "here 7"), versions_here())
    for shared in ((str(file), "there 8"), (str(tmp_path / "nowhere" / "tasks" / "shared.txt"), "here 7")):
        with pytest.raises(ConfigError, match=rf"Node {socket.gethostname()} does not see .*output_dir and data_dir"):
            require_same_node(shared, versions_here())
    with pytest.raises(ConfigError, match=r"other versions.*torch .* instead of 0\.9\. Install the same"):
        require_same_node((str(file), "here 7"), versions_here() | {"torch": "0.9"})


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'mcvqa\[ray\]'"):
        connect("auto")


@pytest.mark.nightly
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="executor=ray needs ray: pip install 'mcvqa[ray]'")
def test_on_a_real_cluster_whatever_dies_the_results_are_the_same():
    """In a network of its own where that can be had, so that nothing of the cluster listens outside of this machine."""
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", str(Path(__file__).with_name("ray_cluster.py"))]
    alone = ["unshare", "--net", "bash", "-c", 'ip link set lo up; exec "$@"', "-"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode == 0:
        command = [*alone, *command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stdout[-8000:]
