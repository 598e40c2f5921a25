"""Sensing and completion: flows to their minima, thin networks, the least nuclear norm, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_network

import deeplinear as dl
from deeplinear import gradient_flow
from deeplinear.flows import velocity
from deeplinear.running.landmarks import landmarks

SIZE, RANK, SEEN = 30, 2, 360  # 40 % of the entries


def low_rank(size=SIZE, rank=RANK, seen=SEEN, seed=0):
    """A matrix with entries of variance 1, and the places of its observed entries."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((size, rank)) @ rng.standard_normal((rank, size))
    places = np.stack(np.unravel_index(rng.permutation(size * size)[:seen], W.shape), axis=1)
    return size * W / np.linalg.norm(W), places


def observed(W, places, **options):
    return dl.MatrixCompletion(W[places[:, 0], places[:, 1]], places, W.shape, **options)


@pytest.mark.parametrize(("depth", "recovers"), [(3, True), (1, False)])
def test_depth_recovers_a_matrix_of_rank_two_from_40_percent(depth, recovers):
    W, places = low_rank()
    start = dl.init.gaussian(0, (SIZE,) * (depth + 1), 1e-3 ** (1 / depth) * SIZE**-0.5)
    trajectory = gradient_flow(observed(W, places), start, rtol=1e-3, tolerance=1e-8, keep=20)
    assert trajectory.ending.kind == "global minimum"
    found = np.asarray(trajectory.end_to_end[-1])
    error = np.linalg.norm(found - W) / np.linalg.norm(W)
    assert np.linalg.norm((found - W)[places[:, 0], places[:, 1]]) < 2e-4 * np.linalg.norm(W)
    assert error < 1e-3 if recovers else error > 0.7


def test_the_flow_of_completion_is_that_of_its_dense_form():
    W, places = low_rank(8, 2, 20)
    sparse = observed(W, places)
    mask = np.zeros(W.shape)
    mask[places[:, 0], places[:, 1]] = 1
    dense = lambda M: jnp.sum(mask * (M - W) ** 2) / (2 * len(places))
    start = random_network((8, 5, 8))
    ts = np.array([1.0, 10.0, 50.0])
    one, other = (gradient_flow(objective, start, ts, rtol=1e-10).end_to_end for objective in (sparse, dense))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_thin_networks_see_the_gradient_in_factors():
    """Few of many entries, and a narrow layer: no matrix of the size of W in the compiled field."""
    rng = np.random.default_rng(0)
    size, k = 300, 4
    places = np.stack(np.unravel_index(rng.choice(size * size, 900, replace=False), (size, size)), axis=1)
    objective = dl.MatrixCompletion(rng.standard_normal(900), places, (size, size))
    network = random_network((size, 7, k, size))
    plain = lambda W: objective(W)
    found, truth = velocity(objective, network), velocity(plain, network)
    for one, other in zip(found.weights, truth.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * float(jnp.abs(other).max()))
    whole = f"f64[{size},{size}]"
    text = lambda f: jax.jit(lambda network: velocity(f, network)).lower(network).compile().as_text()
    assert whole in text(plain) and whole not in text(objective)
    wide = random_network((size, 80, size))
    assert not objective.is_thin(80)
    for one, other in zip(velocity(objective, wide).weights, velocity(plain, wide).weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * float(jnp.abs(other).max()))


def test_two_thousand_rows_and_columns_take_memory_for_the_observed_alone():
    rng = np.random.default_rng(0)
    size, seen = 2000, 20_000
    places = rng.integers(0, size, (seen, 2))
    objective = dl.MatrixCompletion(rng.standard_normal(seen), places, (size, size))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(objective)) <= 4 * 8 * seen + 8
    network = random_network((size, 5, size), scale=0.03)
    trajectory = gradient_flow(objective, network, ts=[10.0, 2000.0], rtol=1e-3)
    losses = [float(objective(W)) for W in trajectory.end_to_end]
    assert losses[1] < losses[0] < 1.01 * float(objective(network.end_to_end))
    assert trajectory.ending.kind == "time" and trajectory.ending.excess is None


def test_endings_claim_a_minimum_only_where_one_is_known():
    rng = np.random.default_rng(1)
    B, y = rng.standard_normal((6, 3, 4)), rng.standard_normal(6)
    objective = dl.MatrixSensing(B, y)
    wide = gradient_flow(objective, random_network((4, 5, 3)), tolerance=1e-10)
    assert wide.ending.kind == "global minimum" and 0 <= wide.ending.excess < 1e-9
    narrow = gradient_flow(objective, random_network((4, 1, 3)), ts=[500.0])
    assert narrow.ending.kind == "time" and narrow.ending.excess is None
    with pytest.raises(ValueError, match="`ts`: is None, but the smallest loss is not known"):
        gradient_flow(objective, random_network((4, 1, 3)))
    zero = dl.Network([jnp.zeros((5, 4)), jnp.zeros((3, 5))])
    assert gradient_flow(objective, zero).ending.kind == "saddle"
    logistic = dl.Logistic(rng.standard_normal((9, 4)), rng.integers(0, 2, (9, 3)))
    with pytest.raises(ValueError, match="`ts`: is None, but the smallest loss is not known"):
        gradient_flow(logistic, zero)


def test_the_size_ahead_is_of_the_order_of_the_solution():
    W, places = low_rank()
    seen = np.linalg.norm(W[places[:, 0], places[:, 1]])
    start = random_network((SIZE, SIZE), scale=1e-6)
    assert landmarks(observed(W, places), start).matrix_size == pytest.approx(seen, rel=1e-12)


