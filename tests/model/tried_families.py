"""Model folders of many families, in the library's own classes and with random weights, for tools/families.py.

What a family needs beside the shared sizes is in its function: marks of its tokenizer, its processor, its configuration.
"""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.model.family_parts import (
    AREA,
    DELTA,
    EXPERTS,
    PINPOINTS,
    QWEN_CHAT,
    QWEN_MARKS,
    Made,
    in_text,
    model_of,
    part,
    rope,
)
from tests.model.newer_families import NEWER
from tests.model.other_families import TEXT, VISION, gemma3, idefics3, llava, qwen3_vl, small_tokenizer, template


# %% Qwen
def qwen_family(
    model_type: str, text: dict[str, Any], vision: dict[str, Any], patch: int, videos: str = "", whole: str = ""
) -> Made:
    """Args: videos, whole: classes of the video processor and of the processor, where that is what is loaded."""
    tokenizer = small_tokenizer(*QWEN_MARKS)
    tokenizer.chat_template = QWEN_CHAT
    token = tokenizer.convert_tokens_to_ids
    images = part("Qwen2VLImageProcessorPil", patch_size=patch, merge_size=2, size=AREA)
    model = model_of(
        model_type, text_config=TEXT | text,
        vision_config=dict(depth=2, num_heads=2, patch_size=patch, initializer_range=0.1) | vision,
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )
    if not videos:
        return (tokenizer, images), model
    whole = whole or videos.replace("VideoProcessor", "Processor")
    return part(whole, images, tokenizer, part(videos), chat_template=QWEN_CHAT), model


QWEN3_VISION = dict(
    hidden_size=64, intermediate_size=96, out_hidden_size=64, num_position_embeddings=36, deepstack_visual_indexes=[0])
def qwen2_vl() -> Made:
    return qwen_family("qwen2_vl", rope(4, 2, 2), dict(embed_dim=64, hidden_size=64, mlp_ratio=2), 14)


def qwen2_5_vl() -> Made:
    vision = dict(hidden_size=64, intermediate_size=96, out_hidden_size=64, fullatt_block_indexes=[1], window_size=56)
    return qwen_family("qwen2_5_vl", rope(4, 2, 2), vision, 14)


def qwen3_vl_moe() -> Made:
    return qwen_family("qwen3_vl_moe", EXPERTS | rope(4, 2, 2, mrope_interleaved=True), QWEN3_VISION, 16, "Qwen3VLVideoProcessor")


def qwen3_5() -> Made:
    vision = {name: value for name, value in QWEN3_VISION.items() if name != "deepstack_visual_indexes"}
    return qwen_family("qwen3_5", DELTA, vision, 16)


def qwen3_5_moe() -> Made:
    vision = {name: value for name, value in QWEN3_VISION.items() if name != "deepstack_visual_indexes"}
    return qwen_family("qwen3_5_moe", DELTA | EXPERTS, vision, 16, "Qwen3VLVideoProcessor")


