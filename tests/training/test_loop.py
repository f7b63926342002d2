"""Training: the gradient of a step, and the course of a fold."""
import dataclasses
import itertools
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from mcvqa.base.files import read_json
from mcvqa.base.uncertainty import unpack_right
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.model.adapters import trained_parameters
from mcvqa.model.device import GIB
from mcvqa.model.fast.forward import AnswerModel
from mcvqa.model.memory import MemoryPlan, Trial
from mcvqa.model.rows import TrainingRows, epoch_windows, longest_training_rows, training_row
from mcvqa.training import micro_batch, resume
from mcvqa.training.checkpoint import adapter_hash, verified
from mcvqa.training.job import TrainingError, learning_rate_at, swa_start_step
from mcvqa.training.resume import RESUME
from mcvqa.training.step import Stepper


# %% one step
def gradient(trainer, window) -> torch.Tensor:
    """The gradient of one step, before clipping and the optimizer."""
    stepper = trainer.ready
    for part in stepper.share(np.array(window)):
        rows = [training_row(trainer.maker, trainer.train[i], 0, trainer.config) for i in part]
        stepper.backward(trainer.maker.batch(rows), 1 / len(window))
    return torch.cat([p.grad.flatten() for p in trained_parameters(stepper.model).values()])


def test_the_gradient_is_the_mean_over_the_effective_batch(make_trainer):
    """Invariant 3: whatever the micro-batches, and with a last window that is smaller."""
    whole = gradient(make_trainer(batch_size=8, grad_accum_steps=1), range(8))
    assert whole.abs().max() > 0
    for size, steps in ((1, 8), (3, 3)):
        parts = gradient(make_trainer(batch_size=size, grad_accum_steps=steps), range(8))
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)
    alone = [gradient(make_trainer(batch_size=1), [i]) for i in range(3)]
    last = gradient(make_trainer(batch_size=2, grad_accum_steps=4), range(3))
    torch.testing.assert_close(last, sum(alone) / 3, atol=5e-6, rtol=1e-4)


def test_every_row_counts_in_every_epoch_the_last_window_too():
    config = Config(batch_size=4, grad_accum_steps=2)
    for epoch in range(3):
        windows = list(epoch_windows(21, epoch, config))
        assert [len(w) for w in windows] == [8, 8, 5]
        assert sorted(np.concatenate(windows)) == list(range(21))
    first, second = (np.concatenate(list(epoch_windows(21, e, config))) for e in (0, 1))
    assert not np.array_equal(first, second)
    other = np.concatenate(list(epoch_windows(21, 0, config.replace(batch_size=2, grad_accum_steps=4))))
    np.testing.assert_array_equal(first, other)


def test_learning_rate_course():
    config = Config(learning_rate=1.0, warmup_ratio=0.1)
    rates = [learning_rate_at(s, 100, config) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and np.argmax(rates) in (9, 10)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:])) and 0 < rates[-1] < 0.01
    linear = [learning_rate_at(s, 100, config.replace(lr_schedule="linear")) for s in range(100)]
    assert linear[55] == pytest.approx(0.5)
    assert learning_rate_at(0, 1, Config(learning_rate=1.0, warmup_ratio=0.0)) == 1.0


def test_swa_covers_the_last_part():
    assert swa_start_step(100, 400, Config(num_epochs=4)) == 300
    assert swa_start_step(100, 400, Config(num_epochs=4, swa_start_epoch=1.5)) == 150
    assert swa_start_step(3, 3, Config(num_epochs=1, swa_start_epoch=9)) == 2, "at least the last step"


# %% the row that is learned
def test_choices_are_shuffled_anew_each_epoch_and_the_label_follows(make_trainer):
    trainer = make_trainer()
    question, seen = trainer.train[0], set()
    for epoch in range(12):
        row = training_row(trainer.maker, question, epoch, trainer.config)
        slot = row.orders[0].tolist().index(question.answer)
        seen.add(tuple(row.orders[0].tolist()))
        text = trainer.base.tokenizer.decode(row.input_ids)
        assert f"({LETTERS[slot]}) {question.choices[question.answer]}" in text
        assert row.letters[0, question.answer] == trainer.base.encoder.letter_tokens[slot]
        assert row.target.argmax() == question.answer
    assert len(seen) > 5
    still = trainer.config.replace(shuffle_choices=False)
    assert training_row(trainer.maker, question, 3, still).orders.tolist() == [[0, 1, 2, 3]]


