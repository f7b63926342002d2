"""A fold that is cut off, anywhere and however often, becomes the fold that was not: bit for bit on the CPU."""
import os
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mcvqa.base.files import RunLog
from mcvqa.training import resume
from mcvqa.training.checkpoint import STATE, TENSORS, adapter_hash, read_point, verified
from mcvqa.training.evaluate import Evaluator
from mcvqa.training.job import TrainingError
from mcvqa.training.resume import RESUME, KeptWeights
from mcvqa.training.step import Stepper
from tests.faults import drop_drive, unmount
from tests.training.fold import Fold
from tests.training.test_loop import lose_steps

STEPS = 6  # three an epoch, each in two passes
SETTINGS = dict(num_epochs=2, use_ema=True, use_swa=True, lora_dropout=0.1, batch_size=4, micro_batch=2, save_minutes=0.0)


class Cut(BaseException):
    """As hard as a test can be to the code it interrupts; real kills are in tests/run/test_interrupt.py."""


@pytest.fixture(scope="module")
def trainer_in(make_trainer):
    """trainer_in(folder, **settings) -> a new trainer of the same twelve rows, as a new session makes it."""
    questions = make_trainer().train[:12]

    def make(folder: Path, **changes) -> Fold:
        trainer = make_trainer(rows=questions, validation=questions[:4], **SETTINGS | changes)
        return trainer.change(folder=folder, rows_key="twelve")

    return make


def outcome_of(trainer: Fold) -> SimpleNamespace:
    """Train to the end; everything that must not depend on cuts."""
    result = trainer.run()
    return SimpleNamespace(
        tensors={name: value.clone() for name, value in trainer.state.tensors().items()},
        generator=torch.get_rng_state(), logprobs={name: np.stack(v.logprobs) for name, v in result.variants.items()},
        counts=(result.best_epoch, result.accuracy, result.steps, result.skipped),
        hashes={name: adapter_hash(trainer.folder / name) for name in ("best", "last", "raw", "ema")},
        epochs={name: verified(trainer.folder / name)["epoch"] for name in ("best", "last")},
    )


@pytest.fixture(scope="module")
def undisturbed(trainer_in, tmp_path_factory) -> SimpleNamespace:
    """Without any save between its steps."""
    trainer = trainer_in(tmp_path_factory.mktemp("undisturbed"), save_minutes=1000)
    found = outcome_of(trainer)
    found.losses = [event["loss"] for event in trainer.log.events("step")]
    return found


def require_same(found: SimpleNamespace, wanted: SimpleNamespace) -> None:
    assert found.tensors.keys() == wanted.tensors.keys()
    assert {name.split("/")[0] for name in found.tensors} == {"weights", "optimizer", "ema", "swa"}
    for name, value in wanted.tensors.items():
        assert torch.equal(found.tensors[name], value), name
    assert torch.equal(found.generator, wanted.generator), "the next dropout would be another"
    for name, values in wanted.logprobs.items():
        np.testing.assert_array_equal(found.logprobs[name], values)
    assert (found.counts, found.hashes, found.epochs) == (wanted.counts, wanted.hashes, wanted.epochs)


CUTS = {"backward": Stepper, "save": KeptWeights, "validate": Evaluator}


def cut_in(monkeypatch, method: str, call: int) -> None:
    """From now on the so-many-th call (from 0) of a method cuts the run off, once."""
    plain, calls = getattr(CUTS[method], method), iter([False] * call + [True])

    def cutting(self, *given, **named):
        if next(calls, False):
            raise Cut
        return plain(self, *given, **named)

    monkeypatch.setattr(CUTS[method], method, cutting)


def cut_off(trainer: Fold) -> Fold:
    with pytest.raises(Cut):
        trainer.run()
    return trainer


# %% cuts
@pytest.mark.parametrize(("method", "call", "saved"), [
    *(pytest.param("backward", 2 * step + 1, f"0-{step // 3:04d}-{step:08d}",
                   marks=[] if step in (1, 3) else pytest.mark.nightly) for step in range(STEPS)),
    ("save", 0, "0-0000-00000003"), ("validate", 1, "0-0001-00000006"),
])
def test_from_any_cut_the_fold_becomes_the_same(trainer_in, undisturbed, tmp_path, monkeypatch, method, call, saved):
    """In the middle of each step, between its two passes; in validation, and while the trained weights are saved."""
    cut_in(monkeypatch, method, call)
    cut_off(trainer_in(tmp_path))
    points = sorted(p.name for p in (tmp_path / RESUME).iterdir())
    assert points[-1] == saved and len(points) <= 3
    require_same(outcome_of(trainer_in(tmp_path)), undisturbed)


