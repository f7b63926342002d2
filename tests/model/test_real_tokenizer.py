"""The real tokenizer and layer sizes of Qwen2.5-VL-3B, with all real questions of the 2025 competition."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import read_questions
from mcvqa.model.load import load_encoder
from mcvqa.model.size import measure_model

SHARED = Path(__file__).parents[3] / "shared"
pytestmark = [
    pytest.mark.nightly,  # a tokenizer of 151,643 merges is made first
    pytest.mark.skipif(not (SHARED / "qwen").exists(), reason="the tokenizer's ranks are not beside the checkout"),
]
GRID = (1, 22, 30)  # a 4:3 photograph at 384 x 384 pixels


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3b")
    subprocess.run([sys.executable, SHARED / "qwen" / "make_model.py", folder, "--size", "3b"], check=True, capture_output=True)
    config = Config(model_id=str(folder))
    return config, *load_encoder(config)


def test_letters_are_the_known_tokens(qwen):
    assert qwen[1].letter_tokens[:4].tolist() == [64, 65, 66, 67]


def test_lora_trains_14966784_parameters(qwen):
    config, _, _, model_config = qwen
    assert measure_model(model_config, config).trained == 14_966_784


def test_every_real_question_is_aligned(qwen):
    """The training conversation continues the scoring prompt with the one supervised token, in a shuffled order too."""
    encoder, random, lengths = qwen[1], np.random.default_rng(0), []
    questions = read_questions(SHARED / "data" / "ssafy2025" / "train.csv").questions
    assert len(questions) == 3887
    for question in questions:
        order = random.permutation(4)
        row = encoder.encode(question, order[None], GRID)
        slot = order.tolist().index(question.answer)
        trained = encoder.prompt_tokens(question, order, GRID, answer=LETTERS[slot])
        assert trained[: len(row)] == row.input_ids.tolist()
        assert trained[row.answer_at[0] + 1] == row.letters[0, question.answer] == 64 + slot
        lengths.append(len(row))
    assert 250 < np.mean(lengths) < 320 and max(lengths) < 450


def test_four_packed_orders_are_cheap(qwen):
    """The instruction stands before the options, so only the options are said four times."""
    encoder = qwen[1]
    question = read_questions(SHARED / "data" / "ssafy2025" / "train.csv").questions[0]
    one = encoder.encode(question, None, GRID)
    four = encoder.encode(question, np.array([[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1], [3, 2, 1, 0]]), GRID)
    assert len(four) < 1.6 * len(one)
