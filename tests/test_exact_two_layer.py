"""The exact two-layer flow against mpmath, scipy's integrator, and the symmetries of the flow."""

import time

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mp_flow import as_array, balanced_start, haar, riccati
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear.exact import NotExact, elimination, two_layer
from deeplinear.exact import riccati as exact_riccati

WIDTHS = [(3, 3, 3), (3, 2, 4), (4, 2, 3), (3, 6, 2), (5, 1, 3)]
LAMBDAS = [0.0, 1e-12, -1e-12, 1.0, -1.0, 1e3, -1e3]


def feasible(widths, lam):
    d_x, d_1, d_y = widths
    return lam == 0 or d_1 <= (d_y if lam > 0 else d_x)


def target(rng, widths, kind="generic"):
    S = rng.standard_normal((widths[-1], widths[0]))
    if kind == "generic":
        return S
    if kind == "zero":
        return 0 * S
    U, s, Vt = np.linalg.svd(S, full_matrices=False)
    s = np.array([1.5, 1.5, 0.5, 0.5])[: len(s)] if kind == "repeated" else np.where(np.arange(len(s)) == 1, 0.0, s)
    return (U * s[None, :]) @ Vt


def errors(state, W1, W2, S, lam, **more):
    """Worst relative errors of Q Q^T and of its block W against mpmath."""
    d_x, worst = W1.shape[1], [0.0, 0.0]
    for t, X in zip(np.asarray(state.ts), np.asarray(state.qqt), strict=True):
        truth = as_array(riccati(W1, W2, S, float(lam), float(t), **more))
        for part, cut in enumerate((np.s_[:, :], np.s_[d_x:, :d_x])):
            error = np.linalg.norm((X - truth)[cut]) / max(np.linalg.norm(truth[cut]), 1e-300)
            worst[part] = max(worst[part], error)
    return worst


@pytest.mark.parametrize("widths", WIDTHS)
def test_against_many_digits(widths):
    rng, worst = np.random.default_rng(sum(widths)), np.zeros(2)
    for lam in filter(lambda lam: feasible(widths, lam), LAMBDAS):
        kind = ["generic", "repeated", "singular"][rng.integers(3)]
        W1, W2 = balanced_start(rng, widths, lam, 10 ** rng.uniform(-8, 1))
        S = target(rng, widths, kind)
        solution = two_layer(SquaredError.from_moments(S), Network([W1, W2]))
        ts = np.array([0.0, 0.3, 10.0]) / max(1.0, abs(lam) / 20)
        state = solution(ts)
        if state.warning is None:
            worst = np.maximum(worst, errors(state, W1, W2, S, solution.lam))
    print(f"{widths}: Q Q^T {worst[0]:.1e}, W {worst[1]:.1e}")
    assert (worst > 0).all() and worst.max() <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 5, 10, 20])
