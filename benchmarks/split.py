"""Compares a model on two GPUs of 15 GiB with the same model on one GPU of 40 GiB: losses, memory, speed. Weights are random.

    python benchmarks/split.py --model Qwen/Qwen3-VL-32B-Instruct --tokenizer QWEN_FOLDER --csv train.csv --folder FOLDER
    python benchmarks/split.py --small --devices cpu,cpu            # a small model, both stages on the CPU

FOLDER receives a model of that size with random 4-bit weights as bitsandbytes stores them (32B: 22 GB), made layer by layer,
once. QWEN_FOLDER: of any Qwen-VL, for its tokenizer, chat template and image processor. Each measurement runs in a process of its
own, as a T4 would: float16, no FlashAttention. Two GPUs: each held to 15 GiB (gpu_profile=t4). One GPU: held to 40 GiB, once with
the micro-batch that it finds fastest, and once for the losses with that of the two, as dropout differs between micro-batches.
Prints a line RESULT {json} for each, then a table; --parts chooses measurements, and FOLDER.json keeps those of earlier calls.
The first two steps warm up and are not counted.
"""
import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[1]))
from tests.model.model_sizes import SIZES, layers, qwen3_5, qwen3_vl

from engine import gib, inputs_of
from mcvqa.base.files import RunLog
from mcvqa.config import Config, load_config, parse_changes
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.content import packaged_tiny
from mcvqa.model.device import GIB, DevicePlan, plan_device
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.family_choice import decoder_linears
from mcvqa.model.load import BaseModel, load_base, load_encoder
from mcvqa.model.memory import MemoryPlan, free_memory
from mcvqa.model.placement import divide, place_model, placement_lines, stages_of, weigh
from mcvqa.model.rows import RowMaker, read_rows, rows_per_pass
from mcvqa.model.size import measure_model
from mcvqa.model.source import empty_model
from mcvqa.model.vision.features import FeatureStore
from mcvqa.scenes.small import write_small_demo
from mcvqa.scoring.orders import option_orders
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import train_fold

ONE_GPU = 40 * GIB
PLENTY = 100 * GIB  # of devices that are named
WARM = 2  # steps
SMALL = dict(tie_word_embeddings=False, vocab_size=2048)
SMALL_SIZES = {
    "qwen3_vl": lambda: qwen3_vl(layers(128, 256, 6, 4, 2, **SMALL)),
    "qwen3_5": lambda: qwen3_5(layers(128, 256, 8, 4, 2, linear_num_value_heads=4, **SMALL)),
}


# %% the model
def sizes(name: str, tokenizer: Path, *, small: bool) -> Any:
    """The configuration of a model, with the special tokens of a tokenizer's folder."""
    config = SMALL_SIZES[name]() if small else SIZES[name]()
    facts = json.loads((tokenizer / "config.json").read_text())
    for token in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        setattr(config, token, facts[token])
    text, vision = config.text_config, config.vision_config
    if small:
        vision.depth, vision.hidden_size, vision.intermediate_size, vision.num_heads = 2, 64, 128, 2
        vision.deepstack_visual_indexes = [0, 1] if config.model_type == "qwen3_vl" else []
        text.head_dim = 32
        if config.model_type == "qwen3_5":
            text.vocab_size, text.linear_num_key_heads, text.linear_key_head_dim, text.linear_value_head_dim = 2048, 2, 32, 32
            text.layer_types = (["linear_attention"] * 3 + ["full_attention"]) * 2
    width = text.head_dim // 2
    if config.model_type.startswith("qwen3_5"):
        width //= 4
        text.rope_parameters = dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25)
    axis = width // 3
    text.rope_parameters |= dict(mrope_section=[width - 2 * axis, axis, axis], mrope_interleaved=True)
    vision.out_hidden_size = text.hidden_size
    return config


