"""Draws the figures of the report: one function per figure."""
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import RunLog, or_nan
from mcvqa.base.plots import FAINT_INK, INK, PALETTE, draw_each, in_figures, new_figure
from mcvqa.base.uncertainty import Accuracy, Gain, spell_p_value
from mcvqa.data.answers import LETTERS
from mcvqa.report.metrics import LetterBias, Metrics, Reliability

MODEL_COLOR, RIGHT_COLOR, WRONG_COLOR, QUIET_COLOR = PALETTE[0], PALETTE[2], PALETTE[4], FAINT_INK
VARIANT_STYLES: dict[str, dict[str, Any]] = {
    "raw": dict(marker="o", linestyle=":", linewidth=1, markersize=4, markerfacecolor="white"),
    "ema": dict(marker="o", linestyle="-", linewidth=1.3, markersize=5),
    "swa": dict(marker="^", linestyle="--", linewidth=1.3, markersize=7, markerfacecolor="white"),
}
IN_PERCENT = "{x:.0%}"
VARIANT_SHIFTS = {"raw": -0.025, "ema": 0.0, "swa": 0.025}  # in epochs, so that equal accuracies do not overlap


# %% all figures
def draw_figures(metrics: Metrics, log: RunLog, folder: str | Path) -> dict[str, Path]:
    """Draw all figures that have data, as PNG files in `folder`.

    Args:
        metrics: metrics of the run.
        log: the run's log, with events "step" and "epoch" for the training curves.
        folder: folder for the files.

    Returns:
        Name of each figure -> its file.
    """
    steps = log.events("step", "fold", "step", "loss", "lr")
    epochs = log.events("epoch", "fold", "epoch", "variant", "accuracy", "standard_error")
    to_draw: dict[str, Callable[[], Any]] = {
        "groups": lambda: draw_groups(metrics),
        "confusion": lambda: draw_confusion(metrics.confusion),
        "reliability": lambda: draw_reliability(metrics.before, metrics.after, metrics.temperature),
        "letters": lambda: draw_letters(metrics.letters),
        "curves": lambda: draw_curves(steps, epochs) if steps else None,
        "gains": lambda: draw_gains(metrics.gains) if metrics.gains else None,
    }
    return draw_each(to_draw, folder)


