"""Reductions against SciPy's integrator on the original problem, and against the vector field itself."""

import time
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from deeplinear import Network, SquaredError, init
from deeplinear.conventions import HALF_MEAN, LOSS_SCALES
from deeplinear.reduction import reduce

TIMES = np.array([0.0, 0.5, 1.5, 4.0])


def product(weights):
    W = weights[0]
    for above in weights[1:]:
        W = above @ W
    return W


def slopes(objective, weights):
    """-dL/dW_l in plain NumPy, layer by layer."""
    sigma_xx, sigma_yx = np.asarray(objective.sigma_xx), np.asarray(objective.sigma_yx)
    residual = float(objective.factor) * (sigma_yx - product(weights) @ sigma_xx)
    eye = lambda d: np.eye(d)
    return [
        product([eye(W.shape[0]), *weights[l + 1 :]]).T @ residual @ product([eye(weights[0].shape[1]), *weights[:l]]).T
        for l, W in enumerate(weights)
    ]


def flow(objective, network, times=TIMES):
    """Weights at every time, by DOP853 at the edge of float64."""
    shapes = [W.shape for W in network.weights]
    cuts = np.cumsum([r * c for r, c in shapes])[:-1]
    unpack = lambda y: [part.reshape(shape) for part, shape in zip(np.split(y, cuts), shapes, strict=True)]
    field = lambda t, y: np.concatenate([slope.ravel() for slope in slopes(objective, unpack(y))])
    start = np.concatenate([np.asarray(W).ravel() for W in network.weights])
    solution = solve_ivp(field, (0.0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-14)
    assert solution.success
    return [unpack(y) for y in solution.y.T]


def dense_bases(reduction):
    """P_0 .. P_h with the identity written out."""
    widths = reduction.widths_before
    return [np.eye(d) if P is None else np.asarray(P) for d, P in zip(widths, reduction._bases, strict=True)]


def gaussian(seed, widths, scale=0.4):
    rng = np.random.default_rng(seed)
    return Network([scale * rng.standard_normal((rows, columns)) for columns, rows in pairwise(widths)])


def data(seed, d_x, d_y, eigenvalues=None, rank=None, scale=HALF_MEAN):
    """Objective with sigma_yx of a rank and sigma_xx of given eigenvalues in a random basis, with noise in y."""
    rng = np.random.default_rng(seed)
    rank = min(d_x, d_y) if rank is None else rank
    optimum = rng.standard_normal((d_y, rank)) @ rng.standard_normal((rank, d_x)) / d_x**0.5
    if eigenvalues is None:
        return SquaredError.from_moments(optimum, None, np.sum(optimum**2) + 0.3, scale, count=7)
    E = np.linalg.qr(rng.standard_normal((d_x, d_x)))[0]
    sigma_xx = (E * np.asarray(eigenvalues, dtype=float)) @ E.T
    sigma_yx = optimum @ sigma_xx
    return SquaredError.from_moments(sigma_yx, sigma_xx, np.sum(optimum * sigma_yx) + 0.3, scale, count=7)


def with_zero(network, *layers):
    return Network([jnp.zeros_like(W) if l in layers else W for l, W in enumerate(network.weights, start=1)])


def unequal(network, objective):
    """The decoupled network with layers of unequal strength."""
    return Network([W * (0.5 + l) for l, W in enumerate(network.weights)])


rank_one, square = data(8, 9, 7, rank=1), data(5, 6, 6)
CASES = {  # objective, start, widths that the theory promises
    "wide hidden layer": (data(0, 3, 2), gaussian(0, (3, 20, 2)), (3, 5, 2)),
    "many inputs, whitened": (data(1, 25, 2), gaussian(1, (25, 4, 2)), (6, 4, 2)),
    "many inputs, low rank": (data(1, 25, 6, rank=1), gaussian(1, (25, 3, 6)), (4, 3, 4)),
    "many outputs": (data(2, 3, 21), gaussian(2, (3, 4, 21)), (3, 4, 7)),
    "many outputs, any sigma_xx": (data(2, 3, 21, [3.0, 2.0, 0.5]), gaussian(2, (3, 2, 4, 21)), (3, 2, 4, 7)),
    "one layer": (data(3, 8, 5, rank=1), with_zero(gaussian(3, (8, 5)), 1), (1, 1)),
    "one layer, singular": (data(3, 8, 5, [2, 1, 1, 0, 0, 0, 0, 0], rank=2), gaussian(3, (8, 5)), (3, 5)),
    "four layers": (data(4, 20, 2, rank=1), gaussian(4, (20, 3, 9, 12, 2)), (4, 3, 9, 11, 2)),
    "singular sigma_xx": (data(5, 12, 3, [4, 3, 2, 1] + [0] * 8), gaussian(5, (12, 5, 3)), (4, 5, 3)),
    "multiple of the identity": (data(6, 15, 2, [0.3] * 15), gaussian(6, (15, 3, 2)), (5, 3, 2)),
    "multiple of a projector": (data(6, 15, 2, [2.5] * 11 + [0] * 4), gaussian(6, (15, 3, 2)), (5, 3, 2)),
    "eigenspaces": (data(7, 16, 1, [2.0] * 8 + [1.0] * 7 + [0.4]), gaussian(7, (16, 2, 1)), (7, 2, 1)),
    "decoupled": (rank_one, init.decoupled(0, rank_one, (9, 6, 6, 7), [0.2] + [0.0] * 6), (1, 1, 1, 1)),
    "decoupled, unequal": (square, unequal(init.decoupled(0, square, (6, 30, 6), 0.1), square), (6, 6, 6)),
    "orthogonal": (data(10, 12, 2), init.orthogonal(1, (12, 9, 8, 2), 0.7), (7, 5, 4, 2)),
    "balanced": (data(8, 20, 9, rank=2), init.balanced(2, (20, 12, 3, 12, 9), 0.5), (5, 3, 3, 3, 5)),
    "first layer zero": (data(9, 12, 4), with_zero(gaussian(9, (12, 7, 4)), 1), (4, 4, 4)),
    "first and last layer zero": (data(9, 12, 4), with_zero(gaussian(9, (12, 7, 7, 4)), 1, 3), None),
    "all zero": (data(9, 12, 4, rank=2), with_zero(gaussian(9, (12, 7, 7, 4)), 1, 2, 3), (2, 2, 2, 2)),
    "nothing to learn": (SquaredError.from_moments(np.zeros((4, 12))), gaussian(9, (12, 3, 4)), (3, 3, 3)),
}
over_cases = pytest.mark.parametrize("name", CASES)


@over_cases
def test_smaller_flow_is_the_original_one(name):
    objective, network, widths = CASES[name]
    reduction = reduce(objective, network)
    assert not reduction.is_trivial and reduction.widths_before == network.widths
    assert widths is None or reduction.widths_after == widths
    for original, reduced in zip(flow(objective, network), flow(reduction.objective, reduction.network), strict=True):
        W, smaller = product(original), Network(reduced)
        for reached, expected in zip(reduction.lift(smaller).weights, original, strict=True):
            np.testing.assert_allclose(reached, expected, rtol=0, atol=1e-10 * (1 + np.abs(expected).max()))
        atol = 1e-10 * (1 + np.abs(W).max())
        np.testing.assert_allclose(reduction.lift_end_to_end(smaller), W, rtol=0, atol=atol)
        loss = float(objective(jnp.asarray(W)))
        np.testing.assert_allclose(float(reduction.objective(smaller.end_to_end)), loss, rtol=1e-9)


@over_cases
def test_the_original_flow_moves_in_the_subspaces_alone(name):
    objective, network, _ = CASES[name]
    bases = dense_bases(reduce(objective, network))
    moved = 0.0
    for P in bases:
        np.testing.assert_allclose(P.T @ P, np.eye(P.shape[1]), rtol=0, atol=1e-14)
    for weights in flow(objective, network):
        for W, W_0, (below, above) in zip(weights, network.weights, pairwise(bases), strict=True):
            change = W - np.asarray(W_0)
            inside = above @ (above.T @ change @ below) @ below.T
            np.testing.assert_allclose(change, inside, rtol=0, atol=1e-12 * (1 + np.abs(W).max()))
            moved = max(moved, np.abs(inside).max())
    assert moved > 0.01 or name in ("all zero", "first and last layer zero")


@pytest.mark.parametrize("scale", LOSS_SCALES.values(), ids=str)
@pytest.mark.parametrize("eigenvalues", [None, [2.0] * 9 + [1.0] * 3 + [0.0] * 4], ids=["whitened", "singular"])
def test_every_loss_scale_keeps_its_losses(scale, eigenvalues):
    objective = data(11, 16, 5, eigenvalues, rank=2, scale=scale)
    network = gaussian(11, (16, 2, 5))
    reduction = reduce(objective, network)
    assert reduction.widths_after[0] < 16 and reduction.widths_after[-1] == 4
    assert reduction.objective.scale == scale and float(reduction.objective.minimum) == float(objective.minimum) > 0
    for weights in flow(reduction.objective, reduction.network, TIMES[:3] / float(objective.factor)):
        smaller = Network(weights)
        W, reduced = reduction.lift(smaller).end_to_end, smaller.end_to_end
        size = float(objective(jnp.zeros_like(W)))
        np.testing.assert_allclose(float(reduction.objective(reduced)), float(objective(W)), rtol=1e-14)
        for max_rank in (None, 0, 1, 2):
            here = float(reduction.objective.excess(reduced, max_rank))
            np.testing.assert_allclose(here, float(objective.excess(W, max_rank)), rtol=1e-13, atol=1e-14 * size)
    for max_rank in range(5):
        least = float(reduction.objective.minimum_at_rank(max_rank))
        np.testing.assert_allclose(least, float(objective.minimum_at_rank(max_rank)), rtol=1e-13)


@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    rank=st.integers(0, 3),
    spectrum=st.sampled_from(["whitened", "multiple", "eigenspaces", "simple", "singular"]),
    start=st.sampled_from(["gaussian", "orthogonal", "balanced", "zero layer", "tiny"]),
    seed=st.integers(0, 999),
)
def test_vector_fields_agree_everywhere_in_the_subspaces(widths, rank, spectrum, start, seed):
    rng = np.random.default_rng(seed)
    d_x, d_y = widths[0], widths[-1]
    eigenvalues = {
        "whitened": None,
        "multiple": np.full(d_x, 3.0),
        "eigenspaces": rng.choice([0.0, 0.5, 2.0], d_x) + np.eye(d_x)[0],
        "simple": np.linspace(1, 2, d_x),
        "singular": np.where(np.arange(d_x) < 2, 1.5, 0.0),
    }[spectrum]
    objective = data(seed, d_x, d_y, eigenvalues, rank=min(rank, d_x, d_y))
    network = {
        "gaussian": lambda: gaussian(seed, widths),
        "orthogonal": lambda: init.orthogonal(seed, widths, 0.8),
        "balanced": lambda: init.balanced(seed, widths, 0.5),
        "zero layer": lambda: with_zero(gaussian(seed, widths), 1 + seed % (len(widths) - 1)),
        "tiny": lambda: gaussian(seed, widths, 1e-12),
    }[start]()
    reduction = reduce(objective, network)
    lifted = reduction.lift(reduction.network)
    for W, W_0 in zip(lifted.weights, network.weights, strict=True):
        np.testing.assert_array_equal(W, W_0)
    W = network.end_to_end
    expected, excess = float(objective(W)), float(objective.excess(W, network.max_rank))
    np.testing.assert_allclose(float(reduction.objective(reduction.network.end_to_end)), expected, rtol=1e-14)
    smaller_excess = float(reduction.objective.excess(reduction.network.end_to_end, reduction.network.max_rank))
    np.testing.assert_allclose(smaller_excess, excess, rtol=1e-13, atol=1e-14 * (1 + expected))
    # the flow can reach no other network than these, so that the fields agree means that the flows do
    shaken = Network([W + 0.5 * rng.standard_normal(W.shape) for W in map(np.asarray, reduction.network.weights)])
    original = [np.asarray(W) for W in reduction.lift(shaken).weights]
    smaller = slopes(reduction.objective, [np.asarray(W) for W in shaken.weights])
    size = np.prod([1 + np.linalg.norm(W) for W in original]) * (1 + np.linalg.norm(objective.sigma_xx))
    bases = dense_bases(reduction)
    for fast, slope, (below, above) in zip(smaller, slopes(objective, original), pairwise(bases), strict=True):
        np.testing.assert_allclose(above @ fast @ below.T, slope, rtol=0, atol=1e-13 * size)
    np.testing.assert_allclose(reduction.lift_end_to_end(shaken), product(original), rtol=0, atol=1e-13 * size)


