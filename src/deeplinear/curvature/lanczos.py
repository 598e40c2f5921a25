"""Both ends of a symmetric operator's spectrum by Lanczos, with restarts, repeated eigenvalues and residuals.

The operators here have highly repeated eigenvalues (saddles, balanced minima, the zero matrix), where ARPACK stops with
an error or misses the end, and plain Lanczos finds one vector of each eigenspace. So every new vector is made
orthogonal to all others, twice; an exhausted Krylov space is an answer; and beyond the first eigenpair fresh random
starts, orthogonal to what was found, look for more of them until they find none.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

STRIP = 4096  # entries of the vectors that a restart combines at a time
SHORT = 1e-6  # residual, relative to the operator, from which rounding has a part in its direction
EVERY = 5  # products between two looks at the Ritz values


class Problem(NamedTuple):
    """A symmetric operator and what a search in it may cost."""

    apply: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[], np.ndarray]
    """A random vector of the space."""
    inside: Callable[[np.ndarray], np.ndarray]
    """Projects on the space what rounding took out of it."""
    dimension: int
    """Of the space, which may be smaller than the length of its vectors."""
    basis: int
    """Vectors kept at a time, besides those found."""
    tolerance: float
    """Residual at which an eigenpair is found, relative to the largest Ritz value in modulus."""
    noise: float
    """Rounding error of `apply` on a vector of length 1."""
    products: int
    """Most applications of the operator."""


class Found(NamedTuple):
    """Eigenpairs, smallest eigenvalue first."""

    values: np.ndarray
    vectors: np.ndarray
    """One a row."""

    def joined(self, other: "Found") -> "Found":
        values = np.concatenate([self.values, other.values])
        order = np.argsort(values, kind="stable")
        return Found(values[order], np.concatenate([self.vectors, other.vectors])[order])

    def ends(self, low: int, high: int) -> "Found":
        """The `low` smallest and the `high` largest."""
        if self.values.size <= low + high:
            return self
        kept = np.r_[:low, self.values.size - high : self.values.size]
        return Found(self.values[kept], self.vectors[kept])


def ends(problem: Problem, low: int, high: int) -> tuple[Found, int]:
    """The `low` smallest and `high` largest eigenpairs together, and the number of products that they took.

    Where `problem.products` does not suffice, the best approximations so far.
    """
    found, used = _krylov(problem, None, (low, high), problem.products)
    # a start at random has a part in every eigenspace, hence one vector of each: more only where more are wanted
    more = int(low > 1), int(high > 1)
    enough = min(low + high, problem.dimension)
    while any(more) and found.values.size < problem.dimension:
        if used >= problem.products and found.values.size >= enough:
            break
        others, spent = _krylov(problem, found.ends(low, high), more, problem.products - used, (low, high))
        used += spent
        slack = max(problem.tolerance * np.abs(found.values).max(), problem.noise)
        missing = found.values.size < enough
        below = more[0] and not missing and others.values[0] < found.values[low - 1] - slack
        above = more[1] and not missing and others.values[-1] > found.values[-high] + slack
        if not (missing or below or above):
            break
        found = found.joined(others).ends(low, high)
    return found, used


def _krylov(
    problem: Problem, known: Found | None, wanted: tuple[int, int], budget: int, of: tuple[int, int] = (0, 0)
) -> tuple[Found, int]:
    """The `wanted` smallest and largest eigenpairs of the operator on what is orthogonal to the `known` ones.

    With `of`, the numbers of smallest and largest ones that are wanted in all, it stops where none can be among them.
    Thick restarts: the wanted Ritz vectors and some beside them stay, then the last residual, then Krylov vectors.
    """
    fixed = np.empty((0, problem.draw().size)) if known is None else known.vectors
    dimension = problem.dimension - len(fixed)
    low, high = min(wanted[0], dimension), min(wanted[1], dimension)
    nowhere = np.inf, -np.inf
    limits = nowhere if known is None or known.values.size < sum(of) else _limits(known, of)
    most = min(max(problem.basis, low + high + 5), dimension)
    Q, T, size = np.empty((most, fixed.shape[1])), np.zeros((most, most)), 0.0
    j, used, residual = 0, 0, _apart(problem.draw(), fixed, Q[:0])
    length, coupling = np.linalg.norm(residual), np.zeros(0)
    while True:
        Q[j] = residual / length
        if length < SHORT * size:  # what is left may be rounding, outside the space
            Q[j] = _apart(problem.inside(Q[j]), fixed, Q[:j])
            Q[j] /= np.linalg.norm(Q[j])
        T[j, : coupling.size] = T[: coupling.size, j] = coupling
        residual = problem.apply(Q[j])
        T[j, j] = residual @ Q[j]
        size, j, used = max(size, float(np.linalg.norm(residual))), j + 1, used + 1
        residual = _apart(residual, fixed, Q[:j])
        length = float(np.linalg.norm(residual))
        stop = j == dimension or used >= budget or length <= problem.noise
        if stop or j == most or j % EVERY == 0:
            values, Y = np.linalg.eigh(T[:j, :j])
            bounds = length * np.abs(Y[-1])
            if stop or _settled(problem, values, bounds, (low, high), limits if used >= 2 * EVERY else nowhere):
                kept = np.r_[: min(low, j), max(min(low, j), j - high) : j]
                return Found(values[kept], Y[:, kept].T @ Q[:j]), used
            if j == most:
                j = _restart(Q, T, values, Y, low, high)
                coupling = length * Y[-1, _kept(most, low, high)]
                continue
        coupling = np.zeros(j)
        coupling[-1] = length


def _apart(vector: np.ndarray, *bases: np.ndarray) -> np.ndarray:
    """The part of a vector orthogonal to orthonormal rows; twice, as once leaves what rounding makes of the removed."""
    vector = np.array(vector)
    for _ in range(2):
        for basis in bases:
            vector -= (basis @ vector) @ basis
    return vector


def _kept(size: int, low: int, high: int) -> np.ndarray:
    """Which Ritz vectors a restart keeps: beside the wanted ones a share of the others, at both ends."""
    spare = max((size - low - high - 2) // 3, 0)
    a, b = (low + (spare + 1) // 2 if low else 0), (high + (spare + 1) // 2 if high else 0)
    return np.r_[:a, size - b : size]


def _restart(Q: np.ndarray, T: np.ndarray, values: np.ndarray, Y: np.ndarray, low: int, high: int) -> int:
    """Puts the kept Ritz vectors first; their number."""
    kept = _kept(len(values), low, high)
    for at in range(0, Q.shape[1], STRIP):  # in place
        Q[: kept.size, at : at + STRIP] = Y[:, kept].T @ Q[:, at : at + STRIP]
    T[:] = 0.0
    np.fill_diagonal(T[: kept.size, : kept.size], values[kept])
    return kept.size


def _limits(known: Found, of: tuple[int, int]) -> tuple[float, float]:
    """The largest of the smallest and the smallest of the largest eigenvalues so far."""
    low, high = of
    return (known.values[low - 1] if low else np.inf), (known.values[-high] if high else -np.inf)


def _settled(
    problem: Problem, values: np.ndarray, bounds: np.ndarray, wanted: tuple[int, int], limits: tuple[float, float]
) -> bool:
    """Whether all wanted pairs have small residuals, or lie inside the `limits` by three times theirs."""
    low, high = wanted
    if values.size < low + high:
        return False
    enough = max(problem.tolerance * np.abs(values).max(), problem.noise)
    top = values.size - high
    below = (bounds[:low] <= enough) | (values[:low] - 3 * bounds[:low] > limits[0])
    above = (bounds[top:] <= enough) | (values[top:] + 3 * bounds[top:] < limits[1])
    return bool(below.all() and above.all())
