"""Fibres, orbits, the set of critical points around one, the flattest minimum."""

from itertools import pairwise

import jax
import jax.flatten_util
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear.landscape.fibres import (
    balanced_representative,
    change_basis,
    fibre_dimension,
    partial_ranks,
    quotient,
    same_fiber,
    same_orbit,
)
from deeplinear.landscape.neighbourhood import critical_set


def network_of(seed, widths, scale=1.0):
    rng = np.random.default_rng(seed)
    return Network([scale * rng.standard_normal((b, a)) for a, b in pairwise(widths)])


def bases_of(seed, widths):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((d, d)) + 2 * np.eye(d) for d in widths[1:-1]]


def numpy_jacobian(network):
    """d phi by brute force: the product with one entry of one layer replaced by a unit, others kept."""
    weights, columns = [np.asarray(W) for W in network.weights], []
    for l, W in enumerate(weights):
        for index in np.ndindex(W.shape):
            unit = np.zeros_like(W)
            unit[index] = 1.0
            product = np.eye(W.shape[1]) if l == 0 else weights[0]
            for k, V in enumerate(weights[(0 if l == 0 else 1) :], start=0 if l == 0 else 1):
                product = (unit if k == l else V) @ product
            columns.append(product.ravel())
    return np.stack(columns, axis=1)


def numpy_hessian(objective, network):
    """The Hessian by complex-free central differences of a gradient written out by hand (exact to about 1e-8)."""
    shapes = [W.shape for W in network.weights]
    flat = np.concatenate([np.ravel(W) for W in network.weights])
    cuts = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
    Sigma = np.asarray(objective.optimum)

    def gradient(x):
        layers = [p.reshape(s) for p, s in zip(np.split(x, cuts), shapes, strict=True)]
        out = []
        for l in range(len(layers)):
            below = np.eye(layers[0].shape[1])
            for W in layers[:l]:
                below = W @ below
            above = np.eye(layers[l].shape[0])
            for W in layers[l + 1 :]:
                above = W @ above
            W = above @ layers[l] @ below
            out.append((above.T @ (W - Sigma) @ below.T).ravel())
        return np.concatenate(out)

    e = 1e-5
    return np.stack([(gradient(flat + e * v) - gradient(flat - e * v)) / (2 * e) for v in np.eye(flat.size)])


SHAPES = [(1, 2, 1), (3, 5, 3), (3, 4, 4, 3), (4, 2, 3), (2, 3, 4)]


@pytest.mark.parametrize("widths", [*SHAPES, (5, 3, 2, 4), (3, 1, 4, 2, 5)])
def test_a_change_of_basis_stays_on_fibre_and_orbit(widths):
    network = network_of(1, widths)
    moved = change_basis(network, bases_of(2, widths))
    by_hand = [np.eye(widths[0]), *bases_of(2, widths), np.eye(widths[-1])]
    for W, V, below, above in zip(network.weights, moved.weights, by_hand, by_hand[1:], strict=False):
        np.testing.assert_allclose(V, above @ np.asarray(W) @ np.linalg.inv(below), rtol=1e-11, atol=1e-12)
    assert same_fiber(network, moved) and same_orbit(network, moved)
    np.testing.assert_array_equal(partial_ranks(network), partial_ranks(moved))
    other = Network([*moved.weights[:-1], np.asarray(moved.weights[-1]) * (1 + 1e-6)])
    assert not same_fiber(network, other) and same_fiber(network, other, tol=1e-4)
    assert not same_orbit(network, other)


def test_one_fibre_holds_several_orbits():
    # three scalars with product 0: which weights vanish tells the orbits apart, and nothing else does
    points = [Network([[[a]], [[b]], [[c]]]) for a, b, c in [(0, 0, 0), (2, 0, 0), (5, 0, 0), (0, 3, 0), (2, 3, 0)]]
    assert all(same_fiber(points[0], point) for point in points)
    orbit = np.array([[same_orbit(a, b) for a in points] for b in points])
    expected = np.eye(5, dtype=bool)
    expected[1, 2] = expected[2, 1] = True
    np.testing.assert_array_equal(orbit, expected)
    # equal ranks, equal product, another kernel of the first layer: not one orbit
    a, b = (Network([[[x, y]], [[0.0]]]) for x, y in [(1.0, 0.0), (0.0, 1.0)])
    assert same_fiber(a, b) and np.array_equal(partial_ranks(a), partial_ranks(b)) and not same_orbit(a, b)
    # wide layers: the part of the hidden layer that the output does not see
    a = Network([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]])
    b = Network([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0]]])
    assert same_fiber(a, b) and not same_orbit(a, b)