def make_folder(config: Any, tokenizer: Path, folder: Path, *, packed: bool = True) -> None:
    """Write a model with random weights, its language layers in 4 bits as bitsandbytes stores them, or all of them in 16.

    The numbers come from two pools, from a random place on: drawing billions would take longer than everything else.
    """
    from bitsandbytes.functional import QuantState, get_4bit_type

    started, part = time.time(), folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True)
    for file in tokenizer.iterdir():
        if file.is_file() and file.suffix != ".safetensors" and file.name != "config.json":
            (part / file.name).write_bytes(file.read_bytes())
    model, random = empty_model(config), np.random.default_rng(0)
    linears = decoder_linears(model, FAMILIES[config.model_type]) if packed else {}
    code = get_4bit_type("nf4", device="cpu")
    nibbles = torch.from_numpy(random.integers(0, 256, 2**24, np.uint8))
    normal = (0.02 * torch.from_numpy(random.standard_normal(2**22, np.float32))).half()

    def drawn(pool: torch.Tensor, count: int) -> torch.Tensor:
        place = int(random.integers(len(pool)))
        return torch.roll(pool, place).repeat(-(-count // len(pool)))[:count]

    def tensors_of(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        if name.removesuffix(".weight") in linears:
            absmax = torch.full((weight.numel() // 64,), 0.036)  # times the codes' 0.56: a standard deviation of 0.02
            state = QuantState(absmax, weight.shape, code, 64, "nf4", torch.float16)
            yield name, drawn(nibbles, weight.numel() // 2)[:, None].contiguous()
            yield from ((f"{name}.{kind}", value.clone()) for kind, value in state.as_dict(packed=True).items())
        elif config.model_type == "qwen3_vl_moe" and weight.ndim == 3:  # its files have rows and columns of experts exchanged
            yield name, drawn(normal, weight.numel()).view(weight.transpose(1, 2).shape).contiguous()
        elif weight.ndim > 1:
            yield name, drawn(normal, weight.numel()).view(weight.shape).contiguous()
        else:
            yield name, usual_vector(name, weight, config.model_type)

    index: dict[str, str] = {}
    written = 0
    names = [name for name, _ in model.named_parameters()]
    groups: dict[str, list[str]] = {}
    for name in names:  # a file for each layer, one for each other large part
        groups.setdefault(".".join(name.split(".")[:4]), []).append(name)
    for number, group in enumerate(groups.values()):
        tensors = dict(pair for name in group for pair in tensors_of(name, model.get_parameter(name)))
        file = f"model-{number:05d}.safetensors"
        save_file(tensors, part / file, {"format": "pt"})
        index |= dict.fromkeys(tensors, file)
        written += (part / file).stat().st_size
    (part / "model.safetensors.index.json").write_text(json.dumps(dict(metadata=dict(total_size=written), weight_map=index)))
    packing = dict(
        quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False, bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=False, bnb_4bit_compute_dtype="float16", bnb_4bit_quant_storage="uint8",
        llm_int8_skip_modules=["lm_head", "visual", "model.visual"],
    )
    architecture = type(model).__name__
    facts = config.to_dict() | dict(architectures=[architecture], dtype="float16")
    if packed:
        facts["quantization_config"] = packing
    (part / "config.json").write_text(json.dumps(facts))
    if config.model_type != "qwen2_5_vl":
        settings = part / "preprocessor_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | dict(
            patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)))
    part.rename(folder)
    print(f"{folder}: {written / 1e9:.1f} GB in {time.time() - started:.0f} s", flush=True)


def usual_vector(name: str, weight: torch.Tensor, model_type: str) -> torch.Tensor:
    """A vector as the library begins with: norms that change nothing, no bias, decays between 1 and 16."""
    if name.endswith("A_log"):
        return torch.linspace(1, 16, len(weight)).log().half()
    offset = model_type.startswith("qwen3_5") and "language_model" in name and "linear_attn.norm" not in name
    ones = name.endswith("dt_bias") or ("norm" in name and not name.endswith("bias") and not offset)
    return torch.full((len(weight),), float(ones), dtype=torch.float16)


# %% one measurement
def plan_of(config: Config, gpus: int, devices: list[str]) -> DevicePlan:
    """Where to compute: on two GPUs of 15 GiB, on one of 40, or on the devices named."""
    plan = plan_device(config)
    if not devices:
        return plan if gpus > 1 else dataclasses.replace(plan, memory=ONE_GPU)
    model_config = load_encoder(config)[-1]
    plan = place_model(config, dataclasses.replace(plan, memory=PLENTY if plan.device == "cuda" else 0), model_config)
    if gpus == 1:
        return plan
    weights = weigh(model_config, config, plan, measure_model(model_config, config))
    parts = divide(weights, [PLENTY] * len(devices))
    assert parts is not None
    stages = stages_of(parts, weights, [PLENTY] * len(devices))
    return dataclasses.replace(plan, stages=tuple(
        dataclasses.replace(stage, device=device) for stage, device in zip(stages, devices, strict=True)))


def peaks(plan: DevicePlan) -> list[float]:
    """Most GiB reserved on each GPU since the last call."""
    if plan.device != "cuda":
        return []
    found = [gib(torch.cuda.max_memory_reserved(gpu)) for gpu in plan.limits]
    free_memory()
    for gpu in plan.limits:
        torch.cuda.reset_peak_memory_stats(gpu)
    return found


def repeated(questions: list[Question], count: int) -> list[Question]:
    """`count` questions, with ids of their own."""
    return [dataclasses.replace(questions[i % len(questions)], id=f"row_{i}") for i in range(count)]


def measure(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Load, train some steps, score; in this process."""
    started = time.time()
    plan = plan_of(config, options.gpus, options.devices.split(",") if options.devices else [])
    base: BaseModel = load_base(config, plan)
    plan = base.plan
    print("\n".join(placement_lines(plan)), f"\nloaded in {time.time() - started:.0f} s", flush=True)
    loading = peaks(plan)
    questions = read_questions(options.csv).questions[: options.rows]
    images = inputs_of(base, options.csv.parent, questions, config)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = FeatureStore(folder / "features", base, images)
        store.fill(base, dict.fromkeys(q.image for q in questions))
        encoding = peaks(plan)
        maker = RowMaker(base.encoder, images, store, base.family.recurrent)
        train = repeated(questions, options.steps * config.effective_batch)
        memory, log = MemoryPlan(), RunLog(folder / "log.jsonl")
        result = train_fold(FoldJob(config, base, maker, train, questions[:8], 0, folder / "fold", log, memory))
        training = peaks(plan)
        steps = log.events("step")
        warm = [config.effective_batch / event["rows_per_s"] for event in steps[min(WARM, len(steps) - 1):]]
        answers = base.answers(result.model)
        rows = [maker.row(q, option_orders(len(q.choices), 1)) for q in questions]
        at_once = rows_per_pass(answers, maker, rows, config, plan)
        read_rows(answers, maker, rows[: 2 * at_once], at_once, plan)
        scored = time.time()
        logprobs = read_rows(answers, maker, rows, at_once, plan)
        scored = time.time() - scored
    return dict(
        gpus=options.gpus, plan=str(memory), micro_batch=memory.rows, losses=[event["loss"] for event in steps],
        skipped=steps[-1]["skipped"], rows_per_s=round(config.effective_batch * len(warm) / sum(warm), 2),
        tokens=round(float(np.mean([*map(len, rows)]))), scoring_per_s=round(len(rows) / scored, 2), rows_at_once=at_once,
        peak_gib=[max(each) for each in zip(loading, encoding, training, peaks(plan), strict=True)], training_gib=training,
        probabilities=[[round(float(p), 7) for p in np.exp(row[0])] for row in logprobs[:32]],
        seconds=round(time.time() - started),
    )


# %% all of them
def run_apart(arguments: list[str]) -> dict[str, Any]:
    """The result of a measurement in a process of its own; what it prints is shown."""
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {}
    for line in process.stdout or ():
        if line.startswith("RESULT "):
            found = json.loads(line.removeprefix("RESULT "))
            line = f"RESULT {json.dumps({name: value for name, value in found.items() if name != 'probabilities'})}\n"
        print(line, end="", flush=True)
    if process.wait() or not found:
        raise SystemExit(f"status {process.returncode}: {' '.join(arguments)}")
    return found


def difference(ours: list[float], theirs: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))


def table(two: dict[str, Any], alike: dict[str, Any] | None, one: dict[str, Any] | None) -> str:
    lines = ["| | micro-batch | training rows/s | scoring rows/s (at once) | peak GiB |", "|---|---|---|---|---|"]
    named = [("two GPUs", two), ("one GPU, the same micro-batch", alike), ("one GPU, its fastest", one)]
    for name, found in named:
        if found:
            lines.append(
                f"| {name} | {found['plan']} | {found['rows_per_s']} | {found['scoring_per_s']} ({found['rows_at_once']}) | "
                f"{', '.join(map(str, found['peak_gib']))} |")
    if one:
        lines.append(f"\nof twice one GPU's rate: training {two['rows_per_s'] / one['rows_per_s'] / 2:.0%}, "
                     f"scoring {two['scoring_per_s'] / one['scoring_per_s'] / 2:.0%}")
    if alike:
        flat = [[p for row in found["probabilities"] for p in row] for found in (two, alike)]
        scores = max(abs(a - b) for a, b in zip(*flat, strict=True))
        apart = difference(two["losses"], alike["losses"])
        lines.append(f"losses of {len(two['losses'])} steps: {apart:.1e} apart at most (relative), the letters' probabilities "
                     f"after them {scores:.1e}; skipped steps {two['skipped']}, {alike['skipped']}")
        lines.append("  ".join(f"{a:.4f} {b:.4f}" for a, b in zip(two["losses"], alike["losses"], strict=True)))
    return "\n".join(lines)


def settings(options: argparse.Namespace) -> Config:
    changes: dict[str, Any] = dict(
        model_id=str(options.folder), image_size=options.image_size, num_epochs=1, batch_size=options.rows_in_step,
        grad_accum_steps=1, use_ema=True, save_minutes=1e5,
    )
    on_cpu, gpus = options.devices.startswith("cpu"), 1 if options.devices else options.gpus
    changes |= dict(device="cpu", micro_batch=2) if on_cpu else dict(gpu_profile="t4", gpus_per_model=gpus)
    if options.micro_batch:
        changes["micro_batch"] = options.micro_batch
    return load_config(changes=changes | parse_changes(options.set))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen3-VL-32B-Instruct", help="of SIZES; small: qwen3_vl, qwen3_5")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--folder", type=Path, help="of the model, which is made where it is not there")
    parser.add_argument("--csv", type=Path, help="rows with answers, beside their photographs; default: painted scenes")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--devices", default="", help="of the stages, all on one: cpu,cpu or cuda:0,cuda:0; default: GPUs")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rows-in-step", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=384)
    parser.add_argument("--micro-batch", type=int, default=0)
    parser.add_argument("--parts", default="two,alike,one", help="which measurements")
    parser.add_argument("--gpus", type=int, default=0, help="this one measurement, in this process")
    parser.add_argument("--make", action="store_true", help="only make the model")
    parser.add_argument("--set", nargs="*", default=[], help="other settings, name=value")
    options = parser.parse_args()
    tokenizer = options.tokenizer or packaged_tiny()
    if options.folder is None:
        options.folder = Path(tempfile.gettempdir()) / "mcvqa-split" / options.model.rpartition("/")[2]
    if not options.folder.exists():
        make_folder(sizes(options.model, tokenizer, small=options.small), tokenizer, options.folder)
    if options.csv is None:
        write_small_demo(options.folder.parent / "scenes", 0)
        options.csv = options.folder.parent / "scenes" / "train.csv"
    if options.make:
        sys.exit()
    if options.gpus:
        print("RESULT", json.dumps(measure(settings(options), options)), flush=True)
        sys.exit()
    common = [*sys.argv[1:], "--folder", str(options.folder), "--csv", str(options.csv)]
    kept = options.folder.with_name(f"{options.folder.name}.json")
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for part in options.parts.split(","):
        more = ["--micro-batch", str(found["two"]["micro_batch"])] if part == "alike" else []
        found[part] = run_apart([*common, "--gpus", "2" if part == "two" else "1", *more])
        kept.write_text(json.dumps(found))
    print(table(found["two"], found.get("alike"), found.get("one")))
