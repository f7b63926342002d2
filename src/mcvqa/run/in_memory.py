"""Writes tables in memory as a data folder, for `run(config, train=frame, test=frame)`."""
import csv
import hashlib
import io
from pathlib import Path
from typing import Any

from PIL import Image

from mcvqa.base.files import link_or_copy, write_text
from mcvqa.config import Config
from mcvqa.data.frames import cells_of_frame, with_class_names
from mcvqa.data.pictures_as_png import picture_as_png
from mcvqa.data.questions import find_column
from mcvqa.data.table import Cells, DataError


def with_tables(config: Config, **tables: Any) -> Config:
    """Write tables as CSV files, their photographs beside them, in a folder named by the content.

    Args:
        config: settings; `output_dir` is where the folder is made.
        tables: "train", "test", "dev", "sample_submission" -> a pandas DataFrame or a `datasets.Dataset`. Photographs are
            paths (from `data_dir`, else from the current folder), bytes, or PIL images.

    Returns:
        The settings, with that folder as their data_dir.

    Raises:
        DataError: a value is not a table, a table has no image column, or none of its paths is a file.
    """
    given = {split: _cells(split, table) for split, table in tables.items() if table is not None}
    texts = {split: _with_linked_photographs(config, split, cells) for split, cells in given.items()}
    content = hashlib.sha256(repr(sorted((split, text) for split, (text, _) in texts.items())).encode()).hexdigest()[:12]
    folder = Path(config.output_dir) / "cache" / "data" / f"tables-{content}"
    for split, (text, photographs) in texts.items():
        for name, source in photographs.items():
            link_or_copy(source, folder / name)
        write_text(folder / f"{split}.csv", text)
    return config.replace(data_dir=str(folder))


def _cells(split: str, table: Any) -> Cells:
    kind = type(table).__name__
    if kind in ("DatasetDict", "IterableDatasetDict"):
        raise DataError(
            f"{split} is a {kind} with the splits {', '.join(table)}. Give each by itself: "
            f"run(config, train=data['train'], test=data['test'])."
        )
    if kind == "IterableDataset":
        raise DataError(f"{split} is an {kind}, whose rows are not there yet. Give datasets.Dataset.from_list(list(data)).")
    frame = table.to_pandas() if hasattr(table, "to_pandas") else table
    if not hasattr(frame, "columns"):
        raise DataError(f"{split} is a {kind}; a pandas DataFrame or a datasets.Dataset is expected.")
    if hasattr(table, "features"):
        frame = with_class_names(frame, table.features.to_dict())
    cells = cells_of_frame(Path(f"{split} (in memory)"), frame.apply(lambda column: column.map(_picture_as_bytes)))
    if not cells.records:
        raise DataError(f"{cells.path} has no rows.")
    return cells


def _picture_as_bytes(value: Any) -> Any:
    """Encode a PIL image as PNG; return anything else unchanged."""
    return picture_as_png(value) if isinstance(value, Image.Image) else value


def _with_linked_photographs(config: Config, split: str, cells: Cells) -> tuple[str, dict[str, Path]]:
    """Return the table as CSV, and the photographs it names: name in the new folder -> file.

    Raises:
        DataError: it names photographs, but none is there.
    """
    photographs: dict[str, Path] = {}
    column = None if split == "sample_submission" else find_column(cells.path, cells.header, "image", config.image_column)
    for record in cells.records:
        if column is not None and (source := _file_of(config, record[column])):
            stamp = hashlib.sha256(f"{source.resolve()} {_link_stamp(source)}".encode()).hexdigest()[:16]
            record[column] = f"photographs/{stamp}{source.suffix}"
            photographs[record[column]] = source
    cut = [record[column][:100] for record in cells.records] if column is not None else []
    named = [text for text in cut if "." in text and not text.startswith(("data:", "{"))]  # base64 has no dot
    if named and not photographs:
        raise DataError(
            f"{cells.path}: none of its photographs is a file, for example {named[0]!r}. Paths are taken from "
            f"data_dir={config.data_dir} and from the current folder, {Path.cwd()}."
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cells.header, *cells.records])
    return text.getvalue(), photographs


def _file_of(config: Config, written: str) -> Path | None:
    """Resolve a path from the data folder or the current one; None: the cell holds the photograph itself, or there is no file."""
    if not written.strip() or len(written) > 1000:
        return None
    try:
        return next((path for path in (Path(config.data_dir) / written, Path(written)) if path.is_file()), None)
    except (OSError, ValueError):
        return None


def _link_stamp(file: Path) -> tuple[int, int, int]:
    """Identify the content of a file by its time, size and inode: rewriting or replacing it changes them."""
    facts = file.stat()
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
