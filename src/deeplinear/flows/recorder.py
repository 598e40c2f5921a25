"""Keeps about as many networks of a run as asked for, spread evenly along its path."""

import numpy as np

from ..network import Network


class Recorder:
    """Outputs of a run on the host; thins itself to `keep` of them, evenly in time and in the end-to-end matrix.

    The distance between two outputs is the larger of their distances in t (as a share of the time so far) and in W (as
    a share of the largest W so far), so that fast transitions and long plateaus are both drawn well.
    """

    def __init__(self, keep: int | None):
        self.keep = keep
        """How many outputs to choose; None keeps every one."""
        self.times: list[float] = []
        self.weights: list[list[np.ndarray]] = []

    def add(self, t: float, network: Network) -> None:
        """One more output, later than all before."""
        self.times.append(float(t))
        self.weights.append([np.array(W) for W in network.weights])

    def extend(self, times: np.ndarray, networks: Network, count: int) -> None:
        """The first `count` outputs of a segment's buffer."""
        stacked = [np.asarray(W[:count]) for W in networks.weights]
        for i in range(count):
            self.times.append(float(times[i]))
            self.weights.append([np.array(W[i]) for W in stacked])
        if self.keep is not None and len(self.times) > 2 * self.keep:
            self._thin(self.keep)

    def networks(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Times (T,) and the weights with a leading time axis."""
        if self.keep is not None and len(self.times) > self.keep:
            self._thin(self.keep)
        return np.array(self.times), [np.stack(layer) for layer in zip(*self.weights, strict=True)]

    def _thin(self, keep: int) -> None:
        chosen = spread_evenly(np.array(self.times), np.array([_product(W) for W in self.weights]), keep)
        self.times = [self.times[i] for i in chosen]
        self.weights = [self.weights[i] for i in chosen]


def spread_evenly(times: np.ndarray, matrices: np.ndarray, keep: int) -> np.ndarray:
    """Indices of at most `keep` outputs, the first and the last among them, evenly spread along the path."""
    in_time = np.diff(times) / max(times[-1] - times[0], 1e-300)
    sizes = np.sqrt(np.sum(matrices**2, axis=(1, 2)))
    in_matrix = np.sqrt(np.sum(np.diff(matrices, axis=0) ** 2, axis=(1, 2))) / max(float(sizes.max()), 1e-300)
    path = np.concatenate([[0.0], np.cumsum(np.maximum(in_time, in_matrix))])
    nearest = np.searchsorted(path, np.linspace(0, path[-1], keep))
    return np.unique(np.clip(np.append(nearest, [0, len(times) - 1]), 0, len(times) - 1))


def _product(weights: list[np.ndarray]) -> np.ndarray:
    W = weights[0]
    for above in weights[1:]:
        W = above @ W
    return W
