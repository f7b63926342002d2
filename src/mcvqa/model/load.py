"""Base model, 4-bit weights, LoRA adapters: what is trained and what stays frozen."""
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # in 5.5.4 the other name wants torchvision

from mcvqa.config import Config
from mcvqa.model.device import GIB, DevicePlan, apply_device, seeded
from mcvqa.model.families.family import Family
from mcvqa.model.families.registry import FAMILIES, plain_family
from mcvqa.model.fast.block import blocks_suit
from mcvqa.model.fast.forward import Answering, AnswerModel
from mcvqa.model.fast.layout import EVERY_TOKEN_ONCE
from mcvqa.model.fast.overflow import cast_weights
from mcvqa.model.plain import PlainAnswerModel, PlainEncoder
from mcvqa.model.published import FOUR_BIT, as_loaded, published_bits, unpack_linears
from mcvqa.model.source import (
    ModelError,
    empty_model,
    hub_revision,
    loading_model,
    model_folder,
    read_model_config,
    require_all_tensors,
    require_tokenizer,
    require_whole_model,
)
from mcvqa.model.text.encode import Encoder

# the implementation of image processors that needs no torchvision: the other's pixels differ a little
SAME_PIXELS = {"backend": "pil"}


@dataclass(frozen=True)
class BaseModel:
    """A frozen base model with what belongs to it."""

    model: Any  # a *ForConditionalGeneration of transformers, whose parts the type checker does not know
    tokenizer: Any
    processor: Any  # of images alone on the fast path, of text and images on the plain one
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
        """A module that gives (B, K, V) logits for batches of this model's rows.

        Args:
            model: this base model, with or without adapters.
        """
        return AnswerModel(model, self.family, self.image_token_id) if self.family.vision else PlainAnswerModel(model)


# %% from a hub name or folder to the frozen model
def check_transformers() -> None:
    """Raises ModelError for the versions that compute wrong M-RoPE positions for still images."""
    version = tuple(int(part) for part in transformers.__version__.split(".")[:3] if part.isdigit())
    if (5, 4, 0) <= version <= (5, 5, 3):
        raise ModelError(
            f"transformers {transformers.__version__} computes wrong image positions (5.4.0 to 5.5.3 do). "
            "Fix: pip install 'transformers>=5.5.4' and restart."
        )


def family_of(model_config: Any) -> Family:
    """Raises FamilyError for a model that cannot be trained here."""
    if model_config.model_type in FAMILIES:
        return FAMILIES[model_config.model_type]
    model = empty_model(model_config)
    decoder = model.get_decoder()
    language = next(name for name, module in model.named_modules() if module is decoder)
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return plain_family(model_config.model_type, language, linears)


