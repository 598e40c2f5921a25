"""Products of the layers of two networks, and sums of such products: what a variation does to the end-to-end matrix."""

from collections.abc import Collection, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

from .._arguments import checks_arguments
from .._checks import check_whole
from .blocks import BlockMatrix, blk


def mixed_product(F: BlockMatrix, G: BlockMatrix, positions: Collection[int] = ()) -> BlockMatrix:
    r"""A product of all h layers, G's at the `positions` (from 1) and F's elsewhere: one block, (h, 0).

    Positions (j,): $F^{h-j} G F^{j-1} = \mathrm{blk}_h(F_{j+1:h} G_j F_{1:j-1})$, and (k, j + k):
    $F^{h-j-k} G F^{j-1} G F^{k-1}$. Raises `ValueError` for positions that no layer has.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> F, G = adjacency(Network([[[2.0]], [[3.0]]])), adjacency(Network([[[5.0]], [[7.0]]]))
    >>> mixed_product(F, G, (2,))[2, 0].tolist()
    [[14.0]]

    Source: Altafini, eqs. (1) and (2).
    """
    _check(F, G)
    if not set(positions) <= set(range(1, F.depth + 1)):
        raise ValueError(f"`positions`: got {tuple(positions)}; layers are numbered from 1 to {F.depth}")
    chosen = [V if l in positions else W for l, (W, V) in enumerate(zip(F.layers, G.layers, strict=True), start=1)]
    return blk(F.depth, [_product(chosen)], F.widths)


@checks_arguments
def rho(A: BlockMatrix, V: BlockMatrix, k: int) -> BlockMatrix:
    r"""$\rho_k(A, V) = \sum_{k_1 + \dots + k_{k+1} = h-k} A^{k_1} V A^{k_2} \cdots V A^{k_{k+1}}$: one block, (h, 0).

    The sum over all words of length h with k letters V; $(A + \epsilon V)^h = \sum_k \epsilon^k \rho_k(A, V)$. By a
    recursion over layers in about 2 h k products. Zero for k > h. Raises `ValueError` for k < 0.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> A, V = adjacency(Network([[[2.0]], [[3.0]]])), adjacency(Network([[[5.0]], [[7.0]]]))
    >>> rho(A, V, 1)[2, 0].tolist(), rho(A, V, 2)[2, 0].tolist()
    ([[29.0]], [[35.0]])

    Source: Altafini, eqs. (20), (21), (34), (35) and table 1, which prints k_1 .. k_h; there are k + 1 exponents.
    """
    if check_whole("k", k, -(2**31)) < 0:
        raise ValueError(f"`k`: got {k}; the number of factors V is at least 0")
    _check(A, V)
    return BlockMatrix(A.widths, {}) if k > A.depth else _corner(A, _sums(A.layers, V.layers, k)[k])


def variations(A: BlockMatrix, V: BlockMatrix) -> tuple[BlockMatrix, ...]:
    r"""$\rho_0, \dots, \rho_h$, the coefficients of $(A + \epsilon V)^h$, in one recursion of about h^2 products.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> A, V = adjacency(Network([[[2.0]], [[3.0]]])), adjacency(Network([[[5.0]], [[7.0]]]))
    >>> [float(term[2, 0][0, 0]) for term in variations(A, V)]
    [6.0, 29.0, 35.0]

    Source: Altafini, section 4.5.
    """
    _check(A, V)
    return tuple(_corner(A, term) for term in _sums(A.layers, V.layers, A.depth))


def _sums(layers: Sequence[Any], others: Sequence[Any], most: int) -> list[Any]:
    """Sums of all products with 0 .. `most` factors of `others`, built from the thinner outer side."""
    if layers[0].shape[1] > layers[-1].shape[0]:
        turned = _sums([W.T for W in layers[::-1]], [V.T for V in others[::-1]], most)
        return [term.T for term in turned]
    sums = [layers[0], others[0]][: most + 1]
    for W, V in zip(layers[1:], others[1:], strict=True):
        longer = [W @ sums[0]] + [W @ here + V @ fewer for fewer, here in pairwise(sums)]
        sums = longer if len(sums) > most else [*longer, V @ sums[-1]]
    return sums


def _product(layers: Sequence[Any]) -> Any:
    """W_h ... W_1, from the thinner outer side."""
    if layers[0].shape[1] > layers[-1].shape[0]:
        return reduce(lambda above, W: above @ W, layers[::-1])
    return reduce(lambda below, W: W @ below, layers)


def _corner(A: BlockMatrix, block: Any) -> BlockMatrix:
    return blk(A.depth, [block], A.widths)


def _check(A: BlockMatrix, V: BlockMatrix) -> None:
    if A.widths != V.widths:
        raise ValueError(f"`V`: has widths {V.widths}, but A has {A.widths}; a variation has the shape of the network")
