"""Computes logits at the answer positions, from rows to batches, for both training and scoring.

Shapes: B rows, K option orders, C choices, E prompts, L tokens of the longest, T distinct tokens, H hidden size, V vocabulary.
"""
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F

from mcvqa.model.families.family import Family, Grid
from mcvqa.model.fast.block import Tables, blocks_suit, pack, rotary_tables
from mcvqa.model.fast.delta import ChunkTree, chunk_tree
from mcvqa.model.fast.dropout import Dropout, draw_dropout
from mcvqa.model.fast.layout import EVERY_TOKEN_ONCE, Sight, lay_out
from mcvqa.model.fast.overflow import OWN_FLOAT32, OverflowInModel, layer_parts, mend_overflow, run_in_float32
from mcvqa.model.text.encode import Row
from mcvqa.model.vision.tower import tower_features

KNOWN_TO_OVERFLOW = "_known_to_overflow"  # attribute of a base model's module: its block computes in float32


class AskedRows(Protocol):
    """Defines the interface of all batches: Batch here, PlainBatch in model/plain.py."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def letters(self) -> torch.Tensor: ...

    @property
    def target(self) -> torch.Tensor: ...

    def to(self, device: torch.device | str) -> "AskedRows": ...


class WithLetters(Protocol):
    """Defines the interface of all rows: see Row in text/encode.py."""

    @property
    def letters(self) -> np.ndarray: ...

    @property
    def target(self) -> np.ndarray: ...


def stack_letters(rows: Sequence[WithLetters]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack letters (B, K, C), -1 for orders and choices that a row does not have, and targets (B, C)."""
    k, c = (max(row.letters.shape[axis] for row in rows) for axis in (0, 1))
    letters = torch.full((len(rows), k, c), -1, dtype=torch.int64)
    target = torch.zeros(len(rows), c)
    for i, row in enumerate(rows):
        k, c = row.letters.shape
        letters[i, :k, :c], target[i, :c] = torch.from_numpy(row.letters), torch.from_numpy(row.target)
    return letters, target