def test_the_least_nuclear_norm():
    pytest.importorskip("cvxpy")
    W, places = low_rank(12, 1, 90)
    found = dl.minimum_nuclear_norm(observed(W, places), accuracy=1e-8)
    np.testing.assert_allclose(found[places[:, 0], places[:, 1]], W[places[:, 0], places[:, 1]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, W, rtol=0, atol=1e-5)  # enough entries for exact recovery
    # [[1, a], [b, w]] with a b = .25: least for w = .25
    small = dl.minimum_nuclear_norm(dl.MatrixCompletion([1.0, 0.5, 0.5], [[0, 0], [0, 1], [1, 0]]), accuracy=1e-9)
    grid = np.linspace(-1, 1, 2001)
    norms = [np.linalg.svd([[1.0, 0.5], [0.5, w]], compute_uv=False).sum() for w in grid]
    assert small[1, 1] == pytest.approx(grid[np.argmin(norms)], abs=1e-3)
    assert np.linalg.svd(small, compute_uv=False).sum() == pytest.approx(min(norms), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: dl.MatrixSensing(np.ones((2, 3)), [1.0, 2.0]),
            r"^`B`: has shape \(2, 3\); give an array \(n, d_y, d_x\)",
        ),
        (lambda: dl.MatrixSensing(np.ones((2, 3, 3)), [1.0]), r"^`y`: has 1 values, but there are 2 measurements"),
        (lambda: dl.MatrixSensing(np.ones((0, 3, 3)), []), r"^`B`: has shape \(0, 3, 3\).* no empty axis"),
        (lambda: dl.MatrixSensing([[["a"]]], [1.0]), r"^`B`: has the text 'a'; give real numbers"),
        (lambda: dl.MatrixSensing([[[np.nan]]], [1.0]), r"^`B`: has nan at place \(1, 1, 1\); drop or fill them first"),
        (lambda: dl.MatrixSensing.rank_one([[1.0]], [[1.0], [2.0]], [1.0]), r"^`V`: has 2 rows, but U has 1"),
        (lambda: dl.MatrixSensing.entries([0], [0, 1], [1.0], (2, 2)), r"^`column`: has 2 numbers, but row has 1"),
        (
            lambda: dl.MatrixSensing.entries([2], [0], [1.0], (2, 2)),
            r"^`row`: has the value 2; rows are numbered 0 to 1",
        ),
        (lambda: dl.MatrixCompletion([1.0], [[0, -1]], (2, 2)), r"^`observed`: has the value -1; columns are numbered"),
        (lambda: dl.MatrixCompletion([1.0], [[0.5, 0]], (2, 2)), r"^`observed`: .*give whole numbers"),
        (lambda: dl.MatrixCompletion([], np.zeros((0, 2), int), (2, 2)), r"^`values`: has shape \(0,\).*no empty axis"),
        (
            lambda: dl.MatrixCompletion([1.0, 2.0], [[0, 1]], (2, 2)),
            r"^`observed`: has shape \(1, 2\); give \(row, col",
        ),
        (lambda: dl.MatrixCompletion.of(np.ones((2, 2)), np.ones((2, 3), bool)), r"^`mask`: has shape \(2, 3\)"),
        (
            lambda: dl.MatrixCompletion.of(np.ones((2, 2)), np.zeros((2, 2), bool)),
            r"^`mask`: is False everywhere; a loss needs",
        ),
        (lambda: dl.Logistic([[1.0]], [-1]), r"^`y`: has the value -1; give 0 and 1, .*map -1 to 0"),
        (lambda: dl.Logistic([[1.0]], [0, 1]), r"^`y`: has 2 rows, but X has 1"),
        (lambda: dl.CrossEntropy([[1.0]], [3], classes=3), r"^`labels`: has the value 3; classes are numbered 0 to 2"),
        (lambda: dl.CrossEntropy([[1.0]], [-1]), r"^`labels`: has the value -1; classes are numbered"),
        (lambda: dl.CrossEntropy([[1.0]], [0.5]), r"^`labels`: .*give whole numbers"),
        (lambda: dl.CrossEntropy([[1.0]], [[0.5, 0.2]]), r"^`labels`: row 0 adds up to 0.7"),
        (lambda: dl.CrossEntropy([[1.0]], [[1.5, -0.5]]), r"^`labels`: has the value 1.5; give probabilities"),
        (lambda: dl.CrossEntropy([[1.0]], [[0.5, 0.5]], classes=3), r"^`classes`: got 3, but the targets have 2"),
        (lambda: dl.Huber([[1.0]], [[1.0]], 0.0), r"^`delta`: got 0.0; give a finite number above 0"),
        (lambda: dl.Huber([[1.0]], [[1.0], [2.0]]), r"^`Y`: has 2 rows, but X has 1"),
        (lambda: dl.minimum_nuclear_norm(lambda W: W.sum()), r"^`objective`: got .*give a MatrixCompletion"),
        (
            lambda: gradient_flow(dl.Logistic([[1.0, 2.0]], [1]), dl.Network([[[1.0]]]), [1.0]),
            r"^`network`: maps 1 inputs to 1 outputs, but the objective has 2 and 1",
        ),
        (
            lambda: jax.jit(lambda places: dl.MatrixCompletion([1.0], places, (2, 2)).minimum)(jnp.array([[0, 0]])),
            r"^`observed`: is traced by JAX",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(make, message, without_annotations):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
