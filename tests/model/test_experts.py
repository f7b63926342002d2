"""Experts in 4 bits: quantised while they are loaded, and computed as the library computes the dequantised ones."""
import copy
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForImageTextToText

from mcvqa.config import Config
from mcvqa.model.adapters import adapter_settings, with_adapters
from mcvqa.model.experts import STACKS, stacked_experts
from mcvqa.model.families.family import FamilyError
from mcvqa.model.families.registry import FAMILIES as FAMILIES_HERE
from mcvqa.model.family_choice import family_of
from mcvqa.model.fast.overflow import run_in_float32
from mcvqa.model.load import ModelError, four_bit_settings, patch_bitsandbytes, verify_quantization
from mcvqa.model.packed_experts import dequantized, limit_products, packed_experts_forward, packed_stack
from mcvqa.model.size import measure_model
from mcvqa.model.source import require_whole_model
from tests.model.family_parts import DELTA, model_of, rope
from tests.model.other_families import TEXT

COUNT = 20  # of experts
EXPERTS = dict(
    num_experts=COUNT, num_experts_per_tok=2, moe_intermediate_size=64, shared_expert_intermediate_size=64, norm_topk_prob=True)
TOWER = dict(
    hidden_size=64, intermediate_size=96, out_hidden_size=64, num_position_embeddings=36, depth=1, num_heads=2, patch_size=16)
FAMILIES = {  # stacked, with rows and columns exchanged, in the file; a tensor for each expert in the file
    "qwen3_vl_moe": lambda: model_of(
        "qwen3_vl_moe", text_config=TEXT | EXPERTS | rope(4, 2, 2, mrope_interleaved=True),
        vision_config=TOWER | dict(deepstack_visual_indexes=[0])),
    "qwen3_5_moe": lambda: model_of("qwen3_5_moe", text_config=TEXT | DELTA | EXPERTS, vision_config=TOWER),
}

needs_peft = pytest.mark.skipif(version("peft") < "0.21", reason="adapters on experts need peft 0.21")


def loaded(folder: Path, **options) -> nn.Module:
    settings = dict(dtype=torch.float32, device_map={"": "cpu"}) | options
    model = AutoModelForImageTextToText.from_pretrained(folder, **settings)
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param]().save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def full(folder):
    return loaded(folder)


@pytest.fixture(scope="module")
def packed(folder, full):
    family = family_of(full.config, Config())
    model = loaded(folder, quantization_config=four_bit_settings(family, torch.float32))
    verify_quantization(model, family)
    patch_bitsandbytes(model)
    return model


def stacks_of(model: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{path}.{name}": getattr(one, name) for path, one in stacked_experts(model).items() for name in STACKS}


# %% what is loaded
def test_each_expert_is_what_bitsandbytes_makes_of_its_matrix(full, packed):
    stacks, whole = stacks_of(packed), stacks_of(full)
    assert stacks.keys() == whole.keys() and len(stacks) == 2 * 2
    for name, stack in stacks.items():
        assert torch.equal(dequantized(stack)[7:9], dequantized(stack, 7, 9))
        for number, mine in enumerate(dequantized(stack)):
            alone, state = quantize_4bit(whole[name][number].contiguous(), blocksize=64, quant_type="nf4")
            assert torch.equal(mine, dequantize_4bit(alone, state)) and not torch.equal(mine, whole[name][number])


def test_experts_take_as_many_bytes_as_the_estimate_says(full, packed):
    held = sum(stack.nbytes + stack.quant_state.absmax.nbytes for stack in stacks_of(packed).values())
    size = measure_model(full.config, Config(quantization="4bit"))
    assert held == size.experts * size.four_bits == 2 * COUNT * 3 * 64 * 64 * (1 / 2 + 4 / 64)
    assert size.experts + size.language_linears + size.rest == sum(p.numel() for p in full.parameters())
    assert size.routed == 2 / COUNT


# %% what is computed
@pytest.mark.parametrize("targets", [
    "all-linear", pytest.param("q_proj,experts", marks=needs_peft), pytest.param("experts", marks=needs_peft)])
def test_logits_and_gradients_are_those_of_the_dequantised_weights(targets, folder, full, packed):
    """Adapters get the same gradients, through the experts and their weights; those on experts are PEFT's own in full weights."""
    config = Config(lora_dropout=0.0, target_modules=targets)
    plain = loaded(folder)
    for name, stack in stacks_of(packed).items():
        plain.get_parameter(name).data = dequantized(stack)
    for name, module in packed.named_modules():
        if type(module).__name__ == "Linear4bit":
            plain.get_submodule(name).weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state)
    ids, found = torch.arange(5, 65).view(2, 30), []
    for model in (packed, plain):
        torch.manual_seed(1)
        adapted = with_adapters(model, config, family_of(full.config, config))
        learned = [p for p in adapted.parameters() if p.requires_grad]
        for p in learned:
            nn.init.normal_(p, std=0.1)
        logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        gradients = torch.autograd.grad(logits.log_softmax(-1)[..., 7].mean(), learned)
        found.append((logits, *gradients))
        adapted.unload()
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    assert all(gradient.abs().max() > 1e-6 for gradient in found[0][1:])


