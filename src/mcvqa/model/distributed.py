"""One run in several processes, started by torchrun or `accelerate launch`: who does what, and how an error ends them all.

There are three kinds of work: what one process does for all (`by_main`), what is divided (`divided`), and training, which
all do together. With one process every function here is a plain call.

An error, the end of the time budget and a signal are each met by one process, but leaving is decided together: a process that
left alone would let the others wait. So a process notices them between its batches (`interruptible`), the next `by_each` tells
all, and all of them leave there. Training decides in the exchange of each step (training/step.py).
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

PATIENCE = timedelta(hours=12)  # the others may wait for the main process while it looks at photographs or draws figures
SHOWN_AFTER = 0.5  # seconds, of a single batch: one question is answered without a progress bar
AFTER_BUDGET = timedelta(minutes=15)  # within a time budget nobody waits longer than until then

Made = TypeVar("Made")
Item = TypeVar("Item")


def join_processes(config: Config) -> None:
    """Meet the other processes, where a launcher has started several; each then computes on its own GPU.

    They stay together to the end of the program, also between two runs: a process that parts and comes back before the
    others have left finds the old meeting at the same address, and all would wait.

    Raises:
        DeviceError: there are fewer GPUs than processes, or an earlier run of this program met on another kind of device.
    """
    if "LOCAL_RANK" not in os.environ:
        return
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    started, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if not on_cpu and gpus < started:
        raise DeviceError(f"{started} processes need {started} GPUs, but here are {gpus}: start one process for each GPU.")
    budget = config.budget_seconds
    patience = min(PATIENCE, timedelta(seconds=budget) + AFTER_BUDGET) if math.isfinite(budget) else PATIENCE
    state = PartialState(cpu=on_cpu, timeout=patience)
    atexit.register(_close_connections)
    if on_cpu == (state.device.type == "cuda"):
        raise DeviceError(f"The processes met to compute on {state.device.type}: start this run in a program of its own.")


def _close_connections() -> None:
    """Also where an error ends a process: threads of torch that still listen would abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process prints and writes."""
    return PartialState().is_main_process


def process_share() -> tuple[int, int]:
    """(i, n): this is the i-th of n processes."""
    state = PartialState()
    return state.process_index, state.num_processes


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, for n processes: what lies side by side is much alike, so the shares weigh the same."""
    state = PartialState()
    return items[state.process_index :: state.num_processes]


# %% what one process does for all
def by_main(step: Callable[..., Made], *args: Any) -> Made:
    """What `step(*args)` returns in the main process, in all of them. The others wait.

    Raises:
        Exception: that `step` raises, in the main process; the others end without a word.
        TimeUp, Interrupted: in all of them.
    """
    made = by_each(_by_itself, step, *args) if is_main_process() else by_each(lambda: None)
    return cast(Made, broadcast_object_list([made])[0])


def _by_itself(step: Callable[..., Made], *args: Any) -> Made:
    with working_alone() if PartialState().num_processes > 1 else contextlib.nullcontext():
        return step(*args)


# %% what is divided
def divided(items: Sequence[Item], work: Callable[[Sequence[Item]], Iterable[Made]]) -> list[Made]:
    """`work(items)`, which gives one result an item, each process doing its own share; all of them get all results."""
    parts = gather_object([by_each(lambda: list(work(own_share(items))))])
    found: list[Any] = [None] * len(items)
    for i, part in enumerate(parts):
        found[i :: len(parts)] = part
    return found


def by_each(step: Callable[..., Made], *args: Any) -> Made:
    """What `step(*args)` returns in this process, once all of them are done with it.

    Raises:
        Exception: in the main process, that any of them met; the others end without a word.
        TimeUp, Interrupted: in all of them, where one of them met it or now sees that the time is up or that it is to stop.
    """
    made: Made | None = None
    own: BaseException | None = None
    try:
        made = step(*args)
        leave_if_asked()
    except (Exception, TimeUp, Interrupted) as error:
        own = error
        if not is_main_process():  # where it happened is not pickled along
            own.__notes__ = [f"In process {PartialState().process_index}: {traceback.format_exc()}"]
    met = [error for error in gather_object([own]) if error is not None]
    for kind in (Exception, Interrupted, TimeUp):  # what outranks what
        if same := [error for error in (own, *met) if isinstance(error, kind)]:
            if isinstance(same[0], Exception):
                stop_all(same[0])
            raise same[0]
    return cast(Made, made)


def leave_if_asked() -> None:
    """Raises TimeUp or Interrupted where it is time to leave."""
    if time_is_up():
        raise TimeUp
    if stop_is_asked():
        raise Interrupted(STOPPED)


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """The items; between two of them this process leaves where the time is up or it is to stop. With several processes this is
    for work within `by_each` or `divided`, which see to it that all of them leave."""
    for item in items:
        leave_if_asked()
        yield item


def stop_all(error: Exception) -> NoReturn:
    """End a run for a reason that every process knows: the main one raises it, so it is told and noted once."""
    if is_main_process():
        raise error
    raise SystemExit  # status 0: a launcher would end the main process before it has told


# %% one display
def progress(items: Iterable[Item], **shown: Any) -> "tqdm[Item]":
    """A progress bar, in the main process only; iterated, it is interruptible."""
    total = len(items) if isinstance(items, Sized) else None
    delay = SHOWN_AFTER if total == 1 else 0.0
    return tqdm(interruptible(items), total=total, disable=not is_main_process(), delay=delay, **shown)