def test_grid_of_lambda(size):
    rng, worst = np.random.default_rng(size), np.zeros(2)
    half = max(size // 2, 1)
    for widths in [(size, size, size), (size, half, size), (size, half, size - 1), (size - 1, half, size)]:
        for lam in [0.0, 1e-8, *np.logspace(-2, 2, 20)]:
            W1, W2 = balanced_start(rng, widths, lam, 0.1)
            S = target(rng, widths) / np.sqrt(size)
            solution = two_layer(SquaredError.from_moments(S), Network([W1, W2]))
            ts = np.array([0.5, 5.0]) if size < 20 else rng.choice([0.5, 1.5, 5.0], 1)  # mpmath takes seconds for each
            state = solution(ts / max(1.0, lam / 4))
            assert state.warning is None
            worst = np.maximum(worst, errors(state, W1, W2, S, solution.lam, digits=25))
    print(f"size {size}: Q Q^T {worst[0]:.1e}, W {worst[1]:.1e}")
    assert worst.max() <= 1e-12


@pytest.mark.alone
@pytest.mark.parametrize(("widths", "lam"), [((2, 2, 3), 0.7), ((3, 2, 2), -0.4), ((2, 3, 2), 0.0)])
def test_what_is_at_rest_stays_to_the_last_digits(widths, lam):
    # optimised code fuses products and differences: those of large exponents must not round with t
    rng = np.random.default_rng(8)
    W1, W2 = balanced_start(rng, widths, lam, 1e-3)
    solution = two_layer(SquaredError.from_moments(target(rng, widths)), Network([W1, W2]))
    at_rest, later = np.asarray(solution([1e4, 1e6]).qqt)
    np.testing.assert_allclose(later, at_rest, rtol=0, atol=2e-15 * np.abs(at_rest).max())


@pytest.mark.slow
def test_late_times():
    rng = np.random.default_rng(8)
    for widths, lam in [((2, 2, 3), 0.7), ((3, 2, 2), 0.0), ((2, 3, 2), 0.0)]:
        W1, W2 = balanced_start(rng, widths, lam, 1e-3)
        S = target(rng, widths)
        solution = two_layer(SquaredError.from_moments(S), Network([W1, W2]))
        assert max(errors(solution([100.0, 1e4]), W1, W2, S, solution.lam)) <= 5e-15


def simulated(W1, W2, S, c, ts, decay=0.0, xx=None):
    """Weights at ts by scipy, (time, n, d_1) as [W1^T; W2]."""
    d_1, d_x = W1.shape
    xx = c * np.eye(d_x) if xx is None else xx

    def slope(_, w):
        A, B = w[: d_1 * d_x].reshape(d_1, d_x), w[d_1 * d_x :].reshape(-1, d_1)
        residual = S - B @ A @ xx
        return np.concatenate([(B.T @ residual - decay * A).ravel(), (residual @ A.T - decay * B).ravel()])

    start = np.concatenate([W1.ravel(), W2.ravel()])
    path = solve_ivp(slope, (0, ts[-1]), start, "DOP853", t_eval=ts, rtol=2.3e-14, atol=1e-15).y.T
    return np.stack(
        [np.concatenate([w[: d_1 * d_x].reshape(d_1, d_x).T, w[d_1 * d_x :].reshape(-1, d_1)]) for w in path]
    )


def stacked(networks):
    W1, W2 = networks.weights
    return np.concatenate([np.swapaxes(W1, -1, -2), W2], axis=-2)


@pytest.mark.parametrize("widths, lam", [((3, 3, 3), 0.0), ((3, 2, 4), 1.0), ((4, 2, 3), -0.5), ((2, 7, 3), 0.0)])
def test_weights_against_an_integrator(widths, lam):
    rng = np.random.default_rng(5)
    W1, W2 = balanced_start(rng, widths, lam, 0.3)
    S, c, ts = target(rng, widths), 0.7, np.array([0.0, 0.2, 1.0, 5.0, 20.0, 60.0])
    objective = SquaredError.from_moments(S, c * np.eye(widths[0]))
    networks = two_layer(objective, Network([W1, W2])).weights(ts)
    error = np.abs(stacked(networks) - simulated(W1, W2, S, c, ts)).max()
    print(f"weights {widths}: {error:.1e}")
    assert error <= 1e-10  # the integrator's own
    state = two_layer(objective, Network([W1, W2]))(ts)
    np.testing.assert_allclose(networks.weights[1] @ networks.weights[0], state.end_to_end, atol=2e-12)


@pytest.mark.parametrize("widths", [(4, 1, 3), (1, 1, 1), (1, 5, 1), (1, 2, 1)])
@pytest.mark.parametrize("sign", [1.0, 0.0, -1.0])
def test_without_balance(widths, sign):
    rng = np.random.default_rng(widths[1])
    W1, W2 = 0.4 * rng.standard_normal(widths[1::-1]), 0.4 * rng.standard_normal(widths[:0:-1])
    S, c, ts = sign * target(rng, widths), 1.3, np.array([0.0, 1e-3, 0.4, 2.0, 9.0])
    objective = SquaredError.from_moments(S, c * np.eye(widths[0]))
    solution, truth = two_layer(objective, Network([W1, W2])), simulated(W1, W2, S, c, ts)
    np.testing.assert_allclose(stacked(solution.weights(ts)), truth, atol=3e-13)
    np.testing.assert_allclose(solution(ts).qqt, truth @ np.swapaxes(truth, 1, 2), atol=1e-12)
    if sign:
        np.testing.assert_allclose(solution(1e6).qqt, solution.limit().qqt, atol=1e-13)


def test_scalar_stable_manifold_and_rest():
    one = SquaredError.from_moments([[1.0]])
    solution = two_layer(one, Network([[[0.5]], [[-0.5]]]))  # p = 0: into the saddle at 0
    assert float(jnp.abs(solution(1e6).qqt).max()) == 0 and float(jnp.abs(solution.limit().qqt).max()) == 0
    zero = two_layer(SquaredError.from_moments([[0.0]]), Network([[[0.5]], [[0.5]]]))
    assert float(zero(10.0).end_to_end[0, 0]) == pytest.approx(0.25 / (1 + 2 * 0.25 * 10), rel=1e-15)


@given(st.integers(0, 10**6), st.sampled_from([((3, 3, 3), 0.0), ((3, 2, 4), 1.0)]), st.floats(-6, 1))
def test_symmetries(seed, case, exponent):
    widths, lam = case
    rng = np.random.default_rng(seed)
    W1, W2 = balanced_start(rng, widths, lam, 10**exponent)
    S = target(rng, widths)
    solution = two_layer(SquaredError.from_moments(S), Network([W1, W2]))
    ts = np.array([0.7, 0.0, 1.9, 1e6])
    state = solution(ts)
    X = np.asarray(state.qqt)
    assert np.isfinite(X).all()
    np.testing.assert_array_equal(np.asarray(state.factor[1]), np.concatenate([W1.T, W2]))  # the start itself
    assert (np.linalg.eigvalsh(X) >= -1e-14 * np.linalg.norm(X, axis=(1, 2))[:, None]).all()
    # duality: transposing everything turns lambda round
    dual = two_layer(SquaredError.from_moments(S.T), Network([W2.T, W1.T]))
    assert float(dual.lam) == pytest.approx(-float(solution.lam), abs=1e-14)
    flipped = np.asarray(dual(ts[:3]).end_to_end).swapaxes(1, 2)
    scale = np.linalg.norm(X[:3], axis=(1, 2)).max()
    np.testing.assert_allclose(flipped, state.end_to_end[:3], atol=1e-13 * scale, rtol=0)
    # the flow from where it stands at 0.7
    here = solution.weights(0.7)
    onwards = two_layer(SquaredError.from_moments(S), here)(1.2).qqt
    np.testing.assert_allclose(onwards, X[2], atol=1e-11 * np.linalg.norm(X[2]), rtol=0)


@pytest.mark.parametrize("widths, lam", [((3, 3, 4), 0.6), ((4, 2, 3), 0.0), ((2, 4, 5), 1.0), ((3, 5, 2), 0.0)])
def test_limit(widths, lam):
    rng = np.random.default_rng(1)
    W1, W2 = balanced_start(rng, widths, lam, 0.1)
    objective = SquaredError.from_moments(target(rng, widths))
    solution = two_layer(objective, Network([W1, W2]))
    limit = solution.limit()
    best = objective.optimum_at_rank(min(widths))
    np.testing.assert_allclose(limit.end_to_end, best, atol=1e-13)
    np.testing.assert_allclose(solution(1e6).qqt, limit.qqt, atol=1e-12)
    trace = float(jnp.trace(limit.gram_out) - jnp.trace(limit.gram_in))
    assert trace == pytest.approx(lam * widths[1], abs=1e-12)


def test_stable_manifold_is_warned_of():
    objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    W1 = np.diag([0.1, 0.1])
    obstructed = two_layer(objective, Network([W1, np.diag([0.1, -0.1])]))
    assert obstructed([0.0, 5.0]).warning is None
    state = obstructed([0.0, 100.0])
    assert "stable manifold" in state.warning and "t = 36.04" in state.warning
    np.testing.assert_allclose(obstructed.limit().end_to_end, np.diag([2.0, 0.0]), atol=1e-15)
    rng = np.random.default_rng(0)  # the same, not aligned: det W < 0
    R, U, V = (haar(rng, 2, 2) for _ in range(3))
    V[:, 1] *= -np.sign(np.linalg.det(U) * np.linalg.det(V))
    turned = two_layer(objective, Network([0.1 * R @ V.T, 0.1 * U @ R.T]))
    assert turned([100.0]).warning and turned([10.0]).warning is None
    assert two_layer(objective, Network([W1, W1]))([1e6]).warning is None
    assert two_layer(objective, Network([[[0.1, 0.2]], [[0.2], [0.1]]]))([1e6]).warning is None  # a bottleneck is none


def test_scales_rescale_time():
    rng = np.random.default_rng(2)
    W1, W2 = balanced_start(rng, (3, 2, 4), 1.0, 0.3)
    S, network = target(rng, (3, 2, 4)), Network([W1, W2])
    once = two_layer(SquaredError.from_moments(S), network)(2.0).qqt
    total = two_layer(SquaredError.from_moments(S, scale=dl.SUM, count=5), network)
    np.testing.assert_allclose(total(0.2).qqt, once, rtol=1e-12)
    np.testing.assert_allclose(total.weights(0.2).end_to_end, total(0.2).end_to_end, atol=1e-13)


@pytest.mark.parametrize("decay", [0.2, 5.0])
def test_weight_decay(decay):
    rng = np.random.default_rng(3)
    W1, W2 = balanced_start(rng, (3, 2, 4), 0.0, 0.3)
    S, ts = target(rng, (3, 2, 4)), np.array([0.0, 0.3, 2.0, 8.0])
    solution = two_layer(SquaredError.from_moments(S, scale=dl.MEAN), Network([W1, W2]), weight_decay=2 * decay)
    exact = [as_array(riccati(W1, W2, S, 0.0, t, decay=decay)) for t in ts]
    np.testing.assert_allclose(solution(ts / 2).qqt, exact, atol=1e-14)
    truth = simulated(W1, W2, S, 1.0, ts, decay)
    np.testing.assert_allclose(stacked(solution.weights(ts / 2)), truth, atol=1e-12)
    np.testing.assert_allclose(solution(ts / 2).qqt, truth @ truth.swapaxes(1, 2), atol=1e-12)


def test_projector_of_inputs():
    rng = np.random.default_rng(4)
    frame = haar(rng, 4, 2)
    W1, W2 = balanced_start(rng, (2, 2, 3), 0.5, 0.3)
    W1, xx = W1 @ frame.T, 0.6 * frame @ frame.T
    S, ts = target(rng, (2, 2, 3)) @ frame.T, np.array([0.0, 0.5, 3.0, 15.0])
    solution = two_layer(SquaredError.from_moments(S, xx), Network([W1, W2]))
    truth = simulated(W1, W2, S, None, ts, xx=xx)
    np.testing.assert_allclose(solution(ts).qqt, truth @ truth.swapaxes(1, 2), atol=1e-11)
    with pytest.raises(NotExact, match="without variance"):
        two_layer(SquaredError.from_moments(S, xx), Network([W1 + 0.1 * (np.eye(2, 4)), W2]))


def test_every_failed_assumption_is_named():
    rng = np.random.default_rng(6)
    network = Network([rng.standard_normal((3, 3)), rng.standard_normal((3, 3))])
    objective = SquaredError.from_moments(np.eye(3), np.diag([3.0, 2.0, 1.0]))
    with pytest.raises(NotExact, match=r"sigma_xx.*lambda-balanced.*gradient_flow") as caught:
        two_layer(objective, network)
    assert len(caught.value.checks) == 2 and all(check.violation > 0.05 for check in caught.value.checks)
    with pytest.raises(NotExact, match="two layers"):
        two_layer(SquaredError.from_moments(np.eye(3)), Network([np.eye(3)] * 3))
    with pytest.raises(NotExact, match="weights decay"):
        two_layer(SquaredError.from_moments([[1.0]]), Network([[[1.0]], [[0.5]]]), weight_decay=0.1)
    with pytest.raises(ValueError, match="`network`: maps"):
        two_layer(SquaredError.from_moments(np.eye(2)), network)
    fine = two_layer(SquaredError.from_moments(np.eye(3)), Network([np.eye(3)] * 2))
    assert all(check.holds for check in fine.checks) and fine.lam == 0
    with pytest.raises(ValueError, match="`ts`"):
        fine([-1.0])


def test_jit_and_vmap():
    rng = np.random.default_rng(7)
    W1, W2 = balanced_start(rng, (3, 2, 4), 1.0, 0.3)
    S, ts = target(rng, (3, 2, 4)), jnp.array([0.0, 0.5, 4.0, 50.0])
    of = lambda W1, W2: two_layer(SquaredError.from_moments(S), Network([W1, W2]))(ts).qqt
    alone = of(W1, W2)
    np.testing.assert_allclose(jax.jit(of)(W1, W2), alone, rtol=1e-12, atol=1e-14)
    starts = [balanced_start(rng, (3, 2, 4), lam, 0.3) for lam in (0.0, 0.1, 2.0)]
    batch = jax.vmap(of)(*(jnp.array([start[layer] for start in starts]) for layer in (0, 1)))
    for one, start in zip(batch, starts, strict=True):
        np.testing.assert_allclose(one, of(*start), rtol=1e-12, atol=1e-13)


def test_times_in_blocks_are_times_one_by_one(monkeypatch):
    rng = np.random.default_rng(13)
    W1, W2 = balanced_start(rng, (3, 3, 3), 0.0, 1e-3)
    solution = two_layer(SquaredError.from_moments(target(rng, (3, 3, 3))), Network([W1, W2]))
    ts = np.array([0.0, 1e-9, 3.0, 0.1, 1e6, 20.0, 7.0, 1e-3, 50.0, 1.0, 300.0])  # no other test has so many
    alone = np.stack([solution(t).qqt for t in ts])
    monkeypatch.setattr(exact_riccati, "AT_ONCE", 4 * 6 * 3)
    scale = np.linalg.norm(alone, axis=(1, 2))[:, None, None]
    np.testing.assert_allclose(np.asarray(solution(ts).qqt) / scale, alone / scale, rtol=0, atol=5e-15)


@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_pivots_that_are_guessed(lam, monkeypatch):
    monkeypatch.setattr(elimination, "SEQUENTIAL", 1)  # no other test has these widths: compiled here
    monkeypatch.setattr(elimination, "SIDE_BY_SIDE", 1)
    rng, widths, worst = np.random.default_rng(11), (7, 5, 6), 0.0
    for scale in (1e-6, 0.1, 3.0):
        W1, W2 = balanced_start(rng, widths, lam, scale)
        S = target(rng, widths) / 2
        solution = two_layer(SquaredError.from_moments(S), Network([W1, W2]))
        worst = max(worst, *errors(solution([0.3, 4.0, 30.0]), W1, W2, S, solution.lam))
    assert worst <= 1e-13


@pytest.mark.parametrize("widths", [pytest.param((50, 40, 50), marks=pytest.mark.slow), (4, 3000, 5)])
def test_large_and_wide(widths):
    rng = np.random.default_rng(9)
    W1, W2 = balanced_start(rng, widths, 0.0, 1e-3) if widths[1] < 100 else _wide(rng, widths)
    S, ts = target(rng, widths) / np.sqrt(widths[0]), np.array([0.3, 4.0, 30.0])
    state = two_layer(SquaredError.from_moments(S), Network([W1, W2]))(ts)
    worst = max(errors(state, *_small(W1, W2), S, 0.0, digits=20))
    print(f"{widths}: {worst:.1e}")
    assert worst <= 1e-12 and state.factor.shape[-1] == min(widths[1], widths[0] + widths[2])


def _wide(rng, widths):
    rank = min(widths)
    s, hidden = 0.1 + rng.random(rank), haar(rng, widths[1], rank)
    return (hidden * s[None, :]) @ haar(rng, widths[0], rank).T, (haar(rng, widths[2], rank) * s[None, :]) @ hidden.T


def _small(W1, W2):
    """The same Q Q^T with at most as many hidden neurons as inputs and outputs, for mpmath."""
    if W1.shape[0] <= W1.shape[1] + W2.shape[0]:
        return W1, W2
    R = np.linalg.qr(np.concatenate([W1, W2.T], axis=1))[1]
    return R[:, : W1.shape[1]], R[:, W1.shape[1] :].T


def test_trajectory_can_be_measured():
    objective = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    start = dl.init.balanced(0, (3, 2, 2), scale=0.1)
    data = dl.measure(two_layer(objective, start).trajectory(np.linspace(0, 20, 5)))
    assert float(data["imbalance_drift"].max()) < 1e-12
    assert float(data["excess_loss"][-1]) < 1e-12


@pytest.mark.alone
def test_speed():
    rng = np.random.default_rng(10)
    W1, W2 = balanced_start(rng, (100, 10, 100), 1.0, 0.01)
    solution = two_layer(SquaredError.from_moments(target(rng, (100, 10, 100))), Network([W1, W2]))
    ts = np.linspace(0, 5, 1000)
    jax.block_until_ready(solution(ts).factor)
    begin = time.process_time()
    jax.block_until_ready(solution(ts).factor)
    assert time.process_time() - begin < 2.0  # 0.2 s on an idle core


def test_reference_reads_the_formula():
    # the helper itself, against the logistic curve of one balanced mode
    u0, s, t = 0.01, 2.0, 1.5
    X = riccati([[np.sqrt(u0)]], [[np.sqrt(u0)]], [[s]], 0.0, t)
    z0 = mp.mpf(np.sqrt(u0)) ** 2
    assert abs(X[1, 0] - s / (1 + (s / z0 - 1) * mp.exp(-2 * s * t))) < 1e-14


@pytest.mark.parametrize("widths, kind", [((4, 4, 3), "singular"), ((4, 2, 3), "generic"), ((3, 3, 3), "aligned")])
def test_weights_at_late_times(widths, kind):
    rng = np.random.default_rng(12)
    if kind == "aligned":
        W1 = W2 = 0.3 * np.eye(3)
        S = np.diag([2.0, 1.0, 0.0])
    else:
        W1, W2 = balanced_start(rng, widths, 0.0, 1e-2)
        S = target(rng, widths, kind)
    solution, ts = two_layer(SquaredError.from_moments(S), Network([W1, W2])), [1e6, 0.0, 30.0, 1e3]
    Q = stacked(solution.weights(ts))
    state = solution(ts)
    assert state.warning is None
    np.testing.assert_array_equal(Q[1], np.concatenate([W1.T, W2]))
    np.testing.assert_allclose(Q @ Q.swapaxes(1, 2), state.qqt, atol=1e-12)
    np.testing.assert_allclose(Q[0], Q[3], atol=0.05 if kind != "generic" else 1e-12)  # null modes fall as 1 / sqrt(t)
