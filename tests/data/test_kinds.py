import re

import pytest

from mcvqa.data.kinds import BASIC_KINDS, KINDS, RULES, basic_kind, question_kind
from mcvqa.data.questions import Question

WORDS = ("김밥", "라면", "떡볶이", "우동")


def asked(text: str, *choices: str) -> Question:
    return Question("1", "1.jpg", text, choices or WORDS)


def kind(text: str, *choices: str) -> str:
    return question_kind(asked(text, *choices))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("사진 속 의자는 몇 개입니까?", "counting"),
        ("이 사진에 몇 마리의 고양이가 있나요?", "counting"),
        ("How many people are there?", "counting"),
        ("이 강의는 몇 시부터 시작하나요?", "ocr"),
        ("이 신발의 가격은 얼마인가요?", "ocr"),
        ("간판에 적힌 가게 이름은 무엇인가요?", "ocr"),
        ("What brand is the laptop?", "ocr"),
        ("회색 도형 위에 칠해진 문자를 읽으면 어느 것인가요?", "ocr"),
        ("Read aloud what was painted onto the ring.", "ocr"),
        ("사진에 보이는 창문 색깔은 무엇인가요?", "color"),
        ("What is the COLOR of the car?", "color"),
        ("이 사진은 어디에서 찍은 것일까요?", "location"),
        ("고양이의 위치는 무엇인가요?", "location"),
        ("Where is the dog?", "location"),
        ("이 사진에서 볼 수 있는 계절은 무엇인가요?", "attribute"),
        ("What shape is present?", "attribute"),
        ("사진 속 고양이는 무엇을 하고 있나요?", "attribute"),
        ("이 음식은 무엇인가요?", "food"),
        ("사진 속 디저트는 무엇일까요?", "food"),
        ("이 음식의 색깔은 무엇인가요?", "color"),  # what is asked for counts before what it is about
        ("What is the main dish on the table?", "food"),
        ("이 사진에 보이는 새는 무엇인가요?", "animals"),
        ("사진 속 강아지의 품종은 무엇인가요?", "animals"),
        ("이 어항에 있는 물고기는 무엇인가요?", "animals"),  # 고기 is meat, 물고기 is a fish
        ("사진 속 강아지 인형은 무엇인가요?", "general"),
        ("이 새로운 건물은 무엇인가요?", "general"),  # 새 is a bird, 새로운 is new
        ("What breed is the dog?", "animals"),
        ("이 사진에서 볼 수 없는 것은 무엇인가요?", "negation"),
        ("이 식사에 포함되지 않은 음식은 무엇인가요?", "negation"),
        ("책상 위에 놓여 있지 않은 것은?", "negation"),
        ("이 음식의 주된 재료가 아닌 것은 무엇인가요?", "negation"),
        ("안내판에 적힌 내용으로 맞지 않는 것은 무엇인가요?", "negation"),
        ("이 사진에서 볼링공이 아닌 다른 공은 무엇인가요?", "general"),
        ("뚜껑이 없는 컵은 어디에 있나요?", "location"),
        ("Which of these is NOT in the picture?", "negation"),
        ("What can't be seen in the picture?", "negation"),
        ("All of these are visible except which one?", "negation"),
        ("Which of these are visible, except the dog?", "negation"),
        ("Is the dog not black?", "animals"),
        ("이 꽃의 이름은 무엇인가요?", "general"),
        ("검은색과 흰색이 섞인 재료는 무엇인가요?", "general"),  # names a colour, asks for a thing
        ("", "general"),
    ],
)
def test_by_question(text, expected):
    assert kind(text) == expected


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (("예", "아니요"), "yesno"),
        (("Yes", " no "), "yesno"),
        (("1", "2", "3"), "counting"),
        (("한 명", "두 명"), "counting"),
        (("2개", "약 10개", "없음"), "counting"),
        (("빨간색", "진한 파란색"), "color"),
        (("파란색과 흰색", "검정과 회색"), "color"),
        (("red", "dark blue"), "color"),
        (("red", "circle"), "general"),  # every choice has to fit
        (("금붕어", "은행나무"), "general"),  # begin with the words for gold and silver
    ],
)
def test_by_choices(choices, expected):
    assert kind("이것은 무엇?", *choices) == expected


def test_the_table_is_whole():
    assert {rule.kind for rule in RULES} | {"general"} == set(KINDS) and set(BASIC_KINDS) < set(KINDS)
    for rule in RULES:
        assert rule.question or rule.choices, "a rule that fits everything hides those after it"
        re.compile(rule.question), re.compile(rule.choices)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("이 음식은 무엇인가요?", "general"),
        ("사진 속 강아지의 품종은 무엇인가요?", "general"),
        ("이 사진에서 볼 수 없는 것은 무엇인가요?", "general"),
        ("안내판에 적힌 내용으로 맞지 않는 것은 무엇인가요?", "ocr"),
        ("Which color is not in the picture?", "color"),
    ],
)
def test_folds_and_hints_keep_to_the_basic_kinds(text, expected):
    assert basic_kind(asked(text)) == expected and kind(text) not in BASIC_KINDS


def test_what_is_read_aloud_is_no_count_in_a_report_and_folds_stay_as_they_were():
    read = asked("회색 도형 위에 칠해진 문자를 읽으면 어느 것인가요?", "5", "2", "3", "0")
    assert (question_kind(read), basic_kind(read)) == ("ocr", "counting")
    assert kind("책을 읽고 있는 사람은 몇 명인가요?", "1", "2") == "counting" and kind("What is the man reading?") == "general"
