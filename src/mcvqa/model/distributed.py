"""Runs in several processes, started by torchrun or `accelerate launch`: division of work and handling of errors.

There are three kinds of work: done by one process for all (`by_main`), divided among them (`divided`), and training, which all do
together. With one process every function here is a plain call.

An error, the end of the time budget or a signal occurs in one process, but all of them must stop together: if one stopped alone,
the others would wait. So a process checks between its batches (`interruptible`), the next `by_each` informs the others, and all
stop there. Training decides in the exchange of each step (training/step.py).
"""
import atexit
import contextlib
import math
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from mcvqa.base.budget import TimeUp, time_is_up, working_alone
from mcvqa.base.interrupt import STOPPED, Interrupted, stop_is_asked
from mcvqa.config import Config
from mcvqa.model.device import DeviceError

PATIENCE = timedelta(hours=12)  # timeout while the main process surveys photographs or draws figures
AFTER_BUDGET = timedelta(minutes=15)  # timeout after the end of the time budget

Output = TypeVar("Output")
Item = TypeVar("Item")


def join_processes(config: Config) -> None:
    """Join the process group if a launcher has started several processes, each with its own GPU.

    The group lasts to the end of the program, also between two runs: a process that left and rejoined before the others had
    left would find the old group at the same address, and all would wait.

    Raises:
        DeviceError: there are fewer GPUs than processes, or an earlier run of this program used another kind of device.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    started, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if not on_cpu and gpus < started:
        raise DeviceError(f"{started} processes need {started} GPUs, but there are {gpus}: start one process per GPU.")
    budget = config.budget_seconds
    patience = min(PATIENCE, timedelta(seconds=budget) + AFTER_BUDGET) if math.isfinite(budget) else PATIENCE
    state = PartialState(cpu=on_cpu, timeout=patience)
    atexit.register(_close_connections)
    if on_cpu == (state.device.type == "cuda"):
        raise DeviceError(
            f"The processes of this program are already set up to compute on {state.device.type}: start this run in a separate "
            "program."
        )


def _close_connections() -> None:
    """Leave the process group, even after an error: threads of torch that still listen would abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_main_process() -> bool:
    """Return whether this process prints and writes."""
    return PartialState().is_main_process


def process_share() -> tuple[int, int]:
    """Return (i, n): index of this process and number of processes."""
    state = PartialState()
    return state.process_index, state.num_processes


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """Select every n-th item, for n processes: neighboring items are similar, so the shares take the same time."""
    state = PartialState()
    return items[state.process_index :: state.num_processes]


# %% work of one process for all
def by_main(step: Callable[..., Output], *args: Any) -> Output:
    """Call `step(*args)` in the main process while the others wait, and return its result in all of them.

    Raises:
        Exception: raised by `step`, in the main process; the others exit silently.
        TimeUp, Interrupted: in all processes.
    """
    result = by_each(_by_itself, step, *args) if is_main_process() else by_each(lambda: None)
    return cast(Output, broadcast_object_list([result])[0])


def _by_itself(step: Callable[..., Output], *args: Any) -> Output:
    with working_alone() if PartialState().num_processes > 1 else contextlib.nullcontext():
        return step(*args)


# %% divided work
def divided(items: Sequence[Item], work: Callable[[Sequence[Item]], Iterable[Output]]) -> list[Output]:
    """Divide `work(items)` among the processes; all of them get all results.

    Args:
        items: the items.
        work: returns one result per item.
    """
    parts = gather_object([by_each(lambda: list(work(own_share(items))))])
    results: list[Any] = [None] * len(items)
    for i, part in enumerate(parts):
        results[i :: len(parts)] = part
    return results


def by_each(step: Callable[..., Output], *args: Any) -> Output:
    """Call `step(*args)` in every process, wait for all, and return this process's result.

    Raises:
        Exception: raised in any process, in the main process; the others exit silently.
        TimeUp, Interrupted: in all processes, if raised in one of them or due in one of them now.
    """
    result: Output | None = None
    own_error: BaseException | None = None
    try:
        result = step(*args)
        leave_if_asked()
    except (Exception, TimeUp, Interrupted) as error:
        own_error = error
        if not is_main_process():  # the traceback is not pickled
            own_error.__notes__ = [f"In process {PartialState().process_index}: {traceback.format_exc()}"]
    errors = [error for error in gather_object([own_error]) if error is not None]
    for kind in (Exception, Interrupted, TimeUp):  # by precedence
        if of_kind := [error for error in (own_error, *errors) if isinstance(error, kind)]:
            if isinstance(of_kind[0], Exception):
                stop_all(of_kind[0])
            raise of_kind[0]
    return cast(Output, result)


def leave_if_asked() -> None:
    """Check the time budget and signals.

    Raises:
        TimeUp: the time is up.
        Interrupted: the run is to stop.
    """
    if time_is_up():
        raise TimeUp
    if stop_is_asked():
        raise Interrupted(STOPPED)


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, calling `leave_if_asked` before each.

    With several processes, use it within `by_each` or `divided`, which stop all of them.
    """
    for item in items:
        leave_if_asked()
        yield item


def stop_all(error: Exception) -> NoReturn:
    """End a run for a reason known to every process: only the main one raises it, so that it is reported once."""
    if is_main_process():
        raise error
    raise SystemExit  # status 0, otherwise a launcher would kill the main process before it reports the error


# %% one display
def progress(items: Iterable[Item], **shown: Any) -> "tqdm[Item]":
    """Show a progress bar, in the main process only; iterating over it is interruptible."""
    total = len(items) if isinstance(items, Sized) else None
    return tqdm(interruptible(items), total=total, disable=not is_main_process(), **shown)
