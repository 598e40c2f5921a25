"""Pivots: pairs of layers whose ranks decide between strict and non-strict saddles."""

from typing import Any, NamedTuple

from .._arguments import checks_arguments
from .._checks import Check
from ..network import Network
from .doors import host_weights
from .forms import Quadratic, reduced, squared_norm
from .frame import Frame
from .quiver import RANK_TOLERANCE, Ranks, composites, ranks

STATEMENT = "every pivot i > j has a product of rank r around it"


class Pivot(NamedTuple):
    r"""Layers i > j of a critical point of rank r, and the two ranks around them.

    It is tightened where one of them is r; a critical point whose modes are the r largest, r below the largest rank
    that the widths allow, is a non-strict saddle exactly if all its pivots are tightened.

    >>> Pivot(2, 1, inner_rank=3, outer_rank=1, tightened=True, between=0.4, around=1e-12).violation
    1e-12

    Source: Achour, Malgouyres and Gerchinovitz (2024), JMLR 25(242), definition 5 and theorem 7.
    """

    i: int
    j: int
    inner_rank: int
    r"""Rank of $W_{i-1} \cdots W_{j+1}$."""
    outer_rank: int
    r"""Rank of $W_{j-1} \cdots W_1 \Sigma_{yx}^T W_h \cdots W_{i+1}$."""
    tightened: bool
    between: float
    """(r + 1)-th singular value of the inner product, that of its part beside the learned modes, in units of the
    layers; 0: its rank is r exactly."""
    around: float
    """The same of the outer product."""

    @property
    def violation(self) -> float:
        """How far the pivot is from tightened: the smaller of both."""
        return min(self.between, self.around)


def pivots_of(found: Ranks, r: int) -> tuple[Pivot, ...]:
    """All pivots, from the ranks of the products of the blocks beside the learned modes."""
    n = len(found.table)
    places = [(i, j, (j, i - 1 - j), (i, (j - 1 - i) % n)) for i in range(2, n) for j in range(1, i)]
    return tuple(
        Pivot(
            i,
            j,
            r + int(found.table[inner]),
            r + int(found.table[outer]),
            not (found.table[inner] and found.table[outer]),
            float(found.largest[inner]),
            float(found.largest[outer]),
        )
        for i, j, inner, outer in places
    )


@checks_arguments
def pivots(objective: Any, network: Network, *, tolerance: float = RANK_TOLERANCE) -> tuple[Pivot, ...]:
    r"""All pairs of layers i > j with the ranks that decide whether the network is tightened.

    r is the number of modes that the end-to-end matrix has learned, by more than half of their strength. Ranks are
    those of the blocks Z beside these modes (survey (33)), each in units of its layer: singular values above
    `tolerance` count, as in `landscape.classify`, of which this is a part. Raises `ValueError` for an objective other
    than `SquaredError`, widths that do not fit, entries that are not finite.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> [found] = pivots(objective, Network([[[0.0, 0.0], [0.0, 0.0]]] * 2))
    >>> found.inner_rank, found.outer_rank, found.tightened
    (2, 2, False)

    Source: Achour, Malgouyres and Gerchinovitz (2024), theorem 7, as the survey numbers it (proposition 18).
    """
    return _looked_at(objective, network, tolerance)[0]


@checks_arguments
def tightened(objective: Any, network: Network, *, tolerance: float = RANK_TOLERANCE) -> Check:
    r"""Whether every pivot, a pair of layers i > j, has a product of rank r around it, r the rank of W.

    W is the end-to-end matrix. The products are $W_{i-1} \cdots W_{j+1}$ and
    $W_{j-1} \cdots W_1 \Sigma_{xy} W_h \cdots W_{i+1}$; empty ones are the identity, and one of the two suffices. A
    critical point that has learned the r strongest modes, but not all, is a non-strict saddle if it is tightened and a
    strict one if not. Assumes a critical point: the note says how large the gradient is. With two layers no saddle is
    tightened (the survey calls A_1 of (32) always tightened: that takes three layers). Violation: of the pivot that is
    furthest from it (`landscape.pivots`); margin: the factor between it and the tolerance. Raises `ValueError` as
    `landscape.pivots` does.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> zeros = [[0.0, 0.0], [0.0, 0.0]]
    >>> [tightened(objective, Network([zeros] * depth)).holds for depth in (2, 3)]
    [False, True]

    Source: Achour, Malgouyres and Gerchinovitz (2024), theorem 7; Altafini, section 4.4 and proposition 18.
    """
    found, rank, slope = _looked_at(objective, network, tolerance)
    note = f"rank {rank}, gradient {slope:.1e}"
    if not found:
        return Check("tightened", STATEMENT, 0.0, tolerance, note=f"{note}, one layer has no pivot")
    loosest = max(found, key=lambda pivot: pivot.violation)
    off = loosest.violation
    margin = float("inf") if off == 0 else max(off / tolerance, tolerance / off)
    note += f", loosest pivot ({loosest.i}, {loosest.j})"
    return Check("tightened", STATEMENT, off, tolerance, margin, note)


def _looked_at(objective: Any, network: Network, tolerance: float) -> tuple[tuple[Pivot, ...], int, float]:
    """The pivots of a network, its rank, and the norm of its gradient."""
    target, weights = host_weights(objective, network)
    frame = Frame.of(target, reduced(target, weights))
    slope = squared_norm(Quadratic.of(objective).gradient(weights)) ** 0.5
    return pivots_of(ranks(composites(frame), tolerance), frame.S.size), frame.S.size, slope
