"""Decides where the layers of a model go: on one GPU or, one stage each, on several."""
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.model.device import GIB, DeviceError, DevicePlan
from mcvqa.model.families.family import Family
from mcvqa.model.family_choice import decoder_linears, family_of
from mcvqa.model.memory import MARGIN
from mcvqa.model.size import LEAST_ROOM, ModelSize, choose_weights, measure_model
from mcvqa.model.source import ModelError, empty_model


@dataclass(frozen=True)
class Stage:
    """Describes the GPU that computes some layers of a model, and its expected memory.

    Attributes:
        device: 'cuda:1'.
        layers: numbers of the layers.
        memory: bytes that may be used there.
        weights: bytes of the weights there and of their training state.
    """

    device: str
    layers: range
    memory: int
    weights: int


@dataclass(frozen=True)
class Weights:
    """Holds the bytes of a model's parts in memory, with the training state of adapters.

    Attributes:
        layers: bytes of each decoder layer.
        embedding: bytes of the embedding, and of the head if it is the same.
        head: bytes of the norm and the head after the layers.
        vision: bytes of the vision tower, which is loaded while images are encoded: in some runs in every step.
    """

    layers: Sequence[int]
    embedding: int
    head: int
    vision: int

    @property
    def whole(self) -> int:
        return sum(self.layers) + self.embedding + self.head


