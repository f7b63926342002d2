"""All choices in one column: lists such as ["red", "blue"], or objects of letters, become columns choice1, choice2, ..."""
import ast
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcvqa.data.table import Cells, as_cell

CHOICE_LABEL = re.compile(r"(?:.*[\W_])?(?P<label>[a-z]|\d\d?)\W*")  # "A", "(b)", "option_c", "1."


def expand_choice_lists(table: Cells, position: int) -> Cells:
    """The table with a column for each choice in place of the column of lists, as JSON or as Python or NumPy writes them.

    Args:
        position: of that column; where a cell of it is something else, the table is unchanged.
    """
    lists = [_choices_in(record[position]) if position < len(record) else [] for record in table.records]
    if any(choices is None for choices in lists):
        return table
    width = max(len(choices or ()) for choices in lists)
    records = [
        [*record[:position], *choices, *[""] * (width - len(choices)), *record[position + 1 :]]
        for record, choices in zip(table.records, lists, strict=True) if choices is not None
    ]
    names = [f"choice{i}" for i in range(1, width + 1)]
    return replace(table, header=[*table.header[:position], *names, *table.header[position + 1 :]], records=records)


def _choices_in(cell: str) -> list[str] | None:
    """The texts of a cell; none of an empty one; None if it is no list of texts."""
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
    """Texts in the order of their labels (A, B, ..., or numbers from 0 or 1); None where these have gaps."""
    if labels is None:
        return [as_cell(text) for text in texts]
    found = [match["label"] for label in labels if (match := CHOICE_LABEL.fullmatch(str(label).casefold()))]
    numbered = all(label.isdigit() for label in found)
    positions = [int(label) if numbered else ord(label[0]) - ord("a") for label in found]
    first = int(numbered and 0 not in positions)
    if sorted(positions) != list(range(first, first + len(texts))):
        return None
    return [as_cell(text) for _, text in sorted(zip(positions, texts, strict=True), key=lambda pair: pair[0])]
