"""Computes standard errors and intervals of accuracies and gains, clustered by photograph.

Questions about one photograph are not independent, so the unit of sampling is a group of rows, not a single row.
"""
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

NORMAL_QUANTILE = 1.959964  # half width of a 95 % interval, in standard errors
SIGNIFICANT = 0.05  # a smaller p-value is significant


# %% numbers as text
def decimals_for(error: float, least: int) -> int:
    """Return the number of decimals, at least `least`, with which an error above 0 does not print as zero."""
    return next((n for n in range(least, 12) if float(f"{error:.{n}f}")), least)


def spell_error(value: float, error: float, least: int = 3) -> str:
    """Spell a value with its error, '0.930 ± 0.026', with at least `least` decimals, and enough that the error is not zero."""
    decimals = decimals_for(error, least)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def spell_points(share: float) -> str:
    """Spell a share in points, '2.6', with more decimals if it would print as zero."""
    return f"{100 * share:.{decimals_for(100 * share, 1)}f}"


def spell_error_in_percent(value: float, error: float) -> str:
    """Spell a share in percent, '93.0 ± 2.6', with more decimals if the error would print as zero."""
    return spell_error(100 * value, 100 * error, 1)


def spell_interval(low: float, high: float, between: str = " to ", decimals: int = 3, sign: str = "") -> str:
    """Spell an interval, '0.863 to 0.966', with more decimals if both ends would print alike.

    Args:
        low, high: the ends.
        between: text between them.
        decimals: the fewest decimals.
        sign: "+" to print the sign of positive numbers.
    """
    while low < high and decimals < 12 and float(f"{low:.{decimals}f}") == float(f"{high:.{decimals}f}"):
        decimals += 1
    return f"{low + 0.0:{sign}.{decimals}f}{between}{high + 0.0:{sign}.{decimals}f}"  # + 0.0: never -0.000


def spell_p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


# %% accuracy
@dataclass(frozen=True)
class Accuracy:
    """Holds the share of right answers, with a standard error and a 95 % interval clustered by image group.

    Attributes:
        right: number of right answers.
        n: number of rows.
        design_effect: variance relative to that of as many independent rows, at least 1 (Kish 1965).
        groups: number of image groups; None: every row is its own group.
        not_measured: why the model may have learned from these rows; empty: they are unseen.
    """

    right: int
    n: int
    design_effect: float = 1.0
    groups: int | None = None
    not_measured: str = ""

    @property
    def value(self) -> float:
        """Share of right answers; NaN without rows."""
        return self.right / self.n if self.n else float("nan")

    @property
    def effective_n(self) -> float:
        """Number of independent rows with the same information, reduced further for few groups, whose design effect is
        uncertain (ratio of t quantiles, Korn and Graubard 1998)."""
        if self.groups is None or not self.n:
            return float(self.n)
        if self.groups < 2:
            return 0.0
        return self.n / self.design_effect * (_t_quantile(self.n - 1) / _t_quantile(self.groups - 1)) ** 2

    @property
    def standard_error(self) -> float:
        """Binomial standard error times the root of the design effect; derived from the interval if all or no answers are
        right, where the formula would give 0."""
        if not self.n:
            return float("nan")
        if 0 < self.right < self.n:
            return float(np.sqrt(self.value * (1 - self.value) / self.n * self.design_effect))
        low, high = self.interval
        return (high - low) / (2 * NORMAL_QUANTILE)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval (1927) with the effective number of rows, as for survey data (Franco, Little, Louis and Slud 2019,
        "Comparative study of confidence intervals for proportions in complex sample surveys")."""
        n = self.effective_n
        if not n:
            return (0.0, 1.0)
        z, p = NORMAL_QUANTILE, self.value
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))
        return (min(max(low, 0.0), p), max(min(high, 1.0), p))  # rounding could exclude a value of 0 or 1

    @property
    def record(self) -> list[Any]:
        """List for JSON, read back by `from_record`; older files have [right, n]."""
        if self.not_measured:
            return [self.right, self.n, self.design_effect, self.groups, self.not_measured]
        plain = [self.right, self.n]
        return plain if self.groups is None else [*plain, self.design_effect, self.groups]

    @classmethod
    def from_record(cls, record: Any) -> "Accuracy":
        """Read back a `record`.

        Args:
            record: the list, as JSON gives it.

        Returns:
            The accuracy.

        Raises:
            ValueError: it is something else.
        """
        with contextlib.suppress(TypeError):
            accuracy = cls(*record)
            if 0 <= accuracy.right <= accuracy.n:
                return accuracy
        raise ValueError(f"{str(record)[:40]!r} is no accuracy")

    @property
    def without_count(self) -> str:
        """'0.930 ± 0.026', or the interval if all or no answers are right."""
        if 0 < self.right < self.n:
            return spell_error(self.value, self.standard_error)
        return f"{self.value:.3f} (95 %: {spell_interval(*self.interval)})"

    def __str__(self) -> str:
        if not self.n or self.not_measured:
            return f"not measured: {self.not_measured}" if self.n else "no rows"
        text, count = self.without_count, f"n={self.n:,}"
        return f"{text[:-1]}, {count})" if text.endswith(")") else f"{text} ({count})"


def without_measure(accuracies: Mapping[str, Accuracy], reason: str) -> dict[str, Accuracy]:
    """Mark accuracies as not measured, because the model may have been trained on their rows.

    Args:
        accuracies: name -> accuracy.
        reason: why the model may have been trained on these rows.
    """
    return {name: replace(accuracy, not_measured=reason) for name, accuracy in accuracies.items()}


def accuracy_of(predicted: np.ndarray, answers: np.ndarray, groups: np.ndarray | None = None) -> Accuracy:
    """Compute the accuracy of predictions.

    Args:
        predicted, answers: (N,) choice indices; rows whose answer is below 0 (unknown) do not count.
        groups: (N,) image group of each row; None: each row is its own group.
    """
    known = np.asarray(answers) >= 0
    right = np.asarray(predicted)[known] == np.asarray(answers)[known]
    return accuracy_of_right(right, None if groups is None else np.asarray(groups)[known])


def accuracy_of_right(right: np.ndarray, groups: np.ndarray | None = None) -> Accuracy:
    """Compute the accuracy of rows known to be right or wrong.

    Args:
        right: (N,) booleans.
        groups: (N,) image group of each row; None: each row is its own group.
    """
    right = np.asarray(right, dtype=bool)
    counted, n = int(right.sum()), len(right)
    if groups is None or not n:
        return Accuracy(counted, n)
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(index.reshape(-1)).astype(float)  # (G,)
    if len(sizes) == n:
        return Accuracy(counted, n)
    return Accuracy(counted, n, _design_effect(np.bincount(index.reshape(-1), right), sizes), len(sizes))


def _design_effect(right: np.ndarray, sizes: np.ndarray) -> float:
    """Divide the clustered variance of the share of right rows (ratio estimator) by the binomial variance; at least 1.

    Half a group of right rows and half a group of wrong ones are added, of typical size. If hardly any answer is wrong, the data
    show nothing of the correlation within a photograph, and without them coverage falls to 88 % (benchmarks/errors.py).

    Args:
        right, sizes: (G,) right rows and rows of each group.
    """
    typical = (sizes**2).sum() / sizes.sum()  # mean size of the group of a random row
    weights = np.concatenate([np.ones(len(sizes)), [0.5, 0.5]])
    right, sizes = np.concatenate([right, [typical, 0.0]]), np.concatenate([sizes, [typical, typical]])
    groups, n = weights.sum(), weights @ sizes
    p = weights @ right / n
    clustered = groups / (groups - 1) * (weights @ (right - p * sizes) ** 2) / n**2
    return max(1.0, float(clustered / (p * (1 - p) / (n - 1))))


def _t_quantile(degrees: float) -> float:
    """Return the 97.5 % quantile of Student's t; infinite without degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975)) if degrees > 0 else float("inf")


