"""Determines which layers of a model get adapters, and their share of the model, before any weight is loaded."""
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora import LoraLayer

from mcvqa.config import Config
from mcvqa.model.load import decoder_linears, family_of, with_adapters
from mcvqa.model.source import empty_model


@dataclass(frozen=True)
class AdapterCoverage:
    """Describes which layers get adapters.

    Attributes:
        names: last names of the layers with adapters, in order.
        adapted, linears: number of layers with adapters, and of linear layers in the language model's decoder.
        share: weights in layers with adapters, as a share of all weights.
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
    adapted_weights = sum(module.get_base_layer().weight.numel() for module in adapted.values())
    names = dict.fromkeys(name.rpartition(".")[2] for name in adapted)
    return AdapterCoverage(tuple(names), len(adapted), len(linears), adapted_weights / total)
