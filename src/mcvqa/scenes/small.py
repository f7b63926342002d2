"""Generates the notebook's demo in the competition's format.

It has pictures of coloured shapes and four questions in Korean about each. The answers follow from how a picture was drawn. Each
letter is right equally often and all names are drawn at random, so the texts alone reveal nothing. To add a color or shape, add a
line to a table below.
"""
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mcvqa.base.files import atomic_path, read_json, write_json, write_text
from mcvqa.data.answers import LETTERS

SMALL_DEMO_ROWS = (600, 200)  # training, test; four questions share a picture
SMALL_DEMO_VERSION = "small 1"  # change it when the same seed gives other pictures or questions
SMALL_DEMO_SIZE = 96  # pixels

PAINTS = {  # paler than what `tiny` was trained on
    "빨간색": (240, 75, 70), "초록색": (80, 175, 85), "파란색": (85, 110, 235), "노란색": (250, 235, 85),
    "주황색": (245, 150, 60), "보라색": (160, 85, 195), "분홍색": (250, 180, 205), "회색": (165, 160, 155),
    "갈색": (150, 100, 70),
}  # fmt: skip
BOARDS = ((26, 32, 62), (24, 48, 40), (44, 36, 44))
OUTLINES = {  # corners, degrees of the first one, radius of every second one, width
    "원": (48, 0, 1, 1), "직사각형": (4, 45, 1, 1.3), "삼각형": (3, -90, 1, 1), "별": (10, -90, 0.42, 1),
    "마름모": (4, -90, 1, 0.58), "육각형": (6, 0, 1, 1),
}  # fmt: skip
CELL_NAMES = (
    "왼쪽 위", "위쪽 가운데", "오른쪽 위", "왼쪽 가운데", "한가운데", "오른쪽 가운데",
    "왼쪽 아래", "아래쪽 가운데", "오른쪽 아래",
)  # fmt: skip
NUMBERS = ("1", "2", "3", "4")
SMALL_FORMS = (
    "그림 속 {}에 칠한 색은 무엇인가요?", "{}으로 칠한 도형의 모양은 무엇인가요?",
    "그림에 있는 {} 모양을 세어 보면 모두 몇 개인가요?", "그림을 아홉 칸으로 나눌 때 {}의 자리는 어디인가요?",
)  # fmt: skip


class Painted(NamedTuple):
    """Describes one shape in a picture: no two in a picture have the same color or cell."""

    color: str
    shape: str
    cell: str


def painted_shapes(rng: np.random.Generator, number: int) -> list[Painted]:
    """Place two shapes that are the only ones of their kind, then `number` that differ only in color."""
    first, second, alike, *_ = rng.permutation(list(OUTLINES)).tolist()
    shapes = [first, second, *[alike] * number]
    colors, cells = rng.permutation(list(PAINTS)).tolist(), rng.permutation(CELL_NAMES).tolist()
    return [Painted(*one) for one in zip(colors, shapes, cells, strict=False)]


def paint(rng: np.random.Generator, shapes: Sequence[Painted]) -> Image.Image:
    """Draw the picture larger and average it down for smooth edges."""
    side = 3 * SMALL_DEMO_SIZE
    picture = Image.new("RGB", (side, side), BOARDS[rng.integers(len(BOARDS))])
    for one in shapes:
        corners, start, inner, width = OUTLINES[one.shape]
        angles = np.radians(start + rng.uniform(-10, 10) + np.arange(corners) * 360 / corners)
        outline_N2 = np.stack([width * np.cos(angles), np.sin(angles)], 1) * np.resize((1, inner), corners)[:, None]
        row, column = divmod(CELL_NAMES.index(one.cell), 3)
        center = (np.array((column, row)) + 0.5) / 3 + rng.uniform(-0.04, 0.04, 2)  # with its radius, still inside the cell
        points = (center + rng.uniform(0.08, 0.12) * outline_N2) * side
        red, green, blue = (int(value + rng.integers(-5, 6)) for value in PAINTS[one.color])
        ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in points], (red, green, blue))
    return picture.reduce(3)


