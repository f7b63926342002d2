"""The vision tower with windows side by side gives what the library's loop over windows gives."""
import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from mcvqa.model.vision.tower import aligned, plan_tower, tower_features

TEXT = dict(
    vocab_size=100, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
    bos_token_id=1, eos_token_id=2, rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[4, 6, 6]),
)
GRIDS = {
    "one image": [(1, 12, 12)], "three alike, one window each": [(1, 8, 8)] * 3,
    "many shapes": [(1, 2, 2), (1, 10, 20), (1, 12, 12), (1, 12, 12), (1, 26, 18)],
}


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl", "qwen3_vl"])
def tower(request):
    torch.manual_seed(0)
    made = small_tower(request.param)
    for parameter in made.parameters():  # biases begin with zeros, which would hide that one is left out
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def small_tower(family):
    if family == "qwen2_vl":
        vision = dict(depth=3, embed_dim=64, num_heads=2, patch_size=14, hidden_size=64)
        return Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=TEXT, vision_config=vision)).eval().model.visual
    if family == "qwen3_vl":
        vision = dict(
            depth=4, hidden_size=64, intermediate_size=96, num_heads=2, patch_size=16, num_position_embeddings=7**2,
            deepstack_visual_indexes=[0, 2], out_hidden_size=64,
        )
        config = Qwen3VLConfig(text_config=TEXT | dict(head_dim=32), vision_config=vision)
        return Qwen3VLForConditionalGeneration(config).eval().model.visual
    vision = dict(
        depth=3, hidden_size=64, intermediate_size=96, num_heads=2, fullatt_block_indexes=[1], window_size=112, patch_size=14,
        out_hidden_size=64,
    )
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=TEXT, vision_config=vision)).eval().model.visual


def patches_for(tower, grids):
    return torch.randn(sum(rows * columns for _, rows, columns in grids), 3 * 2 * tower.config.patch_size**2)


def library_features(tower, patches, grids):
    found = tower(patches, grid_thw=torch.tensor(grids))
    return torch.cat([found.pooler_output, *getattr(found, "deepstack_features", ())], -1)


@pytest.mark.parametrize("grids", GRIDS.values(), ids=GRIDS)
def test_it_equals_the_library(tower, grids):
    patches = patches_for(tower, grids)
    with torch.no_grad():
        theirs = library_features(tower, patches, grids)
        torch.testing.assert_close(tower_features(tower, patches, grids), theirs, atol=1e-6, rtol=1e-5)


def test_an_adapter_around_the_convolution_of_patches_counts(tower):
    adapter = LoraConfig(r=2, target_modules=["patch_embed.proj"], init_lora_weights=False)
    adapted, grids = inject_adapter_in_model(adapter, copy.deepcopy(tower)), GRIDS["many shapes"]
    patches = patches_for(tower, grids)
    with torch.no_grad():
        ours = tower_features(adapted, patches, grids)
        torch.testing.assert_close(ours, library_features(adapted, patches, grids), atol=1e-5, rtol=1e-4)
        assert (ours - tower_features(tower, patches, grids)).abs().max() > 1e-3, "or the adapter does nothing here"


def test_aligned_changes_no_result_and_leaves_no_trace():
    """An odd number of inner values, as Qwen2.5-VL has; other towers are left alone."""
    torch.manual_seed(0)
    vision = dict(depth=2, hidden_size=64, intermediate_size=90, num_heads=2, fullatt_block_indexes=[1], out_hidden_size=64)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=TEXT, vision_config=vision)).eval()
    tower, grids = model.model.visual, GRIDS["many shapes"]
    patches = patches_for(tower, grids)
    before = dict(tower.named_parameters())
    with torch.no_grad():
        plain = tower_features(tower, patches, grids)
        with aligned(tower):
            assert tower.blocks[0].mlp.gate_proj.weight.shape == tower.blocks[1].mlp.down_proj.weight.T.shape == (128, 64)
            torch.testing.assert_close(tower_features(tower, patches, grids), plain, atol=1e-6, rtol=1e-5)
    assert all(after is before[name] for name, after in tower.named_parameters())


def test_gradients_pass(tower):
    grids = GRIDS["many shapes"]
    patches = patches_for(tower, grids).requires_grad_()
    tower_features(tower, patches, grids).sum().backward()
    assert (patches.grad.abs().sum(-1) > 0).all()


def test_every_patch_is_in_one_window_and_one_image():
    plan = plan_tower(GRIDS["many shapes"], merge=2, window_side=4)
    for groups in (plan.windows, plan.images):
        assert torch.cat([group.flatten() for group in groups]).sort().values.tolist() == list(range(len(plan.positions)))
    assert len(plan.images) == 4, "the two images of one size stand in one group"
