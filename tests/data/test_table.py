"""Any file that people keep rows in gives the cells that they see."""
import bz2
import datetime
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from mcvqa.data.labelled import notes_on_encodings
from mcvqa.data.questions import read_questions
from mcvqa.data.table import DataError, read_cells

HEADER = ["id", "path", "question", "a", "b", "answer"]
ROWS = [["1", "p.jpg", "색은?", "빨강", "파랑", "a"], ["0002", "q.jpg", "색은?", "초록", "노랑", "b"]]
TEXT = "\n".join(",".join(row) for row in [HEADER, *ROWS]) + "\n"
RECORDS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(content: bytes, *others: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("whatever it is called.csv", *others):
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


PACKERS = {"gz": partial(gzip.compress, mtime=0), "bz2": bz2.compress, "xz": lzma.compress, "zip": zipped}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", TEXT.encode("utf-8")), ("train.csv", TEXT.encode("cp949")), ("train.csv", TEXT.encode("utf-16")),
        ("train.tsv", TEXT.replace(",", "\t").encode()), ("train.txt", TEXT.replace(",", "|").encode()),
        ("train.csv.gz", gzip.compress(TEXT.encode(), mtime=0)), ("train.csv", gzip.compress(TEXT.encode("cp949"), mtime=0)),
        *(("train.csv", TEXT.encode(encoding)) for encoding in ("utf-32", "utf-32-le", "utf-32-be")),
        *((f"train.csv.{ending}", pack(TEXT.encode())) for ending, pack in PACKERS.items()),
        *(("train.csv", pack(TEXT.encode("cp949"))) for pack in PACKERS.values()),
        *((f"train.jsonl.{ending}", pack("\n".join(map(json.dumps, RECORDS)).encode())) for ending, pack in PACKERS.items()),
        ("train.csv", json.dumps(RECORDS).encode()), ("train.csv", "\n".join(map(json.dumps, RECORDS)).encode()),
        ("train.json", json.dumps(RECORDS).encode()), ("train.json", json.dumps(RECORDS, ensure_ascii=False, indent=1).encode()),
        ("train.jsonl", "\n".join(map(json.dumps, RECORDS)).encode()),
    ],
)
def test_formats_of_text(tmp_path: Path, name: str, content: bytes) -> None:
    cells = read_cells(written(tmp_path / name, content))
    assert cells.header == HEADER and cells.records == ROWS


def test_marks_where_files_were_put_together_are_no_text(tmp_path: Path) -> None:
    """As `type a.csv b.csv` makes them: the mark went into the id."""
    head, first, second = TEXT.splitlines(keepends=True)
    cells = read_cells(written(tmp_path / "test.csv", f"\ufeff{head}{first}\ufeff{second}".encode()))
    assert cells.header == HEADER and cells.records == ROWS


def test_the_header_of_each_file_that_was_put_together_is_no_row(tmp_path: Path) -> None:
    assert read_cells(written(tmp_path / "train.csv", (TEXT + TEXT).encode())).records == ROWS * 2


@pytest.mark.parametrize("sign", list(",;\t|"))
def test_the_line_that_excel_needs_is_no_header(tmp_path: Path, sign: str) -> None:
    cells = read_cells(written(tmp_path / "train.csv", (f"sep={sign}\r\n" + TEXT.replace(",", sign)).encode()))
    assert cells.header == HEADER and cells.records == ROWS and cells.delimiter == sign


@pytest.mark.parametrize(("name", "library"), [("train.parquet", "pyarrow"), ("train.xlsx", "openpyxl")])
def test_formats_of_libraries(tmp_path: Path, name: str, library: str) -> None:
    """With the library they are read; without it the message says which one is needed."""
    try:
        __import__(library)
    except ImportError:
        with zipfile.ZipFile(tmp_path / "book", "w") as book:
            book.writestr("xl/workbook.xml", "")
        content = b"PAR1" * 9 if name.endswith("parquet") else (tmp_path / "book").read_bytes()
        with pytest.raises(DataError, match=f"needs {library} to be read: pip install {library}"):
            read_cells(written(tmp_path / name, content))
        return
    frame = pd.DataFrame(ROWS, columns=HEADER)
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_excel(tmp_path / name, index=False)
    assert read_cells(tmp_path / name).records == ROWS


