"""CSV files of every kind, as people really save them."""
import csv
import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Table, read_questions
from mcvqa.data.table import DataError
from mcvqa.report.submission import validate_submission, write_submission
from tests.conftest import examples

HEADER = "id,path,question,a,b,c,d,answer\n"
ROW = "train_0001,train/train_0001.jpg,이 사진 속 장소는 어디일까요?,공원,사찰,한옥,성,b\n"
REAL = Path(__file__).parents[3] / "shared" / "data"


def table(folder: Path, content: str | bytes, **settings: object) -> Table:
    path = folder / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_questions(path, **settings)  # type: ignore[arg-type]


def rows_as_csv(rows: list[list[str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


# %% encodings and delimiters
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"),
     ("utf-16-le", b""), ("utf-16-be", b""), ("cp949", b"")],
)
def test_encodings(tmp_path: Path, encoding: str, mark: bytes) -> None:
    read = table(tmp_path, mark + (HEADER + ROW).encode(encoding))
    assert read.questions[0].text == "이 사진 속 장소는 어디일까요?"
    assert read.questions[0].id == "train_0001" and read.questions[0].answer == 1


def test_utf8_that_would_pass_as_cp949_is_read_as_utf8(tmp_path: Path) -> None:
    text = HEADER + "1,p,커피,a,b,c,d,a\n"
    assert text.encode().decode("cp949") != text  # it does pass, as other words
    assert table(tmp_path, text).questions[0].text == "커피"


def test_damaged_utf8_is_not_taken_for_cp949(tmp_path: Path) -> None:
    raw = (HEADER + ROW).encode() + b"2,p," + "정말".encode()[:-1] + b",x,y,z,w,a\n"
    with pytest.raises(DataError, match="damaged character in line 3"):
        table(tmp_path, raw)


@pytest.mark.parametrize("delimiter", list(",;\t"))
def test_delimiters_and_newlines_in_quotes(tmp_path: Path, delimiter: str) -> None:
    texts = ["1", "p.jpg", "first line\nsecond, with; all\tsigns", "x", 'he said "y"', "z", "w", "d"]
    read = table(tmp_path, rows_as_csv([HEADER.strip().split(","), texts], delimiter))
    assert read.delimiter == delimiter
    assert read.questions[0].text == texts[2] and read.questions[0].choices == ("x", 'he said "y"', "z", "w")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xef\xbb\xbf", "is empty"), (b" \n\n", "is empty"), (b",,,\n,,\n", "no rows"),
     (HEADER.encode(), "no rows below"), (b"\x80\xff\xfe" * 9, "neither UTF-8"),
     ((HEADER + '1,p,"open,x').encode(), "line 2"),
     (b"PK\x03\x04" + bytes(range(256)) * 4, "."), (b"id,path,question,a,answer\n1,p,q,x,a\n", "no choice columns"),
     (b"path,question,a,b\np,q,x,y\n", "no id column"), (b"id,question,a,b\n1,q,x,y\n", "--set image_column"),
     (b"id,path,question,a,b,d\n1,p,q,x,y,z\n", "missing between 'b' and 'd'"),
     (b"id,path,question,a,b,choice1,choice2\n1,p,q,x,y,x,y\n", "could be the choices: a, b, choice1, choice2"),
     (b"id,path,question,a,b,B\n1,p,q,x,y,z\n", "could be the choices"),
     (f"id,path,question{''.join(f',choice{n}' for n in range(1, 28))}\n1,p,q{',x' * 27}\n".encode(), "27 choice columns"),
     (b"id,path,image,question,a,b\n1,p,i,q,x,y\n", "path, image. Choose with --set image_column"),
     (b"id,path,question,a,b,answer,label\n1,p,q,x,y,a,b\n", "--set answer_column"),
     (b"VQA 2026,,,,\n,,,,\nid,path,question,a,b\n1,p,q,x,y\n", r"header seems to be row 1 .*\(id, path, .*: delete"),
     ("번호,사진,질문,보기1,보기2\nid,path,question,a,b\n1,p,q,x,y\n".encode(), "second header, row 1: delete one")],
)
def test_unusable_files_say_why(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, content)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read_questions(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path)


# %% columns
def test_other_names_of_columns_are_found_and_shown(tmp_path: Path) -> None:
    read = table(tmp_path, "번호,이미지,질문,선택지1,선택지2,선택지3,정답\n1,p.jpg,q,x,y,z,3\n")
    assert read.questions[0].choices == ("x", "y", "z") and read.questions[0].answer == 2
    assert read.columns == {
        "id": "번호", "image": "이미지", "question": "질문", "choices": "선택지1, 선택지2, 선택지3", "answer": "정답"
    }


