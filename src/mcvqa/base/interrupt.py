"""SIGTERM and SIGINT: a run stops at a good place, and the same command goes on from there."""
import os
import signal
import threading
from types import FrameType
from typing import Any

RUN_ME_AGAIN = 75  # exit status of an interrupted command; EX_TEMPFAIL in BSD's sysexits.h


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and can go on later; a KeyboardInterrupt, as a notebook's stop button makes one."""


class StopRequest:
    """While this is entered, the first SIGTERM or SIGINT is remembered and the block's end, or earlier work that looks at
    `asked`, raises Interrupted. A second signal raises it there and then. Only the main thread receives signals; elsewhere
    nothing changes.

    Args:
        at_once: the first signal already raises: there is nothing to lose.

    Attributes:
        asked: whether to stop.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once, self.asked, self.process = at_once, False, os.getpid()
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set from Python
        if self.asked and kind is None:
            raise Interrupted("Stopped: what is done is saved.")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a process forked from this one
            return
        if self.asked or self.at_once:
            raise Interrupted(f"Stopped at once by {signal.Signals(number).name}: what was saved before is whole.")
        self.asked = True
        # not print: the signal may have come in the middle of one
        os.write(2, f"\n{signal.Signals(number).name}: stopping after this step; once more to stop at once\n".encode())


def ignore_signals(worker: int = 0) -> None:
    """For a loader process: whoever stops a run signals all of its processes, and the main one still needs its batches."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
