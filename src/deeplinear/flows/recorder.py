"""Keeps about as many networks of a run as asked for, spread evenly along its path."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

DECADES = 3  # of time before the end that a logarithmic axis is likely to show

Progressions = Callable[[np.ndarray], np.ndarray]
"""End-to-end matrices (T, d_y, d_x) -> how much of each mode's final strength they hold, (T, mode)."""


class Recorder:
    """Outputs of a run on the host; thins itself to `keep` of them, evenly along the path.

    The distance between two outputs is the largest of: their distance in t (as a share of the time so far, or of its
    last three decades on a logarithmic axis), in W (as a share of the largest W so far) and in any mode (as a share of
    its final strength), so that plateaus and transitions, of large modes and of small ones, are all drawn well. The two
    outputs about the time at which a mode passes half of its final strength are always kept: half-times read off the
    kept outputs are as exact as off all of them.
    """

    def __init__(self, keep: int | None, progressions: Progressions | None = None):
        self.keep = keep
        """How many outputs to choose; None keeps every one."""
        self.progressions = progressions
        self.times: list[float] = []
        self.pieces: list[Sequence[np.ndarray]] = []
        """Stacked weights (T, d_l, d_{l-1}), one array a layer; one piece an output where outputs are chosen."""
        self.most = 2 * (keep or 0)
        """Outputs that are held before they are thinned."""

    def add(self, t: float, weights: Iterable[Any]) -> None:
        """One more output, later than all before; thins after single outputs, however many a segment brings."""
        self.times.append(float(t))
        self.pieces.append([np.asarray(W)[None] for W in weights])
        if self.keep is not None and len(self.times) > self.most:
            self._thin()
            self.most = 2 * max(self.keep, len(self.times))  # more modes than places: not after every output

    def extend(self, times: np.ndarray, stacked: list[np.ndarray]) -> None:
        """The outputs of a segment: times (T,) and layers (T, d_l, d_{l-1})."""
        if self.keep is None:
            self.times.extend(times.tolist())
            self.pieces.append(stacked)
            return
        for t, *weights in zip(times.tolist(), *stacked, strict=True):
            self.add(t, weights)

    def networks(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Times (T,) and the weights with a leading time axis."""
        if self.keep is not None and len(self.times) > self.keep:
            self._thin()
        return np.array(self.times), self.stacked()

    def stacked(self) -> list[np.ndarray]:
        """What is held of every layer, (T, d_l, d_{l-1})."""
        return [np.concatenate(layer) for layer in zip(*self.pieces, strict=True)]

    def _thin(self) -> None:
        layers = self.stacked()
        matrices = np.array([_product(W) for W in zip(*layers, strict=True)])
        modes = np.zeros((len(matrices), 0)) if self.progressions is None else self.progressions(matrices)
        chosen = spread_evenly(np.array(self.times), matrices, modes, self.keep or len(matrices))
        self.times = [self.times[i] for i in chosen]
        self.pieces = [[layer[chosen] for layer in layers]]  # copies: lets go of whole segments


def spread_evenly(times: np.ndarray, matrices: np.ndarray, modes: np.ndarray, keep: int) -> np.ndarray:
    """Indices of about `keep` outputs evenly along the path, with both ends and the halves of `modes` (T, mode)."""
    end = max(times[-1], 1e-300)
    decades = np.log10(np.maximum(times / end, 10.0**-DECADES)) / DECADES
    in_time = np.maximum(np.diff(times) / end, np.diff(decades))
    sizes = np.sqrt(np.sum(matrices**2, axis=(1, 2)))
    in_matrix = np.sqrt(np.sum(np.diff(matrices, axis=0) ** 2, axis=(1, 2))) / max(float(sizes.max()), 1e-300)
    in_modes = np.abs(np.diff(np.clip(modes, -1, 2), axis=0)).max(axis=1, initial=0.0)
    path = np.concatenate([[0.0], np.cumsum(np.maximum(np.maximum(in_time, in_matrix), in_modes))])
    after = np.argmax(modes >= 0.5, axis=0)
    after = after[after > 0]  # modes that start beyond their half, or never reach it, have none
    must = np.unique(np.concatenate([[0, len(times) - 1], after, after - 1]))
    nearest = np.searchsorted(path, np.linspace(0, path[-1], max(keep - len(must), 2)))
    return np.unique(np.concatenate([must, np.clip(nearest, 0, len(times) - 1)]))


def _product(weights: Sequence[np.ndarray]) -> np.ndarray:
    W = weights[0]
    for above in weights[1:]:
        W = above @ W
    return W
