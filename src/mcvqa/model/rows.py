"""Turns questions and photographs into batches of tensors, for both training and scoring."""
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from mcvqa.model.distributed import by_each, by_main, divided, interruptible, progress
from mcvqa.model.fast.forward import Answering, AskedRows, Batch, collate, read_letters
from mcvqa.model.halving import HalvingReader
from mcvqa.model.memory import Trial, free_memory, measure_pass
from mcvqa.model.text.encode import Encoder, Row
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs


class Maker(Protocol):
    """Makes rows and batches of one run: RowMaker here, PlainMaker in model/plain.py.

    Rows may be of any type that has a length, `image` (a path or None), `orders` (K, C), `letters` (K, C) and `target` (C,).
    """

    def row(self, question: Question, orders: np.ndarray | None = None, scale: float = 1.0) -> Any: ...

    def batch(self, rows: Sequence[Any], scale: float = 1.0) -> AskedRows: ...

    def tokens(self, row: Any) -> int: ...

    def positions(self, row: Any) -> int: ...

    def conversation(self, question: Question, answer: str | None = None) -> list[int]: ...

    def prompt_inputs(self, row: Any) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class RowMaker:
    """Makes rows and batches of one run, for models with a fast path.

    Attributes:
        encoder: encodes the text.
        images: prepares the photographs.
        store: precomputed features; None: patches are prepared each time, for a vision tower that is trained.
        recurrent: whether the model belongs to a recurrent family.
    """

    encoder: Encoder
    images: ImageInputs
    store: FeatureStore | None
    recurrent: bool = False

    def row(self, question: Question, orders: np.ndarray | None = None, scale: float = 1.0) -> Row:
        return self.encoder.encode(question, orders, self.images.grid(question.image, scale))

    def image(self, row: Row, scale: float = 1.0) -> torch.Tensor:
        """Return features or patches of the image of a row that has one."""
        assert row.image is not None
        return self.store.load(row.image, scale) if self.store else self.images.patches(row.image, scale)

    def batch(self, rows: Sequence[Row], scale: float = 1.0) -> Batch:
        return collate(rows, lambda row: self.image(row, scale), self.encoder.image_token_id, patches=self.store is None,
                       recurrent=self.recurrent)

    def tokens(self, row: Row) -> int:
        """Count the tokens of a row in the forward pass; in a batch it shares some with other rows."""
        return len(row)

    def positions(self, row: Row) -> int:
        """Count the positions of the row's longest prompt; a photograph has fewer positions than tokens."""
        return int(row.position_ids.max()) + 1

    def conversation(self, question: Question, answer: str | None = None) -> list[int]:
        """Return the tokens of the prompt in the original order; with `answer`, of the whole training conversation."""
        return self.encoder.prompt_tokens(question, range(len(question.choices)), self.images.grid(question.image), answer)

    def prompt_inputs(self, row: Row) -> dict[str, torch.Tensor]:
        """Make the inputs of the library's own forward pass for a row with one order."""
        ids = torch.from_numpy(row.input_ids)[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if row.image is not None:
            inputs["mm_token_type_ids"] = (ids == self.encoder.image_token_id).int()
            inputs["pixel_values"] = self.images.patches(row.image)
            inputs["image_grid_thw"] = torch.tensor([row.grid])
        return inputs


# %% training rows: new choice orders and wording in every epoch
def row_generator(seed: int, epoch: int, name: str) -> np.random.Generator:
    """Make the random generator of one row in one epoch, independent of batch and process.

    Args:
        seed: seed of training.
        epoch: number of the epoch, from 0.
        name: id of the row.
    """
    return np.random.default_rng([seed, epoch, zlib.crc32(name.encode())])


def training_row(maker: Maker, question: Question, epoch: int, config: Config) -> Any:
    """Make the augmented training row of an epoch.

    The choices are shuffled along with the answer, the ending is paraphrased, and the user's own function is applied.

    Args:
        maker: makes rows.
        question: the question.
        epoch: number of the epoch, from 0.
        config: all settings.
    """
    random = row_generator(config.training_seed, epoch, question.id)
    orders = training_orders(question.choices, config, random)
    if config.use_augmentation and random.random() < config.aug_prob:
        question = replace(question, text=paraphrase(question.text, random))
    if augmentation := getattr(maker, "augmentation", None):
        question = augmentation.changed(question, random)
    return maker.row(question, orders)


def training_orders(choices: Sequence[str], config: Config, random: np.random.Generator) -> np.ndarray:
    """Draw the orders (K, C) trained in one pass: a random one and its rotations, so that each choice appears in K slots.

    Choices that refer to others ("all of the above") keep their slots.

    Args:
        choices: C texts.
        config: all settings.
        random: generator of the row.
    """
    def rotated(n_choices: int) -> np.ndarray:
        order = random.permutation(n_choices) if config.shuffle_choices else np.arange(n_choices)
        turns = np.arange(k := min(config.train_orders, n_choices)) * n_choices // k
        return order[(np.arange(n_choices) + turns[:, None]) % n_choices]

    return orders_around_fixed(choices, rotated)


LONGEST_CANDIDATES = 256  # rows with the most text, among which those with the most tokens are searched


def longest_training_rows(maker: Maker, questions: Sequence[Question], config: Config) -> list[Any]:
    """Make training rows in the order of `longest_first`, including the longest of all (photographs have similar token
    counts)."""
    return longest_first([training_row(maker, question, 0, config) for question in wordiest(questions, LONGEST_CANDIDATES)])


def longest_first(rows: Sequence[Any]) -> list[Any]:
    """Sort rows by length, those whose photograph a longer row has last.

    Rows on one photograph share its tokens, so the first n take the most memory of any n rows.
    """
    by_length, seen = sorted(rows, key=len, reverse=True), set()
    again = []
    for row in by_length:
        again.append(row.image is not None and row.image in seen)
        seen.add(row.image)
    return [row for _, row in sorted(zip(again, by_length, strict=True), key=lambda pair: pair[0])]


def wordiest(questions: Sequence[Question], count: int) -> list[Question]:
    """Return the `count` questions with the most text, longest first."""
    return sorted(questions, key=lambda question: -len(question.text) - sum(map(len, question.choices)))[:count]


class TrainingRows(Dataset):
    """Makes batches of training rows by (epoch, row numbers).

    A batch is a pure function of its key, so loader processes hold no state.
    """

    def __init__(self, maker: Maker, questions: Sequence[Question], config: Config) -> None:
        self.maker, self.questions, self.config = maker, questions, config

    def __getitem__(self, key: tuple[int, tuple[int, ...]]) -> AskedRows:
        epoch, numbers = key
        return self.maker.batch([training_row(self.maker, self.questions[i], epoch, self.config) for i in numbers])


class Encoding(Dataset):
    """Encodes rows of some questions at one image scale, by question numbers."""

    def __init__(self, maker: Maker, questions: Sequence[Question], orders: Sequence[np.ndarray | None], scale: float) -> None:
        self.maker, self.questions, self.orders, self.scale = maker, questions, orders, scale

    def __getitem__(self, numbers: range) -> list[Any]:
        return [self.maker.row(self.questions[i], self.orders[i], self.scale) for i in numbers]


def encode_rows(
    maker: Maker, questions: Sequence[Question], orders: Sequence[np.ndarray | None], workers: int, scale: float = 1.0
) -> list[Any]:
    """Encode all questions, with `workers` loader processes if there are enough questions to be worth starting them.

    Args:
        maker: makes rows.
        questions: the questions.
        orders: (K, C) option orders of each question; None: the original one.
        workers: number of loader processes.
        scale: image scale.
    """
    parts = [range(start, min(start + 64, len(questions))) for start in range(0, len(questions), 64)]
    batches = Batches(Encoding(maker, questions, orders, scale), parts, workers if len(parts) > 8 else 0, pin=False)
    return by_each(lambda: [row for part in interruptible(batches) for row in part])


class ScoringRows(Dataset):
    """Makes batches of encoded rows at one image scale, by row numbers."""

    def __init__(self, maker: Maker, rows: Sequence[Any], scale: float) -> None:
        self.maker, self.rows, self.scale = maker, rows, scale

    def __getitem__(self, numbers: tuple[int, ...]) -> AskedRows:
        return self.maker.batch([self.rows[i] for i in numbers], self.scale)


FEWEST_AT_ONCE = 8  # in a pass of scoring; on a CPU more are no faster
FEWEST_PASSES = 16  # with fewer, trying larger passes would take longer than it saves


def rows_per_pass(
    model: Answering, maker: Maker, rows: Sequence[Any], config: Config, plan: DevicePlan, scale: float = 1.0
) -> int:
    """Choose the rows of one scoring pass: as set or, on a GPU, doubled from 8 on as long as that is 5 % faster and
    leaves at least FEWEST_PASSES. A doubling gains about half of what the one before gained.

    This is measured with the longest rows; with several processes by the main process for all of them.

    Args:
        model: computes logits.
        maker: makes batches.
        rows: encoded rows.
        config: all settings.
        plan: device and precision.
        scale: image scale.
    """
    if config.eval_batch_size or plan.device != "cuda" or len(rows) < 2 * FEWEST_AT_ONCE * FEWEST_PASSES:
        return config.eval_batch_size or FEWEST_AT_ONCE
    longest = longest_first(rows)

    def measure(count: int) -> Trial | None:
        batch = maker.batch(longest[:count], scale)
        with torch.autocast(plan.device, dtype=plan.dtype, enabled=plan.amp):
            return measure_pass(count, False, lambda: read_letters(model, [batch], plan.device), 0, plan.limits)

    def measured() -> int:
        best, gain = measure(FEWEST_AT_ONCE), 2.0
        if best is None:
            return FEWEST_AT_ONCE  # halved until they fit
        while gain > 1.1 and 2 * best.rows * FEWEST_PASSES <= len(rows) and (more := measure(2 * best.rows)):
            gain = more.rate / best.rate
            best = more if gain > 1.05 else best
        free_memory()
        tqdm.write(f"  {best.rows} rows at a time: {best.rate:.0f} rows/s where they are longest")
        return best.rows

    return by_main(measured)


@dataclass
class KnownPasses:
    """Remembers how many rows a pass has, by image scale, so that it is not measured again without need.

    Attributes:
        found: scale -> (rows of a pass, number of rows it was measured with).
    """

    found: dict[float, tuple[int, int]] = field(default_factory=dict)

    def rows(
        self, model: Answering, maker: Maker, rows: Sequence[Any], config: Config, plan: DevicePlan, scale: float = 1.0
    ) -> int:
        """Return the rows of a pass; `rows_per_pass` is called again only if more rows could make larger passes.

        Args:
            model, maker, rows, config, plan, scale: see `rows_per_pass`.
        """
        size, measured = self.found.get(scale, (0, 0))
        if len(rows) > measured and measured < 2 * FEWEST_PASSES * max(size, FEWEST_AT_ONCE):
            size = rows_per_pass(model, maker, rows, config, plan, scale)
            self.found[scale] = size, len(rows)
        return size


def read_rows(
    model: Answering, maker: Maker, rows: Sequence[Any], batch_size: int, plan: DevicePlan, *,
    scale: float = 1.0, title: str = "scoring", share: Callable[[list[int]], list[int]] = list,
) -> list[np.ndarray]:
    """Compute letter log-probabilities (K, C) of each row, in the order of `rows`.

    Rows with the same picture are batched together, so that it is processed once; pictures are sorted by their longest rows, so
    that batches hold rows of similar length. The batch with the most tokens is first: lack of memory shows at once. Several
    processes divide the batches.

    Args:
        model, maker, rows, plan, scale: see `rows_per_pass`.
        batch_size: rows in one forward pass; halved for all further batches if one does not fit into the GPU's memory.
        title: title of the progress bar.
        share: selects the rows to read from all, sorted; the others are NaN.
    """
    longest: dict[str | None, int] = defaultdict(int)  # row length per picture
    for row in rows:
        longest[row.image] = max(longest[row.image], len(row))
    order = share(sorted(range(len(rows)), key=lambda i: (-longest[rows[i].image], rows[i].image or "", -len(rows[i]))))
    keys = [tuple(order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
    keys.sort(key=lambda key: -sum({rows[i].image or i: len(rows[i]) for i in reversed(key)}.values()))  # pictures once

    def read(part: Sequence[tuple[int, ...]]) -> list[list[np.ndarray]]:
        dataset = ScoringRows(maker, rows, scale)
        batches = progress(Batches(dataset, part, plan.workers, pin=plan.device == "cuda"), desc=title, unit="batch")
        halving = HalvingReader(model, dataset, plan.device, batch_size)
        with torch.autocast(plan.device, dtype=plan.dtype, enabled=plan.amp):
            if model.divided:
                return [*model.divided.read_ahead(part, batches, halving)]
            return [halving.read(key, batch) for key, batch in zip(part, batches, strict=True)]

    logprobs = [np.full(row.orders.shape, np.nan) for row in rows]
    for key, results in zip(keys, divided(keys, read), strict=True):
        for i, values in zip(key, results, strict=True):
            logprobs[i] = values
    return logprobs


NEVER = -1e4  # log-probability of a choice without text: it has a letter but cannot be the answer


def without_empty(question: Question, logprobs: np.ndarray) -> np.ndarray:
    """Rule out empty choices (see data/questions.py) in log-probabilities (K, C)."""
    empty = [not choice.strip() for choice in question.choices]
    return np.where(empty, NEVER, logprobs)


# %% optimizer steps of an epoch
def epoch_windows(n_rows: int, epoch: int, config: Config) -> Iterator[np.ndarray]:
    """Yield the row numbers of each optimizer step of an epoch; the last step may have fewer rows.

    Args:
        n_rows: number of training rows.
        epoch: number of the epoch, from 0.
        config: all settings.
    """
    order = np.random.default_rng([config.training_seed, epoch]).permutation(n_rows)
    for start in range(0, n_rows, config.effective_batch):
        yield order[start : start + config.effective_batch]
