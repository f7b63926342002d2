"""Counts the weights of a model without loading them, and decides whether they have 4 bits."""
from dataclasses import dataclass, replace
from typing import Any

from mcvqa.config import Config
from mcvqa.model.adapters import trained_parameters, with_adapters
from mcvqa.model.device import GIB, DevicePlan
from mcvqa.model.family_choice import decoder_linears, family_of
from mcvqa.model.published import FOUR_BIT, packing_settings, published_bits
from mcvqa.model.source import ModelError, empty_model

# NF4: 4 bits a weight and a float32 per 64 weights; with double quantization a byte per 64, and a float32 per 256 of these
NF4_BYTES, NESTED_NF4_BYTES = (4 + 32 / 64) / 8, (4 + 8 / 64 + 32 / (64 * 256)) / 8  # arXiv:2305.14314


@dataclass(frozen=True)
class ModelSize:
    """Counts the parameters of a model and of its trained part.

    Attributes:
        language_linears: parameters in linear layers of the language model.
        vision: parameters in the vision tower.
        rest: parameters everywhere else.
        trained: trained parameters.
        averages: number of averages kept of the trained weights (EMA, SWA).
        four_bits: bytes per 4-bit weight.
        experts: parameters in experts that 4-bit loading quantizes (experts.py).
        routed: share of them that computes a token.
    """

    language_linears: int
    vision: int
    rest: int
    trained: int
    averages: int = 0
    four_bits: float = NF4_BYTES
    experts: int = 0
    routed: float = 0.0

    def weight_bytes(self, plan: DevicePlan) -> int:
        """Return the memory of the frozen weights."""
        each, packed = plan.dtype.itemsize, self.language_linears + self.experts
        return int(packed * (self.four_bits if plan.four_bit else each) + self.rest * each)

    @property
    def training_bytes(self) -> int:
        """Bytes for the float32 weight, gradient, AdamW's two moments and the averages of each trained parameter."""
        return 4 * (4 + self.averages) * self.trained


# Memory of a step besides weights and training state: half a GiB for CUDA, and activations of some rows of a 3B model without
# checkpointing (about 1.5 GiB per 300 tokens) or of a larger one with it. If less were free, 4-bit weights would gain more
# than dequantizing them in every pass costs.
ACTIVATION_MEMORY = 3 * GIB
LEAST_ROOM = 2 * GIB  # the same with 4-bit weights and checkpointing


def measure_model(model_config: Any, config: Config) -> ModelSize:
    """Count the parameters on an empty model, without weights."""
    model = empty_model(model_config)
    family = family_of(model_config, config, model)
    linears = sum(linear.weight.numel() for linear in decoder_linears(model, family).values())
    total = sum(p.numel() for p in model.parameters())
    experts, routed = 0, 0.0
    if family.experts and not published_bits(model_config):
        from mcvqa.model.experts import count_experts

        experts, routed = count_experts(model, family.decoder_layers)
    language = {*model.get_submodule(family.language).parameters(), *model.get_output_embeddings().parameters()}
    vision = total - sum(p.numel() for p in language)  # the tower and its projector
    if config.lora_r > 0:
        model = with_adapters(model, config, family, low_cpu_mem_usage=True)
    trained = sum(p.numel() for p in trained_parameters(model).values())
    nested = packing_settings(model_config).get("bnb_4bit_use_double_quant")
    return ModelSize(
        linears, vision, total - linears - experts, trained, config.use_ema + config.use_swa,
        NESTED_NF4_BYTES if nested else NF4_BYTES, experts, routed)


def choose_weights(config: Config, plan: DevicePlan, model_config: Any, size: ModelSize | None = None) -> DevicePlan:
    """Decide on 4-bit weights, unless the plan has: they are used if full weights would not leave enough memory.

    Args:
        config: all settings.
        plan: device and precision.
        model_config: configuration of the model.
        size: size of the model, if it is known already.

    Returns:
        The plan with the decision.

    Raises:
        DeviceError: 4-bit weights are needed, and bitsandbytes is missing.
        ModelError: the model is published with quantized weights that do not fit the settings.
    """
    bits = published_bits(model_config)
    if bits == FOUR_BIT and config.quantization != "none" and config.lora_r > 0:
        return plan if plan.four_bit else plan.with_weights(True, "the model is published that way")
    if bits and plan.four_bit:
        raise ModelError(
            f"quantization=4bit needs unquantized weights, but {config.model_id!r} has {bits} weights, which are dequantized: "
            "set quantization=none, or model_id to the original model."
        )
    if bits and plan.four_bit is None:
        return plan.with_weights(False, f"the model's {bits} weights are dequantized")
    if plan.four_bit is not None:
        return plan
    if config.lora_r == 0:
        return plan.with_weights(False, "lora_r=0 trains all weights, which is impossible with 4-bit weights")
    size = size or measure_model(model_config, config)
    weights, memory = size.weight_bytes(replace(plan, four_bit=False)), plan.memory * config.gpus_at_least
    fits = weights + size.training_bytes + ACTIVATION_MEMORY <= memory
    return plan.with_weights(not fits, (
        f"{weights / GIB:.1f} GiB of weights in {str(plan.dtype).removeprefix('torch.')} + {size.training_bytes / GIB:.1f} GiB "
        f"training state + {ACTIVATION_MEMORY / GIB:.0f} GiB for activations {'fit' if fits else 'do not fit'} into "
        f"{memory / GIB:.1f} GiB"
    ))
