"""Chooses device, precision and attention, with a reason for every automatic choice.

`plan_device` only inspects and decides; `apply_device` changes global state of this process.
"""
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import torch

from mcvqa.config import Config, McvqaError

GIB = 2**30
T4_CAPABILITY, T4_MEMORY = (7, 5), 15 * GIB
FLASH_CAPABILITY = (8, 0)


class DeviceError(McvqaError, RuntimeError):
    """Raised if the requested device is missing or does not work."""


@dataclass(frozen=True)
class DevicePlan:
    """Describes how and where to compute.

    Attributes:
        device: 'cuda', 'mps' or 'cpu'.
        dtype: precision of the frozen weights.
        memory: bytes of GPU memory that may be used; 0: no GPU.
        four_bit: NF4 weights in the language model; None: to be decided when the model is known (see choose_weights).
        amp: whether the forward pass uses mixed precision; with float16, gradients are scaled.
        workers: loader processes, which read images and encode rows.
        reasons: one line per choice, for users.
        flash_attention: whether attention may run on FlashAttention's kernels, which need compute capability 8.0.
        stages: stages of a model that is divided among several GPUs (see model/split.py); empty: it is not divided.
        device_map: the GPU of each part of such a model, by its path.
    """

    device: str
    dtype: torch.dtype
    memory: int
    four_bit: bool | None
    amp: bool
    workers: int
    reasons: tuple[str, ...]
    flash_attention: bool = True
    stages: tuple[Any, ...] = ()
    device_map: Mapping[str, str] = field(default_factory=dict)

    @property
    def limits(self) -> dict[str | None, int]:
        """Bytes that may be used, by GPU; None: the current one."""
        return {stage.device: stage.memory for stage in self.stages} or {None: self.memory}

    @property
    def scale_gradients(self) -> bool:
        return self.amp and self.dtype == torch.float16

    def with_weights(self, four_bit: bool, why: str) -> "DevicePlan":
        """Return this plan with 4-bit or full weights.

        Args:
            four_bit: whether the weights are 4-bit.
            why: the reason, added to the others.

        Raises:
            DeviceError: bitsandbytes is missing.
        """
        if four_bit and find_spec("bitsandbytes") is None:
            raise DeviceError(
                f"4-bit weights ({why}) need bitsandbytes: pip install bitsandbytes. Or do without: --set quantization=none."
            )
        others = [reason for reason in self.reasons if not reason.startswith("4-bit weights")]  # without an earlier choice
        return replace(self, four_bit=four_bit, reasons=(*others, f"4-bit weights {'on' if four_bit else 'off'}: {why}"))


def plan_device(config: Config) -> DevicePlan:
    """Plan device and precision for these settings on this machine; global state is not changed.

    Raises:
        DeviceError: the device is missing, fails a first operation, or cannot emulate a T4.
    """
    device, why_device = _choose_device(config)
    name, capability, memory = _gpu_facts(device)
    prove_device(device, name)
    if config.gpu_profile == "t4":
        if device != "cuda":
            raise DeviceError(
                f"gpu_profile=t4 simulates a T4 on another NVIDIA GPU, but this run computes on {name}: --set gpu_profile=own."
            )
        capability, whole, memory = T4_CAPABILITY, memory, min(memory, T4_MEMORY)
        why_device += f"; simulating a T4 with {memory / GIB:.0f} of its {whole / GIB:.0f} GiB"
    dtype, why_dtype = choose_precision(config.precision, device, capability)
    on_gpu = device != "cpu"
    amp = config.use_amp and on_gpu and dtype != torch.float32
    workers = (_spare_cores() if on_gpu else 0) if config.num_workers < 0 else config.num_workers
    reasons = (
        f"device {name}: {why_device}",
        f"precision {str(dtype).removeprefix('torch.')}: {why_dtype}",
        "attention SDPA: it runs on every GPU; FlashAttention needs capability 8.0",
        f"mixed precision {'on' if amp else 'off'}: " + _why_amp(config, on_gpu, dtype),
        f"loader processes: {workers}",
    )
    plan = DevicePlan(device, dtype, memory, None, amp, workers, reasons, capability >= FLASH_CAPABILITY)
    if config.quantization != "auto":
        return plan.with_weights(config.quantization == "4bit", "as set")
    return plan if device == "cuda" else plan.with_weights(False, "not needed without a GPU's memory limit")


