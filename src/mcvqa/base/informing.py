"""Makes console output safe: text from files cannot control the terminal, and a failing figure or page never stops a run."""
import contextlib
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from mcvqa.base.files import DISK_FULL, UNAVAILABLE

# Warnings about what our own errors report or no user can fix: kernels that no run needs, each retry.
for quiet in ("bitsandbytes.backends.cpu.ops", "huggingface_hub.utils._http", "urllib3.connectionpool"):
    logging.getLogger(quiet).setLevel(logging.ERROR)

# C0 and C1 controls except tab and newline, characters that change the writing direction, undecodable bytes of file names
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CURSOR_MOVES = re.compile("(\r|\x1b\\[A)")  # of progress bars
CONSOLE_LANGUAGE: ContextVar[str] = ContextVar("CONSOLE_LANGUAGE", default="")  # en or ko; empty: not the command line
BETWEEN_LINES = 60.0  # seconds between two lines of a progress bar where there is no terminal


def counted(count: int, one: str, several: str = "") -> str:
    """Spell a number with its noun: "1 row", "2,000 rows".

    Args:
        count: the number.
        one: words for one: "row is".
        several: words for any other number: "rows are"; without them, `one` with an s.
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """Escape the control characters of a text, such as \\x1b."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Make text printable in one line: a name that contains a newline could fake a line of output."""
    return printable(text).replace("\n", "\\n")


class PrintableStream:
    """Escapes control characters, and replaces characters that its encoding lacks, in a text stream.

    Args:
        stream: the stream to write to.
        bars: whether progress bars may move the cursor.
    """

    def __init__(self, stream: Any, bars: bool) -> None:
        self.stream, self.bars = stream, bars

    def write(self, text: str) -> int:
        parts = CURSOR_MOVES.split(text) if self.bars else [text]
        shown = "".join(part if i % 2 else printable(part) for i, part in enumerate(parts))
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(shown.encode(encoding, "replace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class BarsInFile:
    """Represents a text stream to a file or pipe.

    A progress bar leaves a line now and then and its final state, not every refresh.
    """

    def __init__(self, stream: Any) -> None:
        self.stream, self.latest, self.written_at = stream, "", time.monotonic()
        self.in_bar = False  # whether the cursor is where a bar has left it

    def write(self, text: str) -> int:
        if CURSOR_MOVES.match(text):
            self.in_bar, self.latest = True, CURSOR_MOVES.split(text)[-1].rstrip()
            if self.latest and time.monotonic() > self.written_at + BETWEEN_LINES:
                self._write_latest()
        elif text == "\n" and self.in_bar:  # the bar is closed, or one below it is refreshed
            if "100%|" in self.latest:
                self._write_latest()
        else:
            self.in_bar = False
            self.stream.write(text)
        return len(text)

    def _write_latest(self) -> None:
        self.stream.write(f"{self.latest}\n")
        self.stream.flush()
        self.latest, self.written_at = "", time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _is_file(stream: Any) -> bool:
    """Return whether a stream is a file or pipe: neither a terminal nor a notebook, which shows bars too."""
    return not stream.isatty() and "ipykernel" not in sys.modules


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Within the block, make stdout and stderr PrintableStreams, and have progress bars leave few lines in a file."""
    before = sys.stdout, sys.stderr
    if not isinstance(sys.stdout, PrintableStream):
        bars = BarsInFile(sys.stderr) if _is_file(sys.stderr) else sys.stderr
        sys.stdout, sys.stderr = PrintableStream(sys.stdout, bars=False), PrintableStream(bars, bars=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def informing(what: str) -> Iterator[None]:
    """Within the block, report an error in one line and continue.

    Args:
        what: what the block makes, for the message ("the figure kinds.png").

    Raises:
        OSError: the disk is full or unavailable, which would affect the next file too.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (DISK_FULL | UNAVAILABLE):
            raise
        lines = str(error).splitlines()
        print(f"  {what} could not be made, continuing without it: {type(error).__name__}{f': {lines[0]}' if lines else ''}")
