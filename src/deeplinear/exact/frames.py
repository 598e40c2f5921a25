r"""Whether layers are diagonal between common frames, and which: $W_l = R_l \, \mathrm{diag}(\xi_l) R_{l-1}^T$ + rest.

$R_0$ and $R_h$ are the data's modes. What the modes do not reach (the rest) lies between the complements of the frames;
its product vanishes, so it never moves. Where the data's modes are free (equal singular values, a kernel), the network
itself chooses them.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._linalg import rank_tolerance

NOISE = 8 * float(np.finfo(float).eps)
"""Rounding of a product, in units of the product of absolute values."""
EQUAL = 1e-8
"""Relative difference below which two values may belong to rotated modes: the root of rounding."""


class Frames(NamedTuple):
    """The modes that data and network share, and how far the layers are from diagonal in them."""

    bases: list[np.ndarray]
    """R_0 .. R_h, (d_l, mode), orthonormal columns; a column is zero where a mode does not reach or never moves."""
    xi: np.ndarray
    """Weights of the modes in the layers, (layer, mode)."""
    s: np.ndarray
    c: np.ndarray
    """Input variances of the modes, (mode,)."""
    off_inputs: float
    """How far the modes are from eigenvectors of sigma_xx, relative."""
    off_end_to_end: float
    """How far the end-to-end matrix is from diagonal in the modes, relative."""
    off_layers: float
    """How far the layers are from the form above, relative, the worst layer."""


def shared_frames(objective: Any, layers: list[np.ndarray]) -> Frames:
    """The frames in which the layers are diagonal, as far as they are."""
    U, s, V = (np.asarray(part) for part in objective.modes)
    sigma_xx = np.asarray(objective.sigma_xx)
    W = _chain(layers)
    s = np.where(s > rank_tolerance(max(W.shape)) * s[0], s, 0.0)
    U, V = _rotated(U, s, V, W, layers, sigma_xx)
    strengths = np.sum(U * (W @ V), axis=0)
    size = np.prod([np.linalg.norm(A, 2) for A in layers])
    active = (s > 0) | (np.abs(strengths) > rank_tolerance(max(W.shape)) * size)
    bases = _frames_between(layers, U * active, V * active)
    xi = np.stack(
        [np.sum(above * (A @ below), axis=0) for A, (below, above) in zip(layers, pairwise(bases), strict=True)]
    )
    image = sigma_xx @ V
    c = np.sum(V * image, axis=0)
    off_inputs = np.linalg.norm((image - V * c) * active) / max(np.linalg.norm(sigma_xx), 1e-300)
    c = np.where(c > rank_tolerance(len(sigma_xx)) * np.linalg.norm(sigma_xx, 2), c, 0.0)
    off_end = np.linalg.norm(W - (U * strengths) @ V.T) / max(np.linalg.norm(W), 1e-300)
    off_layers = max(
        np.linalg.norm(A - (above * x) @ below.T - _outside(above, _outside(below, A.T).T))
        / max(np.linalg.norm(A), 1e-300)
        for A, x, (below, above) in zip(layers, xi, pairwise(bases), strict=True)
    )
    return Frames(bases, xi, s, c, float(off_inputs), float(off_end), float(off_layers))


def _chain(layers: list[np.ndarray]) -> np.ndarray:
    W = layers[0]
    for above in layers[1:]:
        W = above @ W
    return W


def _outside(R: np.ndarray, M: np.ndarray) -> np.ndarray:
    """M with its rows' space freed of the columns of R."""
    return M - R @ (R.T @ M)


