"""Biases and skips as masks: against forward passes written out, finite differences, least squares and scipy."""

from itertools import pairwise

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, biased, curvature, data, gradient_flow, masks
from deeplinear.cli import _exit_code


def random_layers(widths, rng, scale=1.0):
    return [scale * rng.standard_normal((b, a)) for a, b in pairwise(widths)]


def forward(layers, biases, skips, x):
    """The network with biases and skips (source, target, B) at inputs in columns, layer by layer."""
    values = [x]
    for l, (W, b) in enumerate(zip(layers, biases, strict=True), start=1):
        y = W @ values[-1] + b[:, None]
        for source, target, B in skips:
            if target == l:
                y = y + B @ values[source]
        values.append(y)
    return values[-1]


def as_chain(layers, biases, skips, biases_first) -> tuple[Network, Network]:
    """The same as a plain chain with its mask."""
    network, mask = Network(layers), None
    if biases_first:
        network, mask = network.with_biases(biases)
    for source, target, B in skips:
        network, mask = network.with_skip(source, target, B, mask=mask)
    if biases_first and mask is not None:
        return network, mask
    return network.with_biases(biases, mask=mask)


@st.composite
def wired(draw):
    """Layers, biases and skips between any layers, at most one for each pair."""
    widths = draw(st.lists(st.integers(1, 4), min_size=3, max_size=6))
    depth, rng = len(widths) - 1, np.random.default_rng(draw(st.integers(0, 99)))
    pairs = [(s, t) for s in range(depth - 1) for t in range(s + 2, depth + 1)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=3, unique=True))
    skips = [(s, t, rng.standard_normal((widths[t], widths[s]))) for s, t in chosen]
    biases = [rng.standard_normal(d) for d in widths[1:]]
    return random_layers(widths, rng), biases, skips


