"""What only informs (a figure, a page, a table of runs) never stops a run: where it fails, one line says so."""
import contextlib
from collections.abc import Iterator

from mcvqa.base.files import AWAY, NO_ROOM


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
