"""Reads tables of Excel, Parquet and Arrow (as `datasets` writes it) and tables in memory as cells."""
import datetime
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

from mcvqa.data.table import Cells, DataError, as_cell


def cells_of_library(path: Path, raw: bytes, kind: str) -> Cells:
    """Read a table from bytes.

    Args:
        path: for messages.
        raw: content of the file.
        kind: "xlsx", "parquet" or "arrow".

    Raises:
        DataError: the file is damaged, or a library is not installed.
    """
    needed = "openpyxl" if kind == "xlsx" else "pyarrow"
    try:
        if kind == "xlsx":
            return _cells_of_book(path, raw)
        frame = _frame_of_arrow(raw, kind)
    except ImportError:
        raise DataError(f"{path} needs {needed} to be read: pip install {needed}. Or save it as 'CSV UTF-8'.") from None
    except Exception as error:  # each library raises its own errors for damaged files
        raise DataError(f"{path} cannot be read as {kind}: {error}") from None
    return cells_of_frame(path, frame, kind)


# %% Excel
def _cells_of_book(path: Path, raw: bytes) -> Cells:
    """Read the sheet that is named like the file, else the first with a table's columns.

    Not by pandas, which takes the words None, NA and null for missing, and drops the formats of numbers.
    """
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
    sheets, dates = dict[str, list[list[str]]](), dict[str, str]()
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = [[*row] for row in sheet.iter_rows()]
        sheets[sheet.title], dates[sheet.title] = _cells_of_sheet(rows), _dates_among_texts(rows)
    tables = [name for name, cells in sheets.items() if cells and len(cells[0]) > 2] or [*sheets]
    chosen = next((name for name in tables if name.strip().lower() == path.stem.lower()), tables[0])
    header, *records = sheets[chosen] or [[]]
    return Cells(path, header, records, (f"xlsx, sheet {chosen!r}" if len(sheets) > 1 else "xlsx") + dates[chosen])


def _cells_of_sheet(sheet: list[list[Any]]) -> list[list[str]]:
    """Read the rows that are not empty, all as wide as the widest."""
    rows = [[_shown(cell) for cell in row] for row in sheet]
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    width = max((i for row in rows for i, cell in enumerate(row, start=1) if cell.strip()), default=0)
    return [[*row[:width], *[""] * (width - len(row))] for row in rows]


def _dates_among_texts(sheet: list[list[Any]]) -> str:
    """Describe a column that holds both text and dates: Excel turns text such as 3-4 into a date as it is typed."""
    for column in itertools.zip_longest(*sheet):
        filled = [cell for cell in column if cell is not None and cell.value is not None]
        dates = [cell for cell in filled if isinstance(cell.value, datetime.date)]
        if dates and sum(isinstance(cell.value, str) for cell in filled) > 1:  # one is the header
            where = f"{dates[0].coordinate} holds the date {_shown(dates[0])} in a column of text"
            return f"; {where} (Excel turns text such as 3-4 into dates)"
    return ""


def _shown(cell: Any) -> str:
    """Write a cell as Excel shows it where its format matters: 0007, 50%, and a date without a time."""
    value, form = cell.value, cell.number_format or "" if cell.value is not None else ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time() and "h" not in form.lower():
        return value.date().isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        if re.fullmatch(r"0[.0]*%", form):
            return f"{100 * value:.12g}%"
        if re.fullmatch("00+", form) and float(value).is_integer():
            return f"{int(value):0{len(form)}d}"
    return as_cell(value)


# %% Parquet, Arrow, memory
def _frame_of_arrow(raw: bytes, kind: str) -> Any:
    from pyarrow import ipc, parquet

    if kind == "parquet":
        table = parquet.read_table(io.BytesIO(raw))
    else:
        table = (ipc.open_file if raw.startswith(b"ARROW1") else ipc.open_stream)(raw).read_all()
    noted = json.loads((table.schema.metadata or {}).get(b"huggingface", "{}"))  # as `datasets` writes it
    return with_class_names(table.to_pandas(), noted.get("info", {}).get("features", {}))


def with_class_names(frame: Any, features: dict[str, Any]) -> Any:
    """Replace the class numbers of a `datasets` table, which are not positions, by their names; -1 means none.

    Args:
        frame: a pandas table, which is changed.
        features: column -> its description by `datasets`: {"_type": "ClassLabel", "names": [...]}.
    """
    for column, feature in features.items():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = dict(enumerate(feature.get("names", ())))
            frame[column] = [names.get(number) for number in frame[column].tolist()]
    return frame


def cells_of_frame(path: Path, frame: Any, kind: str = "DataFrame") -> Cells:
    """Convert a pandas table to text; missing values become empty cells, and a named index becomes a column.

    Args:
        path: for messages.
        frame: the table.
        kind: kind of the file, for display.
    """
    frame = frame.reset_index([name for name in frame.index.names if name and name not in frame.columns])
    frame = frame.astype(object).where(frame.notna(), None)  # pd.NA, unlike NaN, cannot even be compared
    columns = [[as_cell(value) for value in frame.iloc[:, i].tolist()] for i in range(frame.shape[1])]
    records = [list(cells) for cells in zip(*columns, strict=True)]
    return Cells(path, [str(name) for name in frame.columns], [r for r in records if any(c.strip() for c in r)], kind)
