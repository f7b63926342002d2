"""Pictures become the same patches as by transformers' processor, whatever its settings."""
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from mcvqa.model.content import packaged_tiny
from mcvqa.model.load import SAME_PIXELS
from mcvqa.model.source import ModelError
from mcvqa.model.vision.patches import ImageInputs

HALF = [0.5, 0.5, 0.5]
SETTINGS = [
    {}, dict(patch_size=16, image_mean=HALF, image_std=HALF), dict(resample=2, do_normalize=False), dict(patch_size=4),
    dict(do_convert_rgb=False, do_rescale=False),
]


def processor_with(**changes: Any) -> Any:
    return AutoImageProcessor.from_pretrained(packaged_tiny(), **SAME_PIXELS, **changes)


@pytest.mark.parametrize("changes", SETTINGS)
@given(width=st.integers(1, 150), height=st.integers(1, 150), size=st.integers(20, 120), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_patches_are_the_processor_s_to_the_last_bit(changes, width, height, size, seed):
    processor = processor_with(**changes)
    images = ImageInputs({}, processor, image_size=size, patch=processor.patch_size, merge=processor.merge_size)
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    area = dict(shortest_edge=size**2, longest_edge=size**2)
    wanted = processor(images=[picture], size=area, return_tensors="pt")["pixel_values"]
    ours = images.patches_of(picture)
    assert ours.dtype == wanted.dtype and torch.equal(ours, wanted)


@pytest.mark.parametrize("changes", [
    dict(patch_size=8), dict(patch_size=7), dict(merge_size=1), dict(merge_size=4), dict(temporal_patch_size=1),
    dict(do_resize=False), dict(resample=None),
], ids=str)
def test_a_processor_that_makes_other_patches_than_the_model_takes_is_refused(changes):
    with pytest.raises(ModelError, match=r"Pil\) does not turn pictures into patches of 14 pixels, 2 x 2 to a token"):
        ImageInputs({}, processor_with(**changes), image_size=56, patch=14, merge=2)


class Reversed:
    """Gives the patches in another order."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.resample = processor, processor.resample

    def __call__(self, **asked: Any) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.processor(**asked)["pixel_values"].flip(0)}


def test_a_processor_that_cuts_in_another_way_is_refused():
    with pytest.raises(ModelError, match=r"The image processor \(Reversed\) does not turn pictures into patches"):
        ImageInputs({}, Reversed(processor_with()), image_size=56, patch=14, merge=2)
