"""Choices that speak of the others: which they are, and where they stay."""
import numpy as np
import pytest

from mcvqa.config import Config
from mcvqa.data.meta_choices import fixed_positions, order_rule
from mcvqa.data.questions import Question
from mcvqa.model.rows import training_orders
from mcvqa.scoring.orders import option_orders, question_orders

COLORS = ("red", "green", "blue")


OF_THE_OTHERS = """
    All of the above / all the above. / None of the above / None of these / All of these / Both of the above
    Neither of the above / None of the other options / All of the above are correct
    위의 모든 것 / 위 모두 / 위의 보기 모두 / 위에 없음 / 보기에 없음
    보기 중 없음 / 이 중에 정답 없음 / 모두 정답 / 모두 해당 / 모두 맞다 / 모두 아님 / 해당 없음 / 해당 사항 없음 / 정답 없음
    답이 없다 / 위 중 어느 것도 아님 / 어느 것도 아니다 / 모두 포함
"""
LETTERS_NAMED = """
    Both A and C / A and B / both (a) and (b) / Neither A nor B / A & C only / only B / A only / All except C / a or b
    A and B are correct / a와 b 모두 / A, B 둘 다 / A, B, C 모두 / a와 c / ①과 ③ / 1번과 3번 / 1번, 2번 모두 / 보기 a와 보기 b
    가와 나 모두 / (가), (다) 모두 해당 / Ａ와 Ｂ / B만
"""


def each(listed: str) -> list[str]:
    return [choice.strip() for line in listed.strip().splitlines() for choice in line.split(" / ")]


@pytest.mark.parametrize("choice", each(OF_THE_OTHERS))
@pytest.mark.parametrize("at", [1, 3])
def test_what_speaks_of_the_others_stays(choice, at):
    choices = (*COLORS[:at], choice, *COLORS[at:])
    assert fixed_positions(choices) == (at,)
    rng = np.random.default_rng(0)
    trained = np.concatenate([training_orders(choices, Config(train_orders=2), rng) for _ in range(20)])
    scored = question_orders(choices, 4)
    assert (trained[:, at] == at).all() and len(np.unique(trained, axis=0)) == 6, "the other three in all orders"
    assert (scored[:, at] == at).all() and scored[0].tolist() == [0, 1, 2, 3] and len(np.unique(scored, axis=0)) == 3
    assert (np.sort(trained) == np.arange(4)).all() and (np.sort(scored) == np.arange(4)).all()


@pytest.mark.parametrize("choice", each(LETTERS_NAMED))
def test_a_row_whose_choice_names_letters_keeps_its_order(choice):
    choices = (*COLORS, choice)
    assert fixed_positions(choices) == (0, 1, 2, 3)
    assert question_orders(choices, 4).tolist() == [[0, 1, 2, 3]]
    assert training_orders(choices, Config(train_orders=3), np.random.default_rng(0)).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("choices", [
    COLORS, ("A", "B", "C", "D"), ("1", "2", "3", "모두 앉아 있다"), ("왼쪽", "둘 다", "오른쪽"), ("없음", "한 명", "두 명"),
    ("None", "one", "two"), ("1 or 2", "3 or 4"), ("1과 2", "3과 4", "많음"), ("A/S", "B2B", "R&D"), ("C and J", "toys", "books"),
    ("위로", "위쪽", "모두 빨간색이다"),
    ("A and B", "B and C", "A and C"), ("a와 b", "b와 c", "a와 c"),  # all name what is in the picture, not another choice
    ("all over the floor", "both hands", "a table and a chair"), ("아무것도 없음", "책", "답안지"),
    ("정답지", "해당화", "보기 좋은 떡"),
])
def test_ordinary_choices_get_the_orders_they_always_had(choices):
    assert fixed_positions(choices) == ()
    for k in (1, 2, 4, 8):
        np.testing.assert_array_equal(question_orders(choices, k), option_orders(len(choices), k))
    n, orders = len(choices), 2
    config, before, now = Config(train_orders=orders), np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(5):
        order = before.permutation(n)
        np.testing.assert_array_equal(training_orders(choices, config, now), [order, np.roll(order, -(n // 2))])


@pytest.mark.parametrize(("last", "fixed"), [("All of the above", (3,)), ("Both A and C", (0, 1, 2, 3)), ("black", ())])
def test_choices_with_letters_of_their_own_are_read_without_them(last, fixed):
    assert fixed_positions(("A. red", "B. green", "C. blue", f"D. {last}")) == fixed


@pytest.mark.parametrize("choices", [
    ("A. red", "C. green", "B. blue", "D. black"), ("A. red", "B. green", "C. blue", "black"), ("0. red", "1. green"),
    ("red", "green", "①, ②"), ("red", "green", "A & B"), ("red", "green", "가, 나"),
    ("red", "green", "All of the above except A"),
])
def test_letters_that_stay_in_the_choices_keep_the_order(choices):
    assert fixed_positions(choices) == tuple(range(len(choices)))


@pytest.mark.parametrize("last", ["선택지에 없음", "위의 것 모두 아님", "해당하는 것이 없다"])
def test_korean_for_none_or_all_of_them(last):
    assert fixed_positions((*COLORS, last)) == (len(COLORS),)


def test_one_choice_that_may_move_has_one_order():
    choices = ("red", "None of the above", "All of the above")
    assert question_orders(choices, 4).tolist() == [[0, 1, 2]]
    assert training_orders(choices, Config(), np.random.default_rng(0)).tolist() == [[0, 1, 2]]


def test_keys_change_only_where_rows_are_concerned():
    plain, meta = Question("1", "1.jpg", "?", COLORS), Question("2", "2.jpg", "?", (*COLORS, "해당 없음"))
    assert order_rule([plain, plain]) == {} and order_rule([plain, meta])
