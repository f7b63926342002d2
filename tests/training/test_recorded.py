"""Recorded passes: batches rounded up compute the same, and a fold trained with recordings is the one trained without."""
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcvqa.model.device import GIB
from mcvqa.model.forward import collate
from mcvqa.model.memory import MemoryPlan, Trial
from mcvqa.model.tower import tower_features
from mcvqa.training import loop, recorded
from mcvqa.training.recorded import Recorder, Recording
from tests.model.small import GRIDS, IMAGE, ROWS, answering, small_model, small_pictures
from tests.model.test_block import adapted, assert_same, outcome

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# %% rounded batches
@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def model_and_features(request):
    model = small_model(request.param).requires_grad_(False)
    tower = model.get_submodule("model.visual")
    features = {name: tower_features(tower, patches, (GRIDS[name],)) for name, patches in small_pictures(model).items()}
    return answering(adapted(model, "q_proj|up_proj|down_proj")).train(), features


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(0, len(ROWS) - 1), min_size=1, max_size=5))
def test_a_rounded_batch_has_the_same_loss_and_gradients(model_and_features, numbers):
    answers, features = model_and_features
    batch = collate([ROWS[i] for i in numbers], lambda row: features[row.image], IMAGE)
    more = batch.rounded()
    assert_same(outcome(answers, more), outcome(answers, batch))
    before, after = len(batch.input_ids), len(more.input_ids)
    assert before <= after <= before * 17 / 16 and after & -after >= 2 ** (before.bit_length() - 5)
    assert more.seen.shape[1] % 64 == 0 and (more.images is None) == (batch.images is None)
    assert more.images is None or len(more.images) == after


# %% recordings, their memory imitated: a CPU has no CUDA graphs
def imitate(self: Recorder, batch, weight) -> Recording:
    """As a graph does it: nothing is computed yet; later from what stands in the recording's own tensors."""
    own, loss = batch.each(torch.clone), torch.zeros(())
    return Recording(lambda: loss.copy_(self._compute(own, weight)), own, loss)


def trained(trainer) -> torch.Tensor:
    trainer.run()
    return torch.cat([p.detach().flatten() for p in trainer.parameters.values()])


def with_recordings(trainer, rows=2):
    trainer.memory = MemoryPlan(rows, recorded=True)
    return trainer


@pytest.fixture
def recordings(monkeypatch) -> list[tuple]:
    """Shapes of the list and of what prompts see, for each recording."""
    made = []

    def recording(self, batch, weight):
        made.append((len(batch.input_ids), *batch.seen.shape))
        return imitate(self, batch, weight)

    monkeypatch.setattr(Recorder, "_recorded", recording)
    return made


CLOSE = 1e-3  # weights that learn at 1e-3 a step: AdamW makes much of the last digits of small gradients
SETTINGS = dict(num_epochs=2, batch_size=2, grad_accum_steps=2, lora_dropout=0.0)


def test_a_fold_with_recorded_passes_is_the_fold_without(make_trainer, recordings):
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    torch.testing.assert_close(trained(trainer), trained(plain), atol=CLOSE, rtol=0)
    losses = ([event["loss"] for event in one.log.events("step")] for one in (trainer, plain))
    assert next(losses) == pytest.approx(next(losses), rel=1e-3)
    assert recordings and len(recordings) == len(set(recordings)) < plain.step, "each shape once"
    assert not trainer.recorder.recordings, "nothing is held when the fold is done"


def test_what_is_left_over_at_the_end_of_an_epoch_is_not_recorded(make_trainer, recordings):
    trainer = with_recordings(make_trainer(**SETTINGS))
    trainer.train = trainer.train[:7]  # steps of 4 and 3 rows
    trainer.run()
    assert recordings and {prompts for _, prompts, _ in recordings} == {2}
    assert len(recordings) <= 2 * 2 - 1, "two full passes in each epoch, the very first not recorded"


def test_a_module_that_moved_to_float32_is_recorded_anew(make_trainer, recordings):
    trainer = make_trainer(**SETTINGS)
    trainer._prepare()
    trainer.answers.train()
    batch, recorder = trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[:2]]), trainer._new_recorder()
    for _ in range(3):
        recorder(batch, 0.5)
    trainer.answers.move_to_float32(["layers.1.mlp"])
    recorder(batch, 0.5)
    recorder(batch, 0.25)
    assert len(recordings) == 3, "the weight of a row is recorded too"


def test_gradients_are_added_to_those_that_are_there(make_trainer, recordings):
    trainer = make_trainer(**SETTINGS)
    trainer._prepare()
    trainer.answers.train()
    recorder, batches = trainer._new_recorder(), [
        trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[n : n + 2]]) for n in (0, 2, 4, 0)]

    def gradients(ways):
        trainer.optimizer.zero_grad(set_to_none=True)
        losses = [float(way(batch, 0.25)) for way, batch in zip(ways, batches, strict=True)]
        return losses, torch.cat([p.grad.flatten() for p in trainer.parameters.values()])

    wanted = gradients([trainer._backward] * 4)
    gradients([recorder] * 4)
    for ways in ([recorder] * 4, [trainer._backward, recorder, trainer._backward, recorder]):
        losses, found = gradients(ways)
        assert losses == pytest.approx(wanted[0], rel=1e-5)
        torch.testing.assert_close(found, wanted[1], atol=1e-6, rtol=1e-4)
    assert recordings


