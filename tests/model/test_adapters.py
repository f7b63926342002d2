"""Fused LoRA layers give PEFT's own numbers: outputs, gradients, with dropout, biases and 4-bit weights."""
import dataclasses

import pytest
import torch
from peft import get_peft_model

from mcvqa.model.adapters import fuse_adapters
from mcvqa.model.device import plan_device
from mcvqa.model.forward import AnswerModel, answer_loss
from mcvqa.model.load import adapter_settings, load_base, remove_adapters, trained_parameters


def loss_and_gradients(model, base, batch):
    torch.manual_seed(0)
    weights = trained_parameters(model)
    for p in weights.values():
        p.grad = None
    loss = answer_loss(AnswerModel(model, base.family, base.image_token_id)(batch), batch).mean()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in weights.items()}


@pytest.mark.parametrize("quantization", ["none", "4bit"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_fused_layers_give_the_numbers_of_peft(tiny_config, maker, questions, quantization, dropout):
    config = dataclasses.replace(tiny_config, quantization=quantization, lora_dropout=dropout)
    base = load_base(config, plan_device(config))
    model = get_peft_model(base.model, adapter_settings(config, base.family)).train()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in trained_parameters(model).items():
            if "lora_B" in name:  # zero at first: nothing would reach lora_A
                p.copy_(0.05 * torch.randn(p.shape, generator=random))
    batch = maker.batch([maker.row(q) for q in questions[:2]])
    loss, gradients = loss_and_gradients(model, base, batch)
    layers = len(base.language.layers)
    assert fuse_adapters(model) == 7 * layers
    fused_loss, fused = loss_and_gradients(model, base, batch)
    assert fused_loss == pytest.approx(loss, abs=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused[name], gradient, atol=1e-5 * float(gradient.abs().max() + 1e-3), rtol=1e-3)
    remove_adapters(base, model)


def test_what_is_trained_fused_is_what_peft_reads(tiny_config, base, maker, questions):
    """In evaluation there is no dropout, and the same model unfused answers alike."""
    model = get_peft_model(base.model, adapter_settings(dataclasses.replace(tiny_config, lora_dropout=0.5), base.family)).eval()
    with torch.no_grad():
        for p in trained_parameters(model).values():
            p.add_(0.05)
        batch = maker.batch([maker.row(q) for q in questions])
        answers = AnswerModel(model, base.family, base.image_token_id)
        plain = answers(batch)
        fuse_adapters(model)
        torch.testing.assert_close(answers(batch), plain, atol=1e-4, rtol=1e-4)
    remove_adapters(base, model)


def test_the_vision_towers_biases_are_kept(tiny_config):
    config = dataclasses.replace(tiny_config, lora_vision=True)
    base = load_base(config, plan_device(config))
    model = get_peft_model(base.model, adapter_settings(config, base.family)).eval()
    layer = base.vision.blocks[0].attn.qkv
    assert layer.base_layer.bias is not None
    x = torch.randn(3, 5, layer.base_layer.in_features)
    with torch.no_grad():
        plain = layer(x)
        fuse_adapters(model)
        torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-5)
