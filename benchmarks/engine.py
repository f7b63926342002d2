"""Measures the speed of the parts of a run on one machine: images, training steps, scoring in one and several orders.

    python benchmarks/engine.py --model FOLDER --csv train.csv --set gpu_profile=t4   # a GPU, as a T4
    python benchmarks/engine.py --model tiny --csv train.csv --set image_size=112     # this CPU

Prints a line RESULT {json} for each part: rows or images per second, and on a GPU the most memory reserved; of training that of
the steps (`peak_gib`), of the validations between them (`validation_gib`) and of the longest rows, which the plan tries
(`longest_gib`). Everything a run does is counted (decoding, transfers, optimizer; in training the encoding of rows too, in
scoring it comes before); the first quarter of each part warms up and is not; of training the rate of all steps is told too
(`with_warm_up`). Where the plan has passes recorded (training/recorded.py), training is measured once more without (not with
--as-planned).
"""
import argparse
import json
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from mcvqa.base.files import RunLog
from mcvqa.config import Config, load_config, parse_changes
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.device import GIB, plan_device
from mcvqa.model.load import BaseModel, load_base, remove_adapters
from mcvqa.model.memory import MemoryPlan, free_memory
from mcvqa.model.rows import RowMaker, read_rows, rows_per_pass
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.run.provenance import code_commit
from mcvqa.scoring.orders import option_orders
from mcvqa.training.evaluate import Evaluator
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import train_fold


def report(part: str, rate: float, **more: Any) -> dict[str, Any]:
    """Print it. Args: rate: rows or images per second. Returns: what was printed."""
    peak = fresh_peak()
    memory = dict(peak_gib=gib(peak)) if peak else {}
    found = dict(part=part, per_second=round(rate, 2)) | memory | more
    print("RESULT", json.dumps(found), flush=True)
    return found


def fresh_peak() -> int:
    """The most bytes reserved since the last call; what is not in use is given back, so that the next peak is one of its own.
    Without a GPU 0."""
    if not torch.cuda.is_available():
        return 0
    peak = torch.cuda.max_memory_reserved()
    free_memory()
    torch.cuda.reset_peak_memory_stats()
    return peak


def gib(size: int) -> float:
    return round(size / GIB, 2)


def origin(commit: str | None) -> dict[str, str]:
    """Where figures come from: the command line, the commit and the machine. Args: commit: where there is no git."""
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return dict(command=shlex.join(["python", *sys.argv]), commit=commit or code_commit(), machine=machine)


def write_section(page: Path, name: str, text: str) -> None:
    """Between the marks of that name in a Markdown page, where it has them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.exists() and begin in page.read_text():
        before, rest = page.read_text().split(begin)
        page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def warm_rate(counts: list[int], moments: list[float]) -> float:
    """Per second, without the first quarter. Args: counts: of what was done up to each of `moments`."""
    first = len(moments) // 4
    return (counts[-1] - counts[first]) / (moments[-1] - moments[first])


# %% the parts
class TimedStore(FeatureStore):
    """Notes when each file is written."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.moments: list[float] = []

    def _write(self, *args: Any) -> None:
        super()._write(*args)
        self.moments.append(time.time())


def measure_images(base: BaseModel, images: ImageInputs, questions: list[Question], folder: Path) -> FeatureStore:
    store = TimedStore(folder, base, images)
    store.fill(base, dict.fromkeys(q.image for q in questions))
    moments = sorted(store.moments)
    report("images", warm_rate([*range(len(moments))], moments), images=len(moments))
    return store


