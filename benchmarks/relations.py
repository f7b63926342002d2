"""Relations of coloured shapes in pictures of 75 x 75 pixels, by the ordinary path: in the spirit of Sort-of-CLEVR
(Santoro et al. 2017, "A simple neural network module for relational reasoning"), drawn and worded by us.

    python benchmarks/relations.py --out OUT [--rows 8000]

Six things a picture, each in a colour of its own, circles and squares ten pixels wide. Asked about one thing: its shape,
which half it is in. Asked about relations: the shape of the nearest and of the furthest thing, and how many things have
the same shape. No margin is kept: two things may be almost equally near, as in the original.
"""
import argparse
import csv
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mcvqa.base.uncertainty import accuracy_of
from mcvqa.config import load_config, parse_changes
from mcvqa.data.answers import LETTERS
from mcvqa.run.dataset import read_data
from mcvqa.run.demo import answers_of_test, read_submission
from mcvqa.run.project import open_project
from mcvqa.run.steps import run

SIDE, HALF = 75, 5  # pixels: of a picture, and of half a thing
TINTS = {
    "red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "orange": (255, 156, 0), "gray": (128, 128, 128),
    "yellow": (255, 255, 0),
}  # fmt: skip
SETTINGS = dict(
    model_id="tiny", device="cpu", image_size=112, use_kfold=False, lora_r=32, lora_alpha=64, lora_dropout=0.0,
    lora_vision=True, batch_size=16, grad_accum_steps=1, eval_batch_size=64, learning_rate=1e-3, num_epochs=1,
)


# %% pictures and questions
def sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres (6, 2) in pixels, apart by more than a thing's size, and whether each is a circle (6,)."""
    centres: list[np.ndarray] = []
    while len(centres) < len(TINTS):
        new = rng.integers(HALF, SIDE - HALF, 2)
        if all(np.abs(new - old).max() > 2 * HALF for old in centres):
            centres.append(new)
    return np.array(centres), rng.random(len(TINTS)) < 0.5


def draw_things(centres: np.ndarray, circles: np.ndarray) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    pen = ImageDraw.Draw(picture)
    for (x, y), circle, tint in zip(centres.tolist(), circles, TINTS.values(), strict=True):
        (pen.ellipse if circle else pen.rectangle)((x - HALF, y - HALF, x + HALF, y + HALF), tint)
    return picture


def asked(rng: np.random.Generator, centres: np.ndarray, circles: np.ndarray) -> list[tuple[str, str, list[str], str]]:
    """(relational or not, question, choices, answer), six of one picture."""
    shapes = ["circle", "square"]
    shape = ["circle" if circle else "square" for circle in circles]

    def one() -> tuple[int, str]:
        i = int(rng.integers(len(TINTS)))
        return i, f"the {list(TINTS)[i]} object"

    (a, name_a), (b, name_b), (c, name_c), (d, name_d), (e, name_e) = (one() for _ in range(5))
    far = [np.hypot(*(centres - centres[i]).T) for i in (c, d)]
    far[0][c] = np.inf
    said = shapes[int(rng.integers(2))]
    halves = ("left", "right", "left half", 0) if rng.random() < 0.5 else ("top", "bottom", "top half", 1)
    where = halves[int(centres[b][halves[3]] > SIDE / 2)]
    first = halves[0]
    return [
        ("one thing", f"What is the shape of {name_a}?", shapes, shape[a]),
        ("one thing", f"Is {name_b} on the {first} or the {halves[1]} of the image?", [first, halves[1]], where),
        ("one thing", f"Is {name_b} a {said}?", ["yes", "no"], "yes" if said == shape[b] else "no"),
        ("relations", f"What is the shape of the object closest to {name_c}?", shapes, shape[int(far[0].argmin())]),
        ("relations", f"What is the shape of the object furthest from {name_d}?", shapes, shape[int(far[1].argmax())]),
        ("relations", f"How many objects have the shape of {name_e}?", list("123456"), str(int((circles == circles[e]).sum()))),
    ]


def generate(out: Path, split: str, rows: int, rng: np.random.Generator) -> list[str]:
    """Writes pictures and tables; returns the sort of each question."""
    (out / split).mkdir(parents=True, exist_ok=True)
    lines, sorts = [], []
    for number in range(-(-rows // 6)):
        centres, circles = sample(rng)
        draw_things(centres, circles).save(out / split / f"{number}.png")
        for sort, question, choices, answer in asked(rng, centres, circles):
            order = rng.permutation(len(choices)) if len(choices) == 2 else np.arange(len(choices))
            shown = [choices[i] for i in order]
            cells = [*shown, *[""] * (6 - len(shown))]
            lines.append([f"{split}_{len(lines)}", f"{split}/{number}.png", question, *cells, LETTERS[shown.index(answer)]])
            sorts.append(sort)
    header = ["id", "path", "question", *"abcdef", "answer"]
    write(out / f"{split}.csv", [header, *lines] if split == "train" else [row[:-1] for row in (header, *lines)])
    if split == "test":
        write(out / "test_answers.csv", [["id", "answer"], *([row[0], row[-1]] for row in lines)])
    return sorts


def write(file: Path, rows: list[list[str]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8000, help="training rows")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="other settings, name=value")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    generate(options.out / "data", "train", options.rows, rng)
    sorts = np.array(generate(options.out / "data", "test", 3000, rng))
    config = load_config(changes=SETTINGS | dict(
        data_dir=str(options.out / "data"), output_dir=str(options.out), run_name="relations", num_epochs=options.epochs,
    ) | parse_changes(options.set))
    started = time.time()
    run(config)
    project = open_project(config)
    predicted, answers = read_submission(project), answers_of_test(read_data(project))
    for sort in ("one thing", "relations"):
        print(f"{sort}: {accuracy_of(predicted[sorts == sort], answers[sorts == sort])}")
    print(f"this call took {(time.time() - started) / 60:.1f} min")
