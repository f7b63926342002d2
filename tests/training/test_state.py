"""What optimizer steps change, and the random numbers: taken away and given back."""
import json
import random

import numpy as np
import torch
from torch import nn

from mcvqa.training.average import WeightAverage
from mcvqa.training.state import TrainingState, generator_states, set_generator_states


def drawn() -> list[float]:
    return [torch.rand(()).item(), np.random.rand(), np.random.standard_normal(), random.random(), random.gauss(0, 1)]


def test_every_generator_goes_on_where_it_was():
    drawn()  # numpy and Python hold back every second normal number
    states = json.loads(json.dumps(generator_states()))
    first = drawn()
    assert first != drawn()
    set_generator_states(states)
    assert drawn() == first


def learning(scaler=None) -> TrainingState:
    torch.manual_seed(0)
    parameters = {"a": nn.Parameter(torch.rand(2, 3)), "b.c": nn.Parameter(torch.rand(3))}
    averages = {"ema": WeightAverage(parameters, 0.9), "swa": WeightAverage(parameters, None)}
    return TrainingState(parameters, torch.optim.AdamW(parameters.values(), lr=0.1), averages, scaler)


def step(learned: TrainingState) -> None:
    for p in learned.parameters.values():
        p.grad = torch.rand_like(p)
    learned.optimizer.step()
    for average in learned.averages.values():
        average.update(learned.parameters)


def test_restored_it_learns_on_in_the_same_way():
    one, other = learning(), learning()
    for _ in range(3):
        step(one)
    one.step, one.skipped, one.epochs_done, one.rollbacks, one.anchor = 3, 1, 2, 1, "1-0002-00000002"
    one.right, one.validation_rows = [np.array([True, False, True]), np.ones(3, bool)], 3
    tensors, facts = {k: v.clone() for k, v in one.tensors().items()}, json.loads(json.dumps(one.facts()))
    other.restore(tensors, facts)
    for learned in (one, other):
        torch.manual_seed(1)
        step(learned)
    assert one.tensors().keys() == other.tensors().keys() and len(one.tensors()) == 3 * 2 + 3 * 2
    for name, value in one.tensors().items():
        assert torch.equal(value, other.tensors()[name]), name
    assert one.facts() == other.facts() == {
        "updates": {"ema": 4, "swa": 4}, "scaler": {}, "right": ["101", "111"], "validation_rows": 3,
        "counters": {"step": 3, "skipped": 1, "skipped_on_end": 0, "epochs_done": 2, "rollbacks": 1, "anchor": "1-0002-00000002"},
    }


def test_before_the_first_step_there_are_no_moments():
    one, other = learning(), learning()
    step(other)
    other.restore(one.tensors(), one.facts())
    assert other.tensors().keys() == one.tensors().keys() and not one.optimizer.state_dict()["state"]


def test_the_scale_of_float16_gradients_is_kept():
    one, other = (learning(torch.amp.GradScaler("cpu", init_scale=scale)) for scale in (8.0, 1024.0))
    one.scaler.scale(torch.ones(()))
    one.scaler.update(4.0)
    other.restore(one.tensors(), json.loads(json.dumps(one.facts())))
    assert other.scaler.get_scale() == 4.0
    learning().restore(one.tensors(), one.facts())  # a device without scaling takes the rest


def test_what_version_0_1_did_not_write_is_not_missed():
    one, other = learning(), learning()
    step(one)
    facts = {name: value for name, value in one.facts().items() if name not in ("right", "validation_rows")}
    other.restore(one.tensors(), facts)
    assert other.right == [] and other.validation_rows == 0
