"""Uncertainty: the error of an accuracy and of a gain, where several rows may share one photograph.

Questions about one photograph are not independent, so errors are clustered: chance draws groups of rows, not single rows.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np

NORMAL_QUANTILE = 1.959964  # standard errors to either side in a 95 % interval
SIGNIFICANT = 0.05  # a smaller p-value is significant


# %% numbers as text
def decimals_for(error: float, least: int) -> int:
    """Decimals, at least `least`, with which an error above 0 does not read as zero."""
    return next((n for n in range(least, 12) if float(f"{error:.{n}f}")), least)


def spell_error(value: float, error: float) -> str:
    """'0.930 ± 0.026', with more decimals where the error would read as zero."""
    decimals = decimals_for(error, 3)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def spell_points(share: float) -> str:
    """'2.6', a share in points, with more decimals where it would read as zero."""
    return f"{100 * share:.{decimals_for(100 * share, 1)}f}"


def spell_interval(low: float, high: float, between: str = " to ", decimals: int = 3, sign: str = "") -> str:
    """'0.863 to 0.966', with more decimals where both ends would read the same.

    Args:
        sign: "+" where a positive number begins with its sign.
    """
    while low < high and decimals < 12 and float(f"{low:.{decimals}f}") == float(f"{high:.{decimals}f}"):
        decimals += 1
    return f"{low + 0.0:{sign}.{decimals}f}{between}{high + 0.0:{sign}.{decimals}f}"  # + 0.0: never -0.000


def spell_p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


# %% accuracy
@dataclass(frozen=True)
class Accuracy:
    """Share of right answers, with a standard error and a 95 % interval clustered by image group.

    Attributes:
        right: right answers among `n` rows.
        design_effect: variance of the share over that of as many independent rows, at least 1 (Kish 1965).
        groups: number of image groups; None: every row is a group.
    """

    right: int
    n: int
    design_effect: float = 1.0
    groups: int | None = None

    @property
    def value(self) -> float:
        return self.right / self.n if self.n else float("nan")

    @property
    def effective_n(self) -> float:
        """Independent rows that would tell as much. Few groups tell the design effect badly, so theirs are fewer still (the
        ratio of t quantiles of Korn and Graubard 1998)."""
        if self.groups is None or not self.n:
            return float(self.n)
        if self.groups < 2:
            return 0.0
        return self.n / self.design_effect * (_t_quantile(self.n - 1) / _t_quantile(self.groups - 1)) ** 2

    @property
    def standard_error(self) -> float:
        """Binomial, times the root of the design effect; with all or no answers right, where that would claim certainty, the
        interval's width in standard errors."""
        if not self.n:
            return float("nan")
        if 0 < self.right < self.n:
            return float(np.sqrt(self.value * (1 - self.value) / self.n * self.design_effect))
        low, high = self.interval
        return (high - low) / (2 * NORMAL_QUANTILE)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's (1927) with the effective number of rows, as for survey data (Franco, Little, Louis and Slud 2019,
        "Comparative study of confidence intervals for proportions in complex sample surveys")."""
        n = self.effective_n
        if not n:
            return (0.0, 1.0)
        z, p = NORMAL_QUANTILE, self.value
        centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))
        return (min(max(low, 0.0), p), max(min(high, 1.0), p))  # at 0 and 1 rounding would leave the value outside

    @property
    def record(self) -> list[Any]:
        """As JSON holds it: Accuracy(*record) is the same again; [right, n] of older files is read too."""
        plain = [self.right, self.n]
        return plain if self.groups is None else [*plain, self.design_effect, self.groups]

    @property
    def without_count(self) -> str:
        """'0.930 ± 0.026', or the interval where all or no answers are right."""
        if 0 < self.right < self.n:
            return spell_error(self.value, self.standard_error)
        return f"{self.value:.3f} (95 %: {spell_interval(*self.interval)})"

    def __str__(self) -> str:
        if not self.n:
            return "no rows"
        text, count = self.without_count, f"n={self.n:,}"
        return f"{text[:-1]}, {count})" if text.endswith(")") else f"{text} ({count})"


def accuracy_of(predicted: np.ndarray, answers: np.ndarray, groups: np.ndarray | None = None) -> Accuracy:
    """Accuracy of predictions.

    Args:
        predicted, answers: (N,) choice indices; rows whose answer is below 0 (unknown) do not count.
        groups: (N,) image group of each row; None: each row is its own group.
    """
    known = np.asarray(answers) >= 0
    right = np.asarray(predicted)[known] == np.asarray(answers)[known]
    return accuracy_of_right(right, None if groups is None else np.asarray(groups)[known])


def accuracy_of_right(right: np.ndarray, groups: np.ndarray | None = None) -> Accuracy:
    """Accuracy of (N,) booleans, right or wrong. Args: groups: as in accuracy_of."""
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
    """Variance of the share of right rows by group (the ratio estimator's) over the binomial one, at least 1.

    Half a group that is all right and half a group that is all wrong are added, of the usual size: where hardly any answer is
    wrong, nothing is seen of how far the rows of a photograph go together, and without them the intervals hold the truth in as
    few as 88 of 100 cases (benchmarks/errors.py).

    Args:
        right, sizes: (G,) right rows and rows of each group.
    """
    usual = (sizes**2).sum() / sizes.sum()  # of the group of a random row
    weights = np.concatenate([np.ones(len(sizes)), [0.5, 0.5]])
    right, sizes = np.concatenate([right, [usual, 0.0]]), np.concatenate([sizes, [usual, usual]])
    groups, n = weights.sum(), weights @ sizes
    p = weights @ right / n
    clustered = groups / (groups - 1) * (weights @ (right - p * sizes) ** 2) / n**2
    return max(1.0, float(clustered / (p * (1 - p) / (n - 1))))


def _t_quantile(degrees: float) -> float:
    """97.5 % quantile of Student's t; infinite without degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975)) if degrees > 0 else float("inf")


# %% gain
@dataclass(frozen=True)
class Gain:
    """Difference of two accuracies on the same rows.

    Attributes:
        standard_error: clustered by image group, never 0.
        low, high: 95 % interval; 0 is inside exactly where the test finds no difference.
        n: rows.
        p_value: of the sign-flip test, two-sided.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n: int
    p_value: float

    @property
    def is_better(self) -> bool:
        """Significantly above 0."""
        return self.value > 0 and self.p_value < SIGNIFICANT

    @property
    def is_worse(self) -> bool:
        """Significantly below 0."""
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
    """Gain of `after` over `before`: the one comparison of two sets of answers to the same rows.

    The p-value is that of sign_flip_p_value. The interval is Bonett and Price's (2012, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data": one row that became right and one that became wrong are added), by
    image group as in Yang, Sun and Hardin (2012, "Confidence intervals for the difference of marginal probabilities in clustered
    matched-pair binary data"). So it has a width where nothing differs, and holds the truth in about 95 of 100 cases also where
    few rows differ. It ends at 0 where it would otherwise say something else than the test.

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
    # the size of the added groups is that of the observed changes, drawn towards what a whole group can change by
    usual = (sizes**2).sum() / n
    added = np.sqrt(((changes**2).sum() + usual**2) / (np.count_nonzero(changes) + 1))
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
    """(G,) how many more rows of each group are right after than before, and (G,) its rows."""
    change = np.asarray(after, dtype=np.int64) - np.asarray(before, dtype=np.int64)  # (N,) in -1, 0, 1
    if groups is None:
        return change, np.ones(len(change))
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    changes = np.rint(np.bincount(index.reshape(-1), change)).astype(np.int64)
    return changes, np.bincount(index.reshape(-1)).astype(float)


def sign_flip_p_value(changes: np.ndarray) -> float:
    """Exact two-sided p-value of the sum of `changes` under all flips of their signs.

    If two models are equally good, which of them is the better one in a group is a coin toss. All flips are counted, without
    drawing any: the sum's distribution is a convolution (Pagano and Tritchler 1983). With changes by one row this is McNemar's
    exact test.

    Args:
        changes: (G,) whole numbers, by how many rows each image group changed.
    """
    from scipy.stats import binom, binomtest

    changes = np.asarray(changes)
    sizes, counts = np.unique(np.abs(changes[changes != 0]), return_counts=True)
    if not len(sizes) or not changes.sum():
        return 1.0
    if len(sizes) == 1:
        return float(binomtest(int((changes > 0).sum()), int(counts[0])).pvalue)
    of_sum = np.ones(1)  # of the sum of the changes that come out positive
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        part = np.zeros(size * count + 1)
        part[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        of_sum = np.convolve(of_sum, part)
    most = len(of_sum) - 1
    tail = (most - abs(int(changes.sum()))) // 2  # both tails of the symmetric distribution are as long
    return float(min(1.0, 2 * of_sum[: tail + 1].sum()))


def significantly_worse(after: np.ndarray, before: np.ndarray, groups: np.ndarray | None = None) -> bool:
    """Whether `after` is worse than `before` by more than chance explains (5 %, two-sided). Args: as in paired_gain."""
    return paired_gain(after, before, groups).is_worse


# %% the best of several epochs
def selection_optimism(
    right: np.ndarray, groups: np.ndarray | None = None, losses: np.ndarray | None = None, *, draws: int = 300, seed: int = 42
) -> float:
    """By how much the accuracy of the best epoch is too high, because it was chosen on the rows it is judged by.

    Bootstrap bias correction (Tsamardinos, Greasidou and Borboudakis 2018): image groups are drawn with replacement, the best
    epoch on the drawn ones is judged on those not drawn; their mean is what the accuracy would be on new rows.

    Args:
        right: (E, N) booleans, right or wrong after each epoch, on the same rows.
        groups: (N,) image group of each row; None: each row is its own group.
        losses: (E,) validation losses; of equally accurate epochs the one of lower loss is chosen. None: the first.

    Returns:
        Share of the rows, 0 or more.
    """
    right = np.asarray(right, dtype=float)
    epochs, n = right.shape
    if epochs < 2 or not n:
        return 0.0
    if losses is not None:
        right = right[np.argsort(losses, kind="stable")]  # of equal values argmax takes the first
    index = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(index).astype(float)  # (G,)
    by_group = np.stack([np.bincount(index, row) for row in right], axis=1)  # (G, E)
    times = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)  # (draws, G)
    chosen = (times @ by_group).argmax(-1)  # (draws,)
    left_out = times == 0
    rows = left_out @ sizes
    honest = (left_out @ by_group)[np.arange(draws), chosen][rows > 0] / rows[rows > 0]
    return max(0.0, float(right.mean(-1).max() - honest.mean())) if len(honest) else 0.0


def pack_right(right: np.ndarray) -> str:
    """(N,) booleans as text for a log, four a letter."""
    return np.packbits(np.asarray(right, dtype=bool)).tobytes().hex()


def unpack_right(text: str, n: int) -> np.ndarray:
    """(n,) booleans from `pack_right`.

    Raises:
        ValueError: the text does not hold `n` of them.
    """
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(packed) != -(-n // 8):
        raise ValueError(f"{8 * len(packed)} rows are not {n}.")
    return np.unpackbits(packed, count=n).astype(bool)
