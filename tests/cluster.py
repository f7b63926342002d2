"""Random kills of runs on a real Ray cluster of two nodes on this machine.

    python -m tests.cluster 50       # until there were 50 kills: of workers, main processes and nodes

In a network of its own where that can be had, so that nothing of the cluster listens outside of this machine. A run whose main
process was killed, or that has given up, is started again by the same command. In the end each must have, bit for bit, the
weights, scores and submission of one process that nothing disturbed, and no finished task may have been done again. The last line
sums up; the exit status is 1 when anything was lost.
"""
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcvqa.base.files import RunLog
from mcvqa.config import Config
from tests.conftest import make_dataset, tiny_settings

RESULTS = ("experiments/r/submission.csv", "experiments/r/oof_predictions.csv", "experiments/r/folds.csv",
           *(f"checkpoints/r/fold{k}/{which}/adapter_model.safetensors" for k in (0, 1) for which in ("best", "last")),
           *(f"experiments/r/scores/fold{k}-{split}.npz" for k in (0, 1) for split in ("oof", "test")))
KINDS = ("worker", "worker", "worker", "main process", "node")
LONGEST = 600  # seconds that a run may take from one kill to the next, or to its end


def settings(dataset: Path, out: Path, **changes) -> Config:
    fixed = dict(data_dir=str(dataset), run_name="r", n_folds=2, lora_dropout=0.1, use_tta=True, tta_orders=2, num_epochs=1)
    return tiny_settings(out, **fixed | changes)


def differing(out: Path, inline: Path) -> list[str]:
    """Results that are not those of the other folder, byte for byte."""
    return [name for name in RESULTS if not (out / name).exists() or (out / name).read_bytes() != (inline / name).read_bytes()]


def done_again(out: Path) -> list[str]:
    """Recorded tasks that were done more than once."""
    events = RunLog(out / "logs" / "r.jsonl").events("task")
    times = collections.Counter(event["task"] for event in events if event["task"].startswith(("train", "score")))
    return [name for name, count in times.items() if count > 1 and " of " not in name]


def processes(pattern: str) -> list[int]:
    """Process ids by the beginning of their names."""
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


@dataclass
class Torturer:
    """Starts runs, and kills what works on them. Attributes: killed: what, and how often. wrong: what is not as it should be."""

    nodes: Any
    folder: Path
    random: random.Random
    killed: collections.Counter = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)

    def until(self, kills: int, dataset: Path, inline: Path) -> int:
        """Start one run after the other until there were so many kills; return their number."""
        runs = 0
        while self.killed.total() < kills and not self.wrong:
            out = self.folder / f"run{runs}"
            runs += 1
            (self.folder / "run.yaml").write_text(
                settings(dataset, out, executor="ray", parallel_folds=2, save_minutes=0).to_yaml(), encoding="utf-8")
            self._until_finished(kills)
            self.wrong += [f"run {runs}: {name} differs" for name in differing(out, inline)]
            self.wrong += [f"run {runs}: {name} was done again" for name in done_again(out)]
            print(f"run {runs} has ended; so far {self.said()}", flush=True)
        return runs

    def said(self) -> str:
        return f"{self.killed.total()} kills ({', '.join(f'{kind} {count}' for kind, count in sorted(self.killed.items()))})"

    def _until_finished(self, kills: int) -> None:
        run, said = self._started(), self.folder / "said.txt"
        while self.killed.total() < kills:
            try:
                status = run.wait(timeout=self.random.uniform(1, 20))
            except subprocess.TimeoutExpired:
                if self._kill(run):
                    run = self._started()
                continue
            if status == 0:
                return
            if "Run the same command again" not in said.read_text():
                self.wrong.append(f"ended with {status}: {said.read_text()[-3000:]}")
                return
            run = self._started()
        if run.wait(timeout=LONGEST):
            self.wrong.append(f"ended with {run.returncode}: {said.read_text()[-3000:]}")

    def _started(self) -> subprocess.Popen:
        with open(self.folder / "said.txt", "a") as said:
            return subprocess.Popen([sys.executable, "-m", "mcvqa", "run", "--config", str(self.folder / "run.yaml")],
                                    stdout=said, stderr=subprocess.STDOUT)

    def _kill(self, run: subprocess.Popen) -> bool:
        """Kill something at random; return whether it was the main process."""
        kind = self.random.choice(KINDS)
        if kind == "main process":
            run.kill()
            run.wait()
        elif kind == "node":
            self.nodes.remove_node(self.nodes.worker_nodes.copy().pop(), allow_graceful=False)
            self.nodes.add_node(num_cpus=2)
        elif found := processes("^ray::RayTasks"):
            os.kill(self.random.choice(found), signal.SIGKILL)
        else:
            return False
        self.killed[kind] += 1
        return kind == "main process"


def main(kills: int, seed: int) -> int:
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, inline = make_dataset(folder / "data"), folder / "inline"
        (folder / "inline.yaml").write_text(settings(dataset, inline, executor="inline").to_yaml(), encoding="utf-8")
        alone = [sys.executable, "-m", "mcvqa", "run", "--config", folder / "inline.yaml"]
        subprocess.run(alone, check=True, capture_output=True)
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        nodes.add_node(num_cpus=2)
        os.environ["RAY_ADDRESS"] = nodes.address
        torturer, began = Torturer(nodes, folder, random.Random(seed)), time.monotonic()
        try:
            runs = torturer.until(kills, dataset, inline)
        finally:
            nodes.shutdown()
        print(*torturer.wrong, sep="\n")
        print(f"{runs} runs, {torturer.said()} in {time.monotonic() - began:.0f} s, seed {seed}: "
              f"{f'{len(torturer.wrong)} things wrong' if torturer.wrong else 'nothing was lost or done twice'}")
    return int(bool(torturer.wrong))


if __name__ == "__main__":
    alone = ["unshare", "--net", "bash", "-c", 'ip link set lo up; exec "$@"', "-"]
    if "ALONE" not in os.environ and subprocess.run([*alone, "true"], capture_output=True).returncode == 0:
        os.environ["ALONE"] = "1"
        os.execvp(alone[0], [*alone, sys.executable, "-m", "tests.cluster", *sys.argv[1:]])
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
