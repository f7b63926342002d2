"""Implements the plain path: any vision-language model, through its own forward pass.

It uses only the model's processor, chat template and output: every option order of a question is a separate prompt, the
photograph is encoded again for each, and the logits are read at the prompt's last token. This is slower than the path for Qwen's
models, and correct for all.

Shapes: B rows, K option orders, C choices, N prompts in one forward pass, L tokens, V vocabulary.
"""
import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from torch import nn

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.images import ImageRecord, open_image
from mcvqa.data.questions import Question
from mcvqa.data.targets import answer_target
from mcvqa.model.families.family import Family
from mcvqa.model.fast.forward import Answering, stack_letters
from mcvqa.model.fast.overflow import layer_parts
from mcvqa.model.text.template import AlignmentError, ChatTemplate, Letters, special_tokens, verified_letters


# %% one row
@dataclass(frozen=True)
class PlainRow:
    """Holds one question as K prompts, one for each option order.

    Attributes:
        id: id of the question.
        image: path as written in the CSV; None: the row has no image.
        texts: K prompts as rendered by the chat template, with a single placeholder for the image.
        letters: (K, C) int64, token of the letter under which original choice c is shown in order k.
        orders: (K, C) int64, `orders[k, slot]` is the original choice shown in that slot.
        target: (C,) float32, target probability of each original choice; all zero if the answer is not known.
    """

    id: str
    image: str | None
    texts: tuple[str, ...]
    letters: np.ndarray
    orders: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        """Return the characters of the longest prompt, to batch rows of similar length."""
        return max(map(len, self.texts))


class PlainEncoder:
    """Turns questions into rows, and prompts into model inputs, with the processor of the model.

    Args:
        processor: processor of the model, with its chat template.

    Raises:
        AlignmentError: the template omits the question, the processor rejects the prompt, or a letter is not a separate
            token after the prompt.
    """

    def __init__(self, processor: Any, config: Config) -> None:
        self.processor, self.config, self.tokenizer = processor, config, processor.tokenizer
        placeholder = getattr(processor, "image_token", None)
        special = special_tokens(self.tokenizer, *([placeholder] if placeholder else []))
        self.template = ChatTemplate(processor, config, special, keep_empty=False)
        letters = self._verified_letters()
        self.letter_tokens, self.rendered = letters.tokens, letters.rendered

    def encode(self, question: Question, orders: np.ndarray | None = None, *, with_image: bool) -> PlainRow:
        """Encode one question.

        Args:
            question: the question.
            orders: (K, C) option orders; None: the original one.
            with_image: whether the prompt has a photograph.
        """
        orders = np.arange(len(question.choices))[None] if orders is None else np.asarray(orders, dtype=np.int64)
        return PlainRow(
            id=question.id, image=question.image if with_image else None,
            texts=tuple(self.template.text(question, order, with_image=with_image) for order in orders),
            letters=self.letter_tokens[np.argsort(orders, axis=1)], orders=orders,
            target=answer_target(question, soft_votes=self.config.soft_votes),
        )

    def adds_special_tokens(self, text: str) -> bool:
        """Return whether the tokenizer adds its special tokens to a prompt: not a second start token to the template's."""
        start = self.tokenizer.bos_token
        return not (start and text.startswith(start))

    def inputs(self, texts: Sequence[str], photographs: Sequence[Image.Image | None]) -> dict[str, torch.Tensor]:
        """Make the model inputs of some prompts, padded on the right, so that no token attends to padding.

        Args:
            texts: the prompts.
            photographs: one per prompt, or all None: not every processor accepts both in one call.
        """
        present = [[photograph] for photograph in photographs if photograph is not None]
        try:
            inputs = self.processor(
                text=list(texts), images=present or None, padding=True, padding_side="right", return_tensors="pt",
                add_special_tokens=self.adds_special_tokens(texts[0]),
            )
        except ValueError as error:
            raise AlignmentError(
                f"{type(self.processor).__name__} rejects a prompt {'with' if present else 'without'} a photograph: {error}"
                "\nThe model must accept both kinds: test rows without a readable photograph are answered from their text."
            ) from error
        if not inputs["attention_mask"][:, 0].all():
            raise AlignmentError(f"{type(self.processor).__name__} pads on the left although it is asked to pad on the right.")
        return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    def prompt_tokens(
        self, question: Question, order: Sequence[int], photograph: Image.Image | None, answer: str | None = None
    ) -> list[int]:
        """Return the tokens of the scoring prompt as the model receives them; with `answer`, of the training conversation.

        Args:
            question: the question.
            order: order of its choices.
            photograph: the picture; None: none.
            answer: letter of the answer.
        """
        if answer is not None and not self.rendered:
            return [*self.prompt_tokens(question, order, photograph), int(self.letter_tokens[LETTERS.index(answer)])]
        text = self.template.text(question, order, answer, with_image=photograph is not None)
        return self._tokens(text, photograph)

    def _tokens(self, text: str, photograph: Image.Image | None) -> list[int]:
        return self.inputs([text], [photograph])["input_ids"][0].tolist()

    def _verified_letters(self) -> Letters:
        """Return the letters, if they are the same with a picture and without one."""
        blank = Image.new("RGB", (64, 64), "gray")
        alone = verified_letters(self.template, self.tokenizer, lambda text: self._tokens(text, None), with_image=False)
        seen = verified_letters(self.template, self.tokenizer, lambda text: self._tokens(text, blank), with_image=True)
        if not np.array_equal(alone.tokens, seen.tokens):
            raise AlignmentError("The letters have different tokens after a prompt with a picture and after one without.")
        return Letters(alone.tokens, alone.rendered and seen.rendered)


