"""Random adjacency matrices, and the same as dense matrices over all nodes: the truth of tests of `blockshift`."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np

from deeplinear import blockshift as bs

WIDTHS = st.lists(st.integers(1, 6), min_size=2, max_size=6).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)


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
