r"""Frames in which every layer is diagonal, if there are any.

A network is aligned if its nodes can be rotated, layer by layer, so that it falls apart into single paths: chains of
one node a layer, each from some layer to some layer. Paths that start at layer 0 are right singular vectors of W_1;
among equal singular values those that W_2 keeps orthogonal, and so on. Where they end, new ones start.
"""

from itertools import pairwise

import numpy as np

RESOLUTIONS = (1e-13, 1e-11, 1e-9, 1e-7)
"""Differences of singular values, relative to the largest, that count as none; the one that fits best is taken."""


def closest_paths(layers: list[np.ndarray], good: float) -> float:
    """How far the layers are from paths, relative, the worst layer; stops looking below `good` / 100.

    From the inputs and from the outputs: a path that one layer all but forgets is seen better from its other side.
    """
    best = np.inf
    for resolution in RESOLUTIONS:
        for direction in (layers, [W.T for W in layers[::-1]]):
            best = min(best, _off_paths(direction, resolution))
            if best <= good / 100:
                return best
    return best


def _off_paths(layers: list[np.ndarray], resolution: float) -> float:
    sizes = [np.linalg.norm(W) for W in layers]
    R = _separated(np.eye(layers[0].shape[1]), layers, resolution)
    off = 0.0
    for l, W in enumerate(layers):
        image = W @ R
        lengths = np.linalg.norm(image, axis=0)
        order = np.argsort(-lengths, kind="stable")[: len(W)]
        kept = order[lengths[order] > resolution * sizes[l]]
        Q = np.linalg.qr(image[:, kept] / lengths[kept], mode="complete")[0]
        fresh = _separated(Q[:, kept.size :], layers[l + 1 :], resolution)
        above = np.hstack([Q[:, : kept.size], fresh])
        between = above.T @ image
        between[np.arange(kept.size), kept] = 0.0
        off = max(off, float(np.linalg.norm(between)) / max(float(sizes[l]), 1e-300))
        R = above
    return off


def _separated(R: np.ndarray, layers: list[np.ndarray], resolution: float) -> np.ndarray:
    """Orthonormal columns R (d_0, m) rotated among themselves so that all layers keep their images orthogonal."""
    if not layers or R.shape[1] < 2:
        return R
    return R @ _rotation(R, layers, resolution)


def _rotation(R: np.ndarray, layers: list[np.ndarray], resolution: float) -> np.ndarray:
    """The (m, m) rotation: right singular vectors of W R, refined above where singular values are equal."""
    U, s, Vt = np.linalg.svd(layers[0] @ R, full_matrices=True)
    V, values = Vt.T, np.pad(s, (0, R.shape[1] - s.size))
    small = resolution * float(np.linalg.norm(layers[0], 2))
    edges = [0, *(np.flatnonzero(-np.diff(values) > small) + 1), len(values)]
    for first, last in pairwise(edges):
        if last - first > 1 and values[first] > small and len(layers) > 1:
            V[:, first:last] = V[:, first:last] @ _rotation(U[:, first:last], layers[1:], resolution)
    return V
