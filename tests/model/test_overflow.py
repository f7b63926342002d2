"""Large weights planted in the tiny model make float16 overflow for real: one module goes on in float32, the answers stay."""
import dataclasses

import numpy as np
import pytest
import torch

from mcvqa.base.files import RunLog, or_nan
from mcvqa.model.device import plan_device
from mcvqa.model.fast.forward import KNOWN_TO_OVERFLOW, AnswerModel, read_letters
from mcvqa.model.fast.overflow import OverflowInModel
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.training.job import FoldJob
from mcvqa.training.step import Stepper
from tests.conftest import needs_gpu
from tests.model.small import ROWS, answering, batch_of, small_model, small_pictures
from tests.training.fold import Fold


def planted(config, precision):
    """A model of its own whose fourth MLP multiplies numbers that are beyond float16."""
    config = config.replace(precision=precision)
    base = load_base(config, plan_device(config))
    mlp = base.language.layers[3].mlp
    for layer, factor in ((mlp.up_proj, 2**11), (mlp.down_proj, 2**-9), (mlp.gate_proj, 2**5)):
        packed = getattr(layer.weight, "quant_state", None)  # 4-bit weights grow by their scales
        (layer.weight.data if packed is None else packed.absmax).mul_(factor)
    return config, base


def answers_of(base):
    return AnswerModel(base.model, base.family, base.image_token_id)


@pytest.fixture
def batches(base, images, questions, tmp_path):
    """Rows for both precisions: their features are those of the model as it is."""
    store = FeatureStore(tmp_path, base, images)
    store.fill(base, [q.image for q in questions])
    maker = RowMaker(base.encoder, images, store)
    return [maker.batch([maker.row(q)]) for q in questions]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_the_module_that_overflows_goes_on_in_float32(tiny_config, batches, capsys, quantization, device):
    config = tiny_config.replace(quantization=quantization, device=device)
    (_, half), (_, full) = planted(config, "float16"), planted(config, "float32")
    with torch.no_grad():
        finite = [bool(torch.isfinite(answers_of(half)(batch.to(device))).all()) for batch in batches]
        assert not all(finite), "nothing overflows: plant more"
    read, expected = (read_letters(answers_of(base), batches, device) for base in (half, full))
    assert capsys.readouterr().out.count("overflowed in layers.3.mlp: float32") == 1, "found once, for all rows after it"
    for ours, theirs in zip(read, expected, strict=True):
        assert np.isfinite(ours).all() and np.abs(ours - theirs).max() < 0.1
        assert (ours.argmax(-1) == theirs.argmax(-1)).all()
    marked = [name for name, module in half.language.named_modules() if hasattr(module, KNOWN_TO_OVERFLOW)]
    assert marked == ["layers.3.mlp"]
    assert half.language.layers[2].mlp.up_proj.weight.dtype == (torch.float16 if quantization == "none" else torch.uint8)


def test_what_overflowed_in_blocks_is_float32_in_the_library_s_layers_too(tiny_config, batches):
    """All weights are trained on layers of the library, after the untouched model has been scored by blocks."""
    _, base = planted(tiny_config, "float16")
    first = answers_of(base)
    assert first.blocks and {name for batch in batches for name in first.mend(batch)} == {"layers.3.mlp"}
    base.language.requires_grad_(True)
    second = answers_of(base)
    assert not second.blocks and second.in_float32() == ["layers.3.mlp"]
    with torch.no_grad():
        assert all(torch.isfinite(second(batch)).all() for batch in batches)


def test_damaged_weights_are_said_with_the_questions(tiny_config, batches):
    _, base = planted(tiny_config, "float16")
    with torch.no_grad():
        base.language.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(OverflowInModel, match=r"questions q0 are not finite.*damaged.*precision=float32"):
        read_letters(answers_of(base), batches[:1], "cpu")


def test_training_goes_on_after_an_overflow(tiny_config, questions, images, tmp_path):
    config, base = planted(tiny_config.replace(num_epochs=1, batch_size=1, grad_accum_steps=1), "float16")
    store = FeatureStore(tmp_path, base, images)
    store.fill(base, [q.image for q in questions])
    rows = [dataclasses.replace(q, answer=0) for q in questions[:3]]
    maker = RowMaker(base.encoder, images, store)
    trainer = Fold(FoldJob(config, base, maker, rows, rows, 0, tmp_path / "fold0", RunLog(tmp_path / "log.jsonl")))
    result = trainer.run()
    assert trainer.stepper.answers.in_float32() == ["layers.3.mlp"]
    finite = np.isfinite([or_nan(event["loss"]) for event in trainer.log.events("step")])
    assert [(event["step"], event["modules"]) for event in trainer.log.events("float32")] == [(1, ["layers.3.mlp"])]
    assert result.skipped == 1 and finite.tolist() == [False, *[True] * (result.steps - 1)]


def test_a_resumed_fold_knows_what_runs_in_float32(tiny_config, questions, images, tmp_path, monkeypatch):
    """Otherwise the next step would be lost again."""
    config = tiny_config.replace(num_epochs=1, batch_size=1, save_minutes=0.0, precision="float16")
    rows, plain = [dataclasses.replace(q, answer=0) for q in questions[:3]], Stepper.backward

    def trainer() -> Fold:
        _, base = planted(config, "float16")
        store = FeatureStore(tmp_path, base, images)
        store.fill(base, [q.image for q in questions])
        maker = RowMaker(base.encoder, images, store)
        return Fold(FoldJob(config, base, maker, rows, rows, 0, tmp_path / "fold0", RunLog(tmp_path / "log.jsonl")))

    def backward(self, *given):
        if self.state.step == 2:
            raise KeyboardInterrupt
        return plain(self, *given)

    monkeypatch.setattr(Stepper, "backward", backward)
    with pytest.raises(KeyboardInterrupt):
        trainer().run()
    monkeypatch.setattr(Stepper, "backward", plain)
    again = trainer()
    assert again.run().skipped == 1 and again.stepper.answers.in_float32() == ["layers.3.mlp"]
    assert [event["skipped"] for event in again.log.events("step")] == [1, 1, 1]


def test_the_library_s_own_layers_run_in_float32_too():
    """With all weights trained; their attention gets the layout by name."""
    model = small_model("qwen2_5_vl")
    answers, batch = answering(model), batch_of(ROWS, small_pictures(model))
    assert not answers.blocks
    with torch.no_grad():
        wanted = answers(batch)
        answers.move_to_float32(["layers.0.self_attn", "layers.1"])
        torch.testing.assert_close(answers(batch), wanted, atol=1e-5, rtol=1e-5)
