"""The forward pass: independent of batch, padding and packing, and the same as the library's own."""
import math

import numpy as np
import pytest
import torch

from mcvqa.config import DEFAULT_SYSTEM_PROMPT
from mcvqa.model.fast.forward import AnswerModel, Batch, answer_loss, letter_logprobs, read_letters
from mcvqa.model.rows import RowMaker, training_row
from mcvqa.model.text.encode import Encoder
from mcvqa.scoring.orders import option_orders
from mcvqa.training.step import weighted_loss


@pytest.fixture(scope="module")
def answers(base):
    return AnswerModel(base.model, base.family, base.image_token_id).eval()


def logits_of(answers, maker, rows):
    with torch.no_grad():
        return answers(maker.batch(rows))


def test_logits_are_those_of_the_library(base, answers, maker, questions):
    """Compared with the model called the usual way: pixels in, positions computed by itself."""
    row = maker.row(questions[0])
    ids = torch.from_numpy(row.input_ids)[None]
    with torch.no_grad():
        theirs = base.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == base.image_token_id).int(),
            pixel_values=maker.images.patches("a.png"), image_grid_thw=torch.tensor([row.grid]),
        ).logits[0, -1]
    ours = logits_of(answers, maker, [row])[0, 0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


OPTIONS_FIRST = "Choose one of these:\n{options}"


@pytest.mark.parametrize("system_prompt", [DEFAULT_SYSTEM_PROMPT, OPTIONS_FIRST])
def test_logits_do_not_depend_on_batch_padding_or_packing(base, answers, maker, questions, tiny_config, system_prompt):
    """Invariant 2; also where each order has an image of its own, behind the options."""
    config = tiny_config.replace(system_prompt=system_prompt)
    encoder = Encoder(base.tokenizer, config, image_token_id=base.image_token_id, merge=base.merge)
    maker = RowMaker(encoder, maker.images, maker.store)
    orders = np.array([[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1], [3, 2, 1, 0]])
    alone = [logits_of(answers, maker, [maker.row(questions[0], order[None])])[0, 0] for order in orders]
    packed = maker.row(questions[0], orders)
    for rows in ([packed], [packed, maker.row(questions[3])], [maker.row(questions[1]), maker.row(questions[2]), packed]):
        together = logits_of(answers, maker, rows)[[r is packed for r in rows].index(True)]
        for k in range(4):
            torch.testing.assert_close(together[k], alone[k], atol=1e-5, rtol=1e-5)


def test_letter_logprobs_are_in_the_order_of_the_original_choices(questions, base, maker):
    row = base.encoder.encode(questions[0], np.array([[2, 0, 3, 1]]))
    logits = torch.zeros(1, 1, 2048)
    logits[0, 0, base.encoder.letter_tokens[0]] = 9.0  # the model says "a", where original choice 2 is shown
    read = letter_logprobs(logits, maker.batch([row]).letters)
    assert read[0, 0].argmax() == 2


def batch_for_loss(letters, target):
    letters, target = torch.tensor(letters), torch.tensor(target)
    n, k = letters.shape[:2]
    empty = torch.zeros(1, dtype=torch.long)
    at = torch.zeros(n, k, dtype=torch.long)
    return Batch(("x",) * n, empty, empty[None], empty[None], empty, at, letters, target, None, None)


def test_losses_by_hand():
    batch = batch_for_loss([[[0, 1, -1]]], [[1.0, 0.0, 0.0]])
    logits = torch.log(torch.tensor([[[0.2, 0.3, 0.5]]]))
    assert answer_loss(logits, batch).item() == pytest.approx(-np.log(0.2))
    assert answer_loss(logits, batch, among_choices=True).item() == pytest.approx(-np.log(0.4))
    smoothed = answer_loss(logits, batch, label_smoothing=0.2).item()
    assert smoothed == pytest.approx(-(0.9 * np.log(0.2) + 0.1 * np.log(0.3)))
    votes = batch_for_loss([[[0, 1, -1]]], [[0.25, 0.75, 0.0]])
    assert answer_loss(logits, votes).item() == pytest.approx(-(0.25 * np.log(0.2) + 0.75 * np.log(0.3)))


def test_generalized_cross_entropy_by_hand():
    """Between cross-entropy (q = 0) and 1 - p (q = 1); missing choices cost nothing, and the gradient shrinks with p^q."""
    batch = batch_for_loss([[[0, 1, -1]]], [[0.25, 0.75, 0.0]])
    logits = torch.log(torch.tensor([[[0.2, 0.3, 0.5]]])).requires_grad_()
    by_hand = (0.25 * (1 - 0.2**0.7) + 0.75 * (1 - 0.3**0.7)) / 0.7
    assert answer_loss(logits, batch, noise=0.7).item() == pytest.approx(by_hand)
    assert answer_loss(logits, batch, noise=1.0).item() == pytest.approx(0.25 * 0.8 + 0.75 * 0.7)
    assert answer_loss(logits, batch, noise=1e-6).item() == pytest.approx(answer_loss(logits, batch).item(), rel=1e-4)
    one = batch_for_loss([[[0, 1, -1]]], [[1.0, 0.0, 0.0]])
    (plain,), (robust,) = (torch.autograd.grad(answer_loss(logits, one, noise=q).sum(), logits) for q in (0.0, 0.7))
    torch.testing.assert_close(robust, 0.2**0.7 * plain)


@pytest.mark.parametrize("among", [False, True])
def test_a_weight_multiplies_the_loss_of_its_row(among):
    logits = torch.log(torch.tensor([[[0.2, 0.3, 0.5]]]))
    batches = [batch_for_loss([[[0, 1, -1]]], [[weight, 0.0, 0.0]]) for weight in (1.0, 0.5)]
    one, half = (answer_loss(logits, batch, among_choices=among, label_smoothing=0.2) for batch in batches)
    assert half.item() == pytest.approx(one.item() / 2)


def test_a_row_with_fewer_orders_is_averaged_over_its_own():
    batch = batch_for_loss([[[0, 1], [1, 0]], [[0, 1], [-1, -1]]], [[1.0, 0.0], [1.0, 0.0]])
    logits = torch.log(torch.tensor([[[0.2, 0.8], [0.4, 0.6]], [[0.2, 0.8], [0.5, 0.5]]]))
    losses = answer_loss(logits, batch, among_choices=True)
    assert losses[0].item() == pytest.approx(-(np.log(0.2) + np.log(0.6)) / 2)
    assert losses[1].item() == pytest.approx(-np.log(0.2))


def test_orders_that_disagree_cost_what_they_disagree():
    """Jensen-Shannon divergence, written out: entropy of the mean less mean of the entropies."""
    batch = batch_for_loss([[[0, 1], [1, 0]], [[0, 1], [-1, -1]]], [[1.0, 0.0], [1.0, 0.0]])
    logits = torch.log(torch.tensor([[[0.2, 0.8], [0.4, 0.6]], [[0.2, 0.8], [0.5, 0.5]]]))
    plain = answer_loss(logits, batch)
    extra = (answer_loss(logits, batch, consistency=2.0) - plain).tolist()

    def entropy(*shares: float) -> float:
        return -sum(p * np.log(p) for p in shares)

    said = (0.2, 0.8), (0.6, 0.4)  # of the original choices: the second order shows them the other way round
    assert extra[0] == pytest.approx(2 * (entropy(0.4, 0.6) - (entropy(*said[0]) + entropy(*said[1])) / 2), abs=1e-6)
    assert extra[1] == pytest.approx(0.0, abs=1e-6), "one order agrees with itself"


def test_training_learns_by_the_loss_of_the_settings(answers, maker, questions, tiny_config):
    """Each switch of the loss reaches it, with the weight of a row."""
    question = next(q for q in questions if len(q.choices) >= 4)
    switches = [  # a setting, and what it means to the loss
        (dict(loss="choices"), dict(among_choices=True)), (dict(label_smoothing=0.3), dict(label_smoothing=0.3)),
        (dict(order_consistency=2.0), dict(consistency=2.0)),
    ]
    plain = tiny_config.replace(
        loss="vocabulary", label_smoothing=0.0, order_consistency=0.0, train_orders=2)
    batch = maker.batch([training_row(maker, question, 0, plain)])
    with torch.no_grad():
        logits, found = answers(batch), []
        for setting, argument in switches:
            found.append(weighted_loss(answers, plain.replace(**setting), batch, 0.25).item())
            wanted = 0.25 * answer_loss(logits, batch, **argument).sum().item()
            assert found[-1] == pytest.approx(wanted, rel=1e-6), setting
        found.append(weighted_loss(answers, plain, batch, 0.25).item())
    assert len(set(found)) == 4


def test_the_head_is_asked_at_answer_positions_only(base, answers, maker, questions):
    """A vocabulary of 150,000 words for each token would be the largest tensor of all."""
    asked = []
    hook = base.model.get_output_embeddings().register_forward_pre_hook(lambda head, given: asked.append(given[0].shape))
    try:
        rows = [maker.row(q, option_orders(len(q.choices), 2)) for q in questions[:2]]
        logits_of(answers, maker, rows)
    finally:
        hook.remove()
    assert sum(math.prod(shape[:-1]) for shape in asked) == 2 * 2 < len(maker.batch(rows).input_ids)


def test_several_orders_learned_at_once_are_the_mean_of_each_alone(base, answers, maker, questions, tiny_config):
    question = next(q for q in questions if len(q.choices) >= 4)
    config = tiny_config.replace(train_orders=4)
    together = training_row(maker, question, 0, config)
    slots = np.argsort(together.orders, 1)
    assert len(together.orders) == 4 and all(len(set(column)) == 4 for column in slots.T), "each choice in four slots"
    with torch.no_grad():
        packed = answer_loss(answers(batch := maker.batch([together])), batch)
        alone = []
        for order in together.orders:
            batch = maker.batch([maker.row(question, order[None])])
            alone.append(answer_loss(answers(batch), batch))
    torch.testing.assert_close(packed, torch.stack(alone).mean(0), atol=1e-5, rtol=1e-5)
    first = training_row(maker, question, 0, tiny_config)
    assert (first.orders == together.orders[:1]).all(), "more orders are asked, not other ones"


def test_gradients_are_finite_with_fewer_orders_and_choices():
    logits = torch.zeros(2, 2, 4, requires_grad=True)
    batch = batch_for_loss([[[0, 1, 2], [1, 0, 2]], [[0, 1, -1], [-1, -1, -1]]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for among, consistency in ((False, 0.0), (True, 0.0), (False, 1.0), (True, 1.0)):
        logits.grad = None
        answer_loss(logits, batch, among_choices=among, label_smoothing=0.1, consistency=consistency).sum().backward()
        assert torch.isfinite(logits.grad).all()


def test_answers_are_read_for_any_number_of_choices(answers, maker, questions):
    rows = [maker.row(q) for q in questions]
    read = read_letters(answers, [maker.batch(rows)], "cpu")
    assert [values.shape for values in read] == [(1, len(q.choices)) for q in questions]
    assert rows[2].image is None, "a missing photograph: asked from the text alone"
