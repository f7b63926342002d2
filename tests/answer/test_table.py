"""A table of new questions: what the file of answers holds, that cut work goes on, and that nothing of a run is overwritten."""
import csv
import json
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mcvqa.answer import table
from mcvqa.answer.answerer import Answer, Answerer
from mcvqa.answer.asked import read_asked
from mcvqa.answer.shown import answer_as_json, answer_with_bars
from mcvqa.answer.table import answer_table
from mcvqa.cli import app
from mcvqa.config import ConfigError
from mcvqa.data.table import DataError
from mcvqa.report.submission import validate_submission
from mcvqa.run.dataset import read_form
from mcvqa.run.project import open_project
from tests.answer.conftest import files_of_run
from tests.answer.test_answerer import predictions_of
from tests.faults import small_disk
from tests.run.test_several_processes import launched
from tests.test_cli import typed


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def new(dataset, tmp_path) -> Path:
    """A folder with the test rows as a table of another name, their photographs, and nothing else."""
    shutil.copytree(dataset / "test", tmp_path / "new" / "test")
    shutil.copy(dataset / "test.csv", tmp_path / "new" / "questions.csv")
    return tmp_path / "new"


# %% what is written
def test_the_rows_of_the_run_get_its_own_answers(trained, answerer, new, tmp_path, capsys):
    before, out = files_of_run(trained), tmp_path / "answers.csv"
    answer_table(answerer, new / "questions.csv", out)
    rows, own = rows_of(out), predictions_of(trained)
    assert list(rows[0]) == ["id", "answer", "prob_a", "prob_b", "prob_c", "prob_d", "photograph"]
    assert [(row["id"], row["answer"]) for row in rows] == [(row["id"], row["answer"]) for row in own]
    for letter in "abcd":
        assert [float(row[f"prob_{letter}"] or 0) for row in rows] == pytest.approx(
            [float(row[f"prob_{letter}"] or 0) for row in own], abs=1e-6)
    assert files_of_run(trained) == before
    assert "9 rows of" in capsys.readouterr().out
    assert not list((answerer.trained.cache / "answers").glob("*")), "what was kept for a cut is gone"


def as_zip(new: Path) -> Path:
    with zipfile.ZipFile(new.parent / "new.zip", "w") as archive:
        for file in sorted(new.rglob("*.*")):
            archive.write(file, file.relative_to(new))
    return new.parent / "new.zip"


def as_jsonl(new: Path) -> Path:
    frame = pd.read_csv(new / "questions.csv", keep_default_na=False)
    frame["choices"] = [[c for c in row if c] for row in frame[[*"abcd"]].to_numpy().tolist()]
    frame.drop(columns=[*"abcd"]).to_json(new / "lines.jsonl", orient="records", lines=True, force_ascii=False)
    return new / "lines.jsonl"


@pytest.mark.parametrize("source", [lambda new: new, as_zip, as_jsonl])
def test_a_folder_an_archive_and_other_tables_hold_the_same_rows(trained, new, tmp_path, source):
    expected = read_asked(new / "questions.csv", trained, tmp_path / "cache")
    asked = read_asked(source(new), trained, tmp_path / "cache")
    assert asked.questions == expected.questions and not any(map(asked.problem, asked.questions))


def test_a_photograph_that_cannot_be_read_is_named_in_its_row(answerer, new, tmp_path, capsys):
    (new / "test/test_0003.jpg").write_bytes(b"no picture at all")
    answer_table(answerer, new / "questions.csv", tmp_path / "answers.csv")
    message = {row["id"]: row["photograph"] for row in rows_of(tmp_path / "answers.csv")}
    assert message.pop("test_0003") == "a text, not a picture" and not any(message.values())
    assert "1 row has no readable photograph and is answered from text alone" in capsys.readouterr().out


def test_a_submission_is_as_a_run_writes_it(trained, answerer, dataset, tmp_path, capsys):
    """In the form of sample_submission.csv, validated; the folder needs no train.csv."""
    data, out = tmp_path / "hidden", tmp_path / "submission.csv"
    shutil.copytree(dataset / "test", data / "test")
    (data / "test.csv").write_bytes((dataset / "test.csv").read_bytes())
    (data / "sample_submission.csv").write_text((dataset / "sample_submission.csv").read_text().replace("id,answer", "ID,label"))
    answer_table(answerer, data, out, submission=True)
    assert list(rows_of(out)[0]) == ["ID", "label"] and "valid: 9 rows" in capsys.readouterr().out
    assert [row["label"] for row in rows_of(out)] == [row["answer"] for row in predictions_of(trained)]
    answer_table(answerer, dataset, out, submission=True)
    assert not validate_submission(out, *read_form(open_project(trained))).problems


