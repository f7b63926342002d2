"""Image features: the same from disk as live, and a new key for anything they depend on."""
import copy
import dataclasses
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from PIL import Image

from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.table import DataError
from mcvqa.model.families.family import image_tokens
from mcvqa.model.fast.forward import AnswerModel
from mcvqa.model.fast.overflow import cast_weights
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision import features as vision
from mcvqa.model.vision.features import FeatureStore, bytes_needed
from mcvqa.model.vision.patches import ImageInputs
from tests.faults import drop_drive
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
        bytes_needed(store, ["a.png", "b.png"]), abs=300
    )


def test_images_of_a_large_size_are_computed_one_by_one(base, images, tmp_path, monkeypatch):
    """Patches of 16 images of 4096 x 4096 pixels would fill 6 GiB."""
    batches, compute = [], vision.start_encoding
    monkeypatch.setattr(vision, "start_encoding", lambda base, patches, grids, names: (
        batches.append(names) or compute(base, patches, grids, names)))
    monkeypatch.setattr(vision, "MOST_PIXELS", images.pixels() * 3 // 2)
    assert FeatureStore(tmp_path, base, images).fill(base, ["a.png", "b.png"]) == 2
    assert sorted(batches) == [["a.png"], ["b.png"]]


def test_a_store_that_was_cut_off_goes_on_where_it_stopped(base, images, tmp_path, monkeypatch):
    store, write = FeatureStore(tmp_path, base, images), FeatureStore._write

    def cut(self, image, *rest):
        if image == "b.png":
            raise KeyboardInterrupt
        write(self, image, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(FeatureStore, "_write", cut)
        store.fill(base, ["a.png", "b.png"], batch=1)
    assert store.missing(["a.png", "b.png"]) == ["b.png"]
    assert FeatureStore(tmp_path, base, images).fill(base, ["a.png", "b.png"]) == 1


@pytest.mark.parametrize("left", [0, 100, 500])
def test_a_file_that_was_cut_off_is_made_again(base, images, tmp_path, left):
    """By a drive or a copy: our own files are renamed when they are whole."""
    store = FeatureStore(tmp_path, base, images)
    store.fill(base, ["a.png", "b.png"])
    whole = store.load("a.png").clone()
    store.path("a.png").write_bytes(store.path("a.png").read_bytes()[:left])
    assert store.missing(["a.png", "b.png"]) == ["a.png"] and store.fill(base, ["a.png", "b.png"]) == 1
    torch.testing.assert_close(store.load("a.png"), whole)


def test_what_is_on_a_drive_that_is_away_for_a_moment_is_not_missing(base, images, tmp_path):
    store = FeatureStore(tmp_path, base, images)
    store.fill(base, ["a.png"])
    drop_drive(tmp_path, 0.3)
    assert store.missing(["a.png", "b.png"]) == ["b.png"]


def test_two_may_fill_a_store_at_once(base, images, tmp_path, monkeypatch):
    """Both find everything missing, both write: what is read meanwhile is whole, and nothing else stays."""
    names, met, write = ["a.png", "b.png"], Barrier(2, timeout=60), FeatureStore._write

    def together(self, *given):
        met.wait()
        write(self, *given)

    stores = [FeatureStore(tmp_path, base, images) for _ in range(2)]
    bases = [base, dataclasses.replace(base, model=copy.deepcopy(base.model))]
    alone = FeatureStore(tmp_path / "alone", base, images)
    alone.fill(base, names)
    monkeypatch.setattr(FeatureStore, "_write", together)
    with ThreadPoolExecutor(2) as pool:
        each = [pool.submit(store.fill, own, names) for store, own in zip(stores, bases, strict=True)]
        assert [one.result() for one in each] == [2, 2]
    for name in names:
        assert torch.equal(stores[0].load(name), alone.load(name))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "alone" not in path.parts]
    assert {*files} == {stores[0].path(name) for name in names}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells what is mapped on Linux only")
def test_features_are_mapped_and_not_read_at_once(maker):
    mapped = maker.store.load("a.png")
    path = str(maker.store.path("a.png"))
    assert path in Path("/proc/self/maps").read_text()
    del mapped
    assert path not in Path("/proc/self/maps").read_text()


def test_a_batch_s_images_are_written_when_the_next_ones_are_begun():
    """So the GPU need not wait for the CPU."""
    seen = []

    def note(what, n):
        seen.append(f"{what} {n}")
        return n

    for n in vision.one_behind(note("begin", n) for n in range(3)):
        note("finish", n)
    assert seen == ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "finish 2"]


def test_the_key_changes_with_everything_the_features_depend_on(base, images, photographs, tmp_path, monkeypatch):
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
    for owner, name in ((vision.transformers, "__version__"), (vision.PIL, "__version__"), (vision, "FEATURES_VERSION")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, "0")
            assert FeatureStore(tmp_path, base, images).path("a.png") != key, f"{owner.__name__} {name}"
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


