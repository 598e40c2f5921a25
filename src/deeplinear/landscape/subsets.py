"""Subsets in the order of their sums, one at a time: the k-th costs O(log k), however many there are."""

import heapq
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np


def cheapest_subsets(costs: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Subsets of 0, 1, ..., n - 1 of the given sizes, cheapest first, by best-first search.

    `costs` are in ascending order, and so are the sums of the first k of them over `sizes`. A subset of size k is made
    from the first k by moving the last element up, then the one before it, and so on: every subset is reached once,
    from a cheaper one. Ties come in an order that the subsets alone decide.

    >>> list(cheapest_subsets([1, 2, 4], range(3)))
    [(), (0,), (1,), (0, 1), (2,), (0, 2), (1, 2)]
    """
    first = [0, *accumulate(costs)]
    following = dict(pairwise(sizes))
    heap: list[tuple[int, int, tuple[int, ...]]] = [(first[k], k, ()) for k in sizes[:1]]
    while heap:
        cost, k, moved = heapq.heappop(heap)
        yield (*range(k - len(moved)), *moved)
        if not moved and k in following:
            heapq.heappush(heap, (first[following[k]], following[k], ()))
        for at, rest in _moves(k, moved):
            if at + 1 < (rest[0] if rest else len(costs)):
                heapq.heappush(heap, (cost + costs[at + 1] - costs[at], k, (at + 1, *rest)))


def _moves(k: int, moved: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Elements that may move up by one, with those above them: the last one that moved, or the next in turn."""
    if moved:
        yield moved[0], moved[1:]
    if len(moved) < k:
        yield k - len(moved) - 1, moved


def as_integers(values: np.ndarray) -> list[int]:
    """Numbers times a common power of two, as integers: their sums are exact, so that ties are ties.

    >>> as_integers(np.array([0.5, 1.25]))
    [2, 5]
    """
    ratios = [float(value).as_integer_ratio() for value in values]
    common = max((denominator for _, denominator in ratios), default=1)
    return [numerator * (common // denominator) for numerator, denominator in ratios]