@pytest.mark.parametrize(
    "names", ["A,B,C", "choice_a,choice_b,choice_c", "Option 1,Option 2,Option 3", "opt0,opt1,opt2"]
)
def test_names_of_choice_columns(tmp_path: Path, names: str) -> None:
    read = table(tmp_path, f"ID,Image Path,Question,{names},Answer\n1,p,q,x,y,z,b\n")
    assert read.questions[0].choices == ("x", "y", "z") and read.questions[0].answer == 1


HEADERS = ["id", "path", "question", "a", "b", "answer"]


@pytest.mark.parametrize(("part", "name"), [
    *((0, name) for name in ("문항번호", "문제번호", "문제 번호", "아이디", "Question_ID", "idx", "문항 ID", "연번", "No.")),
    *((1, name) for name in ("이미지 경로", "파일명", "image_id", "File Name", "이미지 파일명", "사진 파일", "Image Path (jpg)")),
    *((2, name) for name in ("질문내용", "질문 내용", "문항", "Question Text", "prompt", "질문 (question)", "문제 내용")),
    *((5, name) for name in ("정답(번호)", "answers", "correct_choice_idx", "Correct Answer (0-1)")),
    *((5, name) for name in ("answer_idx", "answerIndex", "Answer-Index", "label idx", "correct_idx", "정답번호", "답안")),
])
def test_usual_names_of_columns(tmp_path: Path, part: int, name: str) -> None:
    """Each instead of the plain one, quoted with spaces around it, in a file that counts answers from 0."""
    header = [name if i == part else plain for i, plain in enumerate(HEADERS)]
    read = table(tmp_path, ",".join(f'" {name} "' for name in header) + "\n7,p.jpg,q?,x,y,1\n8,p.jpg,q?,x,y,0\n")
    assert [(q.id, q.image, q.text, q.choices, q.answer) for q in read.questions] == [
        ("7", "p.jpg", "q?", ("x", "y"), 1), ("8", "p.jpg", "q?", ("x", "y"), 0)]


@pytest.mark.parametrize(
    "names", ["선택지1,선택지2", "보기 1,보기 2", "1번,2번", "옵션a,옵션b", "선지(1),선지(2)", "Candidate_1,Candidate_2",
              "1번 보기,2번 보기", "가,나", "선택지(가),선택지(나)", "①,②", "answer1,answer2"]
)
def test_usual_names_of_choices(tmp_path: Path, names: str) -> None:
    assert table(tmp_path, f"id,path,question,{names},answer\n1,p,q,x,y,2\n").questions[0].choices == ("x", "y")


def test_a_name_that_says_more_comes_first(tmp_path: Path) -> None:
    read = table(tmp_path, "No.,question_id,path,question,a,b,answer_idx,answer\n0,q7,p,?,x,y,1,b\n1,q8,p,?,x,y,0,a\n")
    assert [(q.id, q.answer) for q in read.questions] == [("q7", 1), ("q8", 0)] and read.columns["answer"] == "answer"


def test_all_letters_are_choices_although_one_is_called_q(tmp_path: Path) -> None:
    texts = [f"text {letter}" for letter in LETTERS]
    read = table(tmp_path, f"id,path,question,{','.join(LETTERS)},answer\n1,p,what?,{','.join(texts)},z\n")
    assert read.questions[0].text == "what?" and len(read.questions[0].choices) == 26 and read.questions[0].answer == 25


def test_columns_by_setting(tmp_path: Path) -> None:
    content = "id,path,image,question,text,a,b,answer,label\n1,p,i,q,t,x,y,a,b\n"
    read = table(tmp_path, content, image_column="image", question_column="text", answer_column="label")
    assert (read.questions[0].image, read.questions[0].text, read.questions[0].answer) == ("i", "t", 1)
    with pytest.raises(DataError, match=r"several columns could be the id: qid, index\. Choose with --set id_column=NAME"):
        table(tmp_path, "qid,index,path,question,a,b\n1,2,p,q,x,y\n")
    assert table(tmp_path, "qid,index,path,question,a,b\n1,2,p,q,x,y\n", id_column="index").questions[0].id == "2"
    with pytest.raises(DataError, match="no column 'bild'"):
        table(tmp_path, content, image_column="bild")


def test_unlabelled_and_labelled(tmp_path: Path) -> None:
    plain = "id,path,question,a,b\n1,p,q,x,y\n"
    assert table(tmp_path, plain).questions[0].answer is None
    with pytest.raises(DataError, match="has no answers"):
        table(tmp_path, plain, labelled=True)
    with pytest.raises(DataError, match="empty: answer"):
        table(tmp_path, "id,path,question,a,b,answer\n1,p,q,x,y,\n", labelled=True)
    empty = table(tmp_path, "id,path,question,a,b,answer\n1,p,q,x,y,\n")
    assert not empty.problems and "answer" not in empty.columns
    assert table(tmp_path, HEADER + ROW, labelled=False).questions[0].answer is None


