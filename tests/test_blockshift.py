"""The block algebra of adjacency matrices against dense matrices over all nodes, written out from the survey."""

import time
import tracemalloc
from itertools import combinations, product

import jax
import numpy as np
import pytest
from brute import slopes
from dense_blocks import SEEDS, WIDTHS, assert_close, dense_of, power, random_adjacency, random_target
from hypothesis import given

import deeplinear as dl
from deeplinear import blockshift as bs
from deeplinear import curvature
from deeplinear._linalg import one_thread

# --- blocks ------------------------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS)
def test_adjacency_and_back(widths, seed):
    A = random_adjacency(np.random.default_rng(seed), widths)
    network = dl.Network(A.layers)
    assert bs.adjacency(network).network.widths == widths
    np.testing.assert_array_equal(bs.adjacency(network).dense(), dense_of(A.layers))
    for W, back in zip(network.weights, bs.adjacency(network).network.weights, strict=True):
        np.testing.assert_array_equal(W, back)


@given(WIDTHS, SEEDS)
def test_powers_are_products_of_neighbours_and_vanish_beyond_the_depth(widths, seed):
    A = random_adjacency(np.random.default_rng(seed), widths)
    dense, h = dense_of(A.layers), A.depth
    for k in range(h + 1):
        found = A**k
        assert_close(found, power(dense, k), power(np.abs(dense), k).max())
        assert set(found.blocks) == {(m + k, m) for m in range(h + 1 - k)}
        for m, block in enumerate(found.diagonal(k)):
            truth = np.eye(widths[m])
            for W in A.layers[m : m + k]:
                truth = W @ truth
            assert_close(block, truth, power(np.abs(dense), k).max())
    assert (A ** (h + 1)).blocks == {} and not power(dense, h + 1).any()


@given(WIDTHS, SEEDS)
def test_block_algebra_is_that_of_dense_matrices(widths, seed):
    rng = np.random.default_rng(seed)
    layers = range(len(widths))

    def scattered():
        chosen = [key for key in product(layers, layers) if rng.random() < 0.4]
        return bs.BlockMatrix(widths, {(l, m): rng.standard_normal((widths[l], widths[m])) for l, m in chosen})

    F, G = scattered(), scattered()
    f, g = F.dense(), G.dense()
    assert_close(F @ G, f @ g, size=np.abs(f @ g).max() + 1)
    assert_close(F + G, f + g)
    assert_close(F - 2.5 * G, f - 2.5 * g)
    assert_close(-F.T, -f.T)
    assert_close(F**3, power(f, 3), size=np.abs(power(f, 3)).max() + 1)
    assert_close(F.inner(G), np.sum(f * g), size=np.linalg.norm(f) * np.linalg.norm(g))
    assert_close(F.norm(), np.linalg.norm(f))
    assert_close(bs.commutator(F, G), f @ g - g @ f, size=np.abs(f @ g).max() + np.abs(g @ f).max() + 1)
    assert_close(bs.identity(widths) @ F, f)