def test_augmentation_rewords_the_question(make_trainer):
    trainer = make_trainer(use_augmentation=True, aug_prob=1.0)
    texts = {trainer.base.tokenizer.decode(training_row(trainer.maker, trainer.train[0], e, trainer.config).input_ids)
             .split("\n(a)")[0] for e in range(8)}
    assert len(texts) > 1 and all("사진 0" in text and "색" in text for text in texts)


# %% a whole fold
def test_a_fold_runs_and_leaves_best_and_last(make_trainer):
    trainer = make_trainer(num_epochs=2, use_ema=True, use_swa=True)
    result = trainer.run()
    assert result.steps == 6 and result.skipped == 0
    assert set(result.variants) == {"raw", "ema", "swa"}
    assert verified(trainer.folder / "best")["variant"] in ("ema", "swa")
    assert verified(trainer.folder / "last")["epoch"] == 1 and verified(trainer.folder / "last")["variant"] == "swa"
    assert all((trainer.folder / name).exists() == (name != "swa") for name in ("best", "last", "raw", "ema", "swa"))
    for name in ("raw", "ema", "last"):
        found = verified(trainer.folder / name)
        assert found["accuracy"] == result.variants[found["variant"]].accuracy.value
    assert len({adapter_hash(trainer.folder / name) for name in ("raw", "ema", "last")}) == 3
    assert (trainer.folder / "last" / "adapter_model.safetensors").exists()
    assert "r" in read_json(trainer.folder / "last" / "adapter_config.json")
    steps, epochs = trainer.log.events("step"), trainer.log.events("epoch")
    assert [s["step"] for s in steps] == [1, 2, 3, 4, 5, 6] and {e["variant"] for e in epochs} == {"ema", "raw", "swa"}
    assert all(s["loss"] > 0 and s["grad_norm"] > 0 and s["rows_per_s"] > 0 for s in steps)
    known = sum(q.answer is not None for q in trainer.validation)
    for event in epochs:  # which rows were right after each epoch: what choosing the best one adds is measured from this
        assert event["n"] == known and unpack_right(event["right"], known).mean() == event["accuracy"]
    assert result.variants["swa"].right.sum() == result.variants["swa"].accuracy.right


def test_validation_errors_are_by_image_group(make_trainer):
    trainer = make_trainer(num_epochs=0).change(groups=np.zeros(8, dtype=int))
    accuracy = trainer.run().accuracy
    assert accuracy.groups == 1 and accuracy.interval == (0, 1)
    assert verified(trainer.folder / "best")["clusters"] == accuracy.record[2:]


def test_the_same_seed_gives_the_same_weights(make_trainer):
    """Invariant 5, for one uninterrupted run."""
    runs = []
    for fold in (0, 0, 1):
        trainer = make_trainer(num_epochs=1, lora_dropout=0.1, fold=fold)
        trainer.run()
        runs.append(trainer.weights())
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_a_step_that_is_no_number_is_left_out_and_counted(make_trainer):
    trainer = make_trainer(num_epochs=1)
    stepper, before = trainer.ready, trainer.weights()
    batch = trainer.maker.batch([training_row(trainer.maker, q, 0, trainer.config) for q in trainer.train[:2]])
    poisoned = dataclasses.replace(batch, images=torch.full_like(batch.images, float("nan")))
    result = stepper.step([(poisoned, True)], 2)
    assert not result.done and trainer.state.skipped == 1 and not np.isfinite(result.norm)
    assert torch.equal(before, trainer.weights())
    assert stepper.step([(batch, True)], 2).done


def lose_steps(monkeypatch, lost) -> None:
    """The steps for which `lost(stepper)` see a model whose last norm gives no numbers."""
    plain = Stepper.backward

    def backward(self, batch, weight):
        norm = self.job.base.language.norm.weight
        held = norm.detach().clone()
        with torch.no_grad():
            norm.fill_(float("nan")) if lost(self) else None
        try:
            return plain(self, batch, weight)
        finally:
            with torch.no_grad():
                norm.copy_(held)

    monkeypatch.setattr(Stepper, "backward", backward)