def load_encoder(config: Config) -> tuple[Encoder | PlainEncoder, Any, Any]:
    """Tokenizer side only, no weights: (encoder, processor, model config).

    On the fast path the tokenizer and the image processor are loaded one by one: AutoProcessor would ask for torchvision,
    which the video half of Qwen's processor needs and still images do not.
    """
    check_transformers()
    transformers.utils.logging.disable_progress_bar()  # one bar per file read or written hides our own
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")  # renamed in version 6, nothing a user could mend
    folder, revision, model_config = model_folder(config), hub_revision(config), read_model_config(config)
    published_bits(model_config)
    require_tokenizer(config)
    if model_config.model_type not in FAMILIES:
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
    """The whole processor of a model without a fast path.

    Args:
        folder: or hub name.
        template: file with a chat template that is used instead of its own.

    Raises:
        ModelError: it needs a library that is not installed, or is none that renders conversations with images.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder, **revision, trust_remote_code=False)
        if hasattr(processor, "image_processor"):
            processor.image_processor = AutoImageProcessor.from_pretrained(
                folder, **revision, **SAME_PIXELS, trust_remote_code=False)
    except (ImportError, ValueError) as error:
        raise ModelError(
            f"The processor of {folder!r} could not be loaded: {' '.join(str(error).split())}\n"
            "Many want torchvision (in the version that suits torch), num2words or timm: pip install 'mcvqa[vlm]'."
        ) from error
    if not hasattr(processor, "image_processor") or not (template or getattr(processor, "chat_template", None)):
        raise ModelError(
            f"{folder!r} has no processor with a chat template for images: it is no model that answers questions about "
            "pictures in a conversation. Look for a variant whose name ends in Instruct, chat or it."
        )
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token  # what is padded is never read
    return processor


def load_base(config: Config, plan: DevicePlan) -> BaseModel:
    """The base model with all weights frozen, on its device.

    Raises:
        ModelError: it cannot be loaded, is not whole, or bitsandbytes quantised something it should not.
    """
    encoder, processor, model_config = load_encoder(config)
    require_whole_model(config, model_config)
    family = family_of(model_config)
    if family.recurrent and (config.lora_r == 0 or not blocks_suit(model_config.text_config)):
        raise ModelError(
            f"{config.model_id} is of type {family.model_type}, of which adapters are trained here, with the settings of the "
            "published models. Set lora_r to 8 or more." if config.lora_r == 0 else
            f"{config.model_id}: its config.json asks for an activation, dropout or rotary positions that the published models "
            f"of type {family.model_type} do not have, and that are not known here."
        )
    plan = choose_weights(config, plan, model_config)
    apply_device(plan)  # here, where every process that computes takes its first memory
    bits = published_bits(model_config)
    # never None: packed weights would be read as whole ones
    packing: dict[str, Any] = {"quantization_config": four_bit_settings(family, plan.dtype)} if plan.four_bit else {}
    if bits:
        packing = {"config": as_loaded(model_config, plan.dtype)}
    with loading_model(config.model_id):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            model_folder(config), **hub_revision(config), output_loading_info=True, ignore_mismatched_sizes=True,
            dtype=plan.dtype, trust_remote_code=False,
            attn_implementation=EVERY_TOKEN_ONCE if family.vision else None,  # None: the best that the model knows
            device_map={"": torch.cuda.current_device() if plan.device == "cuda" else plan.device}, **packing,
        )
    model, report = loaded
    require_all_tensors(report, model_folder(config))
    if bits:
        unpack_linears(model, plan.dtype, keep=family.decoder_layers if plan.four_bit else None)
        cast_weights(model, plan.dtype)  # some are left as in the file
    if plan.four_bit:
        verify_quantization(model, family, all_of_them=not bits)
        keep_packing(model)
    model.requires_grad_(False).eval()
    return BaseModel(model, encoder.tokenizer, processor, encoder, family, plan)


def four_bit_settings(family: Family, dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 (QLoRA, arXiv:2305.14314) on the language model only.

    Without double quantisation: it saves 0.37 bits a weight, and its unpacking is one more kernel for each product.

    The modules to leave alone need their full path; 'visual' by itself leaves nothing alone. lm_head must be listed too.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False, bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(family.unquantised),
    )


def keep_packing(model: nn.Module) -> None:
    """On some CPUs bitsandbytes packs weights anew at their first use without gradients: in place, with scales rounded to
    bfloat16, and not at all where a row is no multiple of 64 values, which ends in an error."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - to mypy every attribute of a module is a tensor


def verify_quantization(model: nn.Module, family: Family, *, all_of_them: bool = True) -> None:
    """Look at the module types after loading: exactly the language model's linear layers must be 4-bit.

    Args:
        all_of_them: else some are enough, as some publishers leave layers in full.
    """
    found = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    wanted = {
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(family.decoder_layers)
    }
    if found - wanted or not found or (all_of_them and found != wanted):
        odd = sorted(found ^ wanted)[:3]
        raise ModelError(f"4-bit weights are not where they should be, for example {odd}. Set quantization=none.")


# %% what is trained
def adapter_settings(config: Config, family: Family) -> LoraConfig:
    """LoRA (arXiv:2106.09685) on the language model's projections, named by full path."""
    return LoraConfig(
        r=config.lora_r, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, bias="none",
        target_modules=family.adapter_pattern(config.target_modules, vision=config.lora_vision), task_type="CAUSAL_LM",
    )


