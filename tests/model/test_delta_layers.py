"""Gated delta layers of models without a fast path: what the library computes, in chunks."""
import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mcvqa.config import Config
from mcvqa.model import load
from mcvqa.model.delta_layers import compute_in_chunks
from mcvqa.model.device import plan_device
from tests.model.family_parts import DELTA, EXPERTS, model_of
from tests.model.other_families import TEXT

TOWER = dict(
    hidden_size=64, intermediate_size=96, out_hidden_size=64, num_position_embeddings=36, depth=1, num_heads=2, patch_size=16)


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    library_s = model_of("qwen3_5_moe", text_config=TEXT | DELTA | EXPERTS, vision_config=TOWER).eval()
    for name, p in library_s.named_parameters():
        if "linear_attn" in name and p.ndim > 1:
            nn.init.normal_(p, std=0.3)  # else hardly anything is read from the state
    ours = copy.deepcopy(library_s)
    compute_in_chunks(ours)
    return ours, library_s


@pytest.mark.parametrize("length", [1, 2, 17, 64, 150])
def test_logits_and_gradients_are_the_library_s(pair, length):
    ids = torch.arange(3 * length).view(3, length) * 7 % 500
    mask = torch.ones_like(ids)
    mask[1, length - length // 3 :] = 0  # padding on the right
    found = []
    for model in pair:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask.bool()]
        learned = {name: p for name, p in model.named_parameters() if "linear_attn" in name}
        found.append((logits, *torch.autograd.grad(logits.log_softmax(-1)[:, 7].mean(), list(learned.values()))))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    assert length < 3 or all(gradient.abs().max() > 1e-4 for gradient in found[1][1:])


def test_generation_goes_on_from_states_that_the_library_keeps(pair):
    ids = torch.arange(5, 80)[None]
    mine, theirs = (model.generate(input_ids=ids, max_new_tokens=5, do_sample=False) for model in pair)
    assert torch.equal(mine, theirs)


def test_a_mixture_is_loaded_with_it(pair, tmp_path, monkeypatch):
    """With no processor, which needs torchvision."""
    ours, library_s = pair
    library_s.save_pretrained(tmp_path)
    monkeypatch.setattr(load, "load_encoder", lambda config: (SimpleNamespace(tokenizer=None), None, library_s.config))
    config = Config(model_id=str(tmp_path), precision="float32", quantization="none")
    loaded = load.load_base(config, plan_device(config)).model
    monkeypatch.setattr(f"{type(ours).__module__}.torch_chunk_gated_delta_rule", lambda *given, **named: 1 / 0)
    ids = torch.arange(5, 45)[None]
    torch.testing.assert_close(loaded(input_ids=ids, use_cache=False).logits, ours(input_ids=ids, use_cache=False).logits)
    with pytest.raises(ZeroDivisionError):
        library_s(input_ids=ids, use_cache=False)