def test_lost_steps_on_end_roll_back_three_times_and_stop_the_run(make_trainer, monkeypatch, capsys):
    assert (resume.SKIPS_ON_END, resume.MOST_ROLLBACKS) == (20, 3)
    monkeypatch.setattr(resume, "SKIPS_ON_END", 5)
    trainer = make_trainer(num_epochs=1, batch_size=2)
    with torch.no_grad():
        trainer.base.language.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"gradient in 5 steps in a row, up to step 5, after 3 rollbacks .*Lower learn"):
        trainer.run()
    steps = trainer.log.events("step")
    assert [s["step"] for s in steps] == 4 * list(range(1, 6)) and steps[-1]["skipped"] == 20
    assert [(r["step"], r["to"], r["rollbacks"]) for r in trainer.log.events("rollback")] == [(5, 0, n) for n in (1, 2, 3)]
    assert "Back to step 0, with half the learning rate (rollback 2 of 3)" in capsys.readouterr().out


@pytest.mark.nightly
def test_after_a_rollback_the_epoch_is_trained_with_half_the_learning_rate(make_trainer, monkeypatch):
    """From the second epoch's beginning, though the newest resume points are later ones."""
    monkeypatch.setattr(resume, "SKIPS_ON_END", 3)
    lose_steps(monkeypatch, lambda stepper: stepper.state.step > 7 and not stepper.state.rollbacks)
    trainer = make_trainer(num_epochs=2, batch_size=4, save_minutes=0.0, lora_dropout=0.1)
    result = trainer.run()
    assert (result.rollbacks, result.skipped, result.steps) == (1, 3, 12)
    steps = trainer.log.events("step")
    assert [s["step"] for s in steps] == [*range(1, 12), *range(7, 13)]
    before, again = steps[6:11], steps[11:]
    assert [s["lr"] for s in again[:5]] == [pytest.approx(s["lr"] / 2) for s in before]
    assert again[0]["loss"] == before[0]["loss"], "the same weights, the same rows, the same dropout"
    assert verified(trainer.folder / "last")["epoch"] == 1


def test_without_a_resume_point_to_go_back_to_the_run_stops(make_trainer, monkeypatch):
    monkeypatch.setattr(resume, "SKIPS_ON_END", 3)
    lose_steps(monkeypatch, lambda stepper: shutil.rmtree(stepper.job.folder / RESUME, ignore_errors=True) is None)
    with pytest.raises(TrainingError, match=r"3 steps in a row, up to step 3, and there is no resume point to return to"):
        make_trainer(num_epochs=1).run()


def test_zero_epochs_score_the_untrained_model(make_trainer, capsys):
    result = make_trainer(num_epochs=0).run()
    assert "fold 0 untrained: accuracy" in capsys.readouterr().out
    assert result.steps == 0 and list(result.variants) == ["raw"]


@pytest.mark.parametrize("reference", ["layers", pytest.param("whole model", marks=pytest.mark.nightly)])
def test_the_loss_curve_is_that_of_the_library(make_trainer, monkeypatch, reference):
    """Its layers in our forward pass; its whole model, asked prompt by prompt, with pixels, its own positions and all logits."""
    settings = dict(num_epochs=2, lora_dropout=0.0, use_ema=False, shuffle_choices=reference == "layers")
    ours, theirs = make_trainer(**settings), make_trainer(**settings)
    ours.run()
    asked = {question.id: question for question in theirs.train + theirs.validation}

    def whole_model(self, batch) -> torch.Tensor:
        prompts = [theirs.maker.prompt_inputs(theirs.maker.row(asked[name])) for name in batch.ids]
        return torch.stack([self.model(**inputs).logits[:, -1] for inputs in prompts])  # (B, 1, V)

    if reference == "layers":
        monkeypatch.setattr(AnswerModel, "_through_blocks", AnswerModel._through_layers)
    else:
        monkeypatch.setattr(AnswerModel, "forward", whole_model)
    theirs.run()
    curves = [[event["loss"] for event in trainer.log.events("step")] for trainer in (ours, theirs)]
    assert len(curves[0]) == 6 and curves[0] == pytest.approx(curves[1], abs=1e-5)
    assert curves[0][0] - curves[0][-1] > 0.1, "or nothing was learned"


