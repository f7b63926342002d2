"""Handles SIGTERM, SIGINT and SIGHUP: a run stops at a safe point and can be resumed with the same command."""
import contextlib
import os
import signal
import stat
import sys
import threading
from contextvars import ContextVar
from types import FrameType
from typing import Any

RUN_ME_AGAIN = 75  # exit status of an interrupted command; EX_TEMPFAIL in BSD's sysexits.h
STOPPED = "Stopped. Finished work is saved."
# whether this process is working while the others wait for it; see model/distributed.py
WORKS_ALONE: ContextVar[bool] = ContextVar("WORKS_ALONE", default=False)
REQUEST: ContextVar["StopRequest | None"] = ContextVar("REQUEST", default=None)  # the innermost one


class Interrupted(KeyboardInterrupt):
    """Raised when a run is asked to stop; it can be resumed. A KeyboardInterrupt, like that of a notebook's stop button."""


def may_leave_alone() -> bool:
    """Return whether this process may raise TimeUp or Interrupted at any moment.

    It may if no other process waits for it, or if its current work ends in an exchange that informs the others.
    """
    return WORKS_ALONE.get() or int(os.environ.get("WORLD_SIZE", "1")) == 1


def stop_is_asked() -> bool:
    """Return whether a signal asked to stop at once and all processes still have to stop together."""
    request = REQUEST.get()
    return request is not None and request.at_once and request.asked


def stopping_signals() -> list[int]:
    """List the signals that stop a run. Windows has no SIGHUP (a closed terminal), and `nohup` ignores it."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    return [signal.SIGTERM, signal.SIGINT, *hangup]


class StopRequest:
    """Turns a signal into Interrupted at the end of the block, or earlier if code checks `asked`, as a context manager.

    A second signal raises it immediately. Only the main thread receives signals; elsewhere this does nothing.

    Args:
        at_once: raise at the first signal, as there is nothing to lose. If other processes wait for this one, the request is kept
            until all of them can stop together.

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
            signal.signal(number, handler or signal.SIG_DFL)  # None: the handler was not set from Python
        if self.asked and kind is None:
            raise Interrupted(STOPPED)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a process forked from this one
            return
        name = signal.Signals(number).name
        if name == "SIGHUP":
            _leave_closed_terminal()
        if self.asked or (self.at_once and may_leave_alone()):
            raise Interrupted(f"Stopped at once by {name}. What was saved before is intact.")
        self.asked = True
        when = "as soon as all processes can" if self.at_once else "after this step"
        translated = getattr(sys.stderr, "translated", str)
        with contextlib.suppress(OSError):  # not print: the signal may have interrupted one
            os.write(2, translated(f"\n{name}: stopping {when}; send it again to stop at once\n").encode())


def _leave_closed_terminal() -> None:
    """Redirect output to devnull: writing to a closed terminal fails, which would keep a run from saving."""
    for output in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, output)
                os.close(devnull)


def ignore_signals(worker: int = 0) -> None:
    """Ignore stop signals in a loader process: all processes receive them, and the main one still needs its batches.

    Args:
        worker: number of the loader process, which torch passes.
    """
    for number in stopping_signals():
        signal.signal(number, signal.SIG_IGN)