def test_a_faint_direction_that_will_grow_is_kept():
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 8, 6)
    strengths = np.zeros((3, 3))
    np.fill_diagonal(strengths, [1e-1, 1e-60, 0.0])
    first, last = np.zeros((5, 8)), np.zeros((6, 5))
    first[:3, :3], last[:3, :3] = strengths, strengths
    reduction = reduce(objective, Network([first, last]))
    assert reduction.widths_after == (3, 3, 3)  # the third by its own right: the widths allow rank 3
    ends = [np.asarray(weights[0]) for weights in flow(reduction.objective, reduction.network, np.array([0.0, 80.0]))]
    assert np.linalg.matrix_rank(ends[0], 1e-70) == np.linalg.matrix_rank(ends[1], 1e-3) == 2


def test_rounding_in_the_start_is_no_direction():
    objective = data(12, 300, 4, rank=3)
    reduction = reduce(objective, init.orthogonal(3, (300, 200, 200, 4), 1e-2))
    assert reduction.widths_after == (10, 7, 7, 4)  # 3 rows of sigma_yx in and outside those of W_1, and 4 of W


def test_slow_search_settles_for_the_spans_of_the_layers():
    # one output: the least subspaces would grow by two dimensions a pass
    objective, network = data(13, 100, 1, np.linspace(1, 2, 100)), gaussian(13, (100, 160, 1))
    reduction = reduce(objective, network)
    assert reduction.widths_after == (100, 101, 1)
    weights = [np.asarray(W) for W in network.weights]
    for fast, slope, (below, above) in zip(
        slopes(reduction.objective, [np.asarray(W) for W in reduction.network.weights]),
        slopes(objective, weights),
        pairwise(dense_bases(reduction)),
        strict=True,
    ):
        np.testing.assert_allclose(above @ fast @ below.T, slope, rtol=0, atol=1e-13 * np.abs(slope).max())


