"""Converts what people type and drop into a page to a valid question, or explains what is wrong."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mcvqa.config import McvqaError
from mcvqa.data.answers import LETTERS
from mcvqa.data.images import ImageError, open_image
from mcvqa.data.own_letters import strip_own_letters

MOST_CHARACTERS = 4_000  # of a question, and of all choices together
SHOWN_BY_BROWSERS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "AVIF")


class AskError(McvqaError, ValueError):
    """Raised for a question that cannot be asked.

    Args:
        kind: what is wrong, a text of PAGE_WORDS.
        details: values of that text's placeholders.
    """

    def __init__(self, kind: str, **details: Any) -> None:
        super().__init__(kind)
        self.kind, self.details = kind, details


def typed_question(text: str) -> str:
    """Strip the question.

    Raises:
        AskError: it is empty or too long.
    """
    question = text.strip()
    if not question:
        raise AskError("no_question")
    if len(question) > MOST_CHARACTERS:
        raise AskError("long_question", count=len(question), most=MOST_CHARACTERS)
    return question


def typed_choices(text: str) -> tuple[str, ...]:
    """Read the choices from a box with one per line, without blank lines and letters as in "a) red".

    Raises:
        AskError: there are too few or too many, or they are too long.
    """
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not 2 <= len(lines) <= len(LETTERS):
        raise AskError("choice_count", count=len(lines), most=len(LETTERS))
    if (count := sum(map(len, lines))) > MOST_CHARACTERS:
        raise AskError("long_choices", count=count, most=MOST_CHARACTERS)
    return strip_own_letters(lines)[0]


def lines_of(choices: Sequence[str]) -> str:
    """Write choices one per line, as that box shows them."""
    return "\n".join(" ".join(choice.split()) for choice in choices)


def dropped_photograph(file: str | Path | None) -> Path:
    """Check that a photograph can be read.

    Raises:
        AskError: there is none, or it cannot be read.
    """
    if not file:
        raise AskError("no_photograph")
    try:
        open_image(file)
    except ImageError as error:
        raise AskError("unreadable", reason=error.reason) from None
    return Path(file)


def for_browsers(photograph: Path, png: Path) -> Path:
    """Return the photograph in a format that browsers can show.

    Args:
        photograph: a readable photograph.
        png: file to write, pixel for pixel, if browsers do not show its format (HEIC, TIFF, ...).
    """
    with Image.open(photograph) as opened:
        if opened.format in SHOWN_BY_BROWSERS:
            return photograph
    open_image(photograph).save(png, "PNG")
    return png
