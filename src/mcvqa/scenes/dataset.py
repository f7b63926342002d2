"""Generates pictures of coloured shapes with questions whose answers are known: a data set in the competition's format.

It is used for the demo, as input of tests, and for pre-training a small model: seven kinds of questions in Korean and English,
evenly distributed letters, and answers that are hard to guess from the text.
"""
import csv
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mcvqa.base.files import atomic_path, read_json, write_json, write_text
from mcvqa.data.answers import LETTERS
from mcvqa.data.kinds import BASIC_KINDS
from mcvqa.scenes.ask import Asked, ask
from mcvqa.scenes.draw import draw
from mcvqa.scenes.scene import Scene, describe, pick_some, sample_scene
from mcvqa.scenes.words import LANGUAGES

SCENES_VERSION = 3  # raise it when the same seed gives other scenes or questions
LANGUAGE_SHARES = (0.35, 0.65)  # English, Korean
QUESTIONS_PER_PICTURE = 4


def generate_demo(
    out_dir: str | Path, n_train: int, n_test: int, seed: int, *, size: int = 84, style: str = "plain"
) -> None:
    """Write train.csv, test.csv, sample_submission.csv, test_answers.csv and the pictures, unless they exist.

    Args:
        out_dir: the folder.
        n_train, n_test: numbers of rows; about four questions share a picture.
        seed: seed of the data.
        size: side of the pictures in pixels.
        style: see `sample_scene`.

    Raises:
        FileExistsError: the folder contains another train.csv, which is never overwritten.
    """
    out = Path(out_dir)
    wanted = dict(version=SCENES_VERSION, n_train=n_train, n_test=n_test, seed=seed, size=size, style=style)
    note = out / "scenes.json"
    if note.exists() and read_json(note) == wanted | {"complete": True}:
        return
    if (out / "train.csv").exists() and not note.exists():
        raise FileExistsError(f"{out}/train.csv was not generated here: choose an empty folder for the demo data.")
    for stale in out.glob("t*/scene_*.png"):
        stale.unlink()
    write_json(note, wanted | {"complete": False})
    for split, n_rows, split_seed in (("train", n_train, [seed, 0]), ("test", n_test, [seed, 1])):
        rows = list(_demo_rows(n_rows, np.random.default_rng(split_seed), style))
        for number, scene in {number: scene for number, scene, _ in rows}.items():
            with atomic_path(out / split / f"scene_{number:05d}.png") as part:
                draw(scene, size).save(part, "PNG")
        _write_split(out, split, [(number, asked) for number, _, asked in rows])
    write_json(note, wanted | {"complete": True})


DEMO_ROWS = (600, 200)  # training, test


def write_demo_data(folder: str | Path, seed: int) -> None:
    """Write the data of the demo: pictures in colours and wordings that `tiny` has not seen."""
    generate_demo(folder, *DEMO_ROWS, seed=seed, size=96, style="shifted")


def scene_sentences() -> Iterator[str]:
    """Yield the texts on which the tokenizer of `tiny` was trained: descriptions of scenes, and questions about them."""
    random = np.random.default_rng(0)
    for style in ("plain", "shifted"):
        for _ in range(150):
            scene = sample_scene(random, style)
            for language in ("ko", "en"):
                yield describe(scene, language)
                for kind in BASIC_KINDS:
                    if asked := ask(scene, random, language, kind, 4):
                        yield " ".join([asked.text, *asked.choices])


def _write_split(out: Path, split: str, rows: list[tuple[int, Asked]]) -> None:
    table = [
        (f"{split}_{i:05d}", f"{split}/scene_{number:05d}.png", asked.text, *(asked.choices + ("",) * 4)[:4])
        for i, (number, asked) in enumerate(rows)
    ]
    answers = [LETTERS[asked.answer] for _, asked in rows]
    ids, columns = [row[0] for row in table], ("id", "path", "question", *LETTERS[:4])
    if split == "train":
        answered = [(*row, answer) for row, answer in zip(table, answers, strict=True)]
        _write_csv(out / "train.csv", (*columns, "answer"), answered)
        return
    _write_csv(out / "test.csv", columns, table)
    _write_csv(out / "test_answers.csv", ("id", "answer"), zip(ids, answers, strict=True))
    _write_csv(out / "sample_submission.csv", ("id", "answer"), ((name, "a") for name in ids))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_text(path, text.getvalue())


def _demo_rows(n_rows: int, rng: np.random.Generator, style: str) -> Iterable[tuple[int, Scene, Asked]]:
    """Yield (picture, its scene, a question): alternating kinds, evenly distributed letters, answers that are hard to guess."""
    kinds = itertools.chain.from_iterable(pick_some(rng, BASIC_KINDS, len(BASIC_KINDS)) for _ in itertools.count())
    letters = {n: itertools.cycle(range(n)) for n in (2, 3, 4)}
    guesser, done = Guesser(), 0
    for number in itertools.count():
        if done >= n_rows:
            return
        wanted = list(itertools.islice(kinds, min(QUESTIONS_PER_PICTURE, n_rows - done)))
        scene, questions = _scene_for(wanted, rng, style, guesser)
        for asked in questions:
            guesser.learn(asked)
            yield number, scene, _with_answer_at(asked, next(letters[len(asked.choices)]))
        done += len(questions)


def _scene_for(
    kinds: list[str], rng: np.random.Generator, style: str, guesser: "Guesser"
) -> tuple[Scene, list[Asked]]:
    """Make a scene for which all these kinds of questions can be asked, and the questions."""
    while True:
        scene, questions = sample_scene(rng, style), []
        for kind in kinds:
            n_choices = 2 if kind == "yesno" else 3 if rng.random() < 0.15 else 4
            language = LANGUAGES[int(rng.choice(2, p=LANGUAGE_SHARES))]
            tries = [asked for _ in range(6) if (asked := ask(scene, rng, language, kind, n_choices))]
            if not tries:
                break
            questions.append(min(tries, key=guesser.guessability))
        if len(questions) == len(kinds):
            return scene, questions


def _with_answer_at(asked: Asked, slot: int) -> Asked:
    choices = list(asked.choices)
    choices[slot], choices[asked.answer] = choices[asked.answer], choices[slot]
    return Asked(asked.kind, asked.topic, asked.text, tuple(choices), slot)


class Guesser:
    """Tracks how easily an answer is guessed without the picture: how often it was right when it was offered."""

    def __init__(self) -> None:
        self.offered: Counter[tuple[str, str]] = Counter()  # (topic, choice)
        self.excess: dict[tuple[str, str], float] = defaultdict(float)  # times it was right, less what chance gives

    def guessability(self, asked: Asked) -> float:
        """Return by how many standard errors, beyond one, the answer is right too often; 0 for most answers.

        Correcting chance deviations would make the *rarer* answer the better guess.
        """
        key = asked.topic, asked.choices[asked.answer].split()[-1]
        return max(0.0, self.excess[key] / (self.offered[key] + 1) ** 0.5 / 0.43 - 1)  # 0.43: one in four, binomial

    def learn(self, asked: Asked) -> None:
        for i, choice in enumerate(asked.choices):
            key = asked.topic, choice.split()[-1]
            self.offered[key] += 1
            self.excess[key] += (i == asked.answer) - 1 / len(asked.choices)