# %% a tower, a projector, a language model
def internvl() -> Made:
    tokenizer = small_tokenizer(
        "<|im_start|>", "<|im_end|>", start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>",
        video_token="<video>")
    images = part("GotOcr2ImageProcessorPil", size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=2)
    processor = part(
        "InternVLProcessor", images, tokenizer, part("InternVLVideoProcessor"), image_seq_length=4,
        chat_template=template("", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>\n"))
    vision = dict(VISION, image_size=[56, 56], patch_size=[14, 14])
    return processor, model_of(
        "internvl", vision_config=vision, text_config=in_text("qwen2"), downsample_ratio=0.5,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"))


def smolvlm() -> Made:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = small_tokenizer("<image>", "<video>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *tiles)
    images = part("SmolVLMImageProcessorPil", size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    processor = part(
        "SmolVLMProcessor", images, tokenizer, part("SmolVLMVideoProcessor"), image_seq_len=4,
        chat_template=template("<s>", "", "<end_of_utterance>", "<image>"))
    return processor, model_of(
        "smolvlm", text_config=in_text("llama"), vision_config=dict(VISION), scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=0)


def idefics2() -> Made:
    tokenizer = small_tokenizer("<end_of_utterance>", image_boundary_token="<fake_token_around_image>", image_token="<image>")
    images = part("Idefics2ImageProcessorPil", size={"longest_edge": 56, "shortest_edge": 28}, do_image_splitting=False)
    processor = part(
        "Idefics2Processor", images, tokenizer, image_seq_len=4,
        chat_template=template("<s>", "", "<end_of_utterance>", "<image>"))
    return processor, model_of(
        "idefics2", text_config=in_text("mistral"), vision_config=dict(VISION),
        perceiver_config=dict(resampler_n_latents=4, resampler_depth=1, resampler_n_heads=2, resampler_head_dim=16,
                              num_key_value_heads=2, hidden_size=64),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"))


def llava_next() -> Made:
    tokenizer = small_tokenizer("<image>", adds_start=True)
    images = part("LlavaNextImageProcessorPil", size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56},
                  image_grid_pinpoints=PINPOINTS)
    processor = part(
        "LlavaNextProcessor", images, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template("", "", "</s>", "<image>\n"))
    return processor, model_of(
        "llava_next", vision_config=dict(VISION, model_type="clip_vision_model", projection_dim=64), text_config=in_text("llama"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-2, image_grid_pinpoints=PINPOINTS)


def vipllava() -> Made:
    tokenizer = small_tokenizer("<image>", adds_start=True)
    images = part("CLIPImageProcessorPil", size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = part(
        "LlavaProcessor", images, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template("", "", "</s>", "<image>\n"))
    return processor, model_of(
        "vipllava", vision_config=dict(VISION, model_type="clip_vision_model", projection_dim=64), text_config=in_text("llama"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layers=[-2, -1])


def llava_onevision() -> Made:
    tokenizer = small_tokenizer("<|im_start|>", "<|im_end|>", "<image>", "<video>")
    images = part("LlavaOnevisionImageProcessorPil", size={"height": 56, "width": 56}, image_grid_pinpoints=PINPOINTS)
    processor = part(
        "LlavaOnevisionProcessor", images, tokenizer, part("LlavaOnevisionVideoProcessor"), num_image_tokens=16,
        vision_feature_select_strategy="full", chat_template=template("", "<|im_start|>", "<|im_end|>", "<image>\n"))
    return processor, model_of(
        "llava_onevision", vision_config=dict(VISION, model_type="siglip_vision_model", vision_use_head=False),
        text_config=in_text("qwen2"), image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"), image_grid_pinpoints=PINPOINTS)


def of_pixtral(model_type: str, text: str, merge: int, **more: Any) -> Made:
    tokenizer = small_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]")
    images = part("PixtralImageProcessorPil", size={"longest_edge": 112}, patch_size={"height": 14 * merge, "width": 14 * merge})
    processor = part(
        "PixtralProcessor", images, tokenizer, patch_size=14, spatial_merge_size=merge,
        chat_template=template("<s>", "[INST]", "[/INST]", "[IMG]"))
    vision = dict(VISION, model_type="pixtral", image_size=112, head_dim=32)
    token = tokenizer.convert_tokens_to_ids("[IMG]")
    return processor, model_of(
        model_type, vision_config=vision, text_config=in_text(text), image_token_index=token, image_token_id=token, **more)


def pixtral() -> Made:
    return of_pixtral("llava", "mistral", 1, vision_feature_layer=-1, vision_feature_select_strategy="full")


def mistral3() -> Made:
    return of_pixtral("mistral3", "mistral", 2, spatial_merge_size=2, vision_feature_layer=-1)


def ministral3() -> Made:
    return of_pixtral("mistral3", "ministral3", 2, spatial_merge_size=2, vision_feature_layer=-1)


def of_glm(model_type: str, name: str) -> Made:
    tokenizer = small_tokenizer(
        "[gMASK]", "<|user|>", "<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>",
        "<|end_of_video|>")
    size = {"shortest_edge": 56**2, "longest_edge": 112**2}
    token = tokenizer.convert_tokens_to_ids
    processor = part(
        f"{name}Processor", part(f"{name}ImageProcessorPil", patch_size=14, merge_size=2, size=size), tokenizer,
        part(f"{name}VideoProcessor"),
        chat_template=template("[gMASK]", "<|user|>", "", "<|begin_of_image|><|image|><|end_of_image|>"))
    return processor, model_of(
        model_type, text_config=TEXT | rope(4, 2, 2), image_token_id=token("<|image|>"), video_token_id=token("<|video|>"),
        vision_config=dict(depth=2, hidden_size=64, out_hidden_size=64, intermediate_size=96, num_heads=2, patch_size=14,
                           image_size=112, initializer_range=0.1),
        image_start_token_id=token("<|begin_of_image|>"), image_end_token_id=token("<|end_of_image|>"),
        video_start_token_id=token("<|begin_of_video|>"), video_end_token_id=token("<|end_of_video|>"))


def glm4v() -> Made:
    return of_glm("glm4v", "Glm4v")


def glm46v() -> Made:
    return of_glm("glm46v", "Glm46V")


def lfm2_vl() -> Made:
    tokenizer = small_tokenizer("<|im_start|>", "<|im_end|>", "<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>")
    images = part("Lfm2VlImageProcessor", downsample_factor=2, encoder_patch_size=14, tile_size=56, max_image_tokens=16,
                  min_image_tokens=4, do_image_splitting=False)
    processor = part("Lfm2VlProcessor", images, tokenizer, chat_template=template("<s>", "<|im_start|>", "<|im_end|>", "<image>"))
    vision = {name: value for name, value in VISION.items() if name != "image_size"}
    return processor, model_of(
        "lfm2_vl", vision_config=vision | dict(num_patches=64, model_type="siglip2_vision_model"), downsample_factor=2,
        text_config=in_text("lfm2", layer_types=["conv", "full_attention"]), projector_hidden_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"))


def aya_vision() -> Made:
    named = dict(image_token="<image>", img_patch_token="<|IMG_PATCH|>", img_line_break_token="<|IMG_LINE_BREAK|>",
                 tile_token="TILE", tile_global_token="TILE_GLOBAL")
    tokenizer = small_tokenizer("<|START_OF_IMG|>", "<|END_OF_IMG|>", **named)
    images = part("GotOcr2ImageProcessorPil", size={"height": 56, "width": 56}, crop_to_patches=False)
    processor = part(
        "AyaVisionProcessor", images, tokenizer, patch_size=14, img_size=56, downsample_factor=2,
        chat_template=template("<s>", "", "</s>", "<image>"))
    return processor, model_of(
        "aya_vision", vision_config=dict(VISION, model_type="siglip_vision_model", vision_use_head=False), downsample_factor=2,
        text_config=in_text("cohere2", layer_types=["sliding_attention", "full_attention"]), vision_feature_layer=-1,
        vision_feature_select_strategy="full", alignment_intermediate_size=64,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"))


def deepseek_vl() -> Made:
    tokenizer = small_tokenizer(image_token="<image_placeholder>")
    processor = part(
        "DeepseekVLProcessor", part("DeepseekVLImageProcessorPil", size={"height": 56, "width": 56}), tokenizer,
        num_image_tokens=16, chat_template=template("<s>", "", "</s>", "<image_placeholder>"))
    return processor, model_of(
        "deepseek_vl", vision_config=dict(VISION, vision_use_head=False), text_config=in_text("llama"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"))


def mllama() -> Made:
    tokenizer = small_tokenizer("<|image|>", "<|python_tag|>")
    images = part("MllamaImageProcessorPil", size={"height": 56, "width": 56}, max_image_tiles=4)
    processor = part("MllamaProcessor", images, tokenizer, chat_template=template("<s>", "", "</s>", "<|image|>"))
    return processor, model_of(
        "mllama", vision_config=dict(VISION, attention_heads=2, num_global_layers=1, max_num_tiles=4, vision_output_dim=128,
                                     intermediate_layers_indices=[0]),
        text_config=dict(TEXT, cross_attention_layers=[1]), image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"))


def video_llama_3() -> Made:
    tokenizer = small_tokenizer(*QWEN_MARKS)
    images = part("VideoLlama3ImageProcessorPil", patch_size=14, merge_size=1, size=AREA)
    processor = part(
        "VideoLlama3Processor", images, tokenizer, part("VideoLlama3VideoProcessor"),
        chat_template=template("", "<|im_start|>", "<|im_end|>", "<|image_pad|>"))
    return processor, model_of(
        "video_llama_3", vision_config=dict(VISION), text_config=in_text("qwen2"),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"))


def ovis2() -> Made:
    indicators = tuple(f"<IMG_{mark}>" for mark in ("START", "GRID", "COL", "ROW", "END"))
    tokenizer = small_tokenizer("<image>", "<|im_start|>", "<|im_end|>", "<IMG_ATOM>", *indicators)
    images = part("Ovis2ImageProcessorPil", size={"height": 56, "width": 56}, crop_to_patches=False)
    processor = part(
        "Ovis2Processor", images, tokenizer, image_seq_length=4,
        chat_template=template("", "<|im_start|>", "<|im_end|>", "<image>"))
    return processor, model_of(
        "ovis2", hidden_size=64, text_config=in_text("qwen2"),
        vision_config=dict(VISION, vocab_size=128, hidden_stride=2, num_visual_indicator_tokens=5, image_size=56),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids([*indicators]))


def exaone4_5() -> Made:
    vision = dict(hidden_size=64, intermediate_size=96, out_hidden_size=64, fullatt_block_indexes=[1], window_size=56,
                  num_key_value_heads=2)
    text = dict(model_type="exaone4", layer_types=["sliding_attention", "full_attention"], sliding_window=64)
    return qwen_family("exaone4_5", text, vision, 14, "Qwen2VLVideoProcessor", "Exaone4_5_Processor")


def paligemma() -> Made:
    tokenizer = small_tokenizer(image_token="<image>")
    images = part("SiglipImageProcessorPil", size={"height": 56, "width": 56})
    images.image_seq_length = 16
    processor = part("PaliGemmaProcessor", images, tokenizer, chat_template=template("<s>", "", "</s>", "<image>"))
    return processor, model_of(
        "paligemma", vision_config=dict(VISION, model_type="siglip_vision_model", projection_dim=64, vision_use_head=False),
        text_config=in_text("gemma"), projection_dim=64, image_token_index=tokenizer.convert_tokens_to_ids("<image>"))


def gemma4() -> Made:
    named = dict(boi_token="<|image>", eoi_token="<image|>", image_token="<|image|>", audio_token="<|audio|>",
                 boa_token="<|audio>", eoa_token="<audio|>", video_token="<|video|>")
    tokenizer = small_tokenizer("<|turn>", "<turn|>", **named)
    images = part("Gemma4ImageProcessorPil", patch_size=14, max_soft_tokens=70, pooling_kernel_size=2)
    processor = part(
        "Gemma4Processor", part("Gemma4AudioFeatureExtractor"), images, tokenizer, part("Gemma4VideoProcessor"),
        image_seq_length=70, chat_template=template("<s>", "<|turn>", "<turn|>", "<|image|>"))
    token = tokenizer.convert_tokens_to_ids
    return processor, model_of(
        "gemma4", text_config=dict(TEXT, layer_types=["sliding_attention", "full_attention"], sliding_window=64,
                                   global_head_dim=16, vocab_size_per_layer_input=600, hidden_size_per_layer_input=8,
                                   num_kv_shared_layers=0),
        vision_config=dict(VISION, head_dim=32, num_key_value_heads=2, pooling_kernel_size=2, position_embedding_size=128),
        audio_config=None, image_token_id=token("<|image|>"), boi_token_id=token("<|image>"), eoi_token_id=token("<image|>"),
        video_token_id=token("<|video|>"), audio_token_id=token("<|audio|>"))


TRIED: dict[str, Callable[[], Made]] = {
    "Qwen2-VL": qwen2_vl, "Qwen2.5-VL": qwen2_5_vl, "Qwen3-VL": qwen3_vl, "Qwen3-VL MoE": qwen3_vl_moe,
    "Qwen3.5, Qwen3.6": qwen3_5,
    "Qwen3.5 MoE, Qwen3.6 MoE": qwen3_5_moe, "InternVL3, InternVL3.5": internvl, "Gemma 3": gemma3, "Gemma 4": gemma4,
    "PaliGemma 2": paligemma, "SmolVLM2": smolvlm, "Idefics2": idefics2, "Idefics3": idefics3, "LLaVA 1.5": llava,
    "LLaVA-NeXT": llava_next, "VipLLaVA": vipllava, "LLaVA-OneVision": llava_onevision, "Pixtral": pixtral,
    "Mistral Small 3": mistral3, "Ministral 3": ministral3, "GLM-4.1V": glm4v, "GLM-4.6V": glm46v, "LFM2-VL": lfm2_vl,
    "Aya Vision": aya_vision, "DeepSeek-VL": deepseek_vl, "Llama 3.2 Vision": mllama, "VideoLLaMA3": video_llama_3,
    "Ovis2": ovis2,
    "EXAONE 4.5": exaone4_5, **NEWER,
}


def save_tried(name: str, folder: Path) -> str:
    """A model folder as a hub download would be."""
    torch.manual_seed(0)
    made, model = TRIED[name]()
    for each in (*(made if isinstance(made, tuple) else (made,)), model):
        each.save_pretrained(folder)
    return str(folder)
