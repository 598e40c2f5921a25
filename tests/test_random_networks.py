"""Every solver, ensembles and reductions against DOP853 at 1e-13, on random networks of many shapes."""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import deeplinear as dl

RTOL = 1e-7
SHAPES = [
    (1, 1),
    (7, 40),
    (40, 3),
    (5, 1, 6),
    (3, 40, 8),
    (38, 5, 4),
    (4, 9, 2, 12),
    (6, 6, 6, 6),
    (2, 3, 40, 3, 5),
    (11, 6, 6, 4, 6, 4),
    (3, 5, 2, 4, 6, 3, 8),
]
SOLVERS = ["auto", "rock4", "rodas4", "dopri8"]


@cache
def question(widths, white):
    """Objective, start, times, and the end-to-end matrix by scipy in numpy's arithmetic."""
    rng = np.random.default_rng(sum(widths) + len(widths))
    d_x, d_y = widths[0], widths[-1]
    X = rng.standard_normal((3 * d_x, d_x)) * np.linspace(0.5, 1.5, d_x)
    Sigma_xx = np.eye(d_x) if white else X.T @ X / len(X)
    sigma_yx = rng.standard_normal((d_y, d_x)) / np.sqrt(d_x)
    start = [0.6 / np.sqrt(below) * rng.standard_normal((above, below)) for below, above in pairwise(widths)]
    shapes, cuts = [W.shape for W in start], np.cumsum([W.size for W in start])[:-1]

    def velocity(_, flat):
        layers = [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
        product = lambda some, size: np.linalg.multi_dot([np.eye(some[0].shape[0]), *some]) if some else np.eye(size)
        slopes = []
        for j in range(len(layers)):
            above = product(layers[:j:-1], layers[j].shape[0])
            below = product(layers[:j][::-1], layers[j].shape[1])
            slopes.append(above.T @ (sigma_yx - above @ layers[j] @ below @ Sigma_xx) @ below.T)
        return np.concatenate([slope.ravel() for slope in slopes])

    ts = np.array([0.3, 1.0, 3.0, 8.0])
    flat = np.concatenate([W.ravel() for W in start])
    found = solve_ivp(velocity, (0, ts[-1]), flat, "DOP853", t_eval=ts, rtol=1e-13, atol=1e-15)
    maps = []
    for state in found.y.T:
        layers = [part.reshape(shape) for part, shape in zip(np.split(state, cuts), shapes, strict=True)]
        maps.append(np.linalg.multi_dot(layers[::-1]) if len(layers) > 1 else layers[0])
    objective = dl.SquaredError.from_moments(sigma_yx, None if white else Sigma_xx)
    return objective, dl.Network(start), ts, np.array(maps)


def error(end_to_end, maps):
    return float((np.linalg.norm(end_to_end - maps, axis=(1, 2)) / np.linalg.norm(maps, axis=(1, 2))).max())


def holds(widths, white, solver):
    objective, start, ts, maps = question(widths, white)
    trajectory = dl.gradient_flow(objective, start, ts, rtol=RTOL, solver=solver)
    found = error(trajectory.end_to_end, maps)
    print(f"{'-'.join(map(str, widths))} {solver}: {found / RTOL:.3g} rtol, integrated {trajectory.statistics.widths}")
    assert found < 10 * RTOL


@pytest.mark.parametrize("case", range(len(SHAPES)), ids=["-".join(map(str, widths)) for widths in SHAPES])
def test_a_random_network_follows_the_flow(case):
    """One solver a shape, in turn; `make test-slow` takes all of them."""
    holds(SHAPES[case], case % 2 == 0, SOLVERS[case % len(SOLVERS)])


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("white", [True, False])
def test_random_networks_follow_the_flow_with_every_solver(solver, white):
    for widths in SHAPES:
        holds(widths, white, solver)


@pytest.mark.parametrize("widths", [(4, 9, 2, 12), (11, 6, 6, 4, 6, 4)], ids=str)
def test_members_of_an_ensemble_follow_the_flow(widths):
    objective, start, ts, maps = question(widths, False)
    starts = jax.tree.map(lambda W: jnp.stack([W, 0.5 * W, W]), start)
    together = dl.gradient_flow(objective, starts, ts, rtol=RTOL, threads=2)
    assert error(together.end_to_end[0], maps) < 10 * RTOL
    assert error(together.end_to_end[2], maps) < 10 * RTOL
    assert error(together.end_to_end[1], maps) > 1e-3