@pytest.mark.nightly
def test_dora_resumes_as_it_was(trainer_in, tmp_path, monkeypatch):
    """Adapters of another kind, through the library's layers: the lengths of the weights are trained and come back too."""
    dora = dict(use_dora=True, use_rslora=True, num_epochs=1, target_modules=("v_proj",))
    wanted = outcome_of(trainer_in(tmp_path / "undisturbed", save_minutes=1000, **dora))
    lengths = {name: value for name, value in wanted.tensors.items() if name.startswith("weights/") and "magnitude" in name}
    cut_in(monkeypatch, "backward", 2 * 2 + 1)
    before = cut_off(trainer_in(tmp_path / "cut", **dora))
    assert not before.stepper.answers.blocks and before.state.step == 2
    require_same(outcome_of(trainer_in(tmp_path / "cut", **dora)), wanted)
    fresh = trainer_in(tmp_path / "fresh", **dora).state.tensors()
    assert lengths and not any(torch.equal(fresh[name], value) for name, value in lengths.items())


@pytest.mark.nightly
def test_a_chain_of_cuts(trainer_in, undisturbed, tmp_path, monkeypatch, capsys):
    """Each session makes one step; then the newest point is damaged, which costs the last of them."""
    losses = []
    for session in range(STEPS - 1):
        cut_in(monkeypatch, "backward", 3)
        trainer = cut_off(trainer_in(tmp_path))
        assert trainer.state.step == session + 1
        losses += [event["loss"] for event in trainer.log.events("step")]
    assert losses == undisturbed.losses[:-1]
    tensors = max((tmp_path / RESUME).iterdir()) / TENSORS
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)
    capsys.readouterr()
    require_same(outcome_of(trainer_in(tmp_path)), undisturbed)
    said = capsys.readouterr().out
    assert f"{tensors} is damaged or missing" in said and "fold 0 resumes after step 4 of 6" in said


def test_without_saves_between_steps_a_cut_costs_an_epoch_at_most(trainer_in, undisturbed, tmp_path, monkeypatch):
    cut_in(monkeypatch, "backward", 2 * 5)
    cut_off(trainer_in(tmp_path, save_minutes=1000))
    assert sorted(p.name for p in (tmp_path / RESUME).iterdir()) == ["0-0000-00000003", "0-0001-00000003"]
    require_same(outcome_of(trainer_in(tmp_path, save_minutes=1000)), undisturbed)


@pytest.mark.nightly
def test_a_cut_changes_nothing_about_a_rollback(trainer_in, tmp_path, monkeypatch):
    """The last step of an epoch and the first of the next are lost, which rolls back: a cut between them, or after it."""
    monkeypatch.setattr(resume, "SKIPS_ON_END", 2)
    lose_steps(monkeypatch, lambda stepper: stepper.state.step > 1 and not stepper.state.rollbacks)
    found = outcome_of(trainer_in(tmp_path / "whole", save_minutes=1000))
    for session, call in enumerate((7, 5)):
        cut_in(monkeypatch, "backward", call)
        assert cut_off(trainer_in(tmp_path / "cut")).state.rollbacks == session
    trainer = trainer_in(tmp_path / "cut")
    require_same(outcome_of(trainer), found)
    assert trainer.state.rollbacks == 1 and trainer.state.skipped == 2


