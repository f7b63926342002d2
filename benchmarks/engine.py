"""How fast the parts of a run are on one machine: images, training steps, scoring in one and several orders.

    python benchmarks/engine.py --model FOLDER --csv train.csv --set gpu_profile=t4   # a GPU, as a T4
    python benchmarks/engine.py --model tiny --csv train.csv --set image_size=112                   # this CPU

Prints a line RESULT {json} for each part: rows or images per second after warm-up, and on a GPU the most memory reserved.
Everything a run does is counted: decoding, encoding, transfers, optimizer.
"""
import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcvqa.config import Config, load_config
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import Question, read_questions
from mcvqa.files import RunLog
from mcvqa.model.device import plan_device
from mcvqa.model.load import BaseModel, load_base, remove_adapters
from mcvqa.model.rows import RowMaker, read_rows
from mcvqa.model.vision import FeatureStore, ImageInputs
from mcvqa.scoring.orders import option_orders
from mcvqa.training.loop import FoldTrainer


def report(part: str, count: int, seconds: float, **more: Any) -> None:
    found = dict(part=part, per_second=round(count / seconds, 2), count=count, seconds=round(seconds, 2))
    if torch.cuda.is_available():
        found |= dict(gpu=torch.cuda.get_device_name(), peak_gib=round(torch.cuda.max_memory_reserved() / 2**30, 2))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    print("RESULT", json.dumps(found | more), flush=True)


def timed(work: Callable[[], Any]) -> float:
    started = time.time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.time() - started


# %% the parts
def measure_images(base: BaseModel, images: ImageInputs, questions: list[Question], folder: Path) -> FeatureStore:
    store = FeatureStore(folder, base, images)
    every = list(dict.fromkeys(q.image for q in questions))
    store.fill(base, every[:16])
    report("images", len(every) - 16, timed(lambda: store.fill(base, every[16:])))
    return store


def measure_scoring(base: BaseModel, maker: RowMaker, questions: list[Question], config: Config, orders: int) -> None:
    answers = base.answers(base.model)
    rows = [maker.row(q, option_orders(len(q.choices), orders)) for q in questions]

    def read(some: list) -> None:
        read_rows(answers, maker, some, config.eval_batch_size, base.plan)

    read(rows[: config.eval_batch_size])
    report(f"scoring, {orders} orders", len(rows), timed(lambda: read(rows)), tokens=round(float(np.mean([*map(len, rows)]))))


def measure_training(base: BaseModel, maker: RowMaker, questions: list[Question], config: Config, folder: Path) -> None:
    log = RunLog(folder / "log.jsonl")
    trainer = FoldTrainer(config, base, maker, questions, questions[:8], 0, folder / "fold", log)
    trainer.run()
    remove_adapters(base, trainer.model)
    steps = log.events("step")
    warm = steps[len(steps) // 4 :]  # the first quarter warms up
    seconds = sum(config.effective_batch / event["rows_per_s"] for event in warm)
    report("training", config.effective_batch * len(warm), seconds, plan=str(trainer.memory), skipped=steps[-1]["skipped"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, required=True, help="rows with answers, beside their photographs")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 4, 24])
    parser.add_argument("--set", nargs="*", default=[], help="settings, name=value")
    options = parser.parse_args()
    config = load_config(changes=dict(model_id=options.model) | dict(pair.split("=", 1) for pair in options.set))
    base = load_base(config, plan_device(config))
    questions = read_questions(options.csv).questions[: options.rows]
    records = survey_images(ImageFolder(options.csv.parent), [q.image for q in questions])
    images = ImageInputs(records, base.processor, image_size=config.image_size, patch=base.patch, merge=base.merge)
    with tempfile.TemporaryDirectory() as temporary:
        store = measure_images(base, images, questions, Path(temporary) / "features")
        maker = RowMaker(base.encoder, images, store)
        for count in options.orders:
            measure_scoring(base, maker, questions, config, count)
        measure_training(base, maker, questions, config, Path(temporary))