def divide(weights: Weights, memory: Sequence[int]) -> list[range] | None:
    """Divide layers into stages, as evenly as memory allows, so that all take the same time; None: they do not fit.

    Args:
        weights: bytes of the model's parts.
        memory: bytes that may be used on each GPU.
    """
    largest, last = max(weights.layers), len(memory) - 1
    rooms = []
    for n, size in enumerate(memory):
        beside = LEAST_ROOM + (weights.embedding + weights.vision) * (n == 0) + weights.head * (n == last)
        rooms.append(max(0, int((MARGIN * size - beside) // largest)))
    counts = [0] * len(memory)
    for _ in weights.layers:  # of two equal stages the later one first: it holds fewer micro-batches
        free = [n for n, room in enumerate(rooms) if counts[n] < room]
        if not free:
            return None
        counts[min(free, key=lambda n: (counts[n], -n))] += 1
    ends = [sum(counts[: n + 1]) for n in range(len(counts))]
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)] if all(counts) else None


def weigh(model_config: Any, config: Config, plan: DevicePlan, size: ModelSize) -> Weights:
    """Count the bytes of a model's parts on an empty model.

    Args:
        model_config: configuration of the model.
        config: all settings.
        plan: with the choice of weights made.
        size: size of the same model.
    """
    model = empty_model(model_config)
    family, each = family_of(model_config, config, model), plan.dtype.itemsize
    packed = {id(linear.weight) for linear in decoder_linears(model, family).values()} if plan.four_bit else set()

    def bytes_of(*parts: nn.Module) -> int:
        weights = {id(p): p for part in parts for p in part.parameters()}
        return int(sum(p.numel() * (size.four_bits if number in packed else each) for number, p in weights.items()))

    language, head = model.get_submodule(family.language), model.get_output_embeddings()
    layers, embedding = [*language.get_submodule(family.layers)], language.get_input_embeddings()
    tied = head.weight is embedding.weight
    training = size.training_bytes // len(layers)  # of adapters, which all layers have alike
    return Weights(
        [bytes_of(layer) + training for layer in layers], bytes_of(embedding),
        bytes_of(language.norm) + (0 if tied else bytes_of(head)),
        bytes_of(model.get_submodule(family.vision)) if family.vision else 0,
    )


def spread(config: Config, plan: DevicePlan, model_config: Any, size: ModelSize | None = None) -> DevicePlan:
    """Divide the layers among as many GPUs as gpus_per_model says or, with auto, as the model needs.

    Args:
        config: all settings.
        plan: with the choice of weights made.
        model_config: configuration of the model.
        size: size of the model, if it is known already.

    Returns:
        The plan with the stages.

    Raises:
        DeviceError: there are fewer GPUs, they are too small, or a launcher has started a process for each.
        ModelError: the model or these settings have no fast path.
    """
    if plan.device != "cuda":
        raise DeviceError(
            f"gpus_per_model={config.gpus_per_model} splits a model across NVIDIA GPUs, but this run computes on {plan.device}"
            ": set gpus_per_model=auto."
        )
    if "LOCAL_RANK" in os.environ:
        raise DeviceError(
            f"gpus_per_model={config.gpus_per_model} cannot be combined with torchrun or accelerate launch, whose processes "
            "have one GPU each. Start the run without them: one process computes on all GPUs of a model, others on the other "
            "GPUs."
        )
    memory = [min(plan.memory, torch.cuda.mem_get_info(gpu)[0]) for gpu in range(torch.cuda.device_count())]
    auto, wanted = config.gpus_per_model == "auto", config.gpus_at_least
    if wanted > len(memory):
        raise DeviceError(
            f"gpus_per_model={wanted}: a process finds {counted(len(memory), 'GPU')} here. Set it to auto or to fewer.")
    family = family_of(model_config, config)
    if family.vision is None or config.use_dora or config.lora_r == 0:
        slow = "use_dora=true" if config.use_dora else "lora_r=0" if config.lora_r == 0 else f"type {family.model_type}"
        raise ModelError(
            f"{config.model_id} would have to be split across several GPUs (gpus_per_model={config.gpus_per_model}), but {slow}"
            " has no fast path, which that requires. Use a smaller model, or set gpus_per_model=1."
        )
    weights = weigh(model_config, config, plan, size or measure_model(model_config, config))
    for count in range(1, len(memory) + 1) if auto else [wanted]:
        if parts := divide(weights, memory[:count]):
            if count == 1:
                return plan
            stages = stages_of(parts, weights, memory)
            divided = replace(plan, stages=stages, device_map=device_map(model_config, family, stages))
            return replace(divided, reasons=(*plan.reasons, *placement_lines(divided)))
    there = " + ".join(f"{each / GIB:.1f}" for each in memory[: None if auto else wanted])
    advice = "" if plan.four_bit else " With quantization=4bit they are about a quarter of it."
    raise DeviceError(
        f"{config.model_id} does not fit: its weights and the training state of its adapters take {weights.whole / GIB:.1f} "
        f"GiB, and each GPU needs {LEAST_ROOM / GIB:.0f} GiB more to compute; there are {there} GiB of memory (of which "
        f"{MARGIN:.0%} are used).{advice} Use more GPUs or a smaller model: nothing is offloaded to the CPU, where training "
        "would take days."
    )


def stages_of(parts: Sequence[range], weights: Weights, memory: Sequence[int]) -> tuple[Stage, ...]:
    """Make the stages of layers `parts` on the first GPUs.

    Args:
        parts: layers of each stage.
        weights: bytes of the model's parts.
        memory: bytes that may be used on each GPU.
    """
    last = len(parts) - 1
    return tuple(
        Stage(f"cuda:{n}", layers, memory[n], sum(weights.layers[layer] for layer in layers)
              + weights.embedding * (n == 0) + weights.head * (n == last))
        for n, layers in enumerate(parts)
    )


def placement_lines(plan: DevicePlan) -> list[str]:
    """Describe the placement of the layers, one line per GPU."""
    lines, last = [], len(plan.stages) - 1
    for n, stage in enumerate(plan.stages):
        beside = ["the embedding and the vision tower"] * (n == 0) + ["the head"] * (n == last)
        lines.append(
            f"GPU {stage.device.partition(':')[2]}: layers {stage.layers.start} to {stage.layers.stop - 1}"
            f"{''.join(f', {one}' for one in beside)}: {stage.weights / GIB:.1f} of {stage.memory / GIB:.1f} GiB"
        )
    return lines


def device_map(model_config: Any, family: Family, stages: Sequence[Stage]) -> dict[str, str]:
    """Map every part of a model to its device, for the library's loading.

    Args:
        model_config: configuration of the model.
        family: family of the model.
        stages: the stages.
    """
    model, first = empty_model(model_config), stages[0].device
    language, head, inner = model.get_submodule(family.language), model.get_output_embeddings(), f"{family.language}."
    where = {f"{family.decoder_layers}{layer}": stage.device for stage in stages for layer in stage.layers}
    where |= {f"{inner}{name}": first for name, _ in language.named_children() if name != family.layers}
    where[f"{inner}norm"] = stages[-1].device
    tied = head.weight is language.get_input_embeddings().weight
    others = [name for name, module in model.named_modules() if module is head or name == family.vision]
    where |= {name: first if tied or name == family.vision else stages[-1].device for name in others}
    return where


def place_model(config: Config, plan: DevicePlan, model_config: Any, size: ModelSize | None = None) -> DevicePlan:
    """Complete the plan with the choice of weights and, for a model larger than one GPU, with the GPUs of its layers.

    Args:
        config, plan, model_config, size: see `choose_weights`.

    Raises:
        DeviceError, ModelError: from choose_weights and spread.
    """
    plan = choose_weights(config, plan, model_config, size)
    if plan.stages or config.gpus_per_model == "1":
        return plan
    if config.gpus_per_model == "auto":
        if plan.device != "cuda" or torch.cuda.device_count() == 1:
            return plan
        size = size or measure_model(model_config, config)
        if size.weight_bytes(plan) + size.training_bytes + LEAST_ROOM <= MARGIN * plan.memory:
            return plan
    return spread(config, plan, model_config, size)
