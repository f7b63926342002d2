"""Runs without their figures: drawing them is half of a short run, and the tests of figures and one run here do it for real."""
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from mcvqa.base.files import atomic_path
from mcvqa.data import explore
from mcvqa.report import figures


def _blank() -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1), 255).save(file, "png")
    return file.getvalue()


def blank_each(to_draw: Mapping[str, Callable], folder: Path) -> dict[str, Path]:
    """A file of one white pixel for each figure."""
    made = {name: Path(folder) / f"{name}.png" for name in to_draw}
    for file in made.values():
        with atomic_path(file) as part:
            part.write_bytes(_blank())
    return made


@contextmanager
def figures_made_by(draw_each: Callable) -> Iterator[None]:
    """Of all runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (figures, explore):
            patch.setattr(module, "draw_each", draw_each)
        yield


@pytest.fixture(scope="module", autouse=True)
def blank_figures() -> Iterator[None]:
    with figures_made_by(blank_each):
        yield
