"""A network as a directed graph."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .._arguments import checks_arguments
from ..init.arguments import check_widths
from .blocks import BlockMatrix

if TYPE_CHECKING:
    import networkx


@checks_arguments
def node_count(widths: Sequence[int]) -> int:
    r"""Number of nodes, $n_v = \sum_l d_l$.

    >>> node_count((11, 6, 6, 6, 6, 4))
    39
    """
    return sum(check_widths(widths))


@checks_arguments
def edge_count(widths: Sequence[int]) -> int:
    r"""Number of edges, which is that of weights: $\sum_l d_l d_{l-1}$.

    >>> edge_count((11, 6, 6, 6, 6, 4))
    198
    """
    return sum(below * above for below, above in pairwise(check_widths(widths)))


def to_networkx(A: BlockMatrix) -> "networkx.DiGraph":
    """The network as a networkx `DiGraph`: nodes (layer, unit), an edge for every weight, zero ones too.

    Layers are numbered from 0, the inputs; units from 1. Nodes carry `layer` and `unit`, edges `weight`;
    `networkx.multipartite_layout(graph, subset_key="layer")` draws the layers side by side.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> graph = to_networkx(adjacency(Network([[[1.0, 2.0]], [[3.0]]])))
    >>> graph.edges[(0, 2), (1, 1)]["weight"]
    2.0

    Source: Altafini, section 3.
    """
    import networkx  # a quarter of a second that only this needs

    graph = networkx.DiGraph()
    for l, d in enumerate(A.widths):
        graph.add_nodes_from(((l, unit), {"layer": l, "unit": unit}) for unit in range(1, d + 1))
    for l, W in enumerate(A.layers, start=1):
        for (j, k), weight in np.ndenumerate(np.asarray(W)):
            graph.add_edge((l - 1, k + 1), (l, j + 1), weight=float(weight))
    return graph
