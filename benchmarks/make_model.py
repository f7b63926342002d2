"""Makes a folder with the sizes of a published model and random float16 weights: its speed and memory, no answers.

    python benchmarks/make_model.py qwen3-vl-4b QWEN_FOLDER OUT

QWEN_FOLDER: of any Qwen2.5-VL or Qwen3-VL, for its tokenizer, chat template and image processor; weights are not needed.
Sizes: the config.json of each model. On a GPU it takes some 20 seconds.
"""
import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

TOKENS = dict(image_token_id=151655, video_token_id=151656, vision_start_token_id=151652, vision_end_token_id=151653)
PATCHES_OF_16 = dict(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)  # preprocessor_config.json


def qwen2_5_vl(tied: bool, **text: int) -> PretrainedConfig:
    return Qwen2_5_VLConfig(
        text_config=dict(
            text, rms_norm_eps=1e-6, max_position_embeddings=128000, tie_word_embeddings=tied,
            rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[16, 24, 24])),
        vision_config=dict(
            depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, fullatt_block_indexes=[7, 15, 23, 31],
            window_size=112, patch_size=14, out_hidden_size=text["hidden_size"]),
        tie_word_embeddings=tied, **TOKENS,
    )


def vision_of_16(out_hidden_size: int) -> dict[str, object]:
    return dict(
        depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, patch_size=16, spatial_merge_size=2,
        temporal_patch_size=2, out_hidden_size=out_hidden_size, num_position_embeddings=2304,
    )


def qwen3_vl_4b() -> PretrainedConfig:
    text = dict(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True, max_position_embeddings=32768,
        rope_scaling=dict(rope_type="default", mrope_section=[24, 20, 20], mrope_interleaved=True),
    )
    vision = vision_of_16(2560) | dict(deepstack_visual_indexes=[5, 11, 17])
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **TOKENS)


def qwen3_5_4b() -> PretrainedConfig:
    text = dict(
        vocab_size=248320, hidden_size=2560, intermediate_size=9216, num_hidden_layers=32, num_attention_heads=16,
        num_key_value_heads=4, head_dim=256, linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128,
        linear_value_head_dim=128, linear_conv_kernel_dim=4, layer_types=(["linear_attention"] * 3 + ["full_attention"]) * 8,
        tie_word_embeddings=True, max_position_embeddings=32768,
        rope_parameters=dict(
            rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25, mrope_section=[11, 11, 10],
            mrope_interleaved=True),
    )
    return Qwen3_5Config(text_config=text, vision_config=vision_of_16(2560), tie_word_embeddings=True, **TOKENS)


def qwen2_5_vl_3b() -> PretrainedConfig:
    return qwen2_5_vl(
        True, vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36, num_attention_heads=16,
        num_key_value_heads=2)


def qwen2_5_vl_7b() -> PretrainedConfig:
    return qwen2_5_vl(
        False, vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4)


MODELS: dict[str, tuple[Callable[[], PretrainedConfig], type[PreTrainedModel], dict[str, object]]] = {
    "qwen2.5-vl-3b": (qwen2_5_vl_3b, Qwen2_5_VLForConditionalGeneration, {}),
    "qwen2.5-vl-7b": (qwen2_5_vl_7b, Qwen2_5_VLForConditionalGeneration, {}),
    "qwen3-vl-4b": (qwen3_vl_4b, Qwen3VLForConditionalGeneration, PATCHES_OF_16),
    "qwen3.5-4b": (qwen3_5_4b, Qwen3_5ForConditionalGeneration, PATCHES_OF_16),
}


def make_model(name: str, source: Path, out: Path) -> None:
    """Args: source: a folder of any Qwen, whose files other than weights and config.json are copied."""
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, out)
    config, model_class, pixels = MODELS[name]
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model_class(config()).save_pretrained(out)
    settings = out / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | pixels))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    make_model(given.name, given.source, given.out)
