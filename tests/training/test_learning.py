"""That it learns: adapters and all weights, generated and real questions."""
from pathlib import Path

import pytest

from mcvqa.base.files import RunLog
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base, remove_adapters
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.training.job import FoldJob
from mcvqa.training.loop import train_fold

EASYVQA = Path(__file__).parents[3] / "shared" / "data" / "easyvqa"


@pytest.mark.torture  # many steps; that the loss falls is in test_loop.py
def test_adapters_alone_fit_a_few_rows(make_trainer):
    trainer = make_trainer(num_epochs=60, learning_rate=4e-3, lora_r=16, lora_alpha=64, use_ema=False, keep="last",
                           shuffle_choices=False, warmup_ratio=0.1)
    few = trainer.train[:8]
    assert trainer.change(train=few, validation=few).run().accuracy.value == 1.0


@pytest.mark.nightly
@pytest.mark.skipif(not EASYVQA.exists(), reason="the real data is not beside the checkout")
def test_real_rows_are_fitted(tiny_config, tmp_path):
    """64 questions in a prompt that `tiny` has never seen: not all are right before training, all are after it."""
    rows = read_questions(EASYVQA / "train.csv").questions[:64]
    config = tiny_config.replace(
        image_size=112, lora_r=16, lora_alpha=32, num_epochs=5, learning_rate=2e-3, eval_batch_size=32,
        use_ema=False, keep="last", warmup_ratio=0.1,
    )
    base = load_base(config, plan_device(config))
    records = survey_images(ImageFolder(EASYVQA), [q.image for q in rows])
    images = ImageInputs(records, base.processor, image_size=112, patch=base.patch, merge=base.merge)
    store = FeatureStore(tmp_path / "features", base, images)
    store.fill(base, [q.image for q in rows])
    maker = RowMaker(base.encoder, images, store)

    def accuracy_after(epochs: int) -> float:
        settings = config.replace(num_epochs=epochs)
        job = FoldJob(settings, base, maker, rows, rows, 0, tmp_path / f"fold{epochs}", RunLog(tmp_path / "log.jsonl"))
        result = train_fold(job)
        remove_adapters(base, result.model)
        return result.accuracy.value

    assert accuracy_after(0) < 0.96
    assert accuracy_after(5) == 1.0
