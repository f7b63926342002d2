"""Model folders of further families of 2025 and 2026, as tried_families.py has them; most processors need torchvision, some
towers timm."""
from collections.abc import Callable
from typing import Any

from transformers import AutoConfig

from tests.model.family_parts import AREA, DELTA, QWEN_CHAT, QWEN_MARKS, Made, in_text, model_of, part
from tests.model.other_families import TEXT, VISION, small_tokenizer, template

SOUND = dict(audio_token="<|audio|>", boa_token="<|audio>", eoa_token="<audio|>")
SEEN = dict(image_token="<|image|>", boi_token="<|image>", eoi_token="<image|>")
HYBRID = ["sliding_attention", "full_attention"]
# a tower of timm: 512 channels, and of 56 pixels 2 x 2 places
TIMM = dict(architecture="resnet10t", hidden_size=512, model_args={}, do_pooling=False)


def gemma3n() -> Made:
    tokenizer = small_tokenizer("<start_of_turn>", "<end_of_turn>", **SEEN, **SOUND)
    processor = part(
        "Gemma3nProcessor", part("Gemma3nAudioFeatureExtractor"),
        part("SiglipImageProcessorPil", size={"height": 56, "width": 56}), tokenizer, image_seq_length=4,
        chat_template=template("<s>", "<start_of_turn>", "<end_of_turn>", "<|image|>"))
    token = tokenizer.convert_tokens_to_ids
    return processor, model_of(
        "gemma3n", text_config=TEXT | dict(
            layer_types=HYBRID, sliding_window=64, vocab_size_per_layer_input=600, hidden_size_per_layer_input=8, laurel_rank=8,
            num_kv_shared_layers=0, altup_num_inputs=2),
        vision_config=TIMM | dict(vocab_size=8, vocab_offset=600), vision_soft_tokens_per_image=4,
        audio_config=dict(hidden_size=64, conf_num_attention_heads=2, conf_num_hidden_layers=1, sscp_conv_channel_size=(8, 8),
                          vocab_size=8, vocab_offset=608),
        image_token_id=token("<|image|>"), boi_token_id=token("<|image>"), eoi_token_id=token("<image|>"),
        audio_token_id=token("<|audio|>"), boa_token_id=token("<|audio>"), eoa_token_id=token("<audio|>"))


def gemma4_unified() -> Made:
    """Without a tower: pixels are projected into the language model."""
    tokenizer = small_tokenizer("<|turn>", "<turn|>", "<|video|>", **SEEN, **SOUND)
    images = part("Gemma4UnifiedImageProcessor", patch_size=14, max_soft_tokens=70, pooling_kernel_size=2)
    processor = part(
        "Gemma4UnifiedProcessor", part("Gemma4UnifiedAudioFeatureExtractor"), images, tokenizer,
        part("Gemma4UnifiedVideoProcessor"), image_seq_length=70,
        chat_template=template("<s>", "<|turn>", "<turn|>", "<|image|>"))
    token = tokenizer.convert_tokens_to_ids
    return processor, model_of(
        "gemma4_unified", text_config=TEXT | dict(layer_types=HYBRID, sliding_window=64, global_head_dim=16),
        vision_config=dict(patch_size=14, pooling_kernel_size=2, mm_embed_dim=64, mm_posemb_size=128, output_proj_dims=64),
        audio_config=None, image_token_id=token("<|image|>"), boi_token_id=token("<|image>"), eoi_token_id=token("<image|>"),
        video_token_id=token("<|video|>"), audio_token_id=token("<|audio|>"))


def of_minicpm(version: str) -> Made:
    """The text model is Qwen3.5's."""
    named = dict(image_token="<unk_image>", video_token="<unk_video>", image_start_token="<image>", image_end_token="</image>",
                 slice_start_token="<slice>", slice_end_token="</slice>", image_id_start_token="<image_id>",
                 image_id_end_token="</image_id>")
    tokenizer = small_tokenizer("<|im_start|>", "<|im_end|>", **named)
    token = tokenizer.convert_tokens_to_ids
    images = part("MiniCPMV4_6ImageProcessorPil", scale_resolution=112, max_slice_nums=2)
    processor = part(
        f"MiniCPMV{version}Processor", images, part("MiniCPMV4_6VideoProcessor"), tokenizer,
        chat_template=template("", "<|im_start|>", "<|im_end|>", "<unk_image>"))
    marks = {} if version == "4_6" else dict(
        image_start_id=token("<image>"), image_end_id=token("</image>"), slice_start_id=token("<slice>"),
        slice_end_id=token("</slice>"), newline_id=token("Ċ"))
    return processor, model_of(
        f"minicpmv{version}", text_config=in_text("qwen3_5_text", **DELTA), insert_layer_id=0,
        vision_config=dict(VISION, image_size=112, patch_size=14), image_size=112,
        image_token_id=token("<unk_image>"), video_token_id=token("<unk_video>"), **marks)


def minicpmv4_6() -> Made:
    return of_minicpm("4_6")


def minicpmv4_7() -> Made:
    return of_minicpm("4_7")


