"""Measures what a second GPU gives: to four folds, to the scoring of one fold, and to large steps divided by torchrun.

    python benchmarks/gpus.py --model FOLDER --csv train.csv --folder WORK --out OUT --set gpu_profile=t4 quantization=4bit
    python benchmarks/gpus.py --model tiny --rows 48 --test-rows 1024 --step-rows 8 16 --folder WORK --out OUT \\
        --set image_size=56 batch_size=8 grad_accum_steps=1                                 # two processes on this CPU

Parts, in this order; each ends in a known time, prints its result at once, and writes OUT/<part>.json:
- data: draws the photographs (whole.py) into WORK/data, unless they are there.
- folds: `mcvqa run` with four folds on two GPUs and with two folds on one (a fold is worked on by one GPU in either case).
- shards: `mcvqa run` with one untrained fold on two GPUs, whose test rows are scored in two shards; on one GPU the test rows
  of fold 0 above, or of the same run.
- steps: rows/s of large optimizer steps in one process and in two by torchrun (engine.py's training).
WORK holds the runs; those that are there already are not measured again.
"""
import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from engine import inputs_of, measure_training, origin
from mcvqa.base.files import RunLog
from mcvqa.config import load_config, parse_changes
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.distributed import is_main_process, join_processes
from mcvqa.model.load import load_base
from mcvqa.model.memory import MemoryPlan
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from whole import make_data, run_and_time

FOLDS, FOLDS_ON_ONE = 4, 2
SETTINGS = (
    "executor=processes", "use_kfold=true", f"n_folds={FOLDS}", "num_epochs=2", "batch_size=16", "grad_accum_steps=1",
    "use_tta=true", "tta_orders=4", "tta_scales=1.0",
)
LIMITS = dict(folds=160, shards=90, steps=90)  # seconds of one command of a part
LONG_FOLD = 120.0  # seconds for which the efficiency is calculated


