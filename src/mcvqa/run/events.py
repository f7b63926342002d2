"""Follows a run from outside: events of its log are passed on to callbacks and trackers.

Every process of a run writes its events into one file, logs/<run>.jsonl (docs/callbacks.md lists their fields). Observers only
read that file, so a training step never waits for them, and their failures do not stop the run.
"""
import contextlib
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcvqa.base.files import read_events

READ_EVERY = 0.5  # seconds
HANGING = 60.0  # seconds to wait for callbacks at the end
Event = Mapping[str, Any]


class Callback:
    """Base class for `run(config, callbacks=[...])`; its methods do nothing, so override only those you need.

    Methods are called in the process that called `run`, in a separate thread, within a second of the event. Each gets the event
    as it is in the log. A callback that raises an error is reported and not called again; the run goes on.

    Example:
        >>> class Losses(Callback):
        ...     def on_step(self, event):
        ...         print(event["fold"], event["step"], event["loss"])
    """

    def on_step(self, event: Event) -> None:
        """Called after an optimizer step.

        Args:
            event: fold, step, epoch, loss, lr, grad_norm, skipped, rows_per_s.
        """

    def on_epoch(self, event: Event) -> None:
        """Called after weights were validated.

        Args:
            event: fold, epoch, variant (raw, ema, swa), accuracy, standard_error, n, nll, chosen.
        """

    def on_scores(self, event: Event) -> None:
        """Called after rows were scored.

        Args:
            event: fold, split (oof, test), rows, file (.npz, below output_dir).
        """

    def on_end(self, outcome: Any) -> None:
        """Called when the run is over.

        Args:
            outcome: the Outcome that `run` returns; None: the run ended with an error.
        """


METHODS = {"step": "on_step", "epoch": "on_epoch", "scored": "on_scores"}


class LogReader:
    """Reads events as they are appended to a log.

    Args:
        path: the log, which need not exist yet.
        position: byte to start at.
    """

    def __init__(self, path: Path, position: int) -> None:
        self.path, self.position = path, position

    def new_events(self) -> list[dict[str, Any]]:
        """Return the events since the last call; an incomplete last line is left for the next call, damaged lines are skipped."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as log:
            log.seek(self.position)
            whole = log.read().rpartition(b"\n")
        self.position += len(whole[0]) + len(whole[1])
        return read_events(whole[0])


def log_size(path: Path) -> int:
    """Return the size of a log in bytes; 0 if there is none. Events before it are from earlier."""
    return path.stat().st_size if path.exists() else 0


class Watch:
    """Calls callbacks from a thread until it is stopped.

    Args:
        path: the log.
        callbacks: objects with some of the methods of `Callback`.
    """

    def __init__(self, path: Path, callbacks: Sequence[Any]) -> None:
        self.reader, self.callbacks = LogReader(path, log_size(path)), list(callbacks)
        self.over = threading.Event()
        self.outcome: Any = None
        self.thread = threading.Thread(target=self._follow, daemon=True, name="callbacks")

    def _follow(self) -> None:
        while not self.over.wait(READ_EVERY):
            self._pass_on()

    def _pass_on(self) -> None:
        for event in self.reader.new_events():
            if method := METHODS.get(str(event.get("event"))):
                self._call(method, event)

    def _call(self, method: str, argument: Any) -> None:
        for callback in list(self.callbacks):
            if not hasattr(callback, method):
                continue
            try:
                getattr(callback, method)(argument)
            except Exception as error:
                self.callbacks.remove(callback)
                line = traceback.extract_tb(error.__traceback__)[-1]
                print(
                    f"\n  the callback {type(callback).__qualname__}.{method} raised {type(error).__name__}: {error} "
                    f"({line.filename}, line {line.lineno}). It is not called again; the run goes on."
                )

    def stop(self) -> None:
        """Pass on the remaining events, then the outcome. Waits at most HANGING seconds for a callback."""
        self.over.set()
        self.thread.join(HANGING)
        if self.thread.is_alive():
            print(f"\n  a callback has not returned after {HANGING:.0f} s; the run ends without it.")
            return
        self._pass_on()
        self._call("on_end", self.outcome)


@contextlib.contextmanager
def watched(path: Path, callbacks: Sequence[Any]) -> Iterator[Watch]:
    """Within the block, pass events that are appended to the log on to callbacks.

    Args:
        path: the log.
        callbacks: objects with some of the methods of `Callback`.

    Yields:
        The watch; set its `outcome`, which is passed to on_end.
    """
    watch = Watch(path, callbacks)
    if callbacks:
        watch.thread.start()
    try:
        yield watch
    finally:
        if callbacks:
            watch.stop()
