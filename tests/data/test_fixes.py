"""Decided labels: what is applied, and what is told by row because it cannot be."""
from pathlib import Path

import pytest

from mcvqa.data.fixes import Proposal, read_decisions, with_fixes, write_fixes
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError

ROWS = (
    Question("0001", "a.png", "What color?", ("red", "green", "blue"), 0, votes=(2, 1, 0), source="train"),
    Question("=b", "b.png", "어떤 색, 무엇?", ("빨강", "초록"), 1, source="train"),
    Question("c", "c.png", "What color?", ("red", "green"), 0, source="train"),
    Question("tied", "d.png", "What color?", ("red", "green"), None, votes=(1, 1), source="train"),
)


def file_with(tmp_path: Path, *lines: str, header: str = "id,now,proposed,decision,probability") -> Path:
    file = tmp_path / "fixes.csv"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


def test_proposals_are_written_undecided_and_read_back(tmp_path):
    file = tmp_path / "fixes.csv"
    write_fixes(file, [Proposal(ROWS[1], 0, 0.91), Proposal(ROWS[0], 2, 0.4)])
    assert file.read_bytes().startswith(b"\xef\xbb\xbf"), "Excel reads UTF-8 by its mark"
    assert file.read_text(encoding="utf-8-sig").splitlines()[1] == "'=b,b,a,,0.910,초록,빨강,b.png,\"어떤 색, 무엇?\""
    assert [(one.id, one.word, one.now, one.proposed) for one in read_decisions(file)] == [
        ("=b", "", "b", "a"), ("0001", "", "a", "c")]
    unchanged = with_fixes(ROWS, file)
    assert unchanged.questions == ROWS and not unchanged.before and not unchanged.dropped
    assert unchanged.notes == ("fixes.csv: 0 labels fixed, 0 rows dropped, 0 kept; 2 rows are undecided and unchanged",)
    write_fixes(file, [Proposal(ROWS[2], 1, 0.2)])
    assert len(read_decisions(file)) == 1, "a file without decisions may be written again"


def test_a_fix_counts_instead_of_the_votes_and_a_dropped_row_is_gone(tmp_path):
    fixed = with_fixes(ROWS, file_with(tmp_path, "0001,a,b,fix,0.9", "'=b,b,a,drop,0.8", "c,a,b,keep,0.7"))
    assert [(q.id, q.answer, q.votes) for q in fixed.questions] == [("0001", 1, None), ("c", 0, None), ("tied", None, (1, 1))]
    assert fixed.before == {"0001": 0} and fixed.dropped == ("=b",)
    assert fixed.notes == ("fixes.csv: 1 label fixed, 1 row dropped, 1 kept", "fixes.csv: 0001: a -> b")


def test_only_four_columns_are_needed_in_any_order_and_case(tmp_path):
    file = file_with(tmp_path, "FIX,B,a,c", header="Decision,Proposed,Now,ID")
    assert with_fixes(ROWS, file).before == {"c": 0}


@pytest.mark.parametrize(("line", "message"), [
    ("elsewhere,a,b,fix,0.9", r"row 2 \(id 'elsewhere'\): no labelled row has this id"),
    ("1,a,b,fix,0.9", r"row 2 \(id '1'\): no labelled row has this id; a spreadsheet seems to have cut the zeros of '0001'"),
    ("c,b,a,fix,0.9", r"row 2 \(id 'c'\): its label is 'a', not 'b': the file was made from other data"),
    ("c,a,b,maybe,0.9", r"row 2 \(id 'c'\): the decision 'maybe' is neither empty nor one of keep, fix, drop"),
    ("c,a,d,fix,0.9", r"row 2 \(id 'c'\): 'proposed' is 'd'; the row has the choices a, b"),
    ("c,a,,fix,0.9", r"row 2 \(id 'c'\): 'proposed' is ''"),
    ("c,a,a,fix,0.9", r"row 2 \(id 'c'\): 'proposed' is the label that the row already has"),
    ("0001,a,b,fix,0.9", r"row 2 \(id '0001'\): the same id as in row 1"),
    ("tied,a,b,fix,0.9", r"row 2 \(id 'tied'\): its label is 'missing', not 'a'"),
])
def test_what_does_not_fit_the_data_is_said_by_row_and_nothing_is_applied(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        with_fixes(ROWS, file_with(tmp_path, "0001,a,b,fix,0.9", line))


def test_many_mistakes_are_said_in_few_lines(tmp_path):
    with pytest.raises(DataError) as error:
        with_fixes(ROWS, file_with(tmp_path, *(f"x{i},a,b,fix,1" for i in range(30))))
    assert str(error.value).count("\n") == 11 and str(error.value).endswith("and 20 more")


def test_another_table_is_named_with_its_columns(tmp_path):
    with pytest.raises(DataError, match="has no column 'now', 'proposed', 'decision'; its columns are id, answer"):
        with_fixes(ROWS, file_with(tmp_path, "c,a", header="id,answer"))
    with pytest.raises(DataError, match="There is no file"):
        with_fixes(ROWS, tmp_path / "nowhere.csv")


def test_a_file_with_decisions_is_never_overwritten(tmp_path):
    file = file_with(tmp_path, "c,a,b,drop,0.7")
    with pytest.raises(DataError, match=r"contains 1 decision made by a person and is not overwritten\. Choose another --out"):
        write_fixes(file, [])
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="has no column"):
        write_fixes(tmp_path / "notes.csv", [])
