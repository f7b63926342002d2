"""Questions and photographs -> batches: the way of a row from text to tensors, for training and scoring alike."""
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from mcvqa.config import Config
from mcvqa.data.meta_choices import orders_around_fixed
from mcvqa.data.paraphrase import paraphrase
from mcvqa.data.questions import Question
from mcvqa.model.batches import Batches
from mcvqa.model.device import DevicePlan
from mcvqa.model.distributed import by_each, divided, interruptible, progress
from mcvqa.model.fast.forward import Answering, AskedRows, Batch, collate, read_letters
from mcvqa.model.memory import free_memory
from mcvqa.model.text.encode import Encoder, Row
from mcvqa.model.vision.features import FeatureStore, ImageInputs


class Maker(Protocol):
    """Makes rows and batches of one run: RowMaker here, PlainMaker in model/plain.py. Its rows are its own affair, but each
    has a length, `image` (a path or None), `orders` (K, C), `letters` (K, C) and `target` (C,).
    """

    def row(self, question: Question, orders: np.ndarray | None = None, scale: float = 1.0) -> Any: ...

    def batch(self, rows: Sequence[Any], scale: float = 1.0) -> AskedRows: ...

    def copies(self, row: Any, count: int) -> AskedRows: ...

    def tokens(self, row: Any) -> int: ...

    def positions(self, row: Any) -> int: ...

    def conversation(self, question: Question, answer: str | None = None) -> list[int]: ...

    def prompt_inputs(self, row: Any) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class RowMaker:
    """Makes rows of one run, for the models that have a fast path.

    Attributes:
        encoder: text side.
        images: photograph side.
        store: features computed once; None: patches are made anew each time, for a vision tower that is trained.
    """

    encoder: Encoder
    images: ImageInputs
    store: FeatureStore | None
    recurrent: bool = False

    def row(self, question: Question, orders: np.ndarray | None = None, scale: float = 1.0) -> Row:
        return self.encoder.encode(question, orders, self.images.grid(question.image, scale))

    def image(self, row: Row, scale: float = 1.0) -> torch.Tensor:
        """Features or patches of the image of a row that has one."""
        assert row.image is not None
        return self.store.load(row.image, scale) if self.store else self.images.patches(row.image, scale)

    def batch(self, rows: Sequence[Row], scale: float = 1.0) -> Batch:
        return collate(rows, lambda row: self.image(row, scale), self.encoder.image_token_id, patches=self.store is None,
                       recurrent=self.recurrent)

    def copies(self, row: Row, count: int) -> Batch:
        """The row so many times, each copy with tokens and an image of its own: no rows of its length take more memory."""
        return collate([row] * count, self.image, self.encoder.image_token_id, patches=self.store is None, sharing=False,
                       recurrent=self.recurrent)

    def tokens(self, row: Row) -> int:
        """Tokens that go through the model for a row by itself; beside others it shares some."""
        return len(row)

    def positions(self, row: Row) -> int:
        """How many positions the longest of its prompts takes; those of a photograph are fewer than its tokens."""
        return int(row.position_ids.max()) + 1

    def conversation(self, question: Question, answer: str | None = None) -> list[int]:
        """Tokens of the prompt in the original order; with `answer`, of the whole training conversation."""
        return self.encoder.prompt_tokens(question, range(len(question.choices)), self.images.grid(question.image), answer)

    def prompt_inputs(self, row: Row) -> dict[str, torch.Tensor]:
        """What the library's own forward pass takes for a row of one order."""
        ids = torch.from_numpy(row.input_ids)[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if row.image is not None:
            inputs["mm_token_type_ids"] = (ids == self.encoder.image_token_id).int()
            inputs["pixel_values"] = self.images.patches(row.image)
            inputs["image_grid_thw"] = torch.tensor([row.grid])
        return inputs


# %% training rows: a new order of the choices and a new wording at every epoch
def row_generator(seed: int, epoch: int, name: str) -> np.random.Generator:
    """The random numbers of one row in one epoch, whatever batch or process it is made in."""
    return np.random.default_rng([seed, epoch, zlib.crc32(name.encode())])


def training_row(maker: Maker, question: Question, epoch: int, config: Config) -> Any:
    """The row as it is learned in `epoch`: choices shuffled, ending paraphrased, the answer following."""
    random = row_generator(config.seed, epoch, question.id)
    orders = training_orders(question.choices, config, random)
    if config.use_augmentation and random.random() < config.aug_prob:
        question = replace(question, text=paraphrase(question.text, random))
    return maker.row(question, orders)


def training_orders(choices: Sequence[str], config: Config, random: np.random.Generator) -> np.ndarray:
    """(K, C) orders learned in one pass: a random one, and the same turned round, so that each choice stands in K slots.

    Choices that speak of the others stay where they are.
    """
    def turned(n_choices: int) -> np.ndarray:
        order = random.permutation(n_choices) if config.shuffle_choices else np.arange(n_choices)
        turns = np.arange(k := min(config.train_orders, n_choices)) * n_choices // k
        return order[(np.arange(n_choices) + turns[:, None]) % n_choices]

    return orders_around_fixed(choices, turned)


LOOKED_AT = 256  # rows with most text, of which the one with most tokens is looked for


def longest_row(maker: Maker, questions: Sequence[Question], config: Config) -> Any:
    """The longest training row: the worst case for memory, near enough (a photograph's tokens hardly differ)."""
    return max((training_row(maker, question, 0, config) for question in wordiest(questions, LOOKED_AT)), key=len)


def wordiest(questions: Sequence[Question], count: int) -> list[Question]:
    """The `count` rows with most text, the longest first."""
    return sorted(questions, key=lambda question: -len(question.text) - sum(map(len, question.choices)))[:count]


class TrainingRows(Dataset):
    """Batches of training rows by (epoch, row numbers): pure functions of the key, so workers hold no state."""

    def __init__(self, maker: Maker, questions: Sequence[Question], config: Config) -> None:
        self.maker, self.questions, self.config = maker, questions, config

    def __getitem__(self, key: tuple[int, tuple[int, ...]]) -> AskedRows:
        epoch, numbers = key
        return self.maker.batch([training_row(self.maker, self.questions[i], epoch, self.config) for i in numbers])


class Encoding(Dataset):
    """Rows of some questions at one image scale, by the questions' numbers."""

    def __init__(self, maker: Maker, questions: Sequence[Question], orders: Sequence[np.ndarray | None], scale: float) -> None:
        self.maker, self.questions, self.orders, self.scale = maker, questions, orders, scale

    def __getitem__(self, numbers: range) -> list[Any]:
        return [self.maker.row(self.questions[i], self.orders[i], self.scale) for i in numbers]


def encode_rows(
    maker: Maker, questions: Sequence[Question], orders: Sequence[np.ndarray | None], workers: int, scale: float = 1.0
) -> list[Any]:
    """The rows of all questions, encoded by `workers` processes where there are enough to be worth starting them.

    Args:
        orders: (K, C) option orders of each question; None: the original one.
    """
    parts = [range(start, min(start + 64, len(questions))) for start in range(0, len(questions), 64)]
    made = Batches(Encoding(maker, questions, orders, scale), parts, workers if len(parts) > 8 else 0, pin=False)
    return by_each(lambda: [row for part in interruptible(made) for row in part])


class ScoringRows(Dataset):
    """Batches of encoded rows at one image scale, by row numbers."""

    def __init__(self, maker: Maker, rows: Sequence[Any], scale: float) -> None:
        self.maker, self.rows, self.scale = maker, rows, scale

    def __getitem__(self, numbers: tuple[int, ...]) -> AskedRows:
        return self.maker.batch([self.rows[i] for i in numbers], self.scale)


def read_rows(
    model: Answering, maker: Maker, rows: Sequence[Any], batch_size: int, plan: DevicePlan, *,
    scale: float = 1.0, title: str = "scoring",
) -> list[np.ndarray]:
    """Letter log-probabilities (K, C) of each row, in the order of `rows`.

    Rows on the same picture go side by side, for it is then computed once; pictures come by their longest rows, so that
    batches hold rows of like length. The batch with most tokens goes first: memory trouble shows at once. Several processes
    divide the batches.

    Args:
        batch_size: rows in one forward pass; a batch that does not fit into the GPU's memory is halved, and so are the next.
    """
    longest: dict[str | None, int] = defaultdict(int)  # row of each picture
    for row in rows:
        longest[row.image] = max(longest[row.image], len(row))
    order = sorted(range(len(rows)), key=lambda i: (-longest[rows[i].image], rows[i].image or "", -len(rows[i])))
    keys = [tuple(order[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    keys.sort(key=lambda key: -sum({rows[i].image or i: len(rows[i]) for i in reversed(key)}.values()))  # a picture counts once

    def read(own: Sequence[tuple[int, ...]]) -> list[list[np.ndarray]]:
        dataset = ScoringRows(maker, rows, scale)
        batches = progress(Batches(dataset, own, plan.workers, pin=plan.device == "cuda"), desc=title, unit="batch")
        halving = HalvingReader(model, dataset, plan.device, batch_size)
        with torch.autocast(plan.device, dtype=plan.dtype, enabled=plan.amp):
            return [halving.read(key, batch) for key, batch in zip(own, batches, strict=True)]

    logprobs: list[np.ndarray] = [np.empty(0)] * len(rows)
    for key, found in zip(keys, divided(keys, read), strict=True):
        for i, values in zip(key, found, strict=True):
            logprobs[i] = values
    return logprobs


@dataclass
class HalvingReader:
    """Reads batches, in halves from where the GPU's memory runs out.

    Attributes:
        most: rows that are read at once.
    """

    model: Answering
    dataset: ScoringRows
    device: str
    most: int

    def read(self, key: tuple[int, ...], batch: AskedRows | None = None) -> list[np.ndarray]:
        """Letter log-probabilities (K, C) of each row of `key`. Args: batch: of these rows, where it is made already."""
        found = self._within_memory(key, batch) if len(key) <= self.most else None
        if found is None:
            middle = (len(key) + 1) // 2
            found = self.read(key[:middle]) + self.read(key[middle:])
        return found

    def _within_memory(self, key: tuple[int, ...], batch: AskedRows | None) -> list[np.ndarray] | None:
        try:
            return read_letters(self.model, [self.dataset[key] if batch is None else batch], self.device)
        except torch.cuda.OutOfMemoryError:
            if len(key) == 1:
                raise
        self.most = (len(key) + 1) // 2
        tqdm.write(f"  the GPU's memory was full: from here on {self.most} row{'s' * (self.most > 1)} at a time")
        free_memory()
        return None


NEVER = -1e4  # log-probability of a choice without text: its letter is taken, but it is no answer


def without_empty(question: Question, logprobs: np.ndarray) -> np.ndarray:
    """(K, C) `logprobs` with gaps between the choices (see data/questions.py) ruled out."""
    empty = [not choice.strip() for choice in question.choices]
    return np.where(empty, NEVER, logprobs)


# %% the course of an epoch
def epoch_windows(n_rows: int, epoch: int, config: Config) -> Iterator[np.ndarray]:
    """Row numbers of each optimizer step of an epoch; the last, smaller window counts too."""
    order = np.random.default_rng([config.seed, epoch]).permutation(n_rows)
    for start in range(0, n_rows, config.effective_batch):
        yield order[start : start + config.effective_batch]