@given(wired(), st.booleans())
def test_the_chain_is_the_network_and_comes_apart_again(parts, biases_first):
    layers, biases, skips = parts
    network, mask = as_chain(layers, biases, skips, biases_first)
    x = np.random.default_rng(1).standard_normal((layers[0].shape[1], 3))
    truth = forward(layers, biases, skips, x)
    W = brute.product([np.asarray(W) for W in network.weights])
    assert np.abs(W @ np.vstack([np.ones(3), x]) - truth).max() < 1e-12 * max(1.0, np.abs(truth).max())
    plain, found, ends = network.without_wires(mask)
    assert all(np.array_equal(a, b) for a, b in zip(plain.weights, layers, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(found, biases, strict=True))
    assert {(s.source, s.target) for s in ends} == {(s, t) for s, t, _ in skips}
    for skip in ends:
        known = next(B for s, t, B in skips if (s, t) == (skip.source, skip.target))
        assert np.array_equal(skip.matrix, known)
    # what learns is the weights and the biases, no more
    assert sum(int(m.sum()) for m in mask.weights) == sum(W.size for W in layers) + sum(b.size for b in biases)
    everything = {float(v) for part in (*layers, *biases) for v in part.ravel()}
    for W, m in zip(network.weights, mask.weights, strict=True):
        assert {float(v) for v in np.asarray(W)[np.asarray(m)]} <= everything


def loss_of_parts(X, Y, shapes, skips, learned=0):
    """Half-mean loss as a function of all weights and biases in one vector, and of the first `learned` skips."""
    sizes = [np.prod(shape) for shape in (*shapes, *((b,) for b, _ in shapes), *(B.shape for *_, B in skips[:learned]))]
    cuts, h = np.cumsum(sizes)[:-1].astype(int), len(shapes)

    def loss(theta):
        pieces = np.split(theta, cuts)
        layers = [piece.reshape(shape) for piece, shape in zip(pieces[:h], shapes, strict=True)]
        changed = [(s, t, piece.reshape(B.shape)) for (s, t, B), piece in zip(skips, pieces[2 * h :], strict=False)]
        predictions = forward(layers, pieces[h : 2 * h], changed + skips[learned:], X.T)
        return np.sum((predictions.T - Y) ** 2) / (2 * len(X))

    return loss


def slope(loss, theta, step=1e-20):
    """Gradient by the complex step, exact to rounding."""
    gradient = np.empty(theta.size)
    for i in range(theta.size):
        moved = theta.astype(complex)
        moved[i] += 1j * step
        gradient[i] = loss(moved).imag / step
    return gradient


WIDTHS = (3, 2, 3, 2, 2)
SHAPES = [(b, a) for a, b in pairwise(WIDTHS)]
RNG = np.random.default_rng(4)
LAYERS, BIASES = random_layers(WIDTHS, RNG, 0.6), [0.4 * RNG.standard_normal(d) for d in WIDTHS[1:]]
SKIPS = [(1, 3, np.eye(2)), (0, 3, RNG.standard_normal((2, 3))), (1, 4, RNG.standard_normal((2, 2)))]
X = RNG.standard_normal((9, 3)) + 0.5
Y = X @ RNG.standard_normal((3, 2)) + RNG.standard_normal((9, 2)) + 2.0
OBJECTIVE = SquaredError.of(data.with_constant(X), Y)
THETA = np.concatenate([part.ravel() for part in (*LAYERS, *BIASES)])


def velocity(objective, network, mask):
    """Minus the gradient of the chain, where it learns."""
    slopes = jax.grad(lambda chain: objective(chain.end_to_end))(network)
    return jax.tree.map(lambda m, G: jnp.where(m, -G, 0.0), mask, slopes)


def flat(parts):
    return np.concatenate([np.asarray(W).ravel() for W in (*parts.network.weights, *parts.biases)])


def test_the_masked_flow_is_the_gradient_of_the_network_with_biases_and_skips():
    network, mask = as_chain(LAYERS, BIASES, SKIPS, biases_first=False)
    moved = velocity(OBJECTIVE, network, mask)
    held = [np.asarray(V)[~np.asarray(m)] for V, m in zip(moved.weights, mask.weights, strict=True)]
    assert not np.concatenate(held).any()
    # the wires of the start say where the slope's weights and biases are
    weights = jax.tree.map(lambda m, V, W: jnp.where(m, V, W), mask, moved, network)
    truth = -slope(loss_of_parts(X, Y, SHAPES, SKIPS), THETA)
    assert np.abs(flat(weights.without_wires(mask)) - truth).max() < 1e-13 * np.abs(truth).max()


def test_the_masked_flow_is_scipys_flow_of_the_network_itself():
    network, mask = as_chain(LAYERS, BIASES, SKIPS, biases_first=True)
    ts = np.array([0.0, 0.3, 1.0])
    trajectory = gradient_flow(OBJECTIVE, network, ts, mask=mask, rtol=1e-10)
    field = lambda t, theta: -slope(loss_of_parts(X, Y, SHAPES, SKIPS), theta)
    truth = solve_ivp(field, (0, 1), THETA, "DOP853", ts, rtol=1e-11, atol=1e-13).y.T
    for k in range(len(ts)):
        found = flat(trajectory[k].without_wires(mask))
        assert np.abs(found - truth[k]).max() < 1e-9
    along = trajectory.networks.without_wires(mask)  # all times at once
    assert along.biases[1].shape == (3, 3)
    assert np.array_equal(along.biases[1][2], trajectory[2].without_wires(mask).biases[1])
    for s, skip in zip((0, 1, 1), sorted(along.skips, key=lambda skip: (skip.source, skip.target)), strict=True):
        assert skip.source == s and np.ptp(np.asarray(skip.matrix), axis=0).max() == 0


def test_masked_descent_is_the_descent_of_the_network_itself():
    network, mask = as_chain(LAYERS, BIASES, SKIPS, biases_first=True)
    end = dl.gradient_descent(OBJECTIVE, network, 0.01, 20, mask=mask)[-1]
    theta = THETA
    for _ in range(20):
        theta = theta - 0.01 * slope(loss_of_parts(X, Y, SHAPES, SKIPS), theta)
    assert np.abs(flat(end.without_wires(mask)) - theta).max() < 1e-13


def test_a_skip_that_learns():
    B = RNG.standard_normal((2, 2))
    network, mask = Network(LAYERS).with_skip(1, 3, B, learn=True)
    moved = velocity(SquaredError.of(X, Y), network, mask)
    weights = jax.tree.map(lambda m, V, W: jnp.where(m, V, W), mask, moved, network)
    zero = [np.zeros(d) for d in WIDTHS[1:]]
    theta = np.concatenate([part.ravel() for part in (*LAYERS, *zero, B)])
    truth = -slope(loss_of_parts(X, Y, SHAPES, [(1, 3, B)], learned=1), theta)
    (skip,) = weights.without_wires(mask).skips
    assert np.abs(np.asarray(skip.matrix).ravel() - truth[-4:]).max() < 1e-13 * np.abs(truth).max()


def test_the_hessian_under_the_mask_is_that_of_the_network_itself():
    network, mask = as_chain(LAYERS[:2], BIASES[:2], [(0, 2, np.eye(3))], biases_first=False)
    targets = Y @ RNG.standard_normal((2, 3))
    found = np.asarray(curvature.hessian(SquaredError.of(data.with_constant(X), targets), network, mask=mask))
    theta = np.concatenate([part.ravel() for part in (*LAYERS[:2], *BIASES[:2])])
    loss = loss_of_parts(X, targets, SHAPES[:2], [(0, 2, np.eye(3))])
    step, truth = 1e-6, []
    for i in range(theta.size):
        e = step * np.eye(theta.size)[i]
        truth.append((slope(loss, theta + e) - slope(loss, theta - e)) / (2 * step))
    eigenvalues = np.linalg.eigvalsh(np.array(truth))
    assert np.abs(np.linalg.eigvalsh(found) - eigenvalues).max() < 1e-7 * np.abs(eigenvalues).max()
    lowest = curvature.lowest_eigenvalue(SquaredError.of(data.with_constant(X), targets), network, mask=mask)
    assert float(lowest) == pytest.approx(eigenvalues[0], rel=1e-6)


def test_a_network_with_biases_reaches_the_least_squares_intercept():
    rng = np.random.default_rng(0)
    start = Network(random_layers((3, 4, 2), rng, 0.3))
    network, mask = start.with_biases()
    trajectory = gradient_flow(OBJECTIVE, network, mask=mask, tolerance=1e-14, rtol=1e-9, max_time=2000.0)
    assert trajectory.ending.kind == "global minimum"
    least_squares = np.linalg.lstsq(np.hstack([np.ones((9, 1)), X]), Y, rcond=None)[0].T
    W = np.asarray(trajectory[-1].end_to_end)
    polished = gradient_flow(OBJECTIVE, trajectory[-1], [400.0], mask=mask, rtol=1e-11)
    for found in (W, np.asarray(polished[-1].end_to_end)):
        assert np.abs(found - least_squares).max() < 1e-5
    assert np.abs(np.asarray(polished[-1].end_to_end)[:, 0] - least_squares[:, 0]).max() < 1e-8


def test_biases_leave_conserved_what_the_symmetry_of_neurons_conserves():
    network, mask = as_chain(LAYERS, BIASES, SKIPS, biases_first=True)
    trajectory = gradient_flow(OBJECTIVE, network, np.linspace(0, 2, 3), mask=mask, rtol=1e-10)
    moved = []
    for l, units in ((1, slice(1, 3)), (2, slice(1, 4)), (3, slice(1, 3))):
        below, above = (np.asarray(W) for W in trajectory.networks.weights[l - 1 : l + 1])
        C = (above.swapaxes(1, 2) @ above - below @ below.swapaxes(1, 2))[:, units, units]
        moved.append(np.abs(C - C[0]).max())
    assert moved[1] < 1e-9  # no skip begins or ends there
    assert min(moved[0], moved[2]) > 1e-2


def test_two_layers_with_biases_are_the_model_of_biased():
    rng = np.random.default_rng(2)
    U, v = rng.standard_normal((4, 5)), rng.standard_normal(6)
    network, mask = Network([U[1:].T, v[None, 1:]]).with_biases([U[0], v[:1]])
    np.testing.assert_allclose(np.asarray(network.end_to_end)[0], biased.collapsed(U, v), rtol=1e-13)
    z, n = Y[:, 0], len(X)
    moved = velocity(SquaredError.of(data.with_constant(X), z), network, mask)
    truth = biased.gradients(U, v, X, z)
    np.testing.assert_allclose(np.asarray(moved.weights[0])[1:], -truth.U.T / n, atol=1e-13)
    np.testing.assert_allclose(np.asarray(moved.weights[1])[0], -truth.v / n, atol=1e-13)


def test_a_bias_in_the_first_layer_alone_is_one_more_input():
    network, mask = Network(LAYERS).with_biases(BIASES[:1] + [np.zeros(d) for d in WIDTHS[2:]], layers=[1])
    assert network.widths == (4, *WIDTHS[1:]) and all(m.all() for m in mask.weights)
    middle, mask = Network(LAYERS).with_biases(layers=[2])
    assert middle.widths == (4, 3, *WIDTHS[2:])
    assert [int(m.sum()) for m in mask.weights] == [LAYERS[0].size, LAYERS[1].size + 3, LAYERS[2].size, LAYERS[3].size]


def test_skips_as_the_survey_writes_them():
    # W_{1:h} + W_{k+j+1:h} W_{1:k} for one skip from k to k + j
    layers = random_layers((3, 2, 4, 3, 2, 5), np.random.default_rng(7))
    network, _ = Network(layers).with_skip(1, 4)
    whole = lambda i, j: np.linalg.multi_dot([*layers[i - 1 : j][::-1], np.eye(layers[i - 1].shape[1])])
    np.testing.assert_allclose(network.end_to_end, whole(1, 5) + layers[4] @ layers[0], rtol=1e-12)
    assert network.widths == (3, 2, 6, 5, 2, 5)  # d_k (j - 1) more units


def test_moments_with_a_constant_are_those_of_samples_with_one():
    moments, direct = data.Moments.of(X, Y).with_constant(), data.Moments.of(data.with_constant(X), Y)
    for name in ("sigma_xx", "sigma_yx", "trace_yy", "mean_x", "covariance_xx", "covariance_yx"):
        np.testing.assert_allclose(getattr(moments, name), getattr(direct, name), rtol=1e-13, atol=1e-14)
    assert moments.count == 9


# sparse masks ---------------------------------------------------------------------------------------------------------


def learns_by_power(weights, mask):
    """Whether any entry that learns has a gradient at generic values of what learns: a random test in numpy."""
    rng = np.random.default_rng(0)
    layers = [np.where(m, rng.standard_normal(m.shape), W) for W, m in zip(weights, mask, strict=True)]
    for l, m in enumerate(mask):
        below, above = np.eye(layers[0].shape[1]), np.eye(layers[-1].shape[0])
        for W in layers[:l]:
            below = np.abs(W) @ below
        for W in layers[:l:-1]:
            above = above @ np.abs(W)
        if (m * np.outer(above.sum(0), below.sum(1))).any():
            return True
    return False


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.integers(0, 10**6), st.floats(0.0, 0.7))
def test_masks_that_cut_every_path_are_refused(widths, seed, density):
    rng = np.random.default_rng(seed)
    layers = [W * (rng.random(W.shape) < density) for W in random_layers(widths, rng)]
    mask = [rng.random(W.shape) < density / 2 for W in layers]
    if learns_by_power(layers, mask):
        masks.check_paths(Network(layers), Network(mask))
    else:
        with pytest.raises(ValueError, match=r"^`mask`: no entry that learns lies on a path"):
            masks.check_paths(Network(layers), Network(mask))


