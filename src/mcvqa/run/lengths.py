"""Finds rows that are too long for the model before training, for `check` and for a run, with the same messages."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcvqa.config import Config
from mcvqa.data.questions import Question
from mcvqa.model.device import GIB, DevicePlan
from mcvqa.model.memory import settings_plan
from mcvqa.model.plain import PlainEncoder
from mcvqa.model.rows import Maker, RowMaker, wordiest
from mcvqa.model.size import ModelSize
from mcvqa.model.text.encode import Encoder
from mcvqa.run.alignment import maker_without_weights
from mcvqa.run.dataset import RunData
from mcvqa.run.project import RunStopped

LONG_ROWS = 32  # with most text, that are looked at in each split


@dataclass(frozen=True)
class RowLimit:
    """Limits the tokens of a row.

    Attributes:
        tokens: the most tokens of a row.
        why: the reason for the limit, in words.
        firm: whether the model has no more positions; otherwise the memory is estimated.
    """

    tokens: int
    why: str
    firm: bool


def require_rows_fit(
    config: Config, data: RunData, plan: DevicePlan, training: bool, loaded: tuple[Encoder | PlainEncoder, Any, Any],
    size: ModelSize,
) -> None:
    """Check that no training row is too long.

    Args:
        config: all settings.
        data: the rows.
        plan: device and precision.
        training: whether some fold is still to be trained.
        loaded: result of `load_encoder`.
        size: size of the model.

    Raises:
        RunStopped: some are too long; the message names the worst.
    """
    refused, said = length_problems(maker_without_weights(config, data, *loaded), config, data, plan, loaded[-1], size)
    if refused and training:
        raise RunStopped(refused)
    if said:
        print(f"  {said}")


def length_problems(
    maker: Maker, config: Config, data: RunData, plan: DevicePlan, model_config: Any, size: ModelSize
) -> tuple[str, str]:
    """Explain why training cannot begin.

    Args:
        maker: result of `maker_without_weights`.
        config: all settings.
        data: the rows.
        plan: with the choice of weights made.
        model_config: configuration of the model.
        size: size of the model.

    Returns:
        The reason, and a note on the test rows; each '' if all rows fit.
    """
    limits = [_positions(model_config), _memory_limit(maker, config, plan, model_config, size)]
    train = _too_long("training", maker, data.train, limits)
    test = _too_long("test", maker, data.test, limits[:1])
    return (
        train and f"{train} Shorten its question or choices, or leave the row out of the file.",
        test and f"{test} Its answer is unreliable: the model was not trained on inputs that long.",
    )


def _too_long(split: str, maker: Maker, questions: Sequence[Question], limits: Sequence[RowLimit | None]) -> str:
    """Describe what is wrong with the longest of the rows; '' if all fit."""
    rows = {q.id: maker.row(q) for q in wordiest(questions, LONG_ROWS)}
    for limit in filter(None, limits):
        lengths = {name: (maker.positions if limit.firm else maker.tokens)(row) for name, row in rows.items()}
        long = [name for name in rows if lengths[name] > limit.tokens]
        if long and (limit.firm or len(long) < len(rows)):  # that no row fits into memory is not the rows' matter
            worst = max(long, key=lambda name: lengths[name])
            others = f" ({len(long) - 1} more are too long)" if len(long) > 1 else ""
            return f"The {split} row {worst!r} has {lengths[worst]:,} tokens; {limit.why} at most {limit.tokens:,}{others}."
    return ""


def _positions(model_config: Any) -> RowLimit | None:
    most = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    return RowLimit(int(most), f"{model_config.model_type} reads", firm=True) if most else None


# %% memory
def _memory_limit(maker: Maker, config: Config, plan: DevicePlan, model_config: Any, size: ModelSize) -> RowLimit:
    """Estimate how many tokens of one row fit into memory; a GPU tries what really fits."""
    there = memory_of(plan)
    kept = kept_values(maker, config, plan, model_config) * plan.dtype.itemsize
    left = max(0, there - size.weight_bytes(plan) - size.training_bytes)
    return RowLimit(int(left // kept), f"{there / GIB:.1f} GiB of memory hold", firm=False)


def kept_values(maker: Maker, config: Config, plan: DevicePlan, model_config: Any) -> int:
    """Count the values that a training step holds per token at its peak."""
    text, checkpointing = model_config.get_text_config(), settings_plan(config, plan).checkpointing
    width, layers = text.hidden_size, text.num_hidden_layers
    if not trains_in_blocks(maker, config):  # of transformers' layers about 34 vectors; with checkpointing only the layer's input
        return layers * width * (1 if checkpointing else 34)
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    mixed = head * (text.num_attention_heads + 2 * text.num_key_value_heads) + 2 * text.intermediate_size
    return layers * (2 * width + (0 if checkpointing else mixed)) + 8 * text.intermediate_size  # the last: of one MLP at work


def trains_in_blocks(maker: Maker, config: Config) -> bool:
    """Return whether training uses the layers of model/fast/block.py."""
    return isinstance(maker, RowMaker) and config.lora_r > 0 and not config.use_dora


def memory_of(plan: DevicePlan) -> int:
    """Return the memory in bytes of the device, of all GPUs of a divided model, or of this machine."""
    if plan.memory:
        return sum(plan.limits.values())
    meminfo = Path("/proc/meminfo")
    return int(meminfo.read_text().split()[1]) * 1024 if meminfo.exists() else 8 * GIB
