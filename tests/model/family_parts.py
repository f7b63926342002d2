"""What model folders of families are made of, for tried_families.py and newer_families.py."""
from typing import Any

import transformers
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.model.other_families import TEXT, template

Made = tuple[Any, Any]  # processor (or tokenizer and image processor), model
QWEN_MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_CHAT = template("", "<|im_start|>", "<|im_end|>", "<|vision_start|><|image_pad|><|vision_end|>")
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32)
AREA = {"shortest_edge": 56**2, "longest_edge": 112**2}
PINPOINTS = [[56, 112], [112, 56], [112, 112]]


def model_of(model_type: str, **settings: Any) -> Any:
    """Of random weights, by its model_type."""
    return AutoModelForImageTextToText.from_config(AutoConfig.for_model(model_type, **settings))


def part(name: str, *arguments: Any, **settings: Any) -> Any:
    """A class of the library by its name: some exist in newer versions only."""
    return getattr(transformers, name)(*arguments, **settings)


def in_text(model_type: str, **more: Any) -> dict[str, Any]:
    return dict(TEXT, model_type=model_type) | more


def rope(*sections: int, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": dict(rope_type="default", rope_theta=1e4, mrope_section=[*sections]) | more}


DELTA = dict(
    layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16,
    linear_value_head_dim=16, **rope(2, 1, 1, partial_rotary_factor=0.5, mrope_interleaved=True))