def book(path: Path, *rows: list[object], formats: dict[int, str] | None = None) -> Path:
    """Write a sheet; `formats`: column from 1 -> number format of its cells."""
    sheet = pytest.importorskip("openpyxl").Workbook()
    for row in rows:
        sheet.active.append(row)
    for column, form in (formats or {}).items():
        for number in range(2, len(rows) + 1):
            sheet.active.cell(number, column).number_format = form
    sheet.save(path)
    return path


def test_words_that_pandas_takes_for_missing_are_words_in_a_sheet(tmp_path: Path) -> None:
    """A choice `None` was lost without a word, and `NA` was no id: the row had fewer choices."""
    rows = [["NA", "p.jpg", "which?", "null", "None", "b"], ["N/A", "q.jpg", "which?", "nan", "NULL", "a"]]
    table = read_questions(book(tmp_path / "train.xlsx", HEADER, *rows))
    assert [(q.id, q.choices, q.answer) for q in table.questions] == [("NA", ("null", "None"), 1), ("N/A", ("nan", "NULL"), 0)]


def test_numbers_and_dates_of_a_sheet_are_read_as_it_shows_them(tmp_path: Path) -> None:
    day, moment = datetime.datetime(2024, 3, 4), datetime.datetime(2024, 3, 4, 5, 6)
    rows = [[7, 0.125, 0.29, day, moment, 3.0, True], [12, 1, 0.5, day, moment, 2.5, None]]
    formats = {1: "0000", 2: "0.0%", 3: "0%", 4: "yyyy-mm-dd"}
    cells = read_cells(book(tmp_path / "train.xlsx", list("abcdefg"), *rows, formats=formats))
    assert cells.records == [["0007", "12.5%", "29%", "2024-03-04", "2024-03-04 05:06:00", "3", "True"],
                             ["0012", "100%", "50%", "2024-03-04", "2024-03-04 05:06:00", "2.5", ""]]


def test_a_date_in_a_column_of_text_is_reported(tmp_path: Path) -> None:
    """Excel makes a date of the choice 3-4: the model was shown 2024-03-04 without a word."""
    day = datetime.datetime(2024, 3, 4)
    rows: list[list[object]] = [["r0", "p.jpg", "score?", "1-2", "0-0", "a"], ["r1", "q.jpg", "score?", day, "0-0", "a"]]
    table = read_questions(book(tmp_path / "train.xlsx", HEADER, *rows, formats={4: "d-mmm"}))
    assert table.questions[1].choices == ("2024-03-04", "0-0")
    assert notes_on_encodings([table]) == [
        "train.xlsx: read as xlsx; D3 holds the date 2024-03-04 in a column of text (Excel turns text such as 3-4 into dates)"]
    rows[0][3] = day
    assert not notes_on_encodings([read_questions(book(tmp_path / "train.xlsx", HEADER, *rows, formats={4: "d-mmm"}))])


def test_empty_rows_and_columns_of_a_sheet_are_none_of_its_table(tmp_path: Path) -> None:
    rows: list[list[object]] = [[None] * 8, [*HEADER, None, " "], ROWS[0], [None], [*ROWS[1], "", None]]
    cells = read_cells(book(tmp_path / "train.xlsx", *rows))
    assert cells.header == HEADER and cells.records == ROWS
    with pytest.raises(DataError, match="has no rows below its header"):
        read_cells(book(tmp_path / "test.xlsx"))


def tarred(name: str = "train.csv") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(TEXT.encode())
        archive.addfile(entry, io.BytesIO(TEXT.encode()))
    return file.getvalue()


