"""The end-to-end flow of balanced networks: mpmath, the equation for W itself, brute integration, closed forms."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from brute import frame, mp_matrix, product, slopes, weight_error
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, init
from deeplinear.exact import NotExact, balanced, end_to_end_velocity, mode_strength, regression

TIMES = np.array([0.0, 0.3, 1.0, 4.0])


def correlated(seed, d_x, d_y, scale=dl.HALF_MEAN):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((d_x, d_x))
    return SquaredError.from_moments(rng.standard_normal((d_y, d_x)), A @ A.T / d_x + 0.3 * np.eye(d_x), scale=scale)


@pytest.mark.alone
@pytest.mark.parametrize("widths", [(3, 4, 2), (5, 2, 4), (3, 3, 3, 3), (4, 3, 2, 3, 4, 4), (3, 2)])
def test_weights_against_brute_integration(widths):
    objective = correlated(sum(widths), widths[0], widths[-1], dl.MEAN)
    network = init.balanced(1, widths, scale=0.6)
    solution = balanced(objective, network)
    trajectory, curve = solution.trajectory(TIMES), solution(TIMES)
    error = weight_error(objective, network, trajectory)
    print(f"balanced {widths}: worst weight {error:.1e}")
    assert error < 5e-14
    np.testing.assert_allclose(curve.end_to_end, trajectory.end_to_end, rtol=0, atol=1e-14)
    for W, z in zip(curve.end_to_end, curve.layer_singular_values, strict=True):
        s = np.linalg.svd(W, compute_uv=False)
        np.testing.assert_allclose(s[: z.size], z**network.depth, rtol=0, atol=2e-14 * s[0])
    np.testing.assert_allclose(curve.loss, [float(objective(W)) for W in curve.end_to_end], rtol=1e-12)


@pytest.mark.parametrize("h", [2, 3])
def test_against_mpmath(h):
    objective, network = correlated(5, 2, 2), init.balanced(3, (2,) * (h + 1), product=[[0.2, 0.1], [-0.1, 0.3]])
    got = balanced(objective, network)([0.5, 2.0]).end_to_end
    with mp.workdps(25):
        S, X = mp_matrix(objective.sigma_yx), mp_matrix(objective.sigma_xx)
        layers = [mp_matrix(W) for W in network.weights]

        def field(t, y):
            W = [mp.matrix([y[4 * l : 4 * l + 2], y[4 * l + 2 : 4 * l + 4]]) for l in range(h)]
            below = [mp.eye(2)]
            for A in W:
                below.append(A * below[-1])
            residual, above, out = S - below[-1] * X, mp.eye(2), []
            for A, P in zip(W[::-1], below[-2::-1], strict=True):
                out.insert(0, above.T * residual * P.T)
                above = above * A
            return [x for D in out for x in D]

        solution = mp.odefun(field, 0, [x for W in layers for x in W])
        for i, t in enumerate((0.5, 2.0)):
            y = solution(t)
            W = mp.eye(2)
            for l in range(h):
                W = mp.matrix([y[4 * l : 4 * l + 2], y[4 * l + 2 : 4 * l + 4]]) * W
            error = float(mp.norm(mp_matrix(got[i]) - W, mp.inf))
            print(f"balanced h = {h}, t = {t}: {error:.1e}")
            assert error < 5e-14


@pytest.mark.parametrize("widths", [(3, 4, 2), (4, 4, 4, 3), (3, 2, 5, 2, 4)])
def test_the_end_to_end_matrix_obeys_its_own_equation(widths):
    objective, depth = correlated(2, widths[0], widths[-1]), len(widths) - 1
    network = init.balanced(2, widths, scale=0.8)
    S, X = np.asarray(objective.sigma_yx), np.asarray(objective.sigma_xx)

    def velocity(t, w):
        W = w.reshape(S.shape)
        U, s, Vt = np.linalg.svd(W)
        rank = min(widths)  # the rest is rounding
        out, into = np.zeros(S.shape[0]), np.zeros(S.shape[1])
        out[:rank] = into[:rank] = s[:rank]
        weights = sum(
            np.outer(out ** (2 * (depth - l) / depth), into ** (2 * (l - 1) / depth)) for l in range(1, depth + 1)
        )
        return (U @ (weights * (U.T @ (S - W @ X) @ Vt.T)) @ Vt).ravel()

    start = product([np.asarray(W) for W in network.weights])
    truth = solve_ivp(velocity, (0, 2.0), start.ravel(), "DOP853", rtol=3e-14, atol=1e-15).y[:, -1].reshape(S.shape)
    error = np.abs(np.asarray(balanced(objective, network)([2.0]).end_to_end[0]) - truth).max()
    print(f"end-to-end equation {widths}: {error:.1e}")
    assert error < 3e-13


@given(widths=st.lists(st.integers(1, 5), min_size=2, max_size=6), seed=st.integers(0, 999), rank=st.integers(0, 3))
def test_the_velocity_is_that_of_the_layers(widths, seed, rank):
    rng, depth = np.random.default_rng(seed), len(widths) - 1
    rank = min(rank, *widths)
    z = rng.uniform(0.3, 1.5, rank)
    bases = [frame(rng, d, d)[:, :rank] for d in widths]
    layers = [(above * z) @ below.T for below, above in pairwise(bases)]
    W, sigma_yx = product(layers), rng.standard_normal((widths[-1], widths[0]))
    D = slopes(layers, sigma_yx + W, np.eye(widths[0]))  # residual: sigma_yx
    truth = sum(product([*layers[:l], D[l], *layers[l + 1 :]]) for l in range(depth))
    got = end_to_end_velocity(jnp.asarray(W), jnp.asarray(sigma_yx), depth)
    if rank or depth == 1:
        assume(np.linalg.svd(W, compute_uv=False)[max(rank, 1) - 1] > 1e-9 or depth == 1)
    np.testing.assert_allclose(got, truth, rtol=0, atol=1e-12)


def test_velocity_of_exact_zeros_and_under_transformations():
    W, residual = jnp.diag(jnp.array([0.5, 0.0, 0.0]))[:2], jnp.arange(6.0).reshape(2, 3) + 1
    s = np.array([0.5, 0.0])
    for h in (1, 2, 3, 5):
        powers = lambda x, k: np.where(x > 0, x, 1.0) ** k * (x > 0) if k else np.ones_like(x)
        weights = sum(
            np.outer(powers(s, 2 * (h - l) / h), powers(np.array([0.5, 0.0, 0.0]), 2 * (l - 1) / h))
            for l in range(1, h + 1)
        )
        np.testing.assert_allclose(end_to_end_velocity(W, residual, h), weights * residual, rtol=1e-14, atol=1e-16)
    run = lambda W: end_to_end_velocity(W, residual, 3)
    np.testing.assert_allclose(jax.jit(run)(W), run(W), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(jax.vmap(run)(jnp.stack([W, 2 * W]))[0], run(W), rtol=1e-13, atol=1e-15)


def test_singular_values_move_by_arora():
    # d s_r / dt = h s_r^{2 - 2/h} u_r^T Xi v_r, by central differences of the solution
    objective, h = correlated(4, 3, 3), 3
    solution = balanced(objective, init.balanced(4, (3, 4, 3, 3), scale=0.7))
    t, dt = 0.6, 1e-4
    before, now, after = np.asarray(solution([t - dt, t, t + dt]).end_to_end)
    U, s, Vt = np.linalg.svd(now)
    residual = np.asarray(objective.sigma_yx) - now @ np.asarray(objective.sigma_xx)
    speed = h * s ** (2 - 2 / h) * np.diagonal(U.T @ residual @ Vt.T)
    measured = (np.linalg.svd(after, compute_uv=False) - np.linalg.svd(before, compute_uv=False)) / (2 * dt)
    np.testing.assert_allclose(measured, speed, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("h", [2, 3, 4])
def test_small_modes_keep_their_digits(h):
    # strengths over nine decades; the equation for W itself would know the last to 1e-7 only
    s, start = np.array([3.0, 2.0, 1.5]), np.array([0.5, 1e-4, 1e-9])
    objective = SquaredError.from_singular_values(s, 3, 3)
    network = init.decoupled(0, objective, (3,) * (h + 1), start)
    ts = np.array([0.5, 2.0, 6.0])
    got = np.diagonal(balanced(objective, network)(ts).end_to_end, axis1=1, axis2=2)
    truth = mode_strength(ts, start, s, h)
    error = np.abs(got / truth - 1).max(axis=0)
    print(f"graded start, h = {h}: relative errors of modes {error}")
    assert error.max() < 1e-12


@pytest.mark.parametrize("h", [2, 3])
def test_the_rank_stays(h):
    # full-rank networks would learn all three; noise in a matrix equation for W would grow by e^{2 s t} = 1e30
    rng = np.random.default_rng(1)
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 3)
    units = [frame(rng, d, 1) for d in (3, *[4] * (h - 1), 3)]
    network = Network([0.3 * above @ below.T for below, above in pairwise(units)])
    solution = balanced(objective, network)
    assert solution.core.widths == (3, *[1] * (h - 1), 3)
    late = np.linalg.svd(solution([40.0]).end_to_end[0], compute_uv=False)
    np.testing.assert_allclose(late, [3.0, 0.0, 0.0], rtol=1e-12, atol=1e-14)


def test_late_times_cost_nothing_more_and_rest():
    objective = correlated(0, 3, 3)
    network = init.balanced(0, (3, 5, 4, 3), scale=0.4)
    curve = balanced(objective, network)([1e6, 40.0, 0.0, 1e5])  # unsorted
    assert float(curve.loss[0]) == float(curve.loss[3])
    np.testing.assert_allclose(curve.end_to_end[2], network.end_to_end, rtol=0, atol=1e-15)


def test_one_layer_and_no_weights():
    objective = correlated(1, 3, 2)
    for W0 in (np.ones((2, 3)), np.zeros((2, 3))):
        one = balanced(objective, Network([W0]))(TIMES).end_to_end
        np.testing.assert_allclose(one, regression(objective, Network([W0]))(TIMES).end_to_end, rtol=0, atol=1e-13)
    still = balanced(objective, Network([np.zeros((4, 3)), np.zeros((2, 4))])).trajectory([0.0, 5.0])
    assert not np.any(still.end_to_end) and still[1].widths == (3, 4, 2)


def test_what_is_not_balanced_is_refused():
    objective = correlated(0, 3, 2)
    network = init.balanced(0, (3, 4, 2), scale=1.0)
    spoilt = Network([network.weights[0], (1 + 1e-6) * network.weights[1]])
    with pytest.raises(NotExact) as caught:
        balanced(objective, spoilt)
    (check,) = caught.value.checks
    assert 1e-6 < check.violation < 1e-5
    with pytest.raises(ValueError, match=">= 0"):
        balanced(objective, network)([-1.0])
