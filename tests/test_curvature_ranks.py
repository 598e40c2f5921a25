"""Ranks of Hessians against dense ones over many shapes."""

from itertools import pairwise

import hessians
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplinear import curvature


def rank(matrix):
    values = np.abs(np.linalg.eigvalsh(matrix))
    largest = values.max(initial=0.0)
    counted = np.count_nonzero(values > 1e-9 * largest)
    # a gap that leaves no doubt
    assert largest == 0 or (values[values > 1e-9 * largest].min() > 1e-7 * largest), "ambiguous"
    return counted


def point(rng, widths, input_rank):
    layers = [np.linalg.qr(rng.standard_normal((max(a, b), min(a, b))))[0] for a, b in pairwise(widths)]
    layers = [Q if Q.shape == (b, a) else Q.T for Q, a, b in zip(layers, widths, widths[1:], strict=False)]
    layers = [W + 0.3 * rng.standard_normal(W.shape) / np.sqrt(max(W.shape)) for W in layers]
    frame = np.linalg.qr(rng.standard_normal((widths[0], input_rank)))[0]
    sigma_xx = frame @ np.diag(rng.uniform(0.5, 2.0, input_rank)) @ frame.T
    return layers, rng.standard_normal((widths[-1], widths[0])) @ sigma_xx, sigma_xx


@pytest.mark.parametrize(
    ("widths", "ranks"),
    [((25, 5, 10, 10), (150, 175, 250, 275)), ((3, 2), (6, 0, 6, 6)), ((5, 1, 5), (9, 10, 10, 10))],
)
def test_published_and_small_cases(widths, ranks):
    assert tuple(curvature.hessian_ranks(widths)) == ranks
    outer, functional = hessians.parts(*point(np.random.default_rng(0), widths, widths[0]))
    assert (rank(outer), rank(functional), rank(outer + functional), len(outer)) == ranks


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5), missing=st.integers(0, 3), seed=st.integers(0, 10**6)
)
def test_ranks_at_random_points(widths, missing, seed):
    input_rank = max(widths[0] - missing, 1)
    outer, functional = hessians.parts(*point(np.random.default_rng(seed), widths, input_rank))
    found = rank(outer), rank(functional), rank(outer + functional), len(outer)
    assert tuple(curvature.hessian_ranks(widths, input_rank)) == found


@given(widths=st.lists(st.integers(1, 5), min_size=2, max_size=5), target=st.integers(0, 5), seed=st.integers(0, 10**6))
def test_ranks_at_minima(widths, target, seed):
    d_x, d_y = widths[0], widths[-1]
    target = min(target, d_x, d_y)
    rng = np.random.default_rng(seed)
    s = np.sort(rng.uniform(0.5, 1.5, target))[::-1] + 1.5 * np.arange(target, 0, -1)
    U, V = (np.linalg.qr(rng.standard_normal((d, d)))[0][:, :target] for d in (d_y, d_x))
    m, h = min(target, *widths), len(widths) - 1
    layers = []
    for l, (below, above) in enumerate(pairwise(widths), start=1):
        W = np.zeros((above, below))
        W[:m, :m] = np.diag(s[:m] ** (1 / h))
        if h == 1:
            W = (U[:, :m] * s[:m]) @ V[:, :m].T
        elif l == 1:
            W = np.zeros((above, below))
            W[:m] = s[:m, None] ** (1 / h) * V[:, :m].T
        elif l == h:
            W = np.zeros((above, below))
            W[:, :m] = U[:, :m] * s[:m] ** (1 / h)
        layers.append(W)
    outer, functional = hessians.parts(layers, (U * s) @ V.T, np.eye(d_x))
    whole = outer + functional
    expected = curvature.rank_at_minimum(widths, target)
    values = np.linalg.eigvalsh(whole)
    assert values[0] > -1e-12
    assert np.count_nonzero(values > 1e-9) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curvature.hessian_ranks((3,)), "`widths`"),
        (lambda: curvature.hessian_ranks((3, 0, 2)), "`widths`"),
        (lambda: curvature.hessian_ranks((3, 2), 4), "`input_rank`: got 4"),
        (lambda: curvature.rank_at_minimum((3, 2), 3), "`target_rank`: got 3"),
        (lambda: curvature.rank_at_minimum((3, 2), 1, 0), "`input_rank`: got 0"),
    ],
)
def test_bad_input_gets_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
