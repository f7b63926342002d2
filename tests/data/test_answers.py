"""What a file's answers mean: never wrong, and rarely not understood."""
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcvqa.data.answers import (
    KOREAN_LETTERS,
    LETTERS,
    SUBMISSION_STYLES,
    find_convention,
    read_answer,
    why_unread,
    written_answer,
)
from tests.conftest import examples

COLORS = ("red", "green", "blue", "yellow", "black", "purple", "white", "pink")
KOREAN = ("빨간색", "초록색", "파란색", "노란색", "검은색", "보라색", "흰색", "분홍색")
UNITS = ("", "개", "마리", " cm", "명")
LETTER_FORMS = ("{}", "({})", "{}.", " {} ", "[{}]", "정답: {}", "보기 {}", "{}번", "Answer: {}", "{}) ", '"{}"')
CIRCLED = dict(zip(LETTERS, "ⓐⓑⓒⓓⓔⓕ", strict=False))
NUMBER_FORMS = ("{}", "{}.0", "{}번", "보기 {}", "({})", " {}", "{}.")


def choices_of(rng: random.Random, kind: str, n: int) -> list[str]:
    if kind == "number":
        return [str(v) for v in rng.sample(range(0, 13), n)]
    if kind == "amount":
        unit = rng.choice(UNITS[1:])
        return [f"{v}{unit}" for v in rng.sample(range(1, 13), n)]
    if kind == "letter":  # "which letter is on the sign?"
        return rng.sample([*"ABCDEFXYZ"], n)
    return rng.sample(KOREAN if kind == "korean" else COLORS, n)


def a_table(rng: random.Random) -> tuple[str, list[tuple[str, list[str]]], list[int]]:
    """A convention, cells written in it with the choices of their rows, and the true choices."""
    style = rng.choice(("lower", "upper", "circled", "wide", "korean", "labelled", "one", "zero", "float", "text", "value"))
    dress, kinds = rng.choice(LETTER_FORMS), rng.sample(("color", "korean", "number", "amount", "letter"), rng.randint(1, 4))
    number_form = rng.choice(NUMBER_FORMS)
    cells, truth = [], []
    for _ in range(rng.randint(4, 60)):
        n = rng.randint(2, 6) if rng.random() < 0.2 else 4
        choices = choices_of(rng, rng.choice(kinds), n)
        answer = rng.randrange(n)
        if style in ("lower", "upper"):
            letter = LETTERS[answer] if style == "lower" else LETTERS[answer].upper()
            written = dress.format(letter)
        elif style == "circled":
            written = CIRCLED[LETTERS[answer]]
        elif style == "wide":
            written = chr(ord(LETTERS[answer]) + 0xFEE0)
        elif style == "korean":
            written = dress.format(KOREAN_LETTERS[answer])
        elif style == "labelled":
            written = f"{LETTERS[answer].upper()}. {choices[answer]}"
        elif style in ("one", "zero", "float"):
            form = "{}.0" if style == "float" else "{}" if style == "zero" else number_form
            written = form.format(answer + (style != "zero"))
        elif style == "text":
            written = choices[answer]
        else:  # values: as pandas writes them, or without their unit
            number = choices[answer].rstrip("개마리 cm명")
            written = choices[answer] if not number.isdigit() else f"{number}.0" if rng.random() < 0.5 else number
        cells.append((written, choices))
        truth.append(answer)
    return style, cells, truth


def read_all(cells: list[tuple[str, list[str]]]) -> list[int | None]:
    convention = find_convention(cells)
    return [read_answer(written, choices, convention) for written, choices in cells]


@examples(100)
@given(st.integers(0, 2**40))
def test_no_answer_of_any_table_is_read_wrong(seed: int) -> None:
    style, cells, truth = a_table(random.Random(seed))
    wrong = [(cell, index) for cell, index, true in zip(cells, read_all(cells), truth, strict=True) if index not in (None, true)]
    assert not wrong, (style, wrong[:3])


@pytest.mark.parametrize("tables", [200, pytest.param(10_000, marks=pytest.mark.torture)])
def test_nearly_every_answer_is_read(tables: int) -> None:
    """Of random tables every answer is right or reported, and less than one in fifty is reported."""
    answers = unclear = 0
    for seed in range(tables):
        style, cells, truth = a_table(random.Random(seed))
        read = read_all(cells)
        assert all(index in (None, true) for index, true in zip(read, truth, strict=True)), (seed, style)
        answers, unclear = answers + len(read), unclear + read.count(None)
    print(f"{unclear / answers:.2%} of {answers:,} answers in {tables:,} tables are reported as unclear")
    assert unclear < 0.02 * answers


