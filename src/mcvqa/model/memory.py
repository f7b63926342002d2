"""Plans the memory of a training step: how many rows one forward pass takes, and whether activations are kept.

The rows of a step are always the effective batch; only their division into forward passes changes. What fits is measured with the
longest rows: an estimate would have to know every kernel of every GPU.
"""
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mcvqa.config import Config
from mcvqa.model.device import GIB, DevicePlan

MARGIN = 0.92  # share of the memory for a step; the rest is for the CUDA context and fragmentation


@dataclass
class MemoryPlan:
    """Describes how the rows of an optimizer step are divided into passes. All folds of a run share it, with all later changes.

    Attributes:
        rows: most rows in one forward pass; 0: not known yet.
        checkpointing: whether activations are recomputed in the backward pass.
        recorded: whether passes are launched as CUDA graphs (training/recorded.py).
    """

    rows: int = 0
    checkpointing: bool = False
    recorded: bool = False

    def __str__(self) -> str:
        recorded = ", recorded" * self.recorded
        return f"micro-batch {self.rows} {'with' if self.checkpointing else 'without'} checkpointing{recorded}"

    def shrink(self, config: Config) -> bool:
        """Save memory: first drop the recorded passes, then halve the rows, then use checkpointing.

        Returns:
            Whether there was anything left to change.
        """
        if self.recorded:
            self.recorded = False
        elif self.rows > 1:
            self.rows = math.ceil(self.rows / 2)
        elif not self.checkpointing and config.gradient_checkpointing != "never":
            self.checkpointing = True
        else:
            return False
        return True


def settings_plan(config: Config, plan: DevicePlan) -> MemoryPlan:
    """Make the plan from the settings, before anything is measured: on a GPU the smallest step, elsewhere the final plan."""
    saving = config.gradient_checkpointing == "always" or (config.gradient_checkpointing == "auto" and plan.device != "cpu")
    return MemoryPlan(config.micro_batch or (1 if plan.device == "cuda" else config.batch_size), saving)


def less_memory(config: Config, *, four_bit: bool | None = None) -> str:
    """Advise on settings that save memory, the cheapest first.

    Args:
        config: all settings.
        four_bit: whether the weights are 4-bit already; None: not known.
    """
    options = [
        "" if four_bit or config.quantization == "4bit" or not config.lora_r else "--set quantization=4bit",
        "--set gradient_checkpointing=auto" if config.gradient_checkpointing == "never" else "",
        f"--set train_orders=1 (now {config.train_orders})" if config.train_orders > 1 else "",
        f"a smaller lora_r (now {config.lora_r})" if config.lora_r > 8 else "",
        f"a smaller image_size (now {config.image_size})", "a smaller model (3B instead of 7B)",
    ]
    return "To use less memory: " + ", ".join(option for option in options if option) + "."


# %% what fits
@dataclass(frozen=True)
class Trial:
    """Describes a forward and backward pass that fits.

    Attributes:
        seconds: duration after a warm-up.
        peak: peak memory in bytes, including what training will keep.
        recorded: whether it was the replay of a CUDA graph.
    """

    rows: int
    checkpointing: bool
    seconds: float
    peak: int
    recorded: bool = False

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


Measure = Callable[[int, bool], Trial | None]  # (rows, checkpointing) -> None if they do not fit


def row_counts(rows: int) -> list[int]:
    """List the rows per pass if `rows` are divided into 1, 2, 3, ... passes of similar size, down to a single row."""
    return sorted({math.ceil(rows / passes) for passes in range(1, rows + 1)}, reverse=True)


def largest_fitting(counts: Sequence[int], checkpointing: bool, measure: Measure) -> Trial | None:
    """Find the largest pass that fits; None: none does.

    Args:
        counts: numbers of rows to try, largest first.
        checkpointing: whether activations are recomputed.
        measure: tries a pass.
    """
    return next((trial for rows in counts if (trial := measure(rows, checkpointing))), None)


