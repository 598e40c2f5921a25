"""Weight decay: fixed points against mpmath and the flow that they rest in, curves against integration."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from brute import flow
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from deeplinear import Network, SquaredError, init
from deeplinear.exact import (
    decay_thresholds,
    decayed_fixed_points,
    decayed_imbalance,
    decayed_mode_strength,
)


def potential(u, s, h, gamma):
    """Loss plus decay of a 0-balanced mode of strength u."""
    return (s - u) ** 2 / 2 + gamma * h / 2 * u ** (mp.mpf(2) / h)


@pytest.mark.parametrize("h", [3, 4, 6, 20])
@pytest.mark.parametrize("share", [1e-12, 1e-3, 0.5, 0.99, 1 - 1e-9])
def test_roots_to_the_last_digits(h, share):
    s = 1.7
    gamma = share * decay_thresholds(s, h).exists
    points = decayed_fixed_points(s, h, gamma)
    assert points.stable.tolist() == [True, False, True] and points.strengths[0] == 0
    with mp.workdps(50):
        equation = lambda u: mp.log(u) * (h - 2) / h + mp.log(mp.mpf(s) - u) - mp.log(mp.mpf(gamma))
        for u in points.strengths[1:]:
            slope = mp.diff(equation, mp.mpf(float(u)))
            off = abs(equation(mp.mpf(float(u))) / slope / u)
            # a rounding of gamma moves a root by 1 / slope
            assert off < 2e-15 * (1 + h + 1 / abs(slope * u)), (u, off)
        rates = [
            mp.diff(lambda z: z ** (h - 1) * (s - z**h) - gamma * z, mp.mpf(float(u)) ** (mp.mpf(1) / h))
            for u in points.strengths[1:]
        ]
    assert rates[0] > 0 > rates[1]


def test_published_thresholds():
    # s = 1.7: where the nonzero minimum disappears, and where it stops being global
    for h, exists, optimal in ((3, 0.9586, 0.8052), (4, 0.8531, 0.6032), (6, 0.7888, 0.4173)):
        found = decay_thresholds(1.7, h)
        np.testing.assert_allclose(found[:2], [exists, optimal], atol=1e-4)
    assert decay_thresholds(1.7, 2)[:2] == (1.7, 1.7)


@pytest.mark.parametrize("h", [3, 4, 7])
def test_thresholds_are_what_they_say(h):
    s = 0.8
    found = decay_thresholds(s, h)
    with mp.workdps(30):
        best = lambda gamma: mp.mpf(float(decayed_fixed_points(s, h, gamma).strengths[-1]))
        for sign in (-1, 1):
            gamma = found.optimal * (1 + sign * 1e-6)
            assert mp.sign(potential(best(gamma), s, h, gamma) - potential(mp.mpf(0), s, h, gamma)) == sign
    assert float(best(found.optimal)) == pytest.approx(found.strength, rel=1e-13)
    assert len(decayed_fixed_points(s, h, found.exists * (1 + 1e-12)).strengths) == 1
    assert len(decayed_fixed_points(s, h, found.exists * (1 - 1e-12)).strengths) == 3
    double = decayed_fixed_points(s, h, found.exists)
    assert double.strengths.tolist() == pytest.approx([0.0, s * (h - 2) / (2 * h - 2)], rel=1e-7)
    assert double.stable.tolist() == [True, False]


@settings(deadline=None)
@given(h=st.integers(3, 12), s=st.floats(0.1, 5.0), share=st.floats(0.01, 0.95))
def test_the_flow_goes_where_the_fixed_points_say(h, s, share):
    gamma = share * decay_thresholds(s, h).exists
    _, barrier, rest = decayed_fixed_points(s, h, gamma).strengths ** (1 / h)
    field = lambda t, z: z ** (h - 1) * (s - z**h) - gamma * z
    assert field(0, barrier * 0.99) < 0 < field(0, barrier + 0.01 * (rest - barrier))
    assert field(0, rest * 1.01) < 0 < field(0, rest - 0.01 * (rest - barrier))
    scale = gamma * rest
    assert abs(field(0, rest)) < 1e-13 * scale * h**2 / (1 - share) and abs(field(0, barrier)) < 1e-13 * scale * h**2


def test_shallow_and_special_cases():
    assert decayed_fixed_points(2.0, 1, 0.5).strengths.tolist() == [2 / 1.5]
    points = decayed_fixed_points(2.0, 2, 0.5)
    assert points.strengths.tolist() == [0.0, 1.5] and points.stable.tolist() == [False, True]
    assert decayed_fixed_points(0.4, 2, 0.5).stable.tolist() == [True]
    for h in (3, 5):
        assert decayed_fixed_points(-1.0, h, 0.5).strengths.tolist() == [0.0]
        free = decayed_fixed_points(1.0, h, 0.0)
        assert free.strengths.tolist() == [0.0, 1.0] and free.stable.tolist() == [False, True]
    for bad in ((1.0, 3, -0.1), (np.nan, 3, 0.1), (1.0, 0, 0.1)):
        with pytest.raises(ValueError, match=r"`(gamma|s|depth)`: got "):
            decayed_fixed_points(*bad)
    with pytest.raises(ValueError, match="`depth`"):
        decay_thresholds(1.0, 1)
    with pytest.raises(ValueError, match="`s`"):
        decay_thresholds(-1.0, 3)


def test_a_balanced_network_stops_at_the_fixed_point():
    # the critical point of loss plus decay of a whole network, by its gradient
    s, gamma = np.array([2.0, 1.2]), 0.3
    objective = SquaredError.from_singular_values(s, 3, 2)
    u = [decayed_fixed_points(float(k), 3, gamma).strengths[-1] for k in s]
    network = init.decoupled(0, objective, (3, 4, 2, 2), u)
    penalised = lambda net: objective(net.end_to_end) + gamma / 2 * sum(jnp.sum(W**2) for W in net.weights)
    slopes = jax.grad(penalised)(network).weights
    assert max(float(jnp.abs(G).max()) for G in slopes) < 2e-15


def test_decayed_curves_at_depth_two():
    s, gamma, u0 = np.array([2.0, 0.5, -1.0]), 0.7, np.array([1e-3, 0.4, 2.0])
    ts = np.linspace(0, 12, 13)
    got = decayed_mode_strength(ts, u0, s, gamma, 0.8)
    with mp.workdps(40):
        for a in range(3):
            for i, t in enumerate(ts):
                r, c, start = mp.mpf(s[a]) - mp.mpf(gamma), mp.mpf(0.8), mp.mpf(u0[a])
                growth = mp.exp(2 * r * mp.mpf(t))
                truth = start * growth / (1 + c * start * (growth - 1) / r)
                assert abs(got[i, a] / truth - 1) < 1e-14
    z = solve_ivp(
        lambda t, z: z * (s - 0.8 * z**2) - gamma * z, (0, 12), np.sqrt(u0), "DOP853", ts, rtol=1e-12, atol=1e-15
    ).y
    np.testing.assert_allclose(got, (z**2).T, rtol=1e-9, atol=1e-14)
    with pytest.raises(ValueError, match="`gamma`"):
        decayed_mode_strength(1.0, 0.1, 1.0, -0.1)


@pytest.mark.parametrize("widths", [(3, 4, 2), (2, 3, 4, 3)])
def test_imbalance_decays(widths):
    rng = np.random.default_rng(0)
    network = Network([rng.standard_normal((b, a)) for a, b in pairwise(widths)])
    objective = SquaredError.from_moments(
        rng.standard_normal((widths[-1], widths[0])), np.diag(rng.uniform(0.5, 2, widths[0]))
    )
    ts, gamma = [0.0, 0.4, 2.0], 0.35
    predicted = decayed_imbalance(network, ts, gamma)
    worst = 0.0
    for i, layers in enumerate(flow(objective, network, ts, decay=gamma)):
        for l, C in enumerate(predicted):
            actual = layers[l + 1].T @ layers[l + 1] - layers[l] @ layers[l].T
            worst = max(worst, float(np.abs(actual - np.asarray(C[i])).max()))
    print(f"imbalance under decay {widths}: {worst:.1e}")
    assert worst < 1e-13
    with pytest.raises(ValueError, match=">= 0"):
        decayed_imbalance(network, [-1.0], gamma)
    with pytest.raises(ValueError, match="`weight_decay`"):
        decayed_imbalance(network, [1.0], -gamma)
