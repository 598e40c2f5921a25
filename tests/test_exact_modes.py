"""Closed-form modes against mpmath's antiderivatives and quadrature, an ODE solver, and the symmetries of the flow."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from deeplinear.exact.modes import half_time, mode_strength, mode_time

DEPTHS = [1, 2, 3, 4, 5, 7, 12, 20, 50]
DEEP = [h for h in DEPTHS if h > 2]
EPS = np.finfo(float).eps
STARTS = np.array([1e-12, 1e-6, 0.02, 0.4, 0.9, 1 - 1e-9])  # below a target of 1
PLACES = np.array([0.03, 0.3, 0.49, 0.51, 0.8, 0.998, 1 - 1e-6, 1 - 1e-12])  # v: includes both sides of 1/2


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(50):
        yield


def exact_time(u0, u1, s, h, c=1.0):
    """Time from u0 to u1 by an antiderivative in z = u^{1/h}, in 50 digits."""
    u0, u1, s, c = mp.mpf(float(u0)), mp.mpf(float(u1)), mp.mpf(float(s)), mp.mpf(float(c))
    if h == 1:
        return mp.log((s - c * u0) / (s - c * u1)) / c
    if s == 0:
        m = 2 - mp.mpf(2) / h
        return (u1**-m - u0**-m) / (m * h * c)
    if h == 2:
        return mp.log(u1 * (s - c * u0) / (u0 * (s - c * u1))) / (2 * s)
    target = s / c
    x0, x1 = (mp.root(u / abs(target), h) for u in (u0, u1))
    b = mp.mpf(2) / h
    if target > u0:
        antiderivative = lambda x: x ** (2 - h) / (2 - h) + x**2 / 2 * mp.hyp2f1(1, b, 1 + b, x**h)
    elif target > 0:
        antiderivative = lambda x: x ** (2 - 2 * h) / (2 * h - 2) * mp.hyp2f1(1, 2 - b, 3 - b, x**-h)
    else:
        antiderivative = lambda x: x ** (2 - h) / (h - 2) + x**2 / 2 * mp.hyp2f1(1, b, 1 + b, -(x**h))
    return (antiderivative(x1) - antiderivative(x0)) / abs(target) ** (2 - b) / c


def slope(u, s, h, c=1.0):
    """d ln z / dt."""
    return u ** (1 - 2 / h) * (s - c * u)


def sensitivity(t, u0, u, s, h, c=1.0):
    """|d ln z / d ln t| + |d ln z / d ln u0|: what rounding of the arguments alone does to z."""
    start = slope(u0, s, h, c)
    return np.abs(slope(u, s, h, c)) * (t + 1 / np.maximum(np.abs(h * start), 1e-300))


def journeys(kind):
    """Pairs (u0, u1, s) with u1 on the way from u0, in units in which |s| = 1 or s = 0."""
    if kind == "rise":
        pairs = [(a, b, 1.0) for a in STARTS for b in PLACES if b > a]
        return pairs + [(a, a * (1 + d), 1.0) for a in STARTS[:4] for d in (1e-14, 1e-9, 0.01)]
    if kind == "fall":
        starts = (1e3, 30.0, 2.2, 1.8, 1.001)
        pairs = [(a, 1 / b, 1.0) for a in starts for b in PLACES if 1 / b < a]
        return pairs + [(a, 1 + (a - 1) * (1 - d), 1.0) for a in starts for d in (1e-11, 0.01)]
    starts, factors = (1e3, 7.0, 1.1, 0.9, 1e-3, 1e-12), (1 - 1e-14, 1 - 1e-9, 0.9, 0.3, 1e-3, 1e-12)
    return [(a, a * f, -1.0 if kind == "decay" else 0.0) for a in starts for f in factors]


def truth(kind, h, scale, c):
    """u0, u1, s and exact times of the journeys, with strengths in units of `scale` and input variance c."""
    u0, u1, s = np.array(journeys(kind)).T
    u0, u1, s = u0 * scale, u1 * scale, s * scale * c
    return u0, u1, s, [exact_time(*journey, h, c) for journey in zip(u0, u1, s, strict=True)]


@pytest.mark.parametrize("kind", ["rise", "fall", "decay", "flat"])
@pytest.mark.parametrize("h", DEPTHS[1:])
def test_times_are_accurate_to_the_last_digits(h, kind):
    u0, u1, s, exact = truth(kind, h, scale=4.0, c=0.5)
    got = mode_time(u1[None, :], u0, s, h, 0.5)[0]
    errors = [float(abs(t / e - 1)) for t, e in zip(got.tolist(), exact, strict=True)]
    assert max(errors) < 3e-14


@pytest.mark.parametrize("kind", ["rise", "fall", "decay", "flat"])
@pytest.mark.parametrize("h", DEPTHS[1:])
def test_strengths_are_as_accurate_as_their_arguments(h, kind):
    u0, _, s, exact = truth(kind, h, scale=3.0, c=0.7)
    t = np.array([float(e) for e in exact])
    u = mode_strength(t[None, :], u0, s, h, 0.7)[0]
    passed = (u != u0) & (u != s / 0.7)
    assert passed.sum() > 0.6 * len(u)
    for j in np.flatnonzero(passed):
        late = float(exact_time(u0[j], u[j], s[j], h, 0.7) - mp.mpf(t[j]))
        allowed = 5e-15 * (1 + sensitivity(t[j], u0[j], u[j], s[j], h, 0.7))
        assert abs(late * slope(u[j], s[j], h, 0.7)) < allowed, (u0[j], s[j], t[j])


@pytest.mark.parametrize(("u0", "u1", "s"), [(0.01, 1.7, 2.0), (5.0, 3.0, 2.0), (5.0, 0.01, -2.0), (5.0, 0.2, 0.0)])
@pytest.mark.parametrize("h", [1, 2, 3, 7])
def test_times_are_the_integral_over_the_weight(h, u0, u1, s):
    c = 0.75
    if h == 1:
        integral = mp.quad(lambda u: 1 / (s - c * u), mp.linspace(u0, u1, 5))
    else:
        ends = [mp.root(mp.mpf(u), h) for u in (u0, u1)]
        integral = mp.quad(lambda z: 1 / (z ** (h - 1) * (s - c * z**h)), mp.linspace(*ends, 9))
    assert float(mode_time(u1, u0, s, h, c)) == pytest.approx(float(integral), rel=2e-15, abs=0)
    assert float(exact_time(u0, u1, s, h, c)) == pytest.approx(float(integral), rel=1e-15, abs=0)


@pytest.mark.parametrize("s", [1.5, 0.0, -1.5])
@pytest.mark.parametrize("u0", [0.05, 4.0])
@pytest.mark.parametrize("h", [1, 2, 3, 5, 12])
def test_strengths_solve_the_ode(h, u0, s):
    ts = np.linspace(0, 6, 25)
    field = lambda t, u: h * np.abs(u) ** (2 - 2 / h) * (s - 0.6 * u)
    solution = solve_ivp(field, (0, 6), [u0], "DOP853", ts, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(mode_strength(ts, u0, s, h, 0.6), solution.y[0], rtol=3e-10, atol=3e-15)


@pytest.mark.parametrize("h", DEPTHS)
def test_late_strengths_are_at_the_target(h):
    starts = np.array([1e-8, 0.3, 1 - 1e-12, 1.0, 1 + 1e-12, 7.0, 1e3])
    when = mode_time(0.5, 1e-8, 1.0, h)
    for t in (when + 60.0, when + 1e6, 1e300):
        np.testing.assert_allclose(mode_strength(t, starts, 1.0, h), 1.0, rtol=EPS)


@pytest.mark.parametrize("h", DEEP)
def test_the_last_approach_is_exponential(h):
    # linearised at the target, the gap closes at the rate h c (s / c)^{2-2/h}
    start = 1 + np.array([-1e-6, 1e-6])
    gap = mode_strength(10.0 / h, start, 1.0, h) - 1
    np.testing.assert_allclose(gap, (start - 1) * np.exp(-10), rtol=1e-5)


@pytest.mark.parametrize("h", DEPTHS)
def test_nothing_moves_at_rest(h):
    ts = np.array([0.0, 1e-3, 1.0, 1e9])
    np.testing.assert_array_equal(mode_strength(ts, 0.3, 0.6, h, 2.0), 0.3)
    np.testing.assert_array_equal(mode_strength(ts, 0.3, 0.0, h, 0.0), 0.3)
    np.testing.assert_array_equal(mode_strength(0.0, [0.0, 0.1, 2.0], 0.7, h), [0.0, 0.1, 2.0])
    assert mode_time(0.3, 0.3, 0.6, h, 2.0) == mode_time(0.3, 0.3, 5.0, h) == 0
    if h > 1:
        np.testing.assert_array_equal(mode_strength(ts[:, None], 0.0, [1.0, 0.0, -1.0], h), np.zeros((4, 3)))


@pytest.mark.parametrize("h", DEPTHS)
def test_times_are_infinite_where_the_mode_never_comes(h):
    behind_beyond_target = mode_time([0.05, 1.5, 1.0], 0.1, 1.0, h)
    above_below_target = mode_time([2.5, 0.5, 1.0], 2.0, 1.0, h)
    assert np.isinf(np.concatenate([behind_beyond_target, above_below_target])).all()
    assert np.isinf(mode_time([0.3, 0.1], 0.2, 0.0, h, 0.0)).all()
    if h > 1:
        assert np.isinf(mode_time([0.5, 0.0, -1.0], 0.4, -1.0, h)).all()
        assert np.isinf(mode_time([0.5, -0.5], 0.0, 1.0, h)).all()


def test_depth_two_does_not_overflow():
    ts = np.array([1e6, 1e300, 1.7e308])
    np.testing.assert_array_equal(mode_strength(ts, 1e-300, 1.0, 2), 1.0)
    np.testing.assert_array_equal(mode_strength(ts, 1e300, -1.0, 2), 0.0)
    assert float(mode_time(0.5, 1e-300, 1.0, 2)) == pytest.approx(150 * np.log(10), rel=1e-15, abs=0)


@pytest.mark.parametrize("h", [3, 4, 50])
@pytest.mark.parametrize(("u0", "s"), [(1e300, 1.0), (1e-300, 1.0), (1.0, 1e-300), (1.0, -1e-300), (1e-300, -1.0)])
def test_extremes_stay_between_start_and_target(h, u0, s):
    u = mode_strength([0.0, 1e-300, 1.0, 1e20, 1e308], u0, s, h)
    end = max(s, 0.0)
    assert np.all((min(u0, end) <= u) & (u <= max(u0, end)))
    assert np.all(np.diff(u) * np.sign(end - u0) >= 0)
    assert not np.isnan(mode_time(u, u0, s, h)).any()


@pytest.mark.parametrize("h", DEEP)
def test_descent_from_afar_forgets_the_start(h):
    # the powers of 1e300 overflow; the exact time to come down is finite
    exact = float(exact_time(1e300, 3.0, 1e-9, h))
    assert float(mode_time(3.0, 1e300, 1e-9, h)) == pytest.approx(exact, rel=1e-9, abs=0)
    assert float(mode_strength(exact, 1e300, 1e-9, h)) == pytest.approx(3.0, rel=1e-9, abs=0)


def test_depth_one_is_the_linear_ode():
    ts, u0, s, c = np.array([0.0, 0.2, 3.0]), np.array([-1.0, 0.2, 4.0]), np.array([2.0, 0.0, -1.0]), 0.5
    expected = [[float(b / c + (a - b / c) * mp.exp(-c * t)) for a, b in zip(u0, s, strict=True)] for t in ts]
    np.testing.assert_allclose(mode_strength(ts, u0, s, 1, c), expected, rtol=1e-15)
    np.testing.assert_allclose(mode_time(np.array(expected), u0, s, 1, c), np.tile(ts[:, None], 3), rtol=1e-14)


def test_half_times():
    u0, s, c = np.array([0.01, 0.3]), np.array([2.0, 1.5]), 0.8
    np.testing.assert_allclose(half_time(u0, s, 1, c), np.log(2 * (1 - u0 * c / s)) / c, rtol=1e-14)
    np.testing.assert_allclose(half_time(u0, s, 2, c), np.log(s / (c * u0) - 1) / (2 * s), rtol=1e-14)
    for h in DEPTHS:
        reached = mode_strength(half_time(u0, s, h, c)[None, :], u0, s, h, c)[0]
        np.testing.assert_allclose(reached, s / c / 2, rtol=1e-12)
        np.testing.assert_array_equal(half_time([1.0, 3.0, 0.0], [2.0, 2.0, 0.0], h), [0.0, 0.0, np.inf])
    np.testing.assert_array_equal(half_time([0.0, 1.0, 1.0], [1.0, 0.0, -1.0], 2), np.inf)
    assert half_time(0.0, 1.0, 1) == half_time(0.0, -1.0, 1) == pytest.approx(np.log(2), rel=1e-15)


def test_arguments_broadcast_time_by_mode():
    ts, u0, s = np.array([0.1, 1.0, 2.0]), np.array([0.1, 0.2]), np.array([1.0, 3.0])
    for function in (mode_strength, mode_time):
        table = function(ts, u0, s, 3)
        assert table.shape == (3, 2)
        assert function(ts, 0.1, 1.0, 3).shape == (3,)
        assert function(1.0, u0, 1.0, 3).shape == (2,)
        assert function(1.0, 0.1, 1.0, 3, 1.0).shape == ()
        np.testing.assert_array_equal(function(ts, 0.2, 3.0, 3), table[:, 1])
        np.testing.assert_array_equal(function(np.stack([ts, ts], axis=1), u0, s, 3), table)
    assert half_time(0.1, s, 3, [1.0, 0.5]).shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 0.1, 1.0, 0), "`depth`"),
        ((1.0, 0.1, 1.0, 2.5), "`depth`"),
        (([1.0, -1.0], 0.1, 1.0, 2), "`ts`"),
        ((np.inf, 0.1, 1.0, 2), "`ts`"),
        ((1.0, -0.1, 1.0, 2), "`u0`"),
        ((1.0, [0.1, np.nan], 1.0, 2), "`u0`"),
        ((1.0, 0.1, np.inf, 3), "`s`"),
        ((1.0, 0.1, 1.0, 3, -1.0), "`input_variance`"),
        ((1.0, 0.1, 1.0, 3, 0.0), "`input_variance`"),
        ((1.0, 0.1, 1.0, 3, 1e-310), "`input_variance`"),
        ((1.0, [0.1, 0.2], [1.0, 2.0, 3.0], 2), "shapes"),
        ((np.ones((4, 3)), [0.1, 0.2], 1.0, 2), "shapes"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        mode_strength(*arguments)
    assert "\n" not in str(caught.value)


depths = st.sampled_from(DEPTHS)
deep = st.sampled_from(DEPTHS[1:])
starts = st.floats(-8, 3).map(lambda e: 10.0**e)
targets = st.one_of(st.just(0.0), st.floats(0.05, 20.0), st.floats(-20.0, -0.05))
durations = st.floats(-4, 3).map(lambda e: 10.0**e)


@settings(deadline=None)
@given(h=deep, u0=starts, s=targets, t1=durations, t2=durations)
def test_flowing_twice_is_flowing_once(h, u0, s, t1, t2):
    halfway = mode_strength(t1, u0, s, h)
    assume(halfway > 1e-200)
    once, twice = mode_strength(t1 + t2, u0, s, h), mode_strength(t2, halfway, s, h)
    spread = sensitivity(t1 + t2, u0, once, s, h) + sensitivity(t2, halfway, once, s, h)
    np.testing.assert_allclose(twice, once, rtol=h * 1e-14 * (1 + spread), atol=1e-300)


@settings(deadline=None)
@given(h=depths, u0=starts, s=targets, times=st.lists(durations, min_size=2, max_size=8))
def test_strengths_move_towards_the_target_only(h, u0, s, times):
    u = mode_strength(np.sort([0.0, *times]), u0, s, h)
    end = s if h == 1 else max(s, 0.0)
    assert np.all((min(u0, end) <= u) & (u <= max(u0, end)))
    assert np.all(np.diff(u) * np.sign(end - u0) >= -20 * EPS * h * np.abs(u[1:]) - EPS * abs(end))


@settings(deadline=None)
@given(h=deep, u0=starts, s=targets, t=durations)
def test_times_invert_strengths(h, u0, s, t):
    u = mode_strength(t, u0, s, h)
    assume(u > 1e-200 and abs(u - u0) > 100 * EPS * u0 and abs(u - s) > 100 * EPS * abs(s))
    late = float(mode_time(u, u0, s, h)) - t
    assert abs(late * slope(u, s, h)) < 1e-14 * (1 + sensitivity(t, u0, u, s, h))


@settings(deadline=None)
@given(h=deep, u0=starts, s=targets, t=durations, k=st.floats(0.05, 20.0))
def test_scaling_strengths_scales_time(h, u0, s, t, k):
    scaled, plain = mode_strength(t, k * u0, k * s, h), mode_strength(t * k ** (2 - 2 / h), u0, s, h)
    tolerance = h * 1e-14 * (1 + sensitivity(t, k * u0, scaled, k * s, h))
    np.testing.assert_allclose(scaled, k * plain, rtol=tolerance, atol=1e-300)


@settings(deadline=None)
@given(h=depths, u0=starts, s=targets, t=durations, c=st.floats(0.1, 10.0))
def test_input_variance_rescales_target_and_time(h, u0, s, t, c):
    assume(h > 1 or s != 0)
    got, white = mode_strength(t, u0, s, h, c), mode_strength(c * t, u0, s / c, h)
    tolerance = h * 1e-14 * (1 + sensitivity(c * t, u0, white, s / c, h) if h > 1 else 100)
    np.testing.assert_allclose(got, white, rtol=tolerance, atol=1e-300)
