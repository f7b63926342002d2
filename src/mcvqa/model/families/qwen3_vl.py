"""Qwen3-VL (arXiv:2511.21631): learned positions in the tower, deepstack (arXiv:2406.04334), rotary frequencies interleaved
between the axes, and norms of queries and keys."""
from collections.abc import Sequence

import numpy as np

from mcvqa.model.families.family import Family
from mcvqa.model.fast.block import layer_blocks


def interleaved_axes(sections: Sequence[int]) -> np.ndarray:
    """Return the position axis (D / 2,) of each rotary frequency, interleaved: time, row, column, time, ...

    Row and column get every third frequency, from the highest, up to the size of their section; time gets the rest.

    Args:
        sections: number of frequencies per axis, the model's mrope_section.
    """
    axes = np.zeros(sum(sections), np.int64)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes


QWEN3_VL = Family(
    "qwen3_vl", blocks=layer_blocks, vision_linears=("qkv", "proj", "linear_fc1", "linear_fc2"), rotary_axes=interleaved_axes,
)