def test_two_gpus_are_not_divided_silently(make_trainer, monkeypatch):
    """The model is used as it is, in one process on one of them."""
    trainer = make_trainer(num_epochs=1)
    seen, plain = [], Accelerator.prepare_model

    def prepare_model(self, model, **given):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "device_count", lambda: 2)
            seen.append(plain(self, model, **given))
        return seen[-1]

    monkeypatch.setattr(Accelerator, "prepare_model", prepare_model)
    stepper = trainer.stepper
    assert type(seen[0]) is type(stepper.answers) is AnswerModel and stepper.accelerator.num_processes == 1


# %% memory
def run_out_backward(layer, given, made) -> None:
    def run_out(gradient):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    made.register_hook(run_out)


def make_memory_small(monkeypatch, too_much) -> list[int]:
    """The fault a CPU cannot have: the training passes for which `too_much(model, batch)` fail in the middle of the backward
    pass, when some gradients are there. Gives the rows of all passes."""
    plain, passes = AnswerModel.forward, []

    def forward(self, batch):
        if not self.training:
            return plain(self, batch)
        passes.append(len(batch.ids))
        if not too_much(self, batch):
            return plain(self, batch)
        watch = self.blocks[1].register_forward_hook(run_out_backward)
        try:
            return plain(self, batch)
        finally:
            watch.remove()

    monkeypatch.setattr(AnswerModel, "forward", forward)
    return passes


def trained_weights(trainer) -> torch.Tensor:
    trainer.run()
    return trainer.weights()


@pytest.fixture(scope="module")
def small_settings() -> dict:
    return dict(num_epochs=1, use_ema=False, lora_dropout=0.1)


def test_a_step_that_does_not_fit_is_done_again_in_halves(make_trainer, small_settings, monkeypatch, capsys):
    undisturbed = trained_weights(make_trainer(**small_settings, micro_batch=2))
    passes = make_memory_small(monkeypatch, lambda model, batch: len(batch.ids) > 2)
    trainer = make_trainer(**small_settings)
    assert torch.equal(trained_weights(trainer), undisturbed), "bit for bit, dropout too: nothing is left of the failed passes"
    assert passes == [8, 4] + [2] * 12 and trainer.memory == MemoryPlan(2)
    assert (trainer.state.step, trainer.state.skipped) == (3, 0)
    assert [(s["step"], s["lr"]) for s in trainer.log.events("step")] == [(n, pytest.approx(lr)) for n, lr in (
        (1, 1e-3), (2, 1e-3), (3, 5e-4))]
    said = capsys.readouterr().out
    assert "fold 0 step 1: out of GPU memory with micro-batch 8 without checkpointing. The step is repeated" in said
    assert "with micro-batch 2 without checkpointing; it still covers 8 rows" in said


def test_a_step_late_in_an_epoch_is_not_lost(make_trainer, small_settings, monkeypatch):
    undisturbed = make_trainer(**small_settings | dict(lora_dropout=0.0), micro_batch=4)
    weights = trained_weights(undisturbed)
    failing = iter([False, False, False, True])  # in the second pass of the second step
    passes = make_memory_small(monkeypatch, lambda model, batch: next(failing, False))
    trainer = make_trainer(**small_settings | dict(lora_dropout=0.0), micro_batch=4)
    torch.testing.assert_close(trained_weights(trainer), weights, atol=1e-4, rtol=0)  # tiny gradients count in AdamW
    for one, other in zip(undisturbed.log.events("step"), trainer.log.events("step"), strict=True):
        assert [one[k] for k in ("step", "loss", "grad_norm")] == pytest.approx(
            [other[k] for k in ("step", "loss", "grad_norm")], rel=1e-4)
    assert passes == [4, 4, 4, 4] + [2] * 8


@pytest.mark.nightly
def test_with_one_row_left_activations_are_computed_again(make_trainer, small_settings, monkeypatch):
    undisturbed = trained_weights(make_trainer(**small_settings, micro_batch=1))
    passes = make_memory_small(monkeypatch, lambda model, batch: model.blocks[0].keep)
    trainer = make_trainer(**small_settings, micro_batch=1)
    torch.testing.assert_close(trained_weights(trainer), undisturbed, atol=1e-6, rtol=0)
    assert passes == [1] * 25 and trainer.memory == MemoryPlan(1, checkpointing=True)


