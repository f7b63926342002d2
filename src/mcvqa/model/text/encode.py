"""Encodes messages as Row: one shared prefix, then one suffix per option order.

Training and scoring use the same encoder, so their prompts are the same, token for token.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.questions import Question
from mcvqa.data.targets import answer_target
from mcvqa.model.families.family import Grid, image_tokens, token_positions
from mcvqa.model.text.template import AlignmentError, ChatTemplate, special_tokens, verified_letters


@dataclass(frozen=True)
class Row:
    """Holds one question, tokenized, with K option orders.

    Attributes:
        id: id of the question.
        image: path as written in the CSV; None: the row has no image.
        grid: patches (time, rows, columns) of the image, or None.
        input_ids: (L,) int64, the prefix, then the K suffixes.
        position_ids: (3, L) int64 for M-RoPE; every suffix continues from the prefix.
        segment: (L,) int64, 0 in the prefix and k + 1 in suffix k. A token attends to earlier ones of the prefix and its suffix.
        answer_at: (K,) int64, index of the last token of each prompt, whose logits predict the answer.
        letters: (K, C) int64, token of the letter under which original choice c is shown in order k.
        orders: (K, C) int64, `orders[k, slot]` is the original choice shown in that slot.
        target: (C,) float32, target probability of each original choice; all zero if the answer is not known.
    """

    id: str
    image: str | None
    grid: Grid | None
    input_ids: np.ndarray
    position_ids: np.ndarray
    segment: np.ndarray
    answer_at: np.ndarray
    letters: np.ndarray
    orders: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.input_ids)


class Encoder:
    """Turns questions into Rows for one tokenizer and one configuration.

    Args:
        tokenizer: tokenizer with a chat template that renders content lists and one image placeholder.
        image_token_id: token of the placeholder.
        merge: side of the square of patches that is merged into one image token.

    Raises:
        AlignmentError: the template omits the question, or a letter is not a separate token right after the prompt.
    """

    def __init__(self, tokenizer: Any, config: Config, *, image_token_id: int, merge: int) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.image_token_id, self.merge = image_token_id, merge
        self.template = ChatTemplate(tokenizer, config, special_tokens(tokenizer), keep_empty=True)
        letters = verified_letters(self.template, tokenizer, self._tokens, with_image=False)
        self.letter_tokens, self.rendered = letters.tokens, letters.rendered

    # %% one row
    def encode(
        self, question: Question, orders: np.ndarray | None = None, grid: Grid | None = None
    ) -> Row:
        """Encode one question.

        Args:
            question: the question.
            orders: (K, C) option orders; None: the original one.
            grid: patches (time, rows, columns) of the image; None: there is no image.
        """
        n_choices = len(question.choices)
        if orders is None:
            orders = np.arange(n_choices)[None]
        orders = np.asarray(orders, dtype=np.int64)
        prompts = [self.prompt_tokens(question, order, grid) for order in orders]
        shared = _common_prefix(prompts) if len(prompts) > 1 else len(prompts[0])

        # for each whole prompt, because a system_prompt may show the options before the photograph
        positions = [token_positions(np.array(prompt) == self.image_token_id, grid, self.merge) for prompt in prompts]
        input_ids, position_ids = [prompts[0][:shared]], [positions[0][:, :shared]]
        segment, ends = [np.zeros(shared, np.int64)], []
        length = shared
        for k, (prompt, prompt_positions) in enumerate(zip(prompts, positions, strict=True)):
            suffix = prompt[shared:]
            input_ids.append(suffix)
            segment.append(np.full(len(suffix), k + 1, np.int64))
            position_ids.append(prompt_positions[:, shared:])
            length += len(suffix)
            ends.append(length - 1)

        slot_of = np.argsort(orders, axis=1)  # (K, C) slot in which original choice c is shown
        return Row(
            id=question.id, image=question.image if grid is not None else None, grid=grid,
            input_ids=np.concatenate(input_ids).astype(np.int64), position_ids=np.concatenate(position_ids, axis=1),
            segment=np.concatenate(segment), answer_at=np.array(ends, np.int64),
            letters=self.letter_tokens[slot_of], orders=orders,
            target=answer_target(question, soft_votes=self.config.soft_votes),
        )

    def prompt_tokens(
        self, question: Question, order: Sequence[int], grid: Grid | None, answer: str | None = None
    ) -> list[int]:
        """Return the tokens of the scoring prompt; with `answer`, of the training conversation.

        Args:
            question: the question.
            order: order of its choices.
            grid: patches (time, rows, columns) of the image; None: there is no image.
            answer: letter of the answer.
        """
        if answer is not None and not self.rendered:
            return [*self.prompt_tokens(question, order, grid), int(self.letter_tokens[LETTERS.index(answer)])]
        text = self.template.text(question, order, answer, with_image=grid is not None)
        return self._with_image_tokens(self._tokens(text), grid, question.id)

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _with_image_tokens(self, ids: list[int], grid: Grid | None, name: str) -> list[int]:
        """Repeat the placeholder once per image token."""
        expected = 0 if grid is None else 1
        if ids.count(self.image_token_id) != expected:
            raise AlignmentError(
                f"The prompt of question {name} contains {ids.count(self.image_token_id)} image placeholders instead of "
                f"{expected}. The tokenizer's chat template does not match this model."
            )
        if grid is None:
            return ids
        start = ids.index(self.image_token_id)
        return ids[:start] + [self.image_token_id] * image_tokens(grid, self.merge) + ids[start + 1 :]


def _common_prefix(sequences: list[list[int]]) -> int:
    """Return the length of the longest common prefix that leaves every sequence at least one token."""
    limit = min(map(len, sequences)) - 1
    first = sequences[0]
    for n in range(limit):
        if any(sequence[n] != first[n] for sequence in sequences):
            return n
    return limit
