"""Tables in memory are what their files would be."""
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mcvqa.config import Config
from mcvqa.data.frames import with_class_names
from mcvqa.data.images import ImageError, open_image
from mcvqa.data.table import DataError
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.in_memory import with_tables
from mcvqa.run.project import open_project


def data_of(config: Config) -> RunData:
    return read_data(open_project(config))


@pytest.fixture
def frames(dataset) -> dict[str, pd.DataFrame]:
    return {split: pd.read_csv(dataset / f"{split}.csv") for split in ("train", "test")}


def as_pictures(dataset, frame):
    return frame.assign(path=[Image.open(dataset / path) for path in frame["path"]])


def as_bytes(dataset, frame):
    return frame.assign(path=[(dataset / path).read_bytes() for path in frame["path"]])


def as_hub_cells(dataset, frame):
    return frame.assign(path=[{"bytes": (dataset / path).read_bytes(), "path": None} for path in frame["path"]])


@pytest.mark.parametrize("change", [lambda dataset, frame: frame, as_pictures, as_bytes, as_hub_cells])
def test_photographs_may_be_paths_pictures_or_bytes(dataset, frames, tmp_path, change):
    config = Config(data_dir=str(dataset), output_dir=str(tmp_path))
    files = data_of(config)
    found = data_of(with_tables(config, **{split: change(dataset, frame) for split, frame in frames.items()}))
    assert [q.choices for q in found.train] == [q.choices for q in files.train]
    assert [(q.id, q.answer) for q in found.train] == [(q.id, q.answer) for q in files.train]
    assert not found.broken([*found.train, *found.test])
    for one, other in zip(found.test, files.test, strict=True):
        assert one.id == other.id and found.records[one.image].dhash == files.records[other.image].dhash


