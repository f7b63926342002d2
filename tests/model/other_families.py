"""Model folders of Qwen3-VL and of three families without a fast path, with random weights: nothing is downloaded."""
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from mcvqa.model.tiny import tiny_tokenizer
from mcvqa.scenes.dataset import scene_sentences

VOCABULARY = 600
TEXT = dict(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, initializer_range=0.1, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)
VISION = dict(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.1, patch_size=14,
    image_size=56,
)
TEMPLATE = (
    "{{ START }}{% for message in messages %}{{ OPEN + message.role + '\\n' }}{% for part in message.content %}"
    "{{ IMAGE if part.type == 'image' else part.text }}{% endfor %}{{ CLOSE + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ OPEN + 'assistant\\n' }}{% endif %}"
)


def template(start: str, opened: str, closed: str, image: str) -> str:
    """A chat template, with its own marks for the start of the text, for a message and for an image."""
    marks = {"START": start, "OPEN": opened, "CLOSE": closed, "IMAGE": image}
    return "".join(f"{{% set {name} = {mark!r} %}}" for name, mark in marks.items()) + TEMPLATE


def small_tokenizer(*special: str, adds_start: bool = False, **named: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE over a few words.

    Args:
        special: tokens beside <pad>, <s> and </s>.
        adds_start: the tokenizer itself puts <s> in front, as Llama's does.
        named: special tokens by the names that a processor asks for.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    every = ["<pad>", "<s>", "</s>", *special, *(token for token in named.values() if token not in special)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in every],
    )
    words = "system user assistant model Answer a, b, c, d.\n(a) yes\n(b) no\nWhich one of these?"
    tokenizer.train_from_iterator([words], trainer)
    if adds_start:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", extra_special_tokens=named
    )


def llava():
    """CLIP and Llama; the tokenizer, not the template, puts <s> in front."""
    tokenizer = small_tokenizer("<image>", adds_start=True)
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}), tokenizer, patch_size=14,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template("", "", "</s>", "<image>\n"),
    )
    config = LlavaConfig(
        vision_config=dict(VISION, model_type="clip_vision_model", projection_dim=64), text_config=dict(TEXT, model_type="llama"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-2,
    )
    return processor, LlavaForConditionalGeneration(config)


def llava_moe():
    """The same with a mixture of experts in each layer, and without torchvision, which the processors of Qwen's want."""
    processor, small = llava()
    experts = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=64, norm_topk_prob=True)
    config = LlavaConfig(**small.config.to_dict() | dict(text_config=dict(TEXT, model_type="qwen3_moe", **experts)))
    return processor, LlavaForConditionalGeneration(config)


def gemma3():
    """SigLIP and Gemma 3: image tokens see each other in both directions, told by token types."""
    tokenizer = small_tokenizer(
        "<start_of_turn>", "<end_of_turn>", boi_token="<start_of_image>", eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 56, "width": 56}), tokenizer, image_seq_length=4,
        chat_template=template("<s>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
    )
    token = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        text_config=dict(
            TEXT, sliding_window=16, layer_types=["sliding_attention", "full_attention"], query_pre_attn_scalar=16,
            max_position_embeddings=2048,
        ),
        vision_config=dict(VISION, vision_use_head=False), mm_tokens_per_image=4, boi_token_index=token("<start_of_image>"),
        eoi_token_index=token("<end_of_image>"), image_token_index=token("<image_soft_token>"), initializer_range=0.1,
    )
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zero in a fresh model: it sees nothing
    return processor, model


def idefics3():
    """SigLIP and Llama: a photograph is cut into tiles, so rows have different numbers of pictures."""
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = small_tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *tiles)
    try:
        images = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    except ImportError:
        pytest.skip("this version of transformers processes images of Idefics3 with torchvision only")
    processor = Idefics3Processor(
        images, tokenizer, image_seq_len=4,
        chat_template=template("<s>", "", "<end_of_utterance>", "<image>"),
    )
    config = Idefics3Config(
        text_config=dict(TEXT, model_type="llama"), vision_config=dict(VISION), scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=0,
    )
    return processor, Idefics3ForConditionalGeneration(config)


# %% the fast path
def qwen3_vl():
    """(tokenizer, image processor), as this package loads them, and a model with two deepstack levels."""
    tokenizer = tiny_tokenizer(scene_sentences())
    token = tokenizer.get_vocab()
    config = Qwen3VLConfig(
        text_config=dict(
            TEXT, vocab_size=2048, num_hidden_layers=3, pad_token_id=token["<|endoftext|>"],
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[4, 2, 2], mrope_interleaved=True),
        ),
        vision_config=dict(
            depth=4, hidden_size=64, intermediate_size=96, num_heads=2, patch_size=16, num_position_embeddings=36,
            deepstack_visual_indexes=[0, 2], out_hidden_size=64, initializer_range=0.1,
        ),
        tie_word_embeddings=True, image_token_id=token["<|image_pad|>"], video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"], vision_end_token_id=token["<|vision_end|>"],
    )
    images = Qwen2VLImageProcessor(patch_size=16, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return (tokenizer, images), Qwen3VLForConditionalGeneration(config)


# %% folders
PLAIN_FAMILIES = {"llava": llava, "gemma3": gemma3, "idefics3": idefics3}


def save_family(name: str, folder) -> str:
    """A model folder as a hub download would be."""
    torch.manual_seed(0)
    made, model = (PLAIN_FAMILIES | {"qwen3_vl": qwen3_vl, "llava_moe": llava_moe})[name]()
    for part in (*(made if isinstance(made, tuple) else (made,)), model):
        part.save_pretrained(folder)
    return str(folder)
