r"""Whether layers are diagonal between common frames, and which: $W_l = R_l \, \mathrm{diag}(\xi_l) R_{l-1}^T$ + rest.

$R_0$ and $R_h$ are the data's modes. What the modes do not reach (the rest) lies between the complements of the frames;
its product vanishes, so it never moves. Where the data's modes are free (equal singular values, a kernel), the network
itself chooses them.
"""

from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ._checks import TOLERANCE

RESOLUTIONS = (32 * float(np.finfo(float).eps), 1e-12, 1e-10)
"""Rounding of a product, relative to that of absolute values; more where the data's modes are not known better."""
KERNEL = 1e-13
"""Singular values of sigma_yx as small as this against the largest count as zero."""
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
    """How far the end-to-end matrix is from diagonal in the modes, relative to the product of the layers' norms."""
    off_layers: float
    """How far the layers are from the form above, relative, the worst layer."""


def shared_frames(objective: Any, layers: list[np.ndarray]) -> Frames:
    """The frames in which the layers are diagonal, as far as they are: by the finest resolution that shows it."""
    best = _frames_at(RESOLUTIONS[0], objective, layers)
    for noise in RESOLUTIONS[1:]:
        if best.off_layers > TOLERANCE:
            best = min(best, _frames_at(noise, objective, layers), key=lambda frames: frames.off_layers)
    return best


def _frames_at(noise: float, objective: Any, layers: list[np.ndarray]) -> Frames:
    U, s, V = (np.asarray(part) for part in objective.modes)
    sigma_xx = np.asarray(objective.sigma_xx)
    W = reduce(lambda below, A: A @ below, layers)
    s = np.where(s > KERNEL * s[0], s, 0.0)
    U, V = _rotated(U, s, V, W, layers, sigma_xx, noise)
    strengths = np.sum(U * (W @ V), axis=0)
    size = np.prod([np.linalg.norm(A, 2) for A in layers])
    active = (s > 0) | (np.abs(strengths) > noise * size)
    bases = _frames_between(layers, U * active, V * active, noise)
    xi = np.stack(
        [np.sum(above * (A @ below), axis=0) for A, (below, above) in zip(layers, pairwise(bases), strict=True)]
    )
    root = np.asarray(objective.root_xx)
    image, c = root @ (root.T @ V), np.sum((root.T @ V) ** 2, axis=0)
    smallest = objective.second_moment.variances.min(initial=np.inf)
    off_inputs = off_axes(V, image, c, smallest)[active].max(initial=0.0)
    c = np.where(c > smallest / 2, c, 0.0)
    off_end = np.linalg.norm(W - (U * strengths) @ V.T) / max(size, 1e-300)
    off_layers = max(
        np.linalg.norm(A - (above * x) @ below.T - _outside(above, _outside(below, A.T).T))
        / max(np.linalg.norm(A), 1e-300)
        for A, x, (below, above) in zip(layers, xi, pairwise(bases), strict=True)
    )
    return Frames(bases, xi, s, c, float(off_inputs), float(off_end), float(off_layers))


def off_axes(V: np.ndarray, image: np.ndarray, c: np.ndarray, smallest: float) -> np.ndarray:
    """How far columns of V are from eigenvectors of sigma_xx, relative to their own variance.

    `image` is sigma_xx V, c its part along V, `smallest` the smallest variance that is not zero.
    """
    return np.linalg.norm(image - V * c, axis=0) / np.maximum(np.linalg.norm(image, axis=0), smallest)


def _outside(R: np.ndarray, M: np.ndarray) -> np.ndarray:
    """M with its rows' space freed of the columns of R."""
    return M - R @ (R.T @ M)


def _rotated(
    U: np.ndarray,
    s: np.ndarray,
    V: np.ndarray,
    W: np.ndarray,
    layers: list[np.ndarray],
    sigma_xx: np.ndarray,
    noise: float,
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
            Q = _common_axes(_seen_from(U[:, block], V[:, block], W, layers, sigma_xx, noise))
            U[:, block], V[:, block] = U[:, block] @ Q, V[:, block] @ Q
    return U, V


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """Indices of sorted values that are equal for our purposes, in runs."""
    if not len(values):
        return []
    jumps = np.abs(np.diff(values)) > EQUAL * max(np.abs(values).max(), 1e-300)
    return np.split(np.arange(len(values)), np.flatnonzero(jumps) + 1)


def _seen_from(
    U: np.ndarray, V: np.ndarray, W: np.ndarray, layers: list[np.ndarray], sigma_xx: np.ndarray, noise: float
) -> "list[_Member]":
    """Symmetric matrices on a block of modes that are diagonal, all of them, in the modes of an aligned network."""
    size = float(np.prod([np.linalg.norm(A, 2) for A in layers]))
    among = U.T @ W @ V
    members = [_Member((among + among.T) / 2, noise * size)]
    up, down, up_size, down_size = V, U, 1.0, 1.0
    for below, above in zip(layers[:-1], layers[:0:-1], strict=True):
        up, down = below @ up, above.T @ down
        up_size, down_size = up_size * np.linalg.norm(below, 2), down_size * np.linalg.norm(above, 2)
        members += [_Member(up.T @ up, noise * up_size**2), _Member(down.T @ down, noise * down_size**2)]
    members.append(_Member(V.T @ sigma_xx @ V, noise * np.linalg.norm(sigma_xx, 2)))
    return [_Member(M, blur + EQUAL * np.linalg.norm(M)) for M, blur in members]


class _Member(NamedTuple):
    """A symmetric matrix, and up to where differences of its eigenvalues do not count."""

    matrix: np.ndarray
    blur: Any


def _common_axes(members: list[_Member]) -> np.ndarray:
    """Eigenvectors of the first matrix, made those of the next where its eigenvalues agree, and so on."""
    first, rest = members[0], members[1:]
    values, Q = np.linalg.eigh(first.matrix)
    if np.ptp(values) <= first.blur:
        return _common_axes(rest) if rest else np.eye(len(Q))
    Q = Q[:, ::-1]
    for group in np.split(np.arange(len(Q)), np.flatnonzero(-np.diff(values[::-1]) > first.blur) + 1):
        if len(group) > 1 and rest:
            basis = Q[:, group]
            within = [member._replace(matrix=basis.T @ member.matrix @ basis) for member in rest]
            Q[:, group] = basis @ _common_axes(within)
    return Q


def _frames_between(layers: list[np.ndarray], U: np.ndarray, V: np.ndarray, noise: float) -> list[np.ndarray]:
    """Directions of the modes in every layer: what they reach from the inputs, or from the outputs if more clearly."""
    upwards = _carried(layers[:-1], V, noise)
    downwards = _carried([A.T for A in layers[:0:-1]], U, noise)[::-1]
    hidden = [
        _orthonormal(np.where(clear >= clear_above, R, R_above), np.maximum(clear, clear_above))
        for (R, clear), (R_above, clear_above) in zip(upwards, downwards, strict=True)
    ]
    return [V, *hidden, U]


def _carried(layers: list[np.ndarray], start: np.ndarray, noise: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Unit images of columns after every layer, and by which factor they stood out of rounding at worst; 0: lost."""
    found, R, clear = [], start, np.full(start.shape[1], np.inf)
    for A in layers:
        image = A @ R
        length, blur = np.linalg.norm(image, axis=0), noise * np.linalg.norm(np.abs(A) @ np.abs(R), axis=0)
        clear = np.minimum(clear, np.divide(length, blur, out=np.zeros_like(length), where=length > blur))
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