def test_no_width_falls_below_the_rank_in_reach():
    objective = data(14, 10, 8, rank=5)
    stuck = Network([jnp.zeros((20, 10)), jnp.zeros((4, 20)), jnp.zeros((8, 4))])
    reduction = reduce(objective, stuck)
    assert reduction.widths_after == (5, 4, 4, 5) and reduction.network.max_rank == stuck.max_rank == 4


@pytest.mark.parametrize("widths", [(4, 5, 3), (784, 128, 3)])
def test_small_savings_are_left_alone(widths):
    objective = data(15, widths[0], 3, np.linspace(1, 2, widths[0]))
    network = gaussian(15, widths)
    reduction = reduce(objective, network)
    assert reduction.is_trivial and reduction.objective is objective and reduction.widths_after == widths
    assert reduction.lift(network) is network and "nothing to gain" in repr(reduction)
    np.testing.assert_array_equal(reduction.lift_end_to_end(network), network.end_to_end)


def test_end_to_end_matrix_alone_where_it_is_enough():
    objective, network, _ = CASES["many inputs, whitened"]
    reduction = reduce(objective, network)
    W = flow(reduction.objective, reduction.network)[-1]
    ends = reduction.lift_end_to_end(product(W)), reduction.lift_end_to_end(Network(W))
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-15 * np.abs(ends[0]).max())
    objective, network, _ = CASES["singular sigma_xx"]
    reduction = reduce(objective, network)
    with pytest.raises(ValueError, match="inputs that never occur"):
        reduction.lift_end_to_end(np.zeros((3, 4)))
    blind = reduce(objective, with_zero(network, 1))
    assert blind.lift_end_to_end(blind.network.end_to_end).shape == (3, 12)


