"""Generate the coefficients of the stabilised explicit Runge-Kutta method ROCK4, from scratch.

Run ``python tools/generate_rock4.py OUTPUT.npz``. Method: A. Abdulle, SIAM J. Sci. Comput. 23 (2002) 2041-2054.

A member with ``s`` stages makes ``m = s - 4`` recurrence stages and four finishing stages,

    g_1 = y + mu_1 h f(y),   g_j = mu_j h f(g_{j-1}) + (1 + ka_j) g_{j-1} - ka_j g_{j-2},   j = 2..m
    k_1 = f(g_m),  k_i = f(g_m + h sum_{j<i} a_ij k_j),  y_1 = g_m + h sum b_i k_i,  k_5 = f(y_1),
    error estimate = h sum_{i=1..5} e_i k_i,

and has the stability polynomial R = w P_m: P_m is orthogonal on [-1, 1] with respect to w(x)^2 / sqrt(1 - x^2), and
w has two pairs of complex zeros, chosen so that R agrees with exp to order 4 and stays below `LEVEL` on (-l, -1).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq

LEVEL = 0.95  # bound of |R| on the damped part of the real interval
SMALLEST, EVERY, LARGEST, RATIO = 5, 24, 160, 1.06  # the family: every s to 24, then steps of at most 6 %

Targets = tuple[float, float, float, float]

# Elementary weights of the 17 rooted trees to order 5, in this order:
#   t | [t] | [tt] [[t]] | [ttt] [t[t]] [[tt]] [[[t]]]
#   | [tttt] [tt[t]] [[t][t]] [t[tt]] [t[[t]]] [[ttt]] [[t[t]]] [[[tt]]] [[[[t]]]]
DENSITY = np.array([1, 2, 3, 6, 4, 8, 12, 24, 5, 10, 20, 15, 30, 20, 40, 60, 120], dtype=float)
SYMMETRY = np.array([1, 1, 2, 1, 6, 1, 2, 1, 24, 2, 2, 2, 1, 6, 1, 2, 1], dtype=float)
EXACT = 1 / DENSITY


def field_weights(stage: np.ndarray) -> np.ndarray:
    """Elementary weights of h f(g) from those of g - y (last axis: the 17 trees)."""
    t, t_t, tt, chain3, ttt, t_chain, chain_tt, chain4 = np.moveaxis(stage[..., :8], -1, 0)
    one = np.ones_like(t)
    third = (tt, chain3, ttt, t_chain, chain_tt, chain4)
    order4 = (t**3, t * t_t, tt, chain3)
    order5 = (t**4, t * t * t_t, t_t * t_t, t * tt, t * chain3, *third[2:])
    return np.stack((one, t, t**2, t_t, *order4, *order5), axis=-1)


@dataclass(frozen=True)
class StabilityPolynomial:
    """The stability polynomial R(z) = w(x) P_m(x) / (w(a) P_m(a)) with x = a + z / slope."""

    stages: int
    origin: float  # a, the place of z = 0
    slope: float  # dz/dx
    diagonal: np.ndarray  # (m,) recurrence of P: P_{j+1} = (x - diagonal_j) P_j - off_diagonal_j P_{j-1}
    off_diagonal: np.ndarray  # (m,), first entry 0
    factor: np.ndarray  # (5,) w(z) / w(0), lowest power first

    @property
    def interval(self) -> float:
        """The real stability interval l."""
        return self.slope * (1 + self.origin)

    def recurrence(self) -> tuple[np.ndarray, np.ndarray]:
        """The coefficients mu_j and ka_j of the recurrence stages, each (m,)."""
        count = self.diagonal.size
        ratio = np.empty(count)  # P_j(a) / P_{j-1}(a)
        ka = np.zeros(count)
        for j in range(count):
            ratio[j] = self.origin - self.diagonal[j] - (self.off_diagonal[j] / ratio[j - 1] if j else 0.0)
            ka[j] = self.off_diagonal[j] / (ratio[j] * ratio[j - 1]) if j else 0.0
        return 1 / (self.slope * ratio), ka

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """R(z) by the normalised recurrence."""
        mu, ka = self.recurrence()
        previous, current = np.zeros_like(z), np.ones_like(z)
        for mu_j, ka_j in zip(mu, ka, strict=True):
            previous, current = current, (mu_j * z + 1 + ka_j) * current - ka_j * previous
        return current * np.polynomial.polynomial.polyval(z, self.factor)


def orthogonal_recurrence(u: np.ndarray, stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Recurrence of the polynomials orthogonal for w^2 / sqrt(1 - x^2), by the discretised Stieltjes method.

    Analytic in u (no conjugation), so that a complex step differentiates it. Gauss-Chebyshev nodes make it exact.
    """
    count = stages - 4
    nodes = np.cos(np.pi * (np.arange(count + 6) + 0.5) / (count + 6))
    shift = stages**2 * (nodes - 1)
    density = (((shift - u[0]) ** 2 + u[1] ** 2) * ((shift - u[2]) ** 2 + u[3] ** 2)) ** 2
    density = density / density.sum()
    diagonal, off_diagonal = np.zeros(count, dtype=u.dtype), np.zeros(count, dtype=u.dtype)
    previous, current = np.zeros_like(density), np.ones_like(density)
    for j in range(count):
        weighted = density * current
        diagonal[j] = (weighted * nodes) @ current
        following = (nodes - diagonal[j]) * current - np.sqrt(off_diagonal[j]) * previous
        if j + 1 < count:
            off_diagonal[j + 1] = (density * following) @ following
            previous, current = current, following / np.sqrt(off_diagonal[j + 1])
    return diagonal, off_diagonal