@dataclass(frozen=True)
class Batch:
    """Holds the rows of one forward pass, every token once: see fast/layout.py.

    Attributes:
        ids: ids of the questions.
        input_ids: (T,).
        position_ids: (3, T).
        prompt_tokens: (E, L), see TokenLayout.
        first_use: (T,), see TokenLayout.
        answer_at: (B, K) index among the T, -1 for orders that a row does not have.
        letters: (B, K, C), -1 for orders and choices that a row does not have.
        target: (B, C).
        images: (tokens, width) features of all image tokens, with the width of feature_width, or (P, values) patches if the
            vision tower is trained; None: no image.
        grids: patches (1, rows, columns) of each image if `images` are patches.
        chunks: for a recurrent family, chunks of consecutive tokens.
    """

    ids: tuple[str, ...]
    input_ids: torch.Tensor
    position_ids: torch.Tensor
    prompt_tokens: torch.Tensor
    first_use: torch.Tensor
    answer_at: torch.Tensor
    letters: torch.Tensor
    target: torch.Tensor
    images: torch.Tensor | None
    grids: tuple[Grid, ...] | None
    chunks: ChunkTree | None = None

    def to(self, device: torch.device | str) -> "Batch":
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Pin the memory, called by the loader: copies from pinned memory to the GPU overlap with the computation."""
        return self.each(torch.Tensor.pin_memory)

    def rounded(self) -> "Batch":
        """Pad to rounded lengths, so that recorded shapes recur: the list with its first token, to which no prompt attends
        there, the prompts with padding, the image features with zeros up to the length of the list."""
        count, length = len(self.input_ids), self.prompt_tokens.shape[1]
        wider = -length % 64
        more = -count % max(1, 2 ** (count.bit_length() - 5))  # at most a sixteenth

        def filled(listed: torch.Tensor) -> torch.Tensor:
            return torch.cat((listed, listed[..., :1].expand(*listed.shape[:-1], more)), -1)

        images = self.images if self.images is None else F.pad(self.images, (0, 0, 0, count + more - len(self.images)))
        return replace(
            self, input_ids=filled(self.input_ids), position_ids=filled(self.position_ids),
            prompt_tokens=F.pad(self.prompt_tokens, (0, wider)),
            first_use=filled(self.first_use + self.first_use // length * wider), images=images,
            chunks=self.chunks and self.chunks.rounded(count + more),
        )

    def tensors(self) -> list[torch.Tensor]:
        """List all tensors, in a fixed order."""
        tensors = [value for value in vars(self).values() if isinstance(value, torch.Tensor)]
        return tensors if self.chunks is None else [*tensors, *self.chunks.tensors()]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """Apply a function to every tensor."""
        tensors: dict[str, Any] = {k: change(v) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, chunks=self.chunks and self.chunks.each(change), **tensors)


def collate(
    rows: Sequence[Row], image_of: Callable[[Row], torch.Tensor], image_token_id: int, *, patches: bool = False,
    recurrent: bool = False,
) -> Batch:
    """Make a batch.

    Args:
        rows: rows of the batch.
        image_of: returns features or patches of a row's image; called once per image.
        image_token_id: token of image placeholders.
        patches: whether `image_of` returns patches.
        recurrent: whether the model belongs to a recurrent family.
    """
    layout = lay_out(rows, image_token_id)
    letters, target = stack_letters(rows)
    shown = [rows[i] for i in layout.image_rows]
    return Batch(
        ids=tuple(row.id for row in rows), input_ids=torch.from_numpy(layout.input_ids),
        position_ids=torch.from_numpy(layout.position_ids), prompt_tokens=torch.from_numpy(layout.prompt_tokens),
        first_use=torch.from_numpy(layout.first_use), answer_at=torch.from_numpy(layout.answer_at), letters=letters,
        target=target, images=torch.cat([*map(image_of, shown)]) if shown else None,
        grids=tuple(row.grid for row in shown if row.grid is not None) if patches and shown else None,
        chunks=chunk_tree(layout) if recurrent else None,
    )


# %% the forward pass
class Answering(nn.Module):
    """Computes (B, K, V) float32 logits for a batch of rows.

    AnswerModel, here, and PlainAnswerModel, in model/plain.py, implement this.
    """

    parts: dict[str, Any]  # by name, not registered as submodules: parameters are registered once, under `model`
    watched: dict[str, nn.Module]  # modules that may be switched to float32, in the order of computation
    divided: Any = None  # this model, if it is a SplitAnswerModel (model/split.py)

    def set_checkpointing(self, on: bool) -> None:
        """Set whether to recompute activations in the backward pass instead of keeping them (arXiv:1604.06174)."""
        if on:
            self.parts["language"].gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            self.parts["language"].gradient_checkpointing_disable()

    def can_be_recorded(self, batch: AskedRows) -> TypeGuard[Batch]:
        """Return whether a pass with `batch` runs the same kernels for any values: see training/recorded.py."""
        return False

    def in_float32(self) -> list[str]:
        """List the names of the modules that compute in float32."""
        return [name for name, part in self.watched.items() if hasattr(part, OWN_FLOAT32)]

    def move_to_float32(self, names: Iterable[str]) -> None:
        """Switch modules to float32.

        Args:
            names: from `in_float32`.
        """
        for name in names:
            run_in_float32(self.watched[name])

    def mend(self, batch: AskedRows) -> list[str]:
        """Switch modules that overflow on `batch` to float32, with a message.

        Returns:
            Names of these modules.

        Raises:
            OverflowInModel: the logits are not finite even so.
        """
        try:
            moved = mend_overflow(self.watched, lambda: self(batch))
        except OverflowInModel as error:
            raise OverflowInModel(
                f"The model's answers to the questions {', '.join(batch.ids)} are not finite numbers: {error}. "
                "Try --set precision=float32, or bfloat16 on a newer GPU."
            ) from error
        if moved:
            print(f"\n  float16 overflowed in {', '.join(moved)}: float32 there from now on")
        return moved


def carries_dora(model: nn.Module) -> bool:
    """Return whether the adapters also train magnitudes (DoRA, arXiv:2402.09353), which blocks do not support."""
    return isinstance(model, PeftModel) and any(getattr(one, "use_dora", False) for one in model.peft_config.values())


class AnswerModel(Answering):
    """Computes the logits at the answer positions only.

    Args:
        model: base model, with or without adapters.
        family: family of the model.
        image_token_id: token of image placeholders.
    """

    axes: torch.Tensor

    def __init__(self, model: nn.Module, family: Family, image_token_id: int) -> None:
        super().__init__()
        self.model, self.image_token_id = model, image_token_id
        core: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self.parts = {
            "language": core.get_submodule(family.language), "vision": core.get_submodule(family.vision),
            "head": core.get_output_embeddings(),
        }
        # any other attention would silently take the list for one long prompt
        language = self.parts["language"]
        assert language.config._attn_implementation == EVERY_TOKEN_ONCE, "load the model by load_base"
        axes = family.rotary_axes(language.config.rope_parameters["mrope_section"])
        self.register_buffer("axes", torch.from_numpy(axes).to(language.device), persistent=False)
        frozen = isinstance(model, PeftModel) or not any(p.requires_grad for p in language.parameters())
        written_out = family.blocks if frozen and blocks_suit(language.config) and not carries_dora(model) else None
        layers = [written_out(layer) for layer in language.layers] if written_out else []
        blocks = {f"layers.{n}.{half}": block for n, halves in enumerate(layers) for half, block in halves.items()}
        assert blocks or not family.recurrent, "refused by load_base"
        self.blocks: Any = nn.ModuleList(blocks.values())
        self.watched = blocks or layer_parts(language)
        for name, part in self.watched.items():
            if hasattr(language.get_submodule(name), KNOWN_TO_OVERFLOW):
                run_in_float32(part)

    def set_checkpointing(self, on: bool) -> None:
        super().set_checkpointing(on and not self.blocks)
        for block in self.blocks:
            block.keep = not on

    def can_be_recorded(self, batch: AskedRows) -> TypeGuard[Batch]:
        return bool(self.blocks) and not self.divided and isinstance(batch, Batch) and batch.grids is None

    def mend(self, batch: AskedRows) -> list[str]:
        moved = super().mend(batch)
        self._mark_base(moved)
        return moved

    def move_to_float32(self, names: Iterable[str]) -> None:
        super().move_to_float32(names)
        self._mark_base(names)

    def _mark_base(self, moved: Iterable[str]) -> None:
        """Mark modules of the base model, which outlives the blocks."""
        for name in moved:
            setattr(self.parts["language"].get_submodule(name), KNOWN_TO_OVERFLOW, True)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Compute float32 logits (B, K, V); missing orders repeat those of the list's last token."""
        embeds, is_image, deeper = self.embed(batch)
        sight = Sight(batch.prompt_tokens, batch.first_use, learning=torch.is_grad_enabled())
        read = self._through_blocks if self.blocks else self._through_layers
        return self.parts["head"](read(batch, sight, embeds, is_image, deeper)).float()

    def embed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sequence[torch.Tensor]]:
        """Embed the tokens of a batch and insert the image features.

        Returns:
            Embeddings (T, H); which tokens (T,) are image tokens; features (tokens, H) that are added to these after each of the
            first layers.
        """
        embeds = self.parts["language"].get_input_embeddings()(batch.input_ids)
        is_image, deeper = batch.input_ids == self.image_token_id, []
        if batch.images is not None:
            features = batch.images
            if batch.grids is not None:
                tower = self.parts["vision"]
                features = tower_features(tower, features.to(next(tower.parameters()).dtype), batch.grids)
            shallow, *deeper = features.to(embeds.dtype).split(embeds.shape[-1], -1)  # (tokens, H) each
            embeds = embeds.masked_scatter(is_image[:, None], shallow)
        return embeds, is_image, deeper

    def _through_blocks(
        self, batch: Batch, sight: Sight, hidden: torch.Tensor, is_image: torch.Tensor, deeper: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Compute the last hidden states (B, K, H) at the answer positions from embeddings (T, H).

        Args:
            deeper: from `embed`.
        """
        language = self.parts["language"]
        tables = Tables(*rotary_tables(language, self.axes, batch.position_ids, hidden.dtype), sight, batch.chunks)
        dropouts = self.draw_masks(hidden)
        answers = self.run_blocks(range(len(self.blocks)), batch, tables, hidden, dropouts, is_image, deeper)  # (B * K, H)
        return language.norm(answers).unflatten(0, batch.answer_at.shape)

    def draw_masks(self, hidden: torch.Tensor) -> Sequence[Dropout | None]:
        """Draw the dropout masks of all projections for hidden states (T, H); None: no dropout."""
        projections = [one for block in self.blocks for one in (block.before, block.after)]
        return draw_dropout(projections, len(hidden), hidden.device) if self.training else (None,) * len(projections)

    def run_blocks(
        self, numbers: range, batch: Batch, tables: Tables, hidden: torch.Tensor, dropouts: Sequence[Dropout | None],
        is_image: torch.Tensor, deeper: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """Compute hidden states (T, H) after some of the blocks or, after the last one, (B * K, H) at the answer positions.

        Args:
            numbers: numbers of the blocks.
            batch: the rows.
            tables: inputs of all layers.
            hidden: (T, H) hidden states before these blocks.
            dropouts: masks of their projections.
            is_image, deeper: from `embed`.
        """
        blocks = [self.blocks[n] for n in numbers]
        projections = [one for block in blocks for one in (block.before, block.after)]
        packed = pack(projections, hidden.dtype, training=self.training)
        with torch.autocast(hidden.device.type, enabled=False):  # blocks compute in the precision of their input
            for i, (n, block) in enumerate(zip(numbers, blocks, strict=True)):
                masks = tuple(dropouts[2 * i : 2 * i + 2])
                if n == len(self.blocks) - 1:  # an MLP treats each token separately, and no others are needed
                    at = batch.answer_at.flatten()
                    hidden, masks = hidden[at], tuple(one and one.of_tokens(at) for one in masks)
                hidden = block(hidden, tables, packed[2 * i : 2 * i + 2], masks)
                if n % 2 and n // 2 < len(deeper):
                    hidden = hidden + torch.zeros_like(hidden).masked_scatter(is_image[:, None], deeper[n // 2])
        return hidden

    def _through_layers(
        self, batch: Batch, sight: Sight, embeds: torch.Tensor, is_image: torch.Tensor, deeper: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Like `_through_blocks`, with transformers' own layers, which can train all weights."""
        deepstack = dict(visual_pos_masks=is_image[None], deepstack_visual_embeds=deeper) if deeper else {}
        hidden = self.parts["language"](
            inputs_embeds=embeds[None], position_ids=batch.position_ids[:, None], use_cache=False,
            sight=sight, **deepstack,  # unknown arguments are passed on to the attention function
        ).last_hidden_state[0]  # (T, H)
        return hidden[batch.answer_at]


# %% log-probabilities and loss
def letter_logprobs(logits: torch.Tensor, letters: torch.Tensor) -> torch.Tensor:
    """Compute the log-probability of each choice's letter among the whole vocabulary, (B, K, C); -inf for missing choices.

    Args:
        logits: (B, K, V) float32.
        letters: (B, K, C) tokens, in the order of the original choices, -1 for missing ones.
    """
    every = logits.log_softmax(-1)
    return every.gather(-1, letters.clamp(min=0)).masked_fill(letters < 0, float("-inf"))


def answer_loss(
    logits: torch.Tensor, batch: AskedRows, *, among_choices: bool = False, label_smoothing: float = 0.0,
    noise: float = 0.0, consistency: float = 0.0,
) -> torch.Tensor:
    """Compute the cross-entropy (B,) of the answer letter, averaged over the row's orders, plus a penalty if these disagree.

    Args:
        logits: (B, K, V) float32.
        batch: the rows.
        among_choices: normalize among the letters of the row's choices instead of the whole vocabulary.
        label_smoothing: share of the target distributed evenly over the row's choices.
        noise: q of generalized cross-entropy, (1 - p^q) / q (arXiv:1805.07836), which trusts labels less: 0 is cross-entropy.
        consistency: weight of the Jensen-Shannon divergence between the answers in a row's orders, in nats.
    """
    logprobs = letter_logprobs(logits, batch.letters)  # (B, K, C)
    real = batch.letters >= 0
    has_order = real.any(-1)  # (B, K)
    choice_logprobs = logprobs.masked_fill(~has_order[..., None], 0.0).log_softmax(-1)  # among the row's choices
    if among_choices:
        logprobs = choice_logprobs
    choices, weights = real[:, 0].float(), batch.target.sum(-1, keepdim=True)  # (B, C), (B, 1)
    target = (1 - label_smoothing) * batch.target + label_smoothing * weights * choices / choices.sum(-1, keepdim=True)
    logprobs = logprobs.masked_fill(~real, 0.0)
    costs = -torch.expm1(noise * logprobs) / noise if noise else -logprobs
    per_order = (target[:, None] * costs).sum(-1)  # (B, K)
    loss = (per_order * has_order).sum(-1) / has_order.sum(-1)
    return loss + consistency * _disagreement(choice_logprobs.masked_fill(~real, NO_CHANCE), has_order) if consistency else loss


NO_CHANCE = -30.0  # log-probability of missing choices: infinities would give NaN


def _disagreement(logprobs: torch.Tensor, has_order: torch.Tensor) -> torch.Tensor:
    """Compute the Jensen-Shannon divergence (B,), in nats, between the distributions (B, K, C) of the orders in `has_order` (B,
    K)."""
    share = has_order / has_order.sum(-1, keepdim=True)
    middle = (logprobs.exp() * share[..., None]).sum(1, keepdim=True).clamp(min=1e-13).log()  # (B, 1, C)
    return ((logprobs.exp() * (logprobs - middle)).sum(-1) * share).sum(-1)


@torch.no_grad()
def read_letters(model: Answering, batches: Iterable[AskedRows], device: torch.device | str) -> list[np.ndarray]:
    """Compute letter log-probabilities (K, C) of every row, in the order of the batches.

    If float16 overflows, the module where it occurs is switched to float32, and the batch is scored again.

    Args:
        model: computes logits.
        batches: the rows.
        device: device of the model.

    Raises:
        OverflowInModel: logits are not finite even so; the message names the rows. An argmax over NaN would look like an answer.
    """
    model.eval()
    logprobs = []
    for batch in batches:
        moved = batch.to(device)
        batch_logprobs = _row_logprobs(model, moved, batch)
        if not all(np.isfinite(values).all() for values in batch_logprobs):
            model.mend(moved)
            batch_logprobs = _row_logprobs(model, moved, batch)
        logprobs += batch_logprobs
    return logprobs


def _row_logprobs(model: Answering, moved: AskedRows, batch: AskedRows) -> list[np.ndarray]:
    """Compute log-probabilities (K, C) per row, without orders and choices that it does not have.

    Args:
        moved: `batch` on the device.
    """
    return letters_of_rows(letter_logprobs(model(moved), moved.letters).cpu().numpy(), batch)


def letters_of_rows(logprobs: np.ndarray, batch: AskedRows) -> list[np.ndarray]:
    """Split (B, K, C) into (K, C) of each row, without orders and choices that it does not have."""
    real = [letters >= 0 for letters in batch.letters.numpy()]
    return [values[mask.any(-1)][:, mask.any(0)] for values, mask in zip(logprobs, real, strict=True)]
