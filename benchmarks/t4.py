"""Estimates the time of the presets on a T4 by arithmetic: nothing has been run on a T4.

    python benchmarks/t4.py --data FOLDER --model3b FOLDER --model7b FOLDER

The folders hold a tokenizer and a config.json, no weights. Rows, questions and their tokens are the real ones of the data;
photographs count as 4:3. Every product counts 2 FLOP for a weight and token, at the rate a T4 keeps up in float16.
"""
import argparse
from pathlib import Path

import numpy as np

from mcvqa.base.budget import spell_duration
from mcvqa.config import load_config
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.families.family import Grid, image_grid
from mcvqa.model.load import load_encoder
from mcvqa.model.size import measure_model
from mcvqa.model.text.encode import Encoder
from mcvqa.run.check import AGAIN_IN_BLOCKS, estimate_time
from mcvqa.scoring.orders import tta_plan

RATE = 22e12  # FLOP/s in float16, assumed: a third of the 65e12 of a T4's data sheet; none has been run
PRESETS = {
    "3-fold ensemble, 3B": ("ensemble", "3b"), "3-fold ensemble, 7B": ("ensemble", "7b"), "best, 7B": ("best", "7b"),
}


def tokens_of(encoder: Encoder, questions: list[Question], grid: Grid) -> float:
    return float(np.mean([len(encoder.encode(q, None, grid)) for q in questions]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model3b", required=True)
    parser.add_argument("--model7b", required=True)
    options = parser.parse_args()
    train, test = (read_questions(options.data / f"{split}.csv").questions for split in ("train", "test"))
    print(f"{len(train)} training rows, {len(test)} test rows, {RATE / 1e12:.0f} TFLOP/s\n")
    print("| | GFLOP a token | tokens a row | features | training | scoring | all |\n|---|---|---|---|---|---|---|")
    for name, (preset, size) in PRESETS.items():
        config = load_config(preset=preset, changes=dict(model_id=getattr(options, f"model{size}")))
        encoder, _, model_config = load_encoder(config)
        assert isinstance(encoder, Encoder)
        measures = measure_model(model_config, config)
        patch, merge = model_config.vision_config.patch_size, encoder.merge
        grid = image_grid(640, 480, config.image_size**2, patch=patch, merge=merge)
        tokens = tokens_of(encoder, train, grid)
        patches = int((len(train) + len(test)) * grid[1] * grid[2] * sum(s * s for s in {1.0, *tta_plan(config)[1]}))
        found = estimate_time(config, measures, tokens, patches, len(train), len(test), RATE, AGAIN_IN_BLOCKS)
        whole = found.features + found.training + found.scoring
        print(f"| {name} | {2e-9 * measures.language_linears:.1f} | {tokens:.0f} | {spell_duration(found.features)} "
              f"| {found.steps} steps of {config.effective_batch} rows, {spell_duration(found.training)} "
              f"| {spell_duration(found.scoring)} | {spell_duration(whole)} |")