@pytest.mark.parametrize(("content", "what"), [
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"an old Excel file \(\.xls\), or one with a password"),
    (tarred(), "a tar archive"), (gzip.compress(tarred(), mtime=0), "a tar archive"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive"),
    (b"Rar!\x1a\7\1\0" + bytes(99), "a RAR archive"), (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed with Zstandard"),
    (gzip.compress(gzip.compress(b"id,a\n", mtime=0), mtime=0), "packed twice: unpack it by hand"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a Git LFS pointer.*git lfs pull"),
    (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", r"a web page \(HTML\)"),
    (b"<?xml version='1.0'?><rows/>", "an XML file"),
    (b"%PDF-1.7\n", "a PDF document"), (b"\x80\x04\x95" + bytes(99), "a pickle, which can run programs"),
    (b"SQLite format 3\0" + bytes(99), "a file of another program"),
    (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture, not a table"),
])
def test_what_is_no_table_is_named_whatever_the_file_is_called(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("train.csv", "train.xlsx", "train.csv.gz"):
        with pytest.raises(DataError, match=rf"{name} is {what}"):
            read_cells(written(tmp_path / name, content))


@pytest.mark.parametrize(("content", "message"), [
    (b"PK\3\4" + bytes(range(256)), "is not a zip file"), (zipped(b"id", "a.png", "b.png"), "holds 3 files"),
    (zipped(b"", "mimetype", "content.xml"), "a document of another program"),
])
def test_an_archive_under_the_name_of_a_table_is_not_taken_for_one(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"train\.csv cannot be unpacked: .*{message}.*unpack it by hand"):
        read_cells(written(tmp_path / "train.csv", content))


def test_a_sheet_is_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    """Or the library that reads it is named: its kind is known by its content."""
    path = written(tmp_path / "train.csv", zipped(b"", "xl/workbook.xml"))
    with pytest.raises(DataError, match=r"train\.csv (needs openpyxl|cannot be read as xlsx)"):
        read_cells(path)


@pytest.mark.parametrize("name", ["fea1", "eggAnswer", "rar!", "bzh", "<id>", "[id]", "{id}", "version", "gif8"])
def test_headers_that_begin_nearly_as_other_files_do(tmp_path: Path, name: str) -> None:
    assert read_cells(written(tmp_path / "train.csv", f"{name},question\n1,?\n".encode())).header == [name, "question"]


def test_damaged_packing_is_named(tmp_path: Path) -> None:
    for ending, pack in PACKERS.items():
        whole = pack(TEXT.encode() * 20)
        with pytest.raises(DataError, match=r"cannot be unpacked|damaged"):
            read_cells(written(tmp_path / f"train.csv.{ending}", whole[: len(whole) // 2]))


# %% encodings
@pytest.mark.parametrize(
    ("text", "encoding", "read_as"),
    [
        ("What’s the color of the man’s hat?", "cp1252", "cp1252"), ("café, naïve", "cp1252", "cp1252"),
        ("• 25 °C – “quoted”", "cp1252", "cp1252"), ("Größe über Äpfel", "cp1252", "cp1252"),
        ("señal ¿dónde?", "cp1252", "cp1252"),
        ("사진에서 볼 수 없는 것은?", "cp949", "cp949"), ("LG와 A가 있는 방", "cp949", "cp949"),
        ("똠얌꿍과 펩시콜라가 있는 식탁입니다", "cp949", "cp949"),
        ("한자 漢字와 ㉠ 기호", "cp949", "cp949"), ("온도 25℃", "cp949", "cp949"), ("가", "cp949", "cp949"),
    ],
)
def test_the_encoding_is_the_one_that_makes_sense(tmp_path: Path, text: str, encoding: str, read_as: str) -> None:
    path = written(tmp_path / "train.csv", f'id,path,question,a,b\n1,p,"{text}",x,y\n'.encode(encoding))
    table = read_questions(path)
    assert table.questions[0].text == text and table.read_as == read_as


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("写真の中の動物は何ですか", "shift-jis"), ("照片中的动物是什么颜色的", "gb18030"), ("Какого цвета шляпа", "cp1251"),
     ("What’s the color of the man’s hat?", "mac-roman")],
)
def test_what_makes_no_sense_is_refused_with_its_readings(tmp_path: Path, text: str, encoding: str) -> None:
    path = written(tmp_path / "train.csv", f"id,path,question,a,b\n1,p,{text},x,y\n".encode(encoding))
    with pytest.raises(DataError, match="Save it again as 'CSV UTF-8'"):
        read_questions(path)


# %% no tables
@pytest.mark.parametrize("content", [b"{", b'["a"]', b"[" * 100_000, b"1\n2\n"])
def test_json_that_is_no_table(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="Expected: "):
        read_cells(written(tmp_path / "train.json", content))


def test_pipes_and_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.csv")
    for path in (tmp_path / "train.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_cells(path)


def test_of_several_sheets_the_one_with_the_table_is_read(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    frame = pd.DataFrame(RECORDS)
    for name, sheets, chosen in (
        ("train", {"README": frame[["id"]], "data": frame, "other": frame[::-1]}, "data"),
        ("train", {"test": frame[::-1], "Train": frame}, "Train"),
    ):
        with pd.ExcelWriter(tmp_path / f"{name}.xlsx") as book:
            for sheet, content in sheets.items():
                content.to_excel(book, sheet_name=sheet, index=False)
        cells = read_cells(tmp_path / f"{name}.xlsx")
        assert cells.records == ROWS and cells.read_as == f"xlsx, sheet {chosen!r}"
