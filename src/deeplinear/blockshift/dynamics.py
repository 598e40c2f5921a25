"""Loss and gradient flow in terms of the adjacency matrix, and the commutator of which a part is conserved."""

from itertools import accumulate
from typing import Any

from .blocks import BlockMatrix, blk
from .words import mixed_product


def loss(A: BlockMatrix, E: BlockMatrix) -> Any:
    r"""$L(A) = \frac12 \|E - A^h\|_F^2$ for the target $E = \mathrm{blk}_h(\Sigma)$.

    The survey's normal form: whitened inputs, half-mean scale.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency, blk
    >>> A = adjacency(Network([[[1.0]], [[2.0]]]))
    >>> float(loss(A, blk(2, [[[3.0]]], A.widths)))
    0.5

    Source: Altafini, eq. (11).
    """
    gap = E - mixed_product(A, A)
    return gap.inner(gap) / 2


def pullback(A: BlockMatrix, M: BlockMatrix) -> BlockMatrix:
    r"""$\sum_j (A^{h-j})^T M (A^{j-1})^T$ for $M = \mathrm{blk}_h(G)$: layers $W_{j+1:h}^T G W_{1:j-1}^T$.

    In 3 h products. The adjoint of $V \mapsto \rho_1(A, V)$: of the derivative G of any objective of the end-to-end
    matrix it is the gradient with respect to the layers.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency, blk
    >>> A = adjacency(Network([[[1.0]], [[2.0]]]))
    >>> [W.tolist() for W in pullback(A, blk(2, [[[3.0]]], A.widths)).layers]
    [[[6.0]], [[3.0]]]

    Source: Altafini, section 3.3.
    """
    layers, h = A.layers, A.depth
    below = [None, *accumulate(layers[:-1], lambda product, W: W @ product)]
    carried = M[h, 0]
    pulled = []
    for W, product in zip(layers[::-1], below[::-1], strict=True):
        pulled.append(carried if product is None else carried @ product.T)
        carried = W.T @ carried
    return blk(1, pulled[::-1], A.widths)


def flow(A: BlockMatrix, E: BlockMatrix) -> BlockMatrix:
    r"""$\dot A = -\nabla_A L = \sum_j (A^{h-j})^T (E - A^h) (A^{j-1})^T = \mathrm{blk}_1(\dot W_1, \dots, \dot W_h)$.

    Block by block $\dot W_j = W_{j+1:h}^T (\Sigma - W_{1:h}) W_{1:j-1}^T$. Assumes whitened inputs.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency, blk
    >>> A = adjacency(Network([[[1.0]], [[2.0]]]))
    >>> [W.tolist() for W in flow(A, blk(2, [[[3.0]]], A.widths)).layers]
    [[[2.0]], [[1.0]]]

    Source: Altafini, eqs. (9), (12) and (15).
    """
    return pullback(A, E - mixed_product(A, A))


def commutator(A: BlockMatrix, B: BlockMatrix) -> BlockMatrix:
    r"""$[A, B] = A B - B A$; $Q = [A, A^T]$ measures how far A is from a normal matrix.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> A = adjacency(Network([[[1.0]], [[2.0]]]))
    >>> commutator(A, A.T).dense().diagonal().tolist()
    [-1.0, -3.0, 4.0]

    Source: Altafini, eq. (18).
    """
    return A @ B - B @ A


def conserved(A: BlockMatrix) -> BlockMatrix:
    r"""$J Q = \mathrm{blk}_0(0, C_1, \dots, C_{h-1}, 0)$, $C_i = W_i W_i^T - W_{i+1}^T W_{i+1}$.

    Constant along the flow. The sign is the survey's; `diagnostics.imbalance` has the other.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> conserved(adjacency(Network([[[1.0]], [[2.0]]]))).blocks
    {(1, 1): array([[-3.]])}

    Source: Altafini, proposition 6.
    """
    Q = commutator(A, A.T)
    return BlockMatrix(A.widths, {(l, l): Q[l, l] for l in range(1, A.depth)})


def commutator_rate(A: BlockMatrix, E: BlockMatrix) -> BlockMatrix:
    r"""$\dot Q = [A^h, M^T] + [A^h, M^T]^T$ along the flow, with $M = E - A^h$ and $Q = [A, A^T]$.

    Only the blocks of inputs and outputs are nonzero. Equal to $[A^h, E^T] + [A^h, E^T]^T - 2 [A^h, (A^h)^T]$; the
    third line of (19) is printed with $+2$, and what the text calls the symmetric part is twice that.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency, blk
    >>> A = adjacency(Network([[[1.0]], [[2.0]]]))
    >>> commutator_rate(A, blk(2, [[[3.0]]], A.widths)).dense().diagonal().tolist()
    [-4.0, 0.0, 4.0]

    Source: Altafini, proposition 6 and eq. (19), corrected.
    """
    reached = mixed_product(A, A)
    half = commutator(reached, (E - reached).T)
    return half + half.T
