"""Whether the fast path answers as the library does, and how much sooner: the same rows of `tiny`, one prompt at a time by
transformers' own forward pass in float32, and by ours in float32 and float16; photographs and texts included.

    python benchmarks/equal.py [--rows 500] [--device cpu]

A float16 answer may differ only where the first two choices are nearly equal in float32.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from engine import inputs_of
from mcvqa.config import load_config
from mcvqa.data.questions import Question, read_questions
from mcvqa.data.scenes import generate_demo
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker, encode_rows, read_rows
from mcvqa.model.vision import FeatureStore


def by_the_library(model: torch.nn.Module, maker: RowMaker, questions: list[Question], device: str) -> list[np.ndarray]:
    """Letter log-probabilities (C,) of each row."""
    found = []
    for row in map(maker.row, questions):
        inputs = {name: value.to(device) for name, value in maker.prompt_inputs(row).items()}
        with torch.no_grad():
            logprobs = model(**inputs).logits[0, -1].float().log_softmax(-1).cpu().numpy()
        found.append(logprobs[row.letters[0]])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        generate_demo(temporary, options.rows, 8, seed=5, size=112, style="shifted")
        questions = read_questions(Path(temporary) / "train.csv").questions
        ours, rates = {}, {}
        for precision in ("float32", "float16"):
            config = load_config(preset="demo").replace(device=options.device, precision=precision, quantization="none")
            base = load_base(config, plan_device(config))
            images = inputs_of(base, Path(temporary), questions, config)
            store = FeatureStore(Path(temporary) / precision, base, images)
            maker = RowMaker(base.encoder, images, store)
            started = time.time()
            store.fill(base, dict.fromkeys(q.image for q in questions))
            rows = encode_rows(maker, questions, [None] * len(questions), base.plan.workers)
            ours[precision] = [way[0] for way in read_rows(base.answers(base.model), maker, rows, 32, base.plan)]
            rates[precision] = len(questions) / (time.time() - started)
            if precision == "float32":
                base.vision.to(options.device)
                started = time.time()
                theirs = by_the_library(base.model, maker, questions, options.device)
                rates["the library, float32"] = len(questions) / (time.time() - started)
    print(", ".join(f"{name}: {rate:.1f} rows/s" for name, rate in rates.items()))
    for precision, found in ours.items():
        apart = max(np.abs(a - b).max() for a, b in zip(found, theirs, strict=True))
        differ = [i for i, (a, b) in enumerate(zip(found, theirs, strict=True)) if a.argmax() != b.argmax()]
        gaps = [float(np.diff(np.sort(theirs[i])[-2:])[0]) for i in differ]
        same = f"{len(rows) - len(differ)} of {len(rows)} answers the same"
        near = f"; where not, the library's first two lie {max(gaps):.4f} nats apart at most" if gaps else ""
        print(f"{precision}: log-probabilities at most {apart:.1e} apart, {same}{near}")
