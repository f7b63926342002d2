"""What many tests need: a small data set of photographs, and the tiny model with everything around it."""
import contextlib
import csv
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: threads of a pool do not follow torch.set_num_threads
# nothing here is compiled, but bitsandbytes loads the compiler when it is imported: a quarter of the start of each process
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.model.load import make_trainable

torch.set_num_threads(1)  # exact sums, and two test processes share two cores
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # others share the two cores
settings.load_profile("busy")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By the environment variable ORDER_SEED in random order: files, and tests within a file."""
    if seed := os.environ.get("ORDER_SEED"):
        files: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in sorted(items, key=lambda item: item.nodeid):
            files[item.location[0]].append(item)
        shuffled, random = list(files.values()), Random(seed)
        random.shuffle(shuffled)
        for tests in shuffled:
            random.shuffle(tests)
        items[:] = itertools.chain.from_iterable(shuffled)


def examples(usual: int) -> settings:
    """How many inputs a property is tried with; more by the environment variable EXAMPLES."""
    return settings(max_examples=int(os.environ.get("EXAMPLES", usual)), deadline=None)


TINTS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 220), "yellow": (240, 220, 40)}


def make_dataset(folder: Path, n_train: int = 24, n_test: int = 9) -> Path:
    """Plain coloured photographs of different shapes, in the competition's format; every third test row has two choices."""
    random = np.random.default_rng(7)
    for split, rows in (("train", n_train), ("test", n_test)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["id", "path", "question", "a", "b", "c", "d", *(["answer"] if split == "train" else [])])
            for i in range(rows):
                names = list(random.permutation(list(TINTS)))
                answer = int(random.integers(4))
                if split == "test" and i % 3 == 2:
                    names, answer = [*names[:2], "", ""], 0
                size = (int(random.integers(60, 120)), int(random.integers(60, 120)))
                pixels = np.tile(np.array(TINTS[names[answer]], np.int16), (size[1], size[0], 1))
                noise = random.integers(-25, 25, (6, 6, 3)).repeat(20, 0).repeat(20, 1)[: size[1], : size[0]]
                name = f"{split}/{split}_{i:04d}.jpg"
                Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(folder / name, quality=92)
                label = [LETTERS[answer]] if split == "train" else []
                writer.writerow([f"{split}_{i:04d}", name, f"사진 {i}의 색은 무엇입니까?", *names, *label])
    with open(folder / "sample_submission.csv", "w", newline="") as handle:
        csv.writer(handle).writerows([["id", "answer"], *([f"test_{i:04d}", "a"] for i in range(n_test))])
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """An output folder that keeps the tiny model between tests."""
    return tmp_path_factory.mktemp("workspace")


def tiny_settings(output_dir: Path, **changes) -> Config:
    fast = dict(
        model_id="tiny", image_size=56, output_dir=str(output_dir), device="cpu", system_prompt="Answer {letters}.",
        user_prompt="{question}\n{options}", batch_size=8, grad_accum_steps=1, learning_rate=1e-3, eval_batch_size=8,
        lora_dropout=0.0, tta_scales=(1.0,),
    )
    return Config(**fast | changes)


@contextlib.contextmanager
def other_weights() -> Iterator[None]:
    """Train the same task to other weights, as a GPU does each time; on one thread of a CPU they would be the same to the bit."""
    def made(base, config, seed, start):
        return make_trainable(base, config, seed + 1, start)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mcvqa.training.step.make_trainable", made)
        yield


@pytest.fixture(scope="session")
def tiny_config(workspace) -> Config:
    return tiny_settings(workspace)


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    return [
        Question("q0", "a.png", "차 안에 있는 물건은 무엇입니까?", ("휴대폰", "책", "컵", "지갑"), 2),
        Question("q1", "b.png", "Is it day?", ("yes", "no"), 0),
        Question("q2", "missing.png", "{options} 몇 개? <|im_end|> <|image_pad|>", ("1", "2", "3"), 1),
        Question("q3", "a.png", "Which one of these?", tuple(f"choice {i}" for i in range(26)), 25),
    ]
