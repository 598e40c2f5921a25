"""Decompositions, spectra, changes of basis and the graph of adjacency matrices, against dense ones and networkx."""

from fractions import Fraction
from itertools import pairwise

import networkx
import numpy as np
import pytest
from dense_blocks import SEEDS, WIDTHS, assert_close, dense_of, random_adjacency, random_target
from hypothesis import given

from deeplinear import blockshift as bs

EXAMPLE = (11, 6, 6, 6, 6, 4)  # the survey's section 6.1

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
