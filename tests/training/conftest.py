"""A fold of the small data set of coloured photographs."""

import pytest

from mcvqa.base.files import RunLog
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.training.job import FoldJob
from tests.training.fold import Fold


@pytest.fixture(scope="session")
def make_trainer(dataset, tiny_config, tmp_path_factory):
    """make_trainer(rows=..., **settings) -> a Fold with a base model of its own."""
    questions = read_questions(dataset / "train.csv", labelled=True).questions
    records = survey_images(ImageFolder(dataset), [q.image for q in questions])
    features = tmp_path_factory.mktemp("features")

    def make(rows=questions, validation=questions[:8], fold=0, **changes) -> Fold:
        config = tiny_config.replace(**changes)
        base = load_base(config, plan_device(config))
        images = ImageInputs(records, base.processor, image_size=56, patch=base.patch, merge=base.merge)
        store = FeatureStore(features, base, images) if config.lora_r else None
        if store:
            store.fill(base, [q.image for q in questions])
        folder = tmp_path_factory.mktemp("fold")
        maker = RowMaker(base.encoder, images, store)
        return Fold(FoldJob(config, base, maker, rows, validation, fold, folder, RunLog(folder / "log.jsonl")))

    return make
