"""The block algebra of adjacency matrices against dense matrices over all nodes, written out from the survey."""

import time
import tracemalloc
from fractions import Fraction
from itertools import combinations, pairwise, product

import hypothesis.strategies as st
import jax
import networkx
import numpy as np
import pytest
from brute import slopes
from hypothesis import given

import deeplinear as dl
from deeplinear import blockshift as bs
from deeplinear import curvature
from deeplinear._linalg import one_thread

WIDTHS = st.lists(st.integers(1, 6), min_size=2, max_size=6).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLE = (11, 6, 6, 6, 6, 4)  # the survey's section 6.1


def random_adjacency(rng, widths):
    return bs.blk(1, [rng.standard_normal((b, a)) for a, b in pairwise(widths)], widths)


def random_target(rng, widths):
    return bs.blk(len(widths) - 1, [rng.standard_normal((widths[-1], widths[0]))], widths)


def dense_of(layers):
    """A of (10), entry by entry."""
    widths = [layers[0].shape[1], *(W.shape[0] for W in layers)]
    starts = np.cumsum([0, *widths])
    A = np.zeros((starts[-1], starts[-1]))
    for l, W in enumerate(layers):
        A[starts[l + 1] : starts[l + 2], starts[l] : starts[l + 1]] = W
    return A


def power(A, k):
    return np.linalg.matrix_power(A, k)


def assert_close(found, truth, size=None, rtol=1e-13):
    """Equal to rounding, relative to the largest entry, or to `size` where terms may cancel."""
    found = found.dense() if isinstance(found, bs.BlockMatrix) else np.asarray(found)
    scale = np.abs(truth).max(initial=0.0) if size is None else size
    np.testing.assert_allclose(found, truth, rtol=0, atol=rtol * max(scale, 1e-300))


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


# --- decompositions and spectra ------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS)
def test_block_shift_svd(widths, seed):
    A = random_adjacency(np.random.default_rng(seed), widths)
    U, Lambda, V = bs.block_svd(A)
    assert_close(U @ Lambda @ V.T, dense_of(A.layers))
    assert set(U.blocks) == {(l, l) for l in range(1, A.depth + 1)} and set(V.blocks) == {
        (l, l) for l in range(A.depth)
    }
    for Q in (*U.blocks.values(), *V.blocks.values()):
        assert_close(Q.T @ Q, np.eye(len(Q)))
    for block, W in zip(Lambda.layers, A.layers, strict=True):
        assert block.shape == W.shape and not (block * (1 - np.eye(*W.shape))).any()
        assert_close(np.diagonal(block), np.linalg.svd(W, compute_uv=False))


@given(WIDTHS, SEEDS)
def test_standard_svd(widths, seed):
    A = random_adjacency(np.random.default_rng(seed), widths)
    a = dense_of(A.layers)
    U, s, V = bs.svd(A)
    assert_close((U * s) @ V.T, a)
    assert_close(U.T @ U, np.eye(len(a)))
    assert_close(V.T @ V, np.eye(len(a)))
    assert_close(s, np.linalg.svd(a, compute_uv=False))
    assert_close(bs.singular_values(A), s)
    assert np.count_nonzero(s == 0) == len(a) - sum(map(min, widths, widths[1:]))


@given(WIDTHS, SEEDS)
def test_numerical_range_is_a_disk_and_both_parts_have_its_spectrum(widths, seed):
    rng = np.random.default_rng(seed)
    A = random_adjacency(rng, widths)
    a = dense_of(A.layers)
    radius = float(bs.numerical_radius(A))
    for angle in (0.0, 0.3, 1.0, 2.2, np.pi):
        turned = np.exp(1j * angle) * a
        values = np.linalg.eigvalsh((turned + turned.conj().T) / 2)
        assert_close(bs.symmetric_spectrum(A), values, radius)
        assert values[-1] == pytest.approx(radius, rel=1e-13)
    assert_close(np.sort(np.linalg.eigvals((a - a.T) / 2).imag), bs.skew_spectrum(A).imag, radius, rtol=1e-12)
    assert not bs.skew_spectrum(A).real.any()
    x = rng.standard_normal((50, len(a))) + 1j * rng.standard_normal((50, len(a)))
    inside = np.abs(np.einsum("ni,ij,nj->n", x.conj(), a, x)) / np.sum(np.abs(x) ** 2, axis=1)
    assert (inside <= radius * (1 + 1e-14)).all()
    np.testing.assert_array_equal(bs.symmetric_spectrum(A), -bs.symmetric_spectrum(A)[::-1])


