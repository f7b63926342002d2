"""Qwen3-VL (arXiv:2511.21631): learned positions in the tower, deepstack (arXiv:2406.04334), rotary frequencies that take turns
between the axes, and a norm of each query and key."""
from collections.abc import Sequence

import numpy as np

from mcvqa.model.families.family import Family
from mcvqa.model.fast.block import layer_blocks


def axes_in_turns(sections: Sequence[int]) -> np.ndarray:
    """(D / 2,) which of the three positions (time, row, column) each rotary frequency turns by: time, row, column, time, ...

    Row and column get each third frequency, from the highest, as far as their section reaches; what is left is time's.

    Args:
        sections: number of frequencies of each, as in the model's mrope_section.
    """
    axes = np.zeros(sum(sections), np.int64)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes


QWEN3_VL = Family(
    "qwen3_vl", blocks=layer_blocks, vision_linears=("qkv", "proj", "linear_fc1", "linear_fc2"), rotary_axes=axes_in_turns,
)
