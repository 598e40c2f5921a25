"""Starts at the ends of float64: a single layer from zero, tiny weights, deep networks whose clock runs out."""

import jax
import mpmath as mp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow

SIGMA = np.array([[2.0, 0.3]])
TIMES = np.array([0.5, 3.0])


def function(W):
    """The same loss as a plain function of JAX."""
    return 0.5 * ((W - SIGMA) ** 2).sum()


@pytest.mark.parametrize("objective", [SquaredError.from_moments(SIGMA), function], ids=["squared", "function"])
@pytest.mark.parametrize("start", [0.0, 1e-300, -1e-200, 1e-12])
@pytest.mark.parametrize("rtol", [1e-6, 1e-10])
def test_one_layer_starts_from_nothing(objective, start, rtol):
    run = gradient_flow(objective, Network([np.full((1, 2), start)]), TIMES, rtol=rtol)
    expected = (start - SIGMA) * np.exp(-TIMES)[:, None] + SIGMA
    np.testing.assert_allclose(run.end_to_end[:, 0], expected, rtol=rtol)
    assert run.statistics.steps < 200


def test_one_layer_from_zero_with_a_mask_a_bias_and_decay():
    objective, zero = SquaredError.from_moments(SIGMA), Network([np.zeros((1, 2))])
    masked = gradient_flow(objective, zero, TIMES, mask=Network([np.array([[True, False]])]))
    np.testing.assert_allclose(masked.end_to_end[:, 0, 0], -2 * np.expm1(-TIMES), rtol=1e-6)
    assert not np.any(masked.end_to_end[:, 0, 1])
    decayed = gradient_flow(objective, zero, TIMES, weight_decay=0.5)
    np.testing.assert_allclose(decayed.end_to_end[:, 0], -np.expm1(-1.5 * TIMES)[:, None] * SIGMA / 1.5, rtol=1e-6)
    network, mask = zero.with_biases()
    biased = gradient_flow(SquaredError.from_moments([[1.0, 2.0, 0.3]]), network, TIMES, mask=mask)
    np.testing.assert_allclose(biased.end_to_end[:, 0], -np.expm1(-TIMES)[:, None] * [1.0, 2.0, 0.3], rtol=1e-6)
    ended = gradient_flow(objective, zero)
    assert ended.ending.kind == "global minimum" and ended.statistics.steps < 2000


def test_members_start_from_nothing_too():
    several = jax.tree.map(lambda W: np.stack([0 * W, 0 * W + 1e-300]), Network([np.ones((1, 2))]))
    run = gradient_flow(SquaredError.from_moments(SIGMA), several, TIMES)
    np.testing.assert_allclose(run.end_to_end[:, :, 0], np.stack([-np.expm1(-TIMES)[:, None] * SIGMA] * 2), rtol=1e-6)


@pytest.mark.parametrize("strength", [1e-300, 1e-250, 1e-150])
def test_a_tiny_start_learns_its_first_mode_when_theory_says(strength):
    """ln(s / u0 - 1) / (2 s): 521.86 for the first mode of the semantic data from 1e-300."""
    objective = SquaredError.of(dl.tasks.semantic())
    network = dl.init.decoupled(0, objective, (4, 16, 7), strength)
    s = float(objective.modes.s[0])
    expected = float(mp.log(mp.mpf(s) / mp.mpf(strength) - 1) / (2 * mp.mpf(s)))
    assert expected == pytest.approx(521.86, abs=0.01) or strength > 1e-300
    assert dl.learning_times(objective, network).half_times[0] == pytest.approx(expected, rel=1e-12)
    assert dl.reduction.reachable_rank(objective, network) == 4
    run = gradient_flow(objective, network, [0.0, expected])
    u = float(objective.modes.U[:, 0] @ run.end_to_end[-1] @ objective.modes.V[:, 0])
    assert u == pytest.approx(s / 2, rel=1e-3)  # 690 times the growth by e, each to rtol


def test_a_weight_below_every_square_grows():
    """W_2 W_1 = 0 x 1e-300, s = 2: product sinh(4 t) 1e-600 / 2 until it saturates."""
    run = gradient_flow(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[1e-300]]]), [0.0, 340.0, 350.0, 400.0])
    with mp.workdps(700):
        a, t = mp.mpf("1e-300"), mp.mpf(340)
        early = a**2 * mp.sinh(4 * t) / 2
    assert early < 1e-3
    assert float(run.end_to_end[1, 0, 0]) == pytest.approx(float(early), rel=1e-2)
    assert float(run.end_to_end[-1, 0, 0]) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("depth", [7, 8, 10])
def test_a_clock_that_runs_out_says_so(depth):
    objective = SquaredError.from_singular_values([2.0, 1.0, 0.5], 3, 3)
    network = dl.init.gaussian(0, (3,) * (depth + 1), 1e-3)
    run = gradient_flow(objective, network)
    assert run.ending.kind == "stalled"
    assert "apart in float64" in run.ending.message and "beyond float64" not in run.ending.message
    predicted = dl.learning_times(objective, network).half_times[0]
    assert float(run.ts[-1]) == pytest.approx(predicted, rel=1e-4)
    on = gradient_flow(objective, run[-1])  # time counts from there
    assert on.ending.signature == (1,) and on.ending.kind != "stalled"


def test_half_times_of_deep_small_starts_are_known():
    objective = SquaredError.from_singular_values([2.0, 1.0, 0.5], 3, 3)
    network = dl.init.gaussian(0, (3,) * 7, 1e-3)
    predicted = dl.learning_times(objective, network).half_times[0]
    assert predicted == pytest.approx(2.3828e10, rel=1e-4)


@pytest.mark.parametrize("u0", [1e-280, 1e-295, 1e-307])
def test_half_times_of_deep_modes_from_nearly_nothing(u0):
    """u' = h u^(2 - 2/h) (s - u) from u0 to s / 2 at depth 3, by quadrature in 60 digits."""
    with mp.workdps(60):
        f = lambda x: 1 / (3 * mp.exp(x / 3) * (mp.mpf("0.7") - mp.exp(x)))
        low, high = mp.log(mp.mpf(u0)), mp.log(mp.mpf("0.35"))
        expected = mp.quad(f, [low, low + 5, low + 20, low + 60, low + 200, high])
    assert float(dl.exact.half_time(u0, 0.7, 3)) == pytest.approx(float(expected), rel=1e-9)