def small_questions(rng: np.random.Generator, shapes: Sequence[Painted], slots: Sequence[int]) -> Iterator[list[str]]:
    """Make the text and choices of up to four questions.

    Args:
        rng: source of randomness.
        shapes: the picture.
        slots: slots of their answers.
    """
    any_one, other = (shapes[i] for i in rng.permutation(len(shapes))[:2])
    colors, kinds, cells = zip(*shapes, strict=True)
    asked = (
        (shapes[0].shape, shapes[0].color, colors, list(PAINTS)), (any_one.color, any_one.shape, kinds, list(OUTLINES)),
        (shapes[-1].shape, str(len(shapes) - 2), NUMBERS, NUMBERS),
        (f"{other.color} {other.shape}", other.cell, cells, CELL_NAMES),
    )  # fmt: skip
    for form, (about, answer, seen, names), slot in zip(SMALL_FORMS, asked, slots, strict=False):
        # what else can be seen in the picture comes before what cannot
        others = dict.fromkeys(rng.permutation(seen).tolist() + rng.permutation(names).tolist())
        wrong = [name for name in others if name != answer][:3]
        yield [form.format(about), *wrong[:slot], answer, *wrong[slot:]]


def small_demo_sentences() -> list[str]:
    """List all possible questions and answers, form by form and name by name."""
    return [*SMALL_FORMS, " ".join([*PAINTS, *OUTLINES, *CELL_NAMES, *NUMBERS])]


# %% files
def write_small_demo(folder: str | Path, seed: int) -> None:
    """Write train.csv, test.csv, test_answers.csv, sample_submission.csv and the pictures, unless they exist.

    Args:
        folder: the folder.
        seed: seed of the data.

    Raises:
        FileExistsError: the folder contains another train.csv, which is never overwritten.
    """
    folder = Path(folder)
    note, wanted = folder / "scenes.json", dict(version=SMALL_DEMO_VERSION, rows=[*SMALL_DEMO_ROWS], seed=seed)
    if note.exists() and read_json(note) == wanted | {"complete": True}:
        return
    if (folder / "train.csv").exists() and not note.exists():
        raise FileExistsError(f"{folder}/train.csv was not generated here: choose an empty folder for the demo data.")
    for stale in folder.glob("t*/scene_*.png"):
        stale.unlink()
    write_json(note, wanted | {"complete": False})
    train = _small_split(folder, "train", SMALL_DEMO_ROWS[0], np.random.default_rng([seed, 0]))
    test = _small_split(folder, "test", SMALL_DEMO_ROWS[1], np.random.default_rng([seed, 1]))
    header = ["id", "path", "question", *LETTERS[:4], "answer"]
    tables = {
        "train": [header, *train], "test": [row[:-1] for row in (header, *test)],
        "test_answers": [[row[0], row[-1]] for row in (header, *test)],
        "sample_submission": [["id", "answer"], *([row[0], "a"] for row in test)],
    }  # fmt: skip
    for name, table in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table)
        write_text(folder / f"{name}.csv", text.getvalue())
    write_json(note, wanted | {"complete": True})


def _small_split(folder: Path, split: str, n_rows: int, rng: np.random.Generator) -> list[list[str]]:
    """Draw the pictures of one file and return its rows, answers last."""
    rows: list[list[str]] = []
    slots = rng.permutation(np.resize(np.arange(4), n_rows)).tolist()
    numbers = rng.permutation(np.resize(np.arange(1, 5), -(-n_rows // 4))).tolist()
    for picture, number in enumerate(numbers):
        path, shapes = f"{split}/scene_{picture:05d}.png", painted_shapes(rng, number)
        with atomic_path(folder / path) as part:
            paint(rng, shapes).save(part, "PNG")
        for question in small_questions(rng, shapes, slots[4 * picture :][:4]):
            rows.append([f"{split}_{len(rows):05d}", path, *question, LETTERS[slots[len(rows)]]])
    return rows
