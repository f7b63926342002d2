import csv
import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcvqa.data.answers import LETTERS, SUBMISSION_STYLES, find_convention
from mcvqa.data.questions import Question
from mcvqa.report.submission import PLAIN_FORM, SubmissionError, SubmissionForm, find_form, validate_submission, write_submission


def questions(n=12, n_choices=4):
    return [Question(f"test_{i:04d}", f"{i}.jpg", "?", tuple("wxyz"[:n_choices])) for i in range(n)]


def written(tmp_path, content):
    path = tmp_path / "submission.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def good_lines(rows):
    return ["id,answer", *(f"{q.id},{LETTERS[i % 4]}" for i, q in enumerate(rows))]


def problems(tmp_path, lines, rows, form=PLAIN_FORM):
    return " ".join(validate_submission(written(tmp_path, "\n".join(lines) + "\n"), rows, form).problems)


def test_what_is_written_is_valid(tmp_path):
    rows, path = questions(), tmp_path / "outputs" / "submission.csv"
    write_submission(path, rows, np.arange(12) % 4)
    assert path.read_bytes() == ("\n".join(good_lines(rows)) + "\n").encode()
    report = validate_submission(path, rows)
    assert (report.rows, report.distribution, report.problems) == (12, dict.fromkeys("abcd", 3), ())
    assert "12 rows" in str(report) and "a: 3 (25.0%)" in str(report)
    assert [p.name for p in path.parent.iterdir()] == ["submission.csv"]


@pytest.mark.parametrize("bad", [4, -1, 26, 1.5, float("nan"), None])
def test_a_choice_the_row_does_not_have_is_refused_and_the_old_file_stays(tmp_path, bad):
    rows, path = questions(), written(tmp_path, "old")
    with pytest.raises(SubmissionError, match=r"row 5 \(test_0003\)"):
        write_submission(path, rows, [0, 0, 0, bad, *[0] * 8])
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_what_is_wrong_is_said_line_by_line(tmp_path):
    expected = str(validate_submission(written(tmp_path, "id,answer\ntest_0000,e\n"), questions(2)))
    assert expected.startswith("NOT valid:\n  - ") and "test_0001" in expected


def test_the_wrong_number_of_predictions_is_refused(tmp_path):
    with pytest.raises(SubmissionError, match="11 predictions for 12"):
        write_submission(tmp_path / "s.csv", questions(), [0] * 11)
    assert not list(tmp_path.iterdir())


def test_letters_are_those_of_the_row(tmp_path):
    rows = [*questions(2), Question("two", "", "", ("x", "y"))]
    assert "row 4 (two) 'c'" in problems(tmp_path, ["id,answer", "test_0000,d", "test_0001,a", "two,c"], rows)


FAULTS = {
    "order": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "not in the order.*row 2 has test_0001"),
    "row missing": (lambda lines: lines[:-1], "11 rows, the test set 12.*Missing ids: 1: test_0011"),
    "row twice": (lambda lines: [*lines, lines[1]], "13 rows.*Duplicate ids: 1: test_0000"),
    "row replaced": (lambda lines: [*lines[:-1], lines[1]], "Missing ids: 1: test_0011.*Duplicate ids: 1: test_0000"),
    "unknown id": (lambda lines: [*lines[:-1], "new,a"], "not in the test set: 1: new"),
    "upper case": (lambda lines: [lines[0], lines[1].replace(",a", ",A"), *lines[2:]], r"row 2 \(test_0000\) 'A'"),
    "empty answer": (lambda lines: [*lines[:-1], "test_0011,"], r"row 13 \(test_0011\) ''"),
    "space": (lambda lines: [*lines[:-1], "test_0011, d"], r"row 13 .* ' d'"),
    "two letters": (lambda lines: [*lines[:-1], "test_0011,ab"], r"row 13 .* 'ab'"),
    "header names": (lambda lines: ["ID,Answer", *lines[1:]], "first line must be 'id,answer'"),
    "no header": (lambda lines: lines[1:], "first line must be"),
    "columns swapped": (lambda lines: ["answer,id", *lines[1:]], "first line must be"),
    "index column": (lambda lines: [f"{i or ''},{line}" for i, line in enumerate(lines)], "index=False"),
    "semicolons": (lambda lines: [line.replace(",", ";") for line in lines], "first line must be"),
    "third cell": (lambda lines: [*lines[:-1], "test_0011,a,b"], "Rows that do not have 2 cells: 1: row 13"),
    "blank line": (lambda lines: [*lines[:3], "", *lines[3:]], "Rows that do not have 2 cells: 1: row 4"),
    "open quote": (lambda lines: [*lines[:-1], '"test_0011,a'], "not a CSV table"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_by_row(tmp_path, fault):
    change, message = FAULTS[fault]
    rows = questions()
    assert not problems(tmp_path, good_lines(rows), rows)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problems(tmp_path, change(good_lines(rows)), rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\ufeffid,answer\n".encode(), "byte order mark"),
        ("id,answer\n가,a\n".encode("cp949"), "UTF-8"),
        ("id,answer\n".encode("utf-16"), "UTF-8"),
        (b"", "first line must be"),
    ],
)
def test_encodings(tmp_path, content, message):
    assert message in " ".join(validate_submission(written(tmp_path, content), questions()).problems)


