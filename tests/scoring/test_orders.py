import math
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest

from mcvqa.scoring.orders import option_orders, williams_square

ALL = range(2, 27)


def slot_counts(orders):
    """(n, n): how often each choice stands in each slot."""
    n = orders.shape[1]
    return np.stack([(orders == choice).sum(0) for choice in range(n)])


def neighbour_pairs(orders):
    return Counter((int(a), int(b)) for row in orders for a, b in pairwise(row))


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 24, 52, 120])
def test_every_plan_is_sound(n, k):
    orders = option_orders(n, k)
    assert orders.shape[1] == n and 1 <= len(orders) <= min(k, math.factorial(n))
    assert orders[0].tolist() == list(range(n))
    assert (np.sort(orders, 1) == np.arange(n)).all()
    assert len({tuple(row) for row in orders.tolist()}) == len(orders)


@pytest.mark.parametrize("n", ALL)
def test_each_choice_stands_once_in_each_slot(n):
    assert (slot_counts(option_orders(n, n)) == 1).all()


@pytest.mark.parametrize("n", [n for n in ALL if n % 2 == 0])
def test_even_square_has_each_ordered_neighbour_pair_once(n):
    pairs = neighbour_pairs(option_orders(n, n))
    assert len(pairs) == n * (n - 1) and set(pairs.values()) == {1}


@pytest.mark.parametrize("n", [n for n in ALL if n % 2 and n > 2])
def test_odd_double_square_has_each_ordered_neighbour_pair_twice(n):
    pairs = neighbour_pairs(option_orders(n, 2 * n))
    assert len(pairs) == n * (n - 1) and set(pairs.values()) == {2}


@pytest.mark.parametrize("n", ALL)
@pytest.mark.parametrize("sets", [2, 3, 4])
def test_several_squares_stay_balanced(n, sets):
    counts = slot_counts(option_orders(n, sets * n, seed=7))
    assert (counts == counts[0, 0]).all()


@pytest.mark.parametrize("n", [8, 26, 7])
def test_fewer_orders_than_choices_never_repeat_a_slot(n):
    for k in range(2, n):
        orders = option_orders(n, k)
        assert len(orders) == k and slot_counts(orders).max() == 1


def test_the_documented_cases():
    assert option_orders(4, 1).tolist() == [[0, 1, 2, 3]]
    assert option_orders(2, 4).tolist() == [[0, 1], [1, 0]]
    assert option_orders(3, 4).tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert sorted(option_orders(4, 4).tolist()) == [[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1], [3, 2, 1, 0]]
    assert len(option_orders(4, 7)) == 4
    for n, k in ((3, 6), (4, 24), (4, 100), (5, 120)):
        assert sorted(map(tuple, option_orders(n, k).tolist())) == sorted(permutations(range(n)))


def test_plans_repeat_with_their_seed():
    assert (option_orders(6, 18, seed=3) == option_orders(6, 18, seed=3)).all()
    assert (option_orders(6, 18, seed=3) != option_orders(6, 18, seed=4)).any()
    assert (williams_square(6) == option_orders(6, 6, seed=9)).all()


def test_impossible_plans_are_refused():
    for n, k in ((1, 4), (4, 0)):
        with pytest.raises(ValueError, match="at least"):
            option_orders(n, k)
