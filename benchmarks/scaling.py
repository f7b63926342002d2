"""Measures how the time of a step, of scoring and of photographs grows: with rows in a pass, tokens, image size, option orders
and model size.

    python benchmarks/scaling.py --csv train.csv --model FOLDER [FOLDER ...] [--set gpu_profile=t4 quantization=4bit] [--out OUT]

The first model is measured in everything, the others at one point. Writes OUT/scaling.json and OUT/scaling.png. Rates are those
of forward passes (and backward passes) of batches that are there already, each the fastest of ten: what a machine does beside it
makes single passes up to a third slower.
"""
import argparse
import json
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt

from engine import inputs_of, origin
from mcvqa.config import Config, load_config, parse_changes
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.fast.forward import answer_loss, read_letters
from mcvqa.model.load import BaseModel, load_base, make_trainable, remove_adapters
from mcvqa.model.memory import free_memory
from mcvqa.model.rows import RowMaker
from mcvqa.model.size import measure_model
from mcvqa.model.vision.features import FeatureStore, finished, start_encoding
from mcvqa.model.vision.tower import aligned
from mcvqa.scoring.orders import option_orders

ROWS, ORDERS, SIZES = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8, 16, 24), (112, 168, 224, 280, 336, 392, 448, 560)
TYPICAL = 16  # rows in a pass, where something else varies


def seconds(work: Callable[[], Any]) -> float:
    """The shortest time of ten, behind a first that warms up."""
    times = []
    for _ in range(11):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


class Meter:
    """One model with its rows at one image size."""

    def __init__(self, base: BaseModel, csv: Path, questions: list[Question], config: Config, folder: Path) -> None:
        images = inputs_of(base, csv.parent, questions, config)
        store = FeatureStore(folder, base, images)
        store.fill(base, dict.fromkeys(q.image for q in questions))
        self.base, self.config, self.questions, self.images = base, config, questions, images
        self.maker = RowMaker(base.encoder, images, store, base.family.recurrent)

    def batch(self, rows: int, orders: int) -> Any:
        return self.maker.batch([self.maker.row(q, option_orders(len(q.choices), orders)) for q in self.questions[:rows]])

    def tokens(self) -> float:
        return float(np.mean([len(self.maker.row(q)) for q in self.questions[:TYPICAL]]))

    def photographs(self) -> float | None:
        """Per second, from patches to features in the CPU's memory; in one batch."""
        names = [*dict.fromkeys(q.image for q in self.questions)][:TYPICAL]
        patches = torch.cat([self.images.patches(n) for n in names])
        grids = [grid for n in names if (grid := self.images.grid(n))]
        self.base.vision.to(self.base.plan.device)
        with aligned(self.base.vision):
            found = within_memory(lambda: len(names) / seconds(
                lambda: finished(self.base, start_encoding(self.base, patches, grids, names))))
        self.base.vision.to("cpu")
        return found

    def scoring(self, rows: int, orders: int = 1) -> float | None:
        """Rows per second."""
        batch, answers, plan = self.batch(rows, orders), self.base.answers(self.base.model), self.base.plan

        def work() -> None:
            with torch.autocast(plan.device, dtype=plan.dtype, enabled=plan.amp):
                read_letters(answers, [batch], plan.device)

        return within_memory(lambda: rows / seconds(work))

    def training(self, rows: int) -> float | None:
        """Rows per second, with checkpointing."""
        model, plan, batch = make_trainable(self.base, self.config, 0), self.base.plan, self.batch(rows, 1)
        answers = self.base.answers(model).train()
        answers.set_checkpointing(True)

        def work() -> None:
            moved = batch.to(plan.device)
            with torch.autocast(plan.device, dtype=plan.dtype, enabled=plan.amp):
                loss = answer_loss(answers(moved), moved).mean()
            loss.backward()
            model.zero_grad()

        found = within_memory(lambda: rows / seconds(work))
        remove_adapters(self.base, model)
        return found


def within_memory(work: Callable[[], float]) -> float | None:
    try:
        return work()
    except torch.cuda.OutOfMemoryError:
        pass
    free_memory()
    return None


