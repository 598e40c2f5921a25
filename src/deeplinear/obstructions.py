"""Starts from which the flow cannot reach the smallest loss, and where it ends instead."""

from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .frames import Frames, shared_frames
from .network import Network
from .objectives import SquaredError
from .reduction import reachable_rank

BALANCED = 1e-9
"""Imbalance, relative to the squared weights, up to which a start counts as 0-balanced."""
FULL_RANK = 1e-12
"""Singular values below this share of the largest count as zero."""
ALIGNED = 1e-9
"""How far from diagonal, relative, a start may be that counts as aligned with the data's modes."""
EQUAL = 1e-8
"""Relative difference up to which singular values of the data count as equal."""


class Obstruction(NamedTuple):
    """Why a start misses the smallest loss, and what it reaches."""

    rank: int
    """Rank of the end-to-end matrix in the limit."""
    loss: float
    """Smallest loss at that rank: the exact flow ends there, or above if the start is aligned with the data's modes."""
    reason: str
    excess: float = 0.0
    """`loss` above the smallest loss that the widths allow."""
    exact: bool = False
    """Whether `loss` is that of the limit itself: the start is aligned, every mode moves alone."""


class Obstacles:
    """What decides which starts an objective obstructs, computed once for many starts.

    >>> obstacles = Obstacles(SquaredError.from_singular_values([2.0, 1.0], 2, 2))
    >>> [obstacles.before(Network([[[s, 0.0], [0.0, 0.1]], [[0.1, 0.0], [0.0, 0.1]]])) is None for s in (0.1, -0.1)]
    [True, False]
    """

    def __init__(self, objective: SquaredError):
        self.objective, self.whitened = objective, bool(objective.whitened)
        self.optimum, self.half = np.asarray(objective.optimum), float(objective.factor) / 2
        self.root = None if self.whitened else np.asarray(objective.root_xx)
        self.seen = None if self.root is None else objective.second_moment.axes
        reached = self.optimum if self.root is None else self.optimum @ self.root
        self.sigma = np.linalg.svd(reached, compute_uv=False)
        self.rank = int(np.count_nonzero(self.sigma > FULL_RANK * self.sigma[0]))
        U, s, Vt = np.linalg.svd(np.asarray(objective.sigma_yx), full_matrices=False)
        self.modes, self.groups = (U, Vt.T), np.cumsum(np.append(0, s[:-1] - s[1:] > EQUAL * s[0]))

    def before(self, network: Network) -> Obstruction | None:
        """What keeps the flow from `network` from the smallest loss of its widths, or None (`obstruction`)."""
        weights = _at_size_one(network)
        if not all(np.isfinite(W).all() for W in weights):
            return None
        of_modes, of_rank = self._of_modes(network, weights), self._of_rank(network, weights)
        if of_rank is not None and (of_modes is None or of_rank.rank <= of_modes.rank):
            return of_rank if of_modes is None else of_modes._replace(reason=of_rank.reason)
        return of_modes or self._of_sign(network, weights)

    def _obstruction(self, network: Network, rank: int, left: float, reason: str, exact: bool) -> Obstruction | None:
        """An obstruction that leaves `left` of the squared singular values, None if the widths leave as much."""
        bottleneck = float(np.sum(self.sigma[network.max_rank :] ** 2))
        if left - bottleneck <= FULL_RANK * float(np.sum(self.sigma**2)):
            return None
        loss = float(self.objective.minimum) + self.half * left
        return Obstruction(rank, loss, reason, self.half * (left - bottleneck), exact)

    def _of_modes(self, network: Network, weights: list[np.ndarray]) -> Obstruction | None:
        """Aligned starts: a mode is lost where two of its weights are the smallest and the product is not positive."""
        (U, V), W = self.modes, _product(weights)
        beside = (U.T @ W @ V) * (self.groups[:, None] != self.groups[None, :])
        sizes = float(np.prod([np.linalg.norm(M) for M in weights]))
        if len(weights) == 1 or np.linalg.norm(beside) > ALIGNED * sizes:
            return None
        frames = shared_frames(self.objective, weights)
        if max(frames.off_inputs, frames.off_end_to_end, frames.off_layers) > ALIGNED:
            return None
        there = (frames.s > 0) & (frames.c > 0)
        lost = there & _stuck(frames)
        if not lost.any():
            return None
        left = float(np.sum(frames.s[lost] ** 2 / frames.c[lost]))
        names = ", ".join(str(k + 1) for k in np.flatnonzero(lost))
        whose = f"mode {names} stays" if np.count_nonzero(lost) == 1 else f"modes {names} stay"
        reason = (
            f"the start is aligned with the data's modes and {whose} at zero or below for ever, "
            "for two of the layers share its smallest weight"
        )
        if self.of_sign(self._sign(weights), network) is not None:
            reason += " (the sign of det W(0), which is kept, is not that of the solution)"
        return self._obstruction(network, int(np.count_nonzero(there & ~lost)), left, reason, True)

    def _of_rank(self, network: Network, weights: list[np.ndarray]) -> Obstruction | None:
        W = _product(weights)
        s = np.linalg.svd(W if self.root is None else W @ self.root, compute_uv=False)
        wanted = min(network.max_rank, self.rank)
        if np.count_nonzero(s > FULL_RANK * s[0]) >= wanted:  # the subspaces hold W(0)
            return None
        rank = reachable_rank(self.objective, Network(weights))
        left = float(np.sum(self.sigma[rank:] ** 2))
        reason = f"weights and data span {rank} dimensions only, which the flow never leaves"
        return self._obstruction(network, rank, left, reason, False)

    def _of_sign(self, network: Network, weights: list[np.ndarray]) -> Obstruction | None:
        """0-balanced starts with a determinant whose sign the solution does not have."""
        return self.of_sign(self._sign(weights), network)

    def of_sign(self, sign: float | None, network: Network) -> Obstruction | None:
        """What stands before networks of these widths that keep this sign of det W, on inputs that occur.

        >>> network = Network([np.eye(2), np.eye(2)])
        >>> Obstacles(SquaredError.from_singular_values([2.0, 1.0], 2, 2)).of_sign(-1.0, network).loss
        0.5
        """
        if sign is None or self._wanted_sign() != -sign:
            return None
        rank = len(self.optimum) - 1
        reason = "the start is 0-balanced and the sign of det W(0), which is kept for ever, is not that of the solution"
        return self._obstruction(network, rank, float(np.sum(self.sigma[rank:] ** 2)), reason, False)

    def _sign(self, weights: list[np.ndarray]) -> float | None:
        """The sign that the flow keeps, on inputs that occur."""
        return kept_sign(weights if self.seen is None else [weights[0] @ self.seen, *weights[1:]])

    def _wanted_sign(self) -> float | None:
        return _sign_of(self.optimum if self.seen is None else self.optimum @ self.seen, FULL_RANK)


