"""Loads the base model with full or 4-bit weights, and trained weights into it."""
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.hooks import remove_hook_from_module
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, BitsAndBytesConfig
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # in 5.5.4 the other name wants torchvision

from mcvqa.config import Config
from mcvqa.model.adapters import adding_adapters, with_adapters
from mcvqa.model.device import DevicePlan, apply_device, seeded
from mcvqa.model.families.family import Family
from mcvqa.model.family_choice import decoder_linears, family_of, takes_fast_path
from mcvqa.model.fast.block import blocks_suit
from mcvqa.model.fast.forward import Answering, AnswerModel
from mcvqa.model.fast.layout import EVERY_TOKEN_ONCE
from mcvqa.model.fast.overflow import cast_weights
from mcvqa.model.placement import place_model
from mcvqa.model.plain import PlainAnswerModel, PlainEncoder
from mcvqa.model.published import as_loaded, layer_on_cpu, published_bits, unpack_linears
from mcvqa.model.source import (
    ModelError,
    hub_revision,
    loading_model,
    model_folder,
    read_model_config,
    require_all_tensors,
    require_images_and_text,
    require_tokenizer,
    require_whole_files,
    require_whole_model,
)
from mcvqa.model.split import SplitAnswerModel
from mcvqa.model.text.encode import Encoder

# the implementation of image processors without torchvision; the other one gives slightly different pixels
SAME_PIXELS = {"backend": "pil"}


@dataclass(frozen=True)
class BaseModel:
    """Holds a frozen base model with its tokenizer and processor."""

    model: Any  # of transformers; the type checker does not know its submodules
    tokenizer: Any
    processor: Any  # for images only on the fast path, for text and images on the plain one
    encoder: Encoder | PlainEncoder
    family: Family
    plan: DevicePlan

    @property
    def language(self) -> Any:
        return self.model.get_submodule(self.family.language)

    @property
    def vision(self) -> Any:
        return self.model.get_submodule(self.family.vision)

    @property
    def merge(self) -> int:
        return self.vision.spatial_merge_size

    @property
    def patch(self) -> int:
        return self.model.config.vision_config.patch_size

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    def answers(self, model: nn.Module) -> Answering:
        """Make a module that computes (B, K, V) logits for batches of rows.

        Args:
            model: this base model, with or without adapters.
        """
        if self.family.vision is None:
            return PlainAnswerModel(model, self.family)
        if self.plan.stages:
            return SplitAnswerModel(model, self.family, self.image_token_id, self.plan)
        return AnswerModel(model, self.family, self.image_token_id)


# %% loading
def check_transformers() -> None:
    """Check the version of transformers: some compute wrong M-RoPE positions for still images.

    Raises:
        ModelError: it is one of them.
    """
    version = tuple(int(part) for part in transformers.__version__.split(".")[:3] if part.isdigit())
    if (5, 4, 0) <= version <= (5, 5, 3):
        raise ModelError(
            f"transformers {transformers.__version__} computes wrong image positions (5.4.0 to 5.5.3 do). "
            "Fix: pip install 'transformers>=5.5.4' and restart."
        )