@pytest.mark.nightly
def test_ids_that_occur_twice_are_no_submission(answerer, new, tmp_path):
    text = (new / "questions.csv").read_text(encoding="utf-8").replace("test_0001,", "test_0000,")
    (new / "questions.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="1 id more than once"):
        answer_table(answerer, new, tmp_path / "s.csv", submission=True)
    answer_table(answerer, new, tmp_path / "answers.csv")
    assert len(rows_of(tmp_path / "answers.csv")) == 9


@pytest.mark.nightly
def test_answers_are_written_as_the_competition_writes_them(old, tmp_path):
    """A run that answers by position gets positions; one that did not note it gets letters."""
    answerer = Answerer(old, fold=0)
    assert answerer.trained.style == "lower"
    file = Path(old.output_dir) / "experiments/old/data.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"style": "one"}))
    answerer = Answerer(old, fold=0)
    answer_table(answerer, Path(old.data_dir), tmp_path / "answers.csv")
    assert {row["answer"] for row in rows_of(tmp_path / "answers.csv")} <= {"1", "2", "3", "4"}


@pytest.mark.nightly
def test_a_table_with_columns_of_other_names(trained, new, tmp_path):
    frame = pd.read_csv(new / "questions.csv").rename(columns={"path": "snapshot", "question": "asked"})
    frame.to_csv(new / "questions.csv", index=False)
    answerer = Answerer(trained, image_column="snapshot", question_column="asked")
    asked = read_asked(new, answerer.trained.project.config, tmp_path)
    assert len(asked.questions) == 9 and not any(map(asked.problem, asked.questions))


# %% cut off
def test_work_that_was_cut_goes_on(trained, new, tmp_path, monkeypatch):
    """Parts that are there are read, a damaged one is made again, and the answers are those of an uncut call."""
    monkeypatch.setattr(table, "PART_ROWS", 3)
    answerer, asked = Answerer(trained), []
    score = answerer.models.score

    def cut(fold, questions, title):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(questions))
        return score(fold, questions, title)

    monkeypatch.setattr(answerer.models, "score", cut)
    with pytest.raises(KeyboardInterrupt):
        answer_table(answerer, new, tmp_path / "answers.csv")
    assert not (tmp_path / "answers.csv").exists()
    first = min((answerer.trained.cache / "answers").rglob("*.npz"))
    first.write_bytes(first.read_bytes()[:-20])
    monkeypatch.setattr(answerer.models, "score", lambda *args: asked.append(len(args[1])) or score(*args))
    answer_table(answerer, new, tmp_path / "answers.csv")
    assert asked == [3, 3, 3, 3], "the damaged part and the last one"
    own = predictions_of(trained)
    assert [row["answer"] for row in rows_of(tmp_path / "answers.csv")] == [row["answer"] for row in own]


def test_other_rows_get_scores_of_their_own(trained, new, answerer, tmp_path):
    asked = read_asked(new, trained, tmp_path)
    text = (new / "questions.csv").read_text(encoding="utf-8")
    (new / "questions.csv").write_text(text.replace("색은", "색깔은"), encoding="utf-8")
    other = read_asked(new, trained, tmp_path)
    (new / "test/test_0000.jpg").write_bytes((new / "test/test_0001.jpg").read_bytes())
    pictures = read_asked(new, trained, tmp_path)
    assert len({table._key(answerer.trained, rows) for rows in (asked, other, pictures)}) == 3


@pytest.mark.torture
def test_two_processes_answer_as_one(trained, dataset, tmp_path):
    name = str(Path(trained.output_dir) / "experiments/r")
    out, err = launched("answer", name, "--data", str(dataset), "--out", str(tmp_path / "a.csv"))
    assert out.count("9 rows of") == out.count("a.csv: 9 rows") == 1, err
    for row, own in zip(rows_of(tmp_path / "a.csv"), predictions_of(trained), strict=True):
        assert (row["id"], row["answer"]) == (own["id"], own["answer"])
        for letter in "abcd":
            assert float(row[f"prob_{letter}"] or 0) == pytest.approx(float(own[f"prob_{letter}"] or 0), abs=1e-4)
    _, refusal = launched("answer", name, "--data", "nowhere.csv", status=1)
    assert refusal.count("error: There is no nowhere.csv") == 1


# %% refused in one line
def test_nothing_of_a_run_and_no_input_is_overwritten(trained, answerer, new):
    out = Path(trained.output_dir)
    for target in ("outputs/submission_ensemble.csv", "experiments/r/submission.csv", "checkpoints/x.csv", "logs/x.csv"):
        with pytest.raises(ConfigError, match="where runs keep their files"):
            answer_table(answerer, new, out / target)
    with pytest.raises(ConfigError, match="the table itself"):
        answer_table(answerer, new / "questions.csv", new / "questions.csv")
    with pytest.raises(ConfigError, match="is a folder"):
        answer_table(answerer, new / "questions.csv", new)
    for nowhere in (new / "questions.csv" / "x.csv", Path("/dev/null/x.csv")):  # before an hour of answering, not after it
        with pytest.raises(ConfigError, match=r"x\.csv cannot be written \(Not a directory\): name another file"):
            answer_table(answerer, new / "questions.csv", nowhere)


def without_choices(new: Path) -> Path:
    pd.read_csv(new / "questions.csv")[["id", "path", "question"]].to_csv(new / "questions.csv", index=False)
    return new / "questions.csv"