def obstruction(objective: SquaredError, network: Network) -> Obstruction | None:
    r"""What keeps the flow from `network` from the smallest loss of its widths, or None.

    - Modes: in a start that is aligned with the data's modes every mode is a chain of numbers that moves alone, and
      keeps the differences of their squares. Where the product is not positive and two of them are the smallest, it
      ends at zero. Found for modes that are eigenvectors of sigma_xx.
    - Rank: the weights and the data span subspaces that the flow never leaves (`reduction.reachable_rank`); zero and
      rank-deficient starts are cases.
    - Sign: for a 0-balanced start with $d_x = d_y$ (inputs that occur) and no bottleneck the rank of W(t) stays full
      for all times, and with it the sign of det W(t) (`kept_sign`). If it is not that of $\det \Sigma_{yx}$, the flow
      ends at the best map of rank d_x - 1, on whose stable manifold it runs. Half of all random 0-balanced square
      starts do so.

    Rounding leaves such a manifold after about 36 time constants: a simulation then goes on to the minimum, the exact
    flow never does. Assumes no mask and no weight decay. Raises `ValueError` for an objective other than `SquaredError`
    and widths that do not fit.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> obstruction(objective, Network([[[0.1, 0.0], [0.0, 0.1]], [[0.1, 0.0], [0.0, -0.1]]])).loss
    0.5

    Source: for the sign, conservation of W_{l+1}^T W_{l+1} - W_l W_l^T (Arora, Cohen and Hazan 2018), by which a
    0-balanced network keeps its rank; Bah et al. (2022), Information and Inference 11, on the manifold of fixed rank.
    """
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: got {objective!r}; obstructions are known for SquaredError only")
    d_y, d_x = objective.optimum.shape
    if (network.widths[0], network.widths[-1]) != (d_x, d_y):
        raise ValueError(
            f"`network`: maps {network.widths[0]} inputs to {network.widths[-1]} outputs, but the objective has {d_x} "
            f"and {d_y}"
        )
    return Obstacles(objective).before(network)