def test_sparse_networks_stay_sparse_and_learn():
    mask = masks.sparse(3, (4, 5, 2), 0.5)
    shares = [float(np.mean(m)) for m in mask.weights]
    assert min(shares) > 0.2 and max(shares) < 0.8
    start = masks.pruned(Network(random_layers((4, 5, 2), np.random.default_rng(0), 0.5)), mask)
    end = gradient_flow(OBJECTIVE, start, [20.0], mask=mask, rtol=1e-9)[-1]
    assert all(not np.asarray(W)[~np.asarray(m)].any() for W, m in zip(end.weights, mask.weights, strict=True))
    assert float(OBJECTIVE(end.end_to_end)) < 0.5 * float(OBJECTIVE(start.end_to_end))
    for density in (1e-9, 1.0):  # a path always learns
        masks.check_paths(start, masks.sparse(0, (4, 5, 2), density))


# command line and `learn` ---------------------------------------------------------------------------------------------


def test_learn_takes_biases_and_skips():
    found = dl.learn(X, Y, hidden=(2, 3, 2), bias=True, skip=[(1, 3), (0, 2)], scale=0.3, seed=1, time=3.0, rtol=1e-5)
    assert found.attrs["title"].startswith("samples: 3 → 2 → 3 → 2 → 2, biases, skip 1 → 3, skip 0 → 2, gaussian start")
    assert found.attrs["command"].endswith("bias=True, rtol=1e-05, time=3.0, skip=[(1, 3), (0, 2)])")
    assert list(found.attrs["widths"]) == [4, 6, 6, 3, 2]
    assert not {"imbalance_drift", "critical_value", "theory_loss"} & set(found.variables)
    assert np.isnan(found["half_time_predicted"].values).all()
    assert "theory" in found.attrs["warnings"][0] and found.attrs["theory"]["name"] is None
    assert found["loss"].values[-1] < 0.3 * found["loss"].values[0]


