"""The Gauss-Newton inverse against dense matrices, and the products that it saves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import deeplinear as dl
from deeplinear._linalg import fused_products
from deeplinear.flows.preconditioner import gauss_newton_inverse
from deeplinear.flows.problem import Problem
from deeplinear.flows.rosenbrock import Rosenbrock

WIDTHS = (5, 4, 6, 3)
WHITE = dl.SquaredError.from_singular_values([2.0, 1.0, 0.5], 5, 3, dl.MEAN)
SAMPLES = np.random.default_rng(0).standard_normal((20, 5)) * [3.0, 1.0, 1.0, 0.3, 0.1]
CORRELATED = dl.SquaredError.of(SAMPLES, SAMPLES[:, :3] @ np.diag([1.0, 2.0, -1.0]))
BALANCED = dl.init.balanced(3, WIDTHS, scale=0.7)
RANDOM = dl.init.gaussian(3, WIDTHS, 0.5)
TAU = jnp.asarray(4.0)


def dense_inverse(objective, network, tau, decay=0.0):
    """(I (1 + tau decay) + tau B^T B)^-1 with B the derivative of W R by the flat weights."""
    flat, unravel = ravel_pytree(network)
    rooted = lambda flat: (jnp.sqrt(objective.factor) * unravel(flat).end_to_end @ objective.root_xx).ravel()
    B = np.asarray(jax.jacobian(rooted)(flat))
    return np.linalg.inv((1 + tau * decay) * np.eye(flat.size) + tau * B.T @ B)


def as_matrix(problem, network, tau):
    flat, unravel = ravel_pytree(network)
    inverse = gauss_newton_inverse(problem, network, tau)
    return np.asarray(jax.vmap(lambda v: ravel_pytree(inverse(unravel(v)))[0])(jnp.eye(flat.size))).T


@pytest.mark.parametrize(("objective", "decay"), [(WHITE, None), (WHITE, 0.3), (CORRELATED, None)])
def test_it_is_the_inverse_where_the_network_is_balanced(objective, decay):
    problem = Problem(objective, None, None if decay is None else jnp.asarray(decay))
    found = as_matrix(problem, BALANCED, TAU)
    np.testing.assert_allclose(found, dense_inverse(objective, BALANCED, 4.0, decay or 0.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("objective", [WHITE, CORRELATED])
def test_it_is_symmetric_positive_and_close_for_any_network(objective):
    found = as_matrix(Problem(objective, None, None), RANDOM, TAU)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-13)
    matrix = np.linalg.inv(dense_inverse(objective, RANDOM, 4.0))
    before, after = np.linalg.eigvalsh(matrix), np.linalg.eigvals(found @ matrix).real
    print(f"condition {before[-1] / before[0]:.3g}, with the inverse {after.max() / after.min():.3g}")
    assert after.min() > 1 - 1e-12  # it never exceeds the true inverse by more than it falls short of it
    assert after.max() / after.min() < before[-1] / before[0]


def test_it_keeps_to_a_mask_and_stands_aside_where_it_does_not_apply():
    mask = jax.tree.map(lambda W: W > 0, RANDOM)
    inverse = gauss_newton_inverse(Problem(WHITE, mask, None), RANDOM, TAU)(mask_out(RANDOM, mask))
    assert all(bool(jnp.all(jnp.where(m, 0.0, W) == 0)) for W, m in zip(inverse.weights, mask.weights, strict=True))
    plain = Problem(lambda W: jnp.sum(W**2), None, None)
    with fused_products():
        kernel = gauss_newton_inverse(Problem(WHITE, None, None), RANDOM, TAU)
    for identity in (gauss_newton_inverse(plain, RANDOM, TAU), kernel):
        assert identity(RANDOM) is RANDOM


def mask_out(network, mask):
    return jax.tree.map(lambda W, m: jnp.where(m, W, 0.0), network, mask)


def test_it_saves_products(monkeypatch):
    """The end of learning with correlated inputs, where plain conjugate gradients need hundreds of products."""
    objective = dl.SquaredError.from_moments(0.5 * np.eye(3, 20), np.diag(np.geomspace(10, 1e-3, 20)))
    problem, network = Problem(objective, None, None), dl.init.balanced(0, (20, 15, 3), product=objective.optimum)
    network = jax.tree.map(lambda W, V: W + V, network, dl.init.gaussian(1, (20, 15, 3), 1e-4))
    step = lambda: Rosenbrock().step(
        problem, network, problem(network), jnp.asarray(100.0), (), jnp.asarray(1e-9), jnp.asarray(1e-16)
    )[3]
    with_it = int(jax.jit(step)())
    assert with_it > 13
    monkeypatch.setattr("deeplinear.flows.rosenbrock.gauss_newton_inverse", lambda *_: lambda V: V)
    assert with_it < int(jax.jit(lambda: step())()) / 4
