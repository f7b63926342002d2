"""One run in several processes, started by torchrun or `accelerate launch`: who does what, and how an error ends them all.

There are three kinds of work: what one process does for all (`by_main`), what is divided (`divided`), and training, which
all do together. With one process every function here is a plain call.
"""
import atexit
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from mcvqa.config import Config
from mcvqa.model.device import DeviceError

PATIENCE = timedelta(hours=12)  # the others may wait for the main process while it looks at photographs or draws figures

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
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
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


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """Every n-th item, for n processes: what lies side by side is much alike, so the shares weigh the same."""
    state = PartialState()
    return items[state.process_index :: state.num_processes]


# %% what one process does for all
def by_main(step: Callable[..., Made], *args: Any) -> Made:
    """What `step(*args)` returns in the main process, in all of them. The others wait.

    Raises: what `step` raises, in the main process; the others end without a word.
    """
    made = by_each(step, *args) if is_main_process() else by_each(lambda: None)
    return cast(Made, broadcast_object_list([made])[0])


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

    Raises: in the main process the error that any of them met; the others end without a word.
    """
    made, own = None, None
    try:
        made = step(*args)
    except Exception as error:
        own = error
        if not is_main_process():  # where it happened is not pickled along
            own.__notes__ = [f"In process {PartialState().process_index}: {traceback.format_exc()}"]
    met = [error for error in gather_object([own]) if error is not None]
    if met:
        stop_all(own or met[0])
    return cast(Made, made)


def stop_all(error: Exception) -> NoReturn:
    """End a run for a reason that every process knows: the main one raises it, so it is told and noted once."""
    if is_main_process():
        raise error
    raise SystemExit  # status 0: a launcher would end the main process before it has told


# %% one display
def progress(items: Iterable[Item], **shown: Any) -> "tqdm[Item]":
    """A progress bar, in the main process only."""
    return tqdm(items, disable=not is_main_process(), **shown)
