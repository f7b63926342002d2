"""Tests error bars by simulations with a known truth: of accuracies, gains and the best of several epochs.

    python benchmarks/errors.py                # some minutes
    python benchmarks/errors.py --draws 300    # quick

Rows of one photograph are simulated as in tests/base: with a given probability they are right or wrong as one. Of each interval
the share of draws is printed in which it holds the truth (0.950 is asked for), and its mean width.
"""
import argparse
from collections.abc import Callable, Sequence

import numpy as np

from mcvqa.base.uncertainty import Accuracy, accuracy_of_right, paired_gain, selection_optimism

Interval = tuple[float, float]


def photographs(rng: np.random.Generator, count: int, sizes: Sequence[int], together: float) -> tuple[np.ndarray, np.ndarray]:
    """Image groups (N,) and uniform numbers (N,), which the rows of a photograph share with probability `together`."""
    group = np.repeat(np.arange(count), rng.choice(sizes, count))
    as_one = (rng.random(count) < together)[group]
    return group, np.where(as_one, rng.random(count)[group], rng.random(len(group)))


def report(title: str, truth: float, intervals: dict[str, list[Interval]]) -> None:
    parts = []
    for name, drawn in intervals.items():
        low, high = np.array(drawn).T
        parts.append(f"{name} {((low <= truth) & (truth <= high)).mean():.3f} ({(high - low).mean():.3f})")
    print(f"  {title:44} {'   '.join(parts)}", flush=True)


# %% accuracies
def accuracies(draws: int) -> None:
    print("accuracy: how often the 95 % interval holds the truth (mean width)")
    for count, sizes in ((200, (1,)), (15, (4,)), (50, (4,)), (200, (4,)), (50, (1, 2, 3, 8)), (200, (1, 2, 3, 8))):
        for share in (0.7, 0.9, 0.98):
            for together in (0.0,) if sizes == (1,) else (0.0, 0.3, 1.0):
                rng, found = np.random.default_rng(0), dict[str, list[Interval]](rows=[], groups=[])
                errors, values = dict[str, list[float]](rows=[], groups=[]), []
                for _ in range(draws):
                    group, uniform = photographs(rng, count, sizes, together)
                    right = uniform < share
                    for name, accuracy in (("rows", accuracy_of_right(right)), ("groups", accuracy_of_right(right, group))):
                        found[name].append(accuracy.interval)
                        errors[name].append(accuracy.standard_error)
                    values.append(right.mean())
                title = f"{count} photographs of {','.join(map(str, sizes))}, {share:.2f}, {together:.0%} as one"
                report(title, share, found)
                if (count, sizes, share) == (50, (4,), 0.7):
                    said = ", ".join(f"by {name} {np.mean(e):.4f}" for name, e in errors.items())
                    print(f"      standard error: {said}, true {np.std(values):.4f}")


# %% gains
def bootstrapped(better: int, worse: int, n: int, rng: np.random.Generator) -> Interval:
    """The interval before: rows resampled together."""
    counts = rng.multinomial(n, [better / n, worse / n, 1 - (better + worse) / n], size=500)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def gains(draws: int) -> None:
    print("\ngain: how often the 95 % interval holds the truth (mean width), and how often equal models differ significantly")
    for count, sizes in ((50, (1,)), (200, (1,)), (50, (4,)), (250, (4,)), (50, (1, 2, 3, 8))):
        for better, worse in ((0.0, 0.0), (0.01, 0.01), (0.02, 0.0), (0.05, 0.01), (0.1, 0.1)):
            for together in (0.0,) if sizes == (1,) else (0.0, 0.3, 1.0):
                rng, found, significant = np.random.default_rng(0), dict[str, list[Interval]](bootstrap=[], ours=[]), 0
                for _ in range(draws):
                    group, uniform = photographs(rng, count, sizes, together)
                    up, down = uniform < better, (uniform >= better) & (uniform < better + worse)
                    gain = paired_gain(up, down, group)
                    found["bootstrap"].append(bootstrapped(int(up.sum()), int(down.sum()), len(group), rng))
                    found["ours"].append((gain.low, gain.high))
                    significant += gain.p_value < 0.05
                title = f"{count} photographs of {','.join(map(str, sizes))}, +{better} -{worse}, {together:.0%} as one"
                report(title, better - worse, found)
                if better == worse:
                    print(f"      significant in {significant / draws:.3f}")