@pytest.mark.parametrize("at_once", [2**30, 2 * 128 * 64 * 4])  # all five experts together; two of gate_up_proj at once
@pytest.mark.parametrize("chosen", [
    pytest.param([[4, 1], [1, 4], [2, 4]], id="experts without tokens"), pytest.param([[3], [3], [3]], id="all to one expert"),
    pytest.param([[2, 0]], id="one token")])
def test_outputs_and_gradients_of_experts_are_those_of_their_matrices(monkeypatch, chosen, at_once):
    """Token for token, with adapters of rank three and without; experts that no token is sent to get gradients of zero."""
    monkeypatch.setattr("mcvqa.model.packed_experts.BYTES_AT_ONCE", at_once)
    torch.manual_seed(0)
    module = SimpleNamespace(
        num_experts=5, gate_up_proj=packed_stack(torch.randn(5, 128, 64) / 8), down_proj=packed_stack(torch.randn(5, 64, 64) / 8),
        _apply_gate=lambda both: nn.functional.silu(both.chunk(2, -1)[0]) * both.chunk(2, -1)[1])
    chosen, upstream = torch.tensor(chosen), torch.randn(len(chosen), 64)
    hidden, weights = torch.randn(len(chosen), 64, requires_grad=True), torch.rand(chosen.shape, requires_grad=True)
    adapters = {name: (torch.randn(5, 3, 64, requires_grad=True), torch.randn(5, rows, 3, requires_grad=True), 0.1)
                for name, rows in (("gate_up_proj", 128), ("down_proj", 64))}
    for some in ({}, adapters, {"down_proj": adapters["down_proj"]}):
        inputs = [hidden, weights, *(factor for one in some.values() for factor in one[:2])]
        matrices = {name: dequantized(getattr(module, name)) for name in STACKS}
        matrices |= {name: matrices[name] + scale * up @ down for name, (down, up, scale) in some.items()}
        plain = torch.stack([
            sum(weight * (matrices["down_proj"][e] @ module._apply_gate(matrices["gate_up_proj"][e] @ token))
                for e, weight in zip(experts, row, strict=True))
            for token, experts, row in zip(hidden, chosen.tolist(), weights, strict=True)])
        mine = packed_experts_forward(module, hidden, chosen, weights, some)
        found = [(one, *torch.autograd.grad(one, inputs, upstream)) for one in (mine, plain)]
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_where_little_memory_is_left_fewer_experts_are_dequantized_together(packed, monkeypatch):
    stacks = [getattr(experts, name) for experts in stacked_experts(packed).values() for name in STACKS]
    hidden, chosen, weights = torch.randn(7, 64), torch.arange(14).view(7, 2), torch.rand(7, 2)
    experts, counts = next(iter(stacked_experts(packed).values())), []
    expected = experts(hidden, chosen, weights)

    def counted(stack, first, last):
        counts.append(last - first)
        return dequantized(stack, first, last)

    monkeypatch.setattr("mcvqa.model.packed_experts.dequantized", counted)
    try:
        limit_products(packed, 4 * 4 * 64 * 64 * 4)  # a quarter holds four matrices of 64 x 64, two of 128 x 64
        torch.testing.assert_close(experts(hidden, chosen, weights), expected)
        assert counts == [2] * 10 + [4] * 5
        limit_products(packed, 2**40)
        assert experts(hidden, chosen, weights) is not None and counts[15:] == [COUNT, COUNT]
    finally:
        for stack in stacks:
            del stack.bytes_at_once


