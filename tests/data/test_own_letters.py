"""Letters that choices carry themselves: taken off where they are surely that, and only there."""
import pytest

from mcvqa.config import Config
from mcvqa.data.answers import read_answer
from mcvqa.data.own_letters import strip_own_letters
from mcvqa.data.questions import Question
from mcvqa.model.text.prompt import chat_messages

BARE = ("red", "green", "blue", "dark red")


@pytest.mark.parametrize("label", [
    "{A}. ", "{a}. ", "({a}) ", "[{A}] ", "{A}) ", "{A}: ", "{A}.", " {a} . ", "{n}. ", "{n}) ", "({n}) ", "{k}. ", "({k}) ",
    "{circled} ", "{circled}", "{round}. ", "{hangul} ", "{wide}． ",
    "{A} - ", "{n}번. ", "{n}번: ", "보기{n}. ", "Option {A}: ", "{jamo}. ",
])
def test_letters_in_order_are_taken_off(label):
    series = dict(A="ABCD", a="abcd", n="1234", k="가나다라", jamo="ㄱㄴㄷㄹ", circled="①②③④",
                  round="ⓐⓑⓒⓓ", hangul="㉮㉯㉰㉱", wide="ＡＢＣＤ")
    marks = [{name: letters[i] for name, letters in series.items()} for i in range(4)]
    written = tuple(label.format(**mark) + text for mark, text in zip(marks, BARE, strict=True))
    assert strip_own_letters(written) == (BARE, True)


@pytest.mark.parametrize("choices", [
    BARE,
    ("A. red", "C. green", "B. blue", "D. black"),  # not in order: they may be names
    ("A. red", "green", "C. blue", "D. black"),
    ("A. red", "2. green"),
    ("A.", "B.", "C.", "D."),  # nothing would remain
    ("(a)", "(b)"), ("①", "②"), ("A", "B"),
    ("1.5", "2.5", "3.5"), ("1:30", "2:30"), ("1", "2", "3"), ("1개", "2개"), ("1 - 2", "2 - 3"), ("1 red ball", "2 red balls"),
    ("(가) 지역", "(나) 지역", "(다) 지역"),  # names of what is in the picture
    ("A type", "B type"), ("A형", "B형"), ("a dog", "b dog"),
    ("A. red", ""),
])
def test_what_is_left_alone(choices):
    assert strip_own_letters(choices) == (choices, False)


def test_an_empty_choice_keeps_its_position():
    assert strip_own_letters(("A. red", "", "C. blue")) == (("red", "", "blue"), True)
    assert strip_own_letters(("A. red", "", "B. blue")) == (("A. red", "", "B. blue"), False)


def test_choices_that_become_equal_are_seen_as_such():
    assert strip_own_letters(("A. red", "B. red", "C. blue")) == (("red", "red", "blue"), True)


def test_what_remains_is_as_written():
    assert strip_own_letters(("① Ａ　B \n c", "② d")) == (("Ａ　B \n c", "d"), True)
    many = tuple(f"({number}) x{number}" for number in range(1, 13))
    assert strip_own_letters(many)[0][11] == "x12"


@pytest.mark.parametrize(("written", "index"), [("green", 1), ("Green.", 1), ("B. green", 1), ("A. green", None), ("b", 1)])
def test_an_answer_is_a_choice_with_or_without_its_letter(written: str, index: int | None) -> None:
    assert read_answer(written, ("A. red", "B. green", "C. b")) == index


def test_the_prompt_shows_each_choice_with_one_letter() -> None:
    question = Question("1", "p.jpg", "?", ("A. red", "B. green", "C. blue"))
    for order, lines in (((0, 1, 2), "(a) red\n(b) green\n(c) blue"), ((2, 0, 1), "(a) blue\n(b) red\n(c) green")):
        assert lines in str(chat_messages(question, order, Config())[1]["content"][-1]["text"])
    plain = Question("1", "p.jpg", "?", ("A. red", "C. green", "blue"))
    assert "(a) A. red\n(b) C. green" in str(chat_messages(plain, (0, 1, 2), Config())[1]["content"][-1]["text"])