def taylor(u: np.ndarray, stages: int, recurrence: tuple[np.ndarray, np.ndarray], x: complex, terms: int) -> np.ndarray:
    """First Taylor coefficients of 2^m w P_m at x, in the variable s^2 (x' - x)."""
    scale = stages**2
    previous, current = np.zeros(terms, dtype=complex), np.zeros(terms, dtype=complex)
    current[0] = 1
    for a_j, b_j in zip(*recurrence, strict=True):  # the factor 2 per step keeps the size near 1
        following = 2 * (x - a_j) * current - 4 * b_j * previous
        following[1:] += 2 * current[:-1] / scale
        previous, current = current, following
    here = scale * (x - 1)
    for re, im in (u[:2], u[2:4]):
        current = np.convolve(current, [(here - re) ** 2 + im**2, 2 * (here - re), 1])[:terms]
    return current


def root(function: Callable[[float], float], left: float, right: float) -> float:
    """The zero of a function that changes its sign between left and right."""
    return float(brentq(function, left, right, xtol=1e-16))  # type: ignore[arg-type]


def first_maximum(u: np.ndarray, stages: int) -> float:
    """The first local maximum of R left of its first minimum left of z = 0."""
    recurrence = orthogonal_recurrence(u, stages)
    sign = np.sign(taylor(u, stages, recurrence, 1 + u[4] / stages**2, 1)[0].real)

    def slope(angle: float) -> float:
        return sign * taylor(u, stages, recurrence, np.cos(angle), 2)[1].real

    start = np.arccos(1 + u[4] / stages**2)
    angles = np.linspace(start, min(np.pi, start + 12 / stages), 60)
    slopes = [slope(angle) for angle in angles]
    changes = [i for i in range(59) if slopes[i] * slopes[i + 1] < 0]
    if len(changes) < 2:
        raise ArithmeticError(f"no interior maximum at {stages} stages")
    return float(np.cos(root(slope, angles[changes[1]], angles[changes[1] + 1])))


def residual(u: np.ndarray, stages: int, maximum: float) -> np.ndarray:
    """Defects of order 2, 3, 4 and of the level at the last and the first extremum; u are five numbers (analytic)."""
    recurrence = orthogonal_recurrence(u, stages)
    at_origin = taylor(u, stages, recurrence, 1 + u[4] / stages**2, 5)
    order = at_origin / at_origin[0]
    rate = order[1]
    last = (-1) ** stages * taylor(u, stages, recurrence, -1, 1)[0] / at_origin[0]
    first = taylor(u, stages, recurrence, maximum, 1)[0] / at_origin[0]
    conditions = [order[k] * np.prod(np.arange(1, k + 1)) / rate**k - 1 for k in (2, 3, 4)]
    return np.array([*conditions, last - LEVEL, first - LEVEL])


def start_values() -> np.ndarray:
    """A start for Newton's method that serves every s: stretched zeros of the Taylor polynomial of exp."""
    zeros = np.roots([1 / 24, 1 / 6, 1 / 2, 1, 1])
    zeros = 1.4 * zeros[zeros.imag > 0] / 0.175
    zeros = zeros[np.argsort(zeros.real)]
    return np.array([zeros[0].real - 1, zeros[0].imag, zeros[1].real - 1, zeros[1].imag, -1.0])


