"""Draws the figures of a search: its history, the importance of settings, and the log-loss against each and all of them.

Text of values comes from a file and is never read as mathematics.
"""
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.informing import printable
from mcvqa.base.plots import FAINT_INK, PALETTE, draw_each, new_figure
from mcvqa.search.results import SearchOutcome, TrialResult
from mcvqa.search.space import Searched

LONGEST_LABEL = 14  # characters of a value on an axis
TO_WEIGH = 8  # complete trials from which importances are estimated
PANELS_IN_ROW = 4  # panels beside one another
BEST_COLOR, TRIAL_COLOR = PALETTE[4], PALETTE[0]


def draw_search(outcome: SearchOutcome, importances: Mapping[str, float], folder: Path) -> dict[str, Path]:
    """Draw all figures that have data.

    Args:
        outcome: outcome of the search.
        importances: name of a setting -> its share of the variance of the log-loss; empty: there are too few trials.
        folder: folder for the files.

    Returns:
        Name of each figure -> its file.
    """
    complete, searched = outcome.ranked, outcome.plan.searched
    to_draw: dict[str, Callable[[], Any]] = {
        "history": lambda: draw_history(outcome.trials),
        "importance": lambda: draw_importances(importances) if importances else None,
        "slices": lambda: draw_slices(complete, searched),
        "coordinates": lambda: draw_coordinates(complete, searched) if len(complete) > 1 else None,
    }
    return draw_each(to_draw, folder)


def draw_history(trials: Sequence[TrialResult]) -> Any:
    """Draw the log-loss of each trial (for pruned ones, the last one reported), and the best one so far."""
    figure, axes = new_figure(width=8, height=3.6)
    complete = [(one.number, one.judged.log_loss, one.judged.standard_error) for one in trials if one.judged is not None]
    pruned = [(one.number, one.reported[max(one.reported)]) for one in trials if one.state == "pruned" and one.reported]
    x, y, error = map(np.array, zip(*complete, strict=True))
    error = np.where(np.isfinite(error), error, 0)
    axes.errorbar(x, y, error, fmt="o", color=TRIAL_COLOR, elinewidth=1, label="trained to its end")
    axes.step(x, np.minimum.accumulate(y), where="post", color=BEST_COLOR, linewidth=1.2, label="best so far")
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=FAINT_INK, label="pruned")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="trial", ylabel="log-loss", title="History")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def draw_importances(importances: Mapping[str, float]) -> Any:
    """Draw one bar for each setting."""
    figure, axes = new_figure(width=7, height=0.8 + 0.32 * len(importances))
    names = sorted(importances, key=lambda name: importances[name])
    axes.barh(range(len(names)), [importances[name] for name in names], color=TRIAL_COLOR)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlabel="share of the variance of the log-loss", title="Which settings matter", xlim=(0, 1))
    return figure


def draw_slices(complete: Sequence[TrialResult], searched: Sequence[Searched]) -> Any:
    """Draw the log-loss against each searched setting."""
    rows = -(-len(searched) // PANELS_IN_ROW)
    columns = min(PANELS_IN_ROW, len(searched))
    figure, panels = new_figure(rows, columns, width=2.6 * columns, height=2.5 * rows, sharey=True, squeeze=False)
    losses = _losses(complete)
    for one, axes in zip(searched, panels.flat, strict=False):
        axes.plot(_axis_positions(one, complete), losses, "o", color=TRIAL_COLOR, markersize=4, alpha=0.8)
        axes.plot(_axis_positions(one, complete[:1]), losses[:1], "o", color=BEST_COLOR, markersize=6)
        axes.set_title(one.name, fontsize=10.5, parse_math=False)
        if one.values:
            axes.set_xticks(range(len(one.values)), [_value_label(value) for value in one.values], parse_math=False)
            axes.set_xlim(-0.5, len(one.values) - 0.5)
            if max(len(_value_label(value)) for value in one.values) > 5:
                axes.tick_params(axis="x", rotation=30)
        elif one.log:
            axes.set(xscale="log", xlim=(one.low / 1.2, one.high * 1.2))
            axes.tick_params(axis="x", which="minor", labelbottom=False)
        else:
            margin = 0.05 * (one.high - one.low)
            axes.set_xlim(one.low - margin, one.high + margin)
            axes.xaxis.get_major_locator().set_params(integer=one.whole)
    for axes in panels.flat[len(searched):]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("log-loss")
    return figure


def draw_coordinates(complete: Sequence[TrialResult], searched: Sequence[Searched]) -> Any:
    """Draw each trial as a line through its settings, the best in front and the darker the better."""
    figure, axes = new_figure(width=max(7.0, 1.35 * len(searched)), height=4.2)
    heights = np.array([_heights(one, complete) for one in searched]).T  # (trials, settings)
    for rank in range(len(complete) - 1, -1, -1):
        color, width = (BEST_COLOR, 2.4) if rank == 0 else (TRIAL_COLOR, 1.2)
        axes.plot(range(len(searched)), heights[rank], color=color, linewidth=width, alpha=1 - 0.85 * rank / len(complete))
    axes.set_xticks(range(len(searched)), [one.name for one in searched], rotation=20, ha="right", parse_math=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set(yticks=[], ylim=(-0.12, 1.12), title="All settings at once")
    for position, one in enumerate(searched):
        for end, value, align in ((1.04, one.ends[-1], "bottom"), (-0.04, one.ends[0], "top")):
            axes.text(position, end, _value_label(value), ha="center", va=align, fontsize=8.5, color=FAINT_INK, parse_math=False)
    return figure


# %% positions on axes
def _losses(trials: Sequence[TrialResult]) -> np.ndarray:
    return np.array([one.judged.log_loss for one in trials if one.judged is not None])


def _axis_positions(one: Searched, trials: Sequence[TrialResult]) -> list[float]:
    """Return the positions of values on an axis: numbers of a range unchanged, others by their rank among the values."""
    values = [trial.values[one.name] for trial in trials]
    return [one.values.index(value) for value in values] if one.values else values


def _heights(one: Searched, trials: Sequence[TrialResult]) -> np.ndarray:
    """Scale the positions to between 0, the lowest, and 1."""
    positions = np.array(_axis_positions(one, trials), dtype=float)
    low, high = (0, max(1, len(one.values) - 1)) if one.values else (one.low, one.high)
    if one.log:
        positions, low, high = np.log(positions), np.log(low), np.log(high)
    return (positions - low) / (high - low)


def _value_label(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else printable(str(value))
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
