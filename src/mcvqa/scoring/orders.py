"""Makes option orders: the orders in which the choices of a question are shown.

A model prefers some letters, and its answer depends on the neighbouring choices. Averaging over orders removes this best if every
choice occurs once in every slot and once after every other choice. Such a set is a Williams square: n orders for an even number n
of choices, 2n for an odd one (Williams 1949, "Experimental designs balanced for the estimation of residual effects of
treatments", Australian Journal of Scientific Research A 2, 149-168).
"""
import math
from collections.abc import Sequence

import numpy as np

from mcvqa.config import Config
from mcvqa.data.meta_choices import orders_around_fixed


# %% the plan
def tta_plan(config: Config) -> tuple[int, tuple[float, ...]]:
    """Return the option orders per question, and the image scales; one of each without TTA or if answers are generated as
    text."""
    return (config.tta_orders, config.tta_scales) if config.use_tta and config.answer_by == "letters" else (1, (1.0,))


def question_orders(choices: Sequence[str], k: int) -> np.ndarray:
    """Make orders for one question: `option_orders` of the choices that may move; the others keep their slots.

    Args:
        choices: C texts.
        k: maximum number of orders, 1 or more.

    Returns:
        (K', C) with K' <= k: the original choice shown in each slot.
    """
    return orders_around_fixed(choices, lambda n_choices: option_orders(n_choices, k))


def option_orders(n_choices: int, k: int, seed: int = 0) -> np.ndarray:
    """Make orders for a question with `n_choices` choices, for test-time augmentation.

    The first order is the original one. For k >= n only complete squares are used: the largest multiple of n up to k and n!, so
    that every choice occurs equally often in every slot. Further squares relabel the choices of the first one, so no order is
    repeated, and for odd n every other square is the mirror that completes the pairs of neighbours. For k < n, k rows are spread
    over the square, so that every choice still occurs in k different slots.

    Args:
        n_choices: number of choices, 2 or more.
        k: maximum number of orders, 1 or more.
        seed: seed of the relabellings; it matters beyond the first square (n even) or pair of squares (n odd).

    Returns:
        (K', n_choices) with K' <= k: the original choice shown in each slot.

    Raises:
        ValueError: `n_choices` or `k` is too small.
    """
    if n_choices < 2 or k < 1:
        raise ValueError(f"Orders need at least 2 choices and k of at least 1, not {n_choices} and {k}.")
    square = williams_square(n_choices)
    if k < n_choices:
        return square[np.arange(k) * n_choices // k]
    n_squares = min(k, math.factorial(n_choices)) // n_choices
    random = np.random.default_rng(seed)
    plan: list[np.ndarray] = []
    seen: set[tuple[int, ...]] = set()
    labels = np.arange(n_choices)
    while len(plan) < n_squares:
        # the rows of a square form a group of permutations, so two relabelled squares share all rows or none
        for relabelled in (labels[square], labels[square[:, ::-1]]):
            key = tuple(min(relabelled.tolist()))
            if len(plan) < n_squares and key not in seen:
                seen.add(key)
                plan.append(relabelled)
        labels = random.permutation(n_choices)
    return np.concatenate(plan)


def williams_square(n: int) -> np.ndarray:
    """Make an (n, n) Latin square whose first row is 0, 1, ..., n-1: row k is the original choice in each slot.

    For even n each ordered pair of neighbours occurs once; for odd n once in the square and its mirror together.
    """
    zigzag = np.empty(n, dtype=np.int64)  # 0, 1, n-1, 2, n-2, ...: all differences of neighbours are distinct
    zigzag[0::2] = -np.arange((n + 1) // 2) % n
    zigzag[1::2] = np.arange(1, n // 2 + 1)
    name = np.argsort(zigzag)  # renames the choices so that the zigzag itself reads 0, 1, 2, ...
    return name[(zigzag + np.arange(n)[:, None]) % n]
