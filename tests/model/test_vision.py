"""Image features: the same from disk as live, and a new key for anything they depend on."""
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.model import vision
from mcvqa.model.forward import AnswerModel
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision import FeatureStore, ImageInputs
from tests.model.small import encode_images


def test_cached_features_equal_live_ones(base, maker, images, questions):
    """Invariant 7."""
    answers = AnswerModel(base.model, base.family, base.image_token_id).eval()
    live = dataclasses.replace(maker, store=None)
    for scale in (1.0, 1.5):
        rows = [maker.row(q, scale=scale) for q in questions[:2]]
        with torch.no_grad():
            torch.testing.assert_close(
                answers(maker.batch(rows, scale)), answers(live.batch(rows, scale)), atol=1e-5, rtol=1e-5
            )


def test_images_that_do_not_fit_into_memory_are_encoded_in_halves(base, images, monkeypatch):
    names = ["a.png", "b.png", "a.png"]
    grids, patches = [images.grid(n) for n in names], torch.cat([images.patches(n) for n in names])
    wanted, plain, sizes = encode_images(base, patches, grids, names), vision.tower_features, []

    def small(tower, given, sides):
        sizes.append(len(sides))
        if len(sides) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return plain(tower, given, sides)

    monkeypatch.setattr(vision, "tower_features", small)
    for ours, theirs in zip(encode_images(base, patches, grids, names), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert sizes == [3, 1, 2, 1, 1]


def test_features_are_computed_once_and_by_content(base, images, tmp_path):
    store = FeatureStore(tmp_path, base, images)
    assert store.fill(base, ["a.png", "b.png", "missing.png", "a.png"]) == 2
    assert store.fill(base, ["a.png", "b.png"]) == 0
    assert not list(tmp_path.rglob("*.part")), "nothing half written"
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.npy")) == pytest.approx(
        store.bytes_needed(["a.png", "b.png"]), abs=300
    )


def test_the_key_changes_with_everything_the_features_depend_on(base, images, photographs, tmp_path):
    store = FeatureStore(tmp_path, base, images)
    key = store.path("a.png")
    assert store.path("b.png") != key, "content"
    assert store.path("a.png", 0.9) != key, "scale"
    other = ImageInputs(images.records, images.processor, image_size=84, patch=14, merge=2)
    assert FeatureStore(tmp_path, base, other).path("a.png") != key, "pixel budget"
    half = dataclasses.replace(base, plan=dataclasses.replace(base.plan, dtype=torch.float16))
    assert FeatureStore(tmp_path, half, images).path("a.png") != key, "precision"
    weight = next(base.vision.parameters())
    with torch.no_grad():
        weight.view(-1)[-1] += 1e-3
        changed = FeatureStore(tmp_path, base, images).path("a.png")
        weight.view(-1)[-1] -= 1e-3
    assert changed != key, "weights"
    processor = type(images.processor)(**{**images.processor.to_dict(), "image_mean": [0.5, 0.5, 0.5]})
    renormed = ImageInputs(images.records, processor, image_size=56, patch=14, merge=2)
    assert FeatureStore(tmp_path, base, renormed).path("a.png") != key, "processor"


def test_the_key_follows_a_changed_file(base, images, photographs, tmp_path):
    Image.new("RGB", (50, 50), "red").save(tmp_path / "x.png")
    before = survey_images(ImageFolder(tmp_path), ["x.png"])
    Image.new("RGB", (50, 50), "blue").save(tmp_path / "x.png")
    after = survey_images(ImageFolder(tmp_path), ["x.png"])
    keys = {
        FeatureStore(tmp_path, base, ImageInputs(r, images.processor, image_size=56, patch=14, merge=2)).path("x.png")
        for r in (before, after)
    }
    assert len(keys) == 2


def test_an_image_that_overflows_half_precision_is_done_again_in_float32(base, images):
    """A large weight planted in the last block's down projection, as reported for Qwen2.5-VL-3B."""
    import copy

    half = dataclasses.replace(
        base, model=copy.deepcopy(base.model).half(), plan=dataclasses.replace(base.plan, dtype=torch.float16)
    )
    down = half.vision.blocks[-1].mlp.down_proj
    with torch.no_grad():
        down.weight.fill_(3e4)
        down.bias.fill_(6e4)
    before = {n: b.dtype for n, b in half.vision.named_buffers()}
    patches, grid = images.patches("a.png"), images.grid("a.png")
    dtype = torch.float16
    plain = half.vision(patches.to(dtype), grid_thw=torch.tensor([grid])).pooler_output
    assert not torch.isfinite(plain).all(), "the plant must overflow, or this test shows nothing"
    features = encode_images(half, patches, [grid], ["a.png"])[0]
    assert torch.isfinite(features).all() and features.dtype == dtype
    assert next(half.vision.parameters()).dtype == dtype, "the tower is given back in half precision"
    frequencies = {n: b.dtype for n, b in half.vision.named_buffers()}
    assert frequencies == before, "and its rotary frequencies as they were"


def test_features_have_one_row_per_token(base, maker, images):
    rows, columns = images.grid("a.png")[1:]
    assert maker.store.load("a.png").shape == (rows * columns // 4, 256)
    assert np.isfinite(maker.store.load("a.png").numpy()).all()


def test_a_maker_travels_to_loader_processes_without_the_model(maker):
    import pickle  # what multiprocessing does with it

    assert len(pickle.dumps(maker)) < 2_000_000
    assert isinstance(pickle.loads(pickle.dumps(maker)), RowMaker)
