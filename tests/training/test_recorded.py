"""Recorded passes: batches rounded up compute the same, and a fold trained with recordings is the one trained without."""
import dataclasses
import gc
import math
import warnings
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcvqa.config import Config
from mcvqa.model.device import GIB
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.fast.forward import collate
from mcvqa.model.load import remove_adapters
from mcvqa.model.memory import MemoryPlan, Trial
from mcvqa.model.rows import longest_training_rows
from mcvqa.model.vision.tower import tower_features
from mcvqa.training import loop, micro_batch, recorded
from mcvqa.training.evaluate import Evaluator
from mcvqa.training.micro_batch import find_micro_batch
from mcvqa.training.recorded import Recorder, Recording
from tests.conftest import needs_gpu
from tests.model.small import GRIDS, IMAGE, ROWS, answering, small_model, small_pictures
from tests.model.test_block import adapted, assert_same, outcome
from tests.training.test_loop import trained_weights


# %% rounded batches
@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def model_and_features(request):
    model = small_model(request.param).requires_grad_(False)
    tower = model.get_submodule("model.visual")
    features = {name: tower_features(tower, patches, (GRIDS[name],)) for name, patches in small_pictures(model).items()}
    return answering(adapted(model, "q_proj|up_proj|down_proj|in_proj_qkv|in_proj_b|out_proj")).train(), features


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(0, len(ROWS) - 1), min_size=1, max_size=5))
def test_a_rounded_batch_has_the_same_loss_and_gradients(model_and_features, numbers):
    answers, features = model_and_features
    recurrent = FAMILIES[answers.model.config.model_type].recurrent
    batch = collate([ROWS[i] for i in numbers], lambda row: features[row.image], IMAGE, recurrent=recurrent)
    more = batch.rounded()
    assert_same(outcome(answers, more), outcome(answers, batch), 1e-4 if recurrent else 1e-5)
    before, after = len(batch.input_ids), len(more.input_ids)
    assert before <= after <= before * 17 / 16 and after & -after >= 2 ** (before.bit_length() - 5)
    assert more.prompt_tokens.shape[1] % 64 == 0 and (more.images is None) == (batch.images is None)
    assert more.images is None or len(more.images) == after


# %% recordings, their memory imitated: a CPU has no CUDA graphs
def imitate(self: Recorder, batch, weight) -> Recording:
    """As a graph does it: nothing is computed yet; later from what stands in the recording's own tensors."""
    own, loss = batch.each(torch.clone), torch.zeros(())
    return Recording(lambda: loss.copy_(self._compute(own, weight)), own, loss)


def with_recordings(trainer, rows=2):
    return trainer.change(memory=MemoryPlan(rows, recorded=True))


@pytest.fixture
def recordings(monkeypatch) -> list[tuple]:
    """Shapes of the list and of what prompts see, for each recording."""
    made = []

    def recording(self, batch, weight):
        made.append((len(batch.input_ids), *batch.prompt_tokens.shape))
        return imitate(self, batch, weight)

    monkeypatch.setattr(Recorder, "_recorded", recording)
    return made


CLOSE = 1e-3  # weights that learn at 1e-3 a step: AdamW makes much of the last digits of small gradients
SETTINGS = dict(num_epochs=2, batch_size=2, grad_accum_steps=2, lora_dropout=0.0)


@pytest.mark.nightly
def test_a_fold_with_recorded_passes_is_the_fold_without(make_trainer, recordings):
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    torch.testing.assert_close(trained_weights(trainer), trained_weights(plain), atol=CLOSE, rtol=0)
    losses = ([event["loss"] for event in one.log.events("step")] for one in (trainer, plain))
    assert next(losses) == pytest.approx(next(losses), rel=1e-3)
    assert recordings and len(recordings) == len(set(recordings)) < plain.state.step, "each shape once"
    assert not trainer.stepper.recorder.recordings, "nothing is held when the fold is done"


