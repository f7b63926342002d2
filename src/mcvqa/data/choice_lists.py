"""Splits choices in one column into columns choice1, choice2, ...: lists such as ["red", "blue"], objects of letters, or texts
such as `red|blue` and `(a) red (b) blue`."""
import ast
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcvqa.data.own_letters import OWN_SERIES
from mcvqa.data.table import Cells, as_cell

CHOICE_LABEL = re.compile(r"(?:.*[\W_])?(?P<label>[a-z]|\d\d?)\W*")  # "A", "(b)", "option_c", "1."


def expand_choice_lists(table: Cells, position: int) -> Cells:
    """Replace the column that contains all choices by one column per choice.

    Args:
        table: the table.
        position: that column: lists as JSON, Python or NumPy write them, or texts with the same separator in all cells.

    Returns:
        The new table; the same one if the cells are something else, or could be split in several ways.
    """
    cells = [record[position] if position < len(record) else "" for record in table.records]
    lists, divided = [_choices_in(cell) for cell in cells], ""
    if any(choices is None for choices in lists):
        lists, divided = _divided(cells)
    if not lists:
        return table
    width = max(len(choices or ()) for choices in lists)
    records = [
        [*record[:position], *choices, *[""] * (width - len(choices)), *record[position + 1 :]]
        for record, choices in zip(table.records, lists, strict=True) if choices is not None
    ]
    names = [f"choice{i}" for i in range(1, width + 1)]
    return replace(table, header=[*table.header[:position], *names, *table.header[position + 1 :]], records=records,
                   read_as=f"{table.read_as}{divided}")


# %% texts
OBJECT = re.compile(r"\{|[\[(]\s*[\[({'\"]")
DIVIDERS = ("\n", "\t", "|", ";", " / ")


def _divided(cells: Sequence[str]) -> tuple[list[list[str] | None], str]:
    """Split each cell into choices; also return the separator. Empty unless exactly one separator is in every non-empty cell.

    A comma or a slash counts too, if it gives every cell the same number of choices, at least three.
    """
    cells = [cell.strip() for cell in cells]
    if any(OBJECT.match(cell) for cell in cells):  # of another shape than those that are read
        return [], ""
    if all(_with_lines(cell) for cell in cells if cell):
        return [_split_at(_with_lines(cell), "\n") for cell in cells], ", choices divided at their letters"
    dividers = [sign for sign in DIVIDERS if all(len(_split_at(cell, sign)) > 1 for cell in cells if cell)]
    for sign in () if dividers else (",", "/"):
        counts = {len(_split_at(cell, sign)) for cell in cells if cell}
        dividers += [sign] if len(counts) == 1 and min(counts) > 2 else []
    if len(dividers) != 1:
        return [], ""
    return [_split_at(cell, dividers[0]) for cell in cells], f", choices divided at {dividers[0]!r}"


def _split_at(cell: str, sign: str) -> list[str]:
    return [part.strip() for part in cell.split(sign) if part.strip()]


SERIES = [*OWN_SERIES, "123456789", "①②③④⑤⑥⑦⑧⑨"]


def _with_lines(cell: str) -> str:
    """Put each choice of `(a) red (b) blue` on a line; '' if the cell does not start with such a series."""
    for series in SERIES:
        lines, rest = [], cell.strip()
        for letter, follower in zip(series, [*series[1:], ""], strict=False):
            begin = LABEL_OF[letter].match(rest)
            if not begin:
                break
            behind = LABEL_OF[follower].search(rest, begin.end()) if follower else None
            lines.append(rest[: behind.start() if behind else len(rest)].strip(" \n\t,;|/"))
            rest = rest[behind.start() :].lstrip(" \n\t,;|/") if behind else ""
        if len(lines) > 1 and not rest:
            return "\n".join(" ".join(line.split()) for line in lines)
    return ""


def _own_label(letter: str) -> re.Pattern[str]:
    sign = re.escape(letter)
    bare = rf"{sign}\s*" if unicodedata.normalize("NFKC", letter) != letter else rf"[(\[]{sign}[)\]]\s*|{sign}[).:]\s+"
    return re.compile(rf"(?:(?<=[\s,;|/])|\A)(?:{bare})(?=\S)", re.IGNORECASE)


LABEL_OF = {letter: _own_label(letter) for series in SERIES for letter in series}


# %% lists
def _choices_in(cell: str) -> list[str] | None:
    """Read the texts of a cell; empty for an empty cell; None if it is not a list of texts."""
    if not cell.strip():
        return []
    spaced = re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", cell)  # ['red' 'blue'], as NumPy prints lists: Python would join the texts
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(spaced)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return _texts_of(value)
    return None


def _texts_of(value: Any) -> list[str] | None:
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # {"text": ["red", ...], "label": ["A", ...]}
        return _ordered(value["text"], value.get("label"))
    if isinstance(value, dict):
        return _ordered(list(value.values()), list(value))
    if not isinstance(value, list | tuple):
        return None
    if all(isinstance(item, dict) and "text" in item for item in value):  # [{"label": "A", "text": "red"}, ...]
        labels = [item.get("label") for item in value]
        return _ordered([item["text"] for item in value], labels if any(labels) else None)
    return None if any(isinstance(item, dict) for item in value) else [as_cell(item) for item in value]


def _ordered(texts: Sequence[Any], labels: Sequence[Any] | None) -> list[str] | None:
    """Order texts by their labels (A, B, ..., or numbers from 0 or 1); None if these have gaps."""
    if labels is None:
        return [as_cell(text) for text in texts]
    plain = [match["label"] for label in labels if (match := CHOICE_LABEL.fullmatch(str(label).casefold()))]
    numbered = all(label.isdigit() for label in plain)
    positions = [int(label) if numbered else ord(label[0]) - ord("a") for label in plain]
    first = int(numbered and 0 not in positions)
    if sorted(positions) != list(range(first, first + len(texts))):
        return None
    return [as_cell(text) for _, text in sorted(zip(positions, texts, strict=True), key=lambda pair: pair[0])]
