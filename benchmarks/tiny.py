"""Evaluates the embedded model `tiny` without fine-tuning: held-out scenes, shifted scenes, and easy-VQA.

    python benchmarks/tiny.py [--easyvqa FOLDER]

Held-out scenes come from a seed that training never used. easy-VQA (Victor Zhou, MIT) is asked with the choices of its CSV
files (two to four a row) and with all thirteen answers of the original test.
"""
import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine import inputs_of
from mcvqa.base.uncertainty import Accuracy, accuracy_of
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.kinds import BASIC_KINDS, basic_kind
from mcvqa.data.questions import Question, read_questions
from mcvqa.model.device import plan_device
from mcvqa.model.load import BaseModel, load_base
from mcvqa.model.rows import RowMaker
from mcvqa.model.vision.features import FeatureStore
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.score import score_questions

EASYVQA_ANSWERS = (
    "yes", "no", "circle", "rectangle", "triangle", "red", "green", "blue", "black", "gray", "teal", "brown", "yellow",
)


def answered(folder: Path) -> list[Question]:
    """The test questions of a folder with their answers."""
    with open(folder / "test_answers.csv", encoding="utf-8", newline="") as handle:
        answers = {row["id"]: LETTERS.index(row["answer"]) for row in csv.DictReader(handle)}
    return [replace(q, answer=answers[q.id]) for q in read_questions(folder / "test.csv", labelled=False).questions]


def zero_shot(base: BaseModel, folder: Path, questions: list[Question], config: Config) -> np.ndarray:
    """(N,) whether each question is answered right by the untouched model."""
    images = inputs_of(base, folder, questions, config)
    with tempfile.TemporaryDirectory() as cache:
        store = FeatureStore(cache, base, images)
        store.fill(base, dict.fromkeys(q.image for q in questions))
        maker = RowMaker(base.encoder, images, store)
        scores = score_questions(base.model, base, maker, questions, config, {})
    return scores.predictions() == np.array([q.answer for q in questions])


def tell(title: str, questions: list[Question], right: np.ndarray) -> None:
    print(f"\n{title}: {accuracy_of(right, np.ones(len(right)))}")
    kinds = np.array([basic_kind(q) for q in questions])
    for kind in BASIC_KINDS:
        if (kinds == kind).any():
            of_kind = Accuracy(int(right[kinds == kind].sum()), int((kinds == kind).sum()))
            low, high = of_kind.interval
            print(f"  {kind:10} {of_kind}  95 % interval {low:.3f} to {high:.3f}")


def with_thirteen(question: Question) -> Question:
    answer = EASYVQA_ANSWERS.index(question.choices[question.answer or 0])
    return replace(question, choices=EASYVQA_ANSWERS, answer=answer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--easyvqa", type=Path, help="folder with train.csv, test.csv, test_answers.csv and the pictures")
    parser.add_argument("--rows", type=int, default=2800, help="questions about held-out scenes")
    parser.add_argument("--model", default="tiny", help="'tiny' or a folder")
    parser.add_argument("--image_size", type=int, default=168)
    options = parser.parse_args()
    config = Config(model_id=options.model, image_size=options.image_size, eval_batch_size=64, device="cpu")
    base = load_base(config, plan_device(config))
    for style in ("plain", "shifted"):
        with tempfile.TemporaryDirectory() as folder:
            generate_demo(folder, 0, options.rows, seed=20261124, size=112, style=style)
            questions = answered(Path(folder))
            tell(f"held-out scenes, {style}", questions, zero_shot(base, Path(folder), questions, config))
    if options.easyvqa:
        questions = answered(options.easyvqa)[: options.rows]
        tell("easy-VQA test, choices of the file", questions, zero_shot(base, options.easyvqa, questions, config))
        thirteen = [with_thirteen(q) for q in questions]
        tell("easy-VQA test, thirteen choices", questions, zero_shot(base, options.easyvqa, thirteen, config))
