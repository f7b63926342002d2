"""Loads the base model with full or 4-bit weights, and adds LoRA adapters."""
import contextlib
import functools
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.hooks import remove_hook_from_module
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, BitsAndBytesConfig
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # in 5.5.4 the other name wants torchvision

from mcvqa.config import EXPERTS, Config
from mcvqa.model.device import GIB, DevicePlan, apply_device, seeded
from mcvqa.model.families.family import Family
from mcvqa.model.families.registry import FAMILIES, plain_family
from mcvqa.model.fast.block import blocks_suit
from mcvqa.model.fast.forward import Answering, AnswerModel
from mcvqa.model.fast.layout import EVERY_TOKEN_ONCE
from mcvqa.model.fast.overflow import cast_weights
from mcvqa.model.memory import MARGIN
from mcvqa.model.plain import PlainAnswerModel, PlainEncoder
from mcvqa.model.published import FOUR_BIT, as_loaded, layer_on_cpu, packing_settings, published_bits, unpack_linears
from mcvqa.model.source import (
    ModelError,
    empty_model,
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
            from mcvqa.model.split import SplitAnswerModel

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


def takes_fast_path(model_config: Any, config: Config) -> bool:
    """Return whether the model's family has an optimized path that supports these settings.

    DoRA is computed by PEFT's layers in the library's model, which cannot read the batches of a recurrent family.
    """
    family = FAMILIES.get(model_config.model_type)
    return family is not None and not (family.recurrent and config.use_dora)


def path_note(model_config: Any, config: Config) -> str:
    """Note if the run cannot use the optimized path fully, with the reason; empty: it can."""
    if not takes_fast_path(model_config, config):
        why = "has no fast path" if model_config.model_type not in FAMILIES else "does not use its fast path with use_dora=true"
        return f"{model_config.model_type} {why}: every prompt is encoded with its own photograph"
    slower = "use_dora=true uses PEFT's layers instead of the fast ones; prompts and image features are still shared"
    return slower if config.use_dora else ""


def family_of(model_config: Any, config: Config, model: Any = None) -> Family:
    """Find the family of a model.

    Args:
        model_config: configuration of the model.
        config: all settings.
        model: an empty model, if there is one already.

    Raises:
        FamilyError: models of this type cannot be trained.
    """
    if takes_fast_path(model_config, config):
        return FAMILIES[model_config.model_type]
    model = model or empty_model(model_config)
    decoder = model.get_decoder()
    language = next(name for name, module in model.named_modules() if module is decoder)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    # a router may be a linear layer with another forward(): no adapters or 4-bit weights fit it
    others = [name for name, module in linears.items() if type(module).forward is not nn.Linear.forward]
    family = plain_family(model_config.model_type, language, [name for name in linears if name not in others])
    family = replace(family, unquantised=(*family.unquantised, *others))
    if any(hasattr(module, "has_gate") for module in model.modules()):  # the library's mark of experts
        from mcvqa.model.experts import paths_of_stacks

        family = replace(family, experts=paths_of_stacks(model, family.decoder_layers))
    return family


def decoder_linears(model: nn.Module, family: Family) -> dict[str, nn.Linear]:
    """Return the linear layers of the language model's decoder, by path."""
    inside = [(name, module) for name, module in model.named_modules() if name.startswith(family.decoder_layers)]
    return {name: module for name, module in inside if isinstance(module, nn.Linear) and name not in family.unquantised}


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
def adapter_settings(config: Config, family: Family) -> LoraConfig:
    """Make the settings of LoRA (arXiv:2106.09685) on the language model's projections, by full path.

    Optional are rsLoRA (arXiv:2312.03732) and DoRA (arXiv:2402.09353).

    Args:
        config: all settings.
        family: family of the model.
    """
    names, stacks, vision = config.target_modules, None, config.lora_vision
    if EXPERTS in names:
        from mcvqa.model.experts import adapted_experts

        names, stacks = adapted_experts(config, family)
    return LoraConfig(
        r=config.lora_r, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, bias="none",
        target_modules=family.adapter_pattern(names, vision=vision) if names or vision else [], target_parameters=stacks,
        task_type="CAUSAL_LM", use_rslora=config.use_rslora, use_dora=config.use_dora,
    )


def adding_adapters(model: nn.Module, family: Family) -> contextlib.AbstractContextManager:
    """Within the block, PEFT can add adapters to experts in 4 bits."""
    if not family.experts:
        return contextlib.nullcontext()
    from mcvqa.model.packed_experts import adapting_packed_experts

    return adapting_packed_experts(model)


def with_adapters(model: nn.Module, config: Config, family: Family, **options: Any) -> PeftModel:
    """Add new adapters to the model.

    Args:
        model: the base model.
        config: all settings.
        family: family of the model.
        options: passed on to get_peft_model.
    """
    with warnings.catch_warnings(), adding_adapters(model, family):
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
        return get_peft_model(model, adapter_settings(config, family), **options)


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


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def vision_is_frozen(config: Config) -> bool:
    """Return whether image features do not change during training, so that they need to be computed only once."""
    return config.lora_r > 0 and not config.lora_vision


# %% sizes without weights
# NF4: 4 bits a weight and a float32 per 64 weights; with double quantization a byte per 64, and a float32 per 256 of these
NF4_BYTES, NESTED_NF4_BYTES = (4 + 32 / 64) / 8, (4 + 8 / 64 + 32 / (64 * 256)) / 8  # arXiv:2305.14314


@dataclass(frozen=True)
class ModelSize:
    """Counts the parameters of a model and of its trained part.

    Attributes:
        language_linears: parameters in linear layers of the language model.
        vision: parameters in the vision tower.
        rest: parameters everywhere else.
        trained: trained parameters.
        averages: number of averages kept of the trained weights (EMA, SWA).
        four_bits: bytes per 4-bit weight.
        experts: parameters in experts that 4-bit loading quantizes (experts.py).
        routed: share of them that computes a token.
    """

    language_linears: int
    vision: int
    rest: int
    trained: int
    averages: int = 0
    four_bits: float = NF4_BYTES
    experts: int = 0
    routed: float = 0.0

    def weight_bytes(self, plan: DevicePlan) -> int:
        """Return the memory of the frozen weights."""
        each, packed = plan.dtype.itemsize, self.language_linears + self.experts
        return int(packed * (self.four_bits if plan.four_bit else each) + self.rest * each)

    @property
    def training_bytes(self) -> int:
        """Bytes for the float32 weight, gradient, AdamW's two moments and the averages of each trained parameter."""
        return 4 * (4 + self.averages) * self.trained


# Memory of a step besides weights and training state: half a GiB for CUDA, and activations of some rows of a 3B model without
# checkpointing (about 1.5 GiB per 300 tokens) or of a larger one with it. If less were free, 4-bit weights would gain more
# than dequantizing them in every pass costs.
ACTIVATION_MEMORY = 3 * GIB
LEAST_ROOM = 2 * GIB  # the same with 4-bit weights and checkpointing


def choose_weights(config: Config, plan: DevicePlan, model_config: Any, size: ModelSize | None = None) -> DevicePlan:
    """Decide on 4-bit weights, unless the plan has: they are used if full weights would not leave enough memory.

    Args:
        config: all settings.
        plan: device and precision.
        model_config: configuration of the model.
        size: size of the model, if it is known already.

    Returns:
        The plan with the decision.

    Raises:
        DeviceError: 4-bit weights are needed, and bitsandbytes is missing.
        ModelError: the model is published with quantized weights that do not fit the settings.
    """
    bits = published_bits(model_config)
    if bits == FOUR_BIT and config.quantization != "none" and config.lora_r > 0:
        return plan if plan.four_bit else plan.with_weights(True, "the model is published that way")
    if bits and plan.four_bit:
        raise ModelError(
            f"quantization=4bit needs unquantized weights, but {config.model_id!r} has {bits} weights, which are dequantized: "
            "set quantization=none, or model_id to the original model."
        )
    if bits and plan.four_bit is None:
        return plan.with_weights(False, f"the model's {bits} weights are dequantized")
    if plan.four_bit is not None:
        return plan
    if config.lora_r == 0:
        return plan.with_weights(False, "lora_r=0 trains all weights, which is impossible with 4-bit weights")
    size = size or measure_model(model_config, config)
    weights, memory = size.weight_bytes(replace(plan, four_bit=False)), plan.memory * config.gpus_at_least
    fits = weights + size.training_bytes + ACTIVATION_MEMORY <= memory
    return plan.with_weights(not fits, (
        f"{weights / GIB:.1f} GiB of weights in {str(plan.dtype).removeprefix('torch.')} + {size.training_bytes / GIB:.1f} GiB "
        f"training state + {ACTIVATION_MEMORY / GIB:.0f} GiB for activations {'fit' if fits else 'do not fit'} into "
        f"{memory / GIB:.1f} GiB"
    ))


def place_model(config: Config, plan: DevicePlan, model_config: Any, size: ModelSize | None = None) -> DevicePlan:
    """Complete the plan with the choice of weights and, for a model larger than one GPU, with the GPUs of its layers.

    Args:
        config, plan, model_config, size: see `choose_weights`.

    Raises:
        DeviceError, ModelError: from choose_weights and spread.
    """
    plan = choose_weights(config, plan, model_config, size)
    if plan.stages or config.gpus_per_model == "1":
        return plan
    if config.gpus_per_model == "auto":
        if plan.device != "cuda" or torch.cuda.device_count() == 1:
            return plan
        size = size or measure_model(model_config, config)
        if size.weight_bytes(plan) + size.training_bytes + LEAST_ROOM <= MARGIN * plan.memory:
            return plan
    from mcvqa.model.split import spread

    return spread(config, plan, model_config, size)


def measure_model(model_config: Any, config: Config) -> ModelSize:
    """Count the parameters on an empty model, without weights."""
    model = empty_model(model_config)
    family = family_of(model_config, config, model)
    linears = sum(linear.weight.numel() for linear in decoder_linears(model, family).values())
    total = sum(p.numel() for p in model.parameters())
    experts, routed = 0, 0.0
    if family.experts and not published_bits(model_config):
        from mcvqa.model.experts import count_experts

        experts, routed = count_experts(model, family.decoder_layers)
    language = {*model.get_submodule(family.language).parameters(), *model.get_output_embeddings().parameters()}
    vision = total - sum(p.numel() for p in language)  # the tower and its projector
    if config.lora_r > 0:
        model = with_adapters(model, config, family, low_cpu_mem_usage=True)
    trained = sum(p.numel() for p in trained_parameters(model).values())
    nested = packing_settings(model_config).get("bnb_4bit_use_double_quant")
    return ModelSize(
        linears, vision, total - linears - experts, trained, config.use_ema + config.use_swa,
        NESTED_NF4_BYTES if nested else NF4_BYTES, experts, routed)
