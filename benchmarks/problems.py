r"""The initial value problems P1 to P7: whitened inputs, $\dot W_j = W_{j+1:h}^T (\Sigma - W) W_{1:j-1}^T$.

lambda T (spectral radius of the Hessian times the final time) measures stiffness: an explicit Runge-Kutta method that
stability limits takes about lambda T / 3.3 steps.

| id    | widths            | singular values of Sigma   | start               | T     | lambda T |
|-------|-------------------|----------------------------|---------------------|-------|----------|
| P1    | 11-6-6-6-6-4      | 6, 4.5, 3, 1.5             | N(0, .1^2)          | 150   | 1e4      |
| P1s   | same              | same                       | N(0, .05^2)         | 1100  | 1e5      |
| P1x   | same              | same                       | N(0, .02^2)         | 2e4   | 2e6      |
| P1xx  | same              | same                       | N(0, .01^2)         | 1.3e5 | 1e7      |
| P2    | same              | same                       | N(0, .5^2)          | 30    | 1e4      |
| P3    | 784-128-128-10    | 10, linear 1 to .05        | N(0, .001^2)        | 3000  | 9e3      |
| P3r   | 138-128-128-10    | P3 without the inputs that neither Sigma nor W_1 sees |  |          |
| P4    | 100-100-100       | 30, geometric 10 to .01    | N(0, .001^2)        | 1500  | 3e4      |
| P5    | 64-64-64-64-64    | 64, geometric 3 to .1      | N(0, .02^2)         | 1000  | 2e4      |
| P6    | 32, twenty layers | 32, linear 2 to .5         | .7 orthogonal + .02 | 200   | 2e4      |
| P7    | P1's              | P1's                       | P1's law, 1000 seeds| 150   | 1e4      |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

SEED = 1  # the last of P1's four modes is learned half way through
OUTPUTS = 100
MEMBERS = 1000
MEMBER_OUTPUTS = 20

Weights = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Problem:
    """One target, one or more starts, output times; `starts[member][l - 1]` is W_l at time 0, (d_l, d_{l-1})."""

    name: str
    sigma: np.ndarray
    """Target of the end-to-end matrix, shape (d_y, d_x)."""
    starts: tuple[Weights, ...]
    horizon: float
    outputs: int = OUTPUTS

    @cached_property
    def ts(self) -> np.ndarray:
        """Output times, evenly spaced, the last at the horizon."""
        return np.linspace(0.0, self.horizon, self.outputs + 1)[1:]

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape (d_l, d_{l-1}) of every layer."""
        return tuple(W.shape for W in self.starts[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """(d_x, d_1, ..., d_y)."""
        return (self.shapes[0][1], *(rows for rows, _ in self.shapes))

    @property
    def size(self) -> int:
        """Number of weights N of one network."""
        return sum(rows * columns for rows, columns in self.shapes)

    @property
    def stiffest(self) -> float:
        r"""Estimate of the Hessian's spectral radius at a balanced minimum: $h\, s_1^{2 - 2/h}$."""
        depth = len(self.shapes)
        return depth * float(np.linalg.norm(self.sigma, 2)) ** (2 - 2 / depth)


def random_target(rng: np.random.Generator, d_y: int, d_x: int, s: np.ndarray) -> np.ndarray:
    """U diag(s) V^T with random orthonormal U and V."""
    U = np.linalg.qr(rng.standard_normal((d_y, s.size)))[0]
    V = np.linalg.qr(rng.standard_normal((d_x, s.size)))[0]
    return (U * s) @ V.T


def gaussian_start(rng: np.random.Generator, widths: tuple[int, ...], scale: float) -> Weights:
    """Independent N(0, scale^2) entries."""
    return tuple(scale * rng.standard_normal((above, below)) for below, above in pairwise(widths))


def _gaussian(name: str, widths: tuple[int, ...], s: np.ndarray, scale: float, horizon: float) -> Problem:
    rng = np.random.default_rng(SEED)
    sigma = random_target(rng, widths[-1], widths[0], s)
    return Problem(name, sigma, (gaussian_start(rng, widths, scale),), horizon)


def _small(name: str, scale: float, horizon: float) -> Problem:
    return _gaussian(name, (11, 6, 6, 6, 6, 4), np.array([6, 4.5, 3, 1.5]), scale, horizon)


def _wide(name: str) -> Problem:
    return _gaussian(name, (784, 128, 128, 10), np.linspace(1, 0.05, 10), 1e-3, 3000.0)


def seen_inputs(problem: Problem) -> np.ndarray:
    """Orthonormal basis (d_x, rank) of the inputs that the target or the first layer sees; the flow stays in it."""
    U, s, _ = np.linalg.svd(problem.sigma.T, full_matrices=False)
    target_rows = U[:, s > 1e-12 * s[0]]
    return np.linalg.qr(np.hstack([target_rows, problem.starts[0][0].T]))[0]


def reduced(problem: Problem, name: str) -> Problem:
    """The same flow in the coordinates of `seen_inputs`: W = W_reduced basis^T at all times."""
    basis = seen_inputs(problem)
    starts = tuple((start[0] @ basis, *start[1:]) for start in problem.starts)
    return replace(problem, name=name, sigma=problem.sigma @ basis, starts=starts)


def _deep(name: str) -> Problem:
    rng = np.random.default_rng(SEED)
    sigma = random_target(rng, 32, 32, np.linspace(2, 0.5, 32))
    orthogonal = [np.linalg.qr(rng.standard_normal((32, 32)))[0] for _ in range(20)]
    start = tuple(0.7 * Q + 0.02 * rng.standard_normal((32, 32)) for Q in orthogonal)
    return Problem(name, sigma, (start,), 200.0)


def _ensemble(name: str) -> Problem:
    one = _small(name, 0.1, 150.0)
    starts = tuple(gaussian_start(np.random.default_rng(seed), one.widths, 0.1) for seed in range(MEMBERS))
    return replace(one, starts=starts, outputs=MEMBER_OUTPUTS)


BUILDERS: dict[str, Callable[[str], Problem]] = {
    "P1": lambda name: _small(name, 0.1, 150.0),
    "P1s": lambda name: _small(name, 0.05, 1100.0),
    "P1x": lambda name: _small(name, 0.02, 2e4),
    "P1xx": lambda name: _small(name, 0.01, 1.3e5),
    "P2": lambda name: _small(name, 0.5, 30.0),
    "P3": _wide,
    "P3r": lambda name: reduced(_wide("P3"), name),
    "P4": lambda name: _gaussian(name, (100, 100, 100), np.geomspace(10, 0.01, 30), 1e-3, 1500.0),
    "P5": lambda name: _gaussian(name, (64,) * 5, np.geomspace(3, 0.1, 64), 0.02, 1000.0),
    "P6": _deep,
    "P7": _ensemble,
}


def check_name(name: str) -> str:
    """The name; raises `ValueError` for one that is not in the table."""
    if name not in BUILDERS:
        raise ValueError(f"`problem`: got {name!r}; give some of {', '.join(BUILDERS)}")
    return name


@cache
def build(name: str) -> Problem:
    """The problem of that name; raises `ValueError` for other names."""
    return BUILDERS[check_name(name)](name)


def first_members(problem: Problem, count: int) -> Problem:
    """The ensemble cut to its first `count` starts."""
    return replace(problem, starts=problem.starts[:count])