def two_tables(new: Path) -> Path:
    shutil.copy(new / "questions.csv", new / "more.csv")
    return new


def no_table(new: Path) -> Path:
    (new / "questions.csv").unlink()
    return new


def no_photographs(new: Path) -> Path:
    shutil.rmtree(new / "test")
    return new


@pytest.mark.parametrize(("spoil", "message"), [
    (without_choices, "has no choice columns"), (two_tables, r"several tables: more\.csv, questions\.csv"),
    (no_table, "holds no table"), (no_photographs, "9 of 9 photographs .* cannot be read"),
    (lambda new: new / "nowhere.csv", "There is no .*nowhere"), (lambda new: new / "test/test_0000.jpg", "neither a table nor"),
])
def test_tables_that_cannot_be_answered(answerer, new, tmp_path, spoil, message):
    with pytest.raises(DataError, match=message):
        answer_table(answerer, spoil(new), tmp_path / "answers.csv")
    assert not (tmp_path / "answers.csv").exists()


# %% the command
def command(trained, *words: str, status: int = 0) -> str:
    return typed("answer", str(Path(trained.output_dir) / "experiments/r"), *words, status=status)


def answered(trained, *words: str) -> list[str]:
    """The lines of standard output, which hold no progress bars."""
    return CliRunner().invoke(app, ["answer", str(Path(trained.output_dir) / "experiments/r"), *words]).stdout.splitlines()


@pytest.mark.nightly
def test_a_question_is_answered_with_bars_or_json(trained, dataset):
    photograph = str(dataset / "test/test_0000.jpg")
    asked = ("--image", photograph, "--question", "What color is it?", "--choices", "red", "--choices", "파란색")
    first, _, *bars = answered(trained, *asked)[-4:]
    assert first in ("a: red", "b: 파란색") and [bar.split()[0] for bar in bars] == ["a", "b"]
    found = json.loads(answered(trained, *asked, "--json")[-1])
    assert found["choices"] == {"a": "red", "b": "파란색"} and found["letter"] == first[0]
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_bars_are_as_long_as_the_probabilities():
    answer = Answer("파란색", "b", (0.25, 0.75))
    first, _, red, blue = answer_with_bars(answer, ["red", "파란색"]).splitlines()
    assert first == "b: 파란색" and "25.0%" in red and "75.0%" in blue
    assert (red.count("█"), blue.count("█")) == (8, 22)
    assert red.index("█") - blue.index("█") == 3, "three characters that take two columns each"
    long = answer_with_bars(Answer("x" * 99, "a", (1.0, 0.0)), ["x" * 99, "a\nb\x1b[2J"]).splitlines()
    assert "x" * 39 + "…" in long[2] and r"a\nb\x1b[2J" in long[3]
    assert "\n" not in answer_as_json(answer, ["red", "파란색"])


@pytest.mark.nightly
def test_a_table_is_answered_by_the_command(trained, dataset, tmp_path):
    said = command(trained, "--data", str(dataset), "--out", str(tmp_path / "a.csv"), "--fold", "0", "--set", "use_tta=false")
    assert "answered by fold 0 of r" in said and len(rows_of(tmp_path / "a.csv")) == 9


MISTAKES = {
    "nothing to answer": ((), "There is nothing to answer"),
    "both": (("--data", "x.csv", "--image", "x.jpg"), "Give either --data or one question (--image), not both"),
    "a file for one answer": (
        ("--image", "x.jpg", "--question", "?", "--choices", "a", "--choices", "b", "--out", "a.csv"),
        "--out and --submission are for a table of questions"),
    "no choices": (("--image", "x.jpg", "--question", "?"), "One question needs --choices too"),
    "one choice": (("--image", "{photograph}", "--question", "?", "--choices", "red"), "2 to 26 choices, not 1"),
    "no photograph": (("--image", "x.jpg", "--question", "?", "--choices", "a", "--choices", "b"), "x.jpg: no such file"),
    "no such fold": (("--data", "x.csv", "--fold", "5"), "There is no fold 5"),
    "no such table": (("--data", "x.csv"), "There is no x.csv"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_said_in_one_line(trained, dataset, mistake):
    words, message = MISTAKES[mistake]
    photograph = str(dataset / "test/test_0000.jpg")
    said = command(trained, *(photograph if word == "{photograph}" else word for word in words), status=1)
    assert said.count("error: ") == 1 and message in said and "Traceback" not in said


@pytest.mark.nightly
def test_no_such_run_and_a_full_disk(trained, dataset, tmp_path):
    assert "There is no run 'nowhere'" in typed("answer", "nowhere", "--data", str(dataset), status=1)
    full = tmp_path / "small"
    with small_disk(full, "16k"):
        with pytest.raises(OSError, match="No space left"):
            (full / "filler").write_bytes(b"x" * 2**15)
        said = command(trained, "--data", str(dataset), "--out", str(full / "answers.csv"), status=1)
        assert "The disk is full" in said and not (full / "answers.csv").exists()
