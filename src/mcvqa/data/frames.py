"""Reads tables by pandas (Excel, Parquet, Arrow as `datasets` writes it) and tables in memory as cells."""
import io
import json
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
    import pandas as pd

    needed = "openpyxl" if kind == "xlsx" else "pyarrow"
    try:
        if kind == "xlsx":
            frame, kind = _frame_of_sheets(pd.read_excel(io.BytesIO(raw), dtype=object, sheet_name=None), path.stem)
        else:
            frame = _frame_of_arrow(raw, kind)
    except ImportError:
        raise DataError(f"{path} needs {needed} to be read: pip install {needed}. Or save it as 'CSV UTF-8'.") from None
    except Exception as error:  # each library raises its own errors for damaged files
        raise DataError(f"{path} cannot be read as {kind}: {error}") from None
    return cells_of_frame(path, frame, kind)


def _frame_of_sheets(sheets: dict[str, Any], stem: str) -> tuple[Any, str]:
    """Choose the sheet that is named like the file, else the first with a table's columns; returns its name too."""
    tables = [name for name, frame in sheets.items() if frame.shape[1] > 2] or [*sheets]
    chosen = next((name for name in tables if name.strip().lower() == stem.lower()), tables[0])
    return sheets[chosen], f"xlsx, sheet {chosen!r}" if len(sheets) > 1 else "xlsx"


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
    columns = [[as_cell(value) for value in frame.iloc[:, i].tolist()] for i in range(frame.shape[1])]
    records = [list(cells) for cells in zip(*columns, strict=True)]
    return Cells(path, [str(name) for name in frame.columns], [r for r in records if any(c.strip() for c in r)], kind)