def test_one_layer_with_a_bias_is_regression_with_a_constant():
    found = dl.learn(X, Y, hidden=(), bias=True, scale=0.1)
    assert found.attrs["theory"]["exact"] and found.attrs["theory"]["gap"] < 1e-5
    residual = Y - data.with_constant(X) @ np.linalg.lstsq(data.with_constant(X), Y, rcond=None)[0]
    minimum = float(found["loss"][-1] - found["excess_loss"][-1])
    assert minimum == pytest.approx(np.sum(residual**2) / 18, rel=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--skip", "1-3"], "`skip`: got '1-3'; give pairs of layers"),
        (["--skip", "1:2"], "`skip`: 1:2 does not fit; got 1, 2; a skip passes at least one layer"),
        (["--hidden", "5,6,7", "--skip", "1:3"], "`skip`: 1:3 does not fit; layers 1 and 3 have 5 and 7 neurons"),
        (["--bias"], "`bias`: these data are known by moments without means"),
    ],
)
def test_the_command_line_refuses_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _exit_code(["learn", "semantic", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


# bad input ------------------------------------------------------------------------------------------------------------

PLAIN = Network(LAYERS)
BOTH = PLAIN.with_biases()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: PLAIN.with_skip(1, 2), r"`source`, `target`: got 1, 2; a skip passes at least one layer"),
        (lambda: PLAIN.with_skip(-1, 2), r"`source`, `target`: got -1, 2"),
        (lambda: PLAIN.with_skip(2, 5), r"`source`, `target`: got 2, 5"),
        (lambda: PLAIN.with_skip(1, 4, np.eye(3)), r"`matrix`: has shape \(3, 3\)"),
        (lambda: PLAIN.with_skip(2, 4), r"`source`, `target`: layers 2 and 4 have 3 and 2 neurons"),
        (lambda: PLAIN.with_skip(1, 3, mask=BOTH[1]), r"`mask`: must be a Network of booleans with widths"),
        (lambda: PLAIN.with_skip(1, 3, mask=PLAIN), r"`mask`: must be a Network of booleans"),
        (lambda: PLAIN.with_biases(BIASES[:2]), r"`biases`: came with 2 vectors"),
        (lambda: PLAIN.with_biases([*BIASES[:3], [1.0]]), r"`biases`: that of layer 4 has shape \(1,\)"),
        (lambda: PLAIN.with_biases(BIASES, layers=[1]), r"`biases`: that of layer 2 must be finite, and zero"),
        (lambda: PLAIN.with_biases(layers=[5]), r"`layers`: got \[5\]"),
        (lambda: PLAIN.with_biases(layers=[]), r"`layers`: got \[\]"),
        (lambda: BOTH[0].with_biases(mask=BOTH[1]), r"`mask`: this network has biases already"),
        (lambda: PLAIN.without_wires(BOTH[1]), r"`mask`: must be a Network of booleans"),
        (lambda: masks.sparse(0, WIDTHS, 0.0), r"`density`: got 0.0"),
        (lambda: data.with_constant([1.0, 2.0]), r"`X`: has shape \(2,\)"),
        (lambda: data.Moments.given([[1.0]]).with_constant(), r"`moments`: were given without means"),
        (
            lambda: gradient_flow(OBJECTIVE, BOTH[0], [1.0], mask=jax.tree.map(lambda m: m & False, BOTH[1])),
            r"`mask`: no entry that learns lies on a path",
        ),
        (
            lambda: jax.jit(lambda n: n.without_wires(BOTH[1]).biases)(BOTH[0]),
            r"`mask`: copies are told by held weights",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
