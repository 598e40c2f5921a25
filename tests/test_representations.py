"""Similarity of representations against numpy, under symmetries, from exact factors, and in a figure."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from deeplinear import Network, SquaredError, gradient_flow, init, measure, plots
from deeplinear.diagnostics import rsm_from_factor, rsm_from_gram, rsm_input, rsm_output

sides = st.integers(1, 4)
seeds = st.integers(0, 2**20)


def network_of(widths, seed):
    rng = np.random.default_rng(seed)
    return Network([rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False)])


def chain(weights, n):
    M = np.eye(n)
    for W in weights:
        M = np.asarray(W) @ M
    return M


def truth(Y, P, digits=50):
    """Y (P P^T)^+ Y^T with the pseudo-inverse of a factor of full rank, exactly."""
    with mpmath.workdps(digits):
        Y, P = mpmath.matrix(Y.tolist()), mpmath.matrix(np.asarray(P).tolist())
        # rows of P independent: (P P^T)^{-1}; columns independent: P (P^T P)^{-2} P^T
        inner = (P * P.T) ** -1 if P.rows <= P.cols else P * (P.T * P) ** -1 * (P.T * P) ** -1 * P.T
        R = Y * inner * Y.T
        return np.array([[float(R[i, j]) for j in range(R.cols)] for i in range(R.rows)])


def error(found, true):
    return float(np.abs(np.asarray(found) - true).max() / np.abs(true).max())


@given(st.lists(sides, min_size=2, max_size=5), st.integers(1, 5), seeds)
def test_inputs_in_every_layer(widths, n, seed):
    network = network_of(widths, seed)
    X = np.random.default_rng(seed).standard_normal((n, widths[0]))
    X[-1] = X[0]  # a repeated sample
    for layer in range(1, network.depth + 1):
        H = X @ chain(network.weights[:layer], widths[0]).T
        R = np.asarray(rsm_input(X, layer)(network))
        np.testing.assert_allclose(R, H @ H.T, rtol=0, atol=1e-14 * np.linalg.norm(H) ** 2)
        np.testing.assert_allclose(R[-1], R[0], rtol=0, atol=1e-14 * np.linalg.norm(H) ** 2)


def test_outputs_in_every_layer(capsys):
    errors = {}
    for widths in [(2, 2, 5), (3, 4, 4), (2, 6, 3), (3, 5, 4, 3), (2, 3, 4, 6), (1, 1, 1)]:
        network = network_of(widths, sum(widths))
        Y = np.random.default_rng(0).standard_normal((4, widths[-1]))
        Y[3] = Y[0]
        for layer in range(1, network.depth):
            P = chain(network.weights[layer:], widths[layer])
            if np.linalg.matrix_rank(P) < min(P.shape):
                continue
            errors[widths, layer] = error(rsm_output(Y, layer)(network), truth(Y, P)) / np.linalg.cond(P)
    with capsys.disabled():
        print("\nrelative error of output similarities against 50 digits, in units of the factor's condition number:")
        for (widths, layer), value in errors.items():
            print(f"  {widths} layer {layer}: {value:.1e}")
    assert max(errors.values()) < 1e-15


def test_the_factor_is_inverted_and_not_its_square():
    # singular values 1 and 1e-7 of W_2: its square is singular to rounding, the factor is not
    rng = np.random.default_rng(0)
    U, V = np.linalg.qr(rng.standard_normal((5, 2)))[0], np.linalg.qr(rng.standard_normal((2, 2)))[0]
    W2 = (U * [1.0, 1e-7]) @ V.T
    Y = rng.standard_normal((3, 5))
    true = truth(Y, W2)
    network = Network([np.eye(2), W2])
    assert error(rsm_output(Y)(network), true) < 1e-8
    assert error(Y @ np.linalg.pinv(W2 @ W2.T) @ Y.T, true) > 1e-3


def test_a_rank_deficient_layer_asks_for_nothing_along_its_kernel():
    W2 = np.outer([3.0, 4.0], [1.0, 0.0, 0.0])
    network = Network([np.ones((3, 2)), W2])
    R = np.asarray(rsm_output([[3.0, 4.0], [4.0, -3.0], [6.0, 8.0]])(network))
    np.testing.assert_allclose(R, [[1, 0, 2], [0, 0, 0], [2, 0, 4]], rtol=0, atol=4e-15)  # 4 eps of 4
    faint = Network([np.ones((3, 2)), W2 + 1e-9 * np.outer([4.0, -3.0], [0.0, 1.0, 0.0])])
    loud = np.asarray(rsm_output(np.array([[4.0, -3.0]]))(faint))
    np.testing.assert_allclose(loud, 1e18, rtol=1e-6)
    np.testing.assert_allclose(rsm_output(np.array([[4.0, -3.0]]), rtol=1e-6)(faint), 0, atol=1e-14)


@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 2, 4), (3, 5, 4, 2)])
def test_rotations_of_hidden_layers_change_nothing(widths):
    network = network_of(widths, 3)
    weights = list(network.weights)
    for l, d in enumerate(widths[1:-1]):
        Q = np.linalg.qr(np.random.default_rng(l).standard_normal((d, d)))[0]
        weights[l], weights[l + 1] = Q @ weights[l], weights[l + 1] @ Q.T
    turned = Network(weights)
    X, Y = np.eye(widths[0]), np.eye(widths[-1])
    for layer in range(1, network.depth):
        assert error(rsm_input(X, layer)(turned), np.asarray(rsm_input(X, layer)(network))) < 1e-14
        assert error(rsm_output(Y, layer)(turned), np.asarray(rsm_output(Y, layer)(network))) < 1e-13


@pytest.mark.parametrize("widths", [(4, 3, 3), (4, 2, 5), (4, 3, 2, 5)])
def test_predictions_ask_for_what_inputs_evoke_where_nothing_is_lost(widths):
    network = network_of(widths, 1)
    X = np.random.default_rng(0).standard_normal((5, widths[0]))
    predictions = np.asarray(X @ network.end_to_end.T)
    last = network.depth - 1  # above it one injective layer
    assert error(rsm_output(predictions, last)(network), np.asarray(rsm_input(X, last)(network))) < 1e-13
    # an excess of hidden units loses what the layers above do not read
    wide = network_of((4, 6, 3), 1)
    H, P = X @ np.asarray(wide.weights[0]).T, np.asarray(wide.weights[1])
    seen = H @ (np.linalg.pinv(P) @ P)
    asked = np.asarray(rsm_output(np.asarray(X @ wide.end_to_end.T))(wide))
    np.testing.assert_allclose(asked, seen @ seen.T, rtol=0, atol=1e-13 * np.linalg.norm(seen) ** 2)
    assert error(asked, np.asarray(rsm_input(X)(wide))) > 0.1


def test_similarities_over_time_from_runs_and_from_factors():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((6, 3)), rng.standard_normal((6, 4))
    run = gradient_flow(SquaredError.of(X, Y), init.gaussian(0, (3, 2, 4), 0.5), ts=[0.0, 1.0, 3.0])
    data = measure(run, inputs=rsm_input(X), outputs=rsm_output(Y))
    assert data.inputs.dims == data.outputs.dims == ("time", "sample", "other_sample")
    assert data.inputs.attrs["long_name"] == "similarity of inputs in layer 1"
    W1, W2 = run.networks.weights
    Q = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    np.testing.assert_allclose(rsm_from_gram(X, W1.mT @ W1), data.inputs, rtol=0, atol=1e-13)
    outputs = np.asarray(data.outputs)
    np.testing.assert_allclose(rsm_from_factor(Y, W2 @ Q), outputs, rtol=0, atol=1e-13 * outputs.max())
    for i in range(3):
        assert error(outputs[i], truth(Y, W2[i])) < 1e-13
        assert error(rsm_from_factor(Y, W2[i]), truth(Y, W2[i])) < 1e-13
    assert jax.jit(rsm_from_factor)(Y, W2).shape == (3, 6, 6)
    assert rsm_from_gram(X, jnp.zeros((2, 5, 3, 3))).shape == (2, 5, 6, 6)


NETWORK = network_of((3, 2, 4), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rsm_input(np.ones(3)), r"^`X`: has shape \(3,\); give an array \(n, d\), samples in rows"),
        (lambda: rsm_input(np.ones((2, 4)))(NETWORK), r"^`X`: has 4 columns; this network has 3 inputs"),
        (lambda: rsm_output(np.ones((2, 3)))(NETWORK), r"^`Y`: has 3 columns; this network has 4 outputs"),
        (lambda: rsm_input(np.ones((2, 3)), layer=3)(NETWORK), r"^`layer`: got 3; a layer .* from 1 to 2"),
        (lambda: rsm_output(np.ones((2, 4)), layer=2)(NETWORK), r"^`layer`: got 2; a hidden layer .* from 1 to 1"),
        (lambda: rsm_from_gram(np.ones((2, 3)), np.eye(2)), r"^`gram_in`: has shape \(2, 2\); .* \(\.\.\., 3, 3\)"),
        (lambda: rsm_from_factor(np.ones((2, 4)), np.ones((3, 2))), r"^`factor_out`: has shape \(3, 2\); .* 4, k\)"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_bad_questions_get_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


# the figure -----------------------------------------------------------------------------------------------------------


def dataset(values, dims=("time", "sample", "other_sample")):
    return xr.Dataset({"rsm_input": (dims, values)}, {"time": [0.0, 1.0, 5.0]})


def test_the_figure_draws_the_matrix_at_the_nearest_time():
    values = np.random.default_rng(0).uniform(-1, 1, (3, 20, 20))
    for time, index in ((None, 2), (0.9, 1), (-3.0, 0), (100.0, 2)):
        ax = plots.similarity(dataset(values), time=time)
        image = ax.images[0]
        np.testing.assert_array_equal(image.get_array(), values[index])
        assert image.norm.vmin == -image.norm.vmax == -np.abs(values[index]).max()
    assert [text.get_text() for text in ax.get_xticklabels()] == [str(n) for n in range(1, 21, 2)]
    assert ax.get_xlabel() == "other sample"
    positive = plots.similarity(dataset(np.abs(values)), ax=ax.figure.add_axes((0, 0, 0.3, 0.3)))
    assert positive.images[0].norm.vmin == 0.0
    assert "t = 5" in positive.get_title(loc="left")


def test_the_figure_refuses_what_is_no_matrix_in_time():
    with pytest.raises(ValueError, match="has no variable 'rsm_input'"):
        plots.similarity(xr.Dataset())
    with pytest.raises(ValueError, match=r"has dimensions \('time', 'sample'\); a square matrix"):
        plots.similarity(dataset(np.ones((3, 4)), ("time", "sample")))
    with pytest.raises(ValueError, match="a square matrix at every time is needed"):
        plots.similarity(dataset(np.ones((3, 4, 5))))
    with pytest.raises(ValueError, match="has no finite value at t = 5"):
        plots.similarity(dataset(np.full((3, 2, 2), np.nan)))
