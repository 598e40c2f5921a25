"""The landscape under weight decay against dense Hessians, minimisation by scipy, and flows with decay."""

from itertools import combinations, pairwise

import brute
import hessians
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import deeplinear as dl
from deeplinear import Network, SquaredError, diagnostics, gradient_flow
from deeplinear.exact import decay_thresholds, decayed_imbalance
from deeplinear.landscape import decayed_minima, decayed_modes, decayed_point

SIGMA = (1.7, 1.2, 0.8)
COLOURED = SquaredError.from_moments(np.eye(2), np.diag([1.0, 2.0]))


def in_numpy(objective, gamma):
    """Loss and decay of a list of matrices, and minus its gradient, for white inputs."""
    factor, minimum = float(objective.factor), float(objective.minimum)
    best, one = np.asarray(objective.optimum), np.eye(objective.optimum.shape[1])

    def value(layers):
        off = brute.product(layers) - best
        return minimum + factor / 2 * np.sum(off**2) + gamma / 2 * sum(np.sum(W**2) for W in layers)

    return value, lambda layers: brute.slopes(layers, factor * best, factor * one, gamma)


def layers_of(network):
    return [np.asarray(W) for W in network.weights]


def every_point(objective, widths, gamma):
    """All critical points up to symmetry."""
    modes = decayed_modes(objective, len(widths) - 1, gamma)
    has = lambda roots: [k for k in range(1, len(modes.s) + 1) if np.isfinite(roots[k - 1])]
    for size in range(min(widths) + 1):
        for signature in combinations(has(modes.stable), size):
            low = [k for k in signature if k in has(modes.unstable)]
            for count in range(len(low) + 1):
                for unstable in combinations(low, count):
                    yield decayed_point(objective, widths, gamma, signature, unstable)


def orbit_dimension(widths, k):
    """Of the networks that rotations of the hidden layers make of one with k learned modes of different strengths."""
    pairs = lambda d: d * (d - 1) // 2
    return sum(pairs(d) - pairs(d - k) for d in widths[1:-1])


@pytest.mark.parametrize("widths", [(3, 4, 3), (4, 2, 3), (3, 4, 4, 3), (3, 3, 2, 4), (3, 3, 4, 3, 3)])
@pytest.mark.parametrize("gamma", [0.05, 0.3, 0.55, 0.75])
def test_every_critical_point_and_its_kind_against_dense_hessians(widths, gamma):
    objective, found = SquaredError.from_singular_values(SIGMA, widths[0], widths[-1]), []
    value, slopes = in_numpy(objective, gamma)
    for point in every_point(objective, widths, gamma):
        network = point.network(3)
        assert max(np.abs(G).max() for G in slopes(layers_of(network))) < 1e-14
        assert value(layers_of(network)) == pytest.approx(point.value, rel=1e-13)
        eigenvalues = np.linalg.eigvalsh(hessians.of(objective, network, gamma))
        if point.kind == "strict saddle":
            assert eigenvalues[0] < -1e-3
        else:
            zeros = orbit_dimension(widths, len(point.signature))
            assert np.abs(eigenvalues[:zeros]).max(initial=0.0) < 1e-12
            assert eigenvalues[zeros] > 1e-3  # a minimum but for the rotations
            found.append(point)
    minima = decayed_minima(objective, widths, gamma)
    assert [point.signature for point in found] == [point.signature for point in minima]
    values = [point.value for point in minima]
    assert [point.kind == "global minimum" for point in minima] == [value == min(values) for value in values]


@pytest.mark.parametrize("widths", [(3, 4, 3), (3, 4, 3, 3), (3, 3, 3, 3, 3)])
def test_minimisation_from_anywhere_ends_in_one_of_the_minima(widths):
    objective, gamma = SquaredError.from_singular_values(SIGMA, 3, 3), 0.35
    cuts = np.cumsum([a * b for a, b in pairwise(widths)])[:-1]
    shapes = [(b, a) for a, b in pairwise(widths)]
    split = lambda x: [part.reshape(shape) for part, shape in zip(np.split(x, cuts), shapes, strict=True)]
    value, slopes = in_numpy(objective, gamma)
    slope = lambda x: -np.concatenate([G.ravel() for G in slopes(split(x))])
    listed = np.array([point.value for point in decayed_minima(objective, widths, gamma)])
    rng, reached = np.random.default_rng(0), set()
    for size in np.linspace(0.2, 1.5, 16):
        start = size * rng.standard_normal(sum(a * b for a, b in shapes))
        end = minimize(
            lambda x: value(split(x)), start, jac=slope, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-10}
        ).fun
        assert np.abs(listed - end).min() < 1e-9
        reached.add(int(np.argmin(np.abs(listed - end))))
    assert len(reached) >= min(2, len(listed))
    assert int(np.argmin(listed)) in reached


