"""Pivots: pairs of layers whose ranks decide between strict and non-strict saddles."""

from typing import NamedTuple

from .quiver import Ranks


class Pivot(NamedTuple):
    r"""Layers i > j of a critical point of rank r, and the two ranks around them.

    It is tightened where one of them is r; a critical point whose modes are the r largest, r below the largest rank
    that the widths allow, is a non-strict saddle exactly if all its pivots are tightened.

    >>> Pivot(2, 1, inner_rank=3, outer_rank=1, tightened=True).tightened
    True

    Source: Achour, Malgouyres and Gerchinovitz (2024), JMLR 25(242), definition 5 and theorem 7.
    """

    i: int
    j: int
    inner_rank: int
    r"""Rank of $W_{i-1} \cdots W_{j+1}$."""
    outer_rank: int
    r"""Rank of $W_{j-1} \cdots W_1 \Sigma_{yx}^T W_h \cdots W_{i+1}$."""
    tightened: bool


def pivots_of(found: Ranks, r: int) -> tuple[Pivot, ...]:
    """All pivots, from the ranks of the products of the blocks beside the learned modes."""
    n = len(found.table)
    layers = [(i, j) for i in range(2, n) for j in range(1, i)]
    ranks = [(i, j, int(found.table[j, i - 1 - j]), int(found.table[i, (j - 1 - i) % n])) for i, j in layers]
    return tuple(Pivot(i, j, r + inner, r + outer, not (inner and outer)) for i, j, inner, outer in ranks)
