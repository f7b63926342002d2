"""The embedded model: its files load as they were trained, and it sees what it says it sees."""
import csv

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoModelForImageTextToText, AutoTokenizer

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.kinds import question_kind
from mcvqa.data.questions import read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.tiny import build_tiny, tiny_folder, tiny_tokenizer
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scenes.small import small_demo_sentences
from mcvqa.scoring.score import score_questions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("random"))


def test_the_files_are_small_and_load_by_the_library(folder):
    assert (folder / "model.safetensors").stat().st_size <= 16_000_000
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert model.config.model_type == "qwen2_5_vl" and sum(p.numel() for p in model.parameters()) == 7_826_656


SPOKEN = ("a. 3\nb. 12\nc. 도형 5개", "<|im_start|>user\nHow many 'A7' shapes are there?<|im_end|>", "½ café 빨간색")


def test_a_loaded_tokenizer_splits_words_as_in_training(tmp_path):
    """Qwen2Tokenizer did not: it split digits off, and the model counted, but nobody could tell."""
    loaded, trained = AutoTokenizer.from_pretrained(build_tiny(tmp_path / "random")), tiny_tokenizer(small_demo_sentences())
    for text in SPOKEN:
        assert loaded.encode(text) == trained.encode(text) == trained.backend_tokenizer.encode(text).ids
        assert loaded.decode(loaded.encode(text)) == text


def test_the_packaged_tokenizer_splits_words_as_its_file_says(folder):
    loaded, trained = AutoTokenizer.from_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in SPOKEN:
        assert loaded.encode(text) == trained.encode(text).ids
        assert loaded.decode(loaded.encode(text)) == text


def test_it_answers_what_it_has_never_seen(folder, tmp_path):
    """Ten times less rows than in the model card, so wider limits than its intervals."""
    generate_demo(tmp_path, 0, 140, seed=99, size=112)
    questions = read_questions(tmp_path / "test.csv", labelled=False).questions
    with open(tmp_path / "test_answers.csv", encoding="utf-8", newline="") as handle:
        answers = np.array([LETTERS.index(row["answer"]) for row in csv.DictReader(handle)])
    config = Config(model_id=str(folder), device="cpu", image_size=168, eval_batch_size=32)
    base = load_base(config, plan_device(config))
    records = survey_images(ImageFolder(tmp_path), [q.image for q in questions])
    images = ImageInputs(records, base.processor, image_size=168, patch=base.patch, merge=base.merge)
    store = FeatureStore(tmp_path / "features", base, images)
    store.fill(base, list(dict.fromkeys(q.image for q in questions)))
    maker = RowMaker(base.encoder, images, store)
    right = score_questions(base.model, base, maker, questions, config, {}).predictions() == answers
    kinds = np.array([question_kind(q) for q in questions])
    assert right.mean() > 0.92
    assert min(right[kinds == kind].mean() for kind in np.unique(kinds)) > 0.7
