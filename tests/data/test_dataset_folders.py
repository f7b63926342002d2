"""Folders as Hugging Face `datasets` writes and expects them: `save_to_disk`, parts of a hub download, `imagefolder`."""
import csv
import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from mcvqa.data.locate import find_data
from mcvqa.data.questions import read_questions
from mcvqa.data.table import DataError, read_cells
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.in_memory import with_tables
from mcvqa.run.project import open_project
from tests.conftest import make_dataset, tiny_settings


def rows_of(data: Path, split: str, *, embedded: bool = False) -> list[dict]:
    """The rows as `datasets` keeps them: choices in a list, the answer as a class's number, a photograph as bytes or by name."""
    with open(data / f"{split}.csv", encoding="utf-8", newline="") as handle:
        records = list(csv.DictReader(handle))
    return [
        {"id": record["id"], "question": record["question"], "choices": [record[letter] for letter in "abcd" if record[letter]]}
        | ({"image": {"bytes": (data / record["path"]).read_bytes(), "path": None}} if embedded
           else {"file_name": Path(record["path"]).name})
        | ({"answer": "abcd".index(record["answer"])} if split == "train" else {})
        for record in records
    ]


def read(data: Path, out: Path) -> RunData:
    return read_data(open_project(tiny_settings(out, data_dir=str(data))))


@pytest.fixture
def plain(tmp_path) -> Path:
    return make_dataset(tmp_path / "plain")


def require_same_rows(found: RunData, plain: Path, out: Path) -> None:
    files = read(plain, out)
    def texts(data: RunData) -> list[tuple]:
        return [(q.id, q.text, q.choices, q.answer) for q in (*data.train, *data.test)]

    assert texts(found) == texts(files)
    for one, other in zip((*found.train, *found.test), (*files.train, *files.test), strict=True):
        assert found.records[one.image].content_hash == files.records[other.image].content_hash


# %% without a library
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_an_imagefolder(plain, tmp_path, ending):
    """Each split has its photographs and metadata.jsonl or metadata.csv, which names them by `file_name`."""
    for split in ("train", "test"):
        rows, file = rows_of(plain, split), plain / split / f"metadata.{ending}"
        if ending == "jsonl":
            file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
        else:
            pd.DataFrame(rows).to_csv(file, index=False)
    for split in ("train", "test"):
        (plain / f"{split}.csv").rename(tmp_path / f"{split}.csv")
    found = find_data(plain, tmp_path / "unpacked")
    assert (found.root, found.train, found.test) == (plain, plain / f"train/metadata.{ending}", plain / f"test/metadata.{ending}")
    data = read(plain, tmp_path / "out")
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").rename(plain / f"{split}.csv")
    require_same_rows(data, plain, tmp_path / "out")


def test_a_table_in_several_parts(plain, tmp_path):
    rows, data = rows_of(plain, "train"), tmp_path / "data"
    data.mkdir()
    for number, part in enumerate((rows[:10], rows[10:11], rows[11:])):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in part)
        (data / f"train-{number:05d}-of-00003.jsonl").write_text(text, encoding="utf-8")
    found = find_data(data, tmp_path / "unpacked").train
    assert found == data / "train-00000-of-00003.jsonl"
    table = read_questions(found)
    assert [(q.id, list(q.choices)) for q in table.questions] == [(row["id"], row["choices"]) for row in rows]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda part: part.unlink(), r"There is no file .*train-00001-of-00002\.csv"),
     (lambda part: part.write_text("id,b\n2,y\n"), r"00001-of-00002\.csv has the columns id, b; .*00000-of-00002\.csv: id, a\.")],
)
def test_parts_that_do_not_fit_together_are_named(tmp_path, spoil, said):
    for number in range(2):
        (tmp_path / f"train-{number:05d}-of-00002.csv").write_text(f"id,a\n{number},x\n")
    spoil(tmp_path / "train-00001-of-00002.csv")
    with pytest.raises(DataError, match=said):
        read_cells(tmp_path / "train-00000-of-00002.csv")


def test_folders_of_save_to_disk_are_found(tmp_path):
    """By their names alone, with the splits in folders or a single Dataset, which is one to train on."""
    for split, parts in (("train", 2), ("test", 1)):
        (tmp_path / "dict" / split).mkdir(parents=True)
        (tmp_path / "dict" / split / "state.json").write_text("{}")
        for number in range(parts):
            (tmp_path / "dict" / split / f"data-{number:05d}-of-{parts:05d}.arrow").touch()
    found = find_data(tmp_path / "dict", tmp_path / "unpacked")
    assert found.root == tmp_path / "dict" and found.train == found.root / "train/data-00000-of-00002.arrow"
    assert found.test == found.root / "test/data-00000-of-00001.arrow"
    (tmp_path / "mine").mkdir()
    for name in ("state.json", "dataset_info.json", "data-00000-of-00001.arrow"):
        (tmp_path / "mine" / name).touch()
    found = find_data(tmp_path / "mine", tmp_path / "unpacked")
    assert found.train == tmp_path / "mine/data-00000-of-00001.arrow" and found.test is None


