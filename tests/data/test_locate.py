"""Data folders as Kaggle, Colab and people lay them out, and archives that cannot be trusted."""
import re
import stat
import zipfile
from pathlib import Path

import pytest

from mcvqa.data.locate import DataFiles, find_data, missing_table, unpack_archive, unread_sample
from mcvqa.data.table import DataError

NO_KAGGLE = Path("/there/is/no/kaggle/here")


def lay(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("id\n")
    return folder


def archive(path: Path, entries: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("inside", ["", "vqa-challenge", "competitions/vqa-challenge", "datasets/owner/vqa/vqa"])
def test_layouts(tmp_path: Path, inside: str) -> None:
    root = lay(tmp_path / "data" / inside, "train.csv", "Test.csv", "sampleSubmission.csv", "train/1.jpg")
    found = find_data(tmp_path / "data", tmp_path / "cache", NO_KAGGLE)
    assert found.root == root and found.train == root / "train.csv" and found.test == root / "Test.csv"
    assert found.sample_submission == root / "sampleSubmission.csv" and found.dev is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["sample-submission.csv", "submission_sample.csv", "Submission_Format.csv"])
def test_samples_under_other_usual_names(tmp_path: Path, name: str) -> None:
    root = lay(tmp_path, "train.csv", "test.csv", "valid.csv", name)
    found = find_data(root, tmp_path / "cache", NO_KAGGLE)
    assert found.sample_submission == root / name and found.dev == root / "valid.csv"


@pytest.mark.parametrize(("name", "seen"), [
    ("sample_submission (1).csv", True), ("submission.csv", True), ("제출양식.csv", True),
    ("submission.ipynb", False), ("notes.csv", False),
])
def test_a_sample_whose_name_is_not_understood_is_noticed(tmp_path: Path, name: str, seen: bool) -> None:
    assert unread_sample(lay(tmp_path, "train.csv", name)) == (name if seen else "")


def test_the_demo_is_never_taken_for_the_users_data(tmp_path: Path) -> None:
    lay(tmp_path / "data", "demo/train.csv", "demo/test.csv")
    with pytest.raises(DataError, match=r"no train\.csv or test\.csv .*it holds: demo"):
        find_data(tmp_path / "data", tmp_path / "cache", NO_KAGGLE)
    assert find_data(tmp_path / "data" / "demo", tmp_path / "cache").train


def test_each_split_in_a_folder_of_its_own(tmp_path: Path) -> None:
    lay(tmp_path / "data", "train/train.csv", "train/0.jpg", "test/test.csv", "test/sample_submission.csv", "val/dev.csv")
    for given in ("data", "data/train", "data/train/train.csv", "data/test/test.csv"):
        found = find_data(tmp_path / given, tmp_path / "cache", NO_KAGGLE)
        assert found == DataFiles(
            tmp_path / "data", tmp_path / "data/train/train.csv", tmp_path / "data/test/test.csv", tmp_path / "data/val/dev.csv",
            tmp_path / "data/test/sample_submission.csv",
        )


@pytest.mark.parametrize(("names", "train", "test"), [
    (["train.csv", "test/test.csv"], "train.csv", "test/test.csv"),
    (["Train_data/train.csv", "test.csv"], "Train_data/train.csv", "test.csv"),
    (["train.csv.gz", "test.parquet"], "train.csv.gz", "test.parquet"),
    (["train.jsonl", "test.xlsx", "train.txt"], "train.txt", "test.xlsx"),
    (["TRAIN.TSV", "test.json"], "TRAIN.TSV", "test.json"), (["train.csv.zip", "test.csv.zip"], "train.csv.zip", "test.csv.zip"),
    (["train.csv.bz2", "test.jsonl.xz"], "train.csv.bz2", "test.jsonl.xz"),
    (["train.ndjson", "test.feather"], "train.ndjson", "test.feather"),
    (["train/metadata.jsonl", "test/metadata.csv"], "train/metadata.jsonl", "test/metadata.csv"),
    (["train.csv", "train.parquet", "test.tsv", "test.csv"], "train.csv", "test.csv"),
    (["train.csv", "lists/train.txt", "lists/test.txt"], "train.csv", None),
    (["a/train.csv", "lists/train.txt"], "a/train.csv", None),
])
def test_names_and_kinds_of_tables(tmp_path: Path, names: list[str], train: str, test: str | None) -> None:
    found = find_data(lay(tmp_path / "data", *names), tmp_path / "cache", NO_KAGGLE)
    assert found.train == tmp_path / "data" / train and found.test == (test and tmp_path / "data" / test)


def test_a_table_means_its_folder(tmp_path: Path) -> None:
    root = lay(tmp_path / "data", "train.csv", "test.csv", "other/train.csv")
    assert find_data(root / "train.csv", tmp_path / "cache") == find_data(root, tmp_path / "cache")
    lay(tmp_path, "questions.csv", "data.tar.gz", "quiz.rar")
    for name, kind in (("data.tar.gz", "a tar archive"), ("quiz.rar", "a RAR archive")):
        with pytest.raises(DataError, match=rf"'{name}' is {kind}: unpack it") as error:
            find_data(tmp_path / name, tmp_path / "cache")
        assert "rename" not in str(error.value)
    with pytest.raises(DataError, match=r"neither a folder nor a \.zip archive\. There is 'questions\.csv': the file name"):
        find_data(tmp_path / "questions.csv", tmp_path / "cache")


@pytest.mark.parametrize(("names", "message"), [
    (["train (1).csv", "readme.txt"], r"There is 'train \(1\)\.csv': the file name is not recognized.*\.parquet.*rename it"),
    (["train.ods", "test.ods"], r"'test\.ods' is an OpenDocument table \(\.ods\): save.*; 'train\.ods' is an OpenDocument"),
    (["train.numbers"], r"'train\.numbers' is a Numbers document: export it"),
    (["data.xls"], r"'data\.xls' is an old Excel file"),
    (["train.csv.7z"], r"'train\.csv\.7z' is a 7z archive: unpack it"),
    (["train.pkl"], r"'train\.pkl' is a pickle, which can run"),
    (["data.tar.gz"], r"'data\.tar\.gz' is a tar archive: unpack it and name the folder.*only \.zip"),
    (["vqa/images.tgz"], r"images\.tgz' is a tar archive"), (["data.rar"], "data.rar' is a RAR archive"),
    (["a.7z"], "a.7z' is a 7z archive"),
    (["data.zip.001", "data.zip.002"], r"data\.zip\.001' is one part of an archive"),
    (["data.egg"], "data.egg' is an ALZip archive"),
    (["train.xls", "data.csv"], r"'train\.xls' is an old Excel file \(\.xls\), or one with a password: save it as \.xlsx"),
    (["my_training.csv.txt"], r"There is 'my_training\.csv\.txt': the file name"),
    ([f"train_{i}.json" for i in range(12)], r"There are 12 such files, first 'train_0\.json': put all rows into one table"),
    (["vqa/quiz.jsonl", "vqa/1.jpg"], r"There is 'quiz\.jsonl': the file name"),
])
def test_a_near_miss_is_named_and_no_other_folder_is_asked_for(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        find_data(lay(tmp_path / "data", *names), tmp_path / "cache", NO_KAGGLE)
    assert "right folder" not in str(error.value)


def test_a_near_miss_counts_where_the_photographs_are_in_archives(tmp_path: Path) -> None:
    root = lay(tmp_path / "data", "train (1).csv", "Test data.csv")
    for name in ("train.zip", "test.zip"):
        archive(root / name, {"0.jpg": "x"})
    with pytest.raises(DataError, match=r"There is 'Test data\.csv', 'train \(1\)\.csv': the file name"):
        find_data(root, tmp_path / "cache", NO_KAGGLE)


def test_what_is_missing_beside_the_other_table(tmp_path: Path) -> None:
    root = lay(tmp_path, "train (1).csv", "test.tsv", "notes.csv")
    assert find_data(root, tmp_path / "cache").train is None
    message = str(missing_table(root, "train"))
    assert re.search(r"has no train\.csv\. There is 'train \(1\)\.csv': the file name.* to train\.csv", message)
    assert str(missing_table(root, "test")).endswith("Expected: train.csv with answers and test.csv without.")


def test_several_folders_are_listed(tmp_path: Path) -> None:
    lay(tmp_path, "2024/train.csv", "2025/test.csv")
    with pytest.raises(DataError, match=r"2024\n.*2025\nName one"):
        find_data(tmp_path, tmp_path / "cache")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no .*typo.*train\.csv, test\.csv and photographs"):
        find_data(tmp_path / "typo", tmp_path / "cache", lay(tmp_path / "kaggle", "x/train.csv"))


def test_kaggle_input_serves_auto_and_an_empty_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kaggle = lay(tmp_path / "kaggle" / "input", "vqa/train.csv")
    assert find_data("auto", tmp_path / "cache", kaggle).root == kaggle / "vqa"
    assert find_data("data", tmp_path / "cache", kaggle).root == kaggle / "vqa"
    lay(tmp_path / "data", "README.md", "demo/train.csv")
    assert find_data("data", tmp_path / "cache", kaggle).root == kaggle / "vqa"
    lay(tmp_path / "data", "train.csv")
    assert find_data("data", tmp_path / "cache", kaggle).root == Path("data")
    with pytest.raises(DataError, match="no /there/is"):
        find_data("auto", tmp_path / "cache", NO_KAGGLE)


def test_archive_is_unpacked_once_per_content(tmp_path: Path) -> None:
    entries: dict[str, bytes | str] = {"vqa/train.csv": "id\n", "vqa/train/1.jpg": b"x", "__MACOSX/._train.csv": "y"}
    packed = archive(tmp_path / "data" / "vqa.zip", entries)
    found = find_data(tmp_path / "data", tmp_path / "cache", NO_KAGGLE)
    assert found.train and found.train.read_text() == "id\n" and (found.root / "train" / "1.jpg").read_bytes() == b"x"
    assert not list(found.root.parent.glob("__MACOSX"))
    found.train.write_text("mine")
    assert find_data(packed, tmp_path / "cache").train.read_text() == "mine"  # type: ignore[union-attr]
    archive(packed, entries | {"vqa/train.csv": "id,path\n"})
    assert find_data(packed, tmp_path / "cache").train.read_text() == "id,path\n"  # type: ignore[union-attr]


def test_several_archives_are_listed(tmp_path: Path) -> None:
    archive(tmp_path / "a.zip", {"train.csv": ""})
    archive(tmp_path / "b.zip", {"train.csv": ""})
    with pytest.raises(DataError, match=r"several archives.*\n.*a\.zip\n.*b\.zip"):
        find_data(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("name", ["../x.csv", "vqa/../../x.csv", "/etc/x.csv", "C:/x.csv", "..\\x.csv"])
def test_entries_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    packed = archive(tmp_path / "evil.zip", {"train.csv": "id", name: "gotcha"})
    with pytest.raises(DataError, match="outside"):
        unpack_archive(packed, tmp_path / "cache")
    assert [path.name for path in tmp_path.rglob("*")] == ["evil.zip"]


def test_links_in_archives(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(DataError, match="link"):
        unpack_archive(tmp_path / "evil.zip", tmp_path / "cache")


def test_zip_bomb(tmp_path: Path) -> None:
    packed = archive(tmp_path / "bomb.zip", {"train.csv": b"0" * (120 * 2**20)})
    with pytest.raises(DataError, match="times as much"):
        unpack_archive(packed, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_damaged_archives_leave_nothing_behind(tmp_path: Path) -> None:
    packed = archive(tmp_path / "vqa.zip", {"train.csv": "id\n" * 1000})
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="Download it again"):
        unpack_archive(packed, tmp_path / "cache")
    packed.write_bytes(whole[:40] + bytes([whole[40] ^ 255]) + whole[41:])
    with pytest.raises(DataError, match="Download it again"):
        unpack_archive(packed, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_korean_names_of_windows_archives(tmp_path: Path) -> None:
    packed = archive(tmp_path / "vqa.zip", {"train/xxxx.jpg": b"1", "train.csv": "id"})
    packed.write_bytes(packed.read_bytes().replace(b"xxxx", "사진".encode("cp949")))
    assert (unpack_archive(packed, tmp_path / "cache") / "train" / "사진.jpg").read_bytes() == b"1"