def test_blk_places_blocks_on_any_diagonal():
    blocks = [np.full((2, 3), 1.0), np.full((4, 5), 2.0)]  # layers 3, 5, 2, 4
    dense = bs.blk(2, blocks).dense()
    assert bs.blk(2, blocks).widths == (3, 5, 2, 4)
    assert (dense[8:10, :3] == 1).all() and (dense[10:, 3:8] == 2).all()
    assert np.count_nonzero(dense) == 6 + 20
    assert bs.blk(0, [np.eye(2), np.eye(3)]).dense().tolist() == np.eye(5).tolist()
    assert bs.blk(3, [np.ones((2, 4))], (4, 7, 9, 2))[3, 0].shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bs.blk(3, [np.ones((2, 4))]), "`widths`: are needed"),
        (lambda: bs.blk(1, [np.ones((2, 4))], (4, 2, 1)), "`k`: got 1 and 1 blocks for 3 layers"),
        (lambda: bs.blk(-1, [np.ones((2, 4))]), "`k`: got -1"),
        (lambda: bs.blk(1, [np.ones((2, 4)), np.ones((3, 3))]), "`blocks`: block"),
        (lambda: bs.BlockMatrix((2, 1), {(2, 0): np.ones((1, 2))}), "layers are numbered 0 to 1"),
        (lambda: bs.identity((2, 1)).layers, r"`A`: has a block \(0, 0\)"),
        (lambda: bs.identity((2, 1)) @ bs.identity((1, 2)), "`widths`"),
        (lambda: bs.identity((2, 1)) ** -1, "`k`: got -1"),
        (lambda: bs.rho(bs.blk(1, [[[1.0]]]), bs.blk(1, [[[1.0]]]), -1), "`k`: got -1"),
        (lambda: bs.rho(bs.blk(1, [[[1.0]]]), bs.blk(1, [[[1.0, 2.0]]]), 1), "`V`: has widths"),
        (lambda: bs.mixed_product(bs.blk(1, [[[1.0]]]), bs.blk(1, [[[1.0]]]), (2,)), "`positions`: got"),
        (lambda: bs.change_of_basis([[[0.0]]], (1, 1, 1)), "is singular"),
        (lambda: bs.change_of_basis([], (1, 1, 1)), "`hidden`: has 0 matrices"),
    ],
)
def test_bad_input_is_one_line(make, message, without_annotations):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- words ---------------------------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS)
def test_mixed_products(widths, seed):
    rng = np.random.default_rng(seed)
    F, G = random_adjacency(rng, widths), random_adjacency(rng, widths)
    f, g, h = dense_of(F.layers), dense_of(G.layers), F.depth
    for j in range(1, h + 1):  # (1)
        size = (power(np.abs(f), h - j) @ np.abs(g) @ power(np.abs(f), j - 1)).max()
        assert_close(bs.mixed_product(F, G, (j,)), power(f, h - j) @ g @ power(f, j - 1), size)
        assert_close(bs.mixed_product(F, G, (j,)), (F ** (h - j) @ G @ F ** (j - 1)).dense(), size)
    for k in range(1, h + 1):  # (2)
        for j in range(1, h + 1 - k):
            word = lambda f, g, j=j, k=k: power(f, h - j - k) @ g @ power(f, j - 1) @ g @ power(f, k - 1)
            assert_close(bs.mixed_product(F, G, (k, j + k)), word(f, g), word(np.abs(f), np.abs(g)).max())


def rho_by_words(a, v, h, k):
    """Table 1 with k + 1 exponents: every word of h letters, k of them v."""
    total = np.zeros_like(a)
    for places in combinations(range(h), k):
        word = np.eye(len(a))
        for l in range(h):
            word = (v if l in places else a) @ word
        total += word
    return total


