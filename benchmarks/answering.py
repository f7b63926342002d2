"""Measures how many new questions a trained run answers per second: with new photographs, and again with their features cached.

    python benchmarks/answering.py --model FOLDER --csv train.csv [--rows 512] [--set gpu_profile=t4]

Makes a run of the first 64 rows without training it, and asks it the others: what `mcvqa answer` and `Answerer.answer_all` take.
Prints a line RESULT {json} for each, with the seconds of its phases. The first 64 questions, which load the model and compile
kernels, are not counted.
"""
import argparse
import contextlib
import csv
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from engine import fresh_peak, gib
from mcvqa import Answerer, Config, run
from mcvqa.answer.asked import Photographs
from mcvqa.answer.trained import TrainedModels
from mcvqa.config import parse_changes
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.rows import KnownPasses
from mcvqa.scoring import score

KNOWN = 64  # rows of the run
PHASES = {  # what is timed, by the name of the phase; one follows the other
    "survey": (Photographs, "records"), "image features": (TrainedModels, "_make_features"),
    "weights": (TrainedModels, "_with_weights"), "encoding rows": (score, "encode_rows"),
    "rows of a pass": (KnownPasses, "rows"), "reading rows": (score, "read_rows"),
}


@contextlib.contextmanager
def timed_phases() -> Iterator[dict[str, float]]:
    """Within the block, add up the seconds of each phase."""
    seconds = defaultdict[str, float](float)

    def timed(name: str, plain: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            started = time.time()
            found = plain(*args, **more)
            seconds[name] = round(seconds[name] + time.time() - started, 2)
            return found

        return call

    with contextlib.ExitStack() as stack:
        for name, (where, function) in PHASES.items():
            stack.enter_context(mock.patch.object(where, function, timed(name, getattr(where, function))))
        yield seconds


def write_table(file: Path, questions: list[Question]) -> None:
    """A train.csv or test.csv; its photographs are in photographs/."""
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "path", "question", *LETTERS[:4], "answer"])
        for q in questions:
            padded = (*q.choices, "", "")[:4]
            writer.writerow([q.id, f"photographs/{q.image}", q.text, *padded, LETTERS[q.answer or 0]])


def trained(model: str, folder: Path, data: Path, questions: list[Question], changes: dict[str, Any]) -> Config:
    """The settings of a run of these questions, which has adapters that change nothing."""
    (data / "rows").mkdir(parents=True)
    for name in ("train", "test"):
        write_table(data / "rows" / f"{name}.csv", questions)
    for question in questions:
        copy = data / "rows" / "photographs" / question.image
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / question.image, copy)
    settings: dict[str, Any] = dict(
        model_id=model, data_dir=str(data / "rows"), output_dir=str(data / "out"), run_name="asked", num_epochs=0,
        use_kfold=False, image_size=384, lora_r=8,
    )
    config = Config(**settings | changes)
    run(config)
    return config


def answered_per_second(answerer: Answerer, questions: list[Question], folder: Path) -> float:
    started = time.time()
    answers = answerer.answer_all([(folder / q.image, q.text, q.choices) for q in questions])
    assert len(answers) == len(questions) and not any(answer.problem for answer in answers)
    return len(questions) / (time.time() - started)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, required=True, help="rows with answers, beside their photographs")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--set", nargs="*", default=[], help="settings, name=value")
    options = parser.parse_args()
    questions = read_questions(options.csv).questions[: options.rows]
    with tempfile.TemporaryDirectory() as temporary:
        folder, changes = options.csv.parent.absolute(), parse_changes(options.set)
        answerer = Answerer(trained(options.model, folder, Path(temporary), questions[:KNOWN], changes), fold=0)
        answered_per_second(answerer, questions[:KNOWN], folder)
        fresh_peak()
        for part in ("new photographs", "features there"):
            with timed_phases() as seconds:
                rate = answered_per_second(answerer, questions[KNOWN:], folder)
            found = dict(part=f"answers, {part}", per_second=round(rate, 2), rows=len(questions) - KNOWN, seconds=seconds)
            peak = fresh_peak()
            print("RESULT", json.dumps(found | (dict(peak_gib=gib(peak)) if peak else {})), flush=True)
