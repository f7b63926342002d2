"""Changes of photographs that keep the answer: which questions allow them, and that they are what they say."""
import random

import numpy as np
import pytest
from PIL import Image

from mcvqa.data.image_changes import MOST_CUT, answer_keeping_changes, changed_image
from mcvqa.data.questions import Question

ALL = {"crop", "flip", "light"}


def asked(text: str, *choices: str) -> Question:
    return Question("r", "r.jpg", text, choices or ("a cat", "a dog", "a horse", "a cow"), 0)


@pytest.mark.parametrize(("question", "allowed"), [
    (asked("What animal is this?"), ALL),
    (asked("이 동물은 무엇인가요?", "고양이", "강아지", "말", "소"), ALL),
    (asked("What is on the left of the table?"), {"crop", "light"}),
    (asked("What is the boy holding?", "in his left hand", "in both hands"), {"light", "crop"}),
    (asked("탁자 왼쪽에 있는 것은 무엇인가요?"), {"crop", "light"}),
    (asked("Which way does it point?", "←", "→"), {"crop", "light"}),
    (asked("What time does the clock show?", "3:00", "9:00"), {"light"}),
    (asked("간판에 적힌 글자는 무엇인가요?", "가", "나"), {"light"}),
    (asked("Is the word STOP written on the sign?", "yes", "no"), {"light"}),
    (asked("간판에 적혀 있지 않은 글자는 무엇인가요?", "가", "나"), {"light"}),
    (asked("How many dogs are there?", "1", "2", "3", "4"), {"flip", "light"}),
    (asked("Is there a dog?", "yes", "no"), {"flip", "light"}),
    (asked("What color is the car?", "red", "blue"), {"crop", "flip"}),
    (asked("What is the car like?", "dark", "bright"), {"crop", "flip"}),
    (asked("사진의 시간대는 언제인가요?", "낮", "밤"), {"crop", "flip"}),
    (asked("¿Qué animal es este?", "gato", "perro"), set()),
    (asked("左にあるものは何ですか", "犬", "猫"), set()),
], ids=lambda value: value.text if isinstance(value, Question) else "")
def test_only_what_keeps_the_answer_is_allowed(question, allowed):
    assert answer_keeping_changes(question) == allowed


@pytest.fixture
def photograph() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(40, 200, (50, 80, 3), dtype=np.uint8))


def test_a_flip_is_a_mirror_image_half_of_the_time(photograph):
    random.seed(0)
    pixels = np.asarray(photograph)
    made = [np.asarray(changed_image(photograph, asked("What animal is this?"), ["flip"])) for _ in range(100)]
    mirrored = [np.array_equal(each, pixels[:, ::-1]) for each in made]
    assert all(m or np.array_equal(each, pixels) for m, each in zip(mirrored, made, strict=True)) and 30 < sum(mirrored) < 70


def test_a_crop_cuts_a_little_at_each_edge(photograph):
    random.seed(0)
    sizes = {changed_image(photograph, asked("What animal is this?"), ["crop"]).size for _ in range(100)}
    assert len(sizes) > 10 and all(
        80 * (1 - 2 * MOST_CUT) <= width <= 80 and 50 * (1 - 2 * MOST_CUT) <= height <= 50 for width, height in sizes)
    assert changed_image(Image.new("RGB", (1, 2)), asked("What animal is this?"), ALL).size == (1, 2)


def test_light_changes_every_shade_and_no_place(photograph):
    random.seed(1)
    made = np.asarray(changed_image(photograph, asked("What animal is this?"), ["light"]))
    assert made.shape == (50, 80, 3) and not np.array_equal(made, np.asarray(photograph))
    assert np.corrcoef(made.ravel(), np.asarray(photograph).ravel())[0, 1] > 0.99


def test_what_the_question_or_the_settings_do_not_allow_leaves_the_photograph_as_it_is(photograph):
    for question, changes in ((asked("左にあるものは何ですか", "犬", "猫"), ALL), (asked("What animal is this?"), ())):
        assert changed_image(photograph, question, changes) is photograph
