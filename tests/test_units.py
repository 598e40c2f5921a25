"""Inputs of any units and offsets: means far above the spread, columns of very different size, repeated and constant.

Right values are those of exact arithmetic, of mpmath at 50 digits, or of least squares on centred, scaled columns.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import data, exact, generalisation, predicates
from deeplinear.data import Moments, NormalForm
from deeplinear.diagnostics import rates, weight_bounds
from deeplinear.experiment import Experiment
from deeplinear.landscape.target import Target
from deeplinear.learning import problem
from deeplinear.reduction import reduce

DAYS, COUNT = np.arange(20000.0, 20008.0), np.arange(8.0)
STAMPED = np.column_stack([np.ones(8), DAYS])


def timestamps():
    rng = np.random.default_rng(0)
    X = np.column_stack([1.7e9 + 3e7 * rng.standard_normal(200), rng.standard_normal(200), rng.random(200)])
    return X, X[:, 1] - 2 * X[:, 2]


def economy(n=40):
    """Seven columns of standard deviation 1 to 1e7, with means, whose correlation matrix has condition 1.4e3."""
    rng = np.random.default_rng(1)
    Z = rng.standard_normal((n, 7))
    Z = np.linalg.qr(Z - Z.mean(axis=0))[0] * n**0.5
    Q = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    X = Z * np.geomspace(1.0, 1.4e3**-0.5, 7) @ Q.T
    X = X / X.std(axis=0) * np.geomspace(1.0, 1e7, 7) + np.geomspace(100.0, 1e8, 7)
    return X, rng.standard_normal(n) + X @ (1 / np.geomspace(1.0, 1e7, 7))


def reference(X, Y):
    """Half-mean loss of the best map, from columns that are centred and scaled; a column of ones must be first."""
    centred = X[:, 1:] - X[:, 1:].mean(axis=0)
    scaled = np.column_stack([np.ones(len(X)), centred / np.where(np.ptp(centred, axis=0) > 0, centred.std(axis=0), 1)])
    return float(np.mean((Y - scaled @ np.linalg.lstsq(scaled, Y, rcond=1e-12)[0]) ** 2)) / 2


def predicted_loss(objective, X, Y):
    return np.mean((Y - X @ np.asarray(objective.optimum)[0]) ** 2) / 2


def variants(X, Y):
    """The moments of these samples, as every way to make them has them."""
    moments = Moments.of(X, Y)
    yield moments
    yield Moments.from_chunks([(X[i : i + 3], Y[i : i + 3]) for i in range(0, len(X), 3)])
    yield Moments.of(X[:2], Y[:2]).merge(Moments.of(X[2:], Y[2:]))
    yield moments.whitened()[0]


@pytest.mark.parametrize("offset", [2000.0, 2e4, 1e6, 1e9])
@pytest.mark.parametrize("slope", [1.0, -3.0])
def test_an_offset_changes_no_minimum(offset, slope):
    X, Y = np.column_stack([np.ones(8), COUNT + offset]), slope * COUNT
    for moments in variants(X, Y):
        objective = dl.SquaredError.from_data(moments)
        assert float(objective.minimum) <= 1e-14 * Y.var()
    objective = dl.SquaredError.of(X, Y)
    assert objective.second_moment.rank == 2
    np.testing.assert_allclose(objective.optimum, [[-slope * offset, slope]], rtol=1e-13)
    assert predicted_loss(objective, X, Y) <= (1e-15 * offset) ** 2
    for W in ([[0.0, 0.0]], [[1.0, 0.0]]):  # W* itself is rounded: what is lost is eps times the offset
        true = np.mean((Y - X @ W[0]) ** 2) / 2
        np.testing.assert_allclose(objective(jnp.array(W)), true, rtol=1e-14 + 1e-15 * offset)


def test_one_layer_on_days_learns_what_exact_arithmetic_says():
    objective = dl.SquaredError.of(STAMPED, COUNT)
    solution = exact.regression(objective, dl.Network([np.zeros((1, 2))]))([1e8])
    # mpmath at 50 digits
    np.testing.assert_allclose(solution.end_to_end[0], [[-14614.600214167427, 0.73077712824386061]], rtol=1e-10)
    np.testing.assert_allclose(solution.loss, 0.19026250852245611, rtol=1e-10)
    np.testing.assert_allclose(objective.input_spectrum[0], [1.3120407250643444e-08, 400140018.49999999], rtol=1e-10)
    np.testing.assert_allclose(exact.regression(objective, dl.Network([STAMPED[:1] * 0]))([1e12]).loss, 0.0, atol=1e-20)
    compiled = eqx.filter_jit(lambda network, ts: exact.regression(objective, network)(ts).loss)
    np.testing.assert_allclose(compiled(dl.Network([np.zeros((1, 2))]), np.array([1e8])), solution.loss, rtol=1e-12)


def test_a_flow_on_days_claims_nothing_that_it_did_not_reach():
    objective = dl.SquaredError.of(STAMPED, COUNT)
    trajectory = dl.gradient_flow(objective, dl.Network([np.full((1, 2), 1e-3)]), max_steps=500)
    assert trajectory.ending.kind != "global minimum" or float(trajectory.ending.excess) < 1e-5


def test_time_stamps_beside_small_columns():
    X, Y = timestamps()
    for moments in (*variants(X, Y), Moments.of(X, Y).centered()):
        assert float(dl.SquaredError.from_data(moments).minimum) < 1e-14
    moments = Moments.of(X, Y)
    assert moments.remarks() == []
    np.testing.assert_allclose(dl.SquaredError.from_data(moments).optimum, [[0.0, 1.0, -2.0]], atol=1e-12)
    np.testing.assert_allclose(dl.SquaredError.from_data(moments.centered()).optimum, [[0.0, 1.0, -2.0]], atol=1e-12)


@pytest.mark.parametrize("weights", [[1e-8, 1.0], [0.0, 1.0], [1.0, 0.0]])
def test_columns_of_very_different_size(weights):
    X = np.array([[1e8, 1.0], [1e8, -1.0], [-1e8, 1.0], [-1e8, -1.0]])
    objective = dl.SquaredError.of(X, X @ weights)
    assert float(objective.minimum) <= 1e-15 * np.var(X @ weights)
    np.testing.assert_allclose(objective.optimum, [weights], rtol=1e-14, atol=1e-16)
    given = dl.SquaredError.from_moments([[weights[0] * 1e16, weights[1]]], np.diag([1e16, 1.0]))
    np.testing.assert_allclose(given.optimum, [weights], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("ratio", [1e4, 1e8, 1e12])
def test_any_ratio_of_deviations(ratio):
    rng = np.random.default_rng(2)
    Z, noise = rng.standard_normal((30, 3)), rng.standard_normal(30)
    X, Y = Z * [ratio, 1.0, 1 / ratio], Z @ [1.0, 2.0, 3.0] + noise
    true = np.mean((Y - Z @ np.linalg.lstsq(Z, Y, rcond=None)[0]) ** 2) / 2
    for moments in variants(X, Y):
        objective = dl.SquaredError.from_data(moments)
        np.testing.assert_allclose(objective.minimum, true, rtol=1e-13)
        assert objective.second_moment.rank == 3
    objective = dl.SquaredError.of(X, Y)
    np.testing.assert_allclose(predicted_loss(objective, X, Y), true, rtol=1e-13)
    W = jnp.array([[0.3 / ratio, 0.2, 0.1 * ratio]])
    np.testing.assert_allclose(objective(W), np.mean((Y - X @ W[0]) ** 2) / 2, rtol=1e-13)
    slope = -(Y - X @ W[0]) @ X / 30
    np.testing.assert_allclose(objective.gradient(W)[0], slope, rtol=1e-11)
    np.testing.assert_allclose(jax.grad(objective)(W)[0], slope, rtol=1e-11)
    np.testing.assert_allclose(objective.sigma_yx[0], Y @ X / 30, rtol=1e-12)


def test_seven_economic_columns_all_count():
    X, Y = economy()
    X = np.column_stack([np.ones(len(X)), X])
    assert float(np.linalg.cond(np.corrcoef(X[:, 1:].T))) == pytest.approx(1.4e3, rel=0.5)
    for moments in variants(X, Y):
        objective = dl.SquaredError.from_data(moments)
        assert objective.second_moment.rank == 8
        np.testing.assert_allclose(objective.minimum, reference(X, Y), rtol=1e-11)
    assert Moments.of(X, Y).remarks() == ["1 constant input column (1)"]
    centred = dl.SquaredError.from_data(Moments.of(X, Y).centered())
    np.testing.assert_allclose(centred.minimum, reference(X, Y), rtol=1e-11)
    biased = dl.SquaredError.from_data(Moments.of(X[:, 1:], Y).with_constant())
    np.testing.assert_allclose(biased.minimum, reference(X, Y), rtol=1e-11)


def test_large_outputs_keep_their_digits():
    rng = np.random.default_rng(3)
    x, noise = rng.standard_normal(20), rng.standard_normal(20)
    X, Y = np.column_stack([np.ones(20), x]), 1e9 + x + noise
    left = np.mean((Y - 1e9 - X @ np.linalg.lstsq(X, Y - 1e9, rcond=None)[0]) ** 2) / 2
    np.testing.assert_allclose(dl.SquaredError.of(X, Y).minimum, left, rtol=1e-13)


@pytest.mark.parametrize("scale", [dl.HALF_MEAN, dl.MEAN, dl.HALF_SUM, dl.SUM, dl.ENTRY_MEAN], ids=str)
def test_every_scale_of_the_loss(scale):
    Y = np.column_stack([COUNT**2, 1e6 - COUNT])
    left = Y[:, 0] - np.polyval(np.polyfit(COUNT, Y[:, 0], 1), COUNT)
    total = {"half-mean": 1 / 16, "mean": 1 / 8, "half-sum": 1 / 2, "sum": 1.0, "entry-mean": 1 / 16}[scale.name]
    np.testing.assert_allclose(dl.SquaredError.of(STAMPED, Y, scale).minimum, total * left @ left, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e6])
def test_repeated_constant_and_empty_columns(offset):
    x = COUNT**2 + offset
    X = np.column_stack([x, 2 * x, np.ones(8), np.zeros(8), np.full(8, 1e6), -x])
    for moments in (Moments.of(X, COUNT), Moments.from_chunks([(X[:3], COUNT[:3]), (X[3:], COUNT[3:])])):
        objective = dl.SquaredError.from_data(moments)
        assert objective.second_moment.rank == 2
        left = COUNT - np.polyval(np.polyfit(COUNT**2, COUNT, 1), COUNT**2)
        np.testing.assert_allclose(objective.minimum, left @ left / 16, rtol=1e-11)
        W = np.asarray(objective.optimum)[0]
        np.testing.assert_allclose(W[[1, 3, 5]], [2 * W[0], 0.0, -W[0]], rtol=1e-9, atol=1e-18)  # of least norm
        assert abs(W[2] - W[4] / 1e6) < 1e-9 * np.linalg.norm(W)
        assert "rank 2 of 6" in " ".join(moments.remarks())
        assert "3 constant input columns (3, 4, 5)" in moments.remarks()
    centred = dl.SquaredError.from_data(Moments.of(X, COUNT).centered())
    assert centred.second_moment.rank == 1
    np.testing.assert_allclose(centred.minimum, left @ left / 16, rtol=1e-11)


def test_a_constant_hidden_in_a_combination_is_found_and_named():
    X = np.column_stack([DAYS, 2 * DAYS + 3])
    moments = Moments.of(X, COUNT)
    assert float(dl.SquaredError.from_data(moments).minimum) < 1e-13
    assert any("serves as intercept" in remark for remark in moments.remarks())


def test_one_sample_and_fewer_samples_than_inputs():
    objective = dl.SquaredError.of([[1.0, 1e6]], [2.0])
    assert float(objective.minimum) == 0 and objective.second_moment.rank == 1
    np.testing.assert_allclose(objective.optimum, np.array([[1.0, 1e6]]) * 2 / (1 + 1e12), rtol=1e-12)
    X, Y = timestamps()
    few = dl.SquaredError.of(X[:2], Y[:2])
    assert float(few.minimum) < 1e-15 and few.second_moment.rank == 2


def test_memory_maps_with_very_different_chunks(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    x = 1e8 + np.repeat([0.0, 1e4, -3e4, 2e4], 25) + rng.standard_normal(100)
    X, Y = np.column_stack([np.ones(100), x, 3 * x]), 1e-4 * (x - 1e8) + rng.standard_normal(100)
    np.save(tmp_path / "X.npy", X)
    monkeypatch.setattr(data, "CHUNK_BYTES", 8 * 4 * 25)
    moments = Moments.of(np.load(tmp_path / "X.npy", mmap_mode="r"), Y)
    objective = dl.SquaredError.from_data(moments)
    assert objective.second_moment.rank == 2
    left = Y - np.polyval(np.polyfit(x - 1e8, Y, 1), x - 1e8)
    np.testing.assert_allclose(objective.minimum, left @ left / 200, rtol=1e-12)


@pytest.mark.parametrize("case", [(STAMPED, COUNT), timestamps(), economy()], ids=["days", "time stamps", "economy"])
def test_whitening_and_normal_form_hold_for_them(case):
    X, Y = case
    moments = Moments.of(X, Y)
    whitened, whitening = moments.whitened()
    T, objective = whitening.transform, dl.SquaredError.from_data(whitened)
    root = moments.fit().moment.factor
    loss = 4 * float(np.max(np.abs(T) @ np.abs(root))) * np.finfo(float).eps
    np.testing.assert_allclose(T @ root @ root.T @ T.T, np.eye(len(T)), atol=8 * loss)
    assert objective.whitened and len(T) == X.shape[1]
    form = NormalForm.of(moments)
    np.testing.assert_allclose(np.sum(form.sigma**2), np.sum(np.asarray(objective.optimum) ** 2), rtol=1e-13)
    target = Target.of(dl.SquaredError.from_data(moments))
    np.testing.assert_allclose(target.sigma[0] ** 2, np.sum(form.sigma**2), rtol=1e-9)


def test_everything_that_asks_for_the_rank_hears_the_same():
    X, Y = timestamps()
    objective = dl.SquaredError.of(X, Y)
    assert all(check.holds for check in predicates.full_rank_and_wide(objective, (3, 4, 1))[:2])
    network = dl.Network([np.ones((1, 3))])
    smallest = float(objective.second_moment.variances[-1])
    assert float(rates(objective)(network)[0]) == pytest.approx(smallest, rel=1e-12)
    singular_values = np.linalg.svd(X[:, 1:] - np.outer(X[:, 0], X[:, 0] @ X[:, 1:] / (X[:, 0] @ X[:, 0])))[1]
    assert smallest == pytest.approx(singular_values[-1] ** 2 / 200, rel=1e-9)
    assert weight_bounds(objective, network).product < 1e12
    reduction = reduce(objective, dl.Network([np.ones((5, 3)), np.ones((1, 5))]))
    W = reduction.network.end_to_end
    np.testing.assert_allclose(reduction.objective(W), objective(jnp.full((1, 3), 5.0)), rtol=1e-9)


def test_a_nearly_projecting_second_moment_is_no_projector():
    objective = dl.SquaredError.from_moments([[1.0, 1e-13]], np.diag([1.0, 1e-13]))
    with pytest.raises(exact.NotExact, match=r"projector|identity"):
        exact.two_layer(objective, dl.Network([[[0.5, 0.0]], [[0.5]]]))


def test_traced_moments_are_judged_at_unit_diagonal():
    S, M = np.diag([1e16, 1.0]), np.array([[1e8, 1.0]])
    objective = jax.jit(lambda S, M: dl.SquaredError.from_moments(M, S))(S, M)
    np.testing.assert_allclose(objective.optimum, [[1e-8, 1.0]], rtol=1e-12)
    slope = jax.grad(lambda S: dl.SquaredError.from_moments(M, S)(jnp.zeros((1, 2))))(S)
    np.testing.assert_allclose(np.diagonal(slope), [-5e-17, -0.5], rtol=1e-10)


def test_learning_and_the_estimator_descend_the_same_objective():
    X, Y = timestamps()
    for settings in ({}, {"center": True}, {"center": True, "whiten": True}, {"whiten": True}):
        objective, widths, remarks = problem(Experiment(hidden=(4,), **settings), Moments.of(X, Y))
        assert float(objective.minimum) < 1e-14 and widths[0] == 3
        assert not any("singular" in remark for remark in remarks)
    model = dl.DeepLinearRegressor(hidden=(), tolerance=1e-12).fit(DAYS[:, None], COUNT)
    np.testing.assert_allclose(model.coef_, [1.0], rtol=1e-5)
    np.testing.assert_allclose(model.intercept_, -20000, rtol=1e-5)


# what float64 cannot represent ----------------------------------------------------------------------------------------

GOOD = np.array([[1.0, 2.0], [3.0, 5.0]])


@pytest.mark.parametrize("size", [1e100, 1e154, 1e200, 1e308])
@pytest.mark.parametrize("column", [0, 1])
def test_samples_whose_squares_overflow(size, column):
    bad = GOOD * np.where(np.arange(2) == column, size / 5, 1.0)
    for X, Y, name in ((bad, GOOD, "X"), (GOOD, bad, "Y")):
        with pytest.raises(ValueError, match=rf"^`{name}`: has .* column {column + 1}, and squares .* divide by"):
            dl.SquaredError.of(X, Y)


@pytest.mark.parametrize("size", [1e-100, 1e-160, 1e-300])
def test_samples_whose_squares_underflow(size):
    bad = GOOD * [1.0, size]
    for X, Y, name in ((bad, GOOD, "X"), (GOOD, bad, "Y")):
        with pytest.raises(ValueError, match=rf"^`{name}`: column 2 never exceeds .*, and squares .* divide by"):
            Moments.from_chunks([(X[:1], Y[:1]), (X[1:], Y[1:])])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma_yx": np.eye(2) * 1e200}, r"^`sigma_yx`: its largest entry is 1e\+200, and squares"),
        ({"sigma_yx": np.eye(2), "sigma_xx": np.eye(2) * 1e200}, r"^`sigma_xx`: its largest entry is 1e\+200"),
        ({"sigma_yx": np.eye(2), "sigma_xx": np.eye(2) * 1e-300}, r"^`sigma_xx`: its largest entry is 1e-300"),
        ({"sigma_yx": np.eye(2), "trace_yy": 1e300}, r"^`trace_yy`: its largest entry is 1e\+300"),
        ({"sigma_yx": np.eye(2), "scale": dl.SUM, "count": -5}, r"^`count`: got -5; give a whole number of at least 1"),
        ({"sigma_yx": np.eye(2), "scale": dl.SUM, "count": 0}, r"^`count`: got 0; give a whole number of at least 1"),
        (
            {"sigma_yx": np.eye(2), "scale": dl.SUM, "count": 2.5},
            r"^`count`: got 2.5; give a whole number of at least 1",
        ),
        (
            {"sigma_yx": np.eye(2), "scale": dl.SUM, "count": np.nan},
            r"^`count`: got nan; give a whole number of at least 1",
        ),
        ({"sigma_yx": np.eye(2) * np.nan}, r"^`sigma_yx`: has nan at row 1, column 1"),
        ({"sigma_yx": np.eye(2), "sigma_xx": np.full((2, 2), np.inf)}, r"^`sigma_xx`: has inf at row 1, column 1"),
    ],
)
def test_moments_that_float64_cannot_hold(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        dl.SquaredError.from_moments(**arguments)
    assert "\n" not in str(caught.value)


def test_what_is_lost_is_said():
    rng = np.random.default_rng(5)
    x = rng.standard_normal(50)
    far = Moments.of(np.column_stack([x, 1e9 + x]), x).remarks()
    assert any("(2) with a mean far above the spread" in remark for remark in far)
    near = Moments.of(np.column_stack([x, x + 1e-6 * rng.standard_normal(50), x**2]), x).remarks()
    assert any("(1, 2) that are combinations of each other" in remark for remark in near)
    flat = Moments.of(np.column_stack([x, 1e16 + np.arange(50) % 2]), x).remarks()
    assert "1 constant input column (2)" in flat


def test_other_numbers_that_are_not_finite():
    with pytest.raises(ValueError, match=r"^`noisy`: has nan at row 1, column 1; give finite numbers"):
        generalisation.exact_errors([0.0], [[2.0]], [[np.nan]], start=1.0)
    with pytest.raises(ValueError, match=r"^`s`: got nan; give one number"):
        exact.descent_mode_factors([0.5, 1.0], s=np.nan, learning_rate=0.1)


def test_a_balanced_flow_follows_small_variances():
    objective = dl.SquaredError.from_moments([[0.0, 1e-4]], np.diag([1.0, 1e-8]))
    ours = exact.balanced(objective, dl.init.balanced(0, (2, 2, 1), product=[[0.0, 1.0]]))([0.0, 30.0, 300.0])
    # the second input alone
    alone = dl.SquaredError.from_moments([[1e-4]], [[1e-8]])
    true = exact.balanced(alone, dl.init.balanced(0, (1, 1, 1), product=[[1.0]]))([0.0, 30.0, 300.0])
    np.testing.assert_allclose(ours.end_to_end[:, 0, 1], true.end_to_end[:, 0, 0], rtol=1e-9)
