"""The memory of a training step: how many rows go through the model at once, and whether activations are kept.

The rows of a step are the effective batch, whatever is chosen here; only the forward passes they are divided into change.
What fits is tried with copies of the longest row that share no token: an estimate would have to know every kernel of every GPU.
"""
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mcvqa.config import Config
from mcvqa.model.device import GIB, DevicePlan

MARGIN = 0.92  # share of the memory that a step may take: beside it stand CUDA's own, and the gaps between tensors


@dataclass
class MemoryPlan:
    """How the rows of an optimizer step go through the model. All folds of a run share it, and what they learn about it.

    Attributes:
        rows: at most so many in one forward pass; 0: not known yet.
        checkpointing: whether activations are computed again in the backward pass.
        recorded: whether passes are launched as CUDA graphs (training/recorded.py).
    """

    rows: int = 0
    checkpointing: bool = False
    recorded: bool = False

    def __str__(self) -> str:
        recorded = ", recorded" * self.recorded
        return f"micro-batch {self.rows} {'with' if self.checkpointing else 'without'} checkpointing{recorded}"

    def shrink(self, config: Config) -> bool:
        """No recordings, then half the rows, then checkpointing; returns whether there was anything left to save."""
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
    """What the settings say, before anything is tried: on a GPU the least that a step can take, elsewhere what it will."""
    saving = config.gradient_checkpointing == "always" or (config.gradient_checkpointing == "auto" and plan.device != "cpu")
    return MemoryPlan(config.micro_batch or (1 if plan.device == "cuda" else config.batch_size), saving)


def less_memory(config: Config, *, four_bit: bool | None = None) -> str:
    """What a user can change, what costs least first. Args: four_bit: whether the weights are 4-bit already, if known."""
    ways = [
        "" if four_bit or config.quantization == "4bit" or not config.lora_r else "--set quantization=4bit",
        "--set gradient_checkpointing=auto" if config.gradient_checkpointing == "never" else "",
        f"--set train_orders=1 (now {config.train_orders})" if config.train_orders > 1 else "",
        f"a smaller lora_r (now {config.lora_r})" if config.lora_r > 8 else "",
        f"a smaller image_size (now {config.image_size})", "a smaller model (3B instead of 7B)",
    ]
    return "Use less: " + ", ".join(way for way in ways if way) + "."


# %% what fits
@dataclass(frozen=True)
class Trial:
    """A forward and backward pass that fits.

    Attributes:
        seconds: it takes, once warm.
        peak: bytes of memory at its fullest, with what the optimizer will keep.
    """

    rows: int
    checkpointing: bool
    seconds: float
    peak: int

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds


Measure = Callable[[int, bool], Trial | None]  # (rows, checkpointing) -> None where they do not fit


def row_counts(rows: int) -> list[int]:
    """Rows in one pass when `rows` are divided into 1, 2, 3, ... passes of like size, down to a single row."""
    return sorted({math.ceil(rows / passes) for passes in range(1, rows + 1)}, reverse=True)


def largest_fitting(counts: Sequence[int], checkpointing: bool, measure: Measure) -> Trial | None:
    """Args: counts: of rows to try, the largest first."""
    return next((trial for rows in counts if (trial := measure(rows, checkpointing))), None)


def fastest_fitting(counts: Sequence[int], setting: str, measure: Measure) -> list[Trial]:
    """The largest pass that fits without checkpointing and, where it holds more rows, the largest with it; the faster first.

    With as many rows checkpointing can only be slower, so that is not tried. Empty: nothing fits.

    Args:
        counts: of rows to try, the largest first.
        setting: gradient_checkpointing.
    """
    kept = None if setting == "always" else largest_fitting(counts, False, measure)
    larger = [] if setting == "never" else [rows for rows in counts if kept is None or rows > kept.rows]
    return sorted(filter(None, (kept, largest_fitting(larger, True, measure))), key=lambda trial: -trial.rate)


def reason_for(found: Sequence[Trial], rows: int, tokens: int) -> str:
    """One line. Args: found: as `fastest_fitting` gives it. rows: of a step. tokens: of the longest row."""
    best, *others = found
    words = {True: "with", False: "without"}
    line = (f"micro-batch {best.rows} of {rows} rows {words[best.checkpointing]} checkpointing: {best.peak / GIB:.1f} GiB "
            f"at the longest row ({tokens} tokens), {best.rate:.1f} rows/s")
    for other in others:
        line += f"; {words[other.checkpointing]} checkpointing {other.rows} fit and are {1 - other.rate / best.rate:.0%} slower"
    return line


LEAST_PASSES = 100  # of a fold whose passes are recorded: some four shapes take two passes' time each, a tenth comes back


def launches_bind(single: Trial, plain: Trial) -> bool:
    """Whether recording gains more than rounded lengths cost: launches, loader and optimizer share one machine, so a GPU waits
    for launches that take half of its time. By benchmarks/RESULTS.md about 4 % are lost at 0.2, and 8 % gained at 0.7.

    Args:
        single: a pass of one row, which has as many kernels and little to compute.
        plain: of all rows, and those the longest: in others launches take even more of the time.
    """
    return single.seconds > 0.5 * plain.seconds


# %% trying it
def measure_pass(rows: int, checkpointing: bool, run: Callable[[], None], kept: int, limit: float) -> Trial | None:
    """`run` once to warm up and once against the clock, on the GPU; None where it does not fit.

    Args:
        run: a forward and backward pass of `rows` rows.
        kept: bytes that training will keep beside it.
        limit: bytes that all of it may take.
    """
    free_memory()
    torch.cuda.reset_peak_memory_stats()
    seconds = math.inf
    try:
        for _ in range(2):
            torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            torch.cuda.synchronize()
            seconds = time.perf_counter() - started
    except torch.cuda.OutOfMemoryError:
        return None
    peak = torch.cuda.max_memory_reserved() + kept
    return Trial(rows, checkpointing, seconds, peak) if peak <= limit else None


def free_memory() -> None:
    """Give back what torch holds for later. Call it outside of `except`: the error holds on to the pass that failed."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


RandomState = tuple[torch.Tensor, torch.Tensor | None]


def random_state() -> RandomState:
    """Of the generators that dropout draws from, on the CPU and on the GPU in use."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None


def set_random_state(state: RandomState) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
