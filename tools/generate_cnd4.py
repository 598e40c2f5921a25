"""Generate the coefficients of CND4, a stabilised explicit Runge-Kutta method of order 4 for very many stages.

Run ``python tools/generate_cnd4.py OUTPUT.npz``. CND4 has the stability polynomial R of ROCK4 (A. Abdulle, SIAM J. Sci.
Comput. 23 (2002) 2041-2054), whose finishing stages amplify round-off like s^8. It sums R in Chebyshev polynomials of
xi = 1 + 2 z / l instead, and repairs the conditions of nonlinear trees by defects that vanish for linear f.
With d_j = g_j - y, k_0 = f(y), k_j = f(y + d_j), b = l / (2 s^2):

    d_1 = (2 b / l) h k_0,   d_j = 2 d_{j-1} - d_{j-2} + (4 / l) h (k_{j-1} - (1 - b) k_0),   j = 2..s
    A = f(y + lam d_p) - (1 - lam) k_0 - lam k_p;   d_q is replaced by d_q + h b_1 A where it is made (q > p)
    Y = sum beta_j d_j,   B = f(y + Y) - (1 - sum beta) k_0 - sum beta_j k_j
    y_1 = y + Y + h (b_2 A + b_3 B),   error estimate = sum eps_j d_j + h e_A A + (h / l) (f(y_1) - f(y + Y)).

The last term of the estimate is of order 4 like the others, and zero for linear f: it makes a blow-up of the
corrections visible, which the other two do not see.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from generate_rock4 import EXACT, SYMMETRY, StabilityPolynomial, family, field_weights, stability_polynomial
from scipy.fft import dct

ERROR_LEVEL = 0.55  # largest value of the error estimate's polynomial on the real stability interval
TT, TTT, TREE_T_CHAIN, TREE_CHAIN_TT = 2, 4, 5, 6  # places of [tt], [ttt], [t[t]] and [[tt]] among the trees


def chebyshev_coefficients(values: np.ndarray) -> np.ndarray:
    """Coefficients of the polynomial of degree n - 1 with these values at cos(pi (k + 1/2) / n)."""
    coefficients = np.asarray(dct(values, type=2)) / values.size
    coefficients[0] /= 2
    return coefficients


def chebyshev_nodes(count: int) -> np.ndarray:
    """The zeros of T_count."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def error_polynomial(stages: int) -> np.ndarray:
    """Chebyshev coefficients (s + 1,) of (1 - xi)^4 Q(xi) with Q orthogonal for (1 - xi)^8 / sqrt(1 - xi^2)."""
    nodes, quadrature = chebyshev_nodes(stages + 1), chebyshev_nodes(stages + 8)
    weight = (1 - quadrature) ** 8
    basis = [np.ones_like(quadrature) / np.sqrt(weight.sum())]
    at_nodes = [np.full_like(nodes, basis[0][0])]
    beta = 0.0
    for j in range(stages - 4):
        alpha = (weight * quadrature * basis[j]) @ basis[j]
        new = (quadrature - alpha) * basis[j] - (beta * basis[j - 1] if j else 0)
        new_at_nodes = (nodes - alpha) * at_nodes[j] - (beta * at_nodes[j - 1] if j else 0)
        beta = np.sqrt((weight * new) @ new)
        basis.append(new / beta)
        at_nodes.append(new_at_nodes / beta)
    coefficients = chebyshev_coefficients((1 - nodes) ** 4 * at_nodes[-1])
    dense = np.polynomial.chebyshev.chebval(np.cos(np.linspace(0, np.pi, 40 * stages)), coefficients)
    return coefficients * ERROR_LEVEL / np.abs(dense).max()


def run_trees(beta: np.ndarray, interval: float, injected: np.ndarray, defect: np.ndarray) -> np.ndarray:
    """Weights (s, candidate, 17) of d_1..d_s; `defect` (candidate, 17) is added to d_q at the stage q = `injected`."""
    stages = beta.size
    b = interval / (2 * stages**2)
    first = field_weights(np.zeros(17))
    stage = np.zeros((stages + 1, *defect.shape))
    for j in range(1, stages + 1):
        if j == 1:
            stage[1] = 2 * b / interval * first
        else:
            increment = field_weights(stage[j - 1]) - (1 - b) * first
            stage[j] = 2 * stage[j - 1] - stage[j - 2] + 4 / interval * increment
        stage[j, injected == j] += defect[injected == j]
    return stage[1:]


def defect_b(beta: np.ndarray, stage: np.ndarray) -> np.ndarray:
    """Weights of the defect B."""
    value = np.tensordot(beta, stage, 1)
    linear = np.tensordot(beta, field_weights(stage), 1)
    return field_weights(value) - (1 - beta.sum()) * field_weights(np.zeros(17)) - linear


