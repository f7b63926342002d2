"""Determines which layers of a model get adapters, and their share of the model, before any weight is loaded."""
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper

from mcvqa.config import EXPERTS, Config
from mcvqa.model.adapters import with_adapters
from mcvqa.model.family_choice import decoder_linears, family_of
from mcvqa.model.source import empty_model


@dataclass(frozen=True)
class AdapterCoverage:
    """Describes which layers get adapters.

    Attributes:
        names: last names of the layers with adapters, in order, and experts.
        adapted, linears: number of linear layers with adapters, and of linear layers in the language model's decoder.
        share: weights in layers and experts with adapters, as a share of all weights.
    """

    names: tuple[str, ...]
    adapted: int
    linears: int
    share: float

    def __str__(self) -> str:
        return (
            f"adapters on {', '.join(self.names)}: {self.adapted:,} layers (the language model has "
            f"{self.linears:,} linear layers), which hold {self.share:.0%} of all weights"
        )


def adapter_coverage(model_config: Any, config: Config) -> AdapterCoverage:
    """Count the layers with adapters on an empty model, before any weight is loaded.

    Raises:
        FamilyError: the settings name layers that the model does not have.
    """
    model = empty_model(model_config)
    family = family_of(model_config, config, model)
    total = sum(p.numel() for p in model.parameters())
    linears = decoder_linears(model, family)
    adapted: dict[str, Any] = {
        name: module for name, module in with_adapters(model, config, family, low_cpu_mem_usage=True).named_modules()
        if isinstance(module, LoraLayer)
    }
    stacks = [one.get_param() for one in adapted.values() if isinstance(one, ParamWrapper)]
    layers = {name: one.get_base_layer().weight for name, one in adapted.items() if not isinstance(one, ParamWrapper)}
    names = dict.fromkeys([*(name.rpartition(".")[2] for name in layers), *([EXPERTS] if stacks else [])])
    adapted_weights = sum(weight.numel() for weight in (*layers.values(), *stacks))
    return AdapterCoverage(tuple(names), len(layers), len(linears), adapted_weights / total)
