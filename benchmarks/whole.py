"""Measures how long a whole run takes, from CSV files and photographs to the submission, and how long each worker is idle.

    python benchmarks/whole.py --model FOLDER --out OUT                                        # all GPUs, each as a T4
    python benchmarks/whole.py --model tiny --rows 24 --set parallel_folds=2 image_size=112 --out OUT   # this CPU

Draws photographs of ordinary sizes, one a row, runs `mcvqa run` on them in a process of its own (3 folds, 1 epoch), and writes
OUT/whole.json: seconds of the whole, of each step, and of each worker's tasks. A worker idles whenever it has no task, from its
first task to the end of the last task of all; before that it starts up, which is reported too.
"""
import argparse
import csv
import itertools
import json
import math
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine import origin
from mcvqa.base.files import RunLog
from mcvqa.base.versions import installed_version
from mcvqa.data.answers import LETTERS
from mcvqa.data.kinds import BASIC_KINDS
from mcvqa.scenes.ask import ask
from mcvqa.scenes.draw import draw
from mcvqa.scenes.scene import sample_scene

SIZES = ((640, 480), (480, 640), (800, 600), (1024, 768), (640, 640))  # width and height
SETTINGS = ("num_epochs=1", "n_folds=3", "train_folds=0,1,2", "use_kfold=true", "run_name=whole")
COLUMNS = ("id", "path", "question", *LETTERS[:4])


# %% data
@dataclass(frozen=True)
class Photograph:
    """One to be drawn. row: the question about it, from a file; None: one about what is drawn."""

    file: Path
    seed: tuple[int, int]
    row: dict[str, str] | None


def make_photograph(photograph: Photograph) -> dict[str, str]:
    """Draw it with some noise, as cameras have, so that it takes as long to decode. Returns: its row."""
    rng = np.random.default_rng(photograph.seed)
    kind, asked = BASIC_KINDS[photograph.seed[1] % len(BASIC_KINDS)], None
    while asked is None:
        scene = sample_scene(rng, "varied")
        asked = ask(scene, rng, "ko", kind, 2 if kind == "yesno" else 4)
    picture = np.asarray(draw(scene, 256).resize(SIZES[rng.integers(len(SIZES))], Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-8, 9, picture.shape, dtype=np.int16)
    Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(photograph.file, "JPEG", quality=90)
    texts = (asked.text, *(asked.choices + ("",) * 4)[:4], LETTERS[asked.answer])
    row = photograph.row or dict(zip((*COLUMNS[2:], "answer"), texts, strict=True))
    path = "/".join(photograph.file.parts[-2:])
    return {"id": photograph.file.stem, "path": path} | {name: row[name] for name in (*COLUMNS[2:], "answer")}


def make_data(folder: Path, rows: dict[str, int], questions: Path | None) -> None:
    """Write train.csv, test.csv, sample_submission.csv and the photographs.

    Args:
        rows: of train and of test.
        questions: rows with answers; their photographs are not needed.
    """
    texts: list[Any] = [None]
    if questions:
        with open(questions, encoding="utf-8", newline="") as handle:
            texts = list(csv.DictReader(handle))
    with ProcessPoolExecutor() as pool:
        for number, (split, count) in enumerate(rows.items()):
            (folder / split).mkdir(parents=True, exist_ok=True)
            wanted = [
                Photograph(folder / split / f"{split}_{i:05d}.jpg", (number, i), text)
                for i, text in zip(range(count), itertools.cycle(texts), strict=False)
            ]
            made = list(pool.map(make_photograph, wanted, chunksize=16))
            write_csv(folder / f"{split}.csv", (*COLUMNS, "answer") if split == "train" else COLUMNS, made)
    write_csv(folder / "sample_submission.csv", ("id", "answer"), [row | {"answer": "a"} for row in made])


def write_csv(file: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


# %% measuring
def run_and_time(settings: list[str], data: Path, out: Path, within: float = math.inf) -> dict[str, Any]:
    """Seconds of `mcvqa run`, and of each of its steps, from one heading to the next.

    Args:
        within: seconds after which it is stopped.

    Raises:
        SystemExit: it failed or was stopped.
    """
    command = [sys.executable, "-u", "-m", "mcvqa", "run", "--data", str(data)]
    command += [argument for setting in (*settings, f"output_dir={out}") for argument in ("--set", setting)]
    began, moments = time.time(), {"start": time.time()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout
        alarm = threading.Timer(min(within, threading.TIMEOUT_MAX), process.terminate)
        alarm.start()
        for line in process.stdout:
            print(line, end="", flush=True)
            if heading := re.match(r"\[\d+/10\] ([^:]+)", line):
                moments[heading[1].strip()] = time.time()
    alarm.cancel()
    if process.returncode:
        raise SystemExit(f"mcvqa run ended with status {process.returncode}")
    edges = [*moments.values(), time.time()]
    steps = {name: round(edges[i + 1] - edges[i], 1) for i, name in enumerate(moments)}
    return dict(began=began, training_began=moments["training"], seconds=round(time.time() - began, 1), steps=steps)


def workers_of(log: RunLog, training_began: float) -> dict[str, Any]:
    """Seconds each worker was busy and idle, from the log; empty where this process did the tasks itself."""
    tasks = defaultdict(list)
    for event in sorted(log.events("task"), key=lambda event: event["began"]):
        tasks[event["worker"]].append((event["task"], event["began"], event["seconds"]))
    end = max((began + seconds for each in tasks.values() for _, began, seconds in each), default=0.0)
    return {name: measured(tasks[name], end, training_began) for name in sorted(tasks)}


def measured(tasks: list[tuple[str, float, float]], end: float, training_began: float) -> dict[str, Any]:
    """Args: tasks: name, when it began, seconds; end: of the last task of all workers."""
    first, busy = tasks[0][1], sum(seconds for *_, seconds in tasks)
    return dict(
        startup=round(first - training_began, 1), busy=round(busy, 1), idle=round(end - first - busy, 1),
        tasks=[dict(task=name, at=round(began - training_began, 1), seconds=round(took, 1)) for name, began, took in tasks],
    )


def say(found: dict[str, Any]) -> str:
    workers = "; ".join(
        f"{name}: starts up {each['startup']:.0f} s, busy {each['busy']:.0f} s, idle {each['idle']:.0f} s"
        for name, each in found["workers"].items()
    )
    steps = ", ".join(f"{name} {seconds:.0f}" for name, seconds in found["steps"].items())
    return f"{found['rows']} + {found['rows']} rows in {found['seconds']:.0f} s ({steps}). {workers or 'one process'}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=3887, help="training rows, and as many test rows")
    parser.add_argument("--csv", type=Path, help="rows whose questions are asked, instead of questions about what is drawn")
    parser.add_argument("--set", nargs="*", default=[], help="more settings, name=value")
    parser.add_argument("--commit", help="where there is no git")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if (options.out / "run").exists():
        parser.error(f"{options.out / 'run'} is there already: what it holds would be skipped. Choose another --out.")
    make_data(options.out / "data", dict.fromkeys(("train", "test"), options.rows), options.csv)
    profile = ["gpu_profile=t4"] if torch.cuda.is_available() else []
    settings = [f"model_id={options.model}", *SETTINGS, *profile, *options.set]
    found = run_and_time(settings, options.out / "data", options.out / "run")
    found["workers"] = workers_of(RunLog(options.out / "run" / "logs" / "whole.jsonl"), found.pop("training_began"))
    versions = {name: installed_version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    found = origin(options.commit) | dict(gpus=torch.cuda.device_count(), rows=options.rows) | versions | found
    (options.out / "whole.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    print(say(found))
