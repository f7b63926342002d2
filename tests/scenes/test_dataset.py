"""The generated data set has the competition's format, is the same for a seed, and never overwrites anybody's data."""
import csv
import hashlib
from collections import Counter

import pytest

from mcvqa.scenes.dataset import generate_demo


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_demo_has_the_format_of_the_competition(tmp_path):
    generate_demo(tmp_path, 70, 30, 42, size=64)
    train, test = table(tmp_path / "train.csv"), table(tmp_path / "test.csv")
    assert [*train[0]] == ["id", "path", "question", "a", "b", "c", "d", "answer"] and [*test[0]] == [*train[0]][:-1]
    assert (len(train), len(test)) == (70, 30)
    assert all(row[row["answer"]] and (tmp_path / row["path"]).is_file() for row in train)
    assert not {row["path"] for row in train} & {row["path"] for row in test}
    assert {sum(bool(row[c]) for c in "abcd") for row in train} == {2, 3, 4}
    full = Counter(row["answer"] for row in train if row["d"])
    assert max(full.values()) - min(full.values()) <= 1 and len(full) == 4
    ids = [row["id"] for row in test]
    for name in ("sample_submission.csv", "test_answers.csv"):
        assert [row["id"] for row in table(tmp_path / name)] == ids


def test_demo_is_the_same_again_and_made_once(tmp_path):
    generate_demo(tmp_path / "a", 20, 8, 1, size=64)
    generate_demo(tmp_path / "b", 20, 8, 1, size=64)
    for file in ("train.csv", "test.csv", "test_answers.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    before = (tmp_path / "a/train.csv").stat().st_mtime_ns
    generate_demo(tmp_path / "a", 20, 8, 1, size=64)
    assert (tmp_path / "a/train.csv").stat().st_mtime_ns == before
    generate_demo(tmp_path / "a", 8, 4, 2, size=64, style="shifted")
    pictures = {row["path"] for split in ("train", "test") for row in table(tmp_path / "a" / f"{split}.csv")}
    assert {f"{p.parent.name}/{p.name}" for p in (tmp_path / "a").glob("t*/*.png")} == pictures


def test_demo_never_overwrites_real_data(tmp_path):
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="empty folder"):
        generate_demo(tmp_path, 8, 4, 1)
    assert (tmp_path / "train.csv").read_text() == "mine"


def test_a_seed_gives_the_rows_that_it_always_gave(tmp_path):
    """Accuracies of earlier versions are compared with today's on these rows: what changes them raises SCENES_VERSION."""
    generate_demo(tmp_path, 60, 20, 42, size=64, style="shifted")
    digest = hashlib.sha256()
    for name in ("train.csv", "test.csv", "test_answers.csv"):
        digest.update((tmp_path / name).read_bytes())
    assert digest.hexdigest() == "fd2d07fe53686eca639b221b208ff1ef9fe185aa931caeb213b5806e8f82a9d1"
