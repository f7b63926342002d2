"""Merges adapters into the 16-bit weights of their base, and verifies the file by samples."""
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

from mcvqa.config import McvqaError
from mcvqa.model.experts import factors_of

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
    adapted = {
        f"{name.replace('.base_layer', '')}.{getattr(module, 'parameter_name', 'weight')}": module
        for name, module in core.named_modules() if hasattr(module, "lora_A")
    }
    sampled = {}
    for name, value in core.named_parameters():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer", "")
        matrix = value.detach() if value.ndim == 1 else value.detach().flatten(0, -2)  # experts are stacked
        rows = _some_rows_of(name, len(matrix))
        samples = matrix[rows].double().cpu()
        if adapter := adapted.get(name):
            samples = samples + _added_rows(adapter, rows).cpu()
        sampled[name] = samples
    return sampled


def _added_rows(adapter: Any, rows: Sequence[int]) -> torch.Tensor:
    """Compute what an adapter adds to some rows of its weight; rows of experts are counted through the whole stack."""
    if isinstance(adapter, ParamWrapper):
        down, up, scale = factors_of(adapter)
        places = [divmod(row, up.shape[1]) for row in rows]  # expert, row in its matrix
        return scale * torch.stack([up[e, row].detach().double() @ down[e].detach().double() for e, row in places])
    one = next(iter(adapter.lora_A))
    down, up = (factor[one].weight.detach().double() for factor in (adapter.lora_A, adapter.lora_B))
    return adapter.scaling[one] * (up[rows] @ down)


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
