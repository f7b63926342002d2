"""Tables in memory are what their files would be."""
import pandas as pd
import pytest
from PIL import Image

from mcvqa.config import Config
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


def test_the_folder_is_named_by_the_content(dataset, frames, tmp_path):
    config = Config(data_dir=str(dataset), output_dir=str(tmp_path))
    first, again = with_tables(config, **frames), with_tables(config, **frames)
    assert first == again != with_tables(config, train=frames["train"][:10], test=frames["test"])


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(DataError, match="train is a list; a pandas DataFrame or a"):
        with_tables(Config(output_dir=str(tmp_path)), train=[1, 2])