def load_encoder(config: Config) -> tuple[Encoder | PlainEncoder, Any, Any]:
    """Load everything but the weights.

    On the fast path the tokenizer and the image processor are loaded separately: AutoProcessor requires torchvision, which
    Qwen's video processor needs and still images do not.

    Returns:
        The encoder, the processor and the model configuration.

    Raises:
        ModelError: a file is missing or damaged, or the model is of an unsupported type.
    """
    check_transformers()
    transformers.utils.logging.disable_progress_bar()  # a bar per file hides this package's progress bars
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")  # renamed in version 6
    folder, revision, model_config = model_folder(config), hub_revision(config), read_model_config(config)
    published_bits(model_config)
    require_tokenizer(config)
    if not takes_fast_path(model_config, config):
        require_images_and_text(model_config)
        with loading_model(config.model_id):
            processor = load_processor(folder, config.chat_template, **revision)
        return PlainEncoder(processor, config), processor, model_config
    with loading_model(config.model_id):
        tokenizer = AutoTokenizer.from_pretrained(folder, **revision, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(folder, **revision, **SAME_PIXELS, trust_remote_code=False)
    if not (tokenizer.chat_template or config.chat_template):
        raise ModelError(f"{folder!r} has no chat template (chat_template.jinja): copy or download the whole folder.")
    encoder = Encoder(
        tokenizer, config, image_token_id=model_config.image_token_id,
        merge=model_config.vision_config.spatial_merge_size,
    )
    return encoder, processor, model_config


def load_processor(folder: str, template: str = "", **revision: str) -> Any:
    """Load the whole processor of a model without a fast path.

    Args:
        folder: folder or hub name of the model.
        template: file with a chat template that replaces the processor's; empty: none.
        revision: keyword arguments from hub_revision.

    Raises:
        ModelError: it needs a library that is not installed, or has no image processor or chat template.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder, **revision, trust_remote_code=False)
        if hasattr(processor, "image_processor"):
            processor.image_processor = AutoImageProcessor.from_pretrained(
                folder, **revision, **SAME_PIXELS, trust_remote_code=False)
    except (ImportError, ValueError) as error:
        raise ModelError(
            f"The processor of {folder!r} could not be loaded: {' '.join(str(error).split())}\nMany processors need "
            "torchvision (in the version that matches torch), num2words or timm: pip install 'mcvqa[vlm]'."
        ) from error
    if not hasattr(processor, "image_processor") or not (template or getattr(processor, "chat_template", None)):
        raise ModelError(
            f"{folder!r} has no processor with a chat template for images, so it is not a chat model that sees pictures. Look "
            "for a variant whose name ends in Instruct, chat or it."
        )
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token  # logits at padding are never read
    return processor


def load_base(config: Config, plan: DevicePlan) -> BaseModel:
    """Load the base model with all weights frozen, on its device.

    Raises:
        ModelError: it cannot be loaded, is incomplete, or bitsandbytes quantized the wrong layers.
    """
    encoder, processor, model_config = load_encoder(config)
    bits, family = published_bits(model_config), family_of(model_config, config)
    if bits or family.experts:  # the library fails before it reports missing packed weights, and takes any experts
        require_whole_model(config, model_config)
    else:
        require_whole_files(config)
    if family.recurrent and (config.lora_r == 0 or not blocks_suit(model_config.text_config)):
        raise ModelError(
            f"{config.model_id} is of type {family.model_type}: only adapters can be trained, and only with the configuration "
            "of the published models. Set lora_r to 8 or more." if config.lora_r == 0 else
            f"{config.model_id}: its config.json specifies an activation, dropout or rotary positions that the published "
            f"models of type {family.model_type} do not have and that mcvqa does not support."
        )
    plan = place_model(config, plan, model_config)
    apply_device(plan)  # here, where each process first allocates memory
    # not quantization_config=None: packed weights would be read as unpacked ones
    packing: dict[str, Any] = {"quantization_config": four_bit_settings(family, plan.dtype)} if plan.four_bit else {}
    if bits:
        packing = {"config": as_loaded(model_config, plan.dtype)}
    with loading_model(config.model_id):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            model_folder(config), **hub_revision(config), output_loading_info=True, ignore_mismatched_sizes=True,
            dtype=plan.dtype, trust_remote_code=False,
            attn_implementation=EVERY_TOKEN_ONCE if family.vision else None,  # None: the library's default
            device_map=plan.device_map or {"": torch.cuda.current_device() if plan.device == "cuda" else plan.device}, **packing,
        )
    model, report = loaded
    require_all_tensors(report, model_folder(config))
    if plan.stages:
        remove_hook_from_module(model, recurse=True)  # which would make GPUs wait for each other
        vars(model).pop("hf_device_map", None)  # PEFT would add others
    if bits:
        unpack_linears(model, plan.dtype, keep=family.decoder_layers if plan.four_bit else None)
        cast_weights(model, plan.dtype)  # some keep the file's
    if plan.four_bit:
        verify_quantization(model, family, all_of_them=not bits)
        patch_bitsandbytes(model)
    if family.experts:
        from mcvqa.model.delta_layers import compute_in_chunks
        from mcvqa.model.packed_experts import limit_products

        compute_in_chunks(model)
        if plan.four_bit and plan.device == "cuda":
            limit_products(model, plan.memory)
    model.requires_grad_(False).eval()
    return BaseModel(model, encoder.tokenizer, processor, encoder, family, plan)


def four_bit_settings(family: Family, dtype: torch.dtype) -> BitsAndBytesConfig:
    """Make the settings of NF4 (QLoRA, arXiv:2305.14314) for the language model only: linear layers and experts.

    Without double quantization: it saves 0.37 bits a weight, but dequantizing takes one more kernel per product.

    Modules to skip must be listed with their full paths ('visual' alone skips nothing), lm_head included.
    """
    settings: dict[str, Any] = dict(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False, bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(family.unquantised),
    )
    if family.experts:
        from mcvqa.model.packed_experts import WithExperts

        return WithExperts(**settings)
    return BitsAndBytesConfig(**settings)


def patch_bitsandbytes(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking the weights and from misreading rows that are not a multiple of 64 values.

    On some CPUs it repacks them at their first use without gradients: in place, with scales rounded to bfloat16. Other rows are
    read wrongly on all CPUs.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - mypy takes module attributes for tensors
            layer: Any = module
            if not layer.weight.is_cuda and layer.in_features % layer.weight.quant_state.blocksize:
                layer.forward = functools.partial(layer_on_cpu, layer)


def verify_quantization(model: nn.Module, family: Family, *, all_of_them: bool = True) -> None:
    """Check after loading that exactly the language model's linear layers and experts are 4-bit.

    Args:
        model: the loaded model.
        family: its family.
        all_of_them: whether all must be; some publishers leave layers unquantized.

    Raises:
        ModelError: other layers are 4-bit, or some are not.
    """
    quantized = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    wanted = {*decoder_linears(model, family)}
    if family.experts and all_of_them:
        from mcvqa.model.experts import is_packed, named_stacks

        wanted |= named_stacks(model, family.decoder_layers).keys()
        quantized |= {name for name, stack in named_stacks(model).items() if is_packed(stack)}
    if quantized - wanted or not quantized or (all_of_them and quantized != wanted):
        odd = sorted(quantized ^ wanted)[:3]
        raise ModelError(f"4-bit weights are not where they should be, for example {odd}. Set quantization=none.")


# %% trained weights
def make_trainable(base: BaseModel, config: Config, seed: int, start: Path | None = None) -> nn.Module:
    """Add adapters to the base model or, with lora_r=0, make all of its weights trainable.

    With lora_r=0 the base model itself changes: reload it for the next fold. Otherwise `remove_adapters` restores it.

    Args:
        base: the base model.
        config: all settings.
        seed: seed of the adapters' initial values.
        start: folder of trained adapters to start from; None: new ones.

    Returns:
        The model to train.

    Raises:
        ModelError: lora_r=0 with 4-bit weights; the trained adapters do not fit.
    """
    if config.lora_r == 0:
        if base.plan.four_bit:
            raise ModelError("lora_r=0 trains all weights, which is impossible with 4-bit weights: set quantization=none.")
        base.model.float().requires_grad_(True)  # master weights; mixed precision casts in the forward pass
        model = base.model
    else:
        with seeded(seed):
            model = with_adapters(base.model, config, base.family)
    if start:
        from mcvqa.model.start import load_start

        load_start(model, start, config)
    return model


def load_adapter(base: BaseModel, folder: str | Path) -> nn.Module:
    """Load weights saved by `save_trained`, for scoring.

    Args:
        base: the base model.
        folder: the checkpoint.

    Raises:
        ModelError: they do not fit the model (PEFT would keep new adapters for missing ones), or are pickled.
    """
    folder = Path(folder)
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no safetensors weights. Other formats are not read, because loading them can run code.")
    if (folder / "adapter_config.json").exists():
        with adding_adapters(base.model, base.family):
            model = PeftModel.from_pretrained(base.model, str(folder)).eval()
        if other := _not_loaded(model, folder):
            remove_adapters(base, model)
            raise ModelError(
                f"The adapters in {folder} do not belong to this model: {len(other)} tensors differ or are missing, first "
                f"{other[0]}. Delete the folder and train this fold again, or set model_id to the model that they were made "
                "for."
            )
        return model
    with loading_model(str(folder)):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True,
        )
    saved, report = loaded
    require_all_tensors(report, str(folder))
    base.model.float().load_state_dict(saved.state_dict())
    return base.model.to(base.plan.device).eval()


def _not_loaded(model: PeftModel, folder: Path) -> list[str]:
    """List the adapter tensors that are not exactly equal to those in the file."""
    loaded, stored = get_peft_model_state_dict(model), load_file(folder / "adapter_model.safetensors")
    return sorted(loaded.keys() ^ stored.keys()) or [
        name for name, value in stored.items() if not torch.equal(loaded[name].cpu(), value.to(loaded[name].dtype))
    ]


def remove_adapters(base: BaseModel, model: nn.Module) -> None:
    """Restore the base model without adapters."""
    if isinstance(model, PeftModel):
        model.unload()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config
