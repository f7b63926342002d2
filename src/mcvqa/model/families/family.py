"""What a model family must say about itself, and what all families share: how an image becomes tokens with positions.

Each family says it in a file of its own beside this one; registry.py lists them.
"""
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.config import ALL_LINEAR, McvqaError


class FamilyError(McvqaError, RuntimeError):
    """A model this package does not know how to train."""


def axes_in_sections(sections: Sequence[int]) -> np.ndarray:
    """(D / 2,) which of the three positions (time, row, column) each rotary frequency turns by: first all of time's, then all of
    the row's, then the column's (M-RoPE, arXiv:2409.12191, section 2.1).

    Args:
        sections: number of frequencies of each, as in the model's mrope_section.
    """
    return np.repeat(np.arange(3), sections)


# in each decoder layer of Qwen's language models
QWEN_LINEARS = (*(f"self_attn.{one}_proj" for one in "qkvo"), *(f"mlp.{one}_proj" for one in ("gate", "up", "down")))


@dataclass(frozen=True)
class Family:
    """What is different in each family of `*ForConditionalGeneration` models.

    Attributes:
        model_type: as in the model's config.json.
        vision: path of the vision tower from the top of the model; None: the model runs through its own forward pass, once per
            prompt.
        language: path of the language model.
        layers: path of its decoder layers, from there.
        language_linears: paths of the linear layers in a decoder layer; not each one has all of them.
        vision_linears: those of the tower.
        unquantised: paths that 4-bit loading must leave alone.
        rotary_axes: from the model's mrope_section to the position that each rotary frequency turns by, as axes_in_sections.
        blocks: from a layer of the language model to its halves as fast/block.py has them, by their names in the layer.
        recurrent: whether some layers keep a state: batches then say which chunks of tokens follow each other (fast/delta.py),
            and transformers' own layers cannot read them.
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

    @property
    def decoder_layers(self) -> str:
        """How the paths of everything in a decoder layer begin."""
        return f"{self.language}.{self.layers}." if self.language else f"{self.layers}."

    def adapted_linears(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The paths of the linear layers in a decoder layer that get adapters.

        Args:
            names: ends of their paths, or all-linear.

        Raises:
            FamilyError: one of the names fits no layer.
        """
        if names == (ALL_LINEAR,):
            return self.language_linears
        chosen = {name: [path for path in self.language_linears if f".{path}".endswith(f".{name}")] for name in names}
        if absent := [name for name, found in chosen.items() if not found]:
            raise FamilyError(
                f"The language model of {self.model_type} has no linear layers {', '.join(absent)}; it has "
                f"{', '.join(dict.fromkeys(path.rpartition('.')[2] for path in self.language_linears))}. "
                "Set target_modules to some of them, or to all-linear."
            )
        return tuple(dict.fromkeys(path for found in chosen.values() for path in found))

    def adapter_pattern(self, names: tuple[str, ...], *, vision: bool = False) -> str:
        """A regular expression for PEFT's target_modules that names full paths.

        Bare suffixes such as 'up_proj' would also match the MLP of the vision tower (18.6 million trainable
        parameters instead of 15.0 on Qwen2.5-VL-3B with r=8).

        Args:
            names: as for adapted_linears.
            vision: whether the tower's linear layers get adapters too.

        Raises:
            FamilyError: the model has no such layers, or its vision tower cannot get adapters.
        """
        paths = self.adapted_linears(names)
        last = dict.fromkeys(path.rpartition(".")[2] for path in paths)
        inner = rf"\w+\.({'|'.join(map(re.escape, last))})"  # short where that names the same layers
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


# %% images as tokens
Grid = tuple[int, int, int]  # patches in time, rows, columns


def image_tokens(grid: Grid, merge: int) -> int:
    """Tokens of an image: `merge` x `merge` patches make one."""
    return grid[0] * grid[1] * grid[2] // merge**2


def feature_width(model_config: Any) -> int:
    """Values per image token: one hidden size, and one more for each level of Qwen3-VL's deepstack.

    Deepstack (arXiv:2406.04334): what some inner layers of the tower see is added to the first layers of the language model.
    """
    levels = len(getattr(model_config.vision_config, "deepstack_visual_indexes", ()))
    return model_config.text_config.hidden_size * (1 + levels)


def image_grid(width: int, height: int, pixels: int, *, patch: int, merge: int) -> Grid:
    """Patches (time, rows, columns) of an image scaled to about `pixels` pixels, as Qwen2-VL's processor counts them.

    Sides are rounded to multiples of `patch * merge`; where the rounded area misses the budget (given as least and most
    pixels at once) the sides are scaled to its square root and rounded down, or up when the image is smaller.
    Source: "smart resize" of the Qwen2-VL report, arXiv:2409.12191, section 2.1; a test compares it with the processor.

    Args:
        width, height: of the upright image, in pixels.
        pixels: area the image is scaled to.
    """
    unit = patch * merge
    rows, columns = round(height / unit) * unit, round(width / unit) * unit  # 0 for a sliver: it is made larger below
    if rows * columns > pixels:
        shrink = (height * width / pixels) ** 0.5
        rows = max(unit, int(height / shrink / unit) * unit)
        columns = max(unit, int(width / shrink / unit) * unit)
    elif rows * columns < pixels:
        grow = (pixels / (height * width)) ** 0.5
        rows, columns = -int(-height * grow // unit) * unit, -int(-width * grow // unit) * unit
    return (1, rows // patch, columns // patch)


def token_positions(is_image: np.ndarray, grid: Grid | None, merge: int) -> np.ndarray:
    """(3, L) positions (time, row, column) of M-RoPE for a sequence with at most one still image.

    Text counts up by one in all three; image tokens share a time step and count rows and columns; text after the image
    goes on from the largest number used. Source: multimodal rotary embedding, arXiv:2409.12191, section 2.1.

    Args:
        is_image: (L,) True at image tokens, which stand together.
        grid: patches (time, rows, columns) before merging `merge` x `merge` of them into a token.
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
