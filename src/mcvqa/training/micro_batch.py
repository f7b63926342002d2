"""Searches the micro-batch: the fastest one that fits, found by trying the longest rows."""
import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from accelerate.utils import gather_object
from tqdm.auto import tqdm

from mcvqa.base.informing import counted
from mcvqa.model.device import GIB
from mcvqa.model.distributed import by_each, stop_all
from mcvqa.model.memory import (
    LEAST_PASSES,
    MARGIN,
    Trial,
    fastest_fitting,
    free_memory,
    launches_bind,
    less_memory,
    measure_pass,
    random_state,
    reason_for,
    row_counts,
    set_random_state,
    settings_plan,
)
from mcvqa.model.rows import longest_training_rows
from mcvqa.training.job import TrainingError
from mcvqa.training.recorded import USUAL_SHAPES
from mcvqa.training.step import Stepper


def settle_micro_batch(stepper: Stepper) -> None:
    """Determine the job's memory plan, unless an earlier fold or session has: on a GPU by trying, else from the settings.

    Raises:
        TrainingError: the longest row does not fit on its own.
    """
    job, memory = stepper.job, stepper.job.memory
    if not memory.rows:
        first, share = settings_plan(job.config, job.base.plan), rows_of_process(stepper)
        memory.rows, memory.checkpointing = min(first.rows, share), first.checkpointing
        if job.base.plan.memory:
            find_micro_batch(stepper)
    stepper.answers.set_checkpointing(memory.checkpointing)


def rows_of_process(stepper: Stepper) -> int:
    """Return the largest number of rows of a step that one process computes."""
    return math.ceil(stepper.job.rows_in_step / stepper.accelerator.num_processes)


def find_micro_batch(stepper: Stepper) -> None:
    """Try passes over the longest rows, and choose the fastest that fits.

    Raises:
        TrainingError: not even one row fits.
    """
    job, share = stepper.job, rows_of_process(stepper)
    config, limit = job.config, job.base.plan.memory
    rows, before = longest_training_rows(job.maker, job.train, config), random_state()
    counts = row_counts(min(config.micro_batch or share, share, len(rows)))
    if job.features:
        job.features([row.image for row in rows[: counts[0]] if row.image is not None])
    stepper.answers.train()
    find = stepper.answers.divided.fastest_fitting if stepper.answers.divided else fastest_fitting
    too_large: set[tuple[int, bool]] = set()  # a recorded pass takes no less memory

    def measure(count: int, checkpointing: bool, *, recorded: bool = False) -> Trial | None:
        if (count, checkpointing) in too_large:
            return None
        trial = try_pass(stepper, rows, count, checkpointing, recorded=recorded)
        if not (trial or recorded):
            too_large.add((count, checkpointing))
        return trial

    trials = find(counts, config.gradient_checkpointing, measure)
    if trials and is_recording_promising(stepper, rows, trials[0], stepper.plan.total * math.ceil(share / trials[0].rows)):
        trials += find(counts, config.gradient_checkpointing, partial(measure, recorded=True))
        trials.sort(key=lambda trial: -trial.rate)
    set_random_state(before)  # dropout does not depend on the trials
    free_memory()
    longest, tokens = rows[0], job.maker.tokens(rows[0])
    if not trials:
        stop_all(TrainingError(
            f"{job.title.capitalize()}: the longest row ({longest.id}, {tokens} tokens) does not fit on its own into "
            f"{MARGIN:.0%} of {limit / GIB:.1f} GiB (gradient_checkpointing={config.gradient_checkpointing}). "
            f"{less_memory(config, four_bit=job.base.plan.four_bit)}"
        ))
    best = trials[0]
    job.memory.rows, job.memory.checkpointing, job.memory.recorded = best.rows, best.checkpointing, best.recorded
    note = "; kernel launches take much of the time, so CUDA graphs are used" if best.recorded else ""
    tqdm.write(f"  {reason_for(trials, share, tokens)}{note}")
    if stepper.accelerator.is_main_process:
        tried = [dataclasses.asdict(trial) for trial in trials]
        job.log.write("memory", fold=job.fold, tokens=tokens, tried=tried, recorded=best.recorded)


def is_recording_promising(stepper: Stepper, rows: Sequence[Any], plain: Trial, passes: int) -> bool:
    """Return whether recorded CUDA graphs are worth trying.

    Args:
        stepper: takes the steps.
        rows: the longest rows.
        plain: the fastest pass over them.
        passes: number of passes in the training of the fold.
    """
    if plain.rows == 1 or passes < LEAST_PASSES or not stepper.answers.can_be_recorded(stepper.job.maker.batch(rows[:1])):
        return False
    single = try_pass(stepper, rows, 1, plain.checkpointing)
    return single is not None and launches_bind(single, plain)


def try_pass(
    stepper: Stepper, longest: Sequence[Any], rows: int, checkpointing: bool, *, recorded: bool = False
) -> Trial | None:
    """Time a forward and backward pass over the longest rows, in every process.

    Args:
        longest: the longest rows.
        rows: how many of them.
        checkpointing: whether activations are recomputed.
        recorded: whether to time the replay of a recorded pass.

    Returns:
        The slowest and largest pass of all processes; None: it did not fit in at least one of them, or was not recorded.
    """
    stepper.answers.set_checkpointing(checkpointing)
    device, recorder = stepper.accelerator.device, stepper.recorder
    batch: Any = stepper.job.maker.batch(longest[:rows])
    kept = 8 * sum(p.numel() for p in stepper.state.parameters.values())  # AdamW's two moments come with the first step
    if recorded and not stepper.answers.divided:  # whose recordings share the memory of their inputs
        kept += USUAL_SHAPES * sum(tensor.nbytes for tensor in batch.tensors())  # inputs of the other recordings
    run, divided = partial(recorder if recorded else stepper.backward, weight=1 / rows), stepper.answers.divided
    if divided:
        losses, share = partial(stepper.losses, recorded=recorded), rows_of_process(stepper)
        measured = divided.try_passes(losses, batch, rows, checkpointing, share, kept, recorded=recorded)
    else:
        measured = by_each(
            partial(measure_pass, recorded=recorded), rows, checkpointing, lambda: run(batch.to(device)), kept,
            stepper.job.base.plan.limits,
        )
    trials: list[Trial | None] = gather_object([None if recorded and not divided and not recorder.recordings else measured])
    stepper.forget_recordings()
    stepper.state.optimizer.zero_grad(set_to_none=True)
    fitting = [trial for trial in trials if trial]
    if len(fitting) < len(trials):
        return None
    return Trial(rows, checkpointing, max(t.seconds for t in fitting), max(t.peak for t in fitting), recorded)


def use_less_memory(stepper: Stepper) -> None:
    """Use smaller micro-batches after a step that did not fit.

    Raises:
        TrainingError: the micro-batch cannot shrink any further.
    """
    job, step = stepper.job, stepper.state.step + 1
    previous = str(job.memory)
    if not job.memory.shrink(job.config):
        stop_all(TrainingError(
            f"{job.title.capitalize()}, step {step}: out of GPU memory with {previous}, so not even one row fits. "
            f"{less_memory(job.config, four_bit=job.base.plan.four_bit)}"
        ))
    stepper.answers.set_checkpointing(job.memory.checkpointing)
    stepper.forget_recordings()
    tqdm.write(
        f"{job.title} step {step}: out of GPU memory with {previous}. The step is repeated with {job.memory}; it still covers "
        f"{counted(job.config.effective_batch, 'row')}."
    )