def test_of_what_is_left_over_at_the_end_of_an_epoch_no_recording_is_kept(make_trainer, recordings, monkeypatch):
    trainer, kept = with_recordings(make_trainer(**SETTINGS)), []
    trainer.change(train=trainer.train[:7])  # steps of 4 and 3 rows
    plainly = Recorder.__call__

    def noting(self, batch, weight, **named):
        loss = plainly(self, batch, weight, **named)
        kept.append((weight, {key[0] for key in self.recordings}))
        return loss

    monkeypatch.setattr(Recorder, "__call__", noting)
    trainer.run()
    assert {weight for weight, _ in kept} == {1 / 4, 1 / 3} and kept[-1][1] == {1 / 4}


def test_a_step_in_unequal_passes_is_recorded_too(make_trainer, recordings):
    trainer = with_recordings(make_trainer(**SETTINGS | dict(batch_size=5, grad_accum_steps=1)), rows=2)
    trainer.change(train=trainer.train[:5])  # passes of 2, 2 and 1 rows; fewer rows than in a step would be the same
    trainer.run()
    assert {prompts for _, prompts, _ in recordings} == {1, 2}


def test_a_fold_of_fewer_rows_than_a_step_is_recorded(make_trainer, recordings):
    trainer = with_recordings(make_trainer(**SETTINGS | dict(batch_size=64)))
    trainer.change(train=trainer.train[:6])
    trainer.run()
    assert recordings


def test_when_a_module_moves_to_float32_all_is_recorded_anew(make_trainer, recordings):
    """Whoever moves it: validation may. The next pass is not recorded: kernels may have to be compiled."""
    trainer = make_trainer(**SETTINGS)
    assert trainer.ready
    batch, recorder = trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[:2]]), trainer.stepper.recorder
    for _ in range(3):
        recorder(batch, 0.5)
    assert len(recordings) == 1
    trainer.stepper.answers.move_to_float32(["layers.1.mlp"])
    recorder(batch, 0.5)
    assert len(recordings) == 1 and not recorder.recordings
    for weight in (0.5, 0.25):
        recorder(batch, weight)
    assert len(recordings) == 3, "the weight of a row is recorded too"


def test_the_scaled_loss_is_differentiated_and_the_loss_itself_said(make_trainer, recordings):
    trainer = make_trainer(**SETTINGS)
    assert trainer.ready
    parameters = [*trainer.state.parameters.values()]
    batch = trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[:2]])
    other = trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[2:4]])
    found = []
    for scale in (1, 4):
        recorder = Recorder(trainer.stepper.answers, trainer.stepper.loss_of, lambda loss, by=scale: by * loss, parameters)
        recorder(batch, 0.5)
        trainer.state.optimizer.zero_grad(set_to_none=True)
        loss = recorder(batch, 0.5)
        found.append((float(loss), torch.cat([p.grad.flatten() for p in parameters])))
        recorder(other, 0.5)
        assert float(loss) == found[-1][0], "the next pass leaves it as it is"
    assert found[0][0] == found[1][0] and recordings
    torch.testing.assert_close(4 * found[0][1], found[1][1])


def test_nothing_of_a_fold_is_held_when_it_is_done(make_trainer, recordings):
    """Its optimizer and averages would stand beside the next fold on the GPU."""
    trainer = with_recordings(make_trainer(**SETTINGS))
    trainer.run()
    remove_adapters(trainer.base, trainer.stepper.model)
    assert not trainer.stepper.recorder.recordings and not trainer.stepper.recorder.gradients.buffers
    held = [weakref.ref(trainer.stepper), weakref.ref(trainer.stepper.answers)]
    gc.disable()
    try:
        del trainer
        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


def test_nothing_is_held_after_an_error(make_trainer, recordings, monkeypatch):
    trainer = with_recordings(make_trainer(**SETTINGS))

    def end(*given, **named):
        assert trainer.stepper.recorder.recordings
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "validate", end)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not trainer.stepper.recorder.recordings


@pytest.mark.nightly
def test_a_step_that_does_not_fit_is_done_again_without_recordings(make_trainer, recordings, monkeypatch, capsys):
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    failing = iter([False] * 5 + [True])
    compute = Recorder._compute

    def run_out(self, batch, weight):
        if next(failing, False):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return compute(self, batch, weight)

    def use_less_memory(stepper):
        plainly(stepper)
        left.append((len(stepper.recorder.recordings), len(stepper.recorder.gradients.buffers)))

    left, plainly = [], loop.use_less_memory
    monkeypatch.setattr(loop, "use_less_memory", use_less_memory)
    monkeypatch.setattr(Recorder, "_compute", run_out)
    torch.testing.assert_close(trained_weights(trainer), trained_weights(plain), atol=CLOSE, rtol=0)
    assert trainer.memory == MemoryPlan(2) and left == [(0, 0)]
    said = "out of GPU memory with micro-batch 2 without checkpointing, recorded. The step is repeated with micro-batch 2 without"
    assert said in capsys.readouterr().out


