"""Adds LoRA adapters to a model."""
import contextlib
import warnings
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from mcvqa.config import EXPERTS, Config
from mcvqa.model.families.family import Family


def adapter_settings(config: Config, family: Family) -> LoraConfig:
    """Make the settings of LoRA (arXiv:2106.09685) on the language model's projections, by full path.

    Optional are rsLoRA (arXiv:2312.03732) and DoRA (arXiv:2402.09353).

    Args:
        config: all settings.
        family: family of the model.
    """
    names, stacks, vision = config.target_modules, None, config.lora_vision
    if EXPERTS in names:
        from mcvqa.model.experts import adapted_experts

        names, stacks = adapted_experts(config, family)
    return LoraConfig(
        r=config.lora_r, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, bias="none",
        target_modules=family.adapter_pattern(names, vision=vision) if names or vision else [], target_parameters=stacks,
        task_type="CAUSAL_LM", use_rslora=config.use_rslora, use_dora=config.use_dora,
    )


def adding_adapters(model: nn.Module, family: Family) -> contextlib.AbstractContextManager:
    """Within the block, PEFT can add adapters to experts in 4 bits."""
    if not family.experts:
        return contextlib.nullcontext()
    from mcvqa.model.packed_experts import adapting_packed_experts

    return adapting_packed_experts(model)


def with_adapters(model: nn.Module, config: Config, family: Family, **options: Any) -> PeftModel:
    """Add new adapters to the model.

    Args:
        model: the base model.
        config: all settings.
        family: family of the model.
        options: passed on to get_peft_model.
    """
    with warnings.catch_warnings(), adding_adapters(model, family):
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
        return get_peft_model(model, adapter_settings(config, family), **options)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def vision_is_frozen(config: Config) -> bool:
    """Return whether image features do not change during training, so that they need to be computed only once."""
    return config.lora_r > 0 and not config.lora_vision