def test_an_arrow_file_says_what_it_needs(tmp_path):
    there = importlib.util.find_spec("pyarrow") is not None
    said = "cannot be read as arrow" if there else "needs pyarrow to be read: pip install pyarrow"
    (tmp_path / "train.arrow").write_bytes(b"\xff" * 4 + b"\0" * 60)
    with pytest.raises(DataError, match=said):
        read_cells(tmp_path / "train.arrow")


# %% with pyarrow
def write_arrow(rows: list[dict], folder: Path, parts: int) -> None:
    """As `Dataset.save_to_disk` does: streams, with photographs in a struct of bytes and path."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (mcvqa[tables])")
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    (folder / "dataset_info.json").write_text("{}")
    for number in range(parts):
        table = pa.Table.from_pylist(rows[number::parts])
        file = folder / f"data-{number:05d}-of-{parts:05d}.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)


def test_what_save_to_disk_wrote(plain, tmp_path):
    for split in ("train", "test"):
        write_arrow(rows_of(plain, split, embedded=True), tmp_path / "saved" / split, 1)
    require_same_rows(read(tmp_path / "saved", tmp_path / "out"), plain, tmp_path / "out")


def test_parquet_files_as_the_hub_has_them(plain, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (mcvqa[tables])")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for split, parts in (("train", 2), ("test", 1)):
        rows = rows_of(plain, split, embedded=True)
        for number, start in enumerate(range(0, len(rows), len(rows) // parts)):
            file = tmp_path / "hub" / "data" / f"{split}-{number:05d}-of-{parts:05d}.parquet"
            pd.DataFrame(rows[start : start + len(rows) // parts]).to_parquet(file)
    require_same_rows(read(tmp_path / "hub", tmp_path / "out"), plain, tmp_path / "out")


# %% from Python
class Saved:
    """What `run` needs of a `datasets.Dataset`: it becomes a DataFrame, where photographs are structs of bytes and path."""

    def __init__(self, rows: list[dict]) -> None:
        self.rows = rows

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def test_a_dataset_in_memory(plain, tmp_path):
    """Also an installed library's own, which is a mapping of splits: `run(config, **load_dataset(...))`."""
    splits = {split: Saved(rows_of(plain, split, embedded=True)) for split in ("train", "test")}
    config = with_tables(tiny_settings(tmp_path / "out"), **splits)
    require_same_rows(read(Path(config.data_dir), tmp_path / "out"), plain, tmp_path / "out")


def test_a_real_dataset_in_memory_and_on_the_disk(plain, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    saved = datasets.DatasetDict({
        split: datasets.Dataset.from_list(rows_of(plain, split, embedded=True)).cast_column("image", datasets.Image())
        for split in ("train", "test")
    })
    config = with_tables(tiny_settings(tmp_path / "out"), **saved)
    require_same_rows(read(Path(config.data_dir), tmp_path / "out"), plain, tmp_path / "out")
    saved.save_to_disk(tmp_path / "saved")
    require_same_rows(read(tmp_path / "saved", tmp_path / "out"), plain, tmp_path / "out")


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_classes_in_files_are_read_by_their_names(plain, tmp_path, kind):
    """The number of a class is no position: these are sorted as they came."""
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    folder, names = tmp_path / "saved", ["c", "a", "d", "b"]
    folder.mkdir()
    for split in ("train", "test"):
        table = datasets.Dataset.from_list(rows_of(plain, split, embedded=True))
        if split == "train":
            table = table.map(lambda row: {"answer": names.index("abcd"[row["answer"]])})
            table = table.cast_column("answer", datasets.ClassLabel(names=names))
        table.to_parquet(folder / f"{split}.parquet") if kind == "parquet" else table.save_to_disk(folder / split)
    require_same_rows(read(folder, tmp_path / "out"), plain, tmp_path / "out")


def test_an_index_that_pandas_keeps_in_parquet_is_a_column(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (mcvqa[tables])")
    pd.DataFrame({"id": ["x", "y"], "question": ["?", "?"]}).set_index("id").to_parquet(tmp_path / "train.parquet")
    table = read_cells(tmp_path / "train.parquet")
    assert table.header == ["id", "question"] and table.records == [["x", "?"], ["y", "?"]]
