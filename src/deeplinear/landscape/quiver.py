r"""Ranks of all products around the cycle of spaces that the blocks Z and Sigma connect.

The spaces are $X$ (inputs not learned), the hidden $X_1, \dots, X_{h-1}$ and $Y$ (outputs not learned), numbered 0..h;
the arrows $Z_1, \dots, Z_h$ and back $\Sigma_Q^T$. At a critical point all products of h arrows vanish, so the cycle is
a direct sum of intervals of at most h spaces; ranks of the products count them, and the Hessian's signs depend on the
counts alone.
"""

from functools import lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from .frame import Frame

RANK_TOLERANCE = 1e-8
"""Singular values of products up to which they count as zero, in units of the layers."""

Interval = tuple[int, int]
"""First space and number of arrows."""


class Ranks(NamedTuple):
    """Ranks of products of 0..h arrows from every space, and how certain they are."""

    table: np.ndarray
    """Shape (h + 1 spaces, h + 1 numbers of arrows)."""
    largest: np.ndarray
    """Largest singular value of each product, 0 of empty ones, the same shape."""
    kept: float
    """Smallest singular value that counts, in units of the product of the layers' sizes; inf if there is none."""
    dropped: float
    """Largest singular value that counts as zero; 0 if there is none."""


def composites(frame: Frame) -> list[list[np.ndarray]]:
    """Products of 0..h arrows from every space, each arrow divided by its layer's size."""
    size = frame.target.sigma[0] if frame.target.sigma[0] > 0 else 1.0
    arrows = [*(Z / scale for Z, scale in zip(frame.Z, frame.scales, strict=True)), frame.rest.T / size]
    n = len(arrows)
    found = []
    for start in range(n):
        products = [np.eye(arrows[start].shape[1])]
        for step in range(n - 1):
            products.append(arrows[(start + step) % n] @ products[-1])
        found.append(products)
    return found


def ranks(products: list[list[np.ndarray]], tolerance: float) -> Ranks:
    """Ranks by singular values above an absolute tolerance: a block of rounding errors has rank 0, not full rank."""
    n, kept, dropped = len(products), np.inf, 0.0
    table, largest = np.zeros((n, n), dtype=int), np.zeros((n, n))
    for start, row in enumerate(products):
        table[start, 0] = row[0].shape[0]
        largest[start, 0] = float(table[start, 0] > 0)
        for arrows in range(1, n):
            s = np.linalg.svd(row[arrows], compute_uv=False) if row[arrows].size else np.zeros(0)
            table[start, arrows] = np.count_nonzero(s > tolerance)
            largest[start, arrows] = s.max(initial=0.0)
            kept = min(kept, s[s > tolerance].min(initial=np.inf))
            dropped = max(dropped, s[s <= tolerance].max(initial=0.0))
    return Ranks(table, largest, float(kept), float(dropped))


def intervals(table: np.ndarray) -> dict[Interval, int]:
    """How often each interval occurs; a negative count is a contradiction among the ranks."""
    n = len(table)
    rank = lambda start, arrows: int(table[start % n, arrows]) if arrows < n else 0
    counts = {
        (start, arrows): rank(start, arrows)
        - rank(start - 1, arrows + 1)
        - rank(start, arrows + 1)
        + rank(start - 1, arrows + 2)
        for start in range(n)
        for arrows in range(n)
    }
    return {interval: count for interval, count in counts.items() if count}


def signs_of_rest(counts: dict[Interval, int], h: int) -> tuple[int, int]:
    r"""Negative and positive eigenvalues that the blocks Z contribute to the Hessian.

    Its form is $q(R) - 2 b$ with $R = \sum_j Z_{j+1:h} V_j Z_{1:j-1}$, q the squared norm and $b = \sum_{i>j}
    \mathrm{tr}(\Sigma_Q^T Z_{i+1:h} V_i Z_{j+1:i-1} V_j Z_{1:j-1})$. In bases of intervals b couples maps from one
    interval a to another, c, with maps from c to a, by a matrix of zeros and ones; and R sees of either at most their
    sum. It never sees both: a would hold the spaces 0..j-1 and i..h, c the spaces j..h and 0..i-1, one of them all h +
    1. So the unseen sides together are isotropic for b and for q(R), of half the dimension of b's support: every
    coupling counts once on both sides whatever q is, and R adds what it sees of the maps that nothing couples.
    """
    negative = positive = 0
    for a, b in combinations_with_replacement(counts, 2):
        pairs = counts[a] * counts[b]
        coupled, seen, seen_back = _coupling(h, a, b)
        negative += pairs * coupled
        positive += pairs * (coupled + seen + (seen_back if a != b else 0))
    return negative, positive


@lru_cache(maxsize=4096)
def _coupling(h: int, a: Interval, b: Interval) -> tuple[int, bool, bool]:
    """Rank of the coupling of V: a -> b with V: b -> a, and whether the square sees uncoupled maps either way."""
    holds = lambda interval, start, arrows: (start - interval[0]) % (h + 1) + arrows <= interval[1]
    maps = lambda a, b: [j for j in range(1, h + 1) if holds(a, j - 1, 0) and holds(b, j, 0)]
    there, back = maps(a, b), maps(b, a)
    C = np.array(
        [
            [i != j and holds(b, j, (i - 1 - j) % (h + 1)) and holds(a, i, (j - 1 - i) % (h + 1)) for i in back]
            for j in there
        ],
        dtype=float,
    ).reshape(len(there), len(back))
    seen = lambda a, b, maps: np.array([holds(a, 0, j - 1) and holds(b, j, h - j) for j in maps], dtype=float)
    rank = _rank(C)
    sees = _rank(np.column_stack([C, seen(a, b, there)])) > rank
    return rank, sees, _rank(np.vstack([C, seen(b, a, back)])) > rank


def _rank(C: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(C)) if C.size else 0
