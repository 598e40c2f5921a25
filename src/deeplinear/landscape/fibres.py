r"""Fibres: the networks of one end-to-end matrix, how to move among them, and what stays the same.

$\phi$ takes a network to its end-to-end matrix W. The fibre of W is $\phi^{-1}(W)$, all networks of given widths with
that product (the equivalence ~ of Altafini, section 4.3). Inside a fibre lie orbits: networks that are hidden changes
of basis of each other, $W'_l = P_l W_l P_{l-1}^{-1}$ with $P_0 = P_h = I$. Orbits keep the rank of every partial
product $W_{i:j}$ and, at critical points, the kind; a fibre can hold critical points of several kinds and points that
are not critical at all.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._arguments import checks_arguments
from ..network import Network
from .representatives import change_basis as moved

SAME = 1e-9
"""Relative difference up to which two end-to-end matrices count as equal."""
DENSE = 2000
"""Weights or unknowns up to which matrices of that size are formed."""


class Quotient(NamedTuple):
    """Where a network goes when hidden bases are forgotten.

    >>> quotient(Network([[[2.0]], [[3.0]]])).conserved[0].tolist()
    [[5.0]]
    """

    end_to_end: np.ndarray
    """W, shape (d_y, d_x): names the fibre."""
    conserved: tuple[np.ndarray, ...]
    """W_{l+1}^T W_{l+1} - W_l W_l^T of every junction, (d_l, d_l): names the leaf that gradient flow stays on."""


@checks_arguments
def quotient(network: Network) -> Quotient:
    r"""The quotient map: weights to end-to-end matrix and conserved quantities.

    $W = W_h \cdots W_1$ and $C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$. W is the same all over a fibre, C all along a
    gradient flow; orthogonal changes of the hidden bases turn C with them.

    >>> quotient(Network([[[2.0]], [[3.0]]])).end_to_end.tolist()
    [[6.0]]

    Source: Altafini, section 4.3 and proposition 6 (whose $C_l$ is the negative).
    """
    weights = _layers(network)
    conserved = tuple(above.T @ above - below @ below.T for below, above in pairwise(weights))
    return Quotient(_product(weights), conserved)


@checks_arguments
def same_fiber(a: Network, b: Network, tol: float = SAME) -> bool:
    r"""Whether two networks have the same end-to-end matrix.

    $\|W_a - W_b\|_F \le tol \cdot \max \prod_l \|W_l\|_2$ over both: the right side is the size against which rounding
    of the products is small, also where they vanish. Raises `ValueError` for networks of different widths (they lie in
    no common fibre) and a negative `tol`.

    >>> same_fiber(Network([[[2.0]], [[3.0]]]), Network([[[1.0]], [[6.0]]]))
    True

    Source: Altafini, section 4.3.
    """
    _check_pair(a, b, tol)
    first, second = _layers(a), _layers(b)
    size = max(np.prod([np.linalg.norm(W, 2) for W in weights]) for weights in (first, second))
    return bool(np.linalg.norm(_product(first) - _product(second)) <= tol * size)


@checks_arguments
def same_orbit(a: Network, b: Network, tol: float = SAME) -> bool:
    r"""Whether two networks are hidden changes of basis of each other.

    Solves the linear equations $P_l W^a_l = W^b_l P_{l-1}$, $P_0 = P_h = I$, for all $P_l$ together, and asks whether a
    generic solution is invertible (if any is, almost every one is). Equal orbits lie in one fibre and have equal
    `partial_ranks`. `tol`: residual, relative to the weights, up to which the equations hold, and singular values of
    the P_l, relative to the largest, that count as zero. Raises `ValueError` for different widths, a negative `tol`,
    and more than 2000 unknowns ($\sum_l d_l^2$ over hidden layers).

    >>> same_orbit(Network([[[2.0]], [[3.0]]]), Network([[[1.0]], [[6.0]]]))
    True
    >>> same_orbit(Network([[[2.0]], [[0.0]]]), Network([[[0.0]], [[0.0]]]))  # one fibre, two orbits
    False

    Source: Altafini, section 3.5, for the action.
    """
    _check_pair(a, b, tol)
    hidden = a.widths[1:-1]
    unknowns = sum(d * d for d in hidden)
    if unknowns > DENSE:
        raise ValueError(f"`a`: its changes of basis have {unknowns} entries; at most {DENSE} are solved for")
    if not (same := same_fiber(a, b, tol)) or not hidden:
        return same
    # every layer of size 1, so that no equation hides behind another's size
    norms = [max(np.linalg.norm(V), np.linalg.norm(W), 1e-300) for V, W in zip(a.weights, b.weights, strict=True)]
    first, second = ([W / n for W, n in zip(_layers(net), norms, strict=True)] for net in (a, b))
    equations, right = _intertwiners(first, second)
    _, s, Vt = np.linalg.svd(equations)
    rank = int(np.sum(s > tol * s[0])) if s.size and s[0] > 0 else 0
    P = np.linalg.lstsq(equations, right, rcond=tol)[0]
    if np.linalg.norm(equations @ P - right) > tol * max(1.0, float(np.linalg.norm(P))):
        return False
    free = Vt[rank:]
    P = P + free.T @ np.random.default_rng(0).standard_normal(len(free)) * max(1.0, float(np.abs(P).max()))
    cuts = np.cumsum([d * d for d in hidden])[:-1]
    for d, block in zip(hidden, np.split(P, cuts), strict=True):
        s = np.linalg.svd(block.reshape(d, d), compute_uv=False)
        if s[-1] <= tol * s[0]:
            return False
    return True


@checks_arguments
def partial_ranks(network: Network, tol: float = SAME) -> np.ndarray:
    r"""Ranks of all partial products $W_{i:j}$, shape (h, h), entry (i - 1, j - 1); zero below the diagonal.

    Every hidden change of basis keeps them. Singular values up to `tol` times $\prod_l \|W_l\|_2$ of the layers
    involved count as zero.

    >>> partial_ranks(Network([[[1.0], [0.0]], [[0.0, 1.0]]])).tolist()
    [[1, 0], [0, 1]]
    """
    weights = _layers(network)
    norms = [float(np.linalg.norm(W, 2)) for W in weights]
    ranks = np.zeros((len(weights), len(weights)), dtype=int)
    for i in range(len(weights)):
        for j in range(i, len(weights)):
            s = np.linalg.svd(_product(weights[i : j + 1]), compute_uv=False)
            ranks[i, j] = np.sum(s > tol * np.prod(norms[i : j + 1]))
    return ranks


@checks_arguments
def change_basis(network: Network, bases: Sequence[Any]) -> Network:
    r"""The network in other hidden bases: $W_l \leftarrow P_l W_l P_{l-1}^{-1}$, $P_0 = P_h = I$.

    `bases` = $(P_1, \dots, P_{h-1})$, invertible, (d_l, d_l). The end-to-end matrix, the loss and the kind of a
    critical point stay; conserved quantities, and the spectrum of the Hessian, only if every P_l is orthogonal. Raises
    `ValueError` for another number of matrices, other shapes, and matrices that are singular to rounding.

    >>> change_basis(Network([[[2.0]], [[3.0]]]), [[[2.0]]]).weights[0].tolist()
    [[4.0]]

    Source: Altafini, section 3.5.
    """
    hidden = network.widths[1:-1]
    if len(bases) != len(hidden):
        raise ValueError(f"`bases`: got {len(bases)} matrices; give one for each of {len(hidden)} hidden layers")
    matrices = [np.asarray(P, dtype=float) for P in bases]
    for l, (d, P) in enumerate(zip(hidden, matrices, strict=True), start=1):
        if P.shape != (d, d) or not np.isfinite(P).all():
            raise ValueError(f"`bases`: matrix {l} has shape {P.shape}; give a finite matrix ({d}, {d})")
        if np.linalg.cond(P) > 1e14:
            raise ValueError(f"`bases`: matrix {l} is singular to rounding; a change of basis is invertible")
    return Network(moved(_layers(network), [(P, np.linalg.inv(P)) for P in matrices]))


@checks_arguments
def balanced_representative(network: Network) -> Network:
    r"""The 0-balanced network with the same end-to-end matrix, in hidden frames next to those of `network`.

    With $W = U \, \mathrm{diag}(s) V^T$: $W_l = R_l \, \mathrm{diag}(s^{1/h}) R_{l-1}^T$, $R_0 = V$, $R_h = U$, and
    $R_l$ the orthonormal polar factor of $W_{1:l} V$ (of its completion where that has no full rank). Unique up to
    orthogonal changes of the hidden bases.

    It is the flattest minimum. For every network with product W, and any top singular triple (u, s_1, v), the largest
    eigenvalue of the Gauss-Newton matrix for whitened inputs (at a minimum that fits exactly: of the Hessian, for the
    half-mean loss) is at least $\sum_j \|W_{j+1:h}^T u\|^2 \|W_{1:j-1} v\|^2 \ge h \, s_1^{2 - 2/h}$, by the inequality
    of the means and $\|W_{j+1:h}^T u\| \|W_{1:j} v\| \ge s_1$; the balanced network attains it. With correlated inputs
    it need not be the flattest. Assumes that the rank of W is at most every width, which it is.

    >>> [float(W[0, 0]) for W in balanced_representative(Network([[[8.0]], [[0.5]]])).weights]
    [2.0, 2.0]

    Source: Altafini, section 5.3; Mulayoff and Michaeli (2020), theorem 1, for flatness.
    """
    weights, rank = _layers(network), network.max_rank
    U, s, Vt = np.linalg.svd(_product(weights), full_matrices=False)
    U, z, V = U[:, :rank], s[:rank] ** (1 / len(weights)), Vt[:rank].T
    frames, carried = [V], V
    for W in weights[:-1]:
        carried = W @ carried
        left, _, right = np.linalg.svd(carried, full_matrices=False)
        frames.append(left @ right)
    return Network([(above * z) @ below.T for below, above in pairwise([*frames, U])])


@checks_arguments
def fibre_dimension(network: Network, tol: float = SAME) -> int:
    r"""Dimension of the kernel of $d\phi$ at a network: that of the fibre wherever the fibre is smooth.

    $N - \sum_j (a_j - a_{j-1}) b_j$ with $a_j = \mathrm{rank}\, W_{j+1:h}$ ($a_0 = 0$, $a_h = d_y$) and $b_j =
    \mathrm{rank}\, W_{1:j-1}$ ($b_1 = d_x$): $d\phi$ has the range $\sum_j \mathrm{im}\, W_{j+1:h} \otimes
    \mathrm{im}\, W_{1:j-1}^T$, a sum over nested subspaces. The fibre of a W of full rank d_y or d_x without bottleneck
    is smooth of dimension $N - d_x d_y$, that of a W whose rank is the smallest width r of dimension $N - r (d_x + d_y
    - r)$; elsewhere fibres can cross themselves, and this is an upper bound.

    >>> fibre_dimension(Network([[[1.0], [2.0]], [[3.0, 4.0]]]))
    3

    Source: Trager, Kohn and Bruna (2020), lemma 3, for the range. The survey's bound $\sum_l d_l^2$ (proposition 3) is
    that of the orbit where the changes of basis act freely; wide layers have less.
    """
    weights, ranks = _layers(network), partial_ranks(network, tol)
    h = len(weights)
    a = [0, *(int(ranks[j, h - 1]) for j in range(1, h)), network.widths[-1]]
    b = [network.widths[0], *(int(ranks[0, j]) for j in range(h - 1))]
    covered = sum((after - before) * wide for (before, after), wide in zip(pairwise(a), b, strict=True))
    return sum(W.size for W in weights) - covered


def _intertwiners(first: list[np.ndarray], second: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and right side of P_l W^a_l - W^b_l P_{l-1} = 0 in the entries of P_1, ..., P_{h-1}, row by row."""
    h, widths = len(first), [first[0].shape[1], *(W.shape[0] for W in first)]
    starts = np.cumsum([0, *(d * d for d in widths[1:-1])])
    rows, right = [], []
    for l in range(1, h + 1):
        A, B = first[l - 1], second[l - 1]
        block = np.zeros((A.size, starts[-1]))
        if l < h:
            block[:, starts[l - 1] : starts[l]] = np.kron(np.eye(widths[l]), A.T)
        if l > 1:
            block[:, starts[l - 2] : starts[l - 1]] = -np.kron(B, np.eye(widths[l - 1]))
        rows.append(block)
        right.append((B if l == 1 else -A if l == h else np.zeros_like(A)).ravel())
    return np.concatenate(rows), np.concatenate(right)


def _layers(network: Network) -> list[np.ndarray]:
    return [np.asarray(W, dtype=float) for W in network.weights]


def _product(weights: Sequence[np.ndarray]) -> np.ndarray:
    W = weights[0]
    for above in weights[1:]:
        W = above @ W
    return W


def _check_pair(a: Network, b: Network, tol: float) -> None:
    if a.widths != b.widths:
        raise ValueError(f"`b`: has widths {b.widths}, but `a` has {a.widths}; fibres are of networks of equal widths")
    if not tol >= 0:
        raise ValueError(f"`tol`: got {tol}; a tolerance is at least 0")
