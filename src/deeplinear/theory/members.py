"""Networks of a class that a statement speaks about, for the same target and widths as the question's own.

Made in numpy: the starts of `init` would compile anew for every shape.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .._checks import Check
from ..landscape.generators import orthogonal_matrix
from ..network import Network
from ..objectives import SquaredError
from .question import Layers, Question, relative

FITS = 1e-12
"""Part of a layer outside the diagonal up to which it counts as rounding."""


class Member(NamedTuple):
    r"""$W_i = R_i \, \mathrm{diag}(\xi_i) \, R_{i-1}^T$: a network with known singular vectors."""

    frames: Layers
    """R_0 = V_1, R_1, ..., R_h = U_h, orthogonal."""
    diagonals: Layers
    """blk_1 of these is Lambda: (d_i, d_{i-1}), zero outside the diagonal."""

    @property
    def weights(self) -> Layers:
        return [above @ D @ below.T for D, (below, above) in zip(self.diagonals, pairwise(self.frames), strict=True)]


@lru_cache(maxsize=4)
def survey_objective(question: Question) -> SquaredError:
    """The problem in the survey's coordinates."""
    return SquaredError.from_moments(question.sigma)


def mode_size(question: Question) -> float:
    """Size of a weight that learns the first mode, sigma_1^(1/h); 1 where there is nothing to learn."""
    return float(question.singular_values[0]) ** (1 / question.depth) or 1.0


def rectangular(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """diag(values) of this shape, zero beyond."""
    D = np.zeros((rows, columns))
    np.fill_diagonal(D, np.pad(values, (0, max(min(rows, columns) - len(values), 0))))
    return D


def aligned(question: Question) -> Member:
    """Aligned, not balanced and not decoupled: random frames everywhere, other singular values in every layer."""
    rng = question.rng()
    frames = [orthogonal_matrix(rng, d) for d in question.widths]
    draw = lambda count: np.sort(rng.uniform(0.4, 1.6, count))[::-1]
    return Member(frames, [rectangular(mode_size(question) * draw(min(s)), *s) for s in shapes(question)])


def own_aligned(question: Question) -> tuple[Member, float]:
    """The question's own network in the frames of `in_frames`, from the right singular vectors of its first layer."""
    return in_frames(question.weights, np.linalg.svd(question.weights[0])[2].T)


def own_decoupled(question: Question) -> tuple[Member, float]:
    """The question's own network in frames that start and end in the data's."""
    return in_frames(question.weights, np.eye(question.widths[0]), np.eye(question.widths[-1]))


def in_frames(weights: Layers, first: np.ndarray, last: np.ndarray | None = None) -> tuple[Member, float]:
    """Frames from `first` (to `last`), each from the image of the one before, and how far from diagonal a layer is.

    Of an aligned network, 0 (`FITS`), unless equal singular values hide its frames.
    """
    frames, diagonals, off = [first], [], 0.0
    for i, W in enumerate(weights, start=1):
        image = W @ frames[-1]
        if i == len(weights) and last is not None:
            above = last
        else:
            above, R = np.linalg.qr(image[:, : len(W)], mode="complete")
            above[:, : R.shape[1]] *= np.where(np.diagonal(R) < 0, -1.0, 1.0)
        between = above.T @ image
        diagonals.append(between * np.eye(*between.shape))
        off = max(off, relative(between - diagonals[-1], W))
        frames.append(above)
    return Member(frames, diagonals), off


def decoupled(question: Question) -> Member:
    """Decoupled, not balanced, weights of both signs: random frames of the hidden layers alone."""
    rng = question.rng()
    d_x, *hidden, d_y = question.widths
    frames = [np.eye(d_x), *(orthogonal_matrix(rng, d) for d in hidden), np.eye(d_y)]
    draw = lambda count: rng.uniform(0.4, 1.6, count) * rng.choice([-1.0, 1.0], count)
    return Member(frames, [rectangular(mode_size(question) * draw(min(s)), *s) for s in shapes(question)])


def balanced(question: Question) -> Member:
    """0-balanced, not decoupled: the same singular values in every layer between random frames."""
    rng = question.rng()
    frames = [orthogonal_matrix(rng, d) for d in question.widths]
    values = mode_size(question) * np.sort(rng.uniform(0.4, 1.6, min(question.widths)))[::-1]
    return Member(frames, [rectangular(values, *s) for s in shapes(question)])


def balanced_critical_point(question: Question) -> tuple[Member, tuple[int, ...]]:
    """A 0-balanced critical point and its learned modes, from 1: random ones, all of them in a single layer."""
    rng, values = question.rng(), question.singular_values
    learnable = np.flatnonzero(values > 1e-12 * max(values[0], 1e-300))
    count = learnable.size
    if question.depth > 1:
        count = int(rng.integers(0, min(learnable.size, *question.widths[1:-1]) + 1))
    S = np.sort(rng.choice(learnable, count, replace=False))
    d_x, *hidden, d_y = question.widths
    frames = [
        np.eye(d_x)[:, _first(S, d_x)],
        *(orthogonal_matrix(rng, d) for d in hidden),
        np.eye(d_y)[:, _first(S, d_y)],
    ]
    roots = values[S] ** (1 / question.depth)
    return Member(frames, [rectangular(roots, *s) for s in shapes(question)]), tuple(int(k) + 1 for k in S)


def shapes(question: Question) -> list[tuple[int, int]]:
    """(d_i, d_{i-1}) of every layer."""
    return [(above, below) for below, above in pairwise(question.widths)]


def own_or(question: Question, check: Check, other: Layers) -> tuple[Layers, str]:
    """The question's own weights where they are of the class, else a member of it, with a note that says so."""
    if check.holds:
        return question.weights, ""
    return other, f"this network is not {check.theorem} (off by {check.violation:.2g}); checked on a random one that is"


def as_network(weights: Layers) -> Network:
    """The weights as a `Network`."""
    return Network(weights)


def _first(S: np.ndarray, size: int) -> np.ndarray:
    """An order of `size` indices that begins with S."""
    return np.concatenate([S, np.setdiff1d(np.arange(size), S)])
