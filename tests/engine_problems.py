"""Random problems for the compiled engine, and its field and derivative written out in numpy."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deeplinear.dynamics import engine


def product(matrices, size):
    """M_k ... M_1 of a list [M_1, ..., M_k]; the identity of that size for none."""
    W = np.eye(size)
    for M in matrices:
        W = M @ W
    return W


@dataclass
class Case:
    """A problem with everything spelled out; `problem` is what the engine is given."""

    weights: list
    optimum: np.ndarray
    root: np.ndarray | None
    factor: float
    rates: np.ndarray
    decay: np.ndarray
    mask: list

    @property
    def problem(self):
        return engine.Problem(self.optimum, self.root, self.factor, self.rates, self.decay, self.mask)

    @property
    def sigma(self):
        return np.eye(self.optimum.shape[1]) if self.root is None else self.root @ self.root.T

    def loss(self, weights):
        """The loss and its decay."""
        D = product(weights, self.optimum.shape[1]) - self.optimum
        penalty = sum(g / 2 * np.sum(W**2) for g, W in zip(self.decay, weights, strict=True))
        return self.factor / 2 * np.trace(D @ self.sigma @ D.T) + penalty

    def velocity(self, weights):
        """-eta (S^T grad P^T + gamma W) of every layer, masked."""
        gradient = self.factor * (product(weights, self.optimum.shape[1]) - self.optimum) @ self.sigma
        slope = lambda l, S, P: S[0].T @ gradient @ P[0].T + self.decay[l] * weights[l]
        return self._slopes(weights, [], slope)

    def derivative(self, weights, direction):
        """The product rule, written out."""
        d_x = self.optimum.shape[1]
        gradient = self.factor * (product(weights, d_x) - self.optimum) @ self.sigma
        moved = self.factor * moved_product(weights, direction, d_x) @ self.sigma

        def change(l, S, P):
            both = S[1].T @ gradient @ P[0].T + S[0].T @ moved @ P[0].T + S[0].T @ gradient @ P[1].T
            return both + self.decay[l] * direction[l]

        return self._slopes(weights, direction, change)

    def _slopes(self, weights, direction, f):
        slopes = []
        for l, W in enumerate(weights):
            above, below = weights[l + 1 :], weights[:l]
            S, P = [product(above, W.shape[0])], [product(below, weights[0].shape[1])]
            if direction:
                S.append(moved_product(above, direction[l + 1 :], W.shape[0]))
                P.append(moved_product(below, direction[:l], weights[0].shape[1]))
            slopes.append(np.where(self.mask[l], -self.rates[l] * f(l, S, P), 0.0))
        return slopes


def moved_product(matrices, direction, size):
    """The derivative of `product`."""
    total = 0
    for l, V in enumerate(direction):
        total = total + product([*matrices[:l], V, *matrices[l + 1 :]], size)
    return total if len(matrices) else np.zeros((size, size))


def random_case(seed, widest=12, deepest=5, plain=False):
    """Any widths and depth; `plain`: no rates, decay or mask."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, widest + 1, size=rng.integers(2, deepest + 2))
    weights = [rng.standard_normal((b, a)) / np.sqrt(max(a, b)) for a, b in pairwise(widths)]
    rank = int(rng.integers(1, widths[0] + 1))
    root = None if rng.random() < 0.4 else rng.standard_normal((widths[0], rank)) / np.sqrt(widths[0])
    optimum, depth = rng.standard_normal((widths[-1], widths[0])), len(weights)
    if plain:
        ones, mask = np.ones(depth), [np.ones(W.shape, dtype=bool) for W in weights]
        return Case(weights, optimum, root, 1.0, ones, 0 * ones, mask)
    mask = [rng.random(W.shape) < 0.8 for W in weights]
    return Case(
        weights, optimum, root, rng.uniform(0.5, 2), rng.uniform(0.5, 2, depth), rng.uniform(0, 0.1, depth), mask
    )


def all_of(run, **segment):
    """Drives a run to its end: last summary, times, stacked layers, log."""
    times, layers, log = [], [], []
    while True:
        summary = run.advance(**segment)
        t, stacked = run.outputs()
        times.append(t), layers.append(stacked), log.append(run.log())
        if summary.status != engine.RUNNING:
            joined = [np.concatenate(layer) for layer in zip(*layers, strict=True)]
            return summary, np.concatenate(times), joined, np.concatenate(log)
