"""Whether the fast path answers as the library does, and how much sooner: the same rows of `tiny` by transformers' own forward
pass in float32, eight prompts at a time and one (which the answers are compared with), and by ours in float32 and float16;
photographs and texts included.

    python benchmarks/equal.py [--rows 500] [--device cpu]

A float16 answer may differ only where the first two choices are nearly equal in float32.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from engine import inputs_of
from mcvqa.config import load_config
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker, encode_rows, read_rows
from mcvqa.model.vision.features import FeatureStore
from mcvqa.scenes.dataset import generate_demo

LISTS = "input_ids", "attention_mask", "mm_token_type_ids"  # of tokens; what else there is belongs to photographs


def by_the_library(
    model: torch.nn.Module, maker: RowMaker, questions: list[Question], device: str, together: int
) -> list[np.ndarray]:
    """Letter log-probabilities (C,) of each row. Args: together: prompts in one pass, padded behind their ends."""
    found = []
    for start in range(0, len(questions), together):
        rows = [maker.row(question) for question in questions[start : start + together]]
        each = [maker.prompt_inputs(row) for row in rows]
        inputs = {
            name: pad_sequence([own[name][0] for own in each], batch_first=True) if name in LISTS
            else torch.cat([own[name] for own in each]) for name in each[0]
        }
        with torch.no_grad():
            logits = model(**{name: value.to(device) for name, value in inputs.items()}).logits  # (B, L, V)
        ends = inputs["attention_mask"].sum(1) - 1
        logprobs = logits[torch.arange(len(rows)), ends].float().log_softmax(-1).cpu().numpy()
        found += [own[row.letters[0]] for own, row in zip(logprobs, rows, strict=True)]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # or the library's convolution of patches would not be one in float32
    with tempfile.TemporaryDirectory() as temporary:
        generate_demo(temporary, options.rows, 8, seed=5, size=112, style="shifted")
        questions = read_questions(Path(temporary) / "train.csv").questions
        ours, rates = {}, {}
        for precision in ("float32", "float16"):
            config = load_config(preset="demo").replace(device=options.device, precision=precision, quantization="none")
            base = load_base(config, plan_device(config))
            images = inputs_of(base, Path(temporary), questions, config)
            store = FeatureStore(Path(temporary) / precision, base, images)
            maker = RowMaker(base.encoder, images, store, base.family.recurrent)
            started = time.time()
            store.fill(base, dict.fromkeys(q.image for q in questions))
            rows = encode_rows(maker, questions, [None] * len(questions), base.plan.workers)
            ours[precision] = [way[0] for way in read_rows(base.answers(base.model), maker, rows, 32, base.plan)]
            rates[precision] = len(questions) / (time.time() - started)
            if precision == "float32":
                base.vision.to(options.device)
                for together in (8, 1):
                    started = time.time()
                    theirs = by_the_library(base.model, maker, questions, options.device, together)
                    rates[f"the library, float32, {together} at a time"] = len(questions) / (time.time() - started)
    print(", ".join(f"{name}: {rate:.1f} rows/s" for name, rate in rates.items()))
    for precision, found in ours.items():
        apart = max(np.abs(a - b).max() for a, b in zip(found, theirs, strict=True))
        differ = [i for i, (a, b) in enumerate(zip(found, theirs, strict=True)) if a.argmax() != b.argmax()]
        gaps = [float(np.diff(np.sort(theirs[i])[-2:])[0]) for i in differ]
        same = f"{len(rows) - len(differ)} of {len(rows)} answers the same"
        near = f"; where not, the library's first two lie {max(gaps):.4f} nats apart at most" if gaps else ""
        print(f"{precision}: log-probabilities at most {apart:.1e} apart, {same}{near}")
