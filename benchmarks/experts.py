"""Trains and scores a mixture of experts in 4 bits on one GPU held to 24 GiB: rows/s and peak memory. Weights are random.

    python benchmarks/experts.py --tokenizer QWEN_FOLDER --csv train.csv --folder FOLDER
    python benchmarks/experts.py --small            # a small model of another family on the CPU, without torchvision

FOLDER receives a model of that size in 16 bits, in the form of the published files, made layer by layer, once: 62 GB for
Qwen3-VL-30B-A3B, as that is what is quantized while it is loaded (--layers N: only the first N layers, where the disk is smaller;
memory and speed are then those of N layers). QWEN_FOLDER: of any Qwen-VL, for its tokenizer and chat template. Photographs are
resized to 384 x 384 pixels. Random routers send tokens to nearly all experts. The first two
steps warm up and are not counted. Prints a line RESULT {json} and a table. Needs torchvision, as the processors do.
"""
import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))
from tests.model.other_families import save_family

from mcvqa.base.files import RunLog
from mcvqa.config import Config, load_config, parse_changes
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import read_questions
from mcvqa.model.content import packaged_tiny
from mcvqa.model.device import GIB, plan_device
from mcvqa.model.load import load_base, load_encoder
from mcvqa.model.memory import MemoryPlan
from mcvqa.model.plain import PlainMaker
from mcvqa.model.rows import read_rows, rows_per_pass
from mcvqa.model.size import ModelSize, measure_model
from mcvqa.scenes.small import write_small_demo
from mcvqa.scoring.orders import option_orders
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import train_fold
from split import SIZES, make_folder, peaks, repeated, sizes

WARM = 2  # steps


# %% the model
def weights_in(size: ModelSize) -> int:
    return size.language_linears + size.experts + size.rest


def make_model(name: str, tokenizer: Path, folder: Path, layers: int) -> None:
    """Write the model in 16 bits, if the disk has room for it."""
    config = sizes(name, tokenizer, small=False)
    text = config.text_config
    if layers:
        text.num_hidden_layers = layers
        if hasattr(text, "layer_types"):
            text.layer_types = text.layer_types[:layers]
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * weights_in(measure_model(config, Config())), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise SystemExit(f"{folder} takes {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free: --layers N makes fewer layers")
    make_folder(config, tokenizer, folder, packed=False)
    (folder / "processor_config.json").unlink(missing_ok=True)
    settings = folder / "preprocessor_config.json"
    facts = {key: value for key, value in json.loads(settings.read_text()).items() if key not in ("min_pixels", "max_pixels")}
    area = dict(shortest_edge=384**2, longest_edge=384**2)
    settings.write_text(json.dumps(facts | dict(
        processor_class="Qwen3VLProcessor", image_processor_type="Qwen2VLImageProcessor", size=area)))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(dict(video_processor_type="Qwen3VLVideoProcessor")))


