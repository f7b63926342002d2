"""Extracts photographs stored in a table as base64 text (or bytes, converted to that); each is written to a file."""
import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mcvqa.base.files import atomic_path
from mcvqa.data.image_paths import CELLS_FOLDER
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError

SHORTEST = 64  # characters; no path of this length is base64 of a picture's beginning by chance
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"\0\0\0")


def write_picture_cells(questions: Sequence[Question], into: Path) -> tuple[tuple[Question, ...], int]:
    """Write the photographs among the image cells to files named by their content.

    Args:
        questions: rows.
        into: folder for the files.

    Returns:
        The questions, with the files' paths in place of the photographs; the number of photographs.

    Raises:
        DataError: a cell begins like a photograph but is cut off or damaged.
    """
    files: dict[str, str] = {}
    for question in questions:
        cell = question.image
        if cell not in files and (content := _picture_in(cell, question.id)) is not None:
            name = hashlib.sha256(content).hexdigest()[:24]
            path = into / name
            if not path.exists():
                with atomic_path(path) as part:
                    part.write_bytes(content)
            files[cell] = f"{CELLS_FOLDER}/{name}"
    return tuple(replace(q, image=files.get(q.image, q.image)) for q in questions), len(set(files.values()))


def _picture_in(cell: str, row_id: str) -> bytes | None:
    """Decode a photograph from base64, also from a data URL; None for anything else."""
    text = cell.strip()
    if text.startswith("data:image/"):
        text = text.partition(",")[2]
    if len(text) < SHORTEST or not _starts_as_picture(text[:16]):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"The photograph in the image cell of the row {row_id!r} is incomplete ({error}). Excel cuts cells after 32,767 "
            "characters: keep photographs in files, and their paths in the table."
        ) from None


def _starts_as_picture(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True).startswith(STARTS)
    except (binascii.Error, ValueError):
        return False
