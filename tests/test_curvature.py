"""Second derivatives against dense Hessians, finite differences and known spectra."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError, curvature

OBJECTIVE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)


def dense(objective, network):
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    return np.asarray(jax.hessian(lambda v: objective(unravel(v).end_to_end))(flat))


def test_loss_is_the_objective_of_the_product():
    network = dl.init.gaussian(0, (4, 5, 3), 0.5)
    assert float(curvature.loss(OBJECTIVE, network)) == float(OBJECTIVE(network.end_to_end))


@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (4, 2, 3, 3)])
def test_hvp_is_a_column_of_the_hessian(widths):
    network, V = dl.init.gaussian(0, widths, 0.5), dl.init.gaussian(1, widths, 1.0)
    product = jax.flatten_util.ravel_pytree(curvature.hvp(OBJECTIVE, network, V))[0]
    direction = np.asarray(jax.flatten_util.ravel_pytree(V)[0])
    np.testing.assert_allclose(product, dense(OBJECTIVE, network) @ direction, rtol=0, atol=1e-12)
    # second difference of the loss along V, without derivatives
    at = lambda e: float(curvature.loss(OBJECTIVE, jax.tree.map(lambda W, D: W + e * D, network, V)))
    e = 1e-3
    second = (-at(2 * e) + 16 * at(e) - 30 * at(0.0) + 16 * at(-e) - at(-2 * e)) / (12 * e**2)
    assert float(product @ direction) == pytest.approx(second, rel=1e-7)


@pytest.mark.parametrize("widths", [(4, 5, 3), (4, 8, 3), (4, 6, 6, 3)])  # dense, and by Lanczos twice
def test_lowest_eigenvalue_at_a_random_point(widths):
    network = dl.init.gaussian(0, widths, 0.5)
    lowest = np.linalg.eigvalsh(dense(OBJECTIVE, network))[0]
    for limit in (64, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(curvature, "DENSE", limit)
            assert curvature.lowest_eigenvalue(OBJECTIVE, network) == pytest.approx(lowest, rel=1e-12)


def rotated(layers, seed=0):
    """The network of these layers in random bases, and the objective that goes with the outer ones."""
    rng = np.random.default_rng(seed)
    Q = [np.linalg.qr(rng.standard_normal((d, d)))[0] for d in (layers[0].shape[1], *(W.shape[0] for W in layers))]
    return Network([above @ W @ below.T for W, below, above in zip(layers, Q, Q[1:], strict=False)]), Q[-1], Q[0]


@pytest.mark.parametrize("n", [8, 16])
def test_lowest_eigenvalue_at_saddles_with_few_distinct_eigenvalues(n):
    s = np.linspace(3.0, 1.0, n)
    for depth, lowest in ((2, -s[1]), (3, 0.0)):  # strict at depth 2; not strict at depth 3 with the first mode learned
        learned = np.zeros((n, n))
        learned[0, 0] = s[0] ** (1 / depth)
        network, U, V = rotated([learned] * depth)
        objective = SquaredError.from_moments(U @ np.diag(s) @ V.T)
        assert curvature.lowest_eigenvalue(objective, network) == pytest.approx(lowest, rel=1e-12, abs=1e-13)


def test_lowest_eigenvalue_of_a_zero_hessian():
    zeros = Network([jnp.zeros((8, 8))] * 3)
    assert curvature.lowest_eigenvalue(SquaredError.from_singular_values([3.0], 8, 8), zeros) == 0.0


def test_lowest_eigenvalue_at_the_origin_of_a_wide_network():
    zeros = Network([jnp.zeros((30, 20)), jnp.zeros((10, 30))])
    objective = SquaredError.from_singular_values([3.0, 2.9999, 1.0], 20, 10)
    assert curvature.lowest_eigenvalue(objective, zeros) == pytest.approx(-3.0, rel=1e-13)