def test_gradients_are_added_to_those_that_are_there(make_trainer, recordings):
    trainer = make_trainer(**SETTINGS)
    assert trainer.ready
    recorder, batches = trainer.stepper.recorder, [
        trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[n : n + 2]]) for n in (0, 2, 4, 0)]

    def gradients(ways):
        trainer.state.optimizer.zero_grad(set_to_none=True)
        losses = [float(way(batch, 0.25)) for way, batch in zip(ways, batches, strict=True)]
        return losses, torch.cat([p.grad.flatten() for p in trainer.state.parameters.values()])

    wanted = gradients([trainer.stepper.backward] * 4)
    gradients([recorder] * 4)
    for ways in ([recorder] * 4, [trainer.stepper.backward, recorder, trainer.stepper.backward, recorder]):
        losses, found = gradients(ways)
        assert losses == pytest.approx(wanted[0], rel=1e-5)
        torch.testing.assert_close(found, wanted[1], atol=1e-6, rtol=1e-4)
    assert recordings


@pytest.mark.nightly
def test_only_so_many_recordings_are_kept(make_trainer, recordings, monkeypatch):
    """The others are dropped: a pass without a recording would need memory of its own beside them."""
    monkeypatch.setattr(recorded, "MOST_SHAPES", 1)
    most, replayed = [], Recorder.__call__

    def counted(self, *given, **named):
        loss = replayed(self, *given, **named)
        most.append(len(self.recordings))
        return loss

    monkeypatch.setattr(Recorder, "__call__", counted)
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    torch.testing.assert_close(trained_weights(trainer), trained_weights(plain), atol=CLOSE, rtol=0)
    assert max(most) == 1 and len(recordings) > len(set(recordings)), "rare shapes are recorded each time they occur"


@pytest.mark.nightly
def test_where_it_cannot_be_recorded_training_goes_on(make_trainer, monkeypatch, capsys):
    def fail(self, batch, weight):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorder, "_recorded", fail)
    plain, trainer = make_trainer(**SETTINGS), with_recordings(make_trainer(**SETTINGS))
    torch.testing.assert_close(trained_weights(trainer), trained_weights(plain), atol=CLOSE, rtol=0)
    assert capsys.readouterr().out.count("CUDA graphs are not used: operation not permitted") == 1


def test_where_memory_runs_out_recordings_go_first():
    plan = MemoryPlan(8, recorded=True)
    assert str(plan) == "micro-batch 8 without checkpointing, recorded"
    assert plan.shrink(Config()) and plan == MemoryPlan(8)
    assert plan.shrink(Config()) and plan == MemoryPlan(4)


# %% whether it pays
@pytest.mark.parametrize(("single", "replay", "fits", "steps", "recorded"), [
    (0.6, 0.8, True, 50, True), (0.4, 0.8, True, 50, False), (0.6, 0.8, False, 50, False), (0.6, 1.1, True, 50, False),
    (0.6, 0.8, True, 40, False),
])
def test_passes_are_recorded_where_launches_bind_the_fold_is_long_and_it_is_measured_to_pay(
    make_trainer, recordings, monkeypatch, capsys, single, replay, fits, steps, recorded
):
    """Two passes a step. With simulated times and memory; the passes themselves are real."""
    trainer, tried = make_trainer(**SETTINGS | dict(micro_batch=2, lora_dropout=0.1)), []

    def measure(rows, checkpointing, run, kept, limit, *, recorded=False) -> Trial | None:
        for _ in range(2 + recorded):
            run()
        tried.append((rows, checkpointing, recorded))
        if recorded and not fits:
            return None
        return Trial(rows, checkpointing, replay if recorded else {1: single, 2: 1.0}[rows], 9 * GIB, recorded)

    monkeypatch.setattr(micro_batch, "measure_pass", measure)
    trainer.change(base=dataclasses.replace(trainer.base, plan=dataclasses.replace(trainer.base.plan, memory=15 * GIB)))
    stepper = trainer.stepper  # made here, which seeds
    stepper.plan.total, before = steps, torch.get_rng_state()
    find_micro_batch(stepper)
    assert torch.equal(torch.get_rng_state(), before), "what is tried draws nothing that a step would draw"
    assert trainer.memory == MemoryPlan(2, recorded=recorded)
    promising = [(2, False, True)] if single > 0.5 and steps == 50 else []
    if promising and not fits:
        promising += [(1, False, True), (2, True, True), (1, True, True)]
    assert tried == [(2, False, False)] + [(1, False, False)] * (steps == 50) + promising
    assert ("so CUDA graphs are used" in capsys.readouterr().out) == recorded
    assert all(p.grad is None for p in trainer.state.parameters.values()) and not stepper.recorder.recordings


