"""Image grids and positions, compared with the model's own code."""
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mcvqa.model.families.family import image_grid, token_positions


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([28, 56, 84, 140, 384]))
@settings(max_examples=60, deadline=None)
def test_the_grid_is_the_processors(base, width, height, side):
    if max(width, height) / min(width, height) > 190:
        return
    pixels = side**2
    made = base.processor(
        images=[Image.new("RGB", (width, height))], size={"shortest_edge": pixels, "longest_edge": pixels}, return_tensors="pt"
    )
    assert image_grid(width, height, pixels, patch=14, merge=2) == tuple(made["image_grid_thw"][0].tolist())


@given(st.integers(0, 9), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_positions_are_the_models(base, before, rows, columns, after):
    grid = (1, 2 * rows, 2 * columns)
    ids = torch.tensor([[9] * before + [base.image_token_id] * (rows * columns) + [9] * after])
    kinds = (ids == base.image_token_id).int()
    theirs, _ = base.model.model.get_rope_index(ids, kinds, torch.tensor([grid]))
    ours = token_positions((ids[0] == base.image_token_id).numpy(), grid, 2)
    np.testing.assert_array_equal(ours, theirs[:, 0].numpy())


def test_text_alone_counts_up():
    np.testing.assert_array_equal(token_positions(np.zeros(4, bool), None, 2), [[0, 1, 2, 3]] * 3)
