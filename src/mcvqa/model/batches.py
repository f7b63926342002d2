"""Prepares batches ahead of time in loader processes; all batches arrive in order even if these processes fail."""
import atexit
import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from mcvqa.base.interrupt import ignore_signals
from mcvqa.config import McvqaError

NO_LOADERS = "MCVQA_NO_LOADERS"  # environment variable, inherited by child processes: loader processes do not work here
POLL = 5.0  # seconds between two checks that the loader processes are alive
SILENCE = 600.0  # seconds without a batch until they are killed; files are retried for five minutes
BUS_ERROR = getattr(signal, "SIGBUS", signal.SIGTERM)  # ends a process whose shared memory is full; not on Windows


class Batches:
    """Yields batches of `rows` in the order of `keys`.

    They are prepared by `workers` loader processes; if these fail, by this process.

    Args:
        rows: returns the batch of a key.
        keys: keys of the batches.
        workers: number of loader processes.
        pin: whether to pin memory, for a GPU.
    """

    def __init__(self, rows: Dataset, keys: Sequence, workers: int, *, pin: bool) -> None:
        self.rows, self.keys, self.workers, self.pin = rows, keys, workers, pin

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        workers, received = 0 if os.environ.get(NO_LOADERS) else self.workers, 0
        try:
            for batch in _received(loader(self.rows, self.keys, workers, pin=self.pin)):
                yield batch
                received += 1
        except RuntimeError as error:  # torch raises no more specific class
            if (why := _why_loaders_failed(error)) is None:
                raise
            tqdm.write(f"  {why} The remaining {len(self.keys) - received} batches are made without loader processes.")
            yield from loader(self.rows, self.keys[received:], 0, pin=self.pin)


def _why_loaders_failed(error: RuntimeError) -> str | None:
    """Explain the failure of loader processes; None: the error has another cause.

    If the cause is permanent, this program starts no more of them: each start would wait and fail again.
    """
    text = str(error)
    if isinstance(error, NotShared) or "out of shared memory" in text:
        os.environ[NO_LOADERS] = "shared memory"
        return (
            f"Loader processes cannot pass on their batches ({text.splitlines()[-1].rpartition('NotShared: ')[2]}). /dev/shm "
            "may be too small: --set num_workers=0 works without them, and in Docker --shm-size=1g enlarges it."
        )
    if "DataLoader timed out" in text:
        os.environ[NO_LOADERS] = "silent"
        return f"Loader processes have made no batch for {SILENCE:.0f} s (--set num_workers=0 works without them)."
    if re.search(r"DataLoader worker \(pid|Pin memory thread exited", text):
        return (
            f"{text.splitlines()[0]}: a loader process was ended, perhaps because memory ran out (--set num_workers=0 saves "
            "some)."
        )
    return None


def _received(batches: DataLoader) -> Iterator[Any]:
    """Yield batches received from the loader processes. On failure all are killed: one that hangs would keep its memory.

    Raises:
        RuntimeError: a process died, or none has sent anything for SILENCE seconds.
    """
    before = set(multiprocessing.active_children())
    started, silent = _started(batches), 0
    workers = [process for process in multiprocessing.active_children() if process not in before]
    with WatchedReads(started, workers) as reads:
        while True:
            try:
                with reads.one():
                    batch = next(started)
            except StopIteration:
                return
            except (RuntimeError, EOFError, ConnectionError) as error:  # the last two: it ended while its batch was being opened
                # counted in polls, not by the clock: this process itself may have been suspended
                if "DataLoader timed out" in str(error) and (silent := silent + 1) * POLL < SILENCE and _pinning(started):
                    continue
                _end_loaders(started, workers)
                if any(process.exitcode == -BUS_ERROR for process in workers):
                    raise RuntimeError("out of shared memory: a bus error") from error
                if isinstance(error, RuntimeError):
                    raise
                raise RuntimeError("DataLoader worker (pid unknown) ended while it passed a batch on") from error
            silent = 0
            yield batch


