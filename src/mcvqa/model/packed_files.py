"""Checks that each quantized weight of a model's files has its scales: the library takes weights without them as they are."""
from collections.abc import Iterable
from pathlib import Path

from safetensors import safe_open

from mcvqa.base.informing import counted
from mcvqa.model.published import EIGHT_BIT, FOUR_BIT, FP8, ModelError

NAMED = 3  # tensors, at most, in a message


def require_scales(folder: Path, names: Iterable[str], bits: str) -> None:
    """Check that the files of a model that is published with quantized weights have all that these need.

    Args:
        folder: the folder.
        names: the tensors that the library would read.
        bits: result of published_bits.

    Raises:
        ModelError: scales are missing, or no weight is quantized.
    """
    kinds: dict[str, str] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            kinds |= {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    stored = {*names}
    needed = {name: scales for name in sorted(stored) if (scales := _scales_of(name, kinds, bits))}
    if not needed:
        raise ModelError(
            f"config.json of {folder} declares {bits} weights (quantization_config), but the weights in its files are not "
            "quantized. Remove quantization_config from config.json."
        )
    known = {name.partition(".bitsandbytes__")[0] for name in stored}
    missing = [scale for scales in needed.values() for scale in scales if scale not in known]
    if missing:
        raise ModelError(
            f"{folder} lacks {counted(len(missing), 'scale')} of its {bits} weights, first {', '.join(missing[:NAMED])}. Copy or "
            "download the whole folder again, or set model_id to another model."
        )


def _scales_of(name: str, kinds: dict[str, str], bits: str) -> list[str]:
    """List the tensors without which a quantized weight cannot be read; empty: the tensor is not one."""
    kind = kinds[name]
    if bits == FP8:
        return [f"{name}_scale_inv"] if kind.startswith("F8_E4M3") else []
    if not name.endswith(".weight"):
        return []
    if bits == EIGHT_BIT:
        return [f"{name.removesuffix('weight')}SCB"] if kind == "I8" else []
    assert bits == FOUR_BIT
    if kind != "U8":
        return []
    nested = kinds.get(f"{name}.absmax") == "U8"
    return [f"{name}.{end}" for end in ("absmax", "quant_map", "quant_state", *(["nested_absmax", "nested_quant_map"] * nested))]
