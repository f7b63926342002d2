"""Applies augmentations: the photograph or the question of a training row changes each time it is trained on.

`image_augmentation` selects changes of photographs; a user's function may change both photograph and question. Image features are
cached per photograph, so they cannot be used here: changed photographs go through the vision tower in every step. Scoring never
sees a changed row.
"""
import contextlib
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from mcvqa.config import McvqaError
from mcvqa.data.image_changes import changed_image
from mcvqa.data.images import ImageRecord, open_image
from mcvqa.data.questions import Question
from mcvqa.model.families.family import Grid, image_grid
from mcvqa.model.fast.forward import Batch
from mcvqa.model.plain import PlainBatch, PlainMaker, PlainRow
from mcvqa.model.rows import Maker, RowMaker
from mcvqa.model.text.encode import Row
from mcvqa.model.vision.patches import ImageInputs

Augment = Callable[[Image.Image, Question], tuple[Image.Image, Question]]


class AugmentError(McvqaError, RuntimeError):
    """Raised if a user's augmentation fails, or does not return a photograph and a question."""


@dataclass
class Augmentation:
    """Holds the changed photographs of the rows being made, by the names their rows use for them.

    Args:
        augment: the user's function; None: there is none.
        changes: what may be done to photographs, as in `image_augmentation`.
        records: survey of the photographs.
    """

    augment: Augment | None
    changes: tuple[str, ...]
    records: dict[str, ImageRecord]
    pictures: dict[str, Image.Image] = field(default_factory=dict)

    def changed(self, question: Question, generator: np.random.Generator) -> Question:
        """Change the photograph by the settings, then photograph and question by the user's function.

        Args:
            question: the row.
            generator: generator of the row in this epoch; seeds `random` and `numpy.random` for the call.

        Returns:
            The question, which names its changed photograph.

        Raises:
            AugmentError: the function raised an error, or returned something else.
        """
        path = self.records[question.image].path
        assert path is not None, "rows without a photograph are not learned from"
        with _seeded_by(generator):
            picture, other = changed_image(open_image(path), question, self.changes), question
            if self.augment:
                picture, other = _changed_by_user(self.augment, picture, question)
        name = f"{question.id} (changed)"
        self.pictures[name] = picture.convert("RGB")
        return replace(other, image=name)


def _changed_by_user(augment: Augment, image: Image.Image, question: Question) -> tuple[Image.Image, Question]:
    try:
        changed: Any = augment(image, question)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{line.filename}, line {line.lineno}"
        raise AugmentError(f"augment= raised {type(error).__name__} at the row {question.id!r}: {error} ({at}).") from error
    picture, other = changed if isinstance(changed, tuple) and len(changed) == 2 else (None, None)
    if not isinstance(picture, Image.Image) or not isinstance(other, Question) or other.id != question.id or (
        len(other.choices) != len(question.choices)
    ):
        raise AugmentError(
            f"augment= gave {changed!r:.200} for the row {question.id!r}: return (image, question), a PIL image and the "
            "question, maybe changed by dataclasses.replace, with its id and as many choices."
        )
    return picture, other


@contextlib.contextmanager
def _seeded_by(generator: np.random.Generator) -> Iterator[None]:
    """Within the block, seed the global generators: loader processes are copies of one process, and would draw the same
    numbers."""
    before, seed = (random.getstate(), np.random.get_state()), int(generator.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


class AugmentedInputs(ImageInputs):
    """Prepares changed photographs for the vision tower, and any other one as before."""

    def __init__(self, images: ImageInputs, augmentation: Augmentation) -> None:
        super().__init__(
            images.records, images.processor, image_size=images.image_size, patch=images.patch, merge=images.merge)
        self.augmentation = augmentation

    def grid(self, image: str, scale: float = 1.0) -> Grid | None:
        if image not in self.augmentation.pictures:
            return super().grid(image, scale)
        width, height = self.augmentation.pictures[image].size
        return image_grid(width, height, self.pixels(scale), patch=self.patch, merge=self.merge)

    def patches(self, image: str, scale: float = 1.0) -> torch.Tensor:
        if image not in self.augmentation.pictures:
            return super().patches(image, scale)
        return self.patches_of(self.augmentation.pictures[image], scale)


@dataclass(frozen=True, kw_only=True)
class AugmentingRowMaker(RowMaker):
    """Makes augmented training rows on the fast path."""

    augmentation: Augmentation

    def batch(self, rows: Sequence[Row], scale: float = 1.0) -> Batch:
        batch = super().batch(rows, scale)
        self.augmentation.pictures.clear()
        return batch


@dataclass(frozen=True, kw_only=True)
class AugmentingPlainMaker(PlainMaker):
    """Makes augmented training rows on the plain path."""

    augmentation: Augmentation

    def row(self, question: Question, orders: np.ndarray | None = None, scale: float = 1.0) -> PlainRow:
        if question.image not in self.augmentation.pictures:
            return super().row(question, orders, scale)
        return self.encoder.encode(question, orders, with_image=True)

    def photograph(self, image: str | None, scale: float = 1.0) -> Image.Image | None:
        return self.augmentation.pictures[image] if image in self.augmentation.pictures else super().photograph(image, scale)

    def batch(self, rows: Sequence[PlainRow], scale: float = 1.0) -> PlainBatch:
        batch = super().batch(rows, scale)
        self.augmentation.pictures.clear()
        return batch


def augmenting(maker: Any, augment: Augment | None, changes: tuple[str, ...] = ()) -> Maker:
    """Return a maker that augments training rows.

    Args:
        maker: maker of the run.
        augment: the user's function, (image, question) -> (image, question); None: there is none.
        changes: changes of photographs, as in `image_augmentation`.
    """
    if isinstance(maker, PlainMaker):
        augmentation = Augmentation(augment, changes, maker.records)
        return AugmentingPlainMaker(encoder=maker.encoder, records=maker.records, augmentation=augmentation)
    augmentation = Augmentation(augment, changes, maker.images.records)
    return AugmentingRowMaker(
        encoder=maker.encoder, images=AugmentedInputs(maker.images, augmentation), store=None, recurrent=maker.recurrent,
        augmentation=augmentation,
    )
