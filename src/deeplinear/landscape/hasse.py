"""The order of critical points: who lies above whom, as a graph."""

from collections.abc import Iterable
from typing import Any

import networkx as nx

from .._arguments import checks_arguments
from .critical import CriticalPoints, critical_points, without_bottleneck
from .target import Target

MOST = 4096
"""Signatures of the largest graph: more is not looked at, and 2^20 of them would fill the memory."""


@checks_arguments
def graph(objective: Any, widths: Iterable[int] | None = None, max_rank: int | None = None) -> nx.DiGraph:
    r"""The Hasse diagram of signatures: an arrow from S to S with one more mode k, down which the loss falls.

    Along the arrow the loss is $L(S) - d (1 - (1 - \alpha)^2)$ with the drop $d = \frac{c}{2} \sigma_k^2$. Nodes are
    signatures with `value`, `rank`, and, where `widths` (d_x, ..., d_y) are given, `kinds` and `inertia`; edges have
    `mode` and `drop`. All arcs between nested signatures are the paths of this graph. Raises `ValueError` as
    `critical_points`, and for more than 4096 signatures.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> hasse = graph(objective, (2, 2, 2))
    >>> list(hasse.edges(data="drop"))
    [((), (1,), 2.0), ((), (2,), 0.5), ((2,), (1, 2), 2.0), ((1,), (1, 2), 0.5)]
    >>> hasse.nodes[1,]["value"], hasse.nodes[1,]["kinds"]
    (0.5, ('strict saddle',))

    Source: Altafini, theorem 24.
    """
    points = _all_points(objective, widths, max_rank)
    if points.count > MOST:
        raise ValueError(
            f"`max_rank`: {points.max_rank} gives {_about(points.count)} signatures, a graph holds {MOST}; lower "
            "`max_rank`, or take the lowest from `landscape.critical_points`"
        )
    target, found = points.target, nx.DiGraph()
    for point in reversed(points):
        found.add_node(point.signature, value=point.value, rank=point.rank)
        if widths is not None:
            found.add_node(point.signature, kinds=point.kinds, inertia=point.inertia)
    for signature in list(found):
        for k in range(1, target.rank + 1):
            above = tuple(sorted({*signature, k}))
            if k not in signature and above in found:
                found.add_edge(signature, above, mode=k, drop=target.factor / 2 * float(target.sigma[k - 1] ** 2))
    return found


def _all_points(objective: Any, widths: Iterable[int] | None, max_rank: int | None) -> CriticalPoints:
    """Those of a network of two layers without a bottleneck where no widths are given."""
    if widths is None:
        widths = without_bottleneck(Target.of(objective))
    return critical_points(objective, widths, max_rank)


def _about(count: int) -> str:
    return str(count) if count < 10**9 else f"about 10^{len(str(count)) - 1}"