def test_passes_that_do_not_fit_are_not_recorded_either(make_trainer, recordings, monkeypatch):
    trainer, tried = make_trainer(**SETTINGS | dict(lora_dropout=0.1)), []

    def measure(rows, checkpointing, run, kept, limit, *, recorded=False) -> Trial | None:
        for _ in range(2 + recorded):
            run()
        tried.append((rows, checkpointing, recorded))
        return Trial(rows, checkpointing, 0.8 if recorded else 1.0, 9 * GIB, recorded) if rows < 4 else None

    monkeypatch.setattr(micro_batch, "measure_pass", measure)
    trainer.change(base=dataclasses.replace(trainer.base, plan=dataclasses.replace(trainer.base.plan, memory=15 * GIB)))
    trainer.stepper.plan.total = 50
    find_micro_batch(trainer.stepper)
    assert trainer.memory == MemoryPlan(2, recorded=True)
    assert tried == [(4, False, False), (2, False, False), (4, True, False), (1, False, False), (2, False, True)]


def test_a_recording_that_fails_in_a_trial_is_no_trial(make_trainer, monkeypatch):
    def fail(self, batch, weight):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorder, "_recorded", fail)
    trainer = make_trainer(**SETTINGS)
    monkeypatch.setattr(micro_batch, "measure_pass", lambda rows, checkpointing, run, *_, recorded: (
        run(), run(), Trial(rows, checkpointing, 1.0, GIB, recorded))[-1])
    trainer.change(base=dataclasses.replace(trainer.base, plan=dataclasses.replace(trainer.base.plan, memory=15 * GIB)))
    rows = longest_training_rows(trainer.maker, trainer.train, trainer.config)
    assert micro_batch.try_pass(trainer.stepper, rows, 2, False)
    assert micro_batch.try_pass(trainer.stepper, rows, 2, False, recorded=True) is None


def test_a_vision_tower_in_training_is_not_recorded(make_trainer):
    trainer = make_trainer(**SETTINGS)
    assert trainer.ready
    batch = trainer.maker.batch([trainer.maker.row(trainer.train[0])])
    assert trainer.stepper.answers.can_be_recorded(batch)
    assert not trainer.stepper.answers.can_be_recorded(dataclasses.replace(batch, grids=((1, 4, 4),)))


# %% for real
@needs_gpu
def test_on_a_gpu_recordings_compute_what_passes_do(make_trainer):
    trainer = make_trainer(**SETTINGS | dict(device="cuda", precision="float32", lora_dropout=0.1))
    assert trainer.ready
    device, recorder = trainer.stepper.accelerator.device, trainer.stepper.recorder

    def gradients(way, batch):
        trainer.state.optimizer.zero_grad(set_to_none=True)
        torch.cuda.manual_seed(0)
        loss = way(batch, 0.5)
        return loss.item(), torch.cat([p.grad.flatten() for p in trainer.state.parameters.values()])

    batches = [trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[n : n + 2]]).to(device) for n in (0, 2, 4, 6)]
    for batch in batches:
        recorder(batch, 0.5)
    for batch in batches:
        wanted, found = gradients(trainer.stepper.backward, batch.rounded()), gradients(recorder, batch)
        assert found[0] == pytest.approx(wanted[0], rel=1e-5)
        torch.testing.assert_close(found[1], wanted[1], atol=1e-5, rtol=1e-3)
    assert recorder.recordings


