"""That it learns: adapters and all weights, generated and real questions."""
import dataclasses
from pathlib import Path

import pytest

from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import read_questions
from mcvqa.files import RunLog
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision import ImageInputs
from mcvqa.training.loop import FoldTrainer

EASYVQA = Path(__file__).parents[3] / "shared" / "data" / "easyvqa"


def test_adapters_alone_fit_a_few_rows(make_trainer):
    trainer = make_trainer(num_epochs=60, learning_rate=4e-3, lora_r=16, lora_alpha=64, use_ema=False, keep="last",
                           shuffle_choices=False, warmup_ratio=0.1)
    few = trainer.train[:8]
    trainer.train, trainer.validation = few, few
    assert trainer.run().accuracy.value == 1.0


@pytest.mark.skipif(not EASYVQA.exists(), reason="the real data is not beside the checkout")
def test_real_rows_are_fitted(tiny_config, tmp_path):
    rows = read_questions(EASYVQA / "train.csv").questions[:64]
    config = dataclasses.replace(
        tiny_config, lora_r=0, num_epochs=9, batch_size=16, eval_batch_size=32, shuffle_choices=False, use_ema=False, keep="last",
        warmup_ratio=0.1, system_prompt="?",
    )
    base = load_base(config, plan_device(config))
    records = survey_images(ImageFolder(EASYVQA), [q.image for q in rows])
    images = ImageInputs(records, base.processor, image_size=56, patch=base.patch, merge=base.merge)
    maker = RowMaker(base.encoder, images, None, base.pad_id)
    # six passes between validations, which would cost a quarter of each
    trainer = FoldTrainer(config, base, maker, rows * 6, rows, 0, tmp_path / "fold", RunLog(tmp_path / "log.jsonl"))
    # the most frequent answer alone gives 0.58; see DECISIONS for the last rows
    assert trainer.run().accuracy.value >= 0.85