# %% cells
def test_words_for_nothing_are_choices_and_ids_stay_text(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + "007,p,q,None,NA,null,nan,b\n12345678901234567890,p,1.0,Yes,No,,,a\n")
    assert read.questions[0].choices == ("None", "NA", "null", "nan")
    assert read.questions[1].choices == ("Yes", "No") and read.questions[1].text == "1.0"
    assert [q.id for q in read.questions] == ["007", "12345678901234567890"] and not read.problems


def test_a_gap_between_choices_never_shifts_letters(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + "1,p,q,x,y,,w,d\n2,p,q,x,y,,w,c\n3,p,q,x,y,z,,d\n4,p,q,x,y,z,w,a\n")
    assert read.questions[0].choices == ("x", "y", "", "w") and read.questions[0].answer == 3
    assert read.questions[1].answer is None and read.questions[2].answer is None  # they point at nothing
    assert [(p.row, p.field) for p in read.problems] == [(1, "c"), (2, "c"), (2, "answer"), (3, "answer")]


def test_rows_without_choices_stay(tmp_path: Path) -> None:
    read = table(tmp_path, "id,path,question,a,b,c\n1,p,q,,,\n2,p,q,x,,\n")
    assert [q.choices for q in read.questions] == [("", ""), ("x", "")]
    assert [(p.row, p.field) for p in read.problems] == [(1, "a"), (1, "b"), (2, "b")]


def test_problems_name_file_row_and_field(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + "7,p,q,x,y,z,w,a\n\n,,,,,,,\n7,,,x,y,x ,w,e\n")
    assert read.answers is not None
    assert read.answers.doubts() == ["1 answer is not used, neither a letter nor the text of a choice: 'e'"]
    assert [str(p) for p in read.problems] == [
        "train.csv, row 2 (id '7'), path: no image",
        "train.csv, row 2 (id '7'), question: no question",
        "train.csv, row 2 (id '7'), c: the same text as choice a: 'x'",
        "train.csv, row 2 (id '7'), answer: the answer 'e' is not used: neither a letter nor the text of a choice",
    ]


def test_ragged_rows_are_kept_without_their_doubtful_answer(tmp_path: Path) -> None:
    read = table(tmp_path, HEADER + "1,p,is it red, or blue,x,y,z,b,a\n2,p,q,x,y\n3,p,q,x,y,z,w,a,,\n")
    assert [q.answer for q in read.questions] == [None, None, 0]
    assert [p.row for p in read.problems if "cells in the row" in p.message] == [1, 2]


def test_a_total_at_the_foot_decides_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{i},p,?,x,y,z,w,{1 + i % 4}\n" for i in range(8))
    for total in ("Total,,,,,,,8\n", "평균,,,,,,,2.5\n"):
        read = table(tmp_path, HEADER + rows + total)
        assert [q.answer for q in read.questions] == [*(i % 4 for i in range(8)), None]


def test_a_row_that_reaches_into_columns_without_a_name_is_noted(tmp_path: Path) -> None:
    """A comma in its question has moved its cells, which empty columns at the header's end would hide; or it has a remark."""
    header = HEADER.strip() + ",,\n"
    read = table(tmp_path, header + "1,p,is it red, or blue,x,y,z,w,a,\n2,p,q,x,y,z,w,b,,\n3,p,q,x,y,z,w,c,,look again\n")
    assert [q.answer for q in read.questions] == [None, 1, 2]
    assert [(p.row, "8 in the header" in p.message) for p in read.problems if "cells in the row" in p.message] == [
        (1, True), (3, True)]


def test_answers_in_another_file_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "train_labels.csv").write_text("id,answer\n1,a\n")
    with pytest.raises(DataError, match=r"has no answers .*If they are in train_labels\.csv, join them by id"):
        table(tmp_path, "id,path,question,a,b\n1,p,q,x,y\n", labelled=True)


# %% answers
def test_a_row_without_an_answer_is_noted(tmp_path: Path) -> None:
    read = table(tmp_path, "id,path,question,a,b,answer\n1,p,q,x,y,b\n2,p,q,x,y,\n")
    assert [q.answer for q in read.questions] == [1, None]
    assert [(p.row, p.field, p.message) for p in read.problems] == [(2, "answer", "no answer")]