# %% rows side by side
@dataclass(frozen=True)
class Prompts:
    """Holds the prompts of one forward pass.

    All are one option order of their rows; either all rows have a photograph or none has.

    Attributes:
        inputs: model inputs by name.
        kept: (P,) positions at which any of the prompts ends.
        end: (N,) index into `kept` of the last token of each prompt.
    """

    inputs: dict[str, torch.Tensor]
    kept: torch.Tensor
    end: torch.Tensor

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Prompts":
        return Prompts({name: change(value) for name, value in self.inputs.items()}, change(self.kept), change(self.end))


@dataclass(frozen=True)
class PlainBatch:
    """Holds a batch of rows, as their prompts.

    Attributes:
        ids: ids of the questions.
        parts: all prompts.
        where: (B, K) index of each prompt among those of all parts, -1 for orders that a row does not have.
        letters: (B, K, C), -1 for orders and choices that a row does not have.
        target: (B, C).
    """

    ids: tuple[str, ...]
    parts: tuple[Prompts, ...]
    where: torch.Tensor
    letters: torch.Tensor
    target: torch.Tensor

    def to(self, device: torch.device | str) -> "PlainBatch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "PlainBatch":
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "PlainBatch":
        return replace(
            self, parts=tuple(part.each(change) for part in self.parts), where=change(self.where),
            letters=change(self.letters), target=change(self.target),
        )


@dataclass(frozen=True)
class PlainMaker:
    """Makes rows and batches of one run, as RowMaker does for models with a fast path.

    Attributes:
        encoder: encodes the text.
        records: survey records of the photographs, by the path written in the CSV.
    """

    encoder: PlainEncoder
    records: dict[str, ImageRecord]

    def row(self, question: Question, orders: np.ndarray | None = None, scale: float = 1.0) -> PlainRow:
        return self.encoder.encode(question, orders, with_image=not self.records[question.image].problem)

    def photograph(self, image: str | None, scale: float = 1.0) -> Image.Image | None:
        """Open the photograph, upright and in RGB, resized by `scale` before the processor resizes it; None: the row has none."""
        path = self.records[image].path if image is not None else None
        if path is None:
            return None
        opened = open_image(path)
        if scale == 1.0:
            return opened
        return opened.resize((max(1, round(opened.width * scale)), max(1, round(opened.height * scale))))

    def batch(self, rows: Sequence[PlainRow], scale: float = 1.0) -> PlainBatch:
        photographs = [self.photograph(row.image, scale) for row in rows]
        alike: dict[tuple[int, bool], list[int]] = defaultdict(list)  # (order, with a photograph) -> rows
        for i, row in enumerate(rows):
            for k in range(len(row.texts)):
                alike[k, row.image is not None].append(i)
        where = np.full((len(rows), max(len(row.texts) for row in rows)), -1, np.int64)
        parts, count = [], 0
        for (k, _), members in alike.items():
            inputs = self.encoder.inputs([rows[i].texts[k] for i in members], [photographs[i] for i in members])
            kept, end = (inputs["attention_mask"].sum(1) - 1).unique(return_inverse=True)
            parts.append(Prompts(inputs, kept, end))
            where[members, k] = count + np.arange(len(members))
            count += len(members)
        letters, target = stack_letters(rows)
        return PlainBatch(tuple(row.id for row in rows), tuple(parts), torch.from_numpy(where), letters, target)

    def tokens(self, row: PlainRow) -> int:
        """Count the tokens of a row in the forward pass: those of all its prompts."""
        inputs = self.encoder.inputs(row.texts, [self.photograph(row.image)] * len(row.texts))
        return int(inputs["attention_mask"].sum())

    def positions(self, row: PlainRow) -> int:
        """Count the tokens of the row's longest prompt."""
        inputs = self.encoder.inputs(row.texts, [self.photograph(row.image)] * len(row.texts))
        return int(inputs["attention_mask"].sum(1).max())

    def conversation(self, question: Question, answer: str | None = None) -> list[int]:
        """Return the tokens of the prompt in the original order; with `answer`, of the whole training conversation."""
        image = None if self.records[question.image].problem else question.image
        return self.encoder.prompt_tokens(question, range(len(question.choices)), self.photograph(image), answer)

    def prompt_inputs(self, row: PlainRow) -> dict[str, torch.Tensor]:
        """Make the inputs of the model's own forward pass for a row with one order."""
        return self.encoder.inputs(row.texts, [self.photograph(row.image)])


# %% the forward pass
class PlainAnswerModel(Answering):
    """Computes the logits after each prompt.

    Args:
        model: base model, with or without adapters.
        family: family of the model.
    """

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.model = model
        core: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self.parts = {"language": core.get_decoder()}
        self.watched = layer_parts(core.get_decoder(), family.layers)
        self.dtype = core.dtype
        self.keeps = "logits_to_keep" in inspect.signature(core.forward).parameters  # skips the output head at other tokens

    def forward(self, batch: PlainBatch) -> torch.Tensor:
        """Compute float32 logits (B, K, V); missing orders repeat those of the last prompt."""
        per_part = []
        for part in batch.parts:
            inputs = {
                name: value.to(self.dtype) if value.is_floating_point() else value for name, value in part.inputs.items()
            }
            if self.keeps:
                logits = self.model(**inputs, use_cache=False, logits_to_keep=part.kept).logits  # (N, P, V)
            else:
                logits = self.model(**inputs, use_cache=False).logits[:, part.kept]
            per_part.append(logits[torch.arange(len(part.end), device=logits.device), part.end].float())
        return torch.cat(per_part)[batch.where]