def solve_parameters(stages: int) -> np.ndarray:
    """The five numbers (A_1, B_1, A_2, B_2, C): zeros of w at 1 + (A_i +- i B_i) / s^2, origin 1 + C / s^2."""
    u = start_values()
    for _ in range(60):
        maximum = first_maximum(u, stages)
        defect = np.real(residual(u.astype(complex), stages, maximum))
        size = np.abs(defect).max()
        step = 1e-30j * np.eye(5)
        # The place of the maximum is frozen: the derivative with respect to it is zero there.
        jacobian = np.stack([np.imag(residual(u + step[k], stages, maximum)) / 1e-30 for k in range(5)], axis=1)
        change = -np.linalg.solve(jacobian, defect)
        change *= min(1.0, 3 / np.abs(change).max())
        if np.abs(change).max() < 1e-11:
            return u + change
        u = damped_update(u, change, stages, size)
    raise ArithmeticError(f"Newton's method did not converge at {stages} stages")


def damped_update(u: np.ndarray, change: np.ndarray, stages: int, size: float) -> np.ndarray:
    """u plus the largest of change, change / 2, ... that makes the defect smaller."""
    factor = 1.0
    while factor > 1e-3:
        candidate = u + factor * change
        try:
            defect = np.real(residual(candidate.astype(complex), stages, first_maximum(candidate, stages)))
        except ArithmeticError:
            factor /= 2
            continue
        if np.abs(defect).max() < max(size, 1e-10):
            return candidate
        factor /= 2
    return u + factor * change


def stability_polynomial(stages: int) -> StabilityPolynomial:
    """The polynomial R of a member with the given number of stages."""
    u = solve_parameters(stages)
    recurrence = orthogonal_recurrence(u, stages)
    origin = 1 + u[4] / stages**2
    series = taylor(u, stages, recurrence, origin, 2)
    rate = (series[1] / series[0]).real  # dz / d(s^2 x)
    zeros = rate * np.array([u[0] - u[4] + 1j * u[1], u[2] - u[4] + 1j * u[3]])
    factor = np.ones(1)
    for zero in zeros:
        factor = np.convolve(factor, [1, -2 * (1 / zero).real, abs(1 / zero) ** 2])
    return StabilityPolynomial(stages, origin, rate * stages**2, *recurrence, factor)


def recurrence_weights(mu: np.ndarray, ka: np.ndarray) -> np.ndarray:
    """Elementary weights (17,) of the last recurrence stage."""
    previous, current = np.zeros(17), np.zeros(17)
    for mu_j, ka_j in zip(mu, ka, strict=True):
        previous, current = current, mu_j * field_weights(current) + (1 + ka_j) * current - ka_j * previous
    return current


def finishing_targets(base: np.ndarray) -> Targets:
    """What sum b d^2, sum b d^3, sum b d (Ad) and sum b A d^2 must be, given the weights of g_m."""
    t, t_t, tt, chain3, ttt, t_chain, chain_tt, _ = base[:8]
    w1, w2 = 1 - t, 0.5 - t_t - (1 - t) * t
    square = 1 / 3 - tt - 2 * w2 * t - w1 * t**2
    chain = 1 / 6 - chain3 - w2 * t - w1 * t_t
    cube = 1 / 4 - ttt - 3 * square * t - 3 * w2 * t**2 - w1 * t**3
    mixed = 1 / 8 - t_chain - w1 * t * t_t - w2 * (t**2 + t_t) - (square + chain) * t
    bent = 1 / 12 - chain_tt - w1 * tt - w2 * t**2 - 2 * t * chain
    return square, cube, mixed, bent