# %% run against prior
def against_prior(draws: int) -> None:
    print("\nrun against prior: a model that is truly 3 points better, kept in how many draws")
    for n in (67, 200, 1000):
        rng, bare, tested = np.random.default_rng(0), 0, 0
        for _ in range(draws):
            prior, model = rng.random(n) < 0.67, rng.random(n) < 0.70
            bare += model.sum() >= prior.sum()
            tested += not paired_gain(model, prior).is_worse
        print(f"  {n:5} rows: by the bare comparison {bare / draws:.3f}, by the test {tested / draws:.3f}", flush=True)
    print("a model that is truly 30 points worse, refused in how many draws")
    for n in (67, 200):
        rng, refused = np.random.default_rng(0), 0
        for _ in range(draws):
            refused += paired_gain(rng.random(n) < 0.37, rng.random(n) < 0.67).is_worse
        print(f"  {n:5} rows: {refused / draws:.3f}", flush=True)


# %% the best of several epochs
def halves(right: np.ndarray, rng: np.random.Generator, parts: int, repeats: int) -> float:
    """Optimism by choosing the epoch on all parts but one and judging it on that one."""
    n = right.shape[1]
    total, honest = right.sum(1), 0.0
    for _ in range(repeats):
        part = rng.permutation(n) % parts
        by_part = np.stack([np.bincount(part, row, parts) for row in right])  # (E, parts)
        honest += by_part[(total[:, None] - by_part).argmax(0), np.arange(parts)].sum()
    return float(total.max() / n - honest / repeats / n)


def best_epoch(draws: int) -> None:
    print("\nbest of several epochs: points by which its accuracy is too high, true and as estimated (± spread)")
    estimates: dict[str, Callable[[np.ndarray, np.random.Generator], float]] = {
        "bootstrap": lambda right, rng: selection_optimism(right, draws=100),
        "2 parts": lambda right, rng: halves(right, rng, 2, 40), "10 parts": lambda right, rng: halves(right, rng, 10, 20),
    }
    cases = [([0.8] * 5, 200, 0.3), ([0.8] * 5, 200, 0.1), ([0.8] * 5, 1000, 0.3), ([0.8] * 2, 200, 0.3),
             ([0.6, 0.7, 0.76, 0.79, 0.8], 200, 0.3)]
    for shares, n, changed in cases:
        rng, true = np.random.default_rng(0), []
        found: dict[str, list[float]] = {name: [] for name in estimates}
        for _ in range(draws):
            base = rng.random(n)
            right = np.array([np.where(rng.random(n) < changed, rng.random(n), base) < share for share in shares])
            best = right.sum(1).argmax()
            true.append(right[best].mean() - shares[best])
            for name, estimate in estimates.items():
                found[name].append(estimate(right, rng))
        said = "   ".join(f"{name} {100 * np.mean(v):.2f} ± {100 * np.std(v):.2f}" for name, v in found.items())
        title = f"epochs {','.join(f'{s:g}' for s in shares)}, {n} rows, {changed:.0%} answered anew"
        print(f"  {title:66} true {100 * np.mean(true):.2f}   {said}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="simulated data sets of each case")
    options = parser.parse_args()
    print(f"{Accuracy(0, options.draws)} and {Accuracy(options.draws, options.draws)} is what {options.draws:,} draws can tell\n")
    accuracies(options.draws)
    gains(options.draws)
    against_prior(options.draws)
    best_epoch(options.draws)