@given(WIDTHS, SEEDS)
def test_rho_is_the_sum_over_words(widths, seed):
    rng = np.random.default_rng(seed)
    A, V = random_adjacency(rng, widths), random_adjacency(rng, widths)
    a, v, h = dense_of(A.layers), dense_of(V.layers), A.depth
    terms = bs.variations(A, V)
    assert len(terms) == h + 1
    size = np.abs(rho_by_words(np.abs(a), np.abs(v), h, h // 2)).max()
    for k in range(h + 1):
        assert_close(bs.rho(A, V, k), rho_by_words(a, v, h, k), size)
        np.testing.assert_allclose(terms[k].dense(), bs.rho(A, V, k).dense(), rtol=0, atol=1e-14 * size)
    assert bs.rho(A, V, h + 1).blocks == {}
    moved = sum((0.37**k * term.dense() for k, term in enumerate(terms)), start=np.zeros_like(a))
    assert_close(moved, power(a + 0.37 * v, h), size)


def exact(rng, shape):
    """Small integers: sums over words are exact, so that a wrong index range cannot hide behind a tolerance."""
    return rng.integers(-3, 4, shape).astype(float)


def test_rho_2_has_the_index_ranges_of_21_and_rho_k_k_plus_1_exponents():
    rng, widths = np.random.default_rng(0), (3, 2, 4, 3, 2, 2)
    shapes = list(zip(widths[1:], widths, strict=False))
    A, V = (bs.blk(1, [exact(rng, shape) for shape in shapes]) for _ in range(2))
    a, v, h = A.dense(), V.dense(), A.depth
    truth = sum(
        power(a, i) @ v @ power(a, j) @ v @ power(a, h - 2 - i - j) for i in range(h - 1) for j in range(h - 1 - i)
    )
    np.testing.assert_array_equal(bs.rho(A, V, 2).dense(), truth)

    def with_exponents(count, k):  # A^{k_1} V A^{k_2} ... V A^{k_count}, exponents that add up to h - k
        total = np.zeros_like(a)
        for exponents in product(range(h - k + 1), repeat=count):
            if sum(exponents) == h - k:
                word = power(a, exponents[0])
                for exponent in exponents[1:]:
                    word = word @ v @ power(a, exponent)
                total += word
        return total

    for k in range(1, h + 1):
        np.testing.assert_array_equal(bs.rho(A, V, k).dense(), with_exponents(k + 1, k))
        printed = with_exponents(h, k)  # table 1 as printed: h exponents
        assert np.array_equal(bs.rho(A, V, k).dense(), printed) == (k == h - 1)
    assert np.abs(bs.rho(A, V, 2).dense()).max() > 100


def test_hessian_form_of_22_is_the_second_derivative_without_a_half():
    widths = (4, 5, 3)
    rng = np.random.default_rng(1)
    A, V, E = random_adjacency(rng, widths), random_adjacency(rng, widths), random_target(rng, widths)
    objective = dl.SquaredError.from_moments(E[2, 0])
    first, second, gap = bs.rho(A, V, 1), bs.rho(A, V, 2), E - A**2
    form = first.inner(first) - 2 * second.inner(gap)
    image = curvature.hvp(objective, A.network, V.network)
    assert float(form) == pytest.approx(float(bs.adjacency(image).inner(V)), rel=1e-13)
    # the first variation is minus the inner product with the gap, and the loss is a polynomial in epsilon
    at = lambda e: float(bs.loss(A + e * V, E))
    slope = (at(-2.0) - 8 * at(-1.0) + 8 * at(1.0) - at(2.0)) / 12  # exact for a quartic
    curve = (-at(-2.0) + 16 * at(-1.0) - 30 * at(0.0) + 16 * at(1.0) - at(2.0)) / 12
    assert slope == pytest.approx(-float(first.inner(gap)), rel=1e-12)
    assert curve == pytest.approx(float(form), rel=1e-12)


# --- loss, flow, commutator ----------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS)
def test_loss_and_flow_in_terms_of_the_adjacency_matrix(widths, seed):
    rng = np.random.default_rng(seed)
    A, E = random_adjacency(rng, widths), random_target(rng, widths)
    a, e, h = dense_of(A.layers), E.dense(), A.depth
    gap = e - power(a, h)
    largest = np.abs(e) + power(np.abs(a), h)
    assert_close(bs.loss(A, E), np.linalg.norm(gap) ** 2 / 2, np.linalg.norm(largest) ** 2)
    pulled = lambda a, gap: sum(power(a, h - j).T @ gap @ power(a, j - 1).T for j in range(1, h + 1))
    size = pulled(np.abs(a), largest).max()
    assert_close(bs.flow(A, E), pulled(a, gap), size)
    for found, slope in zip(bs.flow(A, E).layers, slopes(list(A.layers), E[h, 0], np.eye(widths[0])), strict=True):
        assert_close(found, slope, size)


@given(WIDTHS, SEEDS)
def test_flow_is_minus_the_derivative_of_the_loss(widths, seed):
    rng = np.random.default_rng(seed)
    A, V, E = random_adjacency(rng, widths), random_adjacency(rng, widths), random_target(rng, widths)
    step = 1e-30j  # a complex step: no difference is taken
    moved, gap = [W + step * D for W, D in zip(A.layers, V.layers, strict=True)], E[A.depth, 0]
    W = moved[0]
    for layer in moved[1:]:
        W = layer @ W
    derivative = float((np.sum((gap - W) ** 2) / 2).imag / 1e-30)
    size = float(bs.flow(A, E).norm() * V.norm())
    assert_close(-bs.flow(A, E).inner(V), derivative, size)
    assert_close(bs.pullback(A, E).inner(V), E.inner(bs.rho(A, V, 1)), size=float(bs.pullback(A, E).norm() * V.norm()))


@given(WIDTHS, SEEDS)
def test_rate_of_the_commutator_in_all_forms_of_19(widths, seed):
    rng = np.random.default_rng(seed)
    A, E = random_adjacency(rng, widths), random_target(rng, widths)
    a, e, h = dense_of(A.layers), E.dense(), A.depth
    slope, bracket = bs.flow(A, E).dense(), lambda x, y: x @ y - y @ x
    M, top = e - power(a, h), power(a, h)
    truth = slope @ a.T + a @ slope.T - slope.T @ a - a.T @ slope
    size = np.linalg.norm(slope) * np.linalg.norm(a)
    assert_close(bs.commutator_rate(A, E), truth, size)
    first = sum(
        power(a, h - j).T @ bracket(M, a.T) @ power(a, j - 1).T + power(a, j - 1) @ bracket(a, M.T) @ power(a, h - j)
        for j in range(1, h + 1)
    )
    assert_close(first, truth, size)
    second = bracket(M, top.T)
    assert_close(second + second.T, truth, size)
    third = bracket(top, e.T)
    assert_close(third + third.T - 2 * bracket(top, top.T), truth, size)
    printed = third + third.T + 2 * bracket(top, top.T)  # erratum: off by 4 [A^h, (A^h)^T]
    assert np.linalg.norm(printed - truth) > 0.99 * 4 * np.linalg.norm(bracket(top, top.T)) > 0
    # the symmetric part of the bracket is half of the rate
    assert_close((second + second.T) / 2, truth / 2, size)
    # only inputs and outputs: J Qdot = 0
    assert set(bs.commutator_rate(A, E).blocks) <= {(0, 0), (h, h)}
    inner = slice(widths[0], sum(widths) - widths[-1])
    assert_close(truth[inner, :], np.zeros_like(truth[inner, :]), size)


@given(WIDTHS, SEEDS)
def test_conserved_blocks_have_the_surveys_sign(widths, seed):
    A = random_adjacency(np.random.default_rng(seed), widths)
    a = dense_of(A.layers)
    Q = bs.commutator(A, A.T)
    assert_close(Q, a @ a.T - a.T @ a, size=np.linalg.norm(a) ** 2)
    assert set(Q.blocks) == {(l, l) for l in range(A.depth + 1)}
    assert set(bs.conserved(A).blocks) == {(l, l) for l in range(1, A.depth)}


def test_the_survey_and_the_diagnostic_have_opposite_signs():
    A = random_adjacency(np.random.default_rng(4), (4, 5, 3))
    assert_close(bs.conserved(A)[1, 1], -np.asarray(dl.diagnostics.imbalance(A.network)[0]))


def test_a_batch_of_networks_goes_through_vmap_alone(without_annotations):
    batch = jax.vmap(lambda key: dl.init.gaussian(key, (4, 5, 3), 0.7))(jax.random.split(jax.random.key(0), 3))
    radii = jax.vmap(lambda network: bs.numerical_radius(bs.adjacency(network)))(batch)
    for radius, network in zip(radii, (jax.tree.map(lambda W, i=i: W[i], batch) for i in range(3)), strict=True):
        assert_close(radius, bs.numerical_radius(bs.adjacency(network)))
    with pytest.raises(ValueError, match="`network`: has weights with a leading axis"):
        bs.adjacency(batch)


def test_compiles_and_differentiates():
    network = dl.init.gaussian(0, (4, 5, 3), 0.7)
    E = random_target(np.random.default_rng(2), (4, 5, 3))
    compiled = jax.jit(
        lambda network: (lambda A: (bs.loss(A, E), bs.numerical_radius(A), bs.rho(A, A, 1)))(bs.adjacency(network))
    )
    value, radius, first = compiled(network)
    A = bs.adjacency(network)
    assert_close(value, bs.loss(A, E))
    assert_close(radius, bs.numerical_radius(A))
    assert_close(first, 2 * (A**2).dense())
    gradient = jax.grad(lambda network: bs.loss(bs.adjacency(network), E))(network)
    assert_close(-bs.adjacency(gradient), bs.flow(A, E).dense())


# --- size ------------------------------------------------------------------------------------------------------------


def test_five_hundred_nodes_take_a_fraction_of_a_second():
    rng, widths = np.random.default_rng(0), (100,) * 5
    A, V, E = random_adjacency(rng, widths), random_adjacency(rng, widths), random_target(rng, widths)
    with one_thread():  # on a busy machine OpenBLAS's threads wait for each other for seconds
        start = time.process_time()
        bs.variations(A, V), bs.loss(A, E), bs.flow(A, E), bs.commutator_rate(A, E), bs.conserved(A), A**3
        bs.block_svd(A), bs.svd(A), bs.singular_values(A), bs.numerical_radius(A)
        assert time.process_time() - start < 0.5


def test_no_matrix_over_all_nodes_is_formed():
    rng, widths = np.random.default_rng(0), (20,) * 201  # 4,020 nodes: 129 MB for one such matrix
    layers = [rng.standard_normal((20, 20)) / 20**0.5 for _ in range(200)]
    A, E = bs.blk(1, layers), random_target(rng, widths)
    tracemalloc.start()
    (
        bs.rho(A, A, 2),
        bs.loss(A, E),
        bs.flow(A, E),
        bs.commutator(A, A.T),
        bs.commutator_rate(A, E),
        bs.block_svd(A),
        A**5,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