def kept_sign_of(network: Network) -> float | None:
    """`kept_sign` of the weights, whatever their size; None where they are not finite."""
    weights = _at_size_one(network)
    return kept_sign(weights) if all(np.isfinite(W).all() for W in weights) else None


def kept_sign(weights: list[np.ndarray]) -> float | None:
    """The sign of det W(0) where every flow of it keeps that sign, whatever the loss; None where nothing says so.

    It is kept by 0-balanced networks of two layers or more with d_x = d_y and no bottleneck: their end-to-end matrix
    keeps its rank. Weight decay that is the same in all layers changes nothing, a mask does.

    >>> kept_sign([np.eye(2), np.diag([1.0, -1.0])]), kept_sign([np.eye(2), 2 * np.eye(2)])
    (-1.0, None)
    """
    d_x, d_y = weights[0].shape[1], weights[-1].shape[0]
    if d_x != d_y or len(weights) == 1 or min(len(W) for W in weights) < d_x:
        return None
    imbalance = max(float(np.linalg.norm(b.T @ b - a @ a.T)) for a, b in pairwise(weights))
    if imbalance > BALANCED * max(float(np.linalg.norm(W)) for W in weights) ** 2:
        return None
    return _sign_of(_product(weights), FULL_RANK)


def has_sign(sign: float, W: np.ndarray, share: float) -> bool:
    """Whether det W has this sign; true also where singular values below `share` of the largest decide about it.

    >>> has_sign(1.0, np.diag([1.0, -1.0]), 1e-6), has_sign(1.0, np.diag([1.0, -1e-9]), 1e-6)
    (False, True)
    """
    return not np.isfinite(W).all() or _sign_of(W, share) in (sign, None)


def _at_size_one(network: Network) -> list[np.ndarray]:
    """The layers divided by their largest entry: nothing here depends on it, and no square over- or underflows."""
    weights = [np.asarray(W, dtype=float) for W in network.weights]
    size = max(float(np.abs(W).max(initial=0.0)) for W in weights)
    return [W / size for W in weights] if 0 < size < np.inf else weights


def _sign_of(M: np.ndarray, share: float) -> float | None:
    """The sign of a determinant; None where there is none, or the rank is not full to `share` of the largest."""
    if M.shape[0] != M.shape[1]:
        return None
    s = np.linalg.svd(M, compute_uv=False)
    return float(np.linalg.slogdet(M)[0]) if s[-1] > share * s[0] else None


def _stuck(frames: Frames) -> np.ndarray:
    """Modes (mode,) that end at zero: a product that is not positive, and two smallest weights."""
    size = np.sort(np.abs(frames.xi), axis=0)
    share = np.maximum(BALANCED * size[-1], 1e-15 * size.max(initial=0.0))
    return (size[1] - size[0] <= share) & ((np.prod(np.sign(frames.xi), axis=0) < 0) | (size[0] <= share))


def _product(weights: list[np.ndarray]) -> np.ndarray:
    return reduce(lambda below, W: W @ below, weights)