# %% single cells, by letters, texts and positions from one
@given(st.integers(0, 25), st.sampled_from(["{}", " {} ", "({})", "{}.", "{})", "[{}]", '"{}"', "<{}>"]), st.booleans())
def test_every_letter_in_every_dress(index: int, dress: str, upper: bool) -> None:
    letter = LETTERS[index].upper() if upper else LETTERS[index]
    assert read_answer(dress.format(letter), [f"text {i}" for i in range(26)]) == index



CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("\n\",;\t① ½"), max_size=12)


@examples(100)
@given(st.lists(CELL, min_size=2, max_size=26), CELL)
def test_an_answer_is_none_or_a_choice_that_is_not_empty(choices: list[str], written: str) -> None:
    index = read_answer(written, choices)
    assert index is None or (0 <= index < len(choices) and choices[index])



@pytest.mark.parametrize(
    ("written", "index"),
    [("b", 1), (" b.", 1), ("(C)", 2), ("B", 1), ("ｄ", 3), ("3", 2), ("3.0", 2), ("３", 2), ("②", 1), ("(2)", 1), ("❷", 1),
     ("ⓒ", 2), ("🅒", 2), ("㉯", 1), ("나", 1), ("ㄴ", 1), ("3번", 2), ("보기 3", 2), ("정답: c", 2), ("정답은 c입니다", 2),
     ("C. blue", 2), ("2) teal", 1), ("C. teal", None), ("c (blue)", 2), ("C (teal)", None), ("opt_b", 1), ("No. 3", 2),
     ("2번 보기", 1), ("no", None), ("Teal", 1), (" teal ", 1), ("teal.", 1),
     ("e", None), ("0", None), ("5", None),
     ("99999999999", None), ("bb", None), ("a, b", None), ("", None)],
)
def test_forms_of_answers(written: str, index: int | None) -> None:
    assert read_answer(written, ("red", "teal", "blue", "grey")) == index


@pytest.mark.parametrize("written", ["3", "3.0", "3개", "3.", "03", " 3 ", "３"])
def test_a_number_is_the_choice_of_its_value(written: str) -> None:
    convention = find_convention([(written, ("4개", "1개", "2개", "3개"))], "text")
    assert read_answer(written, ("4개", "1개", "2개", "3개"), convention) == 3


def test_values_with_signs_and_separators() -> None:
    text = find_convention([], "text")
    assert read_answer("1000", ("10", "1,000", "100"), text) == 1
    assert read_answer("3", ("$3", "$4"), text) == 0 and read_answer("3", ("3.0", "4.0"), text) == 0
    assert read_answer("3 cm", ("3 m", "3 cm"), text) == 1 and read_answer("3", ("3 m", "3 cm"), text) is None


# %% the whole file decides
ROW = ("red", "teal", "blue", "grey")


def meaning(*written: str, choices: tuple[str, ...] = ROW) -> list[int | None]:
    convention = find_convention([(cell, choices) for cell in written])
    return [read_answer(cell, choices, convention) for cell in written]


def test_numbers_that_cannot_be_positions_are_values() -> None:
    cells = [("4.0", ("4", "1", "2", "3")), ("7.0", ("7", "1", "2", "3"))]
    assert read_all(cells) == [0, 0]


def test_numbers_that_may_be_both_are_not_used_until_it_is_said() -> None:
    cells = [("4", ("4", "1", "2", "3")), ("2", ("1", "3", "2", "4"))]
    assert read_all(cells) == [None, None]
    assert "positions or the texts of choices" in why_unread(*cells[0], find_convention(cells))
    for style, answers in (("text", [0, 2]), ("one", [3, 1]), ("zero", [None, 2])):
        assert [read_answer(*cell, find_convention(cells, style)) for cell in cells] == answers


@pytest.mark.parametrize("choices", [("yes", "no"), ("True", "False"), ("예", "아니오"), ("O", "X")])
def test_one_may_stand_for_yes(choices: tuple[str, str]) -> None:
    """A file of 1 and 0 does not tell whether 1 is `yes` or the second choice, unless both are the same."""
    assert meaning("1", "0", "1", choices=choices) == [None] * 3
    assert meaning("1", "0", "1", choices=choices[::-1]) == [1, 0, 1]
    assert meaning("1", "2", "1", choices=choices) == [0, 1, 0] == meaning("1", "2", "1", choices=choices[::-1])
    for style, answer in (("text", 0), ("zero", 1)):
        assert read_answer("1", choices, find_convention([("1", choices)], style)) == answer