def finishing_trial(d2: float, factor: np.ndarray, targets: Targets) -> tuple[float, np.ndarray]:
    """Defect of the last condition and the coefficients (a21, a31, a32, a41, a42, a43, b1..b4) for a trial node d2."""
    w1, w2, w3, w4 = factor[1:]
    square, cube, mixed, bent = targets
    d3, d4 = w1 / 3, 2 * w1 / 3
    nodes = np.array([d2, d3, d4])
    b = np.linalg.solve(np.stack([nodes, nodes**2, nodes**3]), [w2, square, cube])
    z = (bent - d2 * w3) / (d3 * (d3 - d2))
    x, y = np.linalg.solve([[d2, d2], [d2 * d3, d2 * d4]], [w3 - d3 * z, mixed - d3 * d4 * z])
    a32, a42, a43 = x / b[1], y / b[2], z / b[2]
    coefficients = [d2, d3 - a32, a32, d4 - a42 - a43, a42, a43, w1 - b.sum(), *b]
    return z * x * d2 / b[1] - w4, np.array(coefficients)


def finishing_stages(factor: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The coefficients (a21, a31, a32, a41, a42, a43, b1..b4), (10,): the root in a21 = d2 of one scalar equation."""
    targets = finishing_targets(base)
    grid = np.linspace(-1.5, 1.5, 2400)  # even count: misses d2 = 0, where the equations are singular
    values = np.array([finishing_trial(d2, factor, targets)[0] for d2 in grid])
    roots = []
    for i in np.flatnonzero(np.sign(values[:-1]) != np.sign(values[1:])):
        d2 = root(lambda d2: finishing_trial(d2, factor, targets)[0], grid[i], grid[i + 1])
        if abs(finishing_trial(d2, factor, targets)[0]) < 1e-6:  # otherwise a pole
            roots.append(d2)
    if len(roots) != 1:
        raise ArithmeticError(f"expected one finishing procedure, found {len(roots)}")
    return finishing_trial(roots[0], factor, targets)[1]


def error_weights(finish: np.ndarray, base: np.ndarray, interval: float) -> np.ndarray:
    """Weights (5,) of an error estimate of order 3: the kernel of its four conditions, scaled by 1 / l."""
    a21, a31, a32, a41, a42, a43, *b = finish
    rows = [[], [a21], [a31, a32], [a41, a42, a43], b]
    fields = []
    for row in rows:
        stage = base + sum((a * k for a, k in zip(row, fields, strict=True)), start=np.zeros(17))
        fields.append(field_weights(stage))
    conditions = np.stack(fields, axis=1)[:4]
    kernel = np.append(-np.linalg.solve(conditions[:, :4], conditions[:, 4]), 1.0)
    return kernel / interval


def family() -> list[int]:
    """The numbers of stages of the stored members."""
    members = list(range(SMALLEST, EVERY + 1))
    while members[-1] < LARGEST:
        members.append(min(LARGEST, max(members[-1] + 1, int(members[-1] * RATIO))))
    return members


def build_table(stages: list[int]) -> dict[str, np.ndarray]:
    """The table of all members: flat recurrences with offsets, and one row per member for the rest."""
    mus, kas, nodes, intervals, finishes, errors = [], [], [], [], [], []
    for s in stages:
        polynomial = stability_polynomial(s)
        mu, ka = polynomial.recurrence()
        base = recurrence_weights(mu, ka)
        finish = finishing_stages(polynomial.factor, base)
        mus.append(mu)
        kas.append(ka)
        intervals.append(polynomial.interval)
        finishes.append(finish)
        errors.append(error_weights(finish, base, polynomial.interval))
        nodes.append(recurrence_nodes(mu, ka))
    counts = np.array(stages) - 4
    return {
        "stages": np.array(stages),
        "offset": np.concatenate([[0], np.cumsum(counts)]),
        "interval": np.array(intervals),
        "mu": np.concatenate(mus),
        "ka": np.concatenate(kas),
        "node": np.concatenate(nodes),
        "finish": np.array(finishes),
        "error": np.array(errors),
    }


def recurrence_nodes(mu: np.ndarray, ka: np.ndarray) -> np.ndarray:
    """The nodes c_j of g_j, j = 1..m: the recurrence with f = 1."""
    nodes = np.zeros(mu.size + 1)
    for j in range(1, mu.size + 1):
        nodes[j] = mu[j - 1] + (1 + ka[j - 1]) * nodes[j - 1] - ka[j - 1] * nodes[max(j - 2, 0)]
    return nodes[1:]


def main() -> None:
    """Write the table to the file named on the command line."""
    parser = argparse.ArgumentParser(description="generate the coefficients of ROCK4")
    parser.add_argument("output", type=Path)
    table: dict[str, Any] = dict(build_table(family()))
    np.savez_compressed(parser.parse_args().output, **table)


if __name__ == "__main__":
    main()
