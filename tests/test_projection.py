"""Projection onto the conserved imbalances: they hold to rounding, and the path is as good as without."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, WHITE, WIDTHS, correlated, random_network
from scipy.integrate import solve_ivp

from deeplinear import Network, gradient_flow
from deeplinear.diagnostics import imbalance
from deeplinear.flows.problem import Problem
from deeplinear.flows.projection import projected

DEEP = (4, 5, 6, 3)


def drift(networks, start):
    """Largest change of an imbalance, relative to the squares that it is the difference of."""
    worst, before = 0.0, [np.asarray(C) for C in imbalance(start)]
    for network in networks:
        squares = [float(jnp.sum(W**2)) for W in network.weights]
        for l, C in enumerate(imbalance(network)):
            worst = max(worst, float(np.linalg.norm(np.asarray(C) - before[l])) / (squares[l] + squares[l + 1]))
    return worst


def reference(objective, network, times):
    """End-to-end matrices by scipy's DOP853 on all weights in one vector."""
    optimum, sigma_xx = np.asarray(objective.optimum), np.asarray(objective.sigma_xx)
    shapes = [W.shape for W in network.weights]
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]
    split = lambda flat: [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
    product = lambda weights, size: np.linalg.multi_dot([*weights[::-1], np.eye(size), np.eye(size)])

    def field(t, flat):
        W = split(flat)
        G = (optimum - product(W, optimum.shape[1])) @ sigma_xx
        lefts = [product(W[j + 1 :], shapes[j][0]) for j in range(len(W))]
        rights = [product(W[:j], optimum.shape[1]) for j in range(len(W))]
        return np.concatenate([(L.T @ G @ R.T).ravel() for L, R in zip(lefts, rights, strict=True)])

    flat = np.concatenate([np.asarray(W).ravel() for W in network.weights])
    solution = solve_ivp(field, (0.0, times[-1]), flat, "DOP853", t_eval=times, rtol=1e-13, atol=1e-15)
    return np.array([product(split(y), optimum.shape[1]) for y in solution.y.T])


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param("rock4", marks=pytest.mark.slow),
        pytest.param("rodas4", marks=pytest.mark.slow),
        pytest.param("dopri8", marks=pytest.mark.slow),
        "auto",
    ],
)
def test_imbalances_hold_to_rounding_and_the_path_is_no_worse(solver):
    objective, network = correlated(DEEP), random_network(DEEP, scale=0.3)
    exact = reference(objective, network, TIMES)
    plain, held = (gradient_flow(objective, network, TIMES, rtol=1e-5, solver=solver, project=p) for p in (False, True))
    errors = [float(np.linalg.norm(run.end_to_end - exact, axis=(1, 2)).max()) for run in (plain, held)]
    drifts = [drift([run[i] for i in range(len(run))], network) for run in (plain, held)]
    print(f"{solver}: drift {drifts[0]:.1e} and projected {drifts[1]:.1e}; errors {errors[0]:.1e} and {errors[1]:.1e}")
    assert drifts[1] < 1e-14 and drifts[0] > 1e3 * drifts[1]
    assert errors[1] < 1.2 * errors[0] and errors[1] < 1e-5 * np.linalg.norm(exact, axis=(1, 2)).max()


@pytest.mark.parametrize(
    "widths", [WIDTHS, pytest.param((4, 14, 13, 3), marks=pytest.mark.slow), (3, 1, 2)]
)  # one kernel, calls, a bottleneck
def test_imbalances_hold_at_chosen_times(widths):
    network = random_network(widths, scale=0.05)
    objective = correlated(widths)
    run = gradient_flow(objective, network, project=True, rtol=1e-5, tolerance=1e-4)
    assert drift([run[i] for i in range(0, len(run), 10)], network) < 1e-14
    assert run.ending.kind in ("global minimum", "saddle")


def test_a_projection_moves_little_and_keeps_the_map():
    start = random_network(DEEP)
    conserved = tuple(np.asarray(W2).T @ W2 - W1 @ np.asarray(W1).T for W1, W2 in pairwise(start.weights))
    rng = np.random.default_rng(1)
    for size in (1e-9, 1e-6, 1e-3):
        moved = Network([W + size * rng.standard_normal(W.shape) for W in start.weights])
        back = jax.jit(projected)(moved, conserved)
        assert drift([back], start) < 1e-14
        distance = lambda a, b: float(
            np.sqrt(sum(jnp.sum((x - y) ** 2) for x, y in zip(a.weights, b.weights, strict=True)))
        )
        assert distance(back, moved) < distance(moved, start)  # the nearest one is no further than the start
        change = float(jnp.linalg.norm(back.end_to_end - moved.end_to_end))
        assert change < 1e-13 + 100 * size**2  # to first order not at all


def test_without_hidden_layers_there_is_nothing_to_do():
    network = random_network((4, 3))
    plain, held = (gradient_flow(WHITE, network, TIMES, project=p) for p in (False, True))
    np.testing.assert_allclose(held.end_to_end, plain.end_to_end, rtol=0, atol=1e-12)


def test_members_of_ensembles_are_projected_as_alone():
    networks = [random_network(WIDTHS, seed) for seed in range(3)]
    together = gradient_flow(WHITE, jax.tree.map(lambda *W: jnp.stack(W), *networks), TIMES, project=True)
    for b, network in enumerate(networks):
        alone, member = gradient_flow(WHITE, network, TIMES, project=True), together.member(b)
        assert drift([member[i] for i in range(len(TIMES))], network) < 1e-14
        for one, other in zip(alone.networks.weights, member.networks.weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_off_it_changes_no_program():
    off, default = Problem(WHITE, None, None, project=False), Problem(WHITE, None, None)
    assert jax.tree.structure(off) == jax.tree.structure(default)
    assert jax.tree.structure(Problem(WHITE, None, None, project=True)) != jax.tree.structure(default)


MASK = Network([np.ones((5, 4), dtype=bool), np.ones((3, 5), dtype=bool)])


@pytest.mark.parametrize("options", [{"mask": MASK}, {"weight_decay": 0.1}])
def test_what_conserves_nothing_is_refused(options):
    with pytest.raises(ValueError, match=r"^`project`: with a mask or weight decay the imbalances are not conserved"):
        gradient_flow(WHITE, random_network(WIDTHS), TIMES, project=True, **options)


def test_diffrax_is_refused():
    diffrax = pytest.importorskip("diffrax")
    with pytest.raises(ValueError, match=r"^`project`: diffrax's steps are not projected"):
        gradient_flow(WHITE, random_network(WIDTHS), TIMES, project=True, solver=diffrax.Tsit5())
