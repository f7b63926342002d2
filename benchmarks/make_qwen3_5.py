"""Makes a folder with the sizes of Qwen3.5-4B and random float16 weights.

    python benchmarks/make_qwen3_5.py QWEN_FOLDER OUT

QWEN_FOLDER: of any Qwen2.5-VL or Qwen3-VL, for its tokenizer, chat template and image processor. Sizes: config.json of
Qwen/Qwen3.5-4B. On a GPU it takes some 20 seconds.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

LAYERS = 32
TEXT = dict(
    vocab_size=248320, hidden_size=2560, intermediate_size=9216, num_hidden_layers=LAYERS, num_attention_heads=16,
    num_key_value_heads=4, head_dim=256, linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128,
    linear_value_head_dim=128, linear_conv_kernel_dim=4,
    layer_types=(["linear_attention"] * 3 + ["full_attention"]) * (LAYERS // 4),
    tie_word_embeddings=True, max_position_embeddings=32768,
    rope_parameters=dict(
        rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25, mrope_section=[11, 11, 10], mrope_interleaved=True),
)
VISION = dict(
    depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16, patch_size=16, spatial_merge_size=2, temporal_patch_size=2,
    out_hidden_size=2560, num_position_embeddings=2304,
)
TOKENS = dict(image_token_id=151655, video_token_id=151656, vision_start_token_id=151652, vision_end_token_id=151653)


def main(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, out)
    config = Qwen3_5Config(text_config=TEXT, vision_config=VISION, tie_word_embeddings=True, **TOKENS)
    torch.set_default_dtype(torch.float16)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        Qwen3_5ForConditionalGeneration(config).save_pretrained(out)
    settings = out / "preprocessor_config.json"
    changed = json.loads(settings.read_text()) | dict(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    settings.write_text(json.dumps(changed))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