def molmo2() -> Made:
    views = ("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>", "<im_end>", "<frame_end>", "<im_low>")
    tokenizer = small_tokenizer("<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>", *views)
    token = tokenizer.convert_tokens_to_ids
    images = part("Molmo2ImageProcessor", size={"height": 56, "width": 56}, max_crops=2, overlap_margins=[1, 1])
    processor = part(
        "Molmo2Processor", images, part("Molmo2VideoProcessor"), tokenizer,
        chat_template=template("<s>", "<|im_start|>", "<|im_end|>", "<|image|>"))
    return processor, model_of(
        "molmo2", text_config=TEXT | dict(additional_vocab_size=8),
        vision_config=dict(VISION, num_key_value_heads=2, head_dim=32, image_size=[56, 56]),
        adapter_config=dict(vision_feature_layer=[-1, -2], hidden_size=64, num_attention_heads=2, num_key_value_heads=2,
                            head_dim=32, intermediate_size=96, text_hidden_size=64, initializer_range=0.1),
        image_start_token_id=token("<im_start>"), low_res_image_start_token_id=token("<low_res_im_start>"),
        image_end_token_id=token("<im_end>"), image_patch_id=token("<im_patch>"), frame_start_token_id=token("<frame_start>"),
        frame_end_token_id=token("<frame_end>"))


def cohere2_vision() -> Made:
    tokenizer = small_tokenizer(
        boi_token="<|START_OF_IMG|>", eoi_token="<|END_OF_IMG|>", image_token="<|IMG_PATCH|>",
        img_line_break_token="<|IMG_LINE_BREAK|>")
    images = part("Cohere2VisionImageProcessor", size={"height": 56, "width": 56}, patch_size=2, max_patches=2)
    processor = part("Cohere2VisionProcessor", images, tokenizer, chat_template=template("<s>", "", "</s>", "<|IMG_PATCH|>"))
    return processor, model_of(
        "cohere2_vision", vision_config=dict(VISION, model_type="siglip_vision_model", vision_use_head=False),
        text_config=in_text("cohere2", layer_types=HYBRID), downsample_factor=2, alignment_intermediate_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"))


def phi4_multimodal() -> Made:
    tokenizer = small_tokenizer("<|user|>", "<|end|>", image_token="<|image|>", audio_token="<|audio|>")
    token = tokenizer.convert_tokens_to_ids
    images = part("Phi4MultimodalImageProcessor", size={"height": 56, "width": 56}, dynamic_hd=2)
    processor = part(
        "Phi4MultimodalProcessor", images, part("Phi4MultimodalFeatureExtractor"), tokenizer,
        chat_template=template("<s>", "<|user|>", "<|end|>", "<|image|>"))
    text = {name: value for name, value in TEXT.items() if name != "head_dim"}
    config = AutoConfig.for_model(
        "phi4_multimodal", **text, vision_config=dict(VISION, crop_size=56, image_token_id=token("<|image|>")),
        audio_config=dict(hidden_size=64, intermediate_size=64, num_blocks=1, num_attention_heads=2, ext_pw_out_channel=64,
                          depthwise_separable_out_channel=64, nemo_conv_channels=8, audio_token_id=token("<|audio|>")))
    return processor, part("Phi4MultimodalForCausalLM", config)  # the library has it among the models of text


def llama4() -> Made:
    tokenizer = small_tokenizer(
        "<|image|>", "<|patch|>", "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>", "<|eot|>")
    token = tokenizer.convert_tokens_to_ids
    images = part("Llama4ImageProcessor", size={"height": 56, "width": 56}, max_patches=2)
    processor = part("Llama4Processor", images, tokenizer, chat_template=template("<s>", "", "<|eot|>", "<|image|>"))
    return processor, llama4_model(
        image_token_index=token("<|patch|>"), boi_token_index=token("<|image_start|>"), eoi_token_index=token("<|image_end|>"))


def llama4_model(**tokens: int) -> Any:
    """Its router is a linear layer that gives two things."""
    return model_of(
        "llama4", text_config=TEXT | dict(intermediate_size_mlp=96, num_local_experts=2, interleave_moe_layer_step=2),
        vision_config=dict(VISION, intermediate_size=256, vision_output_dim=64, projector_input_dim=64, projector_output_dim=64),
        **tokens)


def fast_vlm() -> Made:
    tokenizer = small_tokenizer("<|im_start|>", "<|im_end|>", "<image>")
    images = part("CLIPImageProcessorPil", size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = part(
        "LlavaProcessor", images, tokenizer, patch_size=28, vision_feature_select_strategy="full", num_additional_image_tokens=0,
        chat_template=template("", "<|im_start|>", "<|im_end|>", "<image>\n"))
    return processor, model_of(
        "fast_vlm", vision_config=dict(TIMM, model_type="timm_wrapper"), text_config=in_text("qwen2"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_seq_length=4)


def hyperclovax() -> Made:
    tokenizer = small_tokenizer(*QWEN_MARKS)
    token = tokenizer.convert_tokens_to_ids
    images = part("Qwen2VLImageProcessorPil", patch_size=14, merge_size=2, size=AREA)
    processor = part(
        "HyperCLOVAXVisionV2Processor", images, tokenizer, part("Qwen2VLVideoProcessor"), chat_template=QWEN_CHAT)
    vision: dict[str, Any] = dict(
        model_type="qwen2_5_vl_vision", depth=2, num_heads=2, hidden_size=64, intermediate_size=96, out_hidden_size=64,
        fullatt_block_indexes=[1], window_size=56, patch_size=14, initializer_range=0.1)
    return processor, model_of(
        "hyperclovax_vision_v2", vision_config=vision, text_config=in_text("hyperclovax"), image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"))


NEWER: dict[str, Callable[[], Made]] = {
    "Gemma 3n": gemma3n, "Gemma 4 unified": gemma4_unified, "MiniCPM-V 4.6": minicpmv4_6, "MiniCPM-V 4.7": minicpmv4_7,
    "Molmo2": molmo2, "Command A Vision": cohere2_vision, "Phi-4-multimodal": phi4_multimodal, "Llama 4": llama4,
    "FastVLM": fast_vlm, "HyperCLOVAX-SEED": hyperclovax,
}
