"""Measures what executor=ray costs by itself: the time of tasks that do nothing, on nodes simulated on this machine.

    python benchmarks/cluster.py --nodes 1 4 8 --tasks 1 10 100 1000

One worker for each node. Workers have started up and done one task before anything is timed; a task's time is that of all of
them, divided by their number: handing out, the worker's answer, reports, the log. Prints a markdown table.
"""
import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.cluster_utils import Cluster

from mcvqa.config import Config, load_config
from mcvqa.run.project import Project, open_project
from mcvqa.run.tasks import Task, TaskGraph
from mcvqa.run.workers.ray import RayWorkers, ray_workers


def idle(project: Project, settings: dict[str, Any]) -> Callable[[Task], dict[str, Any]]:
    """What a worker runs."""
    return lambda task: {}


def do(pool: RayWorkers, title: str, count: int) -> float:
    """Seconds of `count` tasks that do not depend on each other."""
    tasks = [Task("idle", f"{title} {number}", "") for number in range(count)]
    began = time.monotonic()
    pool.run(TaskGraph.of(tasks, lambda task: False), [task.name for task in tasks])
    return time.monotonic() - began


def seconds_a_task(config: Config, nodes: int, counts: list[int]) -> list[float]:
    """For each number of tasks; on a cluster of its own."""
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        with contextlib.closing(ray_workers(open_project(config), idle, loaders=0, most=nodes)) as pool:
            do(pool, "start", nodes)
            while not all(worker.ready for worker in pool.workers):
                do(pool, "start again", nodes)
            return [do(pool, f"of {count}, task", count) / count for count in counts]
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 10, 100, 1000])
    given = parser.parse_args()
    print("| nodes | " + " | ".join(f"{count:,} tasks" for count in given.tasks) + " |")
    print("|---" * (1 + len(given.tasks)) + "|")
    for nodes in given.nodes:
        with tempfile.TemporaryDirectory() as out:
            config = load_config(changes=dict(model_id="tiny", output_dir=out, run_name="idle", executor="ray", device="cpu"))
            spent = seconds_a_task(config, nodes, given.tasks)
        print(f"| {nodes} | " + " | ".join(f"{1000 * each:.1f} ms" for each in spent) + " |", flush=True)
