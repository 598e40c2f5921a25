"""The nonlinear twin against numpy and scipy written again, conservation laws, and the linear network."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear.twins import forward, hidden_activities, nonlinear_flow
from deeplinear.twins.nonlinear import resolved

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 3))
Y = X @ RNG.standard_normal((3, 2)) + 0.3 * RNG.standard_normal((12, 2))
START = dl.init.gaussian(1, (3, 4, 4, 2), 0.5)
TIMES = np.array([0.0, 0.3, 1.0, 3.0])


@pytest.fixture(scope="module")
def same():
    return dl.twin(START, X, Y, "identity", rtol=1e-10)


@pytest.fixture(scope="module")
def curved():
    return dl.twin(START, X, Y, "tanh", TIMES, rtol=1e-10, probes=X[:4])


def by_hand(weights, X):
    H = X
    for W in weights[:-1]:
        H = np.tanh(H @ W.T)
    return H @ weights[-1].T


def flow_by_hand(ts):
    """tanh, by scipy and backpropagation written out."""
    shapes = [W.shape for W in START.weights]
    split = lambda w: [
        part.reshape(shape) for part, shape in zip(np.split(w, np.cumsum([12, 16])), shapes, strict=True)
    ]

    def slope(_, w):
        W1, W2, W3 = split(w)
        H1 = np.tanh(X @ W1.T)
        H2 = np.tanh(H1 @ W2.T)
        R3 = (Y - H2 @ W3.T) / len(X)
        R2 = (R3 @ W3) * (1 - H2**2)
        R1 = (R2 @ W2) * (1 - H1**2)
        return np.concatenate([(R1.T @ X).ravel(), (R2.T @ H1).ravel(), (R3.T @ H2).ravel()])

    w0 = np.concatenate([np.ravel(W) for W in START.weights])
    solved = solve_ivp(slope, (0, ts[-1]), w0, method="DOP853", t_eval=ts, rtol=1e-11, atol=1e-13)
    return [split(w) for w in solved.y.T]


def test_outputs_and_activities_by_hand():
    weights = [np.asarray(W) for W in START.weights]
    np.testing.assert_allclose(forward(START, X, "tanh"), by_hand(weights, X), rtol=1e-13)
    H = hidden_activities(START, X, lambda x: x**2)
    np.testing.assert_allclose(H[1], (((X @ weights[0].T) ** 2) @ weights[1].T) ** 2, rtol=1e-13)
    np.testing.assert_allclose(forward(START, X, "identity"), X @ np.asarray(START.end_to_end).T, rtol=1e-12)


def test_without_a_bend_the_twin_is_the_linear_network(same):
    linear, twin = same["mode_strengths"].values
    assert np.abs(twin - linear).max() < 1e-8 * np.abs(linear).max() and same.sizes["time"] > 100
    np.testing.assert_allclose(same["loss"][1], same["loss"][0], rtol=1e-8)
    assert np.abs(same["distance"]).max() < 1e-8
    for name in ("linear_share", "kernel_alignment", "representation_alignment"):
        np.testing.assert_allclose(same[name], 1, atol=1e-12)
    np.testing.assert_allclose(same["half_time"][1], same["half_time"][0], rtol=1e-7)


def test_the_linear_side_is_the_flow_itself(same):
    objective = dl.SquaredError.of(X, Y)
    flow = dl.measure(dl.gradient_flow(objective, START, rtol=1e-10))
    np.testing.assert_allclose(same["time"], flow["time"], rtol=1e-12)
    np.testing.assert_allclose(same["loss"][0], flow["loss"], rtol=1e-10)
    np.testing.assert_allclose(same["mode_strengths"][0], flow["mode_strengths"], atol=1e-11)


def test_the_flow_with_an_activation_by_hand(curved):
    networks = flow_by_hand(TIMES)
    flow = nonlinear_flow(START, X, Y, "tanh", TIMES, rtol=1e-10)
    for i, weights in enumerate(networks):
        for ours, theirs in zip(flow[i].weights, weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-8)
    F = [by_hand(weights, X) for weights in networks]
    np.testing.assert_allclose(curved["loss"][1], [np.sum((f - Y) ** 2) / 24 for f in F], rtol=1e-8)
    U, _, Vt = np.linalg.svd(Y.T @ X, full_matrices=False)
    responses = [np.linalg.lstsq(X, f, rcond=None)[0].T for f in F]
    strengths = [np.diag(U.T @ W @ Vt.T) for W in responses]
    np.testing.assert_allclose(curved["mode_strengths"][1], strengths, atol=1e-8)
    share = [1 - np.sum((f - X @ W.T) ** 2) / np.sum(f**2) for f, W in zip(F, responses, strict=True)]
    np.testing.assert_allclose(curved["linear_share"], share, atol=1e-8)
    assert curved["linear_share"].min() > 0.5 and curved["linear_share"].max() < 0.999
    flow = dl.gradient_flow(dl.SquaredError.of(X, Y), START, TIMES, rtol=1e-10)
    distance = [
        np.linalg.norm(f - X @ W.T) / np.linalg.norm(Y) for f, W in zip(F, np.asarray(flow.end_to_end), strict=True)
    ]
    np.testing.assert_allclose(curved["distance"], distance, atol=1e-8)


def test_kernels_and_representations_by_differences(curved):
    probes, step = X[:4], 1e-6

    def jacobian(weights, f):
        columns = []
        for l, W in enumerate(weights):
            for index in np.ndindex(W.shape):
                ends = []
                for sign in (1, -1):
                    moved = [V.copy() for V in weights]
                    moved[l][index] += sign * step
                    ends.append(f(moved, probes).ravel())
                columns.append((ends[0] - ends[1]) / (2 * step))
        return np.stack(columns, axis=1)

    straight = lambda weights, X: X @ (weights[2] @ weights[1] @ weights[0]).T
    ends = []
    for f, run in (
        (straight, dl.gradient_flow(dl.SquaredError.of(X, Y), START, TIMES, rtol=1e-10)),
        (by_hand, nonlinear_flow(START, X, Y, "tanh", TIMES, rtol=1e-10)),
    ):
        jacobians = [jacobian([np.array(W) for W in run[i].weights], f) for i in (0, len(TIMES) - 1)]
        ends.append([J @ J.T for J in jacobians])
    for i, at in ((0, 0), (1, -1)):
        K, T = ends[0][i], ends[1][i]
        cosine = np.sum(K * T) / np.linalg.norm(K) / np.linalg.norm(T)
        assert float(curved["kernel_alignment"][at]) == pytest.approx(cosine, abs=1e-7)
    moved = [np.linalg.norm(pair[1] - pair[0]) / np.linalg.norm(pair[0]) for pair in ends]
    np.testing.assert_allclose(curved["kernel_movement"][:, -1], moved, rtol=1e-6)
    linear = dl.gradient_flow(dl.SquaredError.of(X, Y), START, TIMES, rtol=1e-10)[-1]
    twin = [
        np.asarray(H) for H in hidden_activities(nonlinear_flow(START, X, Y, "tanh", TIMES, rtol=1e-10)[-1], X, "tanh")
    ]
    for layer in (1, 2):
        H = X @ np.asarray(linear.product(1, layer)).T
        G, T = H @ H.T, twin[layer - 1] @ twin[layer - 1].T
        cosine = np.sum(G * T) / np.linalg.norm(G) / np.linalg.norm(T)
        assert float(curved["representation_alignment"].sel(layer=layer)[-1]) == pytest.approx(cosine, abs=1e-9)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_homogeneous_activations_conserve_the_balance_of_every_unit(activation):
    # phi(cz) = c phi(z) for c > 0: |incoming|^2 - |outgoing|^2 of a unit does not change (Du, Hu and Lee 2018)
    flow = nonlinear_flow(START, X, Y, activation, TIMES, rtol=1e-10)
    W1, W2, W3 = (np.asarray(W) for W in flow.networks.weights)
    for below, above in ((W1, W2), (W2, W3)):
        balance = np.sum(below**2, axis=2) - np.sum(above**2, axis=1)
        assert np.abs(balance - balance[0]).max() < 1e-9
        assert np.abs(np.sum(below**2, axis=2) - np.sum(below[0] ** 2, axis=1)).max() > 0.05


def test_relu_that_never_bends_is_linear():
    positive = np.abs(X)
    start = dl.Network([np.abs(W) for W in START.weights])
    targets = positive @ np.abs(RNG.standard_normal((3, 2)))
    objective = dl.SquaredError.of(positive, targets)
    short = np.array([0.0, 0.005, 0.02])
    flow = dl.gradient_flow(objective, start, short, rtol=1e-10)
    assert all(float(W.min()) > 0 for W in flow.networks.weights)
    bent = nonlinear_flow(start, positive, targets, "relu", short, rtol=1e-10)
    for ours, theirs in zip(bent.networks.weights, flow.networks.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_scales_set_the_speed():
    twice = nonlinear_flow(START, X, Y, "tanh", TIMES / 2, loss=dl.MEAN, rtol=1e-10)
    once = nonlinear_flow(START, X, Y, "tanh", TIMES, rtol=1e-10)
    np.testing.assert_allclose(twice.networks.weights[0], once.networks.weights[0], atol=1e-9)
    assert twice.ending.loss == pytest.approx(2 * once.ending.loss, rel=1e-8)


def test_a_spent_budget_is_told_and_the_dataset_ends_there():
    run = nonlinear_flow(START, X, Y, "tanh", TIMES, rtol=1e-10, max_steps=20)
    assert run.ending.kind == "steps" and 0 < run.ending.time < 3.0 and "max_steps" in run.ending.message
    data = dl.twin(START, X, Y, "tanh", TIMES, rtol=1e-10, max_steps=20)
    assert 1 <= data.sizes["time"] < 4 and "budget" in data.attrs["ending_twin"]


def test_a_dataset_tells_of_itself(curved):
    assert curved.attrs["activation"] == "tanh" and curved.attrs["widths"] == [3, 4, 4, 2]
    assert list(curved["mode"].values) == [1, 2] and list(curved["layer"].values) == [1, 2]
    assert curved["loss"].dims == ("network", "time") and curved["kernel_alignment"].attrs["long_name"]


def test_bad_input_is_one_line():
    for bad, message in (
        (dict(activation=lambda x: jnp.sum(x)), r"`activation`: turns an array of shape \(2, 3\) into"),
        (dict(activation=lambda x: x[0]), r"`activation`: turns an array"),
        (dict(activation=lambda x: (x, x)), r"`activation`: turns an array"),
        (dict(activation=lambda x: x @ x), "`activation`: fails on an array"),
        (dict(activation="relou"), "`activation`: got 'relou'; give one of identity, relu"),
        (dict(activation=lambda x: 1 / (x - x)), "`activation`: gives outputs that are NaN or infinite"),
        (dict(X=X[:, :2]), "`network`: maps 3 inputs to 2 outputs"),
        (dict(X=X[:5]), "`Y`: has 12 rows"),
        (dict(ts=[1.0, 0.5]), "`ts`: 0.5 follows 1; sort the times"),
        (dict(rtol=1.0), "`rtol`: got 1.0"),
    ):
        arguments = dict(network=START, X=X, Y=Y, activation="tanh", ts=TIMES) | bad
        with pytest.raises(ValueError, match=message) as caught:
            nonlinear_flow(**arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="`activation`: got 3; give one of"):
        resolved(3)
