"""Singular value decompositions of the adjacency matrix, put together from those of the layers."""

from typing import Any, NamedTuple

import numpy as np

from .blocks import BlockMatrix, blk


class BlockSVD(NamedTuple):
    """A = U Lambda V^T with Lambda in block-shift form, made by `block_svd`.

    >>> from deeplinear.blockshift import blk
    >>> U, Lambda, V = block_svd(blk(1, [[[-2.0]], [[3.0]]]))
    >>> (U @ Lambda @ V.T)[1, 0].tolist()
    [[-2.0]]
    """

    U: BlockMatrix
    """blk_0(0, U_1, ..., U_h)"""
    Lambda: BlockMatrix
    """blk_1(Lambda_1, ..., Lambda_h), each rectangular diagonal, largest first"""
    V: BlockMatrix
    """blk_0(V_1, ..., V_h, 0)"""


class SVD(NamedTuple):
    """A = U diag(s) V^T with orthogonal U and V, made by `svd`.

    >>> from deeplinear.blockshift import blk
    >>> U, s, V = svd(blk(1, [[[-2.0]]]))
    >>> ((U * s) @ V.T).tolist()
    [[0.0, 0.0], [-2.0, 0.0]]
    """

    U: np.ndarray
    """Shape (n_v, n_v)."""
    s: np.ndarray
    """Shape (n_v,), largest first."""
    V: np.ndarray
    """Shape (n_v, n_v)."""


def block_svd(A: BlockMatrix) -> BlockSVD:
    r"""The block-shift SVD $A = U \Lambda V^T$ from the full decompositions $W_i = U_i \Lambda_i V_i^T$.

    U_i and V_i are square, with the entry of largest modulus in every column of U_i positive (of V_i beyond its rank).
    The network is aligned where some such choice has $V^T U = J = \mathrm{blk}_0(0, I, \dots, I, 0)$.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> block_svd(adjacency(Network([[[-2.0]], [[3.0]]]))).Lambda.diagonal(1)
    (array([[2.]]), array([[3.]]))

    Source: Altafini, proposition 7.
    """
    U, Lambda, V = {}, [], {}
    for l, W in enumerate(A.layers, start=1):
        U[l, l], s, V[l - 1, l - 1] = _full_svd(np.asarray(W))
        Lambda.append(np.eye(*W.shape) * np.pad(s, (0, W.shape[0] - s.size))[:, None])
    return BlockSVD(BlockMatrix(A.widths, U), blk(1, Lambda), BlockMatrix(A.widths, V))


def svd(A: BlockMatrix) -> SVD:
    r"""A standard SVD of the whole adjacency matrix, $A = U \mathrm{diag}(s) V^T$, from those of the layers.

    s is the union of the layers' singular values with $n_v - q$ zeros, $q = \sum_i \min(d_i, d_{i-1})$. U and V are
    dense, (n_v, n_v): every column lives on one layer. Left vectors of value 0 are completed by the inputs' unit
    vectors, right ones by the outputs'.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> svd(adjacency(Network([[[2.0]], [[3.0]]]))).s.tolist()
    [3.0, 2.0, 0.0]

    Source: Altafini, proposition 39.
    """
    widths, h = A.widths, A.depth
    left, right, values = [], [], []
    spare_left, spare_right = [_placed(widths, 0, np.eye(widths[0]))], [_placed(widths, h, np.eye(widths[h]))]
    for l, W in enumerate(A.layers, start=1):
        U, s, V = _full_svd(np.asarray(W))
        values.append(s)
        left.append(_placed(widths, l, U[:, : s.size]))
        right.append(_placed(widths, l - 1, V[:, : s.size]))
        spare_left.append(_placed(widths, l, U[:, s.size :]))
        spare_right.append(_placed(widths, l - 1, V[:, s.size :]))
    s = np.concatenate(values)
    order = np.argsort(-s, kind="stable")
    columns = lambda kept, spare: np.hstack([np.hstack(kept)[:, order], *spare])
    zeros = np.zeros(sum(widths) - s.size)
    return SVD(columns(left, spare_left), np.concatenate([s[order], zeros]), columns(right, spare_right))


def singular_values(A: BlockMatrix) -> np.ndarray:
    """All n_v singular values of the adjacency matrix, largest first: those of the layers, and zeros.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> singular_values(adjacency(Network([[[2.0]], [[3.0]]]))).tolist()
    [3.0, 2.0, 0.0]

    Source: Altafini, proposition 39.
    """
    s = np.concatenate([np.linalg.svd(np.asarray(W), compute_uv=False) for W in A.layers])
    return np.concatenate([np.sort(s)[::-1], np.zeros(sum(A.widths) - s.size)])


def _full_svd(W: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, s, V of W = U diag(s) V^T, U and V square, with fixed signs."""
    U, s, Vt = np.linalg.svd(W)
    signs, n = _signs(U), s.size
    U, V = U * signs, Vt.T.copy()
    V[:, :n] *= signs[:n]
    V[:, n:] *= _signs(V[:, n:])
    return U, s, V


def _signs(U: np.ndarray) -> np.ndarray:
    """1 or -1 for every column: the sign of its entry of largest modulus."""
    return np.where(U[np.abs(U).argmax(axis=0), np.arange(U.shape[1])] < 0, -1.0, 1.0)


def _placed(widths: tuple[int, ...], l: int, columns: np.ndarray) -> Any:
    """Columns over all nodes that are zero outside layer l."""
    tall = np.zeros((sum(widths), columns.shape[1]))
    start = sum(widths[:l])
    tall[start : start + widths[l]] = columns
    return tall