# %% gain
@dataclass(frozen=True)
class Gain:
    """Holds the difference of two accuracies on the same rows.

    Attributes:
        standard_error: clustered by image group, never 0.
        low, high: 95 % interval; it contains 0 exactly if the test is not significant.
        n: number of rows.
        p_value: p-value of the two-sided sign-flip test.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n: int
    p_value: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is significantly above 0."""
        return self.value > 0 and self.p_value < SIGNIFICANT

    @property
    def is_worse(self) -> bool:
        """Whether the gain is significantly below 0."""
        return self.value < 0 and self.p_value < SIGNIFICANT

    @property
    def in_points(self) -> str:
        """'+5.0 [+3.0, +7.0]' in points of accuracy."""
        return self._spelled(100, 1)

    def __str__(self) -> str:
        return self._spelled(1, 3)

    def _spelled(self, scale: int, decimals: int) -> str:
        interval = spell_interval(scale * self.low, scale * self.high, ", ", decimals, "+")
        return f"{scale * self.value + 0.0:+.{decimals}f} [{interval}]"


def paired_gain(after: np.ndarray, before: np.ndarray, groups: np.ndarray | None = None) -> Gain:
    """Compute the gain of `after` over `before`.

    Every comparison of two sets of answers to the same rows uses this.

    The p-value is that of `sign_flip_p_value`. The interval is Bonett and Price's (2012, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data": one row that became right and one that became wrong are added), by
    image group as in Yang, Sun and Hardin (2012, "Confidence intervals for the difference of marginal probabilities in clustered
    matched-pair binary data"). Its width is never 0, and its coverage is about 95 % even if few rows differ. It is cut at 0 if it
    would otherwise contradict the test.

    Args:
        after, before: (N,) booleans, right or wrong.
        groups: (N,) image group of each row; None: each row is its own group.
    """
    changes, sizes = _changes_by_group(after, before, groups)
    n = int(sizes.sum())
    if not n:
        unknown = float("nan")
        return Gain(unknown, unknown, unknown, unknown, 0, unknown)
    value, p_value = float(changes.sum() / n), sign_flip_p_value(changes)
    # size of the added groups: that of the observed changes, shrunk towards a whole group's
    typical = (sizes**2).sum() / n
    added = np.sqrt(((changes**2).sum() + typical**2) / (np.count_nonzero(changes) + 1))
    total = n + 2 * added
    centre = changes.sum() / total
    squares = ((changes - centre * sizes) ** 2).sum() + added**2 * (2 + 2 * centre**2)
    error = float(np.sqrt(squares)) / total
    half = _t_quantile(len(sizes) - 1) * error
    low, high = max(-1.0, float(centre) - half), min(1.0, float(centre) + half)
    if p_value >= SIGNIFICANT:
        low, high = min(low, 0.0), max(high, 0.0)
    else:
        low, high = (max(low, 0.0), high) if value > 0 else (low, min(high, 0.0))
    return Gain(value, error, min(low, value), max(high, value), n, p_value)


