"""Automatic choices and their reasons."""
import pytest
import torch

from mcvqa.config import Config
from mcvqa.model import device
from mcvqa.model.device import DeviceError, choose_precision, choose_quantization, plan_device, prove_device, set_seeds


@pytest.mark.parametrize(("capability", "dtype"), [
    ((7, 5), torch.float16), ((6, 0), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16),
])
def test_precision_follows_capability_not_the_gpus_claim(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)  # what a T4 says
    chosen, why = choose_precision("auto", "cuda", capability)
    assert chosen == dtype and "capability" in why
    assert choose_precision("float32", "cuda", capability)[0] == torch.float32


def test_quantization_follows_memory():
    assert choose_quantization("auto", "cuda", 15.0)[0] and not choose_quantization("auto", "cuda", 80.0)[0]
    assert not choose_quantization("auto", "cpu", 0)[0] and choose_quantization("4bit", "cpu", 0)[0]


def test_a_gpu_that_fails_its_first_kernel_is_named(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(device.torch, "ones", fails)
    with pytest.raises(DeviceError, match=r"Tesla P100-PCIE-16GB cannot run this build.*T4"):
        prove_device("cuda", "Tesla P100-PCIE-16GB")


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(DeviceError, match="device=cuda is not available"):
        plan_device(Config(device="cuda"))


def test_the_plan_on_a_cpu_gives_a_reason_for_each_choice():
    plan = plan_device(Config(device="cpu"))
    assert (plan.device, plan.dtype, plan.four_bit, plan.amp, plan.checkpointing, plan.workers) == (
        "cpu", torch.float32, False, False, False, 0)
    assert len(plan.reasons) == 6 and all(": " in reason for reason in plan.reasons)
    assert not plan.scale_gradients


def test_seeds_are_set():
    set_seeds(42)
    first = torch.rand(3)
    set_seeds(42)
    assert torch.equal(first, torch.rand(3)) and torch.backends.cudnn.deterministic
