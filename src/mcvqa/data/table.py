"""Reads tables of any kind as cells of text, exactly as they were written.

CSV in its varieties (encodings, separators, quotes) is read here; JSON too; Parquet, Arrow and Excel files by pandas (frames.py).
"""
import base64
import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcvqa.base.files import from_spreadsheet_cell
from mcvqa.config import McvqaError, read_user_file


class DataError(McvqaError, ValueError):
    """Raised for data that cannot be used; the message says what was found, what was expected and how to fix it."""


@dataclass(frozen=True)
class Cells:
    """Holds a table as text.

    Attributes:
        path: the file.
        header: names of the columns.
        records: one list of cells for each non-empty row.
        read_as: the encoding of a text file, as found, or the kind of file; then its shape.
        delimiter: delimiter of a CSV file; else ''.
    """

    path: Path
    header: list[str]
    records: list[list[str]]
    read_as: str
    delimiter: str = ""


TEXT_SUFFIXES, JSON_SUFFIXES, OTHER_SUFFIXES = (
    (".csv", ".tsv", ".txt"), (".jsonl", ".json", ".ndjson"), (".parquet", ".xlsx", ".arrow", ".feather")
)
PACKED_SUFFIXES = (".gz", ".zip", ".bz2", ".xz")  # of a single packed file, after its own extension: train.csv.gz
TABLE_SUFFIXES = (
    *(suffix + packed for suffixes in (TEXT_SUFFIXES, JSON_SUFFIXES) for packed in ("", *PACKED_SUFFIXES) for suffix in suffixes),
    *OTHER_SUFFIXES,
)
# train.csv, or a part of a table in several files, as `datasets` writes them: train-00000-of-00002.parquet
TABLE_NAME = re.compile(
    rf"(?P<stem>.+?)(?:-\d{{5}}-of-(?P<parts>\d{{5}}))?(?P<ending>{'|'.join(map(re.escape, TABLE_SUFFIXES))})", re.IGNORECASE
)


def table_stem(name: str) -> str:
    """Return a file name without its extension and number; '' if it is not a table."""
    match = TABLE_NAME.fullmatch(name)
    return match["stem"].lower() if match else ""


def read_cells(path: Path, *, allow_empty: bool = False) -> Cells:
    """Read a table.

    Args:
        path: the file; of a table in several parts the first one.
        allow_empty: whether a header without rows is accepted.

    Raises:
        DataError: the file does not exist or is not a table, its parts do not match, or there are no rows below its header.
    """
    first, *others = [_read_file(part) for part in _parts_of(path)]
    for other in others:
        if other.header != first.header:
            raise DataError(f"{other.path} has the columns {', '.join(other.header)}; {first.path}: {', '.join(first.header)}.")
    table = replace(first, records=[record for part in (first, *others) for record in part.records])
    if not table.records and not allow_empty:
        raise DataError(f"{path} has no rows below its header ({', '.join(table.header)}).")
    return table


def _parts_of(path: Path) -> list[Path]:
    match = TABLE_NAME.fullmatch(path.name)
    if not match or not match["parts"]:
        return [path]
    stem, parts, ending = match["stem"], match["parts"], match["ending"]
    return [path.with_name(f"{stem}-{number:05d}-of-{parts}{ending}") for number in range(int(parts))]


def _read_file(path: Path) -> Cells:
    raw = _file_bytes(path)
    if (packed := _kind_of(raw)) in ("zip", "gz", "bz2", "xz"):
        raw = _content_of(path, raw, packed)
    kind = _kind_of(raw)
    if kind in ("parquet", "arrow", "xlsx"):
        from mcvqa.data.frames import cells_of_library

        return cells_of_library(path, raw, kind)
    if kind != "text" or NOT_READ.match(raw):
        raise _not_read(path, raw)
    match = TABLE_NAME.fullmatch(path.name)
    named_json = match is not None and match["ending"].lower().startswith(JSON_SUFFIXES)
    return _of_json(path, raw) if named_json or JSON_OBJECT.match(raw) else _of_csv(path, raw)


JSON_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*"')  # no CSV begins so
# What is no table begins so, after a byte order mark: archives, documents, databases, pickles, web pages, pictures
NOT_READ = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:.{257}ustar|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|ALZ\x01|EGGA|\xd0\xcf\x11\xe0|%PDF|"
    rb"version https://git-lfs|\s*<(?i:!|\?xml|html|head|body|meta|table)|SQLite format 3|\x89HDF|\x93NUMPY|"
    rb"\x80[\x02-\x05]|\x89PNG|\xff\xd8\xff|GIF8)",
    re.DOTALL,
)