def repair(
    beta: np.ndarray, interval: float, p: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The four coefficients lam, b_1, b_2, b_3 for candidate places p < q, each (candidate,)."""
    stages = beta.size
    stage = run_trees(beta, interval, np.zeros(1, dtype=int), np.zeros((1, 17)))[:, 0]
    missing = EXACT - beta @ stage
    bend = defect_b(beta, stage)
    phi, chi = stage[p - 1, 0], stage[p - 1, 1]
    ratio = chi / phi
    # x + b3 B_tt = missing_tt and ratio x + b3 B_t[t] = missing_t[t]
    determinant = bend[TREE_T_CHAIN] - ratio * bend[TT]
    b3 = (missing[TREE_T_CHAIN] - ratio * missing[TT]) / determinant
    x = missing[TT] - b3 * bend[TT]
    lam = (missing[TTT] - b3 * bend[TTT]) / (x * phi) - 1
    size = (lam**2 - lam) * phi**2
    lag = np.arange(1, stages + 1) - q[:, None]  # the injection reaches stage i as U_{i-q}(xi)
    reached = np.where(lag >= 0, beta, 0.0)
    value = (reached * (lag + 1)).sum(axis=1)
    slope = 2 / interval * (reached * (lag * (lag + 1) * (lag + 2) / 3)).sum(axis=1)
    b1 = missing[TREE_CHAIN_TT] / (slope * size)
    return lam, b1, x / size - b1 * value, b3


def defect_a(stage_p: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Weights (candidate, 17) of the defect A."""
    lam = lam[:, None]
    return field_weights(lam * stage_p) - (1 - lam) * field_weights(np.zeros(17)) - lam * field_weights(stage_p)


def candidate_scores(
    beta: np.ndarray, eps: np.ndarray, interval: float, p: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Score (candidate,) and coefficients (candidate, 5): lam, b_1, b_2, b_3, e_A."""
    lam, b1, b2, b3 = repair(beta, interval, p, q)
    plain = run_trees(beta, interval, np.zeros(1, dtype=int), np.zeros((1, 17)))[:, 0]
    defect = defect_a(plain[p - 1], lam)
    stage = run_trees(beta, interval, q, b1[:, None] * defect)
    bend = defect_b(beta, stage)
    new = np.tensordot(beta, stage, 1) + b2[:, None] * defect + b3[:, None] * bend
    e_a = -np.tensordot(eps, stage, 1)[:, TT] / defect[:, TT]
    principal = np.linalg.norm(((new - EXACT) / SYMMETRY)[:, 8:], axis=1)
    size = np.max(np.abs([lam / 10, b1, b2, b3, e_a]), axis=0)
    return principal * (1 + size**2), np.stack([lam, b1, b2, b3, e_a], axis=1)


def member(polynomial: StabilityPolynomial) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One member: beta (s,), eps (s,), the places (p, q) and the coefficients (lam, b_1, b_2, b_3, e_A)."""
    stages, interval = polynomial.stages, polynomial.interval
    b = interval / (2 * stages**2)
    values = polynomial(interval / 2 * (chebyshev_nodes(stages + 1) - 1))
    beta = chebyshev_coefficients(values)[1:] / b
    eps = error_polynomial(stages)[1:] / b
    stride = 1 + stages // 60  # 1 for the small members
    ps = np.arange(1, max(3, int(0.5 * stages)), stride)
    qs = np.arange(2, stages + 1, stride)
    p, q = (grid.ravel() for grid in np.meshgrid(ps, qs, indexing="ij"))
    p, q = p[q > p], q[q > p]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scores, coefficients = candidate_scores(beta, eps, interval, p, q)
    best = int(np.nanargmin(scores))
    return beta, eps, np.array([p[best], q[best]]), coefficients[best]


def build_table(stages: list[int]) -> dict[str, np.ndarray]:
    """The table of all members: flat sums with offsets, and one row per member for the rest."""
    polynomials = [stability_polynomial(s) for s in stages]
    betas, epss, places, coefficients = zip(*[member(polynomial) for polynomial in polynomials], strict=True)
    return {
        "stages": np.array(stages),
        "offset": np.concatenate([[0], np.cumsum(stages)]),
        "interval": np.array([polynomial.interval for polynomial in polynomials]),
        "beta": np.concatenate(betas),
        "eps": np.concatenate(epss),
        "place": np.array(places),
        "repair": np.array(coefficients),
    }


def main() -> None:
    """Write the table to the file named on the command line."""
    parser = argparse.ArgumentParser(description="generate the coefficients of CND4")
    parser.add_argument("output", type=Path)
    table: dict[str, Any] = dict(build_table([s for s in family() if s >= 6]))
    np.savez_compressed(parser.parse_args().output, **table)


if __name__ == "__main__":
    main()