@given(
    s=st.lists(st.floats(0.05, 4.0), min_size=1, max_size=4),
    hidden=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    more=st.integers(0, 2),
    share=st.floats(0.01, 1.2),
    scale=st.sampled_from([dl.HALF_MEAN, dl.MEAN]),
)
def test_the_global_minimum_is_the_best_choice_of_every_mode(s, hidden, more, share, scale):
    d = len(s)
    objective, widths = SquaredError.from_singular_values(s, d + more, d, scale), (d + more, *hidden, d)
    h = len(widths) - 1
    gamma = share * decay_thresholds(max(s), h).exists * float(objective.factor)
    minima = decayed_minima(objective, widths, gamma)
    best = min(minima, key=lambda point: point.value)
    # truth: modes are independent; every one on a fine grid of strengths, the best gains of as many as fit
    gains = []
    for x in s:
        u = np.linspace(0, x, 20001)
        gains.append(np.min(float(objective.factor) * ((x - u) ** 2 - x**2) / 2 + gamma * h / 2 * u ** (2 / h)))
    none = float(objective.factor) / 2 * float(np.sum(np.square(s)))
    truth = none + sum(sorted(gains)[: min(widths)])
    assert best.value == pytest.approx(truth, abs=1e-6 * none)
    assert best.kind == "global minimum"
    for point in minima:
        layers = layers_of(point.network(0))
        size = max(1.0, *(np.abs(W).max() for W in layers)) ** (2 * h)
        assert max(np.abs(G).max() for G in in_numpy(objective, gamma)[1](layers)) < 1e-13 * size


def test_published_thresholds_in_every_scale():
    # s = 1.7: where the nonzero minimum disappears, and where it stops being global
    for scale in (dl.HALF_MEAN, dl.MEAN):
        objective = SquaredError.from_singular_values([1.7], 2, 2, scale)
        for h, exists, optimal in ((2, 1.7, 1.7), (3, 0.9586, 0.8052), (4, 0.8531, 0.6032), (6, 0.7888, 0.4173)):
            modes, factor = decayed_modes(objective, h, 0.1), float(objective.factor)
            np.testing.assert_allclose(modes.exists / factor, [exists, 0.0], atol=1e-4)
            np.testing.assert_allclose(modes.optimal / factor, [optimal, 0.0], atol=1e-4)


def test_flows_with_decay_balance_and_end_in_the_minima():
    widths, gamma, ts = (3, 4, 4, 3), 0.3, np.linspace(0.0, 60.0, 13)
    objective = SquaredError.from_singular_values(SIGMA, 3, 3)
    listed, ends = [point.value for point in decayed_minima(objective, widths, gamma)], set()
    for seed, size in ((0, 0.05), (1, 0.5), (2, 1.0)):
        rng = np.random.default_rng(seed)
        start = Network([size * rng.standard_normal((b, a)) for a, b in pairwise(widths)])
        trajectory = gradient_flow(objective, start, ts, weight_decay=gamma, rtol=1e-10)
        exact = decayed_imbalance(start, ts, gamma)
        for C, known in zip(trajectory.map(diagnostics.imbalance), exact, strict=True):
            assert np.abs(np.asarray(C) - np.asarray(known)).max() < 1e-8 * np.abs(np.asarray(known)).max()
        off = np.abs(np.array(listed) - in_numpy(objective, gamma)[0](layers_of(trajectory[-1])))
        assert off.min() < 1e-8
        ends.add(int(np.argmin(off)))
    assert len(ends) > 1  # the small start dies out, the large one learns


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda o: decayed_minima(COLOURED, (2, 2, 2), 0.1), "`objective`"),
        (lambda o: decayed_minima(o, (3, 3), 0.1), "`depth`"),
        (lambda o: decayed_minima(o, (3, 2, 4), 0.1), "`widths`"),
        (lambda o: decayed_modes(o, 3, 0.0), "`weight_decay`"),
        (lambda o: decayed_modes(o, 3, np.nan), "`weight_decay`"),
        (lambda o: decayed_point(o, (3, 3, 3), 0.1, [4]), "`signature`"),
        (lambda o: decayed_point(o, (3, 1, 3), 0.1, [1, 2]), "`signature`"),
        (lambda o: decayed_point(o, (3, 3, 3), 0.1, [1], unstable=[1]), "`signature`: mode 1 has no such root"),
        (lambda o: decayed_point(o, (3, 3, 3, 3), 0.9, [2]), "`signature`: mode 2 has no such root"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(SquaredError.from_singular_values(SIGMA, 3, 3))