def test_lift_maps_over_time_and_compiles():
    objective, network, _ = CASES["singular sigma_xx"]
    reduction = reduce(objective, network)
    history = [Network(weights) for weights in flow(reduction.objective, reduction.network)]
    stacked = jax.tree.map(lambda *W: jnp.stack(W), *history)
    lifted = jax.jit(jax.vmap(lambda r, n: r.lift(n), in_axes=(None, 0)))(reduction, stacked)
    ends = jax.vmap(reduction.lift_end_to_end)(stacked)
    for i, smaller in enumerate(history):
        np.testing.assert_allclose(lifted.weights[0][i], reduction.lift(smaller).weights[0], rtol=0, atol=1e-15)
        np.testing.assert_allclose(ends[i], reduction.lift_end_to_end(smaller), rtol=0, atol=1e-14)


def test_bad_input_is_named(without_annotations):
    objective, network, _ = CASES["wide hidden layer"]
    reduction = reduce(objective, network)
    with pytest.raises(ValueError, match=r"`objective`.*SquaredError"):
        reduce(jnp.sum, network)
    with pytest.raises(ValueError, match="`network`: maps 4 inputs"):
        reduce(objective, gaussian(0, (4, 2)))
    for lift in (reduction.lift, reduction.lift_end_to_end):
        with pytest.raises(ValueError, match=r"`reduced`: has widths \(3, 20, 2\)"):
            lift(network)
    with pytest.raises(ValueError, match=r"`reduced`: has widths \(2, 2\)"):
        reduction.lift_end_to_end(np.zeros((2, 2)))


