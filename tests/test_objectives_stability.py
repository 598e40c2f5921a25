"""Logistic loss and cross-entropy at logits up to 1000, against mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import deeplinear as dl

LOGITS = [-1000.0, -100.0, -37.0, -1.0, 0.0, 1e-9, 1.0, 37.0, 100.0, 1000.0]
TINY = 1e-300  # what is smaller may be rounded to zero


def close(found, truth):
    with mp.workdps(60):
        assert abs(mp.mpf(float(found)) - truth) <= 1e-14 * abs(truth) + TINY, (float(found), mp.nstr(truth, 17))


@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_logistic(y):
    objective = dl.Logistic([[1.0]], [y])
    derivatives = jax.jit(
        lambda W: (objective(W), objective.gradient(W), objective.hessian_vector(W, jnp.ones((1, 1))))
    )
    for logit in LOGITS:
        loss, slope, bend = derivatives(jnp.array([[logit]]))
        with mp.workdps(1000):
            z = mp.mpf(logit)
            sigma, p = 1 / (1 + mp.exp(-z)), mp.mpf(y)
            close(loss, p * mp.log(1 + mp.exp(-z)) + (1 - p) * mp.log(1 + mp.exp(z)))
            close(bend[0, 0], sigma * (1 - sigma))
            if y in (0, 1):  # between, the gradient has a zero, near which only its absolute error is small
                close(slope[0, 0], sigma - p)


@pytest.mark.parametrize("target", [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.5, 0.3]])
def test_cross_entropy(target):
    objective = dl.CrossEntropy([[1.0]], [target])
    derivatives = jax.jit(lambda W: (objective(W), objective.gradient(W)))
    for logits in [
        (0.0, 0.0, 0.0),
        (1000.0, 0.0, -1000.0),
        (-1000.0, 1000.0, 999.0),
        (50.0, 0.0, 1.0),
        (1e3, 1e3, 1e3),
    ]:
        loss, slope = derivatives(jnp.array(logits)[:, None])
        with mp.workdps(1000):
            powers = [mp.exp(mp.mpf(x)) for x in logits]
            total = mp.fsum(powers)
            close(loss, mp.fsum(mp.mpf(p) * (mp.log(total) - mp.mpf(x)) for p, x in zip(target, logits, strict=True)))
            for k, p in enumerate(target):
                if p in (0, 1):
                    close(slope[k, 0], powers[k] / total - p)


def test_by_automatic_differentiation_too():
    for objective in (dl.Logistic([[1.0]], [[1.0, 0.0]]), dl.CrossEntropy([[1.0]], [1], classes=2)):
        for size in (0.0, 1.0, 1e3, -1e3):
            W = jnp.array([[size], [-size]])
            slope, bend = jax.grad(objective)(W), jax.jvp(jax.grad(objective), (W,), (jnp.ones((2, 1)),))[1]
            np.testing.assert_allclose(slope, objective.gradient(W), rtol=1e-12, atol=1e-15)
            np.testing.assert_allclose(bend, objective.hessian_vector(W, jnp.ones((2, 1))), rtol=1e-12, atol=1e-15)


def test_integer_labels_are_one_hot_targets():
    X, labels = np.random.default_rng(0).standard_normal((5, 2)), [2, 0, 1, 1, 2]
    W = jnp.asarray(np.random.default_rng(1).standard_normal((4, 2)))
    hard, soft = dl.CrossEntropy(X, labels, classes=4), dl.CrossEntropy(X, np.eye(4)[labels])
    assert hard.shape == soft.shape == (4, 2)
    assert float(hard(W)) == float(soft(W))
    by_jax = -np.mean(jax.nn.log_softmax(X @ W.T)[np.arange(5), labels])
    np.testing.assert_allclose(hard(W), by_jax, rtol=1e-14)


def test_of_two_classes_is_the_logistic_loss_of_their_difference():
    X, y = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 1, 0, 1, 0])
    W = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3)))
    np.testing.assert_allclose(dl.CrossEntropy(X, y)(W), dl.Logistic(X, y)(W[1:] - W[:1]), rtol=1e-14)
