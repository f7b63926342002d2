"""Times what users would otherwise pick, on one GPU: the same rows, photographs, pixels, adapters and weights in 4 bits as ours.

    python benchmarks/peers.py trl --model FOLDER --csv train.csv [--rows 320] [--memory 15]

    notebook      the public notebook's loop: one row at a time, four a step, checkpointing
    trl           SFTTrainer, bfloat16 (it fails in float16), the loss of the answer alone, 8 loader processes
    trl-split     the same over all GPUs, its layers divided by device_map
    unsloth       FastVisionModel and SFTTrainer, float16, its own checkpointing, 8 loader processes
    able          what an able user writes with transformers and peft: a loop, bfloat16, a fused optimizer, 8 loader processes
    able-scoring  the same for inference: one forward for a batch, the logits of the letters
    generate      the public notebook's inference: generate(), one row at a time

Prints a line RESULT {json}: rows per second, and the most memory reserved. Decoding, preprocessing and transfers count; loading
and the first steps, in which kernels are compiled, do not. Needs torchvision, trl and unsloth, each for what is named so.
"""
import argparse
import csv
import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= dict(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", UNSLOTH_DISABLE_STATISTICS="1")
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

LETTERS = "abcd"
SYSTEM = (
    "You are a helpful visual question answering assistant. Answer using exactly one letter among a, b, c, or d. No explanation."
)
ASKED = "정답을 반드시 a, b, c, d 중 하나의 소문자 한 글자로만 출력하세요."
LANGUAGE = r".*language_model.*\.(q|k|v|o|gate|up|down|out|in)_proj(_qkv|_z|_a|_b)?"  # its linear layers, delta layers' too
SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # the notebook's
WORKERS = 8
WARM_STEPS = 4
FREE = 2.0  # GiB of each GPU that a divided model leaves for activations


@dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
        model: a folder.
        rows: of the CSV file, with the paths of their photographs made absolute.
        count: rows to be timed.
        batch: rows a step.
        pixels: of a photograph.
        memory: GiB of each GPU.
    """

    model: str
    rows: list[dict[str, str]]
    count: int
    batch: int
    pixels: int
    memory: float

    @property
    def steps(self) -> int:
        return -(-self.count // self.batch)

    def endless(self) -> Iterator[dict[str, str]]:
        return itertools.cycle(self.rows)


class Clock:
    """Starts after the first steps, and reports after the last."""

    def __init__(self, part: str, work: Work) -> None:
        self.part, self.work, self.step = part, work, 0

    def tick(self) -> bool:
        """Count a step. Returns: whether it was the last."""
        self.step += 1
        if self.step == WARM_STEPS:
            synchronize()
            for gpu in gpus():
                torch.cuda.reset_peak_memory_stats(gpu)
            self.started = time.time()
        if self.step < WARM_STEPS + self.work.steps:
            return False
        synchronize()
        rows = self.work.steps * self.work.batch
        found = dict(part=self.part, per_second=round(rows / (time.time() - self.started), 2), rows=rows)
        if used := [torch.cuda.max_memory_reserved(gpu) for gpu in gpus()]:
            found |= dict(peak_gib=round(max(used) / 2**30, 2))
        print("RESULT", json.dumps(found), flush=True)
        return True


def gpus() -> range:
    return range(torch.cuda.device_count())


def synchronize() -> None:
    for gpu in gpus():
        torch.cuda.synchronize(gpu)


# %% rows
def messages(row: dict[str, str], image: Any = None, answer: bool = True) -> list[dict[str, Any]]:
    """The conversation about one row; without a photograph its place alone."""
    choices = "\n".join(f"({letter}) {row[letter]}" for letter in LETTERS)
    picture = {"type": "image"} | ({} if image is None else {"image": image})
    text = {"type": "text", "text": f"{row['question']}\n{choices}\n\n{ASKED}"}
    turns = [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]}, {"role": "user", "content": [picture, text]},
        {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]},
    ]
    return turns if answer else turns[:2]


def photograph(row: dict[str, str]) -> Image.Image:
    return Image.open(row["path"]).convert("RGB")


def read(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as handle:
        return [row | {"path": str(file.parent / row["path"])} for row in csv.DictReader(handle)]


# %% models
def load(work: Work, dtype: torch.dtype, *, split: bool = False) -> tuple[Any, Any]:
    """The model in 4 bits, on the first GPU or on all, and its processor."""
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    processor = AutoProcessor.from_pretrained(work.model, min_pixels=work.pixels, max_pixels=work.pixels)
    model = AutoModelForImageTextToText.from_pretrained(
        work.model, quantization_config=four_bits, dtype=dtype, attn_implementation="sdpa",
        device_map="auto" if split else {"": 0 if torch.cuda.is_available() else "cpu"},
        max_memory={gpu: f"{work.memory - FREE:.1f}GiB" for gpu in gpus()} if split else None,
    )
    return model, processor


def with_adapters(model: Any, targets: str | list[str], dropout: float = 0.05, trained: bool = True) -> Any:
    if trained:
        model = prepare_model_for_kbit_training(model)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model, lora).train(trained)


def optimizer(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=torch.cuda.is_available())


# %% the peers
def notebook(work: Work) -> None:
    model, processor = load(work, torch.float16)
    model = with_adapters(model, SUFFIXES)
    adam, scaler, clock = optimizer(model), torch.amp.GradScaler(enabled=torch.cuda.is_available()), Clock("notebook", work)
    rows = work.endless()
    while True:
        for row in itertools.islice(rows, work.batch):
            image = photograph(row)
            asked, whole = (
                processor(
                    text=[processor.apply_chat_template(
                        messages(row, image, answer), tokenize=False, add_generation_prompt=not answer)],
                    images=[image], return_tensors="pt",
                ) for answer in (False, True)
            )
            inputs = whole.to(model.device)
            labels = inputs["input_ids"].clone()
            labels[:, : asked["input_ids"].shape[1]] = -100
            with torch.autocast(model.device.type, dtype=torch.float16):
                loss = model(**inputs, labels=labels).loss / work.batch
            scaler.scale(loss).backward()
            loss.item()  # as it prints it
        scaler.step(adam)
        scaler.update()
        adam.zero_grad(set_to_none=True)
        if clock.tick():
            return


def train_by_trl(work: Work, part: str, model: Any, processor: Any, data: Any, collator: Any = None, **more: Any) -> None:
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock = Clock(part, work)

    class Ticking(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = clock.tick()

    settings = dict(
        output_dir="trl-out", per_device_train_batch_size=work.batch, gradient_accumulation_steps=1, max_steps=10_000,
        learning_rate=1e-4, logging_steps=1000, report_to="none", save_strategy="no", gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False}, max_length=None, remove_unused_columns=False,
        optim="adamw_torch_fused" if torch.cuda.is_available() else "adamw_torch", dataloader_num_workers=WORKERS,
    )
    SFTTrainer(
        model=model, args=SFTConfig(**settings | more), train_dataset=data, processing_class=processor, data_collator=collator,
        callbacks=[Ticking()],
    ).train()


def trl(work: Work, *, split: bool = False) -> None:
    from datasets import Dataset
    from datasets import Image as ImageColumn

    model, processor = load(work, torch.bfloat16, split=split)
    data = Dataset.from_list([
        dict(image=row["path"], prompt=messages(row, answer=False), completion=messages(row)[-1:]) for row in work.rows
    ]).cast_column("image", ImageColumn())
    train_by_trl(
        work, "trl-split" if split else "trl", with_adapters(model, LANGUAGE), processor, data, bf16=torch.cuda.is_available())


def unsloth(work: Work) -> None:
    from unsloth import FastVisionModel
    from unsloth.trainer import UnslothVisionDataCollator

    model, processor = FastVisionModel.from_pretrained(
        work.model, load_in_4bit=True, use_gradient_checkpointing="unsloth", dtype=torch.float16)
    model = FastVisionModel.get_peft_model(
        model, finetune_vision_layers=False, finetune_language_layers=True, finetune_attention_modules=True,
        finetune_mlp_modules=True, r=8, lora_alpha=16, lora_dropout=0, random_state=42,
    )
    FastVisionModel.for_training(model)
    side = round(work.pixels**0.5)  # its collator knows no budget of pixels
    data = [{"messages": messages(row, photograph(row).resize((side, side)))} for row in work.rows]
    train_by_trl(
        work, "unsloth", model, processor.tokenizer, data, UnslothVisionDataCollator(model, processor), fp16=True,
        dataset_kwargs={"skip_prepare_dataset": True}, dataset_text_field="",
    )


def collated(rows: list[dict[str, str]], processor: Any, answer: bool) -> Any:
    """One batch; with answers labels at the letter alone."""
    torch.set_num_threads(1)
    images = [photograph(row) for row in rows]
    texts = [
        processor.apply_chat_template(messages(row, image, answer), tokenize=False, add_generation_prompt=not answer)
        for row, image in zip(rows, images, strict=True)
    ]
    batch = processor(text=texts, images=images, return_tensors="pt", padding=True)
    if answer:
        labels = torch.full_like(batch["input_ids"], -100)
        for n, length in enumerate(batch["attention_mask"].sum(1).tolist()):  # ..., letter, <|im_end|>, line break
            labels[n, length - 3] = batch["input_ids"][n, length - 3]
        batch["labels"] = labels
    return batch


def batches(work: Work, processor: Any, answer: bool) -> Iterator[Any]:
    """As many as are made until the clock stops, by loader processes."""
    processor.tokenizer.padding_side = "right" if answer else "left"
    rows = list(itertools.islice(work.endless(), (WARM_STEPS + work.steps) * work.batch))
    return iter(DataLoader(
        rows, batch_size=work.batch, num_workers=WORKERS, prefetch_factor=4, pin_memory=torch.cuda.is_available(),
        collate_fn=lambda taken: collated(taken, processor, answer),
    ))


def able(work: Work) -> None:
    model, processor = load(work, torch.bfloat16)
    model = with_adapters(model, LANGUAGE)
    adam, clock = optimizer(model), Clock("able", work)
    for batch in batches(work, processor, answer=True):
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            loss = model(**batch.to(model.device, non_blocking=True)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adam.param_groups[0]["params"], 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        if clock.tick():
            return


@torch.no_grad()
def able_scoring(work: Work) -> None:
    model, processor = load(work, torch.bfloat16)
    model, clock = with_adapters(model, LANGUAGE, trained=False), Clock("able-scoring", work)
    letters = [processor.tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]
    for batch in batches(work, processor, answer=False):
        logits_BV = model(**batch.to(model.device, non_blocking=True), logits_to_keep=1).logits[:, -1].float()
        logits_BV.log_softmax(-1)[:, letters].cpu()
        if clock.tick():
            return


@torch.no_grad()
def generate(work: Work) -> None:
    model, processor = load(work, torch.float16)
    model, clock = with_adapters(model, SUFFIXES, trained=False), Clock("generate", work)
    for row in work.endless():
        image = photograph(row)
        text = processor.apply_chat_template(messages(row, image, answer=False), tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[image], return_tensors="pt").to(model.device)
        model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False)
        if clock.tick():
            return


PEERS: dict[str, Callable[[Work], None]] = {
    "notebook": notebook, "trl": trl, "trl-split": functools.partial(trl, split=True), "unsloth": unsloth, "able": able,
    "able-scoring": able_scoring, "generate": generate,
}
USUAL_BATCH = {"notebook": 4, "able-scoring": 32, "generate": 1}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--csv", type=Path, required=True, help="rows with answers, with paths relative to it")
    parser.add_argument("--rows", type=int, default=320, help="to be timed")
    parser.add_argument("--batch", type=int, help="rows a step (16; notebook 4, able-scoring 32, generate 1)")
    parser.add_argument("--memory", type=float, default=15, help="GiB")
    parser.add_argument("--image-size", type=int, default=384)
    given = parser.parse_args()
    for gpu in gpus():
        whole = torch.cuda.get_device_properties(gpu).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, given.memory * 2**30 / whole), gpu)
    rows = read(given.csv.absolute())
    batch = given.batch or USUAL_BATCH.get(given.peer, 16)
    PEERS[given.peer](Work(given.model, rows, given.rows, batch, given.image_size**2, given.memory))