def _spare_cores() -> int:
    """Count cores for loader processes: at most eight, which keep any GPU busy, and this process's share if several run here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _choose_device(config: Config) -> tuple[str, str]:
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1  # mps cannot exchange gradients between processes
    available = {"cuda": torch.cuda.is_available(), "mps": alone and torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        fastest = next(name for name, usable in available.items() if usable)
        return fastest, "the fastest available"
    if not available[config.device]:
        raise DeviceError(
            f"device={config.device} is not available here. Use --set device=auto, or switch on a GPU "
            "(Kaggle: Settings > Accelerator > GPU T4; Colab: Runtime > Change runtime type > T4)."
        )
    return config.device, "as set"


def _gpu_facts(device: str) -> tuple[str, tuple[int, int], int]:
    """Return name, compute capability and bytes of memory of the device."""
    if device != "cuda":
        return device.upper(), (0, 0), 0
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    return facts.name, (facts.major, facts.minor), facts.total_memory


def prove_device(device: str, name: str) -> None:
    """Run one operation: on a P100 `is_available()` is True, but the first kernel fails with current builds of torch.

    Args:
        device: 'cuda', 'mps' or 'cpu'.
        name: name for messages.

    Raises:
        DeviceError: it failed.
    """
    try:
        ones = torch.ones(8, 8, device=device)
        if (ones @ ones).sum().item() != 512:
            raise RuntimeError("a matrix product came out wrong")
    except RuntimeError as error:
        raise DeviceError(
            f"{name} cannot run this build of torch ({str(error).splitlines()[0]}). On Kaggle choose 'GPU T4 x2' instead of P100."
        ) from error


def choose_precision(wanted: str, device: str, capability: tuple[int, int]) -> tuple[torch.dtype, str]:
    """Choose the precision by compute capability: `is_bf16_supported()` is True on a T4, where bfloat16 is emulated and slow.

    Args:
        wanted: the setting `precision`.
        device: 'cuda', 'mps' or 'cpu'.
        capability: compute capability of a GPU.

    Returns:
        The precision and the reason.
    """
    if wanted != "auto":
        return getattr(torch, wanted), "as set"
    if device != "cuda":
        return torch.float32, "a CPU computes float32 fastest" if device == "cpu" else "exact on Apple GPUs"
    if capability >= (8, 0):
        return torch.bfloat16, f"compute capability {capability[0]}.{capability[1]} has bfloat16 units"
    return torch.float16, f"compute capability {capability[0]}.{capability[1]} is below 8.0: no bfloat16 units"


def _why_amp(config: Config, on_gpu: bool, dtype: torch.dtype) -> str:
    if not config.use_amp:
        return "use_amp=false"
    if not on_gpu:
        return "no gain on a CPU"
    if dtype == torch.float32:
        return "precision is float32"
    return "gradients are scaled against underflow" if dtype == torch.float16 else "bfloat16 needs no gradient scaling"


# %% global state of a process
def apply_device(plan: DevicePlan) -> None:
    """Apply a plan to the whole process, in place of an earlier one. `load_base` calls it before it allocates memory.

    cuDNN is deterministic, as in the original. On a GPU memory is limited to the plan's, and attention kernels that the planned
    GPU does not have are disabled. cuDNN's attention is disabled: it plans anew for every shape, and each batch has its own.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if plan.device == "cuda":
        _let_memory_grow()
        for gpu, memory in plan.limits.items():
            whole = torch.cuda.get_device_properties(gpu).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, memory / whole), gpu)
        torch.backends.cuda.enable_flash_sdp(plan.flash_attention)
        torch.backends.cuda.enable_cudnn_sdp(False)


def _let_memory_grow() -> None:
    """Use expandable memory segments, which fragment less: a T4 has no memory to waste. An environment variable of the user
    takes precedence; setting it here would be too late, because torch reads it when it is imported."""
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(os.environ):
        newer = getattr(torch._C, "_accelerator_setAllocatorSettings", None)  # its older name is deprecated
        (newer or torch.cuda.memory._set_allocator_settings)("expandable_segments:True")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, seed torch's generators; afterwards those of the CPU and the GPU in use continue as before."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield


def set_seeds(seed: int) -> None:
    """Seed torch on every device.

    numpy and random are not seeded: this package uses its own numpy generators.
    """
    torch.manual_seed(seed)