class Measurement:
    """The runs of one call. deadline: by time.monotonic()."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.deadline = options, time.monotonic() + options.seconds
        self.data: Path = options.folder / "data"

    def limit(self, part: str) -> float:
        """Raises: SystemExit: the time of all parts is used up."""
        left = self.deadline - time.monotonic()
        if left < 1:
            raise SystemExit(f"{part}: no time is left of {self.options.seconds:.0f} s")
        return min(LIMITS[part], left)

    def succeeds(self, part: str, measure: Callable[["Measurement"], None]) -> bool:
        """Return whether a part was measured; one that fails does not keep the next ones from being tried."""
        try:
            measure(self)
        except SystemExit as stopped:
            print(f"RESULT {part} failed: {stopped}", flush=True)
            return False
        return True

    def save(self, part: str, found: dict[str, Any]) -> None:
        facts = origin(self.options.commit) | dict(torch=torch.__version__, gpus=torch.cuda.device_count()) | found
        (self.options.out / f"{part}.json").write_text(json.dumps(facts, indent=1) + "\n")

    def run(self, part: str, name: str, workers: int, folds: int, *settings: str) -> dict[str, Any]:
        """Run it, unless it was. Returns: seconds of the whole and of the steps, and the tasks; `at` counts from its start."""
        file = self.options.out / f"{name}.json"
        if file.exists():
            return json.loads(file.read_text())
        output = self.options.folder / f"gpus{workers}"
        log = RunLog(output / "logs" / f"{name}.jsonl")
        if log.path.exists():
            raise SystemExit(f"{log.path} is there already: what it holds would be skipped. Choose another --folder.")
        asked = [
            f"model_id={self.options.model}", *SETTINGS, *self.options.set, *settings, f"parallel_folds={workers}",
            f"train_folds={','.join(map(str, range(folds)))}", f"run_name={name}",
        ]
        limit = self.limit(part)
        try:
            found = run_and_time(asked, self.data, output, limit)
        finally:
            print("tasks:", json.dumps([{key: e[key] for key in ("task", "worker", "seconds")} for e in log.events("task")]))
        found["tasks"] = [
            dict(task=e["task"], worker=e["worker"], at=round(e["began"] - found["began"], 2), seconds=e["seconds"])
            for e in sorted(log.events("task"), key=lambda event: event["began"])
        ]
        self.save(name, found)
        return found


# %% folds
def kind_of(task: dict[str, Any]) -> str:
    """'train' or 'score test' or 'score oof'; '' of others."""
    kind, *_, last = task["task"].split()
    return {"train": "train", "score": f"score {last}"}.get(kind, "")


def pieces(run: dict[str, Any]) -> dict[str, Any]:
    """What a run consists of, in seconds.

    Returns:
        before: until the first fold is begun, with start, data, model and features; first: what the first task of each kind
        takes a worker longer than its next one (its plan is searched); fold: all tasks of a fold but that; after: from the end
        of the last task; idle: of a worker from `before` to `after`.
    """
    tasks = [task for task in run["tasks"] if kind_of(task)]
    before, end = tasks[0]["at"], max(task["at"] + task["seconds"] for task in tasks)
    workers = sorted({task["worker"] for task in tasks})
    by_worker = {name: [task for task in tasks if task["worker"] == name] for name in workers}
    kinds, first = {}, 0.0
    for kind in sorted({kind_of(task) for task in tasks}):
        each = [[t["seconds"] for t in by_worker[name] if kind_of(t) == kind] for name in workers]
        again = [seconds for times in each for seconds in times[1:]]
        kinds[kind] = mean(again or [seconds for times in each for seconds in times])
        first += mean(times[0] - kinds[kind] if times else 0.0 for times in each)
    busy = mean(sum(task["seconds"] for task in by_worker[name]) for name in workers)
    return dict(
        before=before, first=first, fold=sum(kinds.values()), after=run["seconds"] - end, idle=end - before - busy, kinds=kinds,
        work=end - before, whole=run["seconds"],
    )


def projected(one: dict[str, Any], two: dict[str, Any], seconds: float) -> tuple[float, float]:
    """Seconds of four folds on one and on two GPUs.

    Args:
        seconds: of a fold on one GPU; beside another fold it takes as many times longer as was measured.
    """
    slower = two["fold"] / one["fold"]
    return (
        one["before"] + one["first"] + FOLDS * seconds + one["idle"] + one["after"],
        two["before"] + two["first"] + FOLDS / 2 * seconds * slower + two["idle"] + two["after"],
    )


def measure_folds(measurement: Measurement) -> None:
    two = pieces(measurement.run("folds", "folds-2", 2, FOLDS))
    print(say_pieces("two GPUs, four folds", two), flush=True)
    one = pieces(measurement.run("folds", "folds-1", 1, FOLDS_ON_ONE))
    print(say_pieces("one GPU, two folds", one), flush=True)
    found: dict[str, Any] = dict(one=one, two=two)
    for name, seconds in (("as measured", one["fold"]), ("long folds", LONG_FOLD)):
        on_one, on_two = projected(one, two, seconds)
        fixed = [each["before"] + each["after"] for each in (one, two)]
        found[name] = dict(
            fold=seconds, one=on_one, two=on_two, efficiency=on_one / (2 * on_two),
            efficiency_of_work=(on_one - fixed[0]) / (2 * (on_two - fixed[1])),
        )
        print(
            f"RESULT folds of {seconds:.1f} s: four on one GPU {on_one:.1f} s, on two {on_two:.1f} s, efficiency "
            f"{found[name]['efficiency']:.1%} of whole runs, {found[name]['efficiency_of_work']:.1%} of training and scoring",
            flush=True,
        )
    measurement.save("folds", found)


def say_pieces(title: str, found: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in found["kinds"].items())
    return (
        f"RESULT {title}: {found['whole']:.1f} s = {found['before']:.1f} before the first fold + {found['work']:.1f} folds + "
        f"{found['after']:.1f} after; a fold takes {found['fold']:.1f} s ({kinds}), a worker's first of each kind "
        f"{found['first']:.1f} s more, idle {found['idle']:.1f} s a worker"
    )


# %% shards
def scoring_of_test(run: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the beginning of the first shard of fold 0, or of its whole scoring, to the end of the last."""
    tasks = [task for task in run["tasks"] if task["task"].startswith("score fold 0 test")]
    began, end = min(task["at"] for task in tasks), max(task["at"] + task["seconds"] for task in tasks)
    return dict(seconds=end - began, tasks={task["task"]: task["seconds"] for task in tasks})


def measure_shards(measurement: Measurement) -> None:
    run = measurement.run("shards", "shards-2", 2, 1, "num_epochs=0")
    two = scoring_of_test(run)
    print(f"RESULT shards, two GPUs: {json.dumps(two)}", flush=True)
    if not any(" of 2" in name for name in two["tasks"]):
        raise SystemExit("shards: the fold was not divided; at least 1,024 test rows are needed (--test-rows)")
    known = measurement.options.out / "folds-1.json"
    one = scoring_of_test(json.loads(known.read_text()) if known.exists() else measurement.run(
        "shards", "shards-1", 1, 1, "num_epochs=0"))
    efficiency, rows = one["seconds"] / (2 * two["seconds"]), measurement.options.test_rows
    print(
        f"RESULT shards: {rows} rows on one GPU {one['seconds']:.1f} s, in two shards on two {two['seconds']:.1f} s, "
        f"efficiency {efficiency:.1%}", flush=True,
    )
    measurement.save("shards", dict(rows=rows, one=one, two=two, efficiency=efficiency))