# %% measuring
def measure(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Load, train some steps, score."""
    plan = plan_device(config)
    if plan.device == "cuda":
        plan = dataclasses.replace(plan, memory=round(options.gib * GIB))
    size, started = measure_model(load_encoder(config)[-1], config), time.time()
    base = load_base(config, plan)
    seconds, loading, held = time.time() - started, peaks(base.plan), _held_bytes(base.model)
    print(f"{weights_in(size) / 1e9:.4f} billion weights, {size.experts / 1e9:.4f} of them in experts, in {seconds:.0f} s: "
          f"{held / GIB:.4f} GiB, estimated {size.weight_bytes(base.plan) / GIB:.4f}", flush=True)
    questions = read_questions(options.csv).questions[: options.rows]
    maker = PlainMaker(base.encoder, survey_images(ImageFolder(options.csv.parent), [q.image for q in questions]))
    with tempfile.TemporaryDirectory() as temporary:
        memory, log = MemoryPlan(), RunLog(Path(temporary) / "log.jsonl")
        train = repeated(questions, options.steps * config.effective_batch)
        result = train_fold(FoldJob(config, base, maker, train, questions[:8], 0, Path(temporary) / "fold", log, memory))
        training, steps = peaks(base.plan), log.events("step")
    warm = [config.effective_batch / event["rows_per_s"] for event in steps[min(WARM, len(steps) - 1):]]
    answers = base.answers(result.model)
    rows = [maker.row(q, option_orders(len(q.choices), 1)) for q in questions]
    at_once = rows_per_pass(answers, maker, rows, config, base.plan)
    read_rows(answers, maker, rows[: 2 * at_once], at_once, base.plan)
    scored = time.time()
    read_rows(answers, maker, rows, at_once, base.plan)
    scored = time.time() - scored
    return dict(
        model=options.model, weights=weights_in(size), experts=size.experts, held_gib=round(held / GIB, 2),
        loading_s=round(seconds), plan=str(memory), losses=[event["loss"] for event in steps], skipped=steps[-1]["skipped"],
        rows_per_s=round(config.effective_batch * len(warm) / sum(warm), 2), scoring_per_s=round(len(rows) / scored, 2),
        rows_at_once=at_once, tokens=round(sum(map(maker.tokens, rows[:8])) / len(rows[:8])),
        peak_gib=dict(loading=loading, training=training, scoring=peaks(base.plan)),
    )


def _held_bytes(model: torch.nn.Module) -> int:
    """Bytes of the weights, with the scales of packed ones."""
    tensors = [*model.parameters(), *model.buffers()]
    scales = [state.absmax for p in model.parameters() if (state := getattr(p, "quant_state", None))]
    return sum(tensor.nbytes for tensor in (*tensors, *scales))


def table(found: dict[str, Any]) -> str:
    peak = {name: ", ".join(map(str, values)) or "-" for name, values in found["peak_gib"].items()}
    return "\n".join([
        "| | rows/s | peak GiB |", "|---|---|---|", f"| loading, {found['loading_s']} s | | {peak['loading']} |",
        f"| training, {found['plan']} | {found['rows_per_s']} | {peak['training']} |",
        f"| scoring, {found['rows_at_once']} rows at once | {found['scoring_per_s']} | {peak['scoring']} |",
    ])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen3-VL-30B-A3B-Instruct", choices=[name for name in SIZES if "A3B" in name])
    parser.add_argument("--tokenizer", type=Path, default=packaged_tiny())
    parser.add_argument("--folder", type=Path, help="of the model, which is made where it is not there")
    parser.add_argument("--csv", type=Path, help="rows with answers, beside their photographs; default: painted scenes")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--layers", type=int, default=0, help="0: all")
    parser.add_argument("--gib", type=float, default=24, help="memory that may be used")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rows-in-step", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--make", action="store_true", help="only make the model")
    parser.add_argument("--set", nargs="*", default=[], help="other settings, name=value")
    options = parser.parse_args()
    if options.folder is None:
        name = "small" if options.small else options.model.rpartition("/")[2]
        options.folder = Path(tempfile.gettempdir()) / "mcvqa-experts" / name
    if not options.folder.exists() and options.small:
        save_family("llava_moe", options.folder)
    elif not options.folder.exists():
        make_model(options.model, options.tokenizer, options.folder, options.layers)
    if options.csv is None:
        write_small_demo(options.folder.parent / "scenes", 0)
        options.csv = options.folder.parent / "scenes" / "train.csv"
    if options.make:
        sys.exit()
    changes: dict[str, Any] = dict(
        model_id=str(options.folder), quantization="4bit", num_epochs=1, batch_size=options.rows_in_step, grad_accum_steps=1,
        save_minutes=1e5, gpus_per_model="1")
    found = measure(load_config(changes=changes | parse_changes(options.set)), options)
    print("RESULT", json.dumps(found), flush=True)
    print(table(found))
