"""One layer against the exponential of the augmented matrix in 60 digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from brute import mp_matrix
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear.exact import NotExact, regression

TIMES = [0.0, 1e-9, 0.1, 1.0, 30.0, 1e3, 1e6]


def exact(W0, sigma_yx, sigma_xx, t, factor=1.0, decay=0.0):
    """[W(t), I] = [W0, I] exp(t [[-K, 0], [c sigma_yx, 0]]), K = c sigma_xx + decay, in 60 digits."""
    with mp.workdps(60):
        d_y, d_x = W0.shape
        M = mp.zeros(d_x + d_y)
        K = mp_matrix(sigma_xx) * mp.mpf(float(factor)) + mp.eye(d_x) * mp.mpf(float(decay))
        M[:d_x, :d_x], M[d_x:, :d_x] = -K, mp_matrix(sigma_yx) * mp.mpf(float(factor))
        start = mp.zeros(d_y, d_x + d_y)
        start[:, :d_x], start[:, d_x:] = mp_matrix(W0), mp.eye(d_y)
        return (start * mp.expm(M * mp.mpf(float(t))))[:, :d_x]


def exact_loss(W, sigma_yx, sigma_xx, trace_yy, factor):
    with mp.workdps(60):
        S, X = mp_matrix(sigma_yx), mp_matrix(sigma_xx)
        quadratic = W * X * W.T - 2 * W * S.T
        return mp.mpf(float(factor)) / 2 * (sum(quadratic[i, i] for i in range(W.rows)) + mp.mpf(float(trace_yy)))


def as_floats(M):
    return np.array(M.tolist(), dtype=float)


def integer_problem(seed, n, d_x, d_y, scale=dl.HALF_MEAN):
    """Moments whose entries are small integers, so that singular ones are exactly singular."""
    rng = np.random.default_rng(seed)
    X, A = rng.integers(-2, 3, (n, d_x)), rng.integers(-2, 3, (d_y, d_x))
    sigma_xx = (X.T @ X).astype(float)
    sigma_yx, trace = A @ sigma_xx, float(np.trace(A @ sigma_xx @ A.T))
    return SquaredError.from_moments(sigma_yx, sigma_xx, trace, scale), sigma_yx, sigma_xx, trace


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("n", "d_x", "d_y"), [(9, 3, 2), (2, 4, 3), (1, 3, 1)])
def test_weights_at_any_time(n, d_x, d_y, decay):
    # n < d_x: sigma_xx is singular
    objective, sigma_yx, sigma_xx, trace = integer_problem(0, n, d_x, d_y, dl.MEAN)
    W0 = np.random.default_rng(1).standard_normal((d_y, d_x))
    curve = regression(objective, Network([W0]), weight_decay=decay)(TIMES)
    truth = [exact(W0, sigma_yx, sigma_xx, t, 2.0, decay) for t in TIMES]
    sizes = [max(np.abs(W0).max(), np.abs(as_floats(W)).max()) for W in truth]
    errors = [np.abs(got - as_floats(W)).max() / k for got, W, k in zip(curve.end_to_end, truth, sizes, strict=True)]
    print(f"regression, n={n} decay={decay}: worst error {max(errors):.1e}")
    assert max(errors) < 2e-14
    lost = [
        float(abs(mp.mpf(float(L)) - exact_loss(W, sigma_yx, sigma_xx, trace, 2.0)))
        for L, W in zip(curve.loss, truth, strict=True)
    ]
    assert max(lost) < 3e-14 * float(curve.loss[0])


def test_the_loss_keeps_its_digits_as_it_vanishes():
    objective, sigma_yx, sigma_xx, _ = integer_problem(2, 9, 3, 2)
    W0, rates = np.ones((2, 3)), np.linalg.eigvalsh(sigma_xx)
    ts = np.array([1.0, 5.0, 20.0]) * 3 / rates[0]
    curve = regression(objective, Network([W0]))(ts)
    for t, loss in zip(ts, curve.loss, strict=True):
        left = exact(W0, sigma_yx, sigma_xx, t) - mp_matrix(np.asarray(objective.optimum).round())  # integers
        with mp.workdps(60):
            truth = sum((left * mp_matrix(sigma_xx) * left.T)[i, i] for i in range(2)) / 2
        assert float(loss) == pytest.approx(float(truth), rel=3e-13, abs=0)
    assert 0 < float(curve.loss[-1]) < 1e-48


shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))


@given(
    shape=shapes, seed=st.integers(0, 99), t=st.floats(-3, 4).map(lambda e: 10.0**e), decay=st.sampled_from([0.0, 2.0])
)
def test_any_shape(shape, seed, t, decay):
    objective, sigma_yx, sigma_xx, _ = integer_problem(seed, *shape)
    W0 = np.random.default_rng(seed).standard_normal((shape[2], shape[1]))
    got = regression(objective, Network([W0]), weight_decay=decay)([t]).end_to_end[0]
    truth = as_floats(exact(W0, sigma_yx, sigma_xx, t, 1.0, decay))
    spectrum = np.linalg.eigvalsh(sigma_xx)
    condition = (
        spectrum[-1] / min([k for k in spectrum if k > 1e-9 * spectrum[-1]], default=1.0) if spectrum[-1] else 1.0
    )
    scale = max(np.abs(W0).max(), np.abs(truth).max(), np.abs(np.asarray(objective.optimum)).max())
    np.testing.assert_allclose(got, truth, rtol=0, atol=2e-15 * (3 + condition) * scale)


def test_white_inputs_and_the_trajectory():
    objective = SquaredError.from_moments([[2.0, 0.0], [1.0, 1.0]], scale=dl.HALF_SUM, count=10)
    W0 = np.array([[0.5, -1.0], [0.0, 3.0]])
    ts = np.array([0.0, 0.05, 0.4])
    solution = regression(objective, Network([W0]))
    trajectory = solution.trajectory(ts)
    S = np.asarray(objective.optimum)
    expected = [S + (W0 - S) * np.exp(-10 * t) for t in ts]
    np.testing.assert_allclose(trajectory.end_to_end, expected, rtol=1e-14, atol=1e-15)
    assert trajectory[1].widths == (2, 2) and trajectory.objective is objective and len(trajectory) == 3
    np.testing.assert_allclose(solution(ts).loss, [float(objective(jnp.asarray(W))) for W in expected], rtol=1e-13)


@pytest.mark.alone
def test_works_under_jit_and_vmap():
    objective, *_ = integer_problem(3, 9, 3, 2)
    networks = Network([np.ones((2, 3))])
    run = lambda network, ts: regression(objective, network)(ts).end_to_end
    ts = np.array([0.1, 0.5])
    plain = run(networks, ts)
    np.testing.assert_allclose(eqx.filter_jit(run)(networks, ts), plain, rtol=1e-14)
    batch = jax.tree.map(lambda W: np.stack([W, W]), networks)
    np.testing.assert_allclose(jax.vmap(run, (0, None))(batch, ts)[1], plain, rtol=1e-14)
    slope = jax.grad(lambda t: run(networks, t[None])[0, 0, 0])(np.array(0.1))
    X, S = np.asarray(objective.sigma_xx), np.asarray(objective.sigma_yx)
    np.testing.assert_allclose(slope, (S - np.asarray(plain[0]) @ X)[0, 0], rtol=1e-11)


def test_what_does_not_fit_is_refused():
    objective = SquaredError.from_moments([[2.0, 0.0]])
    with pytest.raises(NotExact, match="one layer"):
        regression(objective, Network([[[1.0, 0.0]], [[1.0]]]))
    network = Network([[[1.0, 0.0]]])
    for ts, message in (([-1.0], ">= 0"), ([np.inf], "finite"), (1.0, "shape")):
        with pytest.raises(ValueError, match=message):
            regression(objective, network)(ts)
    with pytest.raises(ValueError, match="weight_decay"):
        regression(objective, network, weight_decay=-1.0)
    with pytest.raises(ValueError, match="`network`"):
        regression(objective, Network([[[1.0]]]))


def test_other_objectives_are_refused(without_annotations):
    with pytest.raises(ValueError, match="`objective`"):
        regression(lambda W: W.sum(), Network([[[1.0]]]))
