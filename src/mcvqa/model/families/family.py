"""Describes a model family, and what all families share: image tokens and their positions.

Each family is described in a separate file of this folder; registry.py lists them.
"""
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.config import ALL_LINEAR, McvqaError


class FamilyError(McvqaError, RuntimeError):
    """Raised for a model that this package cannot train."""


def axes_in_sections(sections: Sequence[int]) -> np.ndarray:
    """Return the position axis (time, row, column) of each rotary frequency, (D / 2,), in three sections.

    M-RoPE, arXiv:2409.12191, section 2.1.

    Args:
        sections: number of frequencies per axis, the model's mrope_section.
    """
    return np.repeat(np.arange(3), sections)


# of each decoder layer in Qwen's language models
QWEN_LINEARS = (*(f"self_attn.{one}_proj" for one in "qkvo"), *(f"mlp.{one}_proj" for one in ("gate", "up", "down")))


@dataclass(frozen=True)
class Family:
    """Describes a family of `*ForConditionalGeneration` models.

    Attributes:
        model_type: as in the model's config.json.
        vision: path of the vision tower in the model; None: the model runs through its own forward pass, once per prompt.
        language: path of the language model.
        layers: path of the decoder layers in the language model.
        language_linears: paths of the linear layers in a decoder layer; not every layer has all of them.
        vision_linears: names of the linear layers in the tower.
        unquantised: paths that 4-bit loading must skip.
        rotary_axes: maps the model's mrope_section to the axis of each rotary frequency, like axes_in_sections.
        blocks: maps a decoder layer to its halves as blocks of fast/block.py, by their names in the layer; None: no blocks.
        recurrent: whether some layers keep a state. Batches then say which chunks of tokens follow each other (fast/delta.py),
            which transformers' own layers do not support.
        experts: paths of the stacks of experts in a decoder layer that 4-bit loading finds (experts.py).
    """

    model_type: str
    vision: str | None = "model.visual"
    language: str = "model.language_model"
    layers: str = "layers"
    language_linears: tuple[str, ...] = QWEN_LINEARS
    vision_linears: tuple[str, ...] = ()
    unquantised: tuple[str, ...] = ("model.visual", "lm_head")
    rotary_axes: Callable[[Sequence[int]], np.ndarray] = axes_in_sections
    blocks: Callable[[Any], dict[str, Any]] | None = None
    recurrent: bool = False
    experts: tuple[str, ...] = ()

    @property
    def decoder_layers(self) -> str:
        """Common prefix of the paths in all decoder layers."""
        return f"{self.language}.{self.layers}." if self.language else f"{self.layers}."

    def adapted_linears(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the paths of the linear layers in a decoder layer that get adapters.

        Args:
            names: last parts of their paths, or all-linear.

        Raises:
            FamilyError: a name matches no layer.
        """
        ends = {name: "" if name == ALL_LINEAR else f".{name}" for name in names}
        chosen = {name: [path for path in self.language_linears if f".{path}".endswith(end)] for name, end in ends.items()}
        if absent := [name for name, matches in chosen.items() if not matches]:
            raise FamilyError(
                f"The language model of {self.model_type} has no linear layers {', '.join(absent)}; it has "
                f"{', '.join(dict.fromkeys(path.rpartition('.')[2] for path in self.language_linears))}. "
                f"Set target_modules to some of them, or to all-linear.{' Its experts are named experts.' * bool(self.experts)}"
            )
        return tuple(dict.fromkeys(path for matches in chosen.values() for path in matches))

    def adapter_pattern(self, names: tuple[str, ...], *, vision: bool = False) -> str:
        """Make a regular expression of full paths for PEFT's target_modules.

        Bare suffixes such as 'up_proj' would also match the MLP of the vision tower (18.6 million trainable parameters instead of
        15.0 on Qwen2.5-VL-3B with r=8).

        Args:
            names: see adapted_linears.
            vision: whether the tower's linear layers get adapters too.

        Raises:
            FamilyError: a name matches no layer, or the vision tower cannot get adapters.
        """
        paths = self.adapted_linears(names)
        last = dict.fromkeys(path.rpartition(".")[2] for path in paths)
        inner = rf"\w+\.({'|'.join(map(re.escape, last))})"  # shorter, if it matches the same layers
        if {path for path in self.language_linears if re.fullmatch(inner, path)} != {*paths}:
            inner = f"({'|'.join(map(re.escape, paths))})"
        language = rf"{re.escape(self.decoder_layers)}\d+\.{inner}"
        if not vision:
            return language
        if self.vision is None:
            raise FamilyError(
                f"lora_vision=true does not work with models of type {self.model_type}, only with Qwen2-VL, Qwen2.5-VL and "
                "Qwen3-VL: set lora_vision=false."
            )
        tower = rf"{re.escape(self.vision)}\.blocks\.\d+\.\w+\.({'|'.join(self.vision_linears)})"
        return rf"({language}|{tower})"


# %% image tokens
Grid = tuple[int, int, int]  # patches in time, rows, columns


def image_tokens(grid: Grid, merge: int) -> int:
    """Count the tokens of an image: one per `merge` x `merge` patches.

    Args:
        grid: patches (time, rows, columns).
        merge: side of the square of patches that is merged into one token.
    """
    return grid[0] * grid[1] * grid[2] // merge**2


def feature_width(model_config: Any) -> int:
    """Return the values per image token: the hidden size, and once more for each level of Qwen3-VL's deepstack.

    Deepstack (arXiv:2406.04334) adds features of some inner layers of the tower to the first layers of the language model.
    """
    levels = len(getattr(model_config.vision_config, "deepstack_visual_indexes", ()))
    return model_config.text_config.hidden_size * (1 + levels)


def image_grid(width: int, height: int, pixels: int, *, patch: int, merge: int) -> Grid:
    """Compute the patches (time, rows, columns) of an image resized to about `pixels` pixels by Qwen2-VL's processor.

    Sides are rounded to multiples of `patch * merge`; if the rounded area is not exactly `pixels` (both the least and the most
    pixels), the sides are scaled to this area and rounded down, or up for a smaller image. Source: "smart resize" of the Qwen2-VL
    report, arXiv:2409.12191, section 2.1; a test compares it with the processor. It uses the processor's order of operations,
    because the last bit of a root decides whether a side is a multiple of a unit.

    Args:
        width, height: size of the upright image in pixels.
        pixels: target area.
        patch, merge: side of a patch in pixels; side of the square of patches that is merged into one token.
    """
    unit = patch * merge
    rows, columns = round(height / unit) * unit, round(width / unit) * unit  # 0 for a very narrow image, enlarged below
    if rows * columns > pixels:
        shrink = math.sqrt(height * width / pixels)
        rows = max(unit, math.floor(height / shrink / unit) * unit)
        columns = max(unit, math.floor(width / shrink / unit) * unit)
    elif rows * columns < pixels:
        grow = math.sqrt(pixels / (height * width))
        rows, columns = math.ceil(height * grow / unit) * unit, math.ceil(width * grow / unit) * unit
    return (1, rows // patch, columns // patch)


def token_positions(is_image: np.ndarray, grid: Grid | None, merge: int) -> np.ndarray:
    """Compute M-RoPE positions (3, L) (time, row, column) for a sequence with at most one still image.

    Text tokens count up by one on all three axes; image tokens share a time step and count rows and columns; text after the image
    continues from the largest position. Source: multimodal rotary embedding, arXiv:2409.12191, section 2.1.

    Args:
        is_image: (L,) True at image tokens, which are contiguous.
        grid: patches (time, rows, columns), before `merge` x `merge` of them are merged into a token.
        merge: side of that square.
    """
    length = len(is_image)
    if grid is None or not is_image.any():
        return np.tile(np.arange(length), (3, 1))
    start, count = int(is_image.argmax()), int(is_image.sum())
    rows, columns = grid[1] // merge, grid[2] // merge
    positions = np.empty((3, length), dtype=np.int64)
    positions[:, :start] = np.arange(start)
    positions[:, start : start + count] = start + np.stack(
        [np.zeros(count, np.int64), np.repeat(np.arange(rows), columns), np.tile(np.arange(columns), rows)]
    )
    after = start + max(rows, columns)
    positions[:, start + count :] = after + np.arange(length - start - count)
    return positions