def test_only_so_many_shapes_are_recorded(make_trainer, recordings, monkeypatch):
    monkeypatch.setattr(recorded, "MOST_SHAPES", 1)
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    torch.testing.assert_close(trained(trainer), trained(plain), atol=CLOSE, rtol=0)
    assert len(recordings) == 1


def test_where_it_cannot_be_recorded_training_goes_on(make_trainer, monkeypatch, capsys):
    def fail(self, batch, weight):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorder, "_recorded", fail)
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    torch.testing.assert_close(trained(trainer), trained(plain), atol=CLOSE, rtol=0)
    assert capsys.readouterr().out.count("no more passes are recorded: operation not permitted") == 1


def test_where_memory_runs_out_recordings_go_first():
    plan = MemoryPlan(8, recorded=True)
    assert str(plan) == "micro-batch 8 without checkpointing, recorded"
    assert plan.shrink(loop.Config()) and plan == MemoryPlan(8)
    assert plan.shrink(loop.Config()) and plan == MemoryPlan(4)


# %% whether it pays
@pytest.mark.parametrize(("single", "peak", "steps", "recorded"), [
    (0.8, 3, 50, True), (0.5, 3, 50, False), (0.8, 7, 50, False), (0.8, 3, 40, False)])
def test_passes_are_recorded_where_launches_bind_and_the_fold_is_long(
    make_trainer, monkeypatch, capsys, single, peak, steps, recorded
):
    """Two passes a step. With simulated times and memory; the passes themselves are real."""
    trainer, tried = make_trainer(**SETTINGS | dict(micro_batch=2, lora_dropout=0.1)), []

    def measure(rows, checkpointing, run, kept, limit) -> Trial:
        run()
        tried.append(rows)
        return Trial(rows, checkpointing, {1: single, 2: 1.0}[rows], peak * GIB)

    monkeypatch.setattr(loop, "measure_pass", measure)
    trainer._prepare()
    trainer.base = dataclasses.replace(trainer.base, plan=dataclasses.replace(trainer.base.plan, memory=15 * GIB))
    trainer.total, before = steps, torch.get_rng_state()
    trainer._plan_memory()
    assert torch.equal(torch.get_rng_state(), before), "what is tried draws nothing that a step would draw"
    assert trainer.memory == MemoryPlan(2, recorded=recorded)
    assert tried == ([2, 1] if peak == 3 and steps == 50 else [2])
    assert ("so passes are recorded" in capsys.readouterr().out) == recorded
    assert all(p.grad is None for p in trainer.parameters.values())


def test_a_vision_tower_in_training_is_not_recorded(make_trainer):
    trainer = make_trainer(**SETTINGS)
    trainer._prepare()
    batch = trainer.maker.batch([trainer.maker.row(trainer.train[0])])
    assert trainer.answers.can_be_recorded(batch)
    assert not trainer.answers.can_be_recorded(dataclasses.replace(batch, grids=((1, 4, 4),)))


# %% for real
@needs_gpu
def test_on_a_gpu_recordings_compute_what_passes_do(make_trainer):
    trainer = make_trainer(**SETTINGS | dict(device="cuda", precision="float32", lora_dropout=0.1))
    trainer._prepare()
    trainer.answers.train()
    device, recorder = trainer.accelerator.device, trainer._new_recorder()

    def gradients(way, batch):
        trainer.optimizer.zero_grad(set_to_none=True)
        torch.cuda.manual_seed(0)
        loss = way(batch, 0.5)
        return loss.item(), torch.cat([p.grad.flatten() for p in trainer.parameters.values()])

    batches = [trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[n : n + 2]]).to(device) for n in (0, 2, 4, 6)]
    for batch in batches:
        recorder(batch, 0.5)
    for batch in batches:
        wanted, found = gradients(trainer._backward, batch.rounded()), gradients(recorder, batch)
        assert found[0] == pytest.approx(wanted[0], rel=1e-5)
        torch.testing.assert_close(found[1], wanted[1], atol=1e-5, rtol=1e-3)
    assert recorder.recordings


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_on_a_gpu_a_fold_with_recorded_passes_is_the_fold_without(make_trainer, precision):
    settings = SETTINGS | dict(device="cuda", precision=precision)
    plain, trainer = make_trainer(**settings), make_trainer(**settings)
    for one, recorded_passes in ((plain, False), (trainer, True)):
        one.memory = MemoryPlan(2, recorded=recorded_passes)
        one.run()
    losses = ([event["loss"] for event in one.log.events("step")] for one in (trainer, plain))
    assert next(losses) == pytest.approx(next(losses), rel=1e-4 if precision == "float32" else 0.05)