@pytest.mark.parametrize(("form", "mode", "saved"), [
    ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"exif": 6}), ("JPEG", "L", {"exif": 8}), ("PNG", "RGBA", {"exif": 3}),
    ("TIFF", "F", {}),
])
def test_pictures_in_memory_are_those_of_their_files(frames, tmp_path, form, mode, saved):
    """A phone's picture stands upright, and colors that PNG does not have are converted."""
    exif = Image.Exif()
    exif[274] = saved.get("exif", 1)
    file = tmp_path / f"phone.{form}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 4), dtype=np.uint8)
    flat = Image.fromarray(noise[..., 0])
    (flat.convert(mode) if mode in "LF" else Image.fromarray(noise[..., :3]).convert(mode)).save(file, form, exif=exif)
    config = Config(data_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    tables = {name: frame.head(4).assign(path=[Image.open(file) for _ in range(4)]) for name, frame in frames.items()}
    found = data_of(with_tables(config, **tables))
    assert not found.broken(found.test)
    kept = open_image(found.records[found.test[0].image].path)
    assert np.abs(np.asarray(kept, int) - np.asarray(open_image(file), int)).max() <= 1


def test_a_damaged_picture_in_memory_is_named(frames, tmp_path):
    file = tmp_path / "cut.jpg"
    Image.effect_noise((300, 300), 90).save(file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"cut\.jpg: truncated or damaged"):
        with_tables(Config(output_dir=str(tmp_path)), test=frames["test"].assign(path=[Image.open(file)] * len(frames["test"])))


def test_the_folder_is_named_by_the_content(dataset, frames, tmp_path):
    config = Config(data_dir=str(dataset), output_dir=str(tmp_path))
    first, again = with_tables(config, **frames), with_tables(config, **frames)
    assert first == again != with_tables(config, train=frames["train"][:10], test=frames["test"])


def test_a_photograph_put_in_the_place_of_another_one_is_read(dataset, frames, tmp_path):
    """Its name was known by path and date alone, and the old photograph was linked again."""
    folder, image = shutil.copytree(dataset, tmp_path / "data"), frames["test"]["path"][0]
    config = Config(data_dir=str(folder), output_dir=str(tmp_path / "out"))
    before = data_of(with_tables(config, **frames)).test_print
    other = shutil.copyfile(folder / frames["test"]["path"][1], folder / "other.jpg")
    date = (folder / image).stat().st_mtime_ns
    os.utime(other, ns=(date, date))
    os.replace(other, folder / image)
    assert data_of(with_tables(config, **frames)).test_print != before


def test_paths_that_lead_nowhere_are_refused_with_the_folders_they_are_taken_from(frames, tmp_path):
    with pytest.raises(DataError, match=r"test.*none of its photographs is a file.*data_dir=.*and from the current folder"):
        with_tables(Config(data_dir=str(tmp_path), output_dir=str(tmp_path)), test=frames["test"])


def test_an_index_with_a_name_is_a_column(dataset, frames, tmp_path):
    config = Config(data_dir=str(dataset), output_dir=str(tmp_path))
    found = data_of(with_tables(config, **{split: frame.set_index("id") for split, frame in frames.items()}))
    assert [q.id for q in found.train] == list(frames["train"]["id"]) and [q.id for q in found.test] == list(frames["test"]["id"])


def test_names_of_classes_take_the_place_of_their_numbers():
    """A class's number is no position: `datasets` sorts names as they come."""
    frame = pd.DataFrame({"answer": [0, 2, -1, 1], "other": [0, 1, 2, 3]})
    features = {"answer": {"names": ["c", "a", "b"], "_type": "ClassLabel"}, "other": {"dtype": "int64", "_type": "Value"},
                "choices": [{"dtype": "string", "_type": "Value"}]}
    named = with_class_names(frame, features)
    assert named["answer"].fillna("none").tolist() == ["c", "b", "none", "a"] and named["other"].tolist() == [0, 1, 2, 3]


# %% the library itself, where it is installed
def as_dataset(dataset, split: str, names: list[str], labels: list[int] | None = None, *, embedded: bool = False):
    """The rows as `datasets` keeps them: photographs as an Image, choices in a list, the answer as a class."""
    library = pytest.importorskip("datasets")
    rows = pd.read_csv(dataset / f"{split}.csv", dtype=object).to_dict("records")
    features = {"id": library.Value("string"), "question": library.Value("string"), "image": library.Image(),
                "choices": library.Sequence(library.Value("string")), "answer": library.ClassLabel(names=names)}
    table = library.Dataset.from_list([
        {"id": row["id"], "question": row["question"], "answer": label,
         "choices": [row[letter] for letter in "abcd" if isinstance(row[letter], str)],
         "image": {"path": None, "bytes": (dataset / row["path"]).read_bytes()} if embedded else str(dataset / row["path"])}
        for row, label in zip(rows, labels or [-1] * len(rows), strict=True)
    ], features=library.Features(features))
    return table if split == "train" else table.remove_columns("answer")


def test_classes_are_read_by_their_names(dataset, frames, tmp_path):
    config, train = Config(data_dir=str(dataset), output_dir=str(tmp_path)), frames["train"]
    texts = sorted({*train["a"], *train["b"], *train["c"], *train["d"]})
    right = [row[row["answer"]] for _, row in train.iterrows()]
    counted_from_one = [str("abcd".index(answer) + 1) for answer in train["answer"]]
    for names, written in ((list("cadb"), train["answer"]), (list("1234"), counted_from_one), (texts, right)):
        labels = [names.index(one) for one in written]
        tables = {"train": as_dataset(dataset, "train", names, labels), "test": as_dataset(dataset, "test", names, embedded=True)}
        found = data_of(with_tables(config, **tables))
        assert [q.answer for q in found.train] == ["abcd".index(a) for a in train["answer"]], names
        assert not found.broken([*found.train, *found.test]) and found.test[2].choices == tuple(frames["test"].loc[2, ["a", "b"]])


def test_several_splits_and_streams_are_named_with_what_to_give(dataset, tmp_path):
    library = pytest.importorskip("datasets")
    config, train = Config(output_dir=str(tmp_path)), as_dataset(dataset, "train", list("abcd"))
    with pytest.raises(DataError, match=r"train is a DatasetDict with the splits train, val\. Give each .*train=data\['train'\]"):
        with_tables(config, train=library.DatasetDict(train=train, val=train))
    with pytest.raises(DataError, match=r"train is an IterableDataset.* Give datasets\.Dataset\.from_list\(list\(data\)\)"):
        with_tables(config, train=train.to_iterable_dataset())


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(DataError, match="train is a list; a pandas DataFrame or a"):
        with_tables(Config(output_dir=str(tmp_path)), train=[1, 2])


@pytest.mark.parametrize("columns", [[], ["id", "image", "question", "a", "b"]])
def test_a_table_without_rows_is_named(columns, tmp_path):
    with pytest.raises(DataError, match=r"^test \(in memory\) has no rows\.$"):
        with_tables(Config(output_dir=str(tmp_path)), test=pd.DataFrame(columns=columns))


def test_missing_values_of_any_dtype_are_empty_cells(dataset, frames, tmp_path):
    """pandas.NA, of Int64 and string columns, cannot be compared and ended in a TypeError."""
    train = frames["train"].assign(number=range(len(frames["train"]))).convert_dtypes()
    train.loc[train.index[0], ["answer", "number"]] = pd.NA
    config = Config(data_dir=str(dataset), output_dir=str(tmp_path))
    found = data_of(with_tables(config, train=train, test=frames["test"]))
    assert len(found.train) == len(train) - 1 and "1 row is left out: no answer" in " ".join(found.notes)
