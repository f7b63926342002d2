"""What is printed: no text from a file controls the terminal, and what only informs (a figure, a page) never stops a run."""
import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

from mcvqa.base.files import AWAY, NO_ROOM

# What these warn of is said in our own errors, or is nothing that a user could mend: a kernel that no run needs, each retry.
for quiet in ("bitsandbytes.backends.cpu.ops", "huggingface_hub.utils._http", "urllib3.connectionpool"):
    logging.getLogger(quiet).setLevel(logging.ERROR)

# C0 and C1 controls but tab and newline, what turns the direction of writing, and bytes of a file's name that are no text
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CURSOR_MOVES = re.compile("(\r|\x1b\\[A)")  # of progress bars


def printable(text: str) -> str:
    """`text` with what a terminal would obey shown as an escape such as \\x1b."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """As `printable`, newlines too: a name that holds one could fake a line of ours."""
    return printable(text).replace("\n", "\\n")


class PrintableStream:
    """A text stream that shows control characters, and replaces those that its encoding does not have.

    Args:
        bars: let progress bars move the cursor.
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


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Within the block, stdout and stderr are PrintableStreams."""
    before = sys.stdout, sys.stderr
    if not isinstance(sys.stdout, PrintableStream):
        sys.stdout, sys.stderr = PrintableStream(before[0], bars=False), PrintableStream(before[1], bars=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def informing(what: str) -> Iterator[None]:
    """Run the block; an error in it is reported in one line, and the program goes on after it.

    Args:
        what: the thing that is made, for the message ("the figure kinds.png").

    Raises:
        OSError: the disk is full or away, which the next file would meet too.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (NO_ROOM | AWAY):
            raise
        lines = str(error).splitlines()
        print(f"  {what} could not be made, going on without it: {type(error).__name__}{f': {lines[0]}' if lines else ''}")
