"""Moments against exact rational arithmetic, whitening and the normal form against the identities that define them."""

from fractions import Fraction

import jax
import jax.flatten_util
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import curvature, data
from deeplinear.data import Moments, NormalForm, Whitening
from deeplinear.flows import velocity

EPS = np.finfo(float).eps


def samples(n=40, d_x=4, d_y=3, seed=0, mean=0.0):
    """Correlated inputs and noisy linear outputs."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d_x)) @ rng.standard_normal((d_x, d_x)) + mean
    return X, X @ rng.standard_normal((d_x, d_y)) + rng.standard_normal((n, d_y))


def exact(X, Y):
    """Mean and covariance of the columns of [X, Y], rounded once from rational arithmetic."""
    Z = np.array([[Fraction(float(z)) for z in row] for row in np.hstack([X, Y])], dtype=object)
    mean = Z.sum(axis=0) / Fraction(len(Z))
    covariance = (Z - mean).T @ (Z - mean) / Fraction(len(Z))
    return mean.astype(float), covariance.astype(float)


chunkings = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@given(
    sizes=chunkings,
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    seed=st.integers(0, 99),
    offset=st.sampled_from([0.0, 1.0, -1e4, 1e8]),
)
def test_merged_chunks_have_the_moments_of_all_samples(sizes, shape, seed, offset):
    d_x, d_y = shape
    rng = np.random.default_rng(seed)
    X = offset + rng.standard_normal((sum(sizes), d_x))
    Y = offset + rng.standard_normal((sum(sizes), d_y))
    cuts = np.cumsum(sizes)[:-1]
    moments = Moments.from_chunks(zip(np.split(X, cuts), np.split(Y, cuts), strict=True))
    mean, covariance = exact(X, Y)
    assert moments.count == len(X)
    np.testing.assert_allclose(np.append(moments.mean_x, moments.mean_y), mean, rtol=8 * EPS * len(X), atol=8 * EPS)
    # raw sums of squares would be off by eps (1 + offset^2): 2 at an offset of 1e8
    error = 8 * EPS * (1 + abs(offset)) * (1 + np.abs(covariance).max())
    np.testing.assert_allclose(moments.covariance_xx, covariance[:d_x, :d_x], rtol=0, atol=error)
    np.testing.assert_allclose(moments.covariance_yx, covariance[d_x:, :d_x], rtol=0, atol=error)
    assert abs(moments.variance_y - np.trace(covariance[d_x:, d_x:])) <= d_y * error


@given(sizes=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 99))
def test_merge_is_associative_and_symmetric(sizes, seed):
    X, Y = samples(sum(sizes), seed=seed, mean=5.0)
    cuts = np.cumsum(sizes)[:-1]
    a, b, c = (Moments.of(x, y) for x, y in zip(np.split(X, cuts), np.split(Y, cuts), strict=True))
    reference = a.merge(b).merge(c)
    for other in (a.merge(b.merge(c)), c.merge(b).merge(a)):
        assert other.count == reference.count
        for name in ("mean_x", "mean_y", "covariance_xx", "covariance_yx", "variance_y"):
            one, two = getattr(reference, name), getattr(other, name)
            np.testing.assert_allclose(one, two, rtol=1e-13, atol=1e-13 * np.abs(reference.covariance_xx).max())


def test_second_moments_are_the_means_of_products():
    X, Y = samples(mean=2.0)
    moments = Moments.of(X, Y)
    np.testing.assert_allclose(moments.sigma_xx, np.mean(X[:, :, None] * X[:, None, :], axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.sigma_yx, np.mean(Y[:, :, None] * X[:, None, :], axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.trace_yy, np.mean(np.sum(Y**2, axis=1)), rtol=1e-14)


def test_memory_maps_are_read_in_slices(tmp_path, monkeypatch):
    X, Y = samples(101)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    monkeypatch.setattr(data, "CHUNK_BYTES", 7 * 8 * 10)  # 10 rows of 7 numbers
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "XY"]
    assert [len(x) for x, _ in data.row_slices(*mapped)] == [10] * 10 + [1]
    moments, reference = Moments.of(*mapped), Moments.of(X, Y)
    np.testing.assert_allclose(moments.sigma_xx, reference.sigma_xx, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(moments.sigma_yx, reference.sigma_yx, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(
        Moments.of(mapped[0][:, [0, 2]], mapped[1]).count, 101
    )  # no longer backed by the file


def test_one_dimensional_outputs_are_one_column():
    X, Y = samples(d_y=1)
    np.testing.assert_array_equal(Moments.of(X, Y[:, 0]).sigma_yx, Moments.of(X, Y).sigma_yx)


def test_integers_and_booleans_are_numbers():
    moments = Moments.of([[1, 0], [0, 1]], np.array([True, False]))
    np.testing.assert_array_equal(moments.sigma_yx, [[0.5, 0.0]])


def test_centred_moments_are_those_of_centred_samples():
    X, Y = samples(mean=1e6)
    centred, reference = Moments.of(X, Y).centered(), Moments.of(X - X.mean(0), Y - Y.mean(0))
    for name in ("sigma_xx", "sigma_yx", "trace_yy"):
        np.testing.assert_allclose(getattr(centred, name), getattr(reference, name), rtol=1e-9)
    np.testing.assert_array_equal(centred.mean_x, 0.0)


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_whitened_inputs_have_identity_second_moment(mean):
    X, Y = samples(mean=mean)
    whitened, whitening = Moments.of(X, Y).whitened()
    np.testing.assert_allclose(whitened.sigma_xx, np.eye(4), rtol=0, atol=1e-15)
    T = whitening.transform
    direct = Moments.of(X @ T.T, Y)
    condition = np.linalg.cond(Moments.of(X, Y).sigma_xx)
    np.testing.assert_allclose(direct.sigma_xx, np.eye(4), rtol=0, atol=4 * EPS * condition)
    np.testing.assert_allclose(whitened.sigma_yx, direct.sigma_yx, rtol=0, atol=4 * EPS * condition)
    np.testing.assert_allclose(whitening.inverse @ T, np.eye(4), rtol=0, atol=4 * EPS * condition**0.5)


def test_whitening_drops_directions_without_variance():
    X, Y = samples(d_x=3)
    X = np.hstack([X, X[:, :1] + X[:, 1:2]])  # rank 3 of 4
    moments = Moments.of(X, Y)
    whitened, whitening = moments.whitened()
    assert whitening.transform.shape == (3, 4)
    np.testing.assert_allclose(whitened.sigma_xx, np.eye(3), rtol=0, atol=1e-15)
    np.testing.assert_allclose(X @ whitening.transform.T @ whitening.inverse.T, X, rtol=0, atol=1e-13)


def test_a_network_is_the_same_function_on_whitened_inputs():
    X, Y = samples()
    _, whitening = Moments.of(X, Y).whitened()
    network = dl.init.gaussian(0, (4, 5, 3), 1.0)
    there = whitening.to_whitened(network)
    np.testing.assert_allclose(
        X @ whitening.transform.T @ np.asarray(there.end_to_end).T, X @ np.asarray(network.end_to_end).T, atol=1e-12
    )
    np.testing.assert_allclose(whitening.to_original(there).end_to_end, network.end_to_end, atol=1e-13)


# the survey's normal form ---------------------------------------------------------------------------------------------


def form_of(X, Y):
    moments = Moments.of(X, Y)
    form = NormalForm.of(moments)
    return moments, form, dl.SquaredError.from_moments(form.sigma)


def test_normal_form_has_the_same_loss_up_to_a_constant():
    X, Y = samples()
    _, form, reduced = form_of(X, Y)
    networks = [dl.init.gaussian(seed, (4, 5, 3), 0.7) for seed in range(4)]
    sums = [np.sum((Y - X @ np.asarray(network.end_to_end).T) ** 2) for network in networks]
    halves = [float(reduced(form.reduce(network).end_to_end)) for network in networks]
    # with data scaled by 1/sqrt(n), the survey's (4) is 2 (5) + constant; without, 2 n (5) + constant
    constants = np.array(sums) - 2 * len(X) * np.array(halves)
    np.testing.assert_allclose(constants, constants[0], rtol=1e-12)
    np.testing.assert_allclose(constants[0], np.linalg.lstsq(X, Y, rcond=None)[1].sum(), rtol=1e-12)


def test_normal_form_is_undone_by_lift():
    X, Y = samples()
    _, form, _ = form_of(X, Y)
    network = dl.init.gaussian(0, (4, 5, 3), 0.7)
    for W, W_back in zip(network.weights, form.lift(form.reduce(network)).weights, strict=True):
        np.testing.assert_allclose(W_back, W, rtol=0, atol=1e-13)
    assert np.all(form.sigma[~np.eye(*form.sigma.shape, dtype=bool)] == 0)
    assert np.all(np.diff(np.diagonal(form.sigma)) <= 0)


def inertia(objective, network):
    """Numbers of negative, zero and positive eigenvalues of the Hessian, formed column by column."""
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    hessian = jax.hessian(lambda v: curvature.loss(objective, unravel(v)))(flat)
    eigenvalues = np.linalg.eigvalsh(np.asarray(hessian))
    small = 1e-9 * np.abs(eigenvalues).max()
    return tuple(
        int(np.sum(part)) for part in (eigenvalues < -small, np.abs(eigenvalues) <= small, eigenvalues > small)
    )


def test_normal_form_has_the_same_landscape():
    X, Y = samples(d_x=3, d_y=2)
    moments, form, reduced = form_of(X, Y)
    original = dl.SquaredError.from_data(moments)
    s = np.diagonal(form.sigma)
    saddle = dl.Network([np.diag([0.0, 1.0, 0.0])[:2], np.diag([0.0, s[1]])])  # the second mode alone is learned
    lifted = form.lift(saddle)
    slope = velocity(original, lifted)
    assert max(float(np.abs(V).max()) for V in slope.weights) < 1e-13
    # MATH: one pair (i not learned, j learned, s_i > s_j) and the unlearned part (d_y - r)(d_1 - r): 1 + 1 negative
    assert inertia(reduced, saddle) == inertia(original, lifted)
    assert inertia(reduced, saddle)[0] == 2


@pytest.mark.parametrize("white", [False, True])
def test_normal_form_has_the_same_flow_for_white_inputs_only(white):
    X, Y = samples()
    if white:
        X = X @ Moments.of(X, Y).whitened()[1].transform.T
    moments, form, reduced = form_of(X, Y)
    network = dl.init.gaussian(0, (4, 5, 3), 0.7)
    slopes = velocity(dl.SquaredError.from_data(moments), network).weights
    images = [slopes[0] @ form.input_map, form.output_map @ slopes[1]]
    here = velocity(reduced, form.reduce(network)).weights
    M = form.input_map
    np.testing.assert_allclose(images[1], here[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(images[0], here[0] @ (M.T @ M), rtol=0, atol=1e-11)
    difference = np.linalg.norm(images[0] - here[0]) / np.linalg.norm(here[0])
    assert form.same_flow == white == (difference < 1e-12)


def test_normal_form_of_singular_inputs_drops_what_the_loss_does_not_see():
    X, Y = samples(d_x=3)
    X = np.hstack([X, X[:, :1]])
    _, form, _ = form_of(X, Y)
    assert form.sigma.shape == (3, 3)
    network = dl.init.gaussian(0, (4, 5, 3), 0.7)
    lifted = form.lift(form.reduce(network))
    np.testing.assert_allclose(
        X @ np.asarray(lifted.end_to_end).T, X @ np.asarray(network.end_to_end).T, rtol=0, atol=1e-12
    )
    null = np.array([1.0, 0.0, 0.0, -1.0])
    np.testing.assert_allclose(lifted.weights[0] @ null, 0.0, atol=1e-13)


# remarks and errors ---------------------------------------------------------------------------------------------------


def test_remarks_name_what_is_unusual():
    X, Y = samples()
    assert Moments.of(X, Y).remarks() == []
    few = Moments.of(X[:3], Y[:3]).remarks()
    assert few[0] == "fewer samples (3) than inputs (4)"
    assert few[1].startswith("sigma_xx is singular (rank 3 of 4)")
    assert (
        Moments.given(np.zeros((1, 2)), np.zeros((2, 2))).remarks()[0].startswith("sigma_xx is singular (rank 0 of 2)")
    )


@pytest.mark.parametrize("n", [3, 100, 10_001])
@pytest.mark.parametrize("chunk", [7, 20_000])
def test_constant_columns_are_noticed_through_rounding(n, chunk):
    X = np.random.default_rng(0).standard_normal((n, 3))
    X[:, 1] = 0.1
    cuts = range(chunk, n, chunk)
    chunks = zip(np.split(X, cuts), np.split(X[:, :1], cuts), strict=True)
    remarks = Moments.from_chunks(chunks).remarks()
    assert "1 constant input column (2)" in remarks


def test_a_column_that_varies_a_little_is_not_constant():
    X = np.random.default_rng(0).standard_normal((1000, 2)) * [1.0, 1e-6] + [0.0, 1.0]
    assert Moments.of(X, X[:, :1]).remarks() == []


X_OK, Y_OK = samples(5, 2, 1)


@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (X_OK[:, 0], Y_OK, r"^`X`: has shape \(5,\); samples are rows, so it must be \(n, d_x\)"),
        (X_OK, Y_OK[:, :, None], r"^`Y`: has shape \(5, 1, 1\); samples are rows"),
        (X_OK, Y_OK[:4], r"^`Y`: has 4 rows, but X has 5; every sample needs both"),
        (X_OK[:0], Y_OK[:0], r"^`X`, `Y`: have shapes \(0, 2\) and \(0, 1\); there must be a sample"),
        (X_OK[:, :0], Y_OK, r"there must be a sample, an input, an output"),
        ([[1.0], [2.0, 3.0]], [1.0, 2.0], r"^`X`: has rows of different lengths"),
        ([["a"], ["b"]], [1.0, 2.0], r"^`X`: has the text .a.; give real numbers"),
        (X_OK * 1j, Y_OK, r"^`X`: has entries of type complex128; give real numbers"),
        (X_OK, np.where(np.arange(5)[:, None] == 3, np.nan, Y_OK), r"^`Y`: has nan at row 4, column 1; remove or fill"),
        (np.where(np.eye(5, 2) > 0, np.inf, X_OK), Y_OK, r"^`X`: has inf at row 1, column 1; remove or fill"),
    ],
)
def test_bad_samples_get_one_clear_line(X, Y, message):
    with pytest.raises(ValueError, match=message) as caught:
        Moments.of(X, Y)
    assert "\n" not in str(caught.value)


def test_the_row_in_a_message_counts_earlier_chunks():
    bad = np.array([[1.0, 2.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"^`X`: has nan at row 7, column 1"):
        Moments.from_chunks([(X_OK, Y_OK), (bad, [1.0, 2.0])])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0],), r"^`sigma_yx`: has shape \(2,\); give an array \(d_y, d_x\)"),
        (([[1.0, np.nan]],), r"^`sigma_yx`: has nan at row 1, column 2; give finite numbers"),
        (([[1.0, 2.0]], np.eye(3)), r"^`sigma_xx`: has shape \(3, 3\), but sigma_yx has 2 columns"),
        (([[1.0, 2.0]], [[1.0, 0.5], [0.0, 1.0]]), r"^`sigma_xx`: is not symmetric; it must be E\[x x\^T\]"),
        (([[1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]]), r"^`sigma_xx`: has the negative eigenvalue -1; it must be"),
        (([[1.0]], None, -1.0), r"^`trace_yy`: got -1.0; give E\[\|y\|\^2\], finite and at least 0"),
        (([[1.0]], None, np.nan), r"^`trace_yy`: got nan"),
    ],
)
def test_bad_moments_get_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Moments.given(*arguments)
    assert "\n" not in str(caught.value)


def test_what_given_moments_cannot_do():
    moments = Moments.given([[1.0]])
    with pytest.raises(ValueError, match=r"^`moments`: were given without means and cannot be centred"):
        moments.centered()
    for one, two in ((moments, Moments.of(X_OK[:, :1], Y_OK)), (Moments.of(X_OK[:, :1], Y_OK), moments)):
        with pytest.raises(ValueError, match=r"^`other`: moments that were given have no sample count and mean"):
            one.merge(two)
    with pytest.raises(ValueError, match=r"^`other`: has 1 inputs and 1 outputs, but this has 2 and 1"):
        Moments.of(X_OK, Y_OK).merge(Moments.of(X_OK[:, :1], Y_OK))
    with pytest.raises(ValueError, match=r"^`chunks`: came without any chunk"):
        Moments.from_chunks([])
    with pytest.raises(ValueError, match=r"^`sigma_xx`: is zero, so there is nothing to whiten"):
        Whitening.of(np.zeros((2, 2)))