def measured(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = dict(rows=[], orders=[], sizes=[], models=[])
    for number, name in enumerate(options.model):
        config = load_config(changes=dict(model_id=name) | parse_changes(options.set))
        base = load_base(config, plan_device(config))
        questions = read_questions(options.csv).questions[: max(ROWS)]
        with tempfile.TemporaryDirectory() as folder:
            meter = Meter(base, options.csv, questions, config, Path(folder))
            found["models"].append(dict(
                model=Path(name).name, weights=measure_model(base.model.config, config).language_linears,
                scoring=meter.scoring(TYPICAL), training=meter.training(TYPICAL),
            ))
            if number == 0:
                found["rows"] = [dict(rows=n, scoring=meter.scoring(n), training=meter.training(n)) for n in ROWS]
                found["orders"] = [dict(orders=k, scoring=meter.scoring(TYPICAL, k)) for k in ORDERS]
                for size in SIZES:
                    sized = Meter(base, options.csv, questions, config.replace(image_size=size), Path(folder))
                    found["sizes"].append(dict(
                        image_size=size, tokens=sized.tokens(), scoring=sized.scoring(TYPICAL), training=sized.training(TYPICAL),
                        photographs=sized.photographs(),
                    ))
        del base, meter
        free_memory()
    return found


def apart(values: list[float]) -> list[float]:
    """Those that have room for a number under them on a logarithmic axis."""
    kept = values[:1]
    for value in values[1:]:
        kept += [value] if value > 1.2 * kept[-1] else []
    return kept


def draw(found: dict[str, Any], file: Path) -> None:
    figure, grid = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    *panels, words = grid.flat
    marks = dict(training="C0o-", scoring="C1s-", photographs="C2^-")
    rows, photographs = ("rows", ("training", "scoring")), ("photographs", ("photographs",))
    places = (
        ("rows", "rows", "rows in a pass", rows), ("sizes", "tokens", "tokens of a row", rows),
        ("orders", "orders", "option orders", rows), ("models", "weights", "billions of weights in the language layers", rows),
        ("sizes", "image_size", "image size in pixels", photographs),
    )
    for panel, (part, key, label, (unit, kinds)) in zip(panels, places, strict=True):
        for kind in kinds:
            points = [(point[key], point[kind]) for point in found[part] if point.get(kind)]
            if points:
                panel.plot(*zip(*points, strict=True), marks[kind])
        panel.set(xlabel=label, ylabel=f"{unit} per second", xscale="log", yscale="log")
        if unit == "rows" and panel is not panels[0]:  # one scale for all, so that slopes can be compared
            panel.sharey(panels[0])
        panel.grid(True, which="both", alpha=0.25)
        panel.set_xticks(apart([point[key] for point in found[part]]))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value / 1e9:.1f}" if value > 1e8 else f"{value:,.0f}")
        panel.tick_params(which="minor", labelbottom=False)
        panel.yaxis.set_minor_formatter(matplotlib.ticker.LogFormatter(minor_thresholds=(2, 0.5)))
    words.axis("off")
    words.legend(handles=[words.plot([], mark, label=kind)[0] for kind, mark in marks.items()], loc="upper left")
    settings = found["command"].partition(" --set ")[2].partition(" --")[0].split()
    fixed = [found["machine"], f"commit {found['commit']}", *settings, "",
             f"where nothing else is said: the first model, {TYPICAL} rows in a pass, one order"]
    words.text(0, 0.55, "\n".join(textwrap.fill(line, 44) for line in fixed), va="top", transform=words.transAxes)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True, help="rows with answers, beside their photographs")
    parser.add_argument("--model", nargs="+", required=True)
    parser.add_argument("--set", nargs="*", default=[], help="settings, name=value")
    parser.add_argument("--commit", help="where there is no git")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    matplotlib.use("agg")
    found = origin(options.commit) | dict(torch=torch.__version__) | measured(options)
    (options.out / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, options.out / "scaling.png")
    print(json.dumps(found, indent=1))