@needs_gpu
def test_on_a_gpu_each_replay_drops_something_else_and_the_same_seed_the_same(make_trainer):
    trainer = make_trainer(**SETTINGS | dict(device="cuda", precision="float32", lora_dropout=0.5))
    stepper = trainer.ready
    for name, weight in trainer.state.parameters.items():  # B is zero when fresh: dropout would change nothing
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    batch = trainer.maker.batch([trainer.maker.row(q) for q in trainer.train[:2]]).to(stepper.accelerator.device)
    for _ in range(2):
        stepper.recorder(batch, 0.5)
    assert stepper.recorder.recordings

    def losses():
        torch.cuda.manual_seed(7)
        return [stepper.recorder(batch, 0.5).item() for _ in range(4)]

    first = losses()
    assert len(set(first)) == 4 and losses() == pytest.approx(first, rel=1e-5)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_on_a_gpu_a_fold_with_recorded_passes_is_the_fold_without(make_trainer, precision):
    settings = SETTINGS | dict(device="cuda", precision=precision)
    plain, trainer = make_trainer(**settings), make_trainer(**settings)
    for one, recorded_passes in ((plain, False), (trainer, True)):
        one.change(memory=MemoryPlan(2, recorded=recorded_passes))
        one.run()
    losses = ([event["loss"] for event in one.log.events("step")] for one in (trainer, plain))
    norms = ([event["grad_norm"] for event in one.log.events("step")] for one in (trainer, plain))
    tolerance = 1e-3 if precision == "float32" else 0.05
    assert next(losses) == pytest.approx(next(losses), rel=tolerance) and next(norms) == pytest.approx(next(norms), rel=tolerance)


@needs_gpu
def test_on_a_gpu_a_recording_that_fails_ends_nothing(make_trainer, capsys):
    """A value that is asked for in the middle of a recording is such a failure; dropout goes on drawing."""
    trainer = make_trainer(**SETTINGS | dict(device="cuda", precision="float32", lora_dropout=0.1))
    assert trainer.ready
    loss_of, asked = trainer.stepper.loss_of, iter([False, False, True])

    def asking(batch, weight):
        loss = loss_of(batch, weight)
        return loss * loss.item() if next(asked, False) else loss

    trainer.stepper.recorder.loss_of = asking
    rows = [trainer.maker.row(q) for q in trainer.train[:6]]
    own = (rows[:2], rows[:2], rows[2:], rows[2:], rows[:2])
    batches = [trainer.maker.batch(part).to(trainer.stepper.accelerator.device) for part in own]
    stream = torch.cuda.current_stream()
    losses = [trainer.stepper.recorder(batch, 0.5).item() for batch in batches]
    assert all(map(math.isfinite, losses)) and torch.cuda.current_stream() == stream and not trainer.stepper.recorder.recordings
    assert capsys.readouterr().out.count("CUDA graphs are not used") == 1
    assert torch.rand(2, device="cuda").unique().numel() == 2


@needs_gpu
@pytest.mark.parametrize("recorded_passes", [False, True])
def test_on_a_gpu_a_step_waits_once(make_trainer, recorded_passes):
    """For the loss and the gradient's length, together; whatever else would wait for the GPU, torch tells."""
    trainer = make_trainer(**SETTINGS | dict(device="cuda", precision="float16", lora_dropout=0.1))
    trainer.change(memory=MemoryPlan(2, recorded=recorded_passes))
    assert trainer.ready
    rows = [trainer.maker.row(q) for q in trainer.train[:4]]
    batches = [(trainer.maker.batch(part).pin_memory(), True) for part in (rows[:2], rows[2:])]
    for _ in range(3):  # kernels are tried, shapes recorded
        trainer.stepper.step(batches, 4)
    torch.set_warn_always(True)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as expected:
            warnings.simplefilter("always")
            trainer.stepper.step(batches, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.set_warn_always(False)
    waits = [f"{warning.filename}:{warning.lineno}" for warning in expected if "synchronizing" in str(warning.message)]
    assert len(waits) == 1 and bool(trainer.stepper.recorder.recordings) == recorded_passes, waits