def test_products_that_vanish_are_compared_at_the_size_of_their_layers():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((4, 3))
    left = np.linalg.svd(A)[0][:, 3:].T  # orthogonal to the range of A
    a, b = (Network([A * c, np.outer([1.0, 2.0], left[0])]) for c in (1.0, 7.0))
    assert float(np.abs(a.end_to_end - b.end_to_end).max()) > 0 and same_fiber(a, b)


@pytest.mark.parametrize("widths", [*SHAPES, (5, 3, 2, 4)])
@pytest.mark.parametrize("killed", [None, 1, -1])
def test_fibre_dimension_is_the_kernel_of_the_jacobian(widths, killed):
    network = network_of(3, widths)
    if killed is not None:  # a layer of lower rank
        weights = [np.asarray(W) for W in network.weights]
        weights[killed] = weights[killed] @ np.diag([1.0] * (weights[killed].shape[1] - 1) + [0.0])
        network = Network(weights)
    J = numpy_jacobian(network)
    assert fibre_dimension(network) == J.shape[1] - np.linalg.matrix_rank(J, tol=1e-9 * np.linalg.norm(J))


@pytest.mark.parametrize(("widths", "minima"), list(zip(SHAPES, [3, 21, 31, 4, 10], strict=True)))
def test_minima_form_a_manifold_of_the_known_dimension(widths, minima):
    # erratum 2: N - d_x d_y without bottleneck (3 < 4, 21 < 25, 31 < 32 of the survey's bound)
    r = min(widths)
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.2][: min(widths[0], widths[-1])], widths[0], widths[-1])
    network = dl.init.from_product(1, widths, objective.optimum_at_rank(r), condition=3.0)
    found = critical_set(objective, network)
    N = sum(W.size for W in network.weights)
    assert found.dimension == minima == N - r * (widths[0] + widths[-1] - r) == fibre_dimension(network)
    assert found.orbit_dimension <= minima
    assert found.gap[0] < 1e-12 and found.gap[1] > 0.1
    H = numpy_hessian(objective, network)
    basis = np.concatenate([np.asarray(V).reshape(minima, -1) for V in found.tangent.weights], axis=1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(minima), atol=1e-12)
    assert np.abs(basis @ H).max() < 1e-7 * np.abs(H).max()
    assert np.sum(np.abs(np.linalg.eigvalsh((H + H.T) / 2)) < 1e-6) == minima
    if r == min(widths[0], widths[-1]):
        assert np.abs(numpy_jacobian(network) @ basis.T).max() < 1e-12  # tangent to the fibre as well


