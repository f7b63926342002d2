"""How sure a figure is: no accuracy in this project stands without its error bar."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers among `n`, with its standard error and 95 % Wilson interval (Wilson 1927)."""

    right: int
    n: int

    @property
    def value(self) -> float:
        return self.right / self.n if self.n else float("nan")

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.value * (1 - self.value) / self.n)) if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        if not self.n:
            return (0.0, 1.0)
        z, p, n = 1.959964, self.value, self.n
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))
        return (min(max(low, 0.0), p), max(min(high, 1.0), p))  # at 0 and 1 rounding would leave the value outside

    def __str__(self) -> str:
        if not self.n:
            return "no rows"
        if 0 < self.right < self.n:
            return f"{self.value:.3f} ± {self.standard_error:.3f} (n={self.n:,})"
        low, high = self.interval  # all right or all wrong: the standard error would claim certainty
        return f"{self.value:.3f} (95 %: {low:.3f} to {high:.3f}, n={self.n:,})"


def accuracy_of(predicted: np.ndarray, answers: np.ndarray) -> Accuracy:
    """Args: predicted, answers: (N,) choice indices; rows whose answer is below 0 (unknown) do not count."""
    known = np.asarray(answers) >= 0
    return Accuracy(int((np.asarray(predicted)[known] == np.asarray(answers)[known]).sum()), int(known.sum()))


@dataclass(frozen=True)
class Gain:
    """Difference of two accuracies on the same rows, with a paired bootstrap's standard error and 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def paired_gain(after: np.ndarray, before: np.ndarray, *, draws: int = 2000, seed: int = 42) -> Gain:
    """Gain of `after` over `before`, both (N,) booleans: right or wrong on the same rows.

    Rows are resampled together (paired bootstrap; Efron and Tibshirani 1993), so what both get right cancels out.
    """
    change = np.asarray(after, dtype=np.int8) - np.asarray(before, dtype=np.int8)  # (N,) in -1, 0, 1
    n = len(change)
    if n == 0:
        return Gain(float("nan"), float("nan"), float("nan"), float("nan"), 0)
    # a resample of N rows is a multinomial draw over the three kinds of change: no (draws, N) array is needed
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    counts = np.random.default_rng(seed).multinomial(n, [better / n, worse / n, 1 - (better + worse) / n], size=draws)
    means = (counts[:, 0] - counts[:, 1]) / n
    low, high = np.quantile(means, [0.025, 0.975])
    return Gain((better - worse) / n, float(means.std(ddof=1)), float(low), float(high), n)
