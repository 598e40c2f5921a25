"""What an ending certifies, and relative to what: shares of what can be explained, and true reasons for stopping."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_descent, gradient_flow, init

# y in the first column: employment; deflator, GNP, unemployed, armed forces, population, year (Longley 1967)
LONGLEY = np.array(
    [
        [60323, 83.0, 234289, 2356, 1590, 107608, 1947],
        [61122, 88.5, 259426, 2325, 1456, 108632, 1948],
        [60171, 88.2, 258054, 3682, 1616, 109773, 1949],
        [61187, 89.5, 284599, 3351, 1650, 110929, 1950],
        [63221, 96.2, 328975, 2099, 3099, 112075, 1951],
        [63639, 98.1, 346999, 1932, 3594, 113270, 1952],
        [64989, 99.0, 365385, 1870, 3547, 115094, 1953],
        [63761, 100.0, 363112, 3578, 3350, 116219, 1954],
        [66019, 101.2, 397469, 2904, 3048, 117388, 1955],
        [67857, 104.6, 419180, 2822, 2857, 118734, 1956],
        [68169, 108.4, 442769, 2936, 2798, 120445, 1957],
        [66513, 110.8, 444546, 4681, 2637, 121950, 1958],
        [68655, 112.6, 482704, 3813, 2552, 123366, 1959],
        [69564, 114.2, 502601, 3931, 2514, 125368, 1960],
        [69331, 115.7, 518173, 4806, 2572, 127852, 1961],
        [70551, 116.9, 554894, 4007, 2827, 130081, 1962],
    ]
)
X_LINE = np.stack([np.ones(101), np.linspace(-1.7, 1.7, 101)], axis=1)


def unexplained(X, y, W):
    """Share of what least squares explains of y about its mean that W leaves, in long doubles around numpy's answer."""
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    rest = lambda W: float(np.mean((y - X @ W).astype(np.longdouble) ** 2))
    return (rest(W) - rest(best)) / (float(np.var(y)) - rest(best))


# relative to what there is to explain ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("widths", [(2, 1), (2, 5, 1)])
def test_a_large_mean_is_no_explanation(offset, widths):
    y = offset + X_LINE[:, 1]
    objective = SquaredError.of(X_LINE, y[:, None])
    run = gradient_flow(objective, init.gaussian(0, widths, 0.1))
    share = unexplained(X_LINE, y, np.asarray(run.end_to_end[-1, 0]))
    assert run.ending.kind == "global minimum" and share < 1.1e-6
    assert run.ending.unexplained == pytest.approx(share, abs=1e-8)
    assert "of what the inputs can explain" in run.ending.message
    # a run that stops where the mean alone is explained is no minimum, and says what is left
    early = gradient_flow(objective, Network([[[offset, 0.3]]]), [1e-9]).ending
    assert early.kind == "time" and early.unexplained == pytest.approx(0.49, rel=1e-6)


def test_the_estimator_and_learn_explain_what_they_say():
    y = 1000 + X_LINE[:, 1] + 0.2 * np.cos(np.arange(101.0))
    data = dl.learn(X_LINE, y[:, None], hidden=5, scale=1e-2)
    assert data.attrs["ending"]["kind"] == "global minimum"
    best = np.linalg.lstsq(X_LINE, y, rcond=None)[0]
    floor = np.mean((y - X_LINE @ best) ** 2) / 2
    assert data.attrs["ending"]["loss"] == pytest.approx(floor, rel=1e-4)
    model = dl.DeepLinearRegressor(hidden=(5,), center=False, scale=1e-2).fit(X_LINE, y)
    assert model.ending_.kind == "global minimum"
    assert model.score(X_LINE, y) == pytest.approx(1 - 2 * floor / np.var(y), abs=2e-6)


def test_a_descent_is_judged_by_the_same_share():
    y = 1000 + X_LINE[:, 1]
    objective = SquaredError.of(X_LINE, y[:, None])
    short, long = (
        gradient_descent(objective, Network([np.zeros((1, 2))]), 0.5, steps, save_every=steps).ending
        for steps in (8, 200)
    )
    assert (short.kind, long.kind) == ("steps", "global minimum")
    assert short.unexplained > 1e-6 > long.unexplained


def test_moments_without_means_are_judged_as_before():
    y = 1000 + X_LINE[:, 1:]
    moments = (y.T @ X_LINE / 101, X_LINE.T @ X_LINE / 101, float(np.mean(y**2)))
    assert SquaredError.from_moments(*moments).variation is None
    assert SquaredError.of(X_LINE, y).variation == pytest.approx(np.var(y) / 2, rel=1e-9)
    traced = jax.jit(SquaredError.of)(X_LINE, y)
    assert traced.variation == pytest.approx(np.var(y) / 2, rel=1e-9)


