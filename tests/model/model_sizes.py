"""Layer sizes of published models, as their config.json has them: their weights are counted on empty models (test_catalog.py)."""
from typing import Any

from transformers import (
    Gemma3Config,
    InternVLConfig,
    LlavaOnevisionConfig,
    Mistral3Config,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3_5Config,
    Qwen3_5MoeConfig,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    SmolVLMConfig,
)


def layers(hidden: int, inner: int, count: int, heads: int, keys: int, **more: Any) -> dict[str, Any]:
    """Of a language model. Args: inner: of its MLP; heads, keys: of attention, for queries and for keys and values."""
    return dict(
        vocab_size=151936, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=count, num_attention_heads=heads,
        num_key_value_heads=keys) | more


def qwen2_5_vl(text: dict[str, Any]) -> Qwen2_5_VLConfig:
    text |= dict(rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]})
    vision = dict(depth=32, hidden_size=1280, intermediate_size=3420, out_hidden_size=text["hidden_size"])
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=text["tie_word_embeddings"])


def tower(out: int, *, small: bool, **more: Any) -> dict[str, Any]:
    """Qwen3-VL's; the smaller one belongs to models of up to 4 billion weights."""
    sizes = dict(depth=24, hidden_size=1024, intermediate_size=4096) if small else dict(
        depth=27, hidden_size=1152, intermediate_size=4304)
    return sizes | dict(num_heads=16, patch_size=16, out_hidden_size=out, num_position_embeddings=2304) | more


def qwen3_vl(text: dict[str, Any], made: type[PreTrainedConfig] = Qwen3VLConfig) -> PreTrainedConfig:
    small = text["tie_word_embeddings"]
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    vision = tower(text["hidden_size"], small=small, deepstack_visual_indexes=[5, 11, 17] if small else [8, 16, 24])
    return made(
        text_config=text | dict(head_dim=128, rope_parameters=rope), vision_config=vision, tie_word_embeddings=small)


def qwen3_5(text: dict[str, Any]) -> Qwen3_5Config:
    more = dict(vocab_size=248320, head_dim=256, linear_num_key_heads=16, linear_key_head_dim=128, linear_value_head_dim=128)
    small = text["tie_word_embeddings"]
    return Qwen3_5Config(
        text_config=text | more, vision_config=tower(text["hidden_size"], small=small), tie_word_embeddings=small)


def gemma3(hidden: int, inner: int, count: int, heads: int, keys: int) -> Gemma3Config:
    return Gemma3Config(
        text_config=layers(hidden, inner, count, heads, keys, head_dim=256) | dict(vocab_size=262208),
        vision_config=SIGLIP | dict(image_size=896, vision_use_head=False))


SIGLIP = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, patch_size=14)
TIED, UNTIED = dict(tie_word_embeddings=True), dict(tie_word_embeddings=False)
EXPERTS = dict(num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768)
SIZES = {
    "Qwen/Qwen2-VL-2B-Instruct": lambda: Qwen2VLConfig(
        text_config=layers(1536, 8960, 28, 12, 2, **TIED, rope_parameters={
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}),
        vision_config=dict(depth=32, embed_dim=1280, hidden_size=1536, num_heads=16, mlp_ratio=4), **TIED),
    "Qwen/Qwen2.5-VL-3B-Instruct": lambda: qwen2_5_vl(layers(2048, 11008, 36, 16, 2, **TIED)),
    "Qwen/Qwen2.5-VL-7B-Instruct": lambda: qwen2_5_vl(layers(3584, 18944, 28, 28, 4, **UNTIED) | dict(vocab_size=152064)),
    "Qwen/Qwen3-VL-2B-Instruct": lambda: qwen3_vl(layers(2048, 6144, 28, 16, 8, **TIED)),
    "Qwen/Qwen3-VL-4B-Instruct": lambda: qwen3_vl(layers(2560, 9728, 36, 32, 8, **TIED)),
    "Qwen/Qwen3-VL-8B-Instruct": lambda: qwen3_vl(layers(4096, 12288, 36, 32, 8, **UNTIED)),
    "Qwen/Qwen3-VL-32B-Instruct": lambda: qwen3_vl(layers(5120, 25600, 64, 64, 8, **UNTIED)),
    "Qwen/Qwen3-VL-30B-A3B-Instruct": lambda: qwen3_vl(layers(2048, 6144, 48, 32, 4, **UNTIED, **EXPERTS), Qwen3VLMoeConfig),
    "Qwen/Qwen3.5-4B": lambda: qwen3_5(layers(2560, 9216, 32, 16, 4, linear_num_value_heads=32, **TIED)),
    "Qwen/Qwen3.5-9B": lambda: qwen3_5(layers(4096, 12288, 32, 16, 4, linear_num_value_heads=32, **UNTIED)),
    "Qwen/Qwen3.5-27B": lambda: qwen3_5(layers(5120, 17408, 64, 24, 4, linear_num_value_heads=48, **UNTIED)),
    # the library's own defaults
    "Qwen/Qwen3.5-35B-A3B": lambda: Qwen3_5MoeConfig(vision_config=tower(2048, small=False)),
    "google/gemma-3-4b-it": lambda: gemma3(2560, 10240, 34, 8, 4),
    "google/gemma-3-12b-it": lambda: gemma3(3840, 15360, 48, 16, 8),
    "OpenGVLab/InternVL3_5-8B-HF": lambda: InternVLConfig(
        text_config=layers(4096, 12288, 36, 32, 8, head_dim=128, model_type="qwen3", **UNTIED), **UNTIED),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": lambda: LlavaOnevisionConfig(
        text_config=layers(3584, 18944, 28, 28, 4, model_type="qwen2", **UNTIED) | dict(vocab_size=152000),
        vision_config=SIGLIP | dict(
            image_size=384, num_hidden_layers=26, model_type="siglip_vision_model", vision_use_head=False), **UNTIED),
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": lambda: SmolVLMConfig(
        text_config=layers(2048, 8192, 24, 32, 32, head_dim=64, model_type="llama", **UNTIED) | dict(vocab_size=49280),
        vision_config=SIGLIP | dict(image_size=384), scale_factor=3, **UNTIED),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": lambda: Mistral3Config(
        text_config=layers(5120, 32768, 40, 32, 8, head_dim=128, model_type="mistral", **UNTIED) | dict(vocab_size=131072),
        **UNTIED),
}
