"""How close two sums over different subsets of some numbers come."""

from typing import NamedTuple

import numpy as np

EXHAUSTIVE = 24
"""Numbers of which all 2^n sums are compared: beyond, the closest two differ by little more than rounding."""
PAIRS = 2000
"""Numbers of which all sums of at most two are compared: two million sums."""


class ClosestSums(NamedTuple):
    """The two closest sums among those compared."""

    gap: float
    """Their difference divided by the largest sum compared with them."""
    first: tuple[int, ...]
    """Indices, from 0, of the numbers in one sum; no index is in both."""
    second: tuple[int, ...]
    compared: str
    """Which sums were compared, in words."""
    exhaustive: bool
    """Whether that was all of them."""


def closest_sums(values: np.ndarray) -> ClosestSums:
    """The closest two of the 2^n sums of subsets of n numbers that are not negative.

    Their difference is a sum with coefficients -1, 0, 1, and the smallest of these is found by meeting in the middle:
    3^(n/2) sums of either half. For more than `EXHAUSTIVE` numbers, among all sums of the largest ones, and all sums of
    at most two of the `PAIRS` largest.
    """
    order = np.argsort(-np.asarray(values, dtype=float), kind="stable")
    sorted_values = np.asarray(values, dtype=float)[order]
    n = len(order)
    found = [_meet(sorted_values[:EXHAUSTIVE])]
    exhaustive = n <= EXHAUSTIVE
    compared = f"all {2**n} sums"
    if not exhaustive:
        found.append(_among_pairs(sorted_values[:PAIRS]))
        of = "" if n <= PAIRS else f" of the {PAIRS} largest"
        compared = f"sums of the {EXHAUSTIVE} largest, and sums of at most two{of}; not all 2^{n}"
    gap, first, second = min(found, key=lambda pair: pair[0])
    named = lambda positions: tuple(sorted(int(order[i]) for i in positions))
    return ClosestSums(gap, named(first), named(second), compared, exhaustive)


def _meet(values: np.ndarray) -> tuple[float, list[int], list[int]]:
    """Smallest |sum_i e_i v_i| with e in {-1, 0, 1}^n, not all 0, relative to sum_i v_i; where e is 1, where -1."""
    half = len(values) // 2
    low, high = _signed_sums(values[:half]), _signed_sums(values[half:])
    order = np.argsort(high, kind="stable")
    ascending = high[order]
    places = np.searchsorted(ascending, -low)
    best = (np.inf, 0, 0)
    for shift in (-1, 0, 1):  # one more than the nearest two: the empty choice in both halves is left out
        at = np.clip(places + shift, 0, len(ascending) - 1)
        gaps = np.abs(low + ascending[at])
        gaps[(np.arange(len(low)) == len(low) // 2) & (order[at] == len(high) // 2)] = np.inf
        i = int(np.argmin(gaps))
        best = min(best, (float(gaps[i]), i, int(order[at[i]])))
    gap, i, j = best
    signs = np.concatenate([_digits(i, half), _digits(j, len(values) - half)]) - 1
    total = float(values.sum())
    return gap / total if total > 0 else 0.0, np.flatnonzero(signs > 0).tolist(), np.flatnonzero(signs < 0).tolist()


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """All 3^n sums with coefficients -1, 0, 1; the digits of an index in base 3 are the coefficients plus 1."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums, sums + value])
    return sums


def _digits(index: int, count: int) -> np.ndarray:
    return np.array([index // 3**k % 3 for k in range(count)], dtype=int)


def _among_pairs(values: np.ndarray) -> tuple[float, list[int], list[int]]:
    """The closest two among the sums of none, one or two of the values, relative to the largest of these sums."""
    i, j = np.triu_indices(len(values), k=1)
    sums = np.concatenate([[0.0], values, values[i] + values[j]])
    order = np.argsort(sums, kind="stable")
    nearest = int(np.argmin(np.diff(sums[order])))
    first, second = (_members(int(order[at]), i, j) for at in (nearest + 1, nearest))
    largest = float(sums[order[-1]])
    gap = float(sums[order[nearest + 1]] - sums[order[nearest]])
    return gap / largest if largest > 0 else 0.0, sorted(first - second), sorted(second - first)


def _members(at: int, i: np.ndarray, j: np.ndarray) -> set[int]:
    """Indices of the values in the sum number `at`: the empty one, the single ones, the pairs (i, j)."""
    singles = len(i) and int(j[-1]) + 1
    if at <= singles:
        return {at - 1} - {-1}
    return {int(i[at - 1 - singles]), int(j[at - 1 - singles])}
