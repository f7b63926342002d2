"""Real kills, real deadlines and thousands of damaged inputs: what a user may meet in years, in an hour.

    make torture                  # 1,000 kills, one at each write, 200 in a store, 100 deadlines, 20 launches, 15,000 inputs
    KILLS=20 make torture         # a share of everything
    python -m tests.torture kills writes puts deadlines launches inputs    # or only some of it

Every run is a forked process of its own that does all ten steps with `tiny`. After its last kill a run must end as the one that
was never killed: the same weights, scores and submission. The last line sums up; the exit status is 1 when anything was lost.
"""
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from mcvqa import run
from mcvqa.base.files import RunLog, read_json
from mcvqa.config import Config
from mcvqa.data.questions import read_questions
from mcvqa.report.submission import validate_submission
from mcvqa.run.project import RunStopped
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import newest_point
from mcvqa.training.resume import RESUME
from tests.conftest import tiny_settings

AT_ONCE = max(2, os.cpu_count() or 2)
PROPERTIES = {  # tests of free-form input, and how many inputs each gets at 1,000 kills
    "tests/data/test_questions.py::test_any_table_comes_back_as_written": 5000,
    "tests/data/test_questions.py::test_any_bytes_give_a_table_or_a_data_error": 5000,
    "tests/data/test_images.py::test_any_damage_gives_a_picture_or_an_image_error": 5000,
}
HANGS = 300  # seconds after its budget that a launch may take, to start and to end
MEMORY = 2.0  # GiB that reading them may take, Python and torch included


