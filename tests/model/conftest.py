"""The tiny base model, loaded once, and photographs for it."""
import numpy as np
import pytest
from PIL import Image

from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.model.device import plan_device
from mcvqa.model.load import BaseModel, load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs


@pytest.fixture(scope="session")
def base(tiny_config) -> BaseModel:
    return load_base(tiny_config, plan_device(tiny_config))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(3)
    for name, size in (("a.png", (90, 60)), ("b.png", (40, 150))):
        Image.fromarray(random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def images(base, photographs, questions, tiny_config) -> ImageInputs:
    records = survey_images(ImageFolder(photographs), [q.image for q in questions])
    return ImageInputs(records, base.processor, image_size=tiny_config.image_size, patch=base.patch, merge=base.merge)


@pytest.fixture(scope="session")
def maker(base, images, tmp_path_factory) -> RowMaker:
    store = FeatureStore(tmp_path_factory.mktemp("features"), base, images)
    store.fill(base, ["a.png", "b.png"])
    store.fill(base, ["a.png", "b.png"], 1.5)
    return RowMaker(base.encoder, images, store)
