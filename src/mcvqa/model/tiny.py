"""Provides `tiny`: the Qwen2.5-VL architecture with 7.8 million parameters, included in the package; nothing is downloaded.

tools/train_tiny.py trained it on the scenes of mcvqa.scenes; tiny/README.md describes its abilities and limits.
"""
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from mcvqa.base.files import write_json
from mcvqa.config import DEFAULT_SYSTEM_PROMPT, KOREAN_PROMPT
from mcvqa.model.content import packaged_tiny
from mcvqa.model.device import seeded
from mcvqa.model.text.prompt import HINTS
from mcvqa.scenes.small import small_demo_sentences

TINY_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # pixel normalisation of Qwen2.5-VL
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
TINY_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


# %% tokenizer
def tiny_tokenizer(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a small byte-level BPE tokenizer like Qwen's, which can encode any text.

    Args:
        sentences: training text for its merges, besides the prompts.
    """
    prompts = [DEFAULT_SYSTEM_PROMPT, KOREAN_PROMPT, "\nsystem\nuser\nassistant\n", *HINTS.values()] * 50
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, min_frequency=1, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in TINY_TOKENS],
    )
    tokenizer.train_from_iterator([*prompts, *sentences], trainer)
    # not Qwen2Tokenizer: reloaded, it splits words and digits differently than in training
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = TINY_TEMPLATE
    return wrapped


# %% model
def tiny_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    token = tokenizer.get_vocab()
    hidden = 256
    return Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=2048, hidden_size=hidden, intermediate_size=480, num_hidden_layers=8, num_attention_heads=8,
            num_key_value_heads=4, tie_word_embeddings=True, rms_norm_eps=1e-6, max_position_embeddings=4096,
            initializer_range=0.04, bos_token_id=token["<|endoftext|>"], eos_token_id=token["<|im_end|>"],
            pad_token_id=token["<|endoftext|>"],
            rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[4, 6, 6]),
        ),
        vision_config=dict(
            depth=6, hidden_size=160, intermediate_size=480, num_heads=5, fullatt_block_indexes=[2, 5],
            window_size=224, patch_size=14, out_hidden_size=hidden, initializer_range=0.04,
        ),
        tie_word_embeddings=True, image_token_id=token["<|image_pad|>"], video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"], vision_end_token_id=token["<|vision_end|>"],
    )


def save_tiny(model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model folder like a hub download: tokenizer, image processor, config and weights."""
    tokenizer.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", dict(
        image_processor_type="Qwen2VLImageProcessor", patch_size=14, temporal_patch_size=2, merge_size=2,
        size={"shortest_edge": 28 * 28, "longest_edge": 1024 * 1024}, image_mean=IMAGE_MEAN, image_std=IMAGE_STD,
    ))
    model.save_pretrained(folder)


def tiny_folder(cache: Path) -> Path:
    """Return the folder of the trained model in the package.

    Without the package (notebook only) it is that of a model with random weights, built in `cache` once.
    """
    return packaged_tiny() or build_tiny(cache / "random")


def build_tiny(folder: Path) -> Path:
    """Build the model with random weights once; two processes may do so at the same time."""
    if folder.exists():
        return folder
    print("  tiny: the trained weights come with the mcvqa package, which is not installed here, so the weights are random")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".tiny-", dir=folder.parent))
    tokenizer = tiny_tokenizer(small_demo_sentences())
    with seeded(0):
        save_tiny(Qwen2_5_VLForConditionalGeneration(tiny_config(tokenizer)), tokenizer, part)
    try:
        os.rename(part, folder)
    except OSError:  # another process was faster and wrote the same folder
        shutil.rmtree(part)
    return folder