def test_a_file_that_answers_by_text_has_no_positions() -> None:
    cells = [("teal", ROW), ("2", ("2개", "1개", "3개", "4개")), ("3", ("seven", "three", "two", "one"))]
    assert read_all(cells) == [1, 0, None]
    assert "answers by text, for example 'teal'" in why_unread(*cells[2], find_convention(cells))


def test_positions_count_from_where_the_file_shows() -> None:
    assert meaning("0", "3", "1") == [0, 3, 1] and meaning("1", "4", "2") == [0, 3, 1]
    assert meaning("1", "3", "2") == [None] * 3  # from 0 or from 1?
    assert meaning("1번", "3번") == [0, 2] and meaning("①", "③") == [0, 2]
    assert meaning("option1", "option2") == [None] * 2  # columns may be called option0, ...
    assert meaning("option0", "option2") == [0, 2] and meaning("Option 4", "Option 2") == [3, 1]
    assert meaning("0", "4", "1") == [None] * 3 and meaning("1", "5", "2") == [None] * 3  # no position at all


def test_what_one_file_leaves_open_another_decides() -> None:
    zero = find_convention([("0", ROW), ("3", ROW)])
    assert read_answer("2", ROW, find_convention([("1", ROW), ("2", ROW)], known=zero)) == 2
    one = find_convention([("4", ROW), ("3", ROW)])
    assert read_answer("2", ROW, find_convention([("0", ROW), ("2", ROW)], known=one)) == 2  # the file itself is clear


def test_a_letter_and_another_choice_s_text() -> None:
    letters = ("c", "b", "a")
    assert read_all([("a", letters), ("b", ROW)]) == [0, 1] and read_all([("a", letters), ("teal", ROW)]) == [2, 1]
    assert read_all([("a", letters)]) == [None] and read_all([("b", letters)]) == [1]
    twice = ("Red", ("red", "red ", "blue"))  # which one?
    assert read_all([twice]) == [None] and why_unread(*twice, find_convention([twice])) == "the text of several choices"


@pytest.mark.parametrize(
    ("cells", "style"),
    [("abcd", "lower"), ("ABCD", "upper"), ("가나다라", "korean"), ("1234", "one"), ("0123", "zero"), (ROW, "text"),
     (["a", "B"], ""), ([], "")],
)
def test_the_style_of_a_file(cells: str, style: str) -> None:
    assert find_convention([(cell, ROW) for cell in cells]).usual == style


@pytest.mark.parametrize("style", SUBMISSION_STYLES)
def test_what_is_written_is_read_again(style: str) -> None:
    row = tuple(f"{letter}. {text}" for letter, text in zip("ABCD", ROW, strict=True))
    cells = [(written_answer(index, row, style), row) for index in range(4)]
    assert find_convention(cells).usual == style and read_all(cells) == [0, 1, 2, 3]


COLORS = ("red", "green", "blue", "yellow", "black", "purple")
DRESSES = ("{A}. {text}", "({a}) {text}", "{one}. {text}", "{one}) {text}", "{circled} {text}", "{k}. {text}")


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize(
    ("answer", "style"),
    [("{text}", "bare"), ("{choice}", "text"), ("{A}", "upper"), ("{a}.", "lower"), ("({a})", "lower"), ("{one}", "one"),
     ("{one}번", "one"), ("{zero}", "zero"), ("{k}", "korean")],
)
def test_choices_with_letters_of_their_own(dress: str, answer: str, style: str) -> None:
    """However they are dressed and answered, each answer is read right and is written again as its file has it."""
    draw, cells, places = random.Random(0), [], []
    for _ in range(30):
        texts, place = draw.sample(COLORS, 4), draw.randrange(4)
        marks = [dict(A="ABCD"[i], a="abcd"[i], one=i + 1, zero=i, circled="①②③④"[i], k="가나다라"[i]) for i in range(4)]
        choices = tuple(dress.format(text=text, **mark) for text, mark in zip(texts, marks, strict=True))
        cells.append((answer.format(text=texts[place], choice=choices[place], **marks[place]), choices))
        places.append(place)
    assert read_all(cells) == places
    assert find_convention(cells).usual == style
    if answer in ("{text}", "{choice}", "{A}", "{one}", "{zero}", "{k}"):
        assert [written_answer(i, choices, style) for i, (_, choices) in zip(places, cells, strict=True)] == [c for c, _ in cells]