# %% steps
def measure_steps(measurement: Measurement) -> None:
    """In two processes, then in one."""
    found: dict[str, Any] = {}
    try:
        for processes in (2, 1):
            for result in steps_in(processes, measurement):
                rows = result["rows_in_step"]
                found[f"{rows} rows, {processes} processes"] = result
                print(f"RESULT steps of {rows} rows in {processes} process(es): {result['per_second']:.1f} rows/s", flush=True)
    finally:
        for rows in measurement.options.step_rows:
            rates = [found.get(f"{rows} rows, {n} processes", {}).get("per_second") for n in (1, 2)]
            if all(rates):
                found[f"{rows} rows"] = dict(times=rates[1] / rates[0], efficiency=rates[1] / (2 * rates[0]))
                print(f"RESULT steps of {rows} rows: two GPUs {rates[1] / rates[0]:.2f} times one", flush=True)
        measurement.save("steps", found)


def steps_in(processes: int, measurement: Measurement) -> list[dict[str, Any]]:
    launcher = [
        "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_addr", "127.0.0.1", "--master_port", "29519",
    ] if processes > 1 else []
    command = [sys.executable, "-u", *launcher, __file__, *sys.argv[1:], "--here", str(processes)]
    files = [results_of_steps(measurement.options, processes, rows) for rows in measurement.options.step_rows]
    for file in files:
        file.unlink(missing_ok=True)
    limit = measurement.limit("steps")
    with subprocess.Popen(command) as process:
        try:
            process.wait(timeout=limit)
        except subprocess.TimeoutExpired:  # what was measured until then is there
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()
    return [json.loads(file.read_text()) for file in files if file.exists()]


def results_of_steps(options: argparse.Namespace, processes: int, rows: int) -> Path:
    return options.folder / f"steps-{processes}-{rows}.json"


def train_here(options: argparse.Namespace) -> None:
    """Train with each size of steps, in this process and those beside it."""
    config = load_config(changes=dict(model_id=options.model) | parse_changes([*SETTINGS, *options.set, "use_tta=false"]))
    join_processes(config)
    shown = contextlib.nullcontext() if is_main_process() else contextlib.redirect_stdout(io.StringIO())
    base, memory = load_base(config, plan_device(config)), MemoryPlan()
    questions = read_questions(options.folder / "data" / "train.csv").questions[: options.step_questions]
    images = inputs_of(base, options.folder / "data", questions, config)
    with tempfile.TemporaryDirectory() as temporary, shown:
        store = FeatureStore(Path(temporary), base, images)
        store.fill(base, dict.fromkeys(q.image for q in questions))
        maker = RowMaker(base.encoder, images, store, base.family.recurrent)
        for rows in options.step_rows:
            sized = config.replace(batch_size=min(16, rows), grad_accum_steps=max(1, rows // 16))
            folder = options.folder / f"steps-{options.here}-{rows}"
            found = measure_training(base, maker, questions, sized, folder, memory)
            if is_main_process():
                losses = [event["loss"] for event in RunLog(folder / "log.jsonl").events("step")]
                facts = found | dict(rows_in_step=rows, losses=losses)
                results_of_steps(options, options.here, rows).write_text(json.dumps(facts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, help="rows whose questions are asked, instead of questions about what is drawn")
    parser.add_argument("--rows", type=int, default=960, help="training rows, of which a fold trains on three quarters")
    parser.add_argument("--test-rows", type=int, default=1536)
    parser.add_argument("--step-rows", type=int, nargs="+", default=[64, 128], help="rows of an optimizer step")
    parser.add_argument("--step-questions", type=int, default=512, help="training rows of the steps")
    parts = ("data", "folds", "shards", "steps")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seconds", type=float, default=330, help="for all parts together")
    parser.add_argument("--set", nargs="*", default=[], help="more settings, name=value")
    parser.add_argument("--commit", help="where there is no git")
    parser.add_argument("--folder", type=Path, required=True, help="for photographs and runs")
    parser.add_argument("--out", type=Path, required=True, help="for results")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)  # the steps of one of so many processes
    options = parser.parse_args()
    if options.here:
        train_here(options)
        sys.exit()
    options.out.mkdir(parents=True, exist_ok=True)
    measurement = Measurement(options)
    if not (measurement.data / "sample_submission.csv").exists():
        make_data(measurement.data, dict(train=options.rows, test=options.test_rows), options.csv)
    measures = dict(folds=measure_folds, shards=measure_shards, steps=measure_steps)
    done = [measurement.succeeds(part, measure) for part, measure in measures.items() if part in options.parts]
    sys.exit(not all(done))
