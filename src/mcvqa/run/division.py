"""Judges whether an optimizer step has enough rows to be divided among several GPUs or processes, for the pre-flight."""
import math
import os

import torch

from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.model.device import DevicePlan

LAUNCHING = 0.008  # seconds in which Python launches one layer's kernels of a pass: 0.52 s for 64 layers (benchmarks/RESULTS.md)
ROWS_OF_STAGE = 4  # at least, for each GPU of a model but the first: with these all compute during 80 % of a step


def dividing_processes(config: Config, plan: DevicePlan) -> int:
    """Return how many processes share a step, or could: those of a launcher, or one per GPU if a single fold is to be trained."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    spare = plan.device == "cuda" and len(plan.limits) < 2 and len(config.folds_to_train) == 1
    return max(launched, torch.cuda.device_count() if spare else 1)


def too_small_to_divide(config: Config, plan: DevicePlan, processes: int, seconds: float, layers: int) -> str:
    """Say that a step is too small to be divided; '' if it is large enough, or not divided.

    Args:
        config: all settings.
        plan: device and precision.
        processes: see `dividing_processes`.
        seconds: estimated time in which one GPU computes a step.
        layers: number of the model's layers.
    """
    rows, stages = config.effective_batch, len(plan.limits)
    if rows < processes:
        return (f"a step of {counted(rows, 'row')} is too small to divide among {processes} processes, some of which would have "
                f"none: {_larger_step(config, processes)}")
    if processes > 1 and plan.device == "cuda" and seconds / processes < LAUNCHING * layers:
        enough = math.ceil(rows * processes * LAUNCHING * layers / max(seconds, 1e-9))
        return (f"a step of {counted(rows, 'row')} is too small to divide among {processes} GPUs by torchrun: to launch the "
                f"kernels of its share takes a process {LAUNCHING * layers:.2g} s, to compute it {seconds / processes:.2g} s: "
                f"{_larger_step(config, enough)}, or train several folds, one on each GPU")
    if rows < ROWS_OF_STAGE * (stages - 1):
        return (f"a step of {counted(rows, 'row')} is too small to divide among the {stages} GPUs of a model, which compute at "
                f"most {rows / (rows + stages - 1):.0%} of the time: {_larger_step(config, ROWS_OF_STAGE * (stages - 1))}")
    return ""


def _larger_step(config: Config, rows: int) -> str:
    """Name the setting that makes a step of at least `rows` rows."""
    batches = math.ceil(rows / config.batch_size)
    return f"use steps of {counted(batches * config.batch_size, 'row')} or more (--set grad_accum_steps={batches})"
