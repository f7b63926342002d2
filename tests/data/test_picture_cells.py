"""Photographs in the cells of a table."""
import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from mcvqa.data.picture_cells import write_picture_cells
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError


def encoded(color: str, form: str = "PNG") -> str:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(content, form)
    return base64.b64encode(content.getvalue()).decode()


def rows_with(*images: str) -> list[Question]:
    return [Question(str(i), image, "?", ("x", "y")) for i, image in enumerate(images)]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_photograph_in_a_cell_becomes_a_file(tmp_path: Path, form: str) -> None:
    red = encoded("red", form)
    cells = red, "train/1.jpg", f"data:image/png;base64,{red}", encoded("blue", form)
    rows, count = write_picture_cells(rows_with(*cells), tmp_path)
    assert count == 2 and rows[0].image == rows[2].image != rows[3].image and rows[1].image == "train/1.jpg"
    with Image.open(tmp_path / rows[0].image.partition("/")[2]) as picture:
        assert picture.size == (8, 8) and picture.format == form


def test_a_photograph_that_is_cut_off_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image cell of the row '1' is incomplete"):
        write_picture_cells(rows_with("a.jpg", encoded("red")[:-3]), tmp_path)


def test_paths_are_left_as_they_are(tmp_path: Path) -> None:
    paths = ["a" * 80, "train/" + "b" * 80 + ".jpg", "iVBOR.png", "", "사진/가.jpg"]
    rows, count = write_picture_cells(rows_with(*paths), tmp_path)
    assert [row.image for row in rows] == paths and not count