# %% what a resume point holds
@pytest.fixture(scope="module")
def at_step_four(trainer_in, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    with pytest.MonkeyPatch.context() as patch:
        cut_in(patch, "backward", 8)
        cut_off(trainer_in(folder))
    return folder


@pytest.fixture
def cut_at_four(at_step_four, tmp_path) -> Path:
    """A fold's folder as it is after a cut in the fifth step."""
    return shutil.copytree(at_step_four, tmp_path / "fold")


def test_a_point_holds_safetensors_and_json(cut_at_four):
    point = cut_at_four / RESUME / "0-0001-00000004"
    assert sorted(p.name for p in point.iterdir()) == ["manifest.json", STATE, TENSORS]
    tensors, state = read_point(point)
    assert len(tensors) == 3 * sum(n.startswith("weights/") for n in tensors) + sum(n.startswith("optimizer/") for n in tensors)
    assert state["counters"] == {"step": 4, "skipped": 0, "skipped_on_end": 0, "epochs_done": 1, "rollbacks": 0,
                                 "anchor": "0-0001-00000003"}
    assert state["updates"] == {"ema": 4, "swa": 0} and state["memory"] == {"rows": 2, "checkpointing": False, "recorded": False}
    assert set(state["generators"][0]) == {"cpu", "gpu", "numpy", "python"}


def test_a_changed_setting_is_refused_and_named(trainer_in, cut_at_four):
    with pytest.raises(TrainingError, match=r"with other.*\n  learning_rate: was 0.001, now 0.002\nRestore them to"):
        trainer_in(cut_at_four, learning_rate=2e-3).run()
    other = trainer_in(cut_at_four)
    other.change(rows_key="thirteen")
    with pytest.raises(TrainingError, match="other rows or photographs"):
        other.run()


def test_what_does_not_matter_may_change(trainer_in, undisturbed, cut_at_four):
    trainer = trainer_in(cut_at_four, num_workers=1, micro_batch=0, save_minutes=7, lora_dropout=0.1)
    trainer.run()
    assert trainer.memory.rows == 4, "the division of a step is looked for anew"
    losses = [event["loss"] for event in trainer.log.events("step")]
    assert len(losses) == 2 and losses == pytest.approx(undisturbed.losses[4:], rel=0.2), "the same rows, another draw of dropout"


def test_a_point_of_another_version_is_refused(trainer_in, cut_at_four, monkeypatch):
    monkeypatch.setattr(resume, "STATE_FORMAT", 3)
    with pytest.raises(TrainingError, match="its format is 2, this version of mcvqa reads 3"):
        trainer_in(cut_at_four).run()


def test_damaged_best_weights_are_said_and_found_anew(trainer_in, cut_at_four, capsys):
    (cut_at_four / "best" / "adapter_model.safetensors").write_bytes(b"")
    assert trainer_in(cut_at_four).run().best_epoch == 1
    assert "Continuing; the best of the following epochs is kept" in capsys.readouterr().out
    assert verified(cut_at_four / "best")["epoch"] == 1


# %% a full disk, an interrupt
def test_a_full_disk_ends_no_training(trainer_in, undisturbed, tmp_path, monkeypatch, capsys):
    """A real error of the system: no file may be longer than the limit, which a resume point passes and an adapter does not."""
    cut_in(monkeypatch, "backward", 2)
    cut_off(trainer_in(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / RESUME / "0-0000-00000001" / TENSORS).stat().st_size // 2, limits[1]))
    try:
        found = outcome_of(trainer_in(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    require_same(found, undisturbed)
    points = sorted(p.name for p in (tmp_path / RESUME).iterdir())
    assert points == ["0-0000-00000000", "0-0000-00000001"], "the old ones stay, nothing half written"
    said = capsys.readouterr().out
    assert "step 2: " in said and "could not be written" in said and "Training continues; the previous resume point" in said


@pytest.mark.parametrize("back", ["while it is waited for", "later"])
def test_a_drive_that_drops_ends_no_training(trainer_in, undisturbed, tmp_path, monkeypatch, capsys, back):
    """It comes back while a resume point waits, or after that point has been left out."""
    monkeypatch.setattr("mcvqa.base.files.time.sleep", lambda wait: unmount(tmp_path) if back != "later" else None)
    plain = Stepper.backward

    def backward(self, *given):
        if self.state.step == 1 and not dropped:
            dropped.append(drop_drive(tmp_path))
        if self.state.step == 2:
            unmount(tmp_path)
        return plain(self, *given)

    dropped = []
    monkeypatch.setattr(Stepper, "backward", backward)
    trainer = trainer_in(tmp_path)
    trainer.change(log=RunLog(tmp_path / "log.jsonl"))
    require_same(outcome_of(trainer), undisturbed)
    assert [event["step"] for event in trainer.log.events("step")] == [1, 2, 3, 4, 5, 6], "lines wait too"
    said = capsys.readouterr().out
    assert f"saving {tmp_path / RESUME / '0-0000-00000002'}: " in said and "[Errno 107]" in said
    assert ("Training continues" in said) == (back == "later")


def interrupt_in_step_five(monkeypatch, times: int) -> None:
    plain, sent = Stepper.backward, []

    def interrupted(self, *given):
        if self.state.step == 4 and not sent:
            sent.append(1)
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *given)

    monkeypatch.setattr(Stepper, "backward", interrupted)


def test_an_interrupt_saves_and_stays_a_keyboard_interrupt(trainer_in, undisturbed, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    interrupt_in_step_five(monkeypatch, times=1)
    with pytest.raises(KeyboardInterrupt, match=r"Stopped after step 5 of fold 0; saved in .*0001-00000005"):
        trainer_in(tmp_path, save_minutes=1000).run()
    assert signal.getsignal(signal.SIGINT) is before
    require_same(outcome_of(trainer_in(tmp_path, save_minutes=1000)), undisturbed)


def test_a_second_interrupt_does_not_wait_for_the_step(trainer_in, tmp_path, monkeypatch):
    interrupt_in_step_five(monkeypatch, times=2)
    with pytest.raises(KeyboardInterrupt, match="Stopped at once by SIGINT"):
        trainer_in(tmp_path, save_minutes=1000).run()
    assert max(p.name for p in (tmp_path / RESUME).iterdir()) == "0-0001-00000003"