def _not_read(path: Path, raw: bytes) -> DataError:
    from mcvqa.data.unread import unread_format

    return DataError(f"{path} is {unread_format(path.name, raw[:4096])}.")


def _file_bytes(path: Path) -> bytes:
    try:
        return read_user_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _kind_of(raw: bytes) -> str:
    """Detect the kind of a file by its first bytes, which are more reliable than its name."""
    starts = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff" * 4: "arrow"}
    if raw.startswith(b"PK\x03\x04"):
        return "xlsx" if b"xl/workbook" in raw else "zip"
    return next((kind for start, kind in starts.items() if raw.startswith(start)), "text")


MAX_BYTES = 4 * 2**30  # of a table, also when it is unpacked


def _content_of(path: Path, raw: bytes, kind: str) -> bytes:
    from mcvqa.data.packed import unpacked_table

    try:
        return unpacked_table(raw, kind, MAX_BYTES)
    except ValueError as error:
        raise DataError(f"{path} {error}") from None


# %% CSV: bytes -> text
def _of_csv(path: Path, raw: bytes) -> Cells:
    text, encoding = csv_text(path, raw)
    said = re.match(r"sep=([,;\t|])\s*\n", text)  # Excel's line for itself
    text = text[said.end() :] if said else text
    delimiter = said[1] if said else csv_delimiter(text)
    header, *records = csv_records(path, text, delimiter) or [[]]
    records = [cells for cells in records if cells != header]  # again where files were concatenated
    return Cells(path, header, records, encoding, delimiter)


def csv_text(path: Path, raw: bytes | None = None) -> tuple[str, str]:
    """Decode a file, without its byte order mark; also return its encoding.

    Args:
        path: the file.
        raw: its content; None: it is read.
    """
    raw = _file_bytes(path) if raw is None else raw
    encoding = _csv_encoding(path, raw)
    try:
        text = raw.decode(encoding).lstrip("\ufeff").replace("\n\ufeff", "\n")  # a mark in the middle: files were put together
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is {encoding.upper()} that is cut off or damaged. Copy it again, or save it as 'CSV UTF-8'."
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return text, encoding


def _csv_encoding(path: Path, raw: bytes) -> str:
    """Detect UTF-8, UTF-16 or UTF-32, else the encoding that gives plausible Korean (cp949) or Western text (cp1252).

    Raises:
        DataError: the UTF-8 is damaged, or neither reading is plausible.
    """
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(raw) % 4 == 0 and 2 * raw.count(0) >= len(raw) > 0:  # UTF-32 without a mark: no character is beyond 10FFFF
        for encoding, highest, high in (("utf-32-le", raw[3::4], raw[2::4]), ("utf-32-be", raw[::4], raw[1::4])):
            if not any(highest) and max(high) <= 0x10:
                return encoding
    if raw.count(0) > len(raw) / 20:  # UTF-16 without a mark: ASCII's zero bytes show the byte order
        return "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        # Damaged UTF-8 may pass as cp949 with other words; its intact Hangul (3 bytes each) reveals it.
        mended = raw.decode("utf-8", errors="replace")
        if sum(c >= "\u0800" and c != "\ufffd" for c in mended) > mended.count("\ufffd"):
            line = raw[: error.start].count(b"\n") + 1
            raise DataError(f"{path} is UTF-8 with a damaged character in line {line}. Copy it again.") from None
        return _national_encoding(path, raw)
    return "utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"


def _national_encoding(path: Path, raw: bytes) -> str:
    plausible = {"cp949": _is_plausible_korean, "cp1252": _is_plausible_western}
    examples = []
    for encoding, is_plausible in plausible.items():
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if is_plausible(text):
            return encoding
        examples.append(f"as {encoding} it reads {_foreign_example(text)!r}")
    shown = f": {'; '.join(examples)}" if examples else ""
    problem = f"{path} is neither UTF-8 (or -16, -32) nor plausible cp949 or cp1252 text{shown}"
    raise DataError(f"{problem}. Save it again as 'CSV UTF-8'.")


ENCLOSED_HANGUL = re.compile(r"(?<=[a-z])[가-힣]{1,2}(?=[a-z])")  # "What뭩": an apostrophe and its letter, taken for Korean