@pytest.mark.parametrize("workers", [0, 2])
def test_features_are_never_of_other_bytes_than_their_name_says(base, images, tmp_path, workers):
    """Photographs exchanged after the survey: same size in bytes, same date, other pixels; one other side, one damaged."""
    for name, tint in (("x.bmp", "red"), ("y.bmp", "blue"), ("z.bmp", "green"), ("w.bmp", "white")):
        Image.new("RGB", (50, 60), tint).save(tmp_path / name)
    names = ["x.bmp", "y.bmp", "z.bmp", "w.bmp"]
    surveyed = ImageInputs(
        survey_images(ImageFolder(tmp_path), names), images.processor, image_size=56, patch=14, merge=2)
    for name, exchange in (("x.bmp", "yellow"), ("y.bmp", (60, 50)), ("z.bmp", None)):
        before = (tmp_path / name).stat()
        if exchange is None:
            (tmp_path / name).write_bytes(bytes(before.st_size))
        else:
            side, tint = ((50, 60), exchange) if isinstance(exchange, str) else (exchange, "blue")
            Image.new("RGB", side, tint).save(tmp_path / name)
        os.utime(tmp_path / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    plan = dataclasses.replace(base.plan, workers=workers)
    store = FeatureStore(tmp_path / "features", dataclasses.replace(base, plan=plan), surveyed)
    with pytest.raises(DataError, match=r"3 photographs have changed since the data was examined, first .*\.bmp") as message:
        store.fill(dataclasses.replace(base, plan=plan), names)
    assert all(name in str(message.value) for name in names[:3]) and "w.bmp" not in str(message.value)
    assert store.missing(names) == names[:3] and [p for p in tmp_path.rglob("*.npy")] == [store.path("w.bmp")]
    now = ImageInputs(survey_images(ImageFolder(tmp_path), names), images.processor, image_size=56, patch=14, merge=2)
    assert FeatureStore(tmp_path / "features", base, now).fill(base, names) == 2, "the new ones, under their own names"


def test_an_image_that_overflows_half_precision_is_done_again_in_float32(base, images, tmp_path):
    """A large weight planted in the last block's down projection, as reported for Qwen2.5-VL-3B. Of two images one overflows:
    it has the features of float32, the other one its own of float16, bit for bit."""
    half = dataclasses.replace(
        base, model=copy.deepcopy(base.model).half(), plan=dataclasses.replace(base.plan, dtype=torch.float16)
    )
    names = ["a.png", "b.png"]
    patches, grids = [images.patches(n) for n in names], [images.grid(n) for n in names]

    def plant(module, given, made):  # too large for float16, in the first image only
        return torch.where(torch.arange(len(made))[:, None] < math.prod(grids[0]), made * 1e6, made)

    half.vision.blocks[-1].mlp.down_proj.register_forward_hook(plant)
    before = {n: b.dtype for n, b in half.vision.named_buffers()}
    encoding = vision.start_encoding(half, torch.cat(patches), grids, names)
    plain = encoding.features.split([image_tokens(grid, half.merge) for grid in grids])
    assert [bool(torch.isfinite(f).all()) for f in plain] == [False, True], "the plant must overflow, or this shows nothing"
    features, again = vision.finished(half, encoding)
    assert again == ["a.png"] and torch.equal(features[1], plain[1])
    assert {feature.dtype for feature in features} == {torch.float16}
    assert next(half.vision.parameters()).dtype == torch.float16, "the tower is given back in half precision"
    assert {n: b.dtype for n, b in half.vision.named_buffers()} == before, "and its rotary frequencies as they were"
    store, counted = FeatureStore(tmp_path, half, images), []
    for _ in range(2):
        store.fill(half, ["a.png"])
        counted.append(store.overflowed)
    assert counted == [1, 0], "the second time there is nothing to do"
    cast_weights(half.vision, torch.float32)
    with torch.no_grad():
        wanted = vision.tower_features(half.vision, patches[0], grids[:1])
    assert torch.equal(features[0], wanted.half()) and wanted.abs().max() < 100


def test_features_have_one_row_per_token(base, maker, images):
    rows, columns = images.grid("a.png")[1:]
    assert maker.store.load("a.png").shape == (rows * columns // 4, 256)
    assert np.isfinite(maker.store.load("a.png").numpy()).all()


def test_a_maker_travels_to_loader_processes_without_the_model(maker):
    import pickle  # what multiprocessing does with it

    assert len(pickle.dumps(maker)) < 2_000_000
    assert isinstance(pickle.loads(pickle.dumps(maker)), RowMaker)


def test_features_do_not_depend_on_who_computes_them_or_on_what_is_there(base, images, tmp_path):
    """An image's last bit depends on the images beside it in its batch."""
    names = ["a.png", "b.png"]
    alone, shared = (FeatureStore(tmp_path / name, base, images) for name in ("alone", "shared"))
    assert alone.fill(base, names, batch=1) == 2
    assert [shared.fill(base, names, batch=1, share=(part, 2)) for part in (0, 1)] == [1, 1]
    before = [alone.load(name).clone() for name in names]
    alone.path("b.png").unlink()
    assert alone.fill(base, names, batch=1) == 1
    for name, kept in zip(names, before, strict=True):
        assert torch.equal(alone.load(name), kept) and torch.equal(shared.load(name), kept)