# %% training
def draw_curves(steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> Any:
    """Draw loss, learning rate and validation accuracy with standard errors, one colour per fold.

    Args:
        steps: events with fold, step, loss, lr; if a resumed run logged a step twice, the later event counts.
        epochs: events with fold, epoch (from 0), variant (raw, ema, swa), accuracy, standard_error.
    """
    figure, (loss, rate, accuracy) = new_figure(columns=3, width=10, height=3.6)
    folds = sorted({e["fold"] for e in steps})
    for index, fold in enumerate(folds):
        color = PALETTE[index % len(PALETTE)]
        of_fold = [e for _, e in sorted({e["step"]: e for e in steps if e["fold"] == fold}.items())]
        x = [e["step"] for e in of_fold]
        losses = np.array([np.nan if e["loss"] is None else e["loss"] for e in of_fold], dtype=float)
        loss.plot(x, losses, color=color, alpha=0.25, linewidth=0.8)
        loss.plot(x, running_mean(losses, max(1, len(x) // 25)), color=color, label=f"fold {fold}")
        rate.plot(x, [e["lr"] for e in of_fold], color=color)
        for variant in VARIANT_STYLES:
            shift = 0.08 * (index - (len(folds) - 1) / 2) + VARIANT_SHIFTS[variant]  # side by side, so that error bars show
            _draw_epochs(accuracy, [e for e in epochs if (e["fold"], e["variant"]) == (fold, variant)], shift, color)
    for variant, style in VARIANT_STYLES.items():
        if any(e["variant"] == variant for e in epochs):
            accuracy.plot([], [], color=QUIET_COLOR, label=variant, **style)
    loss.set(title="training loss", xlabel="step", ylim=(0, None))
    rate.set(title="learning rate", xlabel="step", ylim=(0, None))
    rate.yaxis.set_major_formatter("{x:g}")
    accuracy.set(title="validation accuracy ± SE", xlabel="epoch")
    accuracy.set_xticks(sorted({e["epoch"] + 1 for e in epochs}))
    loss.legend()
    if epochs:
        accuracy.margins(y=0.3)  # space for the legend above the error bars
        accuracy.legend(ncols=3, loc="upper center", columnspacing=1)
    return figure


def _draw_epochs(axes: Any, epochs: Sequence[Mapping[str, Any]], shift: float, color: str) -> None:
    """Draw the accuracies of one fold and variant after each epoch."""
    if epochs:
        points = {e["epoch"]: (e["epoch"] + 1 + shift, or_nan(e["accuracy"]), or_nan(e["standard_error"])) for e in epochs}
        x, y, error = zip(*points.values(), strict=True)
        axes.errorbar(x, y, error, color=color, elinewidth=0.8, **VARIANT_STYLES[epochs[0]["variant"]])


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Average each value and up to width - 1 before it, (N,), ignoring NaN (skipped steps)."""
    known = np.isfinite(values)
    total, count = (np.concatenate([[0], np.cumsum(v)]) for v in (np.where(known, values, 0), known))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - width)
    n = count[end] - count[start]
    return np.where(n > 0, total[end] - total[start], np.nan) / np.maximum(n, 1)


# %% accuracy
def draw_groups(metrics: Metrics) -> Any:
    """Draw the accuracy of every group with its 95% interval, the text-only prior and guessing."""
    sections = [[metrics.overall], metrics.by_fold, metrics.by_source, metrics.by_kind, metrics.by_choices]
    sections = [section for section in sections if section]
    groups = [group for section in sections for group in section]
    y: list[float] = []
    for section in sections:
        start = y[-1] + 1.6 if y else 0.0  # a gap between sections
        y += [start + i for i in range(len(section))]
    figure, axes = new_figure(width=8.5, height=1.2 + 0.3 * y[-1])
    measured = [g.accuracy for g in groups]
    handles = [_dots(axes, np.subtract(y, 0.12), measured, color=MODEL_COLOR, marker="o", label="model")]
    if metrics.overall.blind is not None:
        blind = [g.blind or Accuracy(0, 0) for g in groups]
        style = dict(color=WRONG_COLOR, marker="o", markerfacecolor="white", label="text only, no image")
        handles.append(_dots(axes, np.add(y, 0.12), blind, **style))
    chances = [g.chance for g in groups]
    handles += axes.plot(chances, y, "|", color=QUIET_COLOR, markersize=9, markeredgewidth=1.5, label="guessing")
    _name_rows(axes, y, [f"{in_figures(g.name)}  (n={g.accuracy.n:,})" for g in groups])
    axes.set(xlabel="accuracy, 95% interval", xlim=(0, 1.02))
    axes.xaxis.set_major_formatter(IN_PERCENT)
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _dots(axes: Any, y: np.ndarray, values: Sequence[Accuracy], **style: Any) -> Any:
    """Draw accuracies as points with Wilson intervals at heights `y`."""
    centres = np.array([v.value for v in values])
    ends = np.array([v.interval for v in values]).T  # (2, groups)
    error = np.abs(ends - centres)
    return axes.errorbar(centres, y, xerr=error, linestyle="none", capsize=2, markersize=6, **style)


def _name_rows(axes: Any, y: Sequence[float], names: Sequence[str]) -> None:
    axes.set_yticks(y, names, parse_math=False)  # a name may contain a $
    axes.set_ylim(max(y) + 0.7, min(y) - 0.7)
    axes.grid(axis="y", visible=False)


def draw_gains(gains: Mapping[str, Gain]) -> Any:
    """Draw the gain of each technique with its 95% interval; grey if not significant."""
    figure, axes = new_figure(width=8.5, height=1.3 + 0.42 * len(gains))
    for y, gain in enumerate(gains.values()):
        color = RIGHT_COLOR if gain.is_better else WRONG_COLOR if gain.is_worse else QUIET_COLOR
        axes.plot([100 * gain.low, 100 * gain.high], [y, y], color=color, linewidth=2.5, solid_capstyle="round")
        axes.plot(100 * gain.value, y, "o", color=color, markersize=8)
        text, point = f"{100 * gain.value:+.1f}", (100 * gain.value, y)
        axes.annotate(text, point, (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    _name_rows(axes, range(len(gains)), [*map(in_figures, gains)])
    axes.set(xlabel="gain in points of accuracy on the same rows, 95% interval")
    return figure


def draw_ladder(rungs: Mapping[str, Accuracy], blind: Accuracy) -> Any:
    """Draw the accuracy of each rung with its 95% interval, from the untrained model to the ensemble.

    Args:
        rungs: name -> accuracy.
        blind: accuracy of the text-only prior.
    """
    figure, axes = new_figure(width=8.5, height=1.4 + 0.42 * len(rungs))
    axes.axvline(blind.value, color=QUIET_COLOR, linewidth=1.2, linestyle="--", label="text only, no image")
    _dots(axes, np.arange(len(rungs)), list(rungs.values()), color=MODEL_COLOR, marker="o", label="test rows, 95% interval")
    for y, accuracy in enumerate(rungs.values()):
        axes.annotate(f"{accuracy.value:.3f}", (accuracy.value, y), (0, 8), textcoords="offset points", ha="center")
    _name_rows(axes, range(len(rungs)), [*map(in_figures, rungs)])
    axes.set(xlabel=f"accuracy on {next(iter(rungs.values())).n:,} test rows")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def draw_confusion(confusion: Sequence[Sequence[int]]) -> Any:
    """Draw the confusion matrix: shares by true letter, with the number of rows in each cell."""
    counts = np.array(confusion)  # (C, C)
    size = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = new_figure(width=9, height=1.2 + 0.55 * min(size, 12))  # as wide as the others: equal text size
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for true, predicted in np.ndindex(size, size) if size <= 12 else ():
        share = shares[true, predicted]
        _write_in_cell(axes, true, predicted, f"{share:.0%}\n{counts[true, predicted]:,}", dark=bool(share > 0.5))
    letters = list(LETTERS[:size])
    axes.set_xticks(range(size), letters)
    axes.set_yticks(range(size), letters)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="share of the true letter's rows")
    return figure


def _write_in_cell(axes: Any, row: int, column: int, text: str, *, dark: bool) -> None:
    """Write `text` in a cell of a heat map, in a colour with contrast."""
    color = "white" if dark else INK
    axes.text(column, row, text, ha="center", va="center", fontsize=9, linespacing=1.4, color=color)


# %% probabilities and letters
def draw_reliability(before: Reliability, after: Reliability, temperature: float) -> Any:
    """Draw accuracy and rows by confidence; below the diagonal the model is overconfident.

    ECE is the expected calibration error.
    """
    figure, panels = new_figure(2, 2, width=9, height=5.2, height_ratios=(3, 1), sharex=True, sharey="row")
    titles = ("as scored", f"temperature {temperature:.2f}")
    for title, measured, curve, histogram in zip(titles, (before, after), *panels, strict=True):
        confidence = np.array([b.confidence for b in measured.bins])
        accuracy = np.array([b.accuracy.value for b in measured.bins])
        ends = np.array([b.accuracy.interval for b in measured.bins]).T  # (2, bins)
        curve.plot([0, 1], [0, 1], color=QUIET_COLOR, linewidth=1, linestyle=":")
        curve.vlines(confidence, confidence, accuracy, color=WRONG_COLOR, alpha=0.35, linewidth=5)
        error = np.abs(ends - accuracy)
        curve.errorbar(confidence, accuracy, error, color=MODEL_COLOR, marker="o", markersize=5, capsize=2)
        curve.set(title=f"{title}: ECE {measured.ece:.3f}", xlim=(0, 1), ylim=(0, 1.02))
        middles = [(b.low + b.high) / 2 for b in measured.bins]
        histogram.bar(middles, [b.accuracy.n for b in measured.bins], width=0.06, color=MODEL_COLOR)
        histogram.set(xlabel="confidence")
    panels[0][0].set_ylabel("accuracy")
    for axis in (panels[0][0].yaxis, *(panel.xaxis for panel in panels[1])):
        axis.set_major_formatter(IN_PERCENT)
    panels[1][0].set_ylabel("rows")
    return figure


def draw_letters(bias: LetterBias) -> Any:
    """Draw predicted and true letters and, with several orders, the surplus of each letter by order."""
    several = len(bias.per_order) > 1
    figure, panels = new_figure(columns=1 + several, width=10 if several else 9, height=3.6)
    bars = panels[0] if several else panels
    x = np.arange(len(bias.overall.truth))
    letters = list(LETTERS[: len(x)])
    for offset, label, shares, color in (
        (-0.2, "predicted", bias.overall.predicted, MODEL_COLOR), (0.2, "true", bias.overall.truth, QUIET_COLOR)
    ):
        bars.bar(x + offset, shares, width=0.38, label=label, color=color)
    bars.set_xticks(x, letters)
    bars.set_title(f"all orders: distance {bias.overall.distance:.3f}, {spell_p_value(bias.p_value)}")
    bars.set_ylabel("share of the rows")
    bars.yaxis.set_major_formatter(IN_PERCENT)
    bars.set_ylim(0, 1.2 * max(*bias.overall.predicted, *bias.overall.truth))
    bars.legend(ncols=2, loc="upper right")
    bars.grid(axis="x", visible=False)
    if several:
        surplus = 100 * np.array([np.subtract(use.predicted, use.truth) for use in bias.per_order])  # (orders, letters)
        limit = max(1.0, float(np.abs(surplus).max()))
        image = panels[1].imshow(surplus, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        for order, letter in np.ndindex(surplus.shape) if surplus.size <= 60 else ():
            points = surplus[order, letter]
            _write_in_cell(panels[1], order, letter, f"{points:+.1f}", dark=bool(abs(points) > 0.6 * limit))
        panels[1].set_xticks(x, letters)
        panels[1].set_yticks(range(len(surplus)), [in_figures(f"order {k}") for k in range(1, len(surplus) + 1)])
        panels[1].set(title="predicted more often than true, in points")
        panels[1].grid(visible=False)
        figure.colorbar(image, ax=panels[1])
    return figure