def measure_scoring(base: BaseModel, maker: RowMaker, questions: list[Question], config: Config, orders: int) -> None:
    answers = base.answers(base.model)
    rows = [maker.row(q, option_orders(len(q.choices), orders)) for q in questions]
    moments: list[float] = []
    answers.register_forward_pre_hook(lambda *_: moments.append(time.time()))
    size = rows_per_pass(answers, maker, rows, config, base.plan)
    moments.clear()
    read_rows(answers, maker, rows, size, base.plan)
    moments.append(time.time())
    counts = [min(len(rows), n * size) for n in range(len(moments))]
    tokens = round(float(np.mean([*map(len, rows)])))
    report(
        f"scoring, {orders} order{'s' * (orders > 1)}", warm_rate(counts, moments), rows=len(rows), tokens=tokens,
        rows_per_pass=size,
    )


class Peaks:
    """Most bytes of the steps, and of the validations between them, while this is entered."""

    of_steps = of_validation = 0

    def __enter__(self) -> "Peaks":
        plain = Evaluator.validate

        def validate(evaluator: Evaluator, epoch: int, **given: Any) -> Any:
            self.of_steps = max(self.of_steps, fresh_peak())
            found = plain(evaluator, epoch, **given)
            self.of_validation = max(self.of_validation, fresh_peak())
            return found

        self.patch = mock.patch.object(Evaluator, "validate", validate)
        self.patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.stop()


def measure_training(
    base: BaseModel, maker: RowMaker, questions: list[Question], config: Config, folder: Path, memory: MemoryPlan
) -> dict[str, Any]:
    """Args: memory: how a step is divided; where it is empty it is found, and filled. Returns: what was reported."""
    log = RunLog(folder / "log.jsonl")
    with Peaks() as peak:
        result = train_fold(FoldJob(config, base, maker, questions, questions[:8], 0, folder / "fold", log, memory))
    remove_adapters(base, result.model)
    steps = log.events("step")
    seconds = [config.effective_batch / event["rows_per_s"] for event in steps]
    warm = seconds[len(seconds) // 4 :]
    peaks = dict(peak_gib=gib(peak.of_steps), validation_gib=gib(peak.of_validation)) if peak.of_steps else {}
    for event in log.events("memory"):
        peaks["longest_gib"] = gib(event["tried"][0]["peak"])
    return report(
        "training", config.effective_batch * len(warm) / sum(warm), rows=config.effective_batch * len(warm),
        plan=str(memory), skipped=steps[-1]["skipped"],
        with_warm_up=round(config.effective_batch * len(seconds) / sum(seconds), 2), **peaks,
    )


def inputs_of(base: BaseModel, folder: Path, questions: list[Question], config: Config) -> ImageInputs:
    """Raises: SystemExit: a photograph cannot be read; without it a row is shorter, and all rates would be too high."""
    records = survey_images(ImageFolder(folder), [q.image for q in questions])
    if unread := [record for record in records.values() if record.problem]:
        raise SystemExit(f"{len(unread)} of {len(records)} photographs: {unread[0].written}: {unread[0].problem}")
    return ImageInputs(records, base.processor, image_size=config.image_size, patch=base.patch, merge=base.merge)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, required=True, help="rows with answers, beside their photographs")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 4, 24])
    parser.add_argument("--as-planned", action="store_true", help="recorded passes are not compared with plain ones")
    parser.add_argument("--set", nargs="*", default=[], help="settings, name=value")
    options = parser.parse_args()
    config = load_config(changes=dict(model_id=options.model) | parse_changes(options.set))
    base = load_base(config, plan_device(config))
    questions = read_questions(options.csv).questions[: options.rows]
    images = inputs_of(base, options.csv.parent, questions, config)
    with tempfile.TemporaryDirectory() as temporary:
        folder, memory = Path(temporary), MemoryPlan()
        store = measure_images(base, images, questions, folder / "features")
        maker = RowMaker(base.encoder, images, store, base.family.recurrent)
        for count in options.orders:
            measure_scoring(base, maker, questions, config, count)
        measure_training(base, maker, questions, config, folder / "found", memory)
        if memory.recorded and not options.as_planned:
            memory.recorded = False
            measure_training(base, maker, questions, config, folder / "plain", memory)
