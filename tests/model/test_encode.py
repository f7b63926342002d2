"""Rows: label alignment, option orders, what text from a CSV cannot do."""

import numpy as np
import pytest

from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.text.encode import AlignmentError, Encoder, answer_target

GRID = (1, 4, 6)


def test_the_training_prefix_is_the_scoring_prefix_and_the_supervised_token_is_the_one_read(base, questions):
    """Invariant 1: for every question, order and answer."""
    encoder = base.encoder
    for question in questions:
        n = len(question.choices)
        for order in (np.arange(n), np.arange(n)[::-1]):
            row = encoder.encode(question, order[None], GRID)
            for slot, original in enumerate(order):
                trained = encoder.prompt_tokens(question, order, GRID, answer=LETTERS[slot])
                assert trained[: len(row)] == row.input_ids.tolist()
                assert trained[row.answer_at[0] + 1] == row.letters[0, original]


def require_the_prompts(encoder, question, orders, row):
    for k, order in enumerate(orders):
        alone, own = encoder.encode(question, order[None], GRID), (row.segment == 0) | (row.segment == k + 1)
        np.testing.assert_array_equal(row.input_ids[own], alone.input_ids)
        np.testing.assert_array_equal(row.position_ids[:, own], alone.position_ids)
        np.testing.assert_array_equal(row.letters[k], alone.letters[0])
        assert row.segment[row.answer_at[k]] == k + 1


ORDERS = np.array([[0, 1, 2, 3], [3, 1, 2, 0], [1, 0, 3, 2]])


def test_a_packed_row_holds_the_prompts_of_all_orders(base, questions):
    row = base.encoder.encode(questions[0], ORDERS, GRID)
    require_the_prompts(base.encoder, questions[0], ORDERS, row)
    assert len(row) < 3 * len(base.encoder.encode(questions[0], ORDERS[:1], GRID))
    assert (row.input_ids[row.segment == 0] == base.image_token_id).sum() == 6, "the image is in the prefix, once"


def test_a_system_prompt_may_show_the_options_before_the_photograph(base, questions, tiny_config):
    """Then each order has an image of its own, whose tokens count rows and columns too."""
    config = tiny_config.replace(system_prompt="Choose one of these:\n{options}")
    encoder = Encoder(base.tokenizer, config, image_token_id=base.image_token_id, merge=base.merge)
    row = encoder.encode(questions[0], ORDERS, GRID)
    require_the_prompts(encoder, questions[0], ORDERS, row)
    assert (row.input_ids == base.image_token_id).sum() == 3 * 6


def test_letters_follow_the_choice_into_its_slot(base, questions):
    row = base.encoder.encode(questions[0], np.array([[2, 0, 3, 1]]), None)
    letters = base.encoder.letter_tokens
    # original choice 2 is shown first, as (a)
    np.testing.assert_array_equal(row.letters[0], letters[[1, 3, 0, 2]])


def test_identical_orders_still_leave_each_a_tail(base, questions):
    row = base.encoder.encode(questions[1], np.array([[0, 1], [0, 1]]), None)
    assert len(set(row.answer_at.tolist())) == 2


def test_special_tokens_in_a_question_end_nothing(base, questions):
    row = base.encoder.encode(questions[2], None, GRID)
    end = base.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (row.input_ids == base.image_token_id).sum() == 6
    assert (row.input_ids == end).sum() == 2, "one for the system's message, one for the user's"


def test_what_is_asked_is_not_normalised(base):
    question = Question("q", "", "①번 ½ ﬁ Ａ가 맞습니까?", ("㎏", "kg"), 0)
    text = base.tokenizer.decode(base.encoder.encode(question).input_ids)
    assert "①번 ½ ﬁ Ａ가 맞습니까?" in text and "㎏" in text


def test_a_tokenizer_that_joins_letters_is_refused(base, tiny_config):
    class Joined:
        def __init__(self, tokenizer):
            self._tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

        def encode(self, text, **options):
            return self._tokenizer.encode(text.replace("assistant\nb", "assistant\na"), **options)

    with pytest.raises(AlignmentError, match="share a token"):
        Encoder(Joined(base.tokenizer), tiny_config, image_token_id=base.image_token_id, merge=2)


def test_targets():
    voted = Question("v", "", "?", ("x", "y", "z"), 1, votes=(1, 3, 0))
    np.testing.assert_allclose(answer_target(voted), [0, 1, 0])
    np.testing.assert_allclose(answer_target(voted, soft_votes=True), [0.25, 0.75, 0])
    np.testing.assert_allclose(answer_target(Question("n", "", "?", ("x", "y"))), [0, 0])