def test_a_missing_file_is_a_problem(tmp_path):
    assert "none.csv cannot be read" in validate_submission(tmp_path / "none.csv", questions()).problems[0]


def test_only_ten_rows_are_named(tmp_path):
    rows = questions(40)
    found = problems(tmp_path, ["id,answer", *(f"{q.id},x" for q in rows)], rows)
    assert "40: row 2" in found and "row 11 (test_0009) 'x', ..." in found and "test_0010" not in found


# %% the competition's form
LOWER, UPPER, ONE = (find_convention([(answer, ("w", "x", "y", "z"))] * 2) for answer in ("a", "A", "4"))
SPELT = find_convention([(f"{n}번", ("w", "x", "y", "z")) for n in (1, 4)])


def sample_file(tmp_path, lines, encoding="utf-8"):
    path = tmp_path / "sample_submission.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def lines_written(tmp_path, rows, form):
    write_submission(tmp_path / "s.csv", rows, np.arange(len(rows)) % 4, form)
    return (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("header", ["ID,label", "label,ID"])
def test_the_sample_s_header_is_used(tmp_path, header):
    rows = questions()
    sample = [header, *(f"{q.id},a" if header[0] == "I" else f"a,{q.id}" for q in rows)]
    form = find_form(rows, sample_file(tmp_path, sample), LOWER)
    lines = [f"{q.id},{'abcd'[i % 4]}" if header[0] == "I" else f"{'abcd'[i % 4]},{q.id}" for i, q in enumerate(rows)]
    assert lines_written(tmp_path, rows, form) == [header, *lines] and not form.notes
    assert "first line must be" in problems(tmp_path, good_lines(rows), rows, form)


@pytest.mark.parametrize(
    ("sample", "train", "style", "said"),
    [
        ("aaaa", LOWER, "lower", ""), ("AAAA", UPPER, "upper", ""), ("    ", UPPER, "upper", ""), ("0000", ONE, "one", ""),
        ("ABDC", LOWER, "upper", "submission_style=lower"), ("aaaa", UPPER, "upper", "the same in every row"),
        ("0123", LOWER, "zero", "submission_style=lower"), ("4123", None, "one", ""), ("wxyz", LOWER, "text", "texts"),
        ("0000", LOWER, "lower", "holds numbers"), ("1111", UPPER, "upper", "holds numbers"),
        ("2323", LOWER, "lower", "holds numbers"), ("①②③④", ONE, "one", "writes '①' where the submission has '1'"),
        ("①①①①", ONE, "one", "sample_submission.csv writes '①' where the submission has '1'"),
        ("    ", SPELT, "one", "writes '1번' where the submission"),
    ],
)
def test_how_answers_are_written_is_learned_from_the_files(tmp_path, sample, train, style, said):
    rows = questions(4)
    lines = ["id,answer", *(f"{q.id},{answer}" for q, answer in zip(rows, sample, strict=True))]
    form = find_form(rows, sample_file(tmp_path, lines), train)
    assert form.style == style and said in " ".join(form.notes) and bool(said) == bool(form.notes)
    assert find_form(rows, None, train, "zero").style == "zero"


@pytest.mark.parametrize(("sample", "train", "answers", "said"), [
    (("1번", "4번"), LOWER, ("1번", "2번"), "submission_style=lower"), (("2번", "2번"), SPELT, ("1번", "2번"), ""),
    (("(a)", "(a)"), LOWER, ("(a)", "(b)"), ""), (("option_B", "option_D"), UPPER, ("option_A", "option_B"), ""),
    (("1.0", "4.0"), ONE, ("1", "2"), "writes '1.0' where the submission has '1'"),
    (("(1)", "4."), ONE, ("1", "2"), "writes '(1)' where the submission has '1'"),
    (("", ""), SPELT, ("1", "2"), "or write so into sample"), (("1", "1"), SPELT, ("1", "2"), "the training file writes '1번'"),
])
def test_what_the_sample_writes_around_its_answers_is_written_too(tmp_path, sample, train, answers, said):
    """It was left out, and `validate` refused the competition's own form."""
    rows = questions(2)
    file = sample_file(tmp_path, ["id,answer", *(f"{q.id},{answer}" for q, answer in zip(rows, sample, strict=True))])
    form = find_form(rows, file, train)
    lines = lines_written(tmp_path, rows, form)
    assert lines[1:] == [f"{q.id},{answer}" for q, answer in zip(rows, answers, strict=True)]
    assert said in " ".join(form.notes) and bool(said) == bool(form.notes)
    assert not problems(tmp_path, lines, rows, form)
    bare = lines_written(tmp_path, rows, find_form(rows, file, train, form.style))
    assert form.around == ("", "") or f"such as {answers[0]!r}, and fit" in problems(tmp_path, bare, rows, form)


def test_where_no_file_tells_it_is_asked(tmp_path):
    mixed = find_convention([("a", ("w", "x")), ("B", ("w", "x"))])
    with pytest.raises(SubmissionError, match=r"submission_style=lower\|upper"):
        find_form(questions(), None, mixed)
    assert find_form(questions(), None, mixed, "upper").style == "upper"


@pytest.mark.parametrize("style", SUBMISSION_STYLES)
def test_what_is_written_in_a_style_is_valid_in_no_other(tmp_path, style):
    rows = [Question(f"t{i}", "p.jpg", "?", ("A. red", "B. teal", "C. blue", "D. grey")) for i in range(4)]
    lines = lines_written(tmp_path, rows, SubmissionForm(style=style))
    for other in SUBMISSION_STYLES:
        found = problems(tmp_path, lines, rows, SubmissionForm(style=other))
        assert not found if other == style else "Answers must be" in found


def test_a_sample_is_read_like_other_tables(tmp_path):
    rows = [Question(f"{i:04d}", "p.jpg", "?", ("w", "x", "y", "z")) for i in range(4)]
    korean = find_form(rows, sample_file(tmp_path, ["번호;정답", *(f"{q.id};a" for q in rows)], "cp949"), LOWER)
    assert lines_written(tmp_path, rows, korean)[:2] == ["번호;정답", "0000;a"] and not korean.notes
    for spelling in ("{}", "{}.0", "{:04d} "):
        form = find_form(rows, sample_file(tmp_path, ["id,answer", *(f"{spelling.format(i)},a" for i in range(4)), ""]), LOWER)
        assert lines_written(tmp_path, rows, form)[1] == "0000,a" and not form.notes
    numbered = find_form(rows, sample_file(tmp_path, [",id,answer", *(f"{i},{q.id},a" for i, q in enumerate(rows))]), LOWER)
    assert lines_written(tmp_path, rows, numbered)[:3] == [",id,answer", "0,0000,a", "1,0001,b"]


@pytest.mark.parametrize(("of_sample", "of_test"), [("0001", "1"), ("1", "1.0"), ("test_1", " test_1")])
def test_ids_that_the_test_file_has_lost_something_of_are_said(tmp_path, of_sample, of_test):
    """Excel takes zeros away: the competition refuses such a file."""
    rows = [Question(of_test, "p.jpg", "?", ("w", "x", "y", "z"))]
    (note,) = find_form(rows, sample_file(tmp_path, ["id,answer", f"{of_sample},a"]), LOWER).notes
    assert f"has the id {of_sample!r} where the test file, and so the submission, has {of_test!r}" in note


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["id,answer", "other,a"], "only in the sample 1: other; only in the test rows 12"),
        (["id,answer", "test_0000,a"], "only in the sample none; only in the test rows 11"),
        (["id,answer"], "only in the test rows 12"),
        (["id,a,b,c"], "an id and an answer are expected"), ([], "is empty"),
    ],
)
def test_a_sample_that_does_not_fit_is_a_warning(tmp_path, lines, said):
    rows = questions()
    form = find_form(rows, sample_file(tmp_path, lines), LOWER)
    assert said in " ".join(form.notes)
    assert lines_written(tmp_path, rows, form) == good_lines(rows)


