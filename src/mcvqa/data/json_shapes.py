"""Reads rows from the usual shapes of JSON: a list of objects under a key, or columns as pandas' `to_json` writes them."""
import re
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
RECORDS_EXPECTED = 'Expected: a list of objects [{"id": ..., "question": ...}, ...], or one object a line.'


def records_of_json(value: Any) -> tuple[list[Record], str]:
    """Find the rows of a JSON file, if its shape is unambiguous.

    Args:
        value: content of the file.

    Returns:
        One object for each row, and their location in words.

    Raises:
        ValueError: the shape is ambiguous; the message says what the file contains and what is expected.
    """
    if isinstance(value, list):
        odd = next(item for item in value if not isinstance(item, dict))
        raise ValueError(f"holds {_json_kind(odd)} where each row is an object. {RECORDS_EXPECTED}")
    if not isinstance(value, dict) or not value:
        raise ValueError(f"holds {_json_kind(value)}. {RECORDS_EXPECTED}")
    lists = {key: rows for key, rows in value.items() if _are_objects(rows)}
    if len(lists) > 1:
        counts = ", ".join(f"{key!r} ({len(rows):,})" for key, rows in lists.items())
        splits = any(re.match("train|test|val|dev", key.lower()) for key in lists)
        advice = (
            "Save each in a file of its own: train.json, test.json." if splits
            else "Join them: one list, in which each row has its image, question, choices and answer."
        )
        raise ValueError(f"holds several lists of objects: {counts}. {advice}")
    if lists:
        ((key, rows),) = lists.items()
        return rows, f"rows under {key!r}"
    if any(not isinstance(item, dict | list) for item in value.values()):
        return [value], "one row"
    return _records_of_frame(value)


def _records_of_frame(value: Record) -> tuple[list[Record], str]:
    """Read the rows of a pandas table as `to_json` writes it with any `orient`."""
    inner = list(value.values())
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]], "as of pandas, split"
    if inner and all(isinstance(column, list) for column in inner) and len({len(column) for column in inner}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)], "by columns"
    if not inner or not all(isinstance(item, dict) and item for item in inner):
        raise ValueError(f"holds one object with the keys {_few_keys(value)}, and no list of rows in it. {RECORDS_EXPECTED}")
    if _are_numbers(value) and not _are_numbers(inner[0]):
        return _with_index(dict(zip(value, inner, strict=True))), "by row numbers"
    if _are_numbers(inner[0]) and not _are_numbers(value) and all(column.keys() == inner[0].keys() for column in inner):
        rows = {number: {name: column[number] for name, column in value.items()} for number in inner[0]}
        return _with_index(rows), "by columns"
    raise ValueError(
        f"holds objects under the keys {_few_keys(value)}, each with the keys {_few_keys(inner[0])}: which of them are rows is "
        f"not clear. {RECORDS_EXPECTED} With pandas: frame.reset_index().to_json(..., orient='records')."
    )


def _with_index(rows: dict[str, Record]) -> list[Record]:
    """Return the rows with their numbers as a column, unless pandas numbered them itself."""
    if list(rows) == [str(number) for number in range(len(rows))] or any("index" in row for row in rows.values()):
        return list(rows.values())
    return [{"index": number} | row for number, row in rows.items()]


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _are_numbers(keys: Iterable[str]) -> bool:
    return all(key.isdecimal() for key in keys)


def _json_kind(value: Any) -> str:
    kinds = {dict: "an empty object", bool: "true or false", str: "a text", list: "a list", type(None): "null"}
    return kinds.get(type(value), "a number")


def _few_keys(value: Record) -> str:
    return ", ".join(map(repr, list(value)[:4])) + (", ..." if len(value) > 4 else "")
