import re

import pytest

from mcvqa.data.kinds import KINDS, RULES, question_kind
from mcvqa.data.questions import Question

WORDS = ("김밥", "라면", "떡볶이", "우동")


def kind(text: str, *choices: str) -> str:
    return question_kind(Question("1", "1.jpg", text, choices or WORDS))


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
        ("사진에 보이는 창문 색깔은 무엇인가요?", "color"),
        ("What is the COLOR of the car?", "color"),
        ("이 사진은 어디에서 찍은 것일까요?", "location"),
        ("고양이의 위치는 무엇인가요?", "location"),
        ("Where is the dog?", "location"),
        ("이 사진에서 볼 수 있는 계절은 무엇인가요?", "attribute"),
        ("What shape is present?", "attribute"),
        ("사진 속 고양이는 무엇을 하고 있나요?", "attribute"),
        ("이 음식은 무엇인가요?", "general"),
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
    assert {rule.kind for rule in RULES} | {"general"} == set(KINDS)
    for rule in RULES:
        assert rule.question or rule.choices, "a rule that fits everything hides those after it"
        re.compile(rule.question), re.compile(rule.choices)
