"""Finds the family of a model, and whether its fast path is taken."""
from dataclasses import replace
from typing import Any

from torch import nn

from mcvqa.config import Config
from mcvqa.model.families.family import Family
from mcvqa.model.families.registry import FAMILIES, plain_family
from mcvqa.model.source import empty_model


def takes_fast_path(model_config: Any, config: Config) -> bool:
    """Return whether the model's family has an optimized path that supports these settings.

    DoRA is computed by PEFT's layers in the library's model, which cannot read the batches of a recurrent family.
    """
    family = FAMILIES.get(model_config.model_type)
    return family is not None and not (family.recurrent and config.use_dora)


def path_note(model_config: Any, config: Config) -> str:
    """Note if the run cannot use the optimized path fully, with the reason; empty: it can."""
    if not takes_fast_path(model_config, config):
        why = "has no fast path" if model_config.model_type not in FAMILIES else "does not use its fast path with use_dora=true"
        return f"{model_config.model_type} {why}: every prompt is encoded with its own photograph"
    slower = "use_dora=true uses PEFT's layers instead of the fast ones; prompts and image features are still shared"
    return slower if config.use_dora else ""


def family_of(model_config: Any, config: Config, model: Any = None) -> Family:
    """Find the family of a model.

    Args:
        model_config: configuration of the model.
        config: all settings.
        model: an empty model, if there is one already.

    Raises:
        FamilyError: models of this type cannot be trained.
    """
    if takes_fast_path(model_config, config):
        return FAMILIES[model_config.model_type]
    model = model or empty_model(model_config)
    decoder = model.get_decoder()
    language = next(name for name, module in model.named_modules() if module is decoder)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    # a router may be a linear layer with another forward(): no adapters or 4-bit weights fit it
    others = [name for name, module in linears.items() if type(module).forward is not nn.Linear.forward]
    family = plain_family(model_config.model_type, language, [name for name in linears if name not in others])
    family = replace(family, unquantised=(*family.unquantised, *others))
    if any(hasattr(module, "has_gate") for module in model.modules()):  # the library's mark of experts
        from mcvqa.model.experts import paths_of_stacks

        family = replace(family, experts=paths_of_stacks(model, family.decoder_layers))
    return family


def decoder_linears(model: nn.Module, family: Family) -> dict[str, nn.Linear]:
    """Return the linear layers of the language model's decoder, by path."""
    inside = [(name, module) for name, module in model.named_modules() if name.startswith(family.decoder_layers)]
    return {name: module for name, module in inside if isinstance(module, nn.Linear) and name not in family.unquantised}