# %% processes
def in_child(work: Callable[[], object], said: Path, kill_after: float | None = None) -> int:
    """The exit status of a forked process that does `work`; below zero: it was killed.

    Args:
        said: file for what it prints.
        kill_after: seconds, or never.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            torch.set_num_threads(1)  # a fork leaves torch without its threads, and two threads must not make them anew
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    ends = time.monotonic() + (kill_after if kill_after is not None else 1e9)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= ends:
            os.kill(child, signal.SIGKILL)
            ends = 1e18
        time.sleep(0.002)


def die_at_write(number: int, folder: Path) -> None:
    """This process gets a SIGKILL just before it touches the files below `folder` for the so-many-th time: creates or opens one
    to write, forces it to the disk, renames or removes it."""
    counted = itertools.count()
    forced = os.fsync

    def count() -> None:
        if next(counted) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, given: tuple) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
        if (writes or changes) and isinstance(given[0], str | os.PathLike) and str(folder) in str(given[0]):
            count()

    def counting_sync(handle: int) -> None:
        if str(folder) in str(Path(f"/proc/self/fd/{handle}").readlink()):
            count()
        forced(handle)

    os.fsync = counting_sync
    sys.addaudithook(watch)


# %% one run
def settings_of(folder: Path, data: Path) -> Config:
    return tiny_settings(
        folder, data_dir=str(data), run_name="r", use_kfold=False, num_epochs=2, batch_size=4, lora_r=8, lora_dropout=0.1,
        use_swa=True, use_tta=True, tta_orders=2, save_minutes=0.0,
    )


def outcome_in(folder: Path) -> dict[str, object]:
    """Everything that must not depend on kills: weights, scores, submission."""
    found: dict[str, object] = {}
    for file in sorted(folder.glob("checkpoints/r/*/*/*.safetensors")):
        found[file.relative_to(folder).as_posix()] = file.read_bytes()
    for file in sorted(folder.glob("experiments/r/scores/*.npz")):
        found[file.name] = load_scores(file).logprobs.tobytes()
    return found | {file.name: file.read_bytes() for file in folder.glob("outputs/*.csv")}


def steps_lost(folder: Path) -> int:
    """Optimizer steps that were made by a killed run and are not in the newest resume point of the fold that it was in."""
    steps = RunLog(folder / "logs" / "r.jsonl").events("step") if (folder / "logs" / "r.jsonl").exists() else []
    if not steps or (folder / "checkpoints" / "r" / f"fold{steps[-1]['fold']}" / "result.json").exists():
        return 0
    point = newest_point(folder / "checkpoints" / "r" / f"fold{steps[-1]['fold']}" / RESUME)
    return int(steps[-1]["step"] - (int(point.name.split("-")[-1]) if point else 0))


def what_nothing_lists(store: Path) -> list[Path]:
    """Files in the folder of a run in a store that belong to no parcel."""
    manifests = {file.stem: read_json(file) for file in (store / "parcels").glob("*.json")}
    listed = {store / "objects" / name / one["sha256"] for name, about in manifests.items() for one in about["files"].values()}
    return [path for path in (store / "objects").rglob("*") if path.is_file() and path not in listed]


@dataclass(frozen=True)
class Found:
    """What became of one run. Attributes: lost: steps, at the worst kill. wrong: what is not as it should be."""

    kills: int
    lost: int
    wrong: str


@dataclass(frozen=True)
class Ended:
    """One run with a time budget. Attributes: margin: seconds that were left. folds: in what was handed in."""

    budget: float
    margin: float
    folds: int
    wrong: str


@dataclass(frozen=True)
class Torturer:
    """Runs to kill, and what an undisturbed one leaves. Attributes: seconds: that one takes."""

    data: Path
    seconds: float
    wanted: dict[str, object]

    def kill_at_random(self, seed: int) -> Found:
        """One run, killed again and again until it ends before the next kill comes."""
        moments = random.Random(seed)
        return self._until_done(lambda: moments.uniform(0, self.seconds))

    def kill_at_write(self, number: int) -> Found:
        """One run, killed once, at one of its writes."""
        return self._until_done(lambda: None, number)

    def kill_at_put(self, number: int) -> Found:
        """A run with a store, killed once, at one of its changes to the store. It goes on there, on a second machine with the
        store as it was at the kill, and on a third one when all is done."""
        with tempfile.TemporaryDirectory() as name:
            said, store, then = Path(name) / "said.txt", Path(name) / "store", Path(name) / "then"
            store.mkdir()

            def work(machine: str, shared_dir: Path, killed_at: int | None = None) -> int:
                def share() -> None:
                    if killed_at is not None:
                        die_at_write(killed_at, store)
                    run(settings_of(Path(name) / machine, self.data).replace(shared_dir=f"file://{shared_dir}"))

                return in_child(share, said)

            kills = int(work("first", store, number) == -signal.SIGKILL)
            shutil.copytree(store, then)
            lost = steps_lost(Path(name) / "first")
            for machine, shared_dir in (("first", store), ("second", then), ("third", store)):
                if status := work(machine, shared_dir):
                    return Found(kills, lost, f"put {number}: the {machine} ended with {status}:\n{said.read_text()[-2000:]}")
                if different := self._different(Path(name) / machine):
                    return Found(kills, lost, f"put {number}: the {machine} is not as undisturbed: {different}")
                if left := what_nothing_lists(shared_dir / "r"):
                    return Found(kills, lost, f"put {number}: the {machine} has left {left[0]}")
            return Found(kills, lost, "" if "already trained" in said.read_text() else f"put {number}: trained again")

    def _different(self, folder: Path) -> str:
        """The names of what is not as in the undisturbed run."""
        found = outcome_in(folder)
        return ", ".join(sorted(n for n in self.wanted.keys() | found.keys() if self.wanted.get(n) != found.get(n)))

    def _until_done(self, moment: Callable[[], float | None], write: int | None = None) -> Found:
        kills, lost = 0, 0
        with tempfile.TemporaryDirectory() as name:
            folder, said = Path(name) / "run", Path(name) / "said.txt"

            def work() -> None:
                if write is not None and not kills:
                    die_at_write(write, folder / "checkpoints")
                run(settings_of(folder, self.data))

            while status := in_child(work, said, moment()):
                if status != -signal.SIGKILL:
                    return Found(kills, lost, f"ended with {status}:\n{said.read_text()[-2000:]}")
                kills += 1
                lost = max(lost, steps_lost(folder))
            different = self._different(folder)
            return Found(kills, lost, different and f"not as undisturbed: {different}")

    def writes(self, below: str) -> int:
        """How often a run touches the files below a folder, checkpoints/ or the store/; found by halving."""
        with tempfile.TemporaryDirectory() as name:
            def reached(number: int) -> bool:
                folder = Path(name) / str(number)

                def work() -> None:
                    die_at_write(number, folder / below)
                    run(settings_of(folder, self.data).replace(shared_dir=f"file://{folder}/store" if below == "store" else ""))

                return in_child(work, Path(name) / "said.txt") == -signal.SIGKILL

            low, high = 0, 128
            while reached(high):
                low, high = high, 2 * high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if reached(middle) else (low, middle)
            return high

    def run_to_deadline(self, seed: int) -> Ended:
        """A real run with a time budget of random length, on a real clock."""
        budget = random.Random(seed).uniform(1.5, 6) * self.seconds
        with tempfile.TemporaryDirectory() as name:
            folder, said = Path(name) / "run", Path(name) / "said.txt"
            config = settings_of(folder, self.data).replace(time_budget=f"{budget:.1f}s")

            def work() -> None:
                try:
                    run(config)
                except RunStopped as stopped:
                    print(stopped)

            started = time.monotonic()
            status = in_child(work, said)
            margin = budget - (time.monotonic() - started)
            wrong = f"ended with {status}: {said.read_text()[-2000:]}" if status else "too late" if margin < 0 else ""
            submission = folder / "outputs" / "submission_ensemble.csv"
            if not submission.exists():
                return Ended(budget, margin, 0, wrong or "no submission")
            report = validate_submission(submission, read_questions(self.data / "test.csv", labelled=False).questions)
            folds = len(list(folder.glob("experiments/r/scores/fold*-test.npz")))
            return Ended(budget, margin, folds, wrong or "; ".join(map(str, report.problems)))

    def launch_to_deadline(self, seed: int) -> str:
        """A real launch of two processes with a time budget of random length; returns what is wrong with its end."""
        budget = random.Random(seed).uniform(1, 8) * self.seconds
        with tempfile.TemporaryDirectory() as name:
            config = settings_of(Path(name), self.data).replace(time_budget=f"{budget:.1f}s", num_epochs=100)
            (Path(name) / "r.yaml").write_text(config.to_yaml(), encoding="utf-8")
            launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "mcvqa")
            with subprocess.Popen(
                [*launcher, "run", "--config", f"{name}/r.yaml"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            ) as process:
                try:
                    said = process.communicate(timeout=budget + HANGS)[0]
                except subprocess.TimeoutExpired:
                    process.terminate()
                    return f"{budget:.1f} s: hung"
            expected = process.returncode == 0 or "no fold was trained and scored" in said
            return "" if expected else f"{budget:.1f} s: {said[-2000:]}"


def torturer_for(data: Path) -> Torturer:
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        status = in_child(lambda: run(settings_of(Path(name) / "run", data)), Path(name) / "said.txt")
        assert status == 0, (Path(name) / "said.txt").read_text()
        return Torturer(data, time.monotonic() - started, outcome_in(Path(name) / "run"))


# %% everything
def at_once(work: Callable, items: Iterator, enough: Callable[[list], bool] = lambda found: False) -> list:
    """Results of `work` on each of `items`, several at once, until there are `enough`."""
    found: list = []
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("fork")) as pool:
        while not enough(found) and (part := list(itertools.islice(items, 4 * AT_ONCE))):
            found += pool.map(work, part)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def shown(title: str, found: list[Found]) -> str:
    """Prints what became of killed runs; returns what was lost, in a few words."""
    lost, wrong = max(f.lost for f in found), [f.wrong for f in found if f.wrong]
    print(*wrong[:5], f"{title}: {sum(f.kills for f in found):,} kills in {len(found):,} runs, {len(wrong)} did not end as the "
          f"undisturbed one, at most {lost} steps lost", sep="\n", flush=True)
    return f"{len(wrong)} runs {title}, {lost} steps" if wrong or lost > 1 else ""


def kills(torturer: Torturer, share: float) -> str:
    wanted = round(1000 * share)
    return shown("killed at random moments", at_once(
        torturer.kill_at_random, itertools.count(), lambda found: sum(f.kills for f in found) >= wanted
    ))


def writes(torturer: Torturer, share: float) -> str:
    there = torturer.writes("checkpoints")
    chosen = np.unique(np.linspace(0, there - 1, max(2, round(there * min(1, share)))).astype(int)).tolist()
    return shown(f"killed at {len(chosen)} of {there} writes of checkpoints", at_once(torturer.kill_at_write, iter(chosen)))


def puts(torturer: Torturer, share: float) -> str:
    there = torturer.writes("store")
    chosen = np.unique(np.linspace(0, there - 1, max(2, round(200 * share))).astype(int)).tolist()
    return shown(f"killed at {len(chosen)} of about {there} changes to a store", at_once(torturer.kill_at_put, iter(chosen)))


def deadlines(torturer: Torturer, share: float) -> str:
    ended = at_once(torturer.run_to_deadline, iter(range(max(2, round(100 * share)))))
    wrong = [f"{e.budget:.1f} s: {e.wrong}" for e in ended if e.wrong]
    with_fold, margins = sum(e.folds > 0 for e in ended), [e.margin for e in ended]
    print(*wrong[:5], f"{len(ended)} deadlines of {min(e.budget for e in ended):.1f} to {max(e.budget for e in ended):.1f} s: "
          f"{len(ended) - len(wrong)} with a valid submission in time, {with_fold} of them of a trained model; "
          f"margins {min(margins):.1f} to {max(margins):.1f} s, half of them over {np.median(margins):.1f} s", sep="\n")
    return f"{len(wrong)} deadlines" if wrong else ""


def launches(torturer: Torturer, share: float) -> str:
    ended = [torturer.launch_to_deadline(seed) for seed in range(max(2, round(20 * share)))]
    wrong = [end for end in ended if end]
    message = f"{len(ended)} launches of two processes with a deadline: {len(wrong)} hung or failed"
    print(*wrong[:5], message, sep="\n", flush=True)
    return f"{len(wrong)} launches" if wrong else ""


def inputs(torturer: Torturer, share: float) -> str:
    made, wrong = 0, ""
    for test, count in PROPERTIES.items():
        examples = max(20, round(count * share))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test], capture_output=True, text=True,
            env=os.environ | {"EXAMPLES": str(examples)},
        )
        made += examples
        wrong += f"{test}:\n{done.stdout[-2000:]}\n" if done.returncode else ""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(wrong + f"{made:,} tables and pictures, at most {peak:.1f} GiB of memory", flush=True)
    return "tables or pictures" if wrong or peak > MEMORY else ""


def main(chosen: list[str]) -> int:
    share, parts = int(os.environ.get("KILLS", "1000")) / 1000, (inputs, kills, writes, puts, deadlines, launches)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        generate_demo(Path(name), 24, 6, seed=0, size=56)
        torturer = torturer_for(Path(name))
        print(f"undisturbed: {torturer.seconds:.1f} s; {AT_ONCE} at once", flush=True)
        lost = [found for part in parts if part.__name__ in chosen or not chosen if (found := part(torturer, share))]
    print("torture: " + (f"LOST: {', '.join(lost)}" if lost else "nothing was lost"))
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