def test_blank_lines_at_the_end_are_no_error(tmp_path):
    rows = questions()
    assert not problems(tmp_path, [*good_lines(rows), "", ""], rows)


# %% any ids at all
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")
IDS = st.lists(st.text(CHARACTERS, min_size=1), min_size=1, max_size=8, unique=True)


@settings(max_examples=100, deadline=None)
@given(IDS, st.data())
def test_whatever_is_written_validates_and_any_change_is_seen(tmp_path_factory, ids, data):
    path = tmp_path_factory.mktemp("any") / "s.csv"
    rows = [Question(i, "", "", tuple("vwxyz"[: data.draw(st.integers(2, 5))])) for i in ids]
    write_submission(path, rows, [data.draw(st.integers(0, len(q.choices) - 1)) for q in rows])
    assert not validate_submission(path, rows).problems

    table = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    row = data.draw(st.integers(1, len(rows)))
    changes = {
        "drop": lambda: table.pop(row),
        "repeat": lambda: table.insert(row, table[row]),
        "id": lambda: table[row].__setitem__(0, table[row][0] + "x"),
        "letter": lambda: table[row].__setitem__(1, LETTERS[len(rows[row - 1].choices)]),
        "cell": lambda: table[row].append("a"),
        "header": lambda: table[0].__setitem__(data.draw(st.integers(0, 1)), "label"),
    }
    changes[data.draw(st.sampled_from(sorted(changes)))]()
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(table)
    assert validate_submission(path, rows).problems


def test_a_pipe_is_not_waited_for_and_ids_stay_on_their_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "a named pipe, not a file" in validate_submission(tmp_path / "pipe", questions()).problems[0]
    rows = [Question("a\nvalid: 9 rows\x1b[2J", "p.jpg", "?", ("x", "y"))]
    expected = str(validate_submission(written(tmp_path, "id,answer\n"), rows))
    assert "\x1b" not in expected and "valid: 9 rows" not in expected.splitlines()