def _rotated(
    U: np.ndarray, s: np.ndarray, V: np.ndarray, W: np.ndarray, layers: list[np.ndarray], sigma_xx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Modes U, V of the data, rotated among equal singular values so that they suit the network."""
    U, V = U.copy(), V.copy()
    rank = int(np.count_nonzero(s))
    if rank < len(s):  # the kernel: modes of the end-to-end matrix within it
        out, into = (
            np.linalg.qr(B[:, :rank], mode="complete")[0][:, rank:] if rank else np.eye(len(B)) for B in (U, V)
        )
        P, strengths, Qt = np.linalg.svd(out.T @ W @ into, full_matrices=False)
        U[:, rank:], V[:, rank:] = out @ P, into @ Qt.T
        blocks = _groups(s[:rank]) + [rank + group for group in _groups(strengths)]
    else:
        blocks = _groups(s)
    for block in blocks:
        if len(block) > 1:
            Q = _common_axes(_seen_from(U[:, block], V[:, block], W, layers, sigma_xx))
            U[:, block], V[:, block] = U[:, block] @ Q, V[:, block] @ Q
    return U, V


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """Indices of sorted values that are equal for our purposes, in runs."""
    if not len(values):
        return []
    jumps = np.abs(np.diff(values)) > EQUAL * max(np.abs(values).max(), 1e-300)
    return np.split(np.arange(len(values)), np.flatnonzero(jumps) + 1)


def _seen_from(
    U: np.ndarray, V: np.ndarray, W: np.ndarray, layers: list[np.ndarray], sigma_xx: np.ndarray
) -> list[np.ndarray]:
    """Symmetric matrices on a block of modes that are diagonal, all of them, in the modes of an aligned network."""
    among = U.T @ W @ V
    members = [(among + among.T) / 2]
    up, down = V, U
    for below, above in zip(layers[:-1], layers[:0:-1], strict=True):
        up, down = below @ up, above.T @ down
        members += [up.T @ up, down.T @ down]
    members.append(V.T @ sigma_xx @ V)
    return [M / np.linalg.norm(M) for M in members if np.linalg.norm(M) > 0]


def _common_axes(members: list[np.ndarray]) -> np.ndarray:
    """Eigenvectors of the first matrix, made those of the next where its eigenvalues agree, and so on."""
    size = len(members[0]) if members else 1
    if not members or size == 1:
        return np.eye(size)
    values, Q = np.linalg.eigh(members[0])
    if np.ptp(values) <= EQUAL:
        return _common_axes(members[1:]) if len(members) > 1 else np.eye(size)
    Q = Q[:, ::-1]
    for group in np.split(np.arange(size), np.flatnonzero(-np.diff(values[::-1]) > EQUAL) + 1):
        if len(group) > 1 and len(members) > 1:
            Q[:, group] = Q[:, group] @ _common_axes([Q[:, group].T @ M @ Q[:, group] for M in members[1:]])
    return Q


def _frames_between(layers: list[np.ndarray], U: np.ndarray, V: np.ndarray) -> list[np.ndarray]:
    """Directions of the modes in every layer: what they reach from the inputs, or from the outputs if more clearly."""
    upwards = _carried(layers[:-1], V)
    downwards = _carried([A.T for A in layers[:0:-1]], U)[::-1]
    hidden = [
        _orthonormal(np.where(clear >= clear_above, R, R_above), np.maximum(clear, clear_above))
        for (R, clear), (R_above, clear_above) in zip(upwards, downwards, strict=True)
    ]
    return [V, *hidden, U]


def _carried(layers: list[np.ndarray], start: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Unit images of columns after every layer, and by which factor they stood out of rounding at worst; 0: lost."""
    found, R, clear = [], start, np.full(start.shape[1], np.inf)
    for A in layers:
        image = A @ R
        length, noise = np.linalg.norm(image, axis=0), NOISE * np.linalg.norm(np.abs(A) @ np.abs(R), axis=0)
        clear = np.minimum(clear, np.divide(length, noise, out=np.zeros_like(length), where=length > noise))
        R = np.where(clear > 0, np.divide(image, length, out=np.zeros_like(image), where=length > 0), 0.0)
        found.append((R, clear))
    return found


def _orthonormal(R: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """The columns made orthonormal, the clearest first; those that are lost, or find no room, are zero."""
    order = np.argsort(-clear, kind="stable")[: min(int(np.count_nonzero(clear)), len(R))]
    Q, T = np.linalg.qr(R[:, order])
    frame = np.zeros_like(R)
    frame[:, order] = Q * np.where(np.diagonal(T) < 0, -1.0, 1.0)
    return frame
