"""Which photograph a row means, where folders, archives and splits use the same names."""
import zipfile
from pathlib import Path

import pytest

from mcvqa.data.image_paths import SplitRows, find_photographs
from mcvqa.data.images import ImageError
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError


def lay(root: Path, *names: str) -> Path:
    """Files that hold their own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def pack(archive: Path, *names: str) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.writestr(name, f"{archive.name}:{name}")


def meant(root: Path, train: list[str], test: list[str], files=("train.csv", "test.csv")) -> tuple[list[str], ...]:
    """What the files named by train.csv and by test.csv hold ('-': none), and what was said."""
    tables = [
        SplitRows(split, root / file, tuple(Question(str(i), path, "?", ("x", "y")) for i, path in enumerate(paths)))
        for split, file, paths in (("train", files[0], train), ("test", files[1], test))
    ]
    folder, placed, notes = find_photographs(root, tables, root.parent / "cache")

    def content(path: str) -> str:
        try:
            return folder.find(path).read_text()
        except ImageError:
            return "-"

    return *([content(q.image) for q in table.questions] for table in placed), notes


def test_each_split_has_its_own_folder_for_the_same_names(tmp_path):
    root = lay(tmp_path / "data", "train/0.jpg", "train/1.jpg", "test/0.jpg", "test/1.jpg")
    train, test, notes = meant(root, ["0.jpg", "1.jpg"], ["0.jpg", "1"])
    assert train == ["train/0.jpg", "train/1.jpg"] and test == ["test/0.jpg", "test/1.jpg"]
    assert notes == ["train.csv: the image paths of 2 rows point into train/ (they are absolute, or exist in several folders)",
                     "test.csv: the image paths of 2 rows point into test/ (they are absolute, or exist in several folders)"]


@pytest.mark.parametrize("names", [("Train_images/0.jpg", "Test_images/0.jpg"), ("images/train/0.jpg", "images/test/0.jpg")])
def test_folders_that_are_named_like_the_split(tmp_path, names):
    root = lay(tmp_path / "data", *names)
    assert meant(root, ["0.jpg"], ["0.jpg"])[:2] == ([names[0]], [names[1]])


def test_beside_its_table(tmp_path):
    root = lay(tmp_path / "data", "a/0.jpg", "b/0.jpg", "a/images/1.jpg", "b/images/1.jpg")
    train, test, _ = meant(root, ["0.jpg", "images/1.jpg"], ["0.jpg", "images/1.jpg"], files=("a/train.csv", "b/test.csv"))
    assert train == ["a/0.jpg", "a/images/1.jpg"] and test == ["b/0.jpg", "b/images/1.jpg"]


def test_what_is_written_from_the_data_folder_comes_first(tmp_path):
    root = lay(tmp_path / "data", "0.jpg", "train/0.jpg", "train/train/1.jpg", "train/1.jpg")
    train, test, notes = meant(root, ["0.jpg", "train/1.jpg"], ["0.jpg"], files=("train/train.csv", "test.csv"))
    assert train == ["0.jpg", "train/1.jpg"] and test == ["0.jpg"] and notes == []


@pytest.mark.parametrize("path", ["train/0.jpg", "0.jpg", "TRAIN\\0", " train/0.jpg ", "0"])
def test_paths_that_were_found_before_are_kept_as_written(tmp_path, path):
    """A trained run's rows must not change: they are part of its keys."""
    root = lay(tmp_path / "data", "train/0.jpg", "test/9.jpg")
    table = SplitRows("train", root / "train.csv", (Question("1", path, "?", ("x", "y")),))
    folder, (placed,), notes = find_photographs(root, [table], tmp_path / "cache")
    assert placed == table and notes == [] and folder.find(path).read_text() == "train/0.jpg"


def test_a_missing_photograph_is_not_that_of_the_other_split(tmp_path):
    root = lay(tmp_path / "data", "train/0.jpg", "test/0.jpg", "test/1.jpg", "images/2.jpg", "train/3.jpg")
    train, test, _ = meant(root, ["0.jpg", "1.jpg", "2.jpg"], ["0.jpg", "1.jpg", "2.jpg", "3.jpg"])
    assert train == ["train/0.jpg", "-", "images/2.jpg"], "1.jpg is named by both and there for one"
    assert test == ["test/0.jpg", "test/1.jpg", "images/2.jpg", "train/3.jpg"], "one that only this table names may be anywhere"


