"""A user's own augmentation of training rows: what reaches the model, and whose fault an error is."""
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mcvqa.data.images import ImageFolder, survey_images
from mcvqa.data.questions import read_questions
from mcvqa.model.augment import AugmentError, augmenting
from mcvqa.model.load import load_encoder
from mcvqa.model.rows import RowMaker, TrainingRows, training_row
from mcvqa.model.vision.patches import ImageInputs


@pytest.fixture(scope="module")
def made(dataset, tiny_config):
    """(maker without features, questions, settings)"""
    encoder, processor, model_config = load_encoder(tiny_config)
    questions = read_questions(dataset / "train.csv", labelled=True).questions[:6]
    records = survey_images(ImageFolder(dataset), [q.image for q in questions])
    return RowMaker(encoder, ImageInputs.of_model(records, encoder, processor, model_config, 56), None), questions, tiny_config


def same(image, question):
    return image, question


def test_a_function_that_changes_nothing_gives_the_same_batch(made):
    maker, questions, config = made
    plain, augmented = (TrainingRows(m, questions, config)[0, (0, 1, 2)] for m in (maker, augmenting(maker, same)))
    for name in ("input_ids", "position_ids", "images", "grids", "target"):
        torch.testing.assert_close(getattr(augmented, name), getattr(plain, name))


def noisy(image, question):
    shade = random.randrange(256)
    return Image.new("RGB", (200, 50), (shade, shade, np.random.randint(256))), replace(question, text=f"{question.text} {shade}")


def test_photograph_and_question_are_changed_anew_in_each_epoch_and_the_same_when_repeated(made):
    maker, questions, config = made
    rows = TrainingRows(augmenting(maker, noisy), questions, config)
    before = random.getstate()
    first, again, later = (rows[epoch, (0, 1)] for epoch in (0, 0, 1))
    assert random.getstate() == before, "the run's own generators are left alone"
    torch.testing.assert_close(first.images, again.images)
    assert not torch.equal(first.input_ids, later.input_ids) and not torch.equal(first.images, later.images)
    plain = TrainingRows(maker, questions, config)[0, (0, 1)]
    assert first.grids != plain.grids, "the grid is that of the changed photograph"
    assert not rows.maker.augmentation.pictures, "nothing is kept"


def test_photographs_are_changed_as_the_settings_say(made):
    maker, questions, config = made
    plain, unchanged, changed = (
        TrainingRows(m, questions, config) for m in (maker, augmenting(maker, None), augmenting(maker, None, ("crop", "light"))))
    torch.testing.assert_close(unchanged[0, (0, 1)].images, plain[0, (0, 1)].images)
    first, again, later = (changed[epoch, (0, 1)] for epoch in (0, 0, 1))
    torch.testing.assert_close(first.images, again.images)
    assert not torch.equal(first.images, later.images)
    torch.testing.assert_close(first.target, plain[0, (0, 1)].target)
    torch.testing.assert_close(first.letters, plain[0, (0, 1)].letters)


def failing(image, question):
    return 1 / 0


@pytest.mark.parametrize(("augment", "message"), [
    (failing, r"augment= raised ZeroDivisionError at the row 'train_0000': division by zero \(.*test_augment\.py, line \d+\)"),
    (lambda image, question: image, r"augment= gave <PIL.*return \(image, question\)"),
    (lambda image, question: (image, replace(question, choices=question.choices[:2])), "as many choices"),
    (lambda image, question: (image, "What?"), r"return \(image, question\)"),
])
def test_an_error_says_whose_it_is(made, augment, message):
    maker, questions, config = made
    with pytest.raises(AugmentError, match=message):
        training_row(augmenting(maker, augment), questions[0], 0, config)
