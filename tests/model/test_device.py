"""Automatic choices and their reasons."""
import types

import pytest
import torch

from mcvqa.config import Config
from mcvqa.model import device
from mcvqa.model.device import GIB, DeviceError, apply_device, choose_precision, plan_device, prove_device, set_seeds
from mcvqa.model.load import load_base


@pytest.mark.parametrize(("capability", "dtype"), [
    ((7, 5), torch.float16), ((6, 0), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16),
])
def test_precision_follows_capability_not_the_gpus_claim(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, **k: True)  # what a T4 says
    chosen, why = choose_precision("auto", "cuda", capability)
    assert chosen == dtype and "capability" in why
    assert choose_precision("float32", "cuda", capability)[0] == torch.float32


def test_4_bit_weights_are_as_set_or_wait_for_the_model(hopper):
    assert plan_device(Config(device="cuda")).four_bit is None
    assert plan_device(Config(device="cuda", quantization="none")).four_bit is False
    assert plan_device(Config(device="cpu", quantization="4bit")).four_bit is True


@pytest.fixture
def hopper(monkeypatch):
    """A GPU with 80 GiB and bfloat16 that only says what it is; gives what was set globally."""
    limits = {}
    facts = types.SimpleNamespace(name="H100", major=9, minor=0, total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: facts)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, gpu=None: limits.update(share=share))
    monkeypatch.setattr(torch.backends.cuda, "enable_flash_sdp", lambda on: limits.update(flash=on))
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: limits.update(cudnn=on))
    monkeypatch.setattr(device, "_let_memory_grow", lambda: limits.update(grows=True))
    monkeypatch.setattr(device, "prove_device", lambda *facts: None)
    return limits


def test_a_large_gpu_is_taken_for_a_t4_and_then_for_itself_again(hopper):
    rehearsed = plan_device(Config(gpu_profile="t4"))
    assert (rehearsed.dtype, rehearsed.memory) == (torch.float16, 15 * GIB) and rehearsed.scale_gradients
    assert "simulating a T4 with 15 of its 80 GiB" in rehearsed.reasons[0]
    own = plan_device(Config())
    assert (own.dtype, own.memory) == (torch.bfloat16, 80 * GIB)
    for plan, share, flash in ((rehearsed, 15 / 80, False), (own, 1.0, True)):
        apply_device(plan)
        assert hopper == {"share": share, "flash": flash, "cudnn": False, "grows": True}


def test_planning_sets_nothing_and_applying_does(hopper):
    flags = torch.backends.cudnn
    before = flags.deterministic, flags.benchmark
    try:
        flags.deterministic, flags.benchmark = False, True
        state = torch.get_rng_state()
        for config in (Config(), Config(gpu_profile="t4"), Config(device="cpu")):
            plan = plan_device(config)
        assert not hopper and (flags.deterministic, flags.benchmark) == (False, True)
        apply_device(plan)
        assert not hopper, "a plan for the CPU leaves the GPU alone"
        assert (flags.deterministic, flags.benchmark) == (True, False) and torch.equal(torch.get_rng_state(), state)
    finally:
        flags.deterministic, flags.benchmark = before


def test_whoever_loads_a_model_applies_its_plan(tiny_config, monkeypatch):
    applied = []
    monkeypatch.setattr("mcvqa.model.load.apply_device", applied.append)
    assert [load_base(tiny_config, plan_device(tiny_config)).plan] == applied


def test_a_t4_is_not_rehearsed_without_a_gpu():
    with pytest.raises(DeviceError, match=r"gpu_profile=t4 simulates .* computes on CPU: --set gpu_profile=own"):
        plan_device(Config(device="cpu", gpu_profile="t4"))


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
    assert (plan.device, plan.dtype, plan.memory, plan.four_bit, plan.amp, plan.workers) == (
        "cpu", torch.float32, 0, False, False, 0)
    assert len(plan.reasons) == 6 and all(": " in reason for reason in plan.reasons)
    assert not plan.scale_gradients


def test_seeds_are_set():
    set_seeds(42)
    first = torch.rand(3)
    set_seeds(42)
    assert torch.equal(first, torch.rand(3))
