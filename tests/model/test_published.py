"""Checkpoints as people publish them: packed by the real bitsandbytes, in FP8, and in ways that are refused by name."""
import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.model.adapters import trained_parameters
from mcvqa.model.content import packaged_tiny
from mcvqa.model.device import plan_device
from mcvqa.model.fast.forward import answer_loss, read_letters
from mcvqa.model.load import load_base, load_encoder, make_trainable, remove_adapters
from mcvqa.model.published import unpack_linears
from mcvqa.model.rows import RowMaker
from mcvqa.model.source import ModelError, require_whole_model
from mcvqa.model.vision.patches import ImageInputs
from tests.conftest import tiny_settings

SKIPPED = ["lm_head", "model.visual", "model.language_model.layers.3.mlp"]


def packed_folder(folder: Path, skipped: list[str], **bits) -> None:
    """Packed by the library, as a publisher does it."""
    settings = BitsAndBytesConfig(llm_int8_skip_modules=skipped, **bits)
    model = AutoModelForImageTextToText.from_pretrained(
        packaged_tiny(), dtype=torch.bfloat16, quantization_config=settings, device_map={"": "cpu"})
    model.save_pretrained(folder)


def in_fp8(folder: Path) -> None:
    """Blocks of 32 x 32 weights with one scale, as Qwen's FP8 folders have them (of 128 x 128)."""
    made = {}
    for name, value in load_file(folder / "model.safetensors").items():
        made[name] = value
        if ".layers." in name and name.endswith("proj.weight"):
            blocks = value.float().reshape(value.shape[0] // 32, 32, value.shape[1] // 32, 32)
            scale = blocks.abs().amax((1, 3), keepdim=True) / 448
            made[name] = (blocks / scale).reshape(value.shape).to(torch.float8_e4m3fn)
            made[name.replace("weight", "weight_scale_inv")] = scale[:, 0, :, 0]
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    with_packing(folder, dict(
        quant_method="fp8", activation_scheme="dynamic", weight_block_size=[32, 32],
        modules_to_not_convert=["visual", "lm_head"],
    ))


def with_packing(folder: Path, packing: dict) -> None:
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(facts | {"quantization_config": packing}))


NF4 = dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
PUBLISHED = {  # how a folder is packed, and its linear layers in 4 bits
    "4-bit, the vision tower too": (lambda f: packed_folder(f, ["lm_head"], **NF4), 8 * 7),
    "4-bit twice, some layers in full": (lambda f: packed_folder(f, SKIPPED, bnb_4bit_use_double_quant=True, **NF4), 8 * 7 - 3),
    "8-bit": (lambda f: packed_folder(f, ["lm_head"], load_in_8bit=True), 0),
    "FP8": (in_fp8, 0),
}


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request, tmp_path_factory, tiny_config):
    """(settings, layers in 4 bits)"""
    folder = shutil.copytree(packaged_tiny(), tmp_path_factory.mktemp("published") / "model")
    pack, four_bit = PUBLISHED[request.param]
    pack(folder)
    return tiny_config.replace(model_id=str(folder)), four_bit


def rows_of(base, photographs, questions, config):
    records = survey_images(ImageFolder(photographs), [q.image for q in questions])
    images = ImageInputs(records, base.processor, image_size=config.image_size, patch=base.patch, merge=base.merge)
    return RowMaker(base.encoder, images, None)