def _changes_by_group(after: np.ndarray, before: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Count the rows of each group that became right, less those that became wrong (G,), and all rows of the group (G,)."""
    change = np.asarray(after, dtype=np.int64) - np.asarray(before, dtype=np.int64)  # (N,) in -1, 0, 1
    if groups is None:
        return change, np.ones(len(change))
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    changes = np.rint(np.bincount(index.reshape(-1), change)).astype(np.int64)
    return changes, np.bincount(index.reshape(-1)).astype(float)


def sign_flip_p_value(changes: np.ndarray) -> float:
    """Compute the exact two-sided p-value of the sum of `changes` under all flips of their signs.

    If two models are equally good, the sign of each group's change is a coin toss. The distribution of the sum over all flips is
    computed by convolution, without sampling (Pagano and Tritchler 1983). With changes of one row this is McNemar's exact test.

    Args:
        changes: (G,) integers, net number of rows of each image group that became right.
    """
    from scipy.stats import binom, binomtest

    changes = np.asarray(changes)
    sizes, counts = np.unique(np.abs(changes[changes != 0]), return_counts=True)
    if not len(sizes) or not changes.sum():
        return 1.0
    if len(sizes) == 1:
        return float(binomtest(int((changes > 0).sum()), int(counts[0])).pvalue)
    distribution = np.ones(1)  # of the sum of the changes with a positive sign
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        part = np.zeros(size * count + 1)
        part[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, part)
    largest = len(distribution) - 1
    tail = (largest - abs(int(changes.sum()))) // 2  # the distribution is symmetric
    return float(min(1.0, 2 * distribution[: tail + 1].sum()))


def significantly_worse(after: np.ndarray, before: np.ndarray, groups: np.ndarray | None = None) -> bool:
    """Return whether `after` is significantly worse than `before` (5 %, two-sided); see `paired_gain` for the arguments."""
    return paired_gain(after, before, groups).is_worse


# %% the best of several epochs
def selection_optimism(
    right: np.ndarray, groups: np.ndarray | None = None, losses: np.ndarray | None = None, *, gains: np.ndarray | None = None,
    draws: int = 300, seed: int = 42,
) -> float:
    """Estimate how much the accuracy of the best epoch is too high because it was chosen on its own validation rows.

    Bootstrap bias correction (Tsamardinos, Greasidou and Borboudakis 2018): image groups are drawn with replacement, and the
    epoch that is best on them is evaluated on the groups not drawn; the mean estimates the accuracy on new rows.

    Args:
        right: (E, N) booleans, right or wrong after each epoch, on the same rows.
        groups: (N,) image group of each row; None: each row is its own group.
        losses: (E,) validation losses, which break ties between equally accurate epochs; None: the first epoch wins.
        gains: (E, N) values; the epoch with the largest sum is chosen; None: `right`.
        draws: number of bootstrap samples.
        seed: seed of the samples.

    Returns:
        The optimism as a share of the rows, 0 or more.
    """
    right = np.asarray(right, dtype=float)
    epochs, n = right.shape
    if epochs < 2 or not n:
        return 0.0
    if losses is not None:
        right = right[np.argsort(losses, kind="stable")]  # argmax returns the first of equal values
    index = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(index).astype(float)  # (G,)
    by_group, gain = (np.stack([np.bincount(index, row) for row in rows], axis=1)  # (G, E)
                      for rows in (right, right if gains is None else gains))
    times = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)  # (draws, G)
    chosen = (times @ gain).argmax(-1)  # (draws,)
    left_out = times == 0
    rows = left_out @ sizes
    unbiased = (left_out @ by_group)[np.arange(draws), chosen][rows > 0] / rows[rows > 0]
    return max(0.0, float(right.mean(-1)[gain.sum(0).argmax()] - unbiased.mean())) if len(unbiased) else 0.0


def pack_right(right: np.ndarray) -> str:
    """Pack (N,) booleans as hexadecimal text for a log."""
    return np.packbits(np.asarray(right, dtype=bool)).tobytes().hex()


def unpack_right(text: str, n: int) -> np.ndarray:
    """Read (n,) booleans written by `pack_right`.

    Args:
        text: the hexadecimal text.
        n: number of rows.

    Raises:
        ValueError: the text does not contain `n` booleans.
    """
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(packed) != -(-n // 8):
        raise ValueError(f"{8 * len(packed)} rows are not {n}.")
    return np.unpackbits(packed, count=n).astype(bool)