def test_where_nothing_is_left_to_save_the_run_says_what_to_change(make_trainer, small_settings, monkeypatch):
    make_memory_small(monkeypatch, lambda model, batch: True)
    with pytest.raises(TrainingError, match=r"step 1: out of GPU memory .* 1 with checkpointing.*To use less memory: --set "):
        make_trainer(**small_settings).run()


def test_validation_that_does_not_fit_is_read_in_halves(make_trainer, monkeypatch, capsys):
    undisturbed = make_trainer(num_epochs=0).run()
    plain = AnswerModel.forward

    def forward(self, batch):
        if len(batch.ids) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return plain(self, batch)

    monkeypatch.setattr(AnswerModel, "forward", forward)
    found = make_trainer(num_epochs=0).run()
    np.testing.assert_allclose(found.variants["raw"].logprobs, undisturbed.variants["raw"].logprobs, atol=1e-5)
    assert "from now on 2 rows at a time" in capsys.readouterr().out


@pytest.mark.nightly
def test_a_loader_process_that_dies_loses_no_row(make_trainer, small_settings, monkeypatch, capsys):
    """A real SIGKILL, as the system gives it when the computer's memory is full."""
    undisturbed = trained_weights(make_trainer(**small_settings))
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)
    plain = TrainingRows.__getitem__

    def dying(self, key):
        if torch.utils.data.get_worker_info() and 5 in key[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, key)

    monkeypatch.setattr(TrainingRows, "__getitem__", dying)
    assert torch.equal(trained_weights(make_trainer(**small_settings, num_workers=2)), undisturbed)
    said = capsys.readouterr().out
    assert "DataLoader worker (pid" in said and "batches are made without" in said


@pytest.mark.nightly
def test_on_a_gpu_the_first_fold_tries_and_the_others_follow(make_trainer, small_settings, monkeypatch, capsys):
    """With a simulated memory of 4 rows; the passes themselves are real."""
    undisturbed = trained_weights(make_trainer(**small_settings, micro_batch=4))

    def measure(rows, checkpointing, run, kept, limit, *, recorded) -> Trial | None:
        run()
        assert kept == 8 * sum(p.numel() for p in trainer.state.parameters.values()) and limit == {None: 15 * GIB}
        return Trial(rows, checkpointing, 2.0 if checkpointing else 1.0, 3 * GIB) if checkpointing or rows <= 4 else None

    monkeypatch.setattr(micro_batch, "measure_pass", measure)
    tokens = []
    passes = make_memory_small(monkeypatch, lambda model, batch: tokens.append(len(batch.input_ids)))
    trainer = make_trainer(**small_settings)
    trainer.change(base=dataclasses.replace(trainer.base, plan=dataclasses.replace(trainer.base.plan, memory=15 * GIB)))
    assert torch.equal(trained_weights(trainer), undisturbed), "what was tried leaves no gradient and draws no dropout"
    assert passes == [8, 4, 8] + [4] * 6 and trainer.memory == MemoryPlan(4)
    longest = longest_training_rows(trainer.maker, trainer.train, trainer.config)
    most = [len(trainer.maker.batch(longest[:count]).input_ids) for count in (8, 4)]
    assert tokens[:3] == [most[0], most[1], most[0]] and max(tokens[3:]) <= most[1], "no step takes more"
    assert "micro-batch 4 of 8 rows without checkpointing: 3.0 GiB at the longest rows (up to " in capsys.readouterr().out
    other = make_trainer(**small_settings, fold=1)
    other.change(memory=trainer.memory, base=dataclasses.replace(other.base, plan=trainer.base.plan))
    passes.clear()
    other.run()
    assert passes == [4] * 6


def test_a_row_that_does_not_fit_by_itself_stops_before_the_first_step(make_trainer, small_settings, monkeypatch):
    monkeypatch.setattr(micro_batch, "measure_pass", lambda *given, **named: None)
    trainer = make_trainer(**small_settings)
    trainer.change(base=dataclasses.replace(trainer.base, plan=dataclasses.replace(trainer.base.plan, memory=15 * GIB)))
    with pytest.raises(TrainingError, match=r"longest row \(train_\d+, \d+ tokens\) does not fit on its own into 92% of 15.0"):
        trainer.run()