def test_no_inputs_at_all():
    objective = SquaredError.from_moments(np.zeros((2, 30)), np.zeros((30, 30)))
    assert reduce(objective, gaussian(0, (30, 3, 2))).is_trivial


@pytest.mark.slow
def test_a_million_inputs():
    rng = np.random.default_rng(16)
    sigma_yx = rng.standard_normal((10, 10)) @ rng.standard_normal((10, 1_000_000)) / 1e3
    objective = SquaredError(sigma_yx, 0.0, 1.0, None, None, HALF_MEAN)
    network = gaussian(16, (1_000_000, 4, 10), 1e-3)
    reduction = reduce(objective, network)
    assert reduction.widths_after == (14, 4, 10)
    loss, reduced = float(objective(network.end_to_end)), float(reduction.objective(reduction.network.end_to_end))
    np.testing.assert_allclose(reduced, loss, rtol=1e-13)


@pytest.mark.slow
def test_a_million_neurons():
    objective, network = data(17, 100, 50), gaussian(17, (100, 1_000_000, 50), 1e-4)
    began = time.perf_counter()
    reduction = reduce(objective, network)
    assert reduction.widths_after == (100, 150, 50)
    loss = float(objective(network.end_to_end))
    np.testing.assert_allclose(float(reduction.objective(reduction.network.end_to_end)), loss, rtol=1e-13)
    lifted = reduction.lift(Network([1.5 * W for W in reduction.network.weights]))
    assert time.perf_counter() - began < 120  # of two cores that others may share
    for W, W_0 in zip(lifted.weights, network.weights, strict=True):
        np.testing.assert_allclose(W, 1.5 * W_0, rtol=0, atol=1e-14)
