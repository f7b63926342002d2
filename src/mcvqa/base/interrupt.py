"""SIGTERM, SIGINT and SIGHUP: a run stops at a good place, and the same command goes on from there."""
import contextlib
import os
import signal
import stat
import threading
from contextvars import ContextVar
from types import FrameType
from typing import Any

RUN_ME_AGAIN = 75  # exit status of an interrupted command; EX_TEMPFAIL in BSD's sysexits.h
STOPPED = "Stopped: what is done is saved."
# whether this process is in work that it does by itself while other processes wait; see model/distributed.py
WORKS_ALONE: ContextVar[bool] = ContextVar("WORKS_ALONE", default=False)
REQUEST: ContextVar["StopRequest | None"] = ContextVar("REQUEST", default=None)  # the innermost one


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop and can go on later; a KeyboardInterrupt, as a notebook's stop button makes one."""


def may_leave_alone() -> bool:
    """Whether this process may raise TimeUp or Interrupted at any moment: no other process waits for it, or what it does now
    ends in an exchange that tells the others."""
    return WORKS_ALONE.get() or int(os.environ.get("WORLD_SIZE", "1")) == 1


def stop_is_asked() -> bool:
    """Whether a signal asked to stop at once, which waits for a moment that all processes share."""
    request = REQUEST.get()
    return request is not None and request.at_once and request.asked


def stopping_signals() -> list[int]:
    """Those that stop a run. SIGHUP (a closed terminal) is not on Windows, and after `nohup` it is to be ignored."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    return [signal.SIGTERM, signal.SIGINT, *hangup]


class StopRequest:
    """While this is entered, the first signal is remembered and the block's end, or earlier work that looks at
    `asked`, raises Interrupted. A second signal raises it there and then. Only the main thread receives signals; elsewhere
    nothing changes.

    Args:
        at_once: the first signal already raises: there is nothing to lose. Where other processes wait for this one, it is
            remembered for the next moment that all of them share.

    Attributes:
        asked: whether to stop.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once, self.asked, self.process = at_once, False, os.getpid()
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in stopping_signals():
                self.before[number] = signal.signal(number, self._receive)
        self.token = REQUEST.set(self)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        REQUEST.reset(self.token)
        for number, handler in self.before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set from Python
        if self.asked and kind is None:
            raise Interrupted(STOPPED)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a process forked from this one
            return
        name = signal.Signals(number).name
        if name == "SIGHUP":
            _leave_closed_terminal()
        if self.asked or (self.at_once and may_leave_alone()):
            raise Interrupted(f"Stopped at once by {name}: what was saved before is whole.")
        self.asked = True
        when = "as soon as all processes can" if self.at_once else "after this step"
        with contextlib.suppress(OSError):  # not print: the signal may have come in the middle of one
            os.write(2, f"\n{name}: stopping {when}; once more to stop at once\n".encode())


def _leave_closed_terminal() -> None:
    """Writing to a terminal that is gone is an error, which would keep a run from saving: from here on it goes nowhere."""
    for output in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output)
                os.close(nowhere)


def ignore_signals(worker: int = 0) -> None:
    """For a loader process: whoever stops a run signals all of its processes, and the main one still needs its batches."""
    for number in stopping_signals():
        signal.signal(number, signal.SIG_IGN)
