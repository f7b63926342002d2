"""Scoring: all orders and scales of every question, read back in the order of the original choices."""
import dataclasses

import numpy as np
import pytest
import torch

from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.fast.forward import AnswerModel
from mcvqa.model.rows import NEVER
from mcvqa.scoring.generated import generate_answer
from mcvqa.scoring.orders import tta_plan
from mcvqa.scoring.score import score_questions
from mcvqa.scoring.scores import log_softmax


def score(base, maker, questions, config, **changes):
    return score_questions(base.model, base, maker, questions, config.replace(**changes), {"run": "t"})


def test_the_plan():
    from mcvqa.config import Config

    assert tta_plan(Config(tta_orders=8)) == (1, (1.0,)), "without use_tta the other switches do nothing"
    assert tta_plan(Config(use_tta=True, tta_orders=2, tta_scales=(0.9, 1.0))) == (2, (0.9, 1.0))
    assert tta_plan(Config(use_tta=True, answer_by="generate")) == (1, (1.0,)), "text is generated once"


def test_one_way_is_the_plain_question(base, maker, questions, tiny_config):
    scores = score(base, maker, questions, tiny_config)
    assert scores.logprobs.shape == (4, 1, 26) and scores.ids.tolist() == ["q0", "q1", "q2", "q3"]
    assert scores.n_choices.tolist() == [4, 2, 3, 26]
    assert np.isneginf(scores.logprobs[1, 0, 2:]).all() and np.isfinite(scores.logprobs[1, 0, :2]).all()


def test_packed_ways_equal_single_questions_in_other_orders(base, maker, questions, tiny_config):
    """Every way of the TTA plan, asked alone as a question of its own with its choices written in that order."""
    scores = score(base, maker, questions[:3], tiny_config, use_tta=True, tta_orders=4, tta_scales=(1.0, 1.5))
    assert scores.scales.tolist() == [1.0] * 4 + [1.5] * 4
    answers = AnswerModel(base.model, base.family, base.image_token_id).eval()
    for i, question in enumerate(questions[:3]):
        n = len(question.choices)
        for k, scale in enumerate(scores.scales):
            if np.isnan(scores.logprobs[i, k]).any():
                assert n < 4, "rows with fewer choices have fewer orders"
                continue
            order = scores.orders[i, k, :n]
            rewritten = dataclasses.replace(question, choices=tuple(question.choices[c] for c in order))
            row = maker.row(rewritten, scale=float(scale))
            with torch.no_grad():
                logits = answers(maker.batch([row], float(scale)))[0, 0].log_softmax(-1)
            by_slot = logits[torch.from_numpy(base.encoder.letter_tokens[:n])].numpy()
            np.testing.assert_allclose(scores.logprobs[i, k, order], by_slot, atol=1e-4)


def test_a_model_that_always_says_a_is_undone_by_the_orders(base, maker, questions, tiny_config, monkeypatch):
    """Letter bias averages out: each choice stands once in each slot."""
    bias = torch.zeros(base.model.lm_head.out_features)
    bias[base.encoder.letter_tokens[0]] = 30.0
    head = base.model.lm_head
    monkeypatch.setattr(head, "forward", lambda hidden: 0.0 * torch.nn.functional.linear(hidden, head.weight) + bias)
    plain = score(base, maker, questions[:1], tiny_config).predictions()
    turned = score(base, maker, questions[:1], tiny_config, use_tta=True, tta_orders=4)
    assert plain.tolist() == [0]
    np.testing.assert_allclose(turned.mean()[0], np.log(0.25), atol=1e-3)


def test_a_gap_between_choices_is_never_the_answer(base, maker, tiny_config):
    gap = Question("g", "a.png", "Which?", ("one", "", "three"), None)
    scores = score(base, maker, [gap], tiny_config, use_tta=True)
    assert (scores.logprobs[0, :3, 1] == np.float32(NEVER)).all() and scores.predictions()[0] != 1
    assert np.isfinite(log_softmax(scores.logprobs[0, :3])).all()


def test_the_order_of_rows_and_the_batch_size_change_nothing(base, maker, questions, tiny_config):
    one = score(base, maker, questions, tiny_config, use_tta=True, eval_batch_size=1)
    other = score(base, maker, questions[::-1], tiny_config, use_tta=True, eval_batch_size=3)
    for i in range(4):
        np.testing.assert_allclose(one.mean()[i], other.mean()[3 - i], atol=1e-5)


def test_a_batch_that_does_not_fit_is_read_in_halves(base, maker, questions, tiny_config, monkeypatch, capsys):
    """The fault is injected: a model with room for one row, and for two short ones."""
    undisturbed = score(base, maker, questions, tiny_config, eval_batch_size=1)
    plain, sizes = AnswerModel.forward, []

    def forward(self, batch):
        sizes.append(len(batch.ids))
        if len(batch.ids) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return plain(self, batch)

    monkeypatch.setattr(AnswerModel, "forward", forward)
    scores = score(base, maker, questions, tiny_config, eval_batch_size=3)
    np.testing.assert_array_equal(scores.logprobs, undisturbed.logprobs)
    assert sizes == [3, 2, 1, 1, 1, 1], "halved until it fits, and not tried again"
    assert "out of GPU memory: from now on 2 rows at a time" in capsys.readouterr().out
    monkeypatch.setattr(AnswerModel, "forward", lambda self, batch: forward(self, maker.batch([maker.row(questions[0])] * 2)))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        score(base, maker, questions[:1], tiny_config)


def test_the_baseline_generates_and_reads(base, maker, questions, tiny_config, monkeypatch):
    likeliest = score(base, maker, questions[:2], tiny_config).predictions()
    for question, letter in zip(questions[:2], likeliest, strict=True):
        assert generate_answer(base.model, base, maker, question, tiny_config) == LETTERS[letter], "generated as it is scored"
    said = iter(["정답은 c입니다.", "I cannot tell.", "3", "z"])
    monkeypatch.setattr("mcvqa.scoring.generated.generate_answer", lambda *a: next(said))
    scores = score(base, maker, questions, tiny_config, answer_by="generate")
    assert scores.predictions()[[0, 3]].tolist() == [2, 25]
    np.testing.assert_allclose(np.exp(scores.mean()[1, :2]), 0.5, atol=1e-4)  # not understood: undecided, never "a"
    assert scores.provenance["unread"] == 1
    assert scores.predictions()[2] == 2, "'3' is the text of the third choice"


@pytest.mark.parametrize("orders", [1, 4])
def test_scores_say_where_they_come_from(base, maker, questions, tiny_config, orders):
    assert score(base, maker, questions[:1], tiny_config, use_tta=True, tta_orders=orders).provenance == {"run": "t"}