def fastest_fitting(counts: Sequence[int], setting: str, measure: Measure) -> list[Trial]:
    """Find the largest pass that fits without checkpointing and, if it holds more rows, the largest with it.

    With the same number of rows checkpointing can only be slower, so that is not tried.

    Args:
        counts: numbers of rows to try, largest first.
        setting: the setting gradient_checkpointing.
        measure: tries a pass.

    Returns:
        The passes, faster one first; empty: nothing fits.
    """
    kept = None if setting == "always" else largest_fitting(counts, False, measure)
    larger = [] if setting == "never" else [rows for rows in counts if kept is None or rows > kept.rows]
    return sorted(filter(None, (kept, largest_fitting(larger, True, measure))), key=lambda trial: -trial.rate)


def reason_for(trials: Sequence[Trial], rows: int, tokens: int) -> str:
    """Explain the choice in one line.

    Args:
        trials: as returned by `fastest_fitting`.
        rows: rows of a step.
        tokens: tokens of the longest row.
    """
    best, *others = trials

    def means(trial: Trial) -> str:
        return f"{'with' if trial.checkpointing else 'without'} checkpointing{', recorded' * trial.recorded}"

    line = (f"micro-batch {best.rows} of {rows} rows {means(best)}: {best.peak / GIB:.1f} GiB "
            f"at the longest rows (up to {tokens} tokens), {best.rate:.1f} rows/s")
    for other in others:
        line += f"; {means(other)} {other.rows} fit and are {1 - other.rate / best.rate:.0%} slower"
    return line


LEAST_PASSES = 100  # in a fold, to record passes: recording about four shapes costs two passes each, a replay saves a tenth


def launches_bind(single: Trial, plain: Trial) -> bool:
    """Return whether kernel launches limit the speed, so that it is worth trying recorded passes.

    Launches, loader and optimizer share one CPU, so a GPU waits for launches that take half of its time. In benchmarks/RESULTS.md
    recording loses about 4 % at a ratio of 0.2 and gains 8 % at 0.7.

    Args:
        single: a pass of one row, with as many kernels and little to compute.
        plain: a pass of all rows at the greatest length; launches take an even larger share of other passes.
    """
    return single.seconds > 0.5 * plain.seconds


# %% measuring
def measure_pass(
    rows: int, checkpointing: bool, run: Callable[[], Any], kept: int, limits: Mapping[str | None, int], *,
    recorded: bool = False,
) -> Trial | None:
    """Time a pass on the GPU, after one to warm up or, if CUDA graphs are recorded, two: the second records.

    Args:
        rows: number of rows.
        checkpointing: whether activations are recomputed.
        run: a pass of `rows` rows.
        kept: bytes that training will keep in addition, on each GPU.
        limits: bytes that may be used, by GPU, see DevicePlan.
        recorded: whether CUDA graphs are recorded.

    Returns:
        The measurement; None: it does not fit.
    """
    free_memory()
    for gpu in limits:
        torch.cuda.reset_peak_memory_stats(gpu)
    seconds = math.inf
    try:
        for _ in range(2 + recorded):
            for gpu in limits:
                torch.cuda.synchronize(gpu)
            started = time.perf_counter()
            run()
            for gpu in limits:
                torch.cuda.synchronize(gpu)
            seconds = time.perf_counter() - started
    except torch.cuda.OutOfMemoryError:
        return None
    peaks = {gpu: torch.cuda.max_memory_reserved(gpu) + kept for gpu in limits}
    fits = all(peaks[gpu] <= MARGIN * limit for gpu, limit in limits.items())
    return Trial(rows, checkpointing, seconds, max(peaks.values()), recorded) if fits else None


def free_memory() -> None:
    """Release the memory that torch has cached. Call it outside of `except`: the error keeps the failed pass alive."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


RandomState = tuple[torch.Tensor, torch.Tensor | None]


def random_state() -> RandomState:
    """Return the state of the generators used by dropout, on the CPU and on the GPU in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None


def set_random_state(state: RandomState) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