def test_two_folders_that_could_be_meant_are_not_chosen_from(tmp_path):
    root = lay(tmp_path / "data", "train_images/0.jpg", "train_masks/0.jpg", "train_masks/1.jpg")
    assert meant(root, ["0.jpg", "1.jpg"], [])[0] == ["-", "train_masks/1.jpg"]


def test_absolute_paths_inside_the_data_folder(tmp_path, monkeypatch):
    root = lay(tmp_path / "data", "train/0.jpg", "test/0.jpg")
    lay(tmp_path, "secret.jpg")
    (tmp_path / "door").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    written = [f"{root}/train/0.jpg", f"{tmp_path}/secret.jpg", f"{root}/../secret.jpg", f"{tmp_path}/door/train/0.jpg"]
    assert meant(tmp_path / "door", written, [])[0] == ["train/0.jpg", "-", "-", "train/0.jpg"]
    train, _, notes = meant(Path("data"), written[:2], [])
    assert train == ["train/0.jpg", "-"]
    assert notes == ["train.csv: the image paths of 1 row point into train/ (they are absolute, or exist in several folders)"]


def test_paths_that_another_folder_was_meant_by(tmp_path):
    """`../input/...`, as notebooks have it, is the file of that name in the data folder; nothing outside is ever opened."""
    root = lay(tmp_path / "data", "train/0.jpg", "test/0.jpg")
    lay(tmp_path, "secret.jpg", "input/x/train/9.jpg")
    written = ["../input/x/train/0.jpg", "../train/0.jpg", "../secret.jpg", "../input/x/train/9.jpg", "train/../../secret.jpg"]
    assert meant(root, written, ["../input/x/test/0.jpg"])[:2] == (["train/0.jpg", "train/0.jpg", "-", "-", "-"], ["test/0.jpg"])


@pytest.mark.parametrize(("archives", "train", "test"), [
    ({"train.zip": ["0.jpg", "1.jpg"], "test.zip": ["0.jpg"]}, ["0.jpg", "1.jpg"], ["0.jpg"]),
    ({"train.zip": ["0.jpg", "1.jpg"], "test.zip": ["0.jpg"]}, ["train/0.jpg", "1"], ["test/0.jpg"]),
    ({"train.zip": ["train/0.jpg", "train/1.jpg"], "vqa-test.zip": ["test/0.jpg"]}, ["train/0.jpg", "1.jpg"], ["test/0.jpg"]),
    ({"images.zip": ["train/0.jpg", "train/1.jpg", "test/0.jpg"]}, ["train/0.jpg", "1.jpg"], ["0.jpg"]),
    ({"images.zip": ["images/train/0.jpg", "images/train/1.jpg", "images/test/0.jpg"]}, ["0.jpg", "1.jpg"], ["test/0.jpg"]),
])
def test_photographs_in_archives_beside_the_tables(tmp_path, archives, train, test):
    root = lay(tmp_path / "data", "train.csv")
    for archive, names in archives.items():
        pack(root / archive, *names)
    found, other, notes = meant(root, train, test)
    assert [text.rpartition("/")[2].rpartition(":")[2] for text in (*found, *other)] == ["0.jpg", "1.jpg", "0.jpg"]
    assert all("train" in text for text in found) and all("test" in text for text in other)
    assert sum("is unpacked in" in note for note in notes) == len(archives)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    assert meant(root, train, test)[:2] == (found, other)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}, "once"


def test_archives_are_left_alone_where_nothing_of_theirs_is_missing(tmp_path):
    root = lay(tmp_path / "data", "train/0.jpg")
    pack(root / "all.zip", "train/0.jpg", "train.csv")
    (root / "broken.zip").write_text("PK")
    assert meant(root, ["train/0.jpg", "train/gone.jpg"], [])[:1] == (["train/0.jpg", "-"],)
    assert not (tmp_path / "cache").exists()


def test_photographs_that_are_there_stay_those_of_the_folder(tmp_path):
    root = lay(tmp_path / "data", "train/0.jpg")
    pack(root / "train.zip", "0.jpg", "1.jpg")
    assert meant(root, ["train/0.jpg", "train/1.jpg"], [])[0] == ["train/0.jpg", "train.zip:1.jpg"]


def test_an_archive_that_cannot_be_trusted_is_refused(tmp_path):
    root = lay(tmp_path / "data", "train.csv")
    pack(root / "train.zip", "0.jpg", "../1.jpg")
    with pytest.raises(DataError, match="outside"):
        meant(root, ["0.jpg"], [])
