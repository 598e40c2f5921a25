"""Forms, operators and matrices of second derivatives against the product rule, complex steps and mpmath."""

from itertools import pairwise

import equinox as eqx
import hessians
import jax
import jax.flatten_util
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from brute import mp_matrix, slopes

import deeplinear as dl
from deeplinear import Network, SquaredError, curvature
from deeplinear.flows import velocity

OBJECTIVE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)
SHAPES = [(4, 3), (4, 5, 3), (3, 5, 2, 4)]


def problem(widths, seed=0):
    """Correlated inputs, a random target, a random network and a direction."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((widths[0], widths[0] + 1))
    sigma_yx = rng.standard_normal((widths[-1], widths[0]))
    objective = SquaredError.from_moments(sigma_yx, root @ root.T / widths[0], scale=dl.MEAN)
    draw = lambda: Network([rng.standard_normal((b, a)) for a, b in pairwise(widths)])
    return objective, draw(), draw()


def some_mask(network, seed=3):
    rng = np.random.default_rng(seed)
    return Network([rng.random(W.shape) < 0.6 for W in network.weights])


def test_loss_is_the_objective_of_the_product():
    network = dl.init.gaussian(0, (4, 5, 3), 0.5)
    assert float(curvature.loss(OBJECTIVE, network)) == float(OBJECTIVE(network.end_to_end))
    squares = sum(float(jnp.sum(W**2)) for W in network.weights)
    decayed = float(OBJECTIVE(network.end_to_end)) + 0.15 * squares
    assert float(curvature.loss(OBJECTIVE, network, 0.3)) == pytest.approx(decayed, rel=1e-15)


@pytest.mark.parametrize("widths", SHAPES)
def test_quadratic_form_in_fifty_digits(widths):
    objective, network, V = problem(widths)
    with mp.workdps(60):
        sigma_yx, sigma_xx = mp_matrix(objective.sigma_yx), mp_matrix(objective.sigma_xx)

        def at(e):  # the loss without its constant
            W = mp.eye(widths[0])
            for layer, D in zip(network.weights, V.weights, strict=True):
                W = (mp_matrix(layer) + e * mp_matrix(D)) * W
            trace = lambda A, B: sum(A[i, j] * B[i, j] for i in range(A.rows) for j in range(A.cols))
            return float(objective.factor) * (trace(W * sigma_xx, W) / 2 - trace(W, sigma_yx))

        e = mp.mpf(10) ** -15
        truth = float((at(e) - 2 * at(0) + at(-e)) / e**2)
    value = float(curvature.quadratic_form(objective, network, V))
    print(f"quadratic form {widths}: {abs(value / truth - 1):.1e}")
    assert value == pytest.approx(truth, rel=1e-13)


@pytest.mark.parametrize("widths", SHAPES)
def test_variations_are_the_coefficients_of_the_product(widths):
    _, network, V = problem(widths)
    along = lambda e: np.linalg.multi_dot(
        [
            np.eye(widths[-1]),
            *[np.asarray(W) + e * np.asarray(D) for W, D in zip(network.weights, V.weights, strict=False)][::-1],
        ]
    )
    # the product is a polynomial of degree h in e: its coefficients by the discrete Fourier transform
    points = np.exp(2j * np.pi * np.arange(8) / 8)
    coefficients = np.fft.fft(np.stack([along(e) for e in points]), axis=0) / 8
    for got, truth in zip(curvature.variations(network, V), coefficients, strict=False):
        np.testing.assert_allclose(got, truth.real, rtol=0, atol=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize("held", [False, True], ids=["all learn", "some are held"])
@pytest.mark.parametrize("widths", SHAPES)
def test_products_by_complex_steps(widths, held, decay):
    objective, network, V = problem(widths)
    mask = some_mask(network) if held else None
    learn = [
        np.ones(W.shape) if mask is None else np.asarray(m)
        for W, m in zip(network.weights, (mask or V).weights, strict=False)
    ]
    moments = (
        float(objective.factor) * np.asarray(objective.sigma_yx),
        float(objective.factor) * np.asarray(objective.sigma_xx),
    )
    free = [np.asarray(D) * m for D, m in zip(V.weights, learn, strict=False)]
    stepped = slopes(
        [np.asarray(W) + 1e-200j * D for W, D in zip(network.weights, free, strict=False)], *moments, decay
    )
    truth = [-slope.imag / 1e-200 * m for slope, m in zip(stepped, learn, strict=False)]
    size = max(np.abs(T).max() for T in truth)
    operator = curvature.hessian_operator(objective, network, mask=mask, weight_decay=decay)
    product = curvature.hvp(objective, network, V, mask=mask, weight_decay=decay)
    for image in (product, operator(V)):
        for I, T in zip(image.weights, truth, strict=True):
            np.testing.assert_allclose(I, T, rtol=0, atol=1e-14 * size)
    form = sum(float(np.sum(T * D)) for T, D in zip(truth, free, strict=False))
    got = float(curvature.quadratic_form(objective, network, V, mask=mask, weight_decay=decay))
    assert got == pytest.approx(form, rel=1e-13, abs=1e-13 * size)
    assert operator.size == sum(int(m.sum()) for m in learn)


@pytest.mark.parametrize("widths", SHAPES)
def test_matrices_by_the_product_rule(widths):
    objective, network, _ = problem(widths)
    moments = np.asarray(objective.sigma_yx), np.asarray(objective.sigma_xx)
    outer, functional = hessians.parts(network.weights, *moments, float(objective.factor))
    whole, size = outer + functional, np.abs(outer).max()
    np.testing.assert_allclose(curvature.hessian(objective, network), whole, rtol=0, atol=1e-14 * size)
    np.testing.assert_allclose(curvature.gauss_newton(objective, network), outer, rtol=0, atol=1e-14 * size)
    mask = some_mask(network)
    learn = np.flatnonzero(hessians.flat(mask))
    decayed = whole[np.ix_(learn, learn)] + 0.3 * np.eye(learn.size)
    got = curvature.hessian(objective, network, mask=mask, weight_decay=0.3)
    np.testing.assert_allclose(got, decayed, rtol=0, atol=1e-14 * size)
    assert (np.asarray(got) == np.asarray(got).T).all()


def test_gauss_newton_is_the_hessian_where_the_gradient_vanishes():
    network = dl.init.decoupled(0, OBJECTIVE, (4, 5, 3), [3.0, 2.0, 1.0])
    hessian, part = curvature.hessian(OBJECTIVE, network), curvature.gauss_newton(OBJECTIVE, network)
    np.testing.assert_allclose(hessian, part, rtol=0, atol=1e-14)
    elsewhere = dl.init.gaussian(0, (4, 5, 3), 0.5)
    assert np.linalg.eigvalsh(curvature.gauss_newton(OBJECTIVE, elsewhere))[0] > -1e-14
    assert np.linalg.eigvalsh(curvature.hessian(OBJECTIVE, elsewhere))[0] < -0.1


def bumpy(W):
    return jnp.sum(jnp.log(jnp.cosh(W - 0.3))) + jnp.sum(W) ** 4 / 50


@pytest.mark.parametrize("widths", [(4, 5, 3), pytest.param((3, 5, 2, 4), marks=pytest.mark.slow)])
def test_any_function_of_the_matrix_is_an_objective(widths):
    network, V = (dl.init.gaussian(seed, widths, 0.5) for seed in (0, 1))
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    truth = np.asarray(jax.hessian(lambda v: bumpy(unravel(v).end_to_end))(flat))
    direction = hessians.flat(V)
    np.testing.assert_allclose(curvature.hessian(bumpy, network), truth, rtol=0, atol=1e-13)
    np.testing.assert_allclose(hessians.flat(curvature.hvp(bumpy, network, V)), truth @ direction, rtol=0, atol=1e-13)
    form = float(curvature.quadratic_form(bumpy, network, V))
    assert form == pytest.approx(direction @ truth @ direction, rel=1e-12)
    part = np.asarray(curvature.gauss_newton(bumpy, network))
    answer = np.asarray(jax.jacobian(lambda v: unravel(v).end_to_end.ravel())(flat))
    inner = np.asarray(jax.hessian(lambda w: bumpy(w.reshape(widths[-1], widths[0])))(network.end_to_end.ravel()))
    np.testing.assert_allclose(part, answer.T @ inner @ answer, rtol=0, atol=1e-13)


def test_operators_are_jax_code():
    objective, network, V = problem((4, 5, 3))
    operator = curvature.hessian_operator(objective, network)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), V, network)
    images = jax.jit(lambda operator, V: jax.vmap(operator)(V))(operator, both)
    np.testing.assert_allclose(images.weights[0][1], operator(network).weights[0], rtol=1e-13)
    slope = jax.grad(lambda net: curvature.quadratic_form(objective, net, V))(network)
    forward = lambda e: float(curvature.quadratic_form(objective, jax.tree.map(lambda W, D: W + e * D, network, V), V))
    along = sum(float(jnp.sum(g * D)) for g, D in zip(slope.weights, V.weights, strict=True))
    # the form is a polynomial of degree 2 h - 2 = 2 along V: central differences are exact
    assert along == pytest.approx((forward(0.5) - forward(-0.5)), rel=1e-12)


def test_second_derivatives_cost_less_than_three_gradients():
    widths = (784, 256, 256, 10)
    network = Network([jnp.zeros((b, a)) for a, b in pairwise(widths)])
    objective = SquaredError.from_moments(np.zeros((10, 784)), 2 * np.eye(784))
    flops = lambda f, *args: eqx.filter_jit(f).lower(*args).compile().compiled.cost_analysis()["flops"]
    gradient = flops(lambda o, n: velocity(o, n), objective, network)
    product = flops(curvature.hvp, objective, network, network)
    form = flops(curvature.quadratic_form, objective, network, network)
    operator = curvature.hessian_operator(objective, network)
    kept = flops(lambda operator, V: operator(V), operator, network)
    times = {"hvp": product / gradient, "operator": kept / gradient, "form": form / gradient}
    print(f"operations of gradients: {times}")
    assert times["hvp"] < 3 and times["operator"] < 2.1 and times["form"] < 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, n: curvature.hvp(o, n, Network([jnp.zeros((3, 4))])), "`V`: has widths"),
        (lambda o, n: curvature.quadratic_form(o, n, Network([jnp.zeros((5, 4))])), "`V`: has widths"),
        (lambda o, n: curvature.hessian_operator(o, Network([jnp.zeros((2, 2))])), "`network`: maps 2 inputs"),
        (lambda o, n: curvature.hessian(o, n, weight_decay=-1.0), "`weight_decay`: got -1.0"),
        (lambda o, n: curvature.hessian(o, n, mask=n), "`mask`: must be a Network of booleans"),
        (lambda o, n: curvature.hessian(3.0, n), "`objective`: got 3.0; give a function of the end-to-end matrix"),
        (lambda o, n: curvature.hessian(o, jax.tree.map(lambda W: W[None], n)), "`network`: has a leading axis"),
        (
            lambda o, n: curvature.hessian(o, Network([jnp.zeros((300, 4)), jnp.zeros((3, 300))])),
            "has 2,100 weights that learn; a dense matrix is for at most 2,000",
        ),
    ],
)
def test_bad_input_gets_one_line(call, message, without_annotations):
    with pytest.raises(ValueError, match=message) as caught:
        call(OBJECTIVE, dl.init.gaussian(0, (4, 5, 3), 0.5))
    assert "\n" not in str(caught.value)