def test_experts_that_overflow_float16_are_computed_in_float32(folder, full):
    family = family_of(full.config, Config())
    model = loaded(folder, dtype=torch.float16, quantization_config=four_bit_settings(family, torch.float16))
    experts = next(iter(stacked_experts(model).values()))
    experts.gate_up_proj.quant_state.absmax *= 1e4
    hidden, chosen = torch.ones(3, 64, dtype=torch.float16), torch.tensor([[0, 5]] * 3)
    weights = torch.full((3, 2), 0.01, dtype=torch.float16)
    assert not torch.isfinite(experts(hidden, chosen, weights)).all()
    run_in_float32(experts)
    assert torch.isfinite(experts(hidden, chosen, weights)).all()


# %% what is refused
def test_experts_of_another_size_are_refused_by_name(folder, full):
    """Before any weight is read: the library takes quantized weights of any shape."""
    other = copy.deepcopy(full.config)
    other.text_config.moe_intermediate_size = 128
    with pytest.raises(ModelError, match=r"tensors with another shape, first .*experts\.down_proj \(20, 64, 64\) instead of"):
        require_whole_model(Config(model_id=str(folder)), other)


def test_adapters_on_experts_that_cannot_be_are_refused(full, monkeypatch):
    family, config = family_of(full.config, Config()), Config(target_modules="q_proj,experts", lora_dropout=0.0)
    with pytest.raises(FamilyError, match=r"no linear layers gate_up_proj; (.|\n)*Its experts are named experts"):
        adapter_settings(Config(target_modules="q_proj,gate_up_proj"), family)
    with pytest.raises(FamilyError, match="target_modules: qwen2_5_vl has no experts"):
        adapter_settings(config, FAMILIES_HERE["qwen2_5_vl"])
    for unsuited in (config.replace(lora_dropout=0.05), config.replace(use_dora=True)):
        with pytest.raises(FamilyError, match="neither dropout nor DoRA: set lora_dropout=0 and use_dora=false"):
            adapter_settings(unsuited, family)
    with pytest.raises(FamilyError, match="lora_vision=true does not work with models of type"):
        adapter_settings(config.replace(target_modules=("experts",), lora_vision=True), family)
    monkeypatch.setattr("mcvqa.model.experts.version", lambda name: "0.20.0")
    with pytest.raises(FamilyError, match=r"need peft 0\.21 or newer; 0\.20\.0 is installed"):
        adapter_settings(config, family)


@needs_peft
def test_adapters_on_experts_can_be_switched_off(full, packed):
    ids = torch.arange(5, 35)[None]
    config = Config(lora_dropout=0.0, target_modules="experts")
    before = packed(input_ids=ids).logits
    adapted = with_adapters(packed, config, family_of(full.config, config))
    for p in adapted.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    with adapted.disable_adapter():
        torch.testing.assert_close(adapted(input_ids=ids).logits, before, rtol=0, atol=0)
    assert (adapted(input_ids=ids).logits - before).abs().max() > 0.01
    adapted.unload()


def test_a_folder_with_experts_in_4_bits_is_refused_by_name(folder, full, tmp_path):
    made: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(file).items():
            if ".experts." in name:
                value, state = quantize_4bit(value.contiguous(), blocksize=64, quant_type="nf4")
                made |= {f"{name}.{kind}": part for kind, part in state.as_dict(packed=True).items()}
            made[name] = value
    save_file(made, tmp_path / "model.safetensors", {"format": "pt"})
    packing = dict(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4")
    facts = json.loads((folder / "config.json").read_text()) | {"quantization_config": packing}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    config = Config(model_id=str(tmp_path))
    model_config = type(full.config).from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"experts in 4 bits(.|\n)*original model(.|\n)*quantization=4bit"):
        require_whole_model(config, model_config)


def test_experts_left_in_full_are_noticed(full, packed):
    family = family_of(full.config, Config())
    whole, (path, experts) = stacks_of(full), next(iter(stacked_experts(packed).items()))
    stack = experts.down_proj
    experts.down_proj = nn.Parameter(whole[f"{path}.down_proj"].data, requires_grad=False)
    with pytest.raises(ModelError, match=r"experts\.down_proj"):
        verify_quantization(packed, family)
    experts.down_proj = stack
    verify_quantization(packed, family)