# --- changes of basis ------------------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS)
def test_change_of_basis(widths, seed):
    rng = np.random.default_rng(seed)
    A, V, E = random_adjacency(rng, widths), random_adjacency(rng, widths), random_target(rng, widths)
    h = A.depth
    P = bs.change_of_basis([np.eye(d) * 2 + 0.3 * rng.standard_normal((d, d)) for d in widths[1:-1]], widths)
    inv = bs.inverse(P)
    assert_close(P @ inv, np.eye(sum(widths)))
    p = P.dense()
    other = P @ A @ inv
    size = float(np.prod([np.linalg.norm(W) for W in A.layers])) * max(np.linalg.cond(p), 1.0) ** h
    assert_close(other, p @ A.dense() @ np.linalg.inv(p), rtol=1e-13 * np.linalg.cond(p))
    assert_close(other**h, (A**h).dense(), size, rtol=1e-15 * h)
    for k in range(h + 1):  # lemma 19
        assert_close(bs.rho(other, V, k), bs.rho(A, inv @ V @ P, k).dense(), size * 1e3, rtol=1e-15)
    rotation = bs.change_of_basis([np.linalg.qr(rng.standard_normal((d, d)))[0] for d in widths[1:-1]], widths)
    assert bs.orthogonality(rotation, tolerance=1e-13).holds
    turned = bs.flow(rotation @ A @ rotation.T, E)
    assert_close(turned, (rotation @ bs.flow(A, E) @ rotation.T).dense())
    if h > 1:  # not so for other changes of basis
        assert not bs.orthogonality(P).holds
        stretched = bs.flow(other, E).dense() - (P @ bs.flow(A, E) @ inv).dense()
        assert np.linalg.norm(stretched) > 1e-6 * float(bs.flow(A, E).norm())


def test_random_rotations_are_orthogonal_and_of_both_determinants():
    signs = set()
    for key in range(12):
        P = bs.random_rotation(key, (2, 3, 1, 4))
        assert bs.orthogonality(P, tolerance=1e-14).holds
        np.testing.assert_array_equal(P[0, 0], np.eye(2))
        np.testing.assert_array_equal(P[3, 3], np.eye(4))
        signs.add(round(np.linalg.det(P[1, 1])))
    assert signs == {-1, 1}


# --- graph -----------------------------------------------------------------------------------------------------------


def test_counts_of_the_surveys_example():
    assert bs.node_count(EXAMPLE) == 39 and bs.edge_count(EXAMPLE) == 198
    A = random_adjacency(np.random.default_rng(0), EXAMPLE)
    assert A.dense().shape == (39, 39) and np.count_nonzero(A.dense()) == 198
    graph = bs.to_networkx(A)
    assert graph.number_of_nodes() == 39 and graph.number_of_edges() == 198


@given(WIDTHS, SEEDS)
def test_networkx_graph(widths, seed):
    A = random_adjacency(np.random.default_rng(seed), widths)
    graph = bs.to_networkx(A)
    assert networkx.is_directed_acyclic_graph(graph)
    assert networkx.dag_longest_path_length(graph, weight=None) == A.depth
    np.testing.assert_array_equal(networkx.to_numpy_array(graph).T, A.dense())
    assert [node for node, layer in graph.nodes(data="layer") if layer == 0] == [(0, k + 1) for k in range(widths[0])]


def test_end_to_end_matrix_is_the_sum_over_paths():
    A = random_adjacency(np.random.default_rng(3), (2, 3, 2, 2))
    graph, W = bs.to_networkx(A), (A**3)[3, 0]
    for j, k in np.ndindex(W.shape):
        paths = networkx.all_simple_paths(graph, (0, k + 1), (3, j + 1))
        weights = [[graph.edges[edge]["weight"] for edge in pairwise(path)] for path in paths]
        assert len(weights) == 6
        total = sum((Fraction(a) * Fraction(b) * Fraction(c) for a, b, c in weights), start=Fraction(0))
        assert W[j, k] == pytest.approx(float(total), rel=1e-14, abs=1e-15)


# --- size ------------------------------------------------------------------------------------------------------------


def test_five_hundred_nodes_take_a_fraction_of_a_second():
    rng, widths = np.random.default_rng(0), (100,) * 5
    A, V, E = random_adjacency(rng, widths), random_adjacency(rng, widths), random_target(rng, widths)
    with one_thread():  # on a busy machine OpenBLAS's threads wait for each other for seconds
        start = time.process_time()
        bs.variations(A, V), bs.loss(A, E), bs.flow(A, E), bs.commutator_rate(A, E), bs.conserved(A), A**3
        bs.block_svd(A), bs.svd(A), bs.singular_values(A), bs.numerical_radius(A), bs.to_networkx(A)
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