# horizons -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("center", [True, False])
def test_a_badly_conditioned_table_is_run_to_its_minimum(center):
    """The correlations of the six columns have condition 1e4, their raw second moments 1e16 and more."""
    y, X = LONGLEY[:, :1], LONGLEY[:, 1:]
    data = dl.learn(X, y, hidden=(), center=center, scale=1e-3)
    ending = data.attrs["ending"]
    mean = (lambda M: M - M.mean(axis=0)) if center else (lambda M: M)
    best = np.linalg.lstsq(mean(X), mean(y), rcond=None)
    assert ending["kind"] == "global minimum"
    assert ending["loss"] == pytest.approx(float(best[1][0]) / 32, rel=1e-3)


def test_steps_that_do_not_suffice_say_what_is_slow():
    y, X = LONGLEY[:, :1] / 1e3, LONGLEY[:, 1:] / LONGLEY[:, 1:].std(axis=0)
    run = gradient_flow(SquaredError.of(X, y), Network([np.full((1, 6), 1e-3)]), max_steps=300)
    assert run.ending.kind == "steps" and "long after" not in run.ending.message
    variances = np.linalg.eigvalsh(X.T @ X / 16)
    slow = float(run.ending.message.partition("variance ")[2].split(",")[0])
    assert np.min(np.abs(variances / slow - 1)) < 0.01
    timed = gradient_flow(SquaredError.of(X, y), Network([np.full((1, 6), 1e-3)]), max_time=0.1).ending
    assert timed.kind == "time" and "more would be needed" in timed.message


def test_nothing_to_learn_ends_at_once():
    """No inputs, or nothing that moves: not a minimum found at t = 1e292."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    start = init.gaussian(0, (3, 4, 2), 0.1)
    ending = gradient_flow(SquaredError.of(0 * X, y), start).ending
    assert (ending.kind, ending.time, ending.excess) == ("global minimum", 0.0, 0.0)
    assert "nothing to learn" in ending.message and ending.unexplained is None
    data = dl.learn(0 * X, y, hidden=4)
    assert data.attrs["ending"]["time"] == 0.0
    assert any("the inputs are zero: there is nothing to learn" in warning for warning in data.attrs["warnings"])
    none = gradient_flow(SquaredError.of(X, 0 * y), Network([np.zeros((4, 3)), np.zeros((2, 4))])).ending
    assert (none.kind, none.time) == ("global minimum", 0.0)
    decays = gradient_flow(SquaredError.of(X, 0 * y), start).ending
    assert decays.kind == "global minimum" and 0 < decays.time < 1e12 and decays.excess < 1e-9


# search ---------------------------------------------------------------------------------------------------------------

BATCH = 16


@pytest.mark.search
@settings(max_examples=max(settings.default.max_examples // BATCH, 3))
@given(st.integers(0, 2**32 - 1))
def test_search_minima_explain_what_can_be_explained(seed):
    rng = np.random.default_rng(seed)
    offsets = rng.choice([-1.0, 1.0], BATCH) * 10 ** rng.uniform(-1, 4.5, BATCH)
    sizes, noise = 10 ** rng.uniform(-3, 3, BATCH), rng.uniform(0, 1, BATCH)
    inputs = 10 ** rng.uniform(-0.5, 0.5, BATCH)[:, None, None] * rng.standard_normal((BATCH, 12, 2))
    X = np.concatenate([np.ones((BATCH, 12, 1)), inputs], axis=2)
    signal = np.einsum("bij,bj->bi", X, np.c_[offsets, rng.standard_normal((BATCH, 2))])
    Y = sizes[:, None] * (signal + noise[:, None] * rng.standard_normal((BATCH, 12)))
    problems = jax.vmap(SquaredError.of)(X, Y[..., None])
    widths = (3, 1)
    start = init.gaussian(seed % 1000, widths, 0.1)
    last = 10 ** rng.uniform(-1, 3)
    run = gradient_flow(problems, start, [last], threads=1)
    for x, y, W, ending in zip(X, Y, np.asarray(run.end_to_end[:, -1, 0]), run.ending, strict=True):
        share = unexplained(x, y, W)
        rounding = 1e-13 * np.mean(y**2) / np.var(y)
        assert ending.kind in ("global minimum", "time")
        assert ending.kind != "global minimum" or share <= 1.01e-6 + rounding
        assert ending.unexplained == pytest.approx(share, rel=1e-3, abs=1e-7 + rounding)
