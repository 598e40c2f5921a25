"""Flows of layers with rates and decays of their own, against the equations written out and integrated by scipy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow
from deeplinear.diagnostics import imbalance_drift

WIDTHS = (4, 5, 5, 3)
RATES, DECAYS = [0.5, 2.0, 1.3], [0.02, 0.0, 0.05]
TIMES = np.linspace(0.0, 6.0, 7)


def problem(seed=0):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((40, 4)), rng.standard_normal((40, 3))
    weights = [0.4 * rng.standard_normal((b, a)) for a, b in pairwise(WIDTHS)]
    return SquaredError.of(X, Y), Network(weights)


def quartic(W):
    return jnp.sum((W - jnp.arange(12.0).reshape(3, 4) / 6) ** 4)


def reference(gradient, network, rates, decays, times, masks=None):
    """End-to-end matrices by DOP853 at 1e-12 of dW_l = -eta_l (dL/dW_l + gamma_l W_l)."""
    shapes = [W.shape for W in network.weights]
    cuts = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    layers = lambda flat: [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]

    def chain(Ws, size):
        W = np.eye(size)
        for M in Ws:
            W = M @ W
        return W

    def field(t, flat):
        Ws = layers(flat)
        G = np.asarray(gradient(chain(Ws, shapes[0][1])))
        slopes = []
        for l, W in enumerate(Ws):
            above, below = chain(Ws[l + 1 :], W.shape[0]), chain(Ws[:l], shapes[0][1])
            slope = -rates[l] * (above.T @ G @ below.T + decays[l] * W)
            slopes.append(slope if masks is None else np.where(masks[l], slope, 0.0))
        return np.concatenate([slope.ravel() for slope in slopes])

    start = np.concatenate([np.asarray(W).ravel() for W in network.weights])
    solution = solve_ivp(field, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-14)
    return np.stack([chain(layers(y), shapes[0][1]) for y in solution.y.T])


@pytest.mark.parametrize("solver", ["auto", "rock4", "rodas4", "dopri8"])
@pytest.mark.parametrize("decays", [0.0, DECAYS], ids=["plain", "decays"])
def test_flows_with_rates(solver, decays):
    objective, network = problem()
    run = gradient_flow(objective, network, TIMES, rates=RATES, weight_decay=decays, solver=solver, rtol=1e-8)
    expected = reference(objective.gradient, network, RATES, np.broadcast_to(decays, 3), TIMES)
    np.testing.assert_allclose(run.end_to_end, expected, rtol=0, atol=2e-7)


def test_rates_with_a_mask_and_in_an_ensemble():
    objective, network = problem()
    mask = Network([np.ones((5, 4), dtype=bool), np.tri(5, dtype=bool), np.ones((3, 5), dtype=bool)])
    masks = [np.asarray(M) for M in mask.weights]
    run = gradient_flow(objective, network, TIMES, rates=RATES, mask=mask, weight_decay=DECAYS, rtol=1e-8)
    expected = reference(objective.gradient, network, RATES, DECAYS, TIMES, masks)
    np.testing.assert_allclose(run.end_to_end, expected, rtol=0, atol=2e-7)
    both = jax.tree.map(lambda W: jnp.stack([W, 0.5 * W]), network)
    together = gradient_flow(objective, both, TIMES, rates=RATES, mask=mask, weight_decay=DECAYS, rtol=1e-8)
    alone = gradient_flow(objective, network, TIMES, rates=RATES, mask=mask, weight_decay=DECAYS, rtol=1e-8)
    np.testing.assert_array_equal(together.member(0).end_to_end, alone.end_to_end)


@pytest.mark.parametrize("solver", ["auto", "rodas4"])
def test_rates_of_any_loss(solver):
    _, network = problem()
    run = gradient_flow(quartic, network, TIMES, rates=RATES, weight_decay=DECAYS, solver=solver, rtol=1e-8)
    expected = reference(jax.grad(quartic), network, RATES, DECAYS, TIMES)
    np.testing.assert_allclose(run.end_to_end, expected, rtol=0, atol=1e-6)
    assert run.objective is quartic


def test_rates_inside_jit_and_with_diffrax():
    import diffrax

    objective, network = problem()
    expected = reference(objective.gradient, network, RATES, [0.0] * 3, TIMES)
    traced = jax.jit(lambda network: gradient_flow(objective, network, TIMES, rates=RATES, rtol=1e-8).end_to_end)
    np.testing.assert_allclose(traced(network), expected, rtol=0, atol=2e-7)
    run = gradient_flow(objective, network, TIMES, rates=RATES, solver=diffrax.Dopri8(), rtol=1e-9)
    np.testing.assert_allclose(run.end_to_end, expected, rtol=0, atol=2e-7)


def test_what_rates_conserve_and_where_it_ends():
    objective, network = problem()
    run = gradient_flow(objective, network, rates=RATES, rtol=1e-9)
    assert run.ending.kind == "global minimum"
    drift = run.map(imbalance_drift(network, RATES))
    assert np.max(drift) < 1e-7


def test_a_wide_network_is_reduced_with_its_rates():
    rng = np.random.default_rng(0)
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], d_x=40, d_y=5)
    network = dl.init.gaussian(0, (40, 60, 5), 0.05)
    times = rng.uniform(0, 5, 4).cumsum()
    run = gradient_flow(objective, network, times, rates=[0.3, 2.0], rtol=1e-8)
    whole = gradient_flow(objective, network, times, rates=[0.3, 2.0], rtol=1e-8, reduce=False)
    assert run.statistics.widths != whole.statistics.widths
    np.testing.assert_allclose(run.end_to_end, whole.end_to_end, rtol=0, atol=1e-6)


def test_balance_that_obstructs_is_that_of_the_rated_network():
    """W_l = sqrt(eta_l) V_l with V 0-balanced and det V of the wrong sign: the flow cannot pass det W = 0."""
    rates = [4.0, 0.25]
    V = [0.5 * np.eye(2), 0.5 * np.diag([1.0, -1.0])]
    network = Network([np.sqrt(rate) * layer for rate, layer in zip(rates, V, strict=True)])
    objective = SquaredError.from_moments([[2.0, 0.3], [0.3, 1.0]])
    assert gradient_flow(objective, network, rates=rates).ending.predicted_loss is not None
    assert gradient_flow(objective, network).ending.predicted_loss is None


@given(st.integers(0, 2**31), st.lists(st.floats(0.05, 20.0), min_size=2, max_size=2))
def test_one_rate_for_all_is_a_faster_clock(seed, pair):
    """gradient_flow(rates=r) at t is gradient_flow at r t; and rates of two weights conserve what they should."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=2)
    objective, network = SquaredError.from_moments([[1.5]]), Network([[[w[0]]], [[w[1]]]])
    slow, fast = (
        gradient_flow(objective, network, [0.7 * pair[0]]),
        gradient_flow(objective, network, [0.7], rates=pair[0]),
    )
    np.testing.assert_allclose(fast.end_to_end, slow.end_to_end, rtol=0, atol=1e-5 * max(1.5, abs(w[0] * w[1])))
    run = gradient_flow(objective, network, [0.7], rates=pair, rtol=1e-9)
    a, b = (float(W[-1, 0, 0]) for W in run.networks.weights)
    conserved = lambda a, b: b**2 / pair[1] - a**2 / pair[0]
    size = (a**2 + w[0] ** 2) / pair[0] + (b**2 + w[1] ** 2) / pair[1]
    assert abs(conserved(a, b) - conserved(*w)) < 1e-7 * size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": [1.0, 2.0]}, "`rates`: got 2 numbers for 3 layers"),
        ({"rates": [1.0, 0.0, 1.0]}, "`rates`: got 0.0 for layer 2"),
        ({"rates": -1.0}, "`rates`: got -1"),
        ({"weight_decay": [0.1, 0.2]}, "`weight_decay`: got 2 numbers for 3 layers"),
        ({"weight_decay": [0.1, -0.2, 0.1]}, "`weight_decay`: got -0.2 for layer 2"),
    ],
)
def test_bad_rates_get_one_line(options, message):
    objective, network = problem()
    for loss in (objective, quartic):
        with pytest.raises(ValueError, match=message) as caught:
            gradient_flow(loss, network, TIMES, **options)
        assert "\n" not in str(caught.value)