def with_adapters(model: nn.Module, config: Config, family: Family, **options: Any) -> PeftModel:
    """Args: options: of get_peft_model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")  # as in load_base
        return get_peft_model(model, adapter_settings(config, family), **options)


def make_trainable(base: BaseModel, config: Config, seed: int) -> nn.Module:
    """Fresh adapters on the base model, or, with lora_r=0, all of its weights.

    With lora_r=0 the base itself changes: load it anew for the next fold. Otherwise `remove_adapters` restores it.

    Args:
        seed: of the adapters' initial values; the same seed gives the same ones.
    """
    if config.lora_r == 0:
        if base.plan.four_bit:
            raise ModelError("lora_r=0 trains all weights, which 4-bit weights cannot do: set quantization=none.")
        base.model.float().requires_grad_(True)  # master weights; mixed precision casts in the forward pass
        model = base.model
    else:
        with seeded(seed):
            model = with_adapters(base.model, config, base.family)
    return model


def load_adapter(base: BaseModel, folder: str | Path) -> nn.Module:
    """Weights saved by `save_trained`, for scoring.

    Raises:
        ModelError: they do not suit the model (PEFT would leave fresh adapters where a file has none), or are pickled.
    """
    folder = Path(folder)
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no weights as safetensors; other formats can run code when they are read, and are not.")
    if (folder / "adapter_config.json").exists():
        model = PeftModel.from_pretrained(base.model, str(folder)).eval()
        if other := _not_loaded(model, folder):
            remove_adapters(base, model)
            raise ModelError(
                f"The adapters in {folder} are not those of this model: {len(other)} tensors differ or are missing, "
                f"first {other[0]}. Delete the folder and train this fold again, or set model_id to the model they were made for."
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
    """Tensors of the adapters that are not, number for number, those of the file."""
    there, wanted = get_peft_model_state_dict(model), load_file(folder / "adapter_model.safetensors")
    return sorted(there.keys() ^ wanted.keys()) or [
        name for name, value in wanted.items() if not torch.equal(there[name].cpu(), value.to(there[name].dtype))
    ]


def remove_adapters(base: BaseModel, model: nn.Module) -> None:
    """Give the base model back as it was, without adapters."""
    if isinstance(model, PeftModel):
        model.unload()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def vision_is_frozen(config: Config) -> bool:
    """Whether image features stay the same during training, so that computing them once is enough."""
    return config.lora_r > 0 and not config.lora_vision


# %% sizes without weights
@dataclass(frozen=True)
class ModelSize:
    """Parameter counts of a model and of what would be trained."""

    language_linears: int
    vision: int
    rest: int  # everything but the language model's linear layers
    trained: int

    def weight_bytes(self, plan: DevicePlan) -> int:
        """Memory of the frozen weights; NF4 takes 4 bits a weight and a float32 for 64 of them (arXiv:2305.14314)."""
        each = plan.dtype.itemsize
        return int(self.language_linears * (4.5 / 8 if plan.four_bit else each) + self.rest * each)

    @property
    def training_bytes(self) -> int:
        """Float32 weight, gradient and AdamW's two moments of each trained parameter."""
        return 16 * self.trained


# What a step needs beside weights and training state: CUDA's own half GiB, and the activations of some rows of a model of
# 3 billion weights without checkpointing (about 1.5 GiB for 300 tokens), or of a larger one with it. With less room than
# that, 4-bit weights make more of it than unpacking them in every pass costs.
ROOM_FOR_ACTIVATIONS = 3 * GIB


def choose_weights(config: Config, plan: DevicePlan, model_config: Any) -> DevicePlan:
    """`plan` with 4-bit weights where the full ones would not leave enough room, if that is not decided yet.

    Raises:
        DeviceError: 4-bit weights are needed, and bitsandbytes is missing.
        ModelError: the model is published in fewer bits, and not as the settings want them.
    """
    bits = published_bits(model_config)
    if bits == FOUR_BIT and config.quantization != "none" and config.lora_r > 0:
        return plan if plan.four_bit else plan.with_weights(True, "the model is published so")
    if bits and plan.four_bit:
        raise ModelError(
            f"quantization=4bit packs weights that are in full, and {config.model_id!r} has {bits} weights, which are unpacked: "
            "set quantization=none, or model_id to the original model."
        )
    if bits and plan.four_bit is None:
        return plan.with_weights(False, f"the model's {bits} weights are unpacked")
    if plan.four_bit is not None:
        return plan
    if config.lora_r == 0:
        return plan.with_weights(False, "lora_r=0 trains all weights, which 4-bit weights cannot do")
    size = measure_model(model_config, config)
    weights = size.weight_bytes(replace(plan, four_bit=False))
    fits = weights + size.training_bytes + ROOM_FOR_ACTIVATIONS <= plan.memory
    return plan.with_weights(not fits, (
        f"{weights / GIB:.1f} GiB of weights in {str(plan.dtype).removeprefix('torch.')} + {size.training_bytes / GIB:.1f} GiB "
        f"training state + {ROOM_FOR_ACTIVATIONS / GIB:.0f} GiB for activations {'fit' if fits else 'do not fit'} into "
        f"{plan.memory / GIB:.1f} GiB"
    ))


def measure_model(model_config: Any, config: Config) -> ModelSize:
    """Counted on an empty model: no weights are needed."""
    family, model = family_of(model_config), empty_model(model_config)
    linears = sum(
        module.weight.numel() for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(family.decoder_layers)
    )
    total = sum(p.numel() for p in model.parameters())
    spoken = {*model.get_submodule(family.language).parameters(), *model.get_output_embeddings().parameters()}
    vision = total - sum(p.numel() for p in spoken)  # the tower, and what carries its features over
    if config.lora_r == 0:
        return ModelSize(linears, vision, total - linears, total)
    adapted = with_adapters(model, config, family, low_cpu_mem_usage=True)
    return ModelSize(linears, vision, total - linears, sum(p.numel() for p in trained_parameters(adapted).values()))