def test_votes_majority_and_ties(tmp_path: Path) -> None:
    header = "id,path,question,a,b,c,d,answer1,answer2,answer3,answer4,answer5\n"
    read = table(
        tmp_path, header + "1.jpg,p,q,x,y,z,w,a,b,b,,b\n2.jpg,p,q,x,y,z,w,a,b,b,a,?\n3.jpg,p,q,x,y,z,w,,,,,\n"
    )
    assert [q.answer for q in read.questions] == [1, None, None]
    assert [q.votes for q in read.questions] == [(1, 3, 0, 0), (2, 2, 0, 0), None]
    assert [(p.row, p.field) for p in read.problems] == [(2, "answer5"), (2, "answer1"), (3, "answer1")]
    assert "tied: a 2, b 2" in read.problems[1].message
    assert table(tmp_path, header + "1,p,q,x,y,z,w,a,b,b,,b\n", answer_column="answer1").questions[0].answer == 0


CHARACTERS = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff")  # a mark begins a file
CELL = st.text(CHARACTERS | st.sampled_from("\n\",;\t① ½"), max_size=12)


GENERATED_ROW = st.tuples(CELL, CELL, CELL, st.lists(CELL, min_size=2, max_size=6), st.integers(0, 5))

def _alone(choice: str) -> str:
    """The letter of a choice that is nothing but a letter: an answer 'f' would mean this text."""
    bare = "".join(c for c in unicodedata.normalize("NFKC", choice).casefold() if c.isalnum())
    return bare if len(bare) == 1 else ""



@examples(60)
@given(
    st.lists(GENERATED_ROW, min_size=1, max_size=5),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_comes_back_as_written(tmp_path_factory, rows, delimiter, encoding) -> None:  # type: ignore
    header = ["id", "path", "question", *"abcdef", "answer"]
    assume(not any(LETTERS[n] in _alone(choice) for *_, choices, n in rows for choice in choices))
    cells = [
        [f"i{id}", image, text, *choices, *[""] * (6 - len(choices)), LETTERS[n]]
        for id, image, text, choices, n in rows
    ]
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_text(rows_as_csv([header, *cells], delimiter), encoding=encoding, newline="")
    for question, (id, image, text, choices, n) in zip(read_questions(path, answer_style="letter").questions, rows, strict=True):
        assert (question.id, question.image, question.text) == (f"i{id}", image, text)
        kept = [choice if choice.strip() else "" for choice in choices]
        assert list(question.choices) == kept[: len(question.choices)] and not any(kept[len(question.choices) :])
        assert question.answer == (n if n < len(kept) and kept[n] else None)


@examples(60)
@example(HEADER.encode() + b"\0")
@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: (HEADER + text).encode("utf-8", "replace")))
def test_any_bytes_give_a_table_or_a_data_error(tmp_path_factory, raw: bytes) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(raw)
    try:
        assert all(2 <= len(question.choices) <= 26 for question in read_questions(path).questions)
    except DataError as error:
        assert str(path) in str(error)


# %% ids that would not come back as they are
@pytest.mark.parametrize("id", ["b\0", "\0b", "b\0b", "b\rb", "b\r\nb", "\rb"])
def test_an_id_that_a_submission_cannot_keep_is_refused_at_the_start(tmp_path: Path, id: str) -> None:
    with pytest.raises(DataError) as error:
        table(tmp_path, f'{HEADER}a,{",".join("pqabcda")}\n"{id}",{",".join("pqabcda")}\n')  # Python 3.10 writes no NUL
    shown = str(error.value)
    assert "train.csv" in shown and (("row 2, id: the id " in shown and repr(id) in shown) or "contains NUL" in shown)  # 3.10


@pytest.mark.parametrize("number", [n for n in range(1, 256) if unicodedata.category(chr(n)) == "Cc" and chr(n) != "\r"])
def test_every_other_id_is_kept_up_to_the_submission(tmp_path: Path, number: int) -> None:
    ids = [f"b{chr(number)}", f"{chr(number)}b", f"b{chr(number)}b"]
    rows = [HEADER.strip().split(","), *([f"a{id}", *"pqabcda"] for id in ids)]
    questions = table(tmp_path, rows_as_csv(rows)).questions
    assert np.array([q.id for q in questions]).tolist() == [q.id for q in questions] == [f"a{id}" for id in ids]
    write_submission(tmp_path / "submission.csv", questions, [0, 1, 2])
    assert not validate_submission(tmp_path / "submission.csv", questions).problems


# %% real files
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data is not on this machine")
def test_real_files() -> None:
    train = read_questions(REAL / "ssafy2025" / "train.csv", labelled=True)
    assert len(train.questions) == 3887 and all(q.answer is not None for q in train.questions)
    assert [p.id for p in train.problems] == ["train_2318", "train_2527", "train_2995"]
    easy = read_questions(REAL / "easyvqa" / "train.csv", labelled=True)
    assert not easy.problems and {len(q.choices) for q in easy.questions} == {2, 3, 4}