class WatchedReads:
    """Reads from loader processes that cannot block forever.

    Torch checks whether its processes are alive only between two messages. A process killed in the middle of a message leaves
    an incomplete one in the pipe, and a read waits for the rest as long as any process, this one included, can write to it.

    Args:
        started: torch's iterator.
        workers: its processes.
    """

    def __init__(self, started: Iterator[Any], workers: Sequence[Any]) -> None:
        self.started = weakref.ref(started)  # the watching thread must not drop the last reference
        self.workers, self.number, self.reading = workers, 0, False
        self.over = threading.Event()

    def __enter__(self) -> "WatchedReads":
        if self.workers:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        self.number, self.reading = self.number + 1, True
        try:
            yield
        finally:
            self.reading = False

    def _watch(self) -> None:
        """End a read that takes longer than torch's timeout, POLL, while a process is dead; any read after SILENCE."""
        seen, polls = 0, 0
        while not self.over.wait(POLL):
            polls = polls + 1 if self.reading and self.number == seen else 0
            seen = self.number
            endless = polls * POLL >= SILENCE or (polls >= 2 and any(process.exitcode for process in self.workers))
            if endless and (started := self.started()) is not None:
                _end_loaders(started, self.workers, torn=True)
                return


def _end_loaders(started: Iterator[Any], workers: Sequence[Any], *, torn: bool = False) -> None:
    """Kill the processes of a loader.

    Args:
        torn: whether a message is known to be incomplete; then the pipe is closed for writing, which ends the read.
    """
    for process in workers:
        process.kill()
    for process in workers:
        process.join(POLL)  # otherwise it counts as alive until its exit status is read
    pinning = getattr(started, "_pin_memory_thread", None)
    if pinning is not None and not torn:  # torch will wait for this thread, which may be in the middle of a message
        vars(started)["_pin_memory_thread_done_event"].set()
        pinning.join(2 * POLL)
        torn = pinning.is_alive()
    if torn:
        vars(started)["_worker_result_queue"]._writer.close()


def _pinning(started: Iterator[Any]) -> bool:
    """Return whether torch's pin-memory thread, if there is one, is alive: without it no batch arrives."""
    thread = getattr(started, "_pin_memory_thread", None)
    return thread is None or thread.is_alive()


def _started(batches: DataLoader) -> Iterator[Any]:
    """Start the loader without torch's SIGCHLD handler, which would interrupt any computation; the next poll notices a death."""
    has_handler = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before = signal.getsignal(signal.SIGCHLD) if has_handler else None
    started = iter(batches)
    if has_handler:
        signal.signal(signal.SIGCHLD, before)
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)  # called first because registered last: torch would wait 5 s for each process
    return started


def _end_workers() -> None:
    """Kill loader processes at exit, after an error: Python would send SIGTERM, which they ignore, and wait."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def loader(rows: Dataset, keys: Sequence, workers: int, *, pin: bool) -> DataLoader:
    """Make the DataLoader that `Batches` iterates over.

    Classes defined in a notebook are in `__main__`, where a spawned process does not find them: there the processes are forked,
    and where forking is unsafe (macOS, Windows) this process prepares the batches.

    Args:
        rows: returns the batch of a key.
        keys: keys of the batches.
        workers: number of loader processes.
        pin: whether to pin memory, for a GPU.
    """
    in_notebook, can_fork = type(rows).__module__ == "__main__", sys.platform == "linux"
    workers = workers if can_fork or not in_notebook else 0
    return DataLoader(
        SharedBatches(rows) if workers else rows, sampler=keys, batch_size=None, num_workers=workers, pin_memory=pin,
        prefetch_factor=4 if workers else None, worker_init_fn=ignore_signals, timeout=POLL if workers else 0,
        multiprocessing_context="fork" if workers and in_notebook else None,
        generator=torch.Generator(),  # a loader draws a seed when it starts, which would change dropout
    )


# %% in a loader process
class NotShared(McvqaError, RuntimeError):
    """Raised if a batch does not fit into the shared memory through which processes pass tensors."""


class SharedBatches(Dataset):
    """Wraps `rows` and puts tensors in shared memory.

    Torch would move them there in a thread of the loader process, whose errors are lost: the main process would wait forever.
    """

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __getitem__(self, key: Any) -> Any:
        batch = self.rows[key]
        try:
            for tensor in _tensors_in(batch):
                if tensor.untyped_storage().nbytes():
                    tensor.share_memory_()
        except (RuntimeError, OSError) as error:
            raise NotShared(str(error).splitlines()[0]) from None
        return batch


def _tensors_in(value: Any) -> Iterable[torch.Tensor]:
    """Yield all tensors of a batch, including those nested in sequences, dicts and dataclasses."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)) or dataclasses.is_dataclass(value):
        parts = value if isinstance(value, (list, tuple)) else (value if isinstance(value, dict) else vars(value)).values()
        for part in parts:
            yield from _tensors_in(part)
