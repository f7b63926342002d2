"""Merges adapters into the 16-bit weights of their base, and verifies the file by samples."""
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn

from mcvqa.config import McvqaError

ROWS_COMPARED = 16  # of each weight
NAMED_WEIGHTS = 3  # in a message


class ExportError(McvqaError, RuntimeError):
    """Raised if a model cannot be exported or does not answer like the run after the export; the exported files are removed."""


def save_merged(model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
    """Write full weights in 16 bits. The model itself is changed.

    Args:
        model: base model with adapters, or with all weights trained.
        folder: the folder to write.
        dtype: number format of the base model's own files.
    """
    whole: Any = model.merge_and_unload() if isinstance(model, PeftModel) else model
    whole.to(dtype).save_pretrained(folder, safe_serialization=True)


def sampled_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return some rows of each weight in float64, as expected after merging; the same rows for the same names and shapes."""
    core: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    adapted = {name: module for name, module in core.named_modules() if hasattr(module, "lora_A")}
    sampled = {}
    for name, value in core.named_parameters():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer", "")
        rows = _some_rows_of(name, len(value))
        owner, _, kind = name.rpartition(".")
        samples = value.detach()[rows].double().cpu()
        if owner in adapted and kind == "weight":
            layer, one = adapted[owner], next(iter(adapted[owner].lora_A))
            a, b = layer.lora_A[one].weight.detach(), layer.lora_B[one].weight.detach()[rows]
            samples = samples + layer.scaling[one] * (b.double() @ a.double()).cpu()
        sampled[name] = samples
    return sampled


def _some_rows_of(name: str, count: int) -> list[int]:
    return np.random.default_rng(zlib.crc32(name.encode())).permutation(count)[:ROWS_COMPARED].tolist()


def require_same_weights(expected: dict[str, torch.Tensor], actual: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Compare the expected weights with those in a file.

    Args:
        expected, actual: results of `sampled_weights`.
        dtype: number format of the file.

    Raises:
        ExportError: a weight deviates by more than rounding to `dtype`.
    """
    limits = torch.finfo(dtype)
    wrong = sorted(expected.keys() ^ actual.keys()) or [
        name for name, value in expected.items()
        if not ((actual[name] - value).abs() <= limits.eps * value.abs() + limits.tiny).all()
    ]
    if wrong:
        raise ExportError(
            f"{len(wrong)} of {len(expected)} weights differ from those of the base model with the adapters, first "
            f"{', '.join(wrong[:NAMED_WEIGHTS])}: nothing was exported."
        )