def _is_plausible_korean(text: str) -> bool:
    """Return whether nearly all of a text's syllables are in KS X 1001, unlike misread text of other encodings."""
    foreign = [c for c in text if c > "\x7f"]
    hangul = [c for c in foreign if "가" <= c <= "힣"]
    rare = sum(not _in_ks_x_1001(c) for c in hangul) + len(ENCLOSED_HANGUL.findall(text))
    hanja = sum("\u4e00" <= c <= "\u9fff" or "\u3040" <= c <= "\u30ff" for c in foreign)
    symbols = sum(unicodedata.category(c)[0] in "PSZ" for c in foreign)
    return rare <= 0.1 * len(hangul) and hanja <= 0.4 * len(hangul) and (bool(hangul) or symbols == len(foreign))


def _in_ks_x_1001(syllable: str) -> bool:
    try:
        return len(syllable.encode("euc-kr")) == 2
    except UnicodeEncodeError:
        return False


def _is_plausible_western(text: str) -> bool:
    """Return whether a text is mostly ASCII with some Western letters, and has no capital as apostrophe, as in 'manÕs'."""
    foreign = [c for c in text if c > "\x7f"]
    usual = sum(c.isalpha() or c in "’‘“”„–—…•°€£¥©®™½¼¾²³·«»¿¡×÷±µ\xa0´" for c in foreign)
    return usual == len(foreign) < 0.3 * len(text) and not re.search(r"[À-ÿ]{5}|[a-z]{2}[À-ÞŒ-Ÿ]s\b", text)


def _foreign_example(text: str) -> str:
    """Return the first word that is not ASCII, with its neighbours."""
    at = next(i for i, c in enumerate(text) if c > "\x7f")
    return text[max(0, at - 10) : at + 10].strip()


# %% CSV: text -> cells
def csv_delimiter(text: str) -> str:
    """Choose comma, semicolon, tab or bar: the one that splits the first line into most cells."""
    line = text.lstrip().splitlines()[0][:100_000]
    return max(",;\t|", key=lambda sign: len(next(csv.reader([line.replace("\0", "")], delimiter=sign))))


MAX_CELL = 64 * 2**20  # a photograph in base64; csv allows 128 KiB by default


def csv_records(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """Read all non-empty rows, strictly, since an unclosed quote would silently swallow the rows behind it.

    Args:
        path: the file, for messages.
        text: its content.
        delimiter: separator of the cells.
    """
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start, records = 1, []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append(cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: the row that begins in line {start} is broken ({error}). "
            'A text with quotes in it must be written as "he said ""yes"" to me", and every quote must be closed.'
        ) from None
    return records


# %% other formats
def _of_json(path: Path, raw: bytes) -> Cells:
    """Read a list of objects, one object per line, or another unambiguous shape."""
    text, encoding = csv_text(path, raw)
    try:
        value = _json_value(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}. Expected: a list of objects, or one object a line.") from None
    rows, shape = value, ""
    if not (isinstance(value, list) and all(isinstance(row, dict) for row in value)):
        rows, shape = _rows_in_shape(path, value)
    header = list(dict.fromkeys(name for row in rows for name in row))
    return Cells(path, header, [[as_cell(row.get(name)) for name in header] for row in rows], f"{encoding}, JSON{shape}")


def _rows_in_shape(path: Path, value: Any) -> tuple[list[dict[str, Any]], str]:
    from mcvqa.data.json_shapes import records_of_json

    try:
        rows, shape = records_of_json(value)
    except ValueError as error:
        raise DataError(f"{path} {error}") from None
    return rows, f", {shape}"


def _json_value(text: str) -> Any:
    """Parse one value, or one value per line as a list."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not text.lstrip().startswith("{") or error.msg != "Extra data":
            raise
        return [json.loads(line) for line in text.split("\n") if line.strip()]


def as_cell(value: Any) -> str:
    """Write one value as text: whole numbers without a fraction, bytes in base64, lists as JSON, missing values as ''."""
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):  # NumPy's, as Parquet gives numbers and lists
        value = value.tolist()
    if isinstance(value, dict) and {"bytes", "path"} >= set(value):  # a picture in a Hugging Face dataset
        return as_cell(value.get("bytes") or value.get("path"))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=lambda part: part.tolist() if hasattr(part, "tolist") else str(part))
    return "" if value is None or value != value else str(value)  # NaN and NaT differ from themselves


def column_of_ids(header: Sequence[str], records: Iterable[Sequence[str]], ids: Collection[str]) -> int | None:
    """Find the column with the most of `ids`; None: none contains any.

    Args:
        header: names of the columns.
        records: rows.
        ids: the ids to find.
    """
    cells = ((i, cell) for record in records for i, cell in zip(range(len(header)), record, strict=False))
    hits = Counter(i for i, cell in cells if cell in ids or from_spreadsheet_cell(cell) in ids)
    return min(hits, key=lambda i: (-hits[i], i), default=None)