def test_a_number_is_the_value_of_a_choice_behind_its_letter() -> None:
    cells = [(str(numbers[i % 4]), tuple(f"{mark}. {number}개" for mark, number in zip("ABCD", numbers, strict=True)))
             for i, numbers in enumerate([(7, 2, 9, 5), (8, 6, 1, 3), (9, 12, 6, 4), (5, 30, 2, 11)])]
    assert read_all(cells) == [0, 1, 2, 3] and find_convention(cells).usual == "bare"


def test_why_a_cell_is_no_answer() -> None:
    letters = find_convention([("a", ROW)])
    assert why_unread("a, c", ROW, letters) == "several answers"
    assert why_unread("x", ROW, letters) == "neither a letter nor the text of a choice"
    ones = find_convention([("1", ROW), ("4", ROW)])
    assert why_unread("7", ROW, ones) == "numbers that are not positions"


# %% what people write around an answer
@pytest.mark.parametrize("form", [
    "The answer is {A}.", "Answer is {A}", "정답은 {a}입니다.", "정답은 {n}번입니다.", "정답: {text}", "정답은 {text}입니다.",
    "option_{a}", "choice_{n}", "#{n}", "{a}번입니다", '"{text}"', "['{text}']", "**{a}**", "`{a}`",
])
def test_words_and_signs_around_an_answer_do_not_matter(form) -> None:
    cells = [(form.format(a=LETTERS[i], A=LETTERS[i].upper(), n=i + 1, text=ROW[i]), ROW) for i in range(4)]
    convention = find_convention(cells)
    assert [read_answer(written, choices, convention) for written, choices in cells] == [0, 1, 2, 3]


@pytest.mark.parametrize("by_text", [True, False])
def test_choices_that_are_letters_in_every_row_are_not_guessed(by_text) -> None:
    """'B' is the second choice or the choice 'B': nothing in the file tells."""
    rng = random.Random(1)
    rows = [(rng.sample("ABCD", 4), rng.randrange(4)) for _ in range(60)]
    cells = [(choices[i] if by_text else LETTERS[i].upper(), choices) for choices, i in rows]
    read = [read_answer(written, choices, find_convention(cells)) for written, choices in cells]
    assert all(found in (None, i) for found, (_, i) in zip(read, rows, strict=True)) and None in read
    assert find_convention([*cells, ("C", ROW)]).words == ("letter",)  # one row where only a letter is possible tells


def test_thousands_with_a_point_are_no_positions() -> None:
    rows = [(("1000", "3000", "4000", "2000"), 2), (("2000", "1000", "4000", "3000"), 3), (("4000", "2000", "3000", "1000"), 1)]
    cells = [(f"{choices[i][0]}.000", choices) for choices, i in rows]
    read = [read_answer(written, choices, find_convention(cells)) for written, choices in cells]
    assert all(found in (None, i) for found, (_, i) in zip(read, rows, strict=True))


def test_two_numbers_are_no_number() -> None:
    choices = tuple(f"color {i}" for i in range(14))
    cells = [(str(i + 1), choices) for i in range(14)] + [("1,2", choices)]
    convention = find_convention(cells)
    assert [read_answer(written, row, convention) for written, row in cells] == [*range(14), None]
    assert why_unread("1,2", choices, convention) == "several answers"


def test_letters_that_choices_carry_out_of_order_are_not_guessed() -> None:
    choices = ("B. red", "A. green", "D. blue", "C. black")
    cells = [(letter, choices) for letter in "ABCD"]
    assert [read_answer(written, row, find_convention(cells)) for written, row in cells] == [None] * 4


@pytest.mark.parametrize(("form", "written", "ours"), [
    ("{n}번", "1번", "1"), ("({A})", "(A)", "A"), ("{n}.0", "1.0", "1"), ("{A}. {text}", f"A. {ROW[0]}", "A"), ("{A}", "", ""),
])
def test_answers_that_are_spelt_otherwise_than_a_submission_are_known(form, written, ours) -> None:
    cells = [(form.format(A=LETTERS[i].upper(), n=i + 1, text=ROW[i]), ROW) for i in range(4)]
    assert find_convention(cells).unlike[:2] == ((written, ours) if written else ())


@pytest.mark.parametrize(("written", "why"), [
    ("a,b", "several answers"), ("1/2", "several answers"), ("#N/A", "neither a letter"), ("N/A", "neither a letter"),
])
def test_what_excel_writes_for_nothing_is_not_several_answers(written: str, why: str) -> None:
    cells = [(written, ("w", "x", "y", "z"))]
    assert why_unread(*cells[0], find_convention(cells)).startswith(why)