def test_a_published_checkpoint_answers_as_the_whole_model_and_learns(published, base, photographs, questions):
    config, four_bit = published
    _, _, model_config = load_encoder(config)
    require_whole_model(config, model_config)  # as `mcvqa check` looks at it
    own = load_base(config, plan_device(config))
    kinds = {name: type(module).__name__ for name, module in own.model.named_modules()}
    packed = [name for name, kind in kinds.items() if kind == "Linear4bit"]
    assert len(packed) == four_bit and all(name.startswith("model.language_model.layers.") for name in packed)
    assert "Linear8bitLt" not in kinds.values() and own.plan.four_bit is bool(four_bit)
    assert {p.dtype for p in own.model.parameters()} <= {torch.float32, torch.uint8}

    maker = rows_of(own, photographs, questions, config)
    batch = maker.batch([maker.row(q) for q in questions[:2]])
    found, whole = (read_letters(one.answers(one.model).eval(), [batch], "cpu") for one in (own, base))
    for mine, right in zip(found, whole, strict=True):  # what 4 bits lose differs between CPUs: 1 to 2.2 seen
        assert abs(mine - right).max() < 5, "garbage is further off: packed numbers taken for weights make logits of hundreds"
    if four_bit:
        unpacked = load_base(config.replace(quantization="none"), plan_device(config.replace(quantization="none")))
        for mine, right in zip(found, read_letters(unpacked.answers(unpacked.model).eval(), [batch], "cpu"), strict=True):
            np.testing.assert_allclose(mine, right, atol=0.05)

    model = make_trainable(own, config, 0)
    answers = own.answers(model).train()
    optimizer = torch.optim.AdamW(trained_parameters(model).values(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = answer_loss(answers(batch), batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    remove_adapters(own, model)


def test_quantization_none_unpacks_4_bit_weights_and_4bit_refuses_8_bit_ones(published):
    config, four_bit = published
    if four_bit:
        full = load_base(config.replace(quantization="none"), plan_device(config.replace(quantization="none")))
        assert not [m for m in full.model.modules() if type(m).__name__ == "Linear4bit"]
        assert {p.dtype for p in full.model.parameters()} == {torch.float32}
    else:
        config = config.replace(quantization="4bit")
        with pytest.raises(ModelError, match=r"quantization=4bit needs unquantized weights, but .* has (8-bit|FP8) weights"):
            load_base(config, plan_device(config))


def test_a_packed_checkpoint_with_a_gap_is_named(published, tmp_path):
    config, _ = published
    folder = shutil.copytree(config.model_id, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("layers.5.self_attn.o_proj.weight"))
    save_file({name: value for name, value in tensors.items() if not name.startswith(lost.removesuffix("weight"))},
              folder / "model.safetensors", {"format": "pt"})
    broken = config.replace(model_id=str(folder))
    _, _, model_config = load_encoder(broken)
    with pytest.raises(ModelError, match=r"1 tensor missing, first model\.language_model\.layers\.5\.self_attn\.o_proj\.weight"):
        require_whole_model(broken, model_config)
    with pytest.raises(ModelError, match=r"tensors? missing, first model\.language_model\.layers\.5\.self_attn\.o_proj"):
        load_base(broken, plan_device(broken))


def test_a_packed_checkpoint_without_a_scale_is_named(published, tmp_path):
    """The library would take FP8 numbers, and 4-bit scales that are quantized themselves, as they are."""
    config, _ = published
    folder = shutil.copytree(config.model_id, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    weight = next(name for name in tensors if name.endswith("layers.5.self_attn.o_proj.weight"))
    scales = sorted(name for name in tensors.keys() - {weight, weight.replace("weight", "weight_format")}
                    if name.startswith(weight.removesuffix("weight")))
    assert scales
    broken = config.replace(model_id=str(folder))
    for lost in scales:
        kept = {name: value for name, value in tensors.items() if name != lost}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})
        missing = lost.partition(".bitsandbytes__")[0]
        with pytest.raises(ModelError, match=rf"lacks 1 scale of its (4-bit|8-bit|FP8) weights, first {re.escape(missing)}\. "):
            require_whole_model(broken, load_encoder(broken)[2])


@pytest.mark.parametrize(("packing", "bits"), [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "4-bit"), ({"load_in_8bit": True}, "8-bit"),
    ({"quant_method": "fp8", "weight_block_size": [32, 32]}, "FP8"),
])
def test_weights_that_are_not_packed_as_the_configuration_says_are_named(tiny_config, tmp_path, packing, bits):
    """Adapters that were merged into full weights may leave the base model's quantization_config behind."""
    config = tiny_config.replace(model_id=str(shutil.copytree(packaged_tiny(), tmp_path / "model")))
    with_packing(tmp_path / "model", packing)
    with pytest.raises(ModelError, match=rf"declares {bits} weights(.|\n)*not quantized\. Remove quantization_config"):
        load_base(config, plan_device(config))


@pytest.mark.parametrize("method", ["awq", "gptq", "compressed-tensors", "mxfp4", "torchao"])
def test_what_is_packed_for_inference_is_refused_by_name(tiny_config, tmp_path, method):
    folder = shutil.copytree(packaged_tiny(), tmp_path / "model")
    with_packing(folder, {"quant_method": method, "bits": 4})
    with pytest.raises(ModelError, match=rf"quantized by {method} (.|\n)*quantization=4bit, or to a model in bitsandbytes 4-bit"):
        load_encoder(tiny_config.replace(model_id=str(folder)))


def test_a_version_is_of_a_model_on_the_hub(tiny_config):
    with pytest.raises(ModelError, match=r"revision='v1' applies to models on the hub, but 'tiny' is not one"):
        load_encoder(tiny_config.replace(revision="v1"))


def test_rows_that_are_not_whole_blocks_are_unpacked_right():
    """bitsandbytes' own dequantization on CPUs takes each row for whole blocks of 64."""
    bnb = pytest.importorskip("bitsandbytes")
    weight = torch.randn(8, 96, generator=torch.Generator().manual_seed(0))
    layer = bnb.nn.Linear4bit(96, 8, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    layer.weight = bnb.nn.Params4bit(
        weight.clone(), requires_grad=False, quant_type="nf4", blocksize=64, compress_statistics=False)
    model = torch.nn.Sequential(layer.to("cpu"))
    unpack_linears(model, torch.float32, keep=None)
    blocks = bnb.functional.quantize_4bit(weight.view(-1, 64), blocksize=64, quant_type="nf4")
    torch.testing.assert_close(model[0].weight, bnb.functional.dequantize_4bit(*blocks).view(8, 96), rtol=0, atol=0)
    assert (model[0].weight - weight).abs().mean() < 0.09


def test_layers_of_any_width_compute_what_their_weights_are(tmp_path):
    """tiny's down_proj has rows of 480 values, seven and a half blocks."""
    config = tiny_settings(tmp_path, quantization="4bit")
    layer = load_base(config, plan_device(config)).model.model.language_model.layers[0].mlp.down_proj
    inputs = torch.eye(layer.in_features)
    blocks, state = layer.weight.data, copy.copy(layer.weight.quant_state)
    state.shape = torch.Size((layer.in_features * layer.out_features // 64, 64))
    bnb = pytest.importorskip("bitsandbytes")
    right = bnb.functional.dequantize_4bit(blocks, state).view(layer.out_features, layer.in_features)
    torch.testing.assert_close(layer(inputs).T, right)