def test_saddles_isolated_smooth_and_crossing():
    two = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    # erratum 3: an isolated critical point with a nonsingular Hessian
    isolated = critical_set(two, Network([np.zeros((2, 2))] * 2))
    assert isolated.dimension == 0 and isolated.tangent.weights[0].shape[0] == 0
    assert critical_set(two, Network([np.zeros((2, 2))] * 3)).dimension is None
    one = SquaredError.from_moments([[2.0]])
    line = critical_set(one, Network([[[0.7]], [[0.0]], [[0.0]]]))
    assert line.dimension == 1
    np.testing.assert_allclose(np.abs(np.concatenate([np.ravel(V) for V in line.tangent.weights])), [1, 0, 0])
    crossing = critical_set(one, Network([[[0.0]], [[0.0]], [[0.0]]]))
    assert crossing.dimension is None and crossing.tangent.weights[0].shape[0] == 3
    # a saddle of signature (1): its hidden change of basis is all there is
    saddle = critical_set(two, Network([[[2.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]))
    assert saddle.dimension == saddle.orbit_dimension == 3


def test_the_balanced_minimum_is_the_flattest():
    s, widths = np.array([3.0, 2.0, 0.5]), (4, 5, 6, 3)
    objective, h = SquaredError.from_singular_values(s, 4, 3), 3
    hessian = jax.jit(lambda x, unravel: jax.hessian(lambda y: objective(unravel(y).end_to_end))(x), static_argnums=1)
    highest = []
    for seed in range(12):
        network = dl.init.from_product(seed, widths, objective.optimum, condition=1.0 + 0.3 * seed)
        if seed % 2:  # off the orbit of the balanced one as well
            weights = [np.asarray(W) for W in network.weights]
            dead = np.linalg.svd(weights[0])[0][:, 3:]  # hidden directions that carry nothing
            weights[1] = weights[1] + np.random.default_rng(seed).standard_normal((6, 2)) @ dead.T
            network = Network(weights)
        x, unravel = jax.flatten_util.ravel_pytree(network)
        if seed == 0:
            fixed = unravel
        highest.append(float(np.linalg.eigvalsh(np.asarray(hessian(x, fixed)))[-1]))
        flat = balanced_representative(network)
        assert same_fiber(flat, network)
        assert max(np.abs(C).max() for C in quotient(flat).conserved) < 1e-13
        spectrum = np.linalg.eigvalsh(np.asarray(hessian(jax.flatten_util.ravel_pytree(flat)[0], fixed)))
        assert spectrum[-1] == pytest.approx(h * s[0] ** (2 - 2 / h), rel=1e-13)
        sigma = np.append(s, 0.0)  # an input without a mode
        closed = [
            sum(a ** (2 * (h - l) / h) * b ** (2 * (l - 1) / h) for l in range(1, h + 1)) for a in s for b in sigma
        ]
        np.testing.assert_allclose(spectrum[-12:], np.sort(closed), rtol=1e-12)
    bound = h * s[0] ** (2 - 2 / h)
    assert highest[0] == pytest.approx(bound, rel=1e-12)  # condition 1: rotated, still balanced
    assert min(highest[1:]) > bound * (1 + 1e-3)


def test_balanced_frames_follow_a_rotation_and_keep_a_balanced_network():
    balanced = dl.init.balanced(0, (4, 5, 3), scale=1.0)
    for V, W in zip(balanced_representative(balanced).weights, balanced.weights, strict=True):
        np.testing.assert_allclose(V, W, atol=1e-13)
    network, Q = network_of(5, (4, 5, 3)), np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]
    turned = balanced_representative(change_basis(network, [Q]))
    for V, W in zip(turned.weights, change_basis(balanced_representative(network), [Q]).weights, strict=True):
        np.testing.assert_allclose(V, W, atol=1e-12)


def test_the_quotient_along_a_flow_and_along_a_fibre():
    objective, start = SquaredError.from_singular_values([2.0, 1.0], 3, 2), network_of(2, (3, 4, 2), 0.5)
    run = dl.gradient_flow(objective, start, ts=[0.0, 2.0], rtol=1e-10)
    first, last = quotient(start), quotient(run[-1])
    np.testing.assert_allclose(first.conserved[0], last.conserved[0], atol=1e-9)
    assert np.abs(first.end_to_end - last.end_to_end).max() > 0.1
    moved = quotient(change_basis(start, bases_of(0, start.widths)))
    np.testing.assert_allclose(first.end_to_end, moved.end_to_end, atol=1e-12)
    assert np.abs(first.conserved[0] - moved.conserved[0]).max() > 0.1


def test_bad_questions_get_one_line():
    a = network_of(0, (2, 3, 2))
    for call, message in [
        (lambda: same_fiber(a, network_of(0, (2, 4, 2))), "`b`: has widths"),
        (lambda: same_orbit(a, a, tol=-1.0), "`tol`: got -1.0"),
        (lambda: same_orbit(*[network_of(0, (1, 46, 1))] * 2), "`a`: its changes of basis have 2116 entries"),
        (lambda: change_basis(a, []), "`bases`: got 0 matrices"),
        (lambda: change_basis(a, [np.eye(2)]), "`bases`: matrix 1 has shape"),
        (lambda: change_basis(a, [np.ones((3, 3))]), "`bases`: matrix 1 is singular"),
        (lambda: critical_set(SquaredError.from_moments(np.eye(2)), a), "`network`: is not a critical point"),
        (lambda: critical_set(SquaredError.from_moments([[1.0]]), network_of(0, (1, 1001, 1))), "`network`: has 2002"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
