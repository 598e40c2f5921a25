"""Decoupled modes: scalars against mpmath, networks against brute integration, frames against how they were made."""

import mpmath as mp
import numpy as np
import pytest
from brute import flow, frame, product, weight_error
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import Network, SquaredError, init
from deeplinear.exact import (
    NotExact,
    decoupled,
    infinite_depth_half_time,
    infinite_depth_strength,
    infinite_depth_time,
    mode_strength,
    unbalanced_mode,
    unbalanced_pair,
    unbalanced_pair_time,
)

weights = st.floats(-2.5, 2.5).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


def ode(start, s, c, ts):
    """xi(t) by mpmath's Taylor series, in 30 digits."""
    with mp.workdps(30):
        others = lambda x, i: mp.fprod(x[j] for j in range(len(x)) if j != i)
        field = lambda t, x: [others(x, i) * (s - c * mp.fprod(x)) for i in range(len(x))]
        solution = mp.odefun(field, 0, [mp.mpf(float(x)) for x in start])
        return np.array([[float(x) for x in solution(t)] for t in ts])


STARTS = [
    ([0.3, 0.8], 1.5),
    ([-0.9, 0.2], 1.5),  # the product has to change its sign
    ([0.5, -0.5], 1.0),  # into the saddle
    ([1.5, 1.0], -0.7),
    ([0.0, 0.7], 1.0),
    ([2.0, 1.7], 1.0),  # overshoot
    ([0.4, 0.4], 0.0),
    ([0.6, 0.2, 1.1], 1.0),
    ([-0.1, 0.5, 1.0], 1.0),
    ([0.3, 0.3, -0.8], 1.0),  # two equal moduli cannot pass zero
    ([0.0, 0.5, -0.9], 1.5),
    ([1.5, 1.2, 1.4], 0.5),
    ([0.9, -0.4, 1.3, 0.7], 0.0),
    ([0.2, 0.3, 0.4, 0.5, -0.6], 2.0),
]


@pytest.mark.parametrize(("start", "s"), STARTS)
def test_modes_solve_their_differential_equation(start, s):
    ts, c = [0.0, 0.5, 2.0], 0.75
    got, truth = unbalanced_mode(ts, start, s, c), ode(start, s, c, ts)
    error = np.abs(got - truth).max()
    print(f"start {start}, s = {s}: {error:.1e}")
    assert error < 5e-15 * max(1.0, np.abs(truth).max())
    squares = got**2 - got[:, :1] ** 2
    np.testing.assert_allclose(squares, np.broadcast_to(squares[0], squares.shape), rtol=0, atol=1e-14)


def exact_pair(w1, w2, s, t):
    """The hyperbola in 60 digits, by the angle along it: w = [[ch, sh], [sh, ch]] w0 and a separable equation."""
    with mp.workdps(60):
        w1, w2, s, t = (mp.mpf(float(x)) for x in (w1, w2, s, t))
        p, q = w1 + w2, w1 - w2
        k = mp.sqrt(4 * s**2 + (p * q) ** 2)
        if k == 0:
            return [w / mp.sqrt(1 + max(p**2, q**2) * t / 2) for w in (w1, w2)]
        if p == 0:
            P, Q = 0, q * _riccati(q**2, -s, t)
        else:
            P = p * _riccati(p**2, s, t, p * q)
            Q = p * q / P
        return [(P + Q) / 2, (P - Q) / 2]


def _riccati(x0, s, t, c=0):
    """sqrt(x(t) / x0) of x' = 2 s x - (x^2 - c^2) / 2, the square of w1 + w2, by its two rests."""
    k = mp.sqrt(4 * s**2 + c**2)
    high, low = 2 * s + k, 2 * s - k
    ratio = (x0 - high) / (x0 - low) * mp.exp(-k * t)
    return mp.sqrt((high - low * ratio) / (1 - ratio) / x0)


def test_pairs_to_the_last_digits():
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(500):
        w1, w2 = rng.standard_normal(2) * 10.0 ** rng.uniform(-6, 1, 2)
        s, t = rng.standard_normal() * 10.0 ** rng.uniform(-3, 1), 10.0 ** rng.uniform(-4, 4)
        if rng.random() < 0.2:
            w2 = w1 * rng.choice([-1, 1])
        if rng.random() < 0.1:
            s = 0.0
        got, truth = unbalanced_pair(t, w1, w2, s), exact_pair(w1, w2, s, t)
        size = max(abs(truth[0]), abs(truth[1]))
        # what rounding of the time alone does to the weights
        moved = max(abs(a - b) for a, b in zip(exact_pair(w1, w2, s, t * (1 + 2e-16)), truth, strict=True))
        moved += max(abs(a - b) for a, b in zip(exact_pair(w1 * (1 + 2e-16), w2, s, t), truth, strict=True))
        error = max(abs(mp.mpf(float(a)) - b) for a, b in zip(got, truth, strict=True))
        worst = max(worst, float((error - 4 * moved) / size))
    print(f"unbalanced_pair, 500 random: worst {worst:.1e} of the larger weight")
    assert worst < 1e-14


def exact_pair_time(w1, w2, s, c, u1):
    """The integral over u, and what one rounding of all arguments does to it, in units of rounding."""
    with mp.workdps(25):
        kept = (mp.mpf(w1) ** 2 - mp.mpf(w2) ** 2) ** 2
        speed = lambda u: mp.sqrt(4 * u**2 + kept) * (mp.mpf(s) - mp.mpf(c) * u)
        begin, end = mp.mpf(w1) * mp.mpf(w2), mp.mpf(u1)
        # in arsinh(2 u / sqrt(kept)), or ln |u|, the integrand varies on the scale 1 or is flat
        if kept:
            size = mp.sqrt(kept) / 2
            place, pace = (lambda x: size * mp.sinh(x)), (lambda x: size * mp.cosh(x))
            ends = [mp.asinh(begin / size), mp.asinh(end / size)]
        else:
            place = pace = lambda x: mp.sign(begin) * mp.exp(x)
            ends = [mp.log(abs(begin)), mp.log(abs(end))]
        taken = mp.quad(lambda x: pace(x) / speed(place(x)), mp.linspace(*ends, 12))
        return taken, abs(end / speed(end)) + (abs(begin) + mp.mpf(w1) ** 2 + mp.mpf(w2) ** 2) / abs(speed(begin))


def test_times_of_pairs_to_the_last_digits():
    rng = np.random.default_rng(1)
    worst, timed = 0.0, 0
    for i in range(80):
        w1, w2 = rng.standard_normal(2) * 10.0 ** rng.uniform(-3, 1, 2)
        s, c = rng.standard_normal() * 10.0 ** rng.uniform(-2, 1), 10.0 ** rng.uniform(-1, 1)
        s, w2 = (0.0 if i % 7 == 0 else s), (w1 * rng.choice([-1, 1]) if i % 5 == 0 else w2)
        u0 = w1 * w2
        u1 = u0 + (s / c - u0) * rng.choice([1e-6, 0.1, 0.5, 0.9, 0.999])
        got = float(unbalanced_pair_time(u1, w1, w2, s, c))
        if i % 5 == 0 and u0 * u1 <= 0:
            assert got == np.inf
            continue
        truth, blur = exact_pair_time(w1, w2, s, c, u1)
        worst, timed = max(worst, float(abs(got - truth) / (truth + blur))), timed + 1
    print(f"unbalanced_pair_time, {timed} random: worst {worst:.1e}")
    assert worst < 2e-15 and timed > 60
    assert unbalanced_pair_time(0.3, 0.6, 0.5, 1.0) == 0 and unbalanced_pair_time(0.1, 0.0, 0.0, 1.0) == np.inf
    np.testing.assert_array_equal(unbalanced_pair_time([1.5, 0.1, 1.0], 0.6, 0.5, 1.0), np.inf)
    with pytest.raises(ValueError, match="`input_variance`"):
        unbalanced_pair_time(0.3, 0.6, 0.5, 1.0, 0.0)


def test_pairs_at_extremes():
    w1, w2 = unbalanced_pair([0.0, 1e6, 1e300], [0.5, -1.0, 0.0, 1e-9], [0.5, 1.0, 0.0, 0.0], [2.0, 1.0, 1.0, -3.0])
    np.testing.assert_array_equal(w1[0] * w2[0], [0.25, -1.0, 0.0, 0.0])
    np.testing.assert_allclose((w1 * w2)[1:], [[2.0, 0.0, 0.0, -3.0]] * 2, rtol=1e-14, atol=1e-300)
    shrunk = unbalanced_pair(1000.0, 1e-3, 1e-3, -1.0)[0]  # e^{-1000}: below the smallest number's root
    assert float(shrunk) == pytest.approx(float(1e-3 * mp.exp(-1000) / mp.sqrt(1 + mp.mpf(10) ** -6)), rel=1e-12)


@given(start=st.lists(weights, min_size=3, max_size=7), s=st.floats(-3, 3), t=st.floats(-2, 2).map(lambda e: 10.0**e))
def test_the_time_taken_is_the_integral(start, s, t):
    xi = np.array(start)
    got = unbalanced_mode([t], xi, s)[0]
    np.testing.assert_allclose(
        got**2 - xi**2, np.full(xi.size, np.mean(got**2 - xi**2)), rtol=0, atol=2e-14 * (1 + np.max(xi**2))
    )
    m = int(np.argmin(np.abs(xi)))
    if abs(got[m] - xi[m]) < 1e-6 * (abs(xi[m]) + abs(got[m])) or got[m] == xi[m]:
        return  # too short a way to be timed
    with mp.workdps(30):
        others = [mp.mpf(x) for i, x in enumerate(start) if i != m]
        a = [x**2 - mp.mpf(start[m]) ** 2 for x in others]
        sign = mp.fprod(mp.sign(x) for x in others)
        R = lambda v: mp.fprod(mp.sqrt(v**2 + k) for k in a)
        field = lambda v: sign * R(v) * (mp.mpf(s) - sign * v * R(v))
        begin, end = mp.mpf(start[m]), mp.mpf(float(got[m]))
        speed = abs(field(end))
        if speed < 1e-9:
            return  # at rest to rounding; the next test looks at rests
        cuts = [begin + (end - begin) * (1 - mp.mpf(2) ** -k) for k in range(20)] if begin * end >= 0 else [begin, 0]
        points = sorted({*cuts, end}, reverse=bool(end < begin))
        taken = mp.quad(lambda v: 1 / field(v), points)
        late, early = abs(taken - t) * speed, abs(field(begin))
    allowed = 3e-14 * (1 + float(speed) * (t + (1 / float(early) if early else 1e300)))
    assert float(late) < min(allowed, 1e-9) * (1 + float(np.abs(got).max()))


@pytest.mark.parametrize("h", [2, 3, 5, 20])
def test_late_modes_are_at_the_root(h):
    rng = np.random.default_rng(h)
    for s in (2.0, -2.0, 0.7):
        xi = rng.uniform(0.7, 1.2, h) * rng.choice([-1, 1], h)
        for t in (1e4, 1e6, 1e12)[h // 10 :]:  # sixteen more layers hold a passage through zero up for long
            late = unbalanced_mode([t], xi, s)[0]
            assert np.prod(late) == pytest.approx(s, rel=2e-14, abs=0)
            np.testing.assert_allclose(late**2 - late[0] ** 2, xi**2 - xi[0] ** 2, rtol=0, atol=3e-14)


def test_nearly_balanced_layers_behave_as_balanced_ones():
    ts = np.linspace(0, 30, 7)
    for h in (3, 4, 8):
        z, s = 0.5, 1.3
        curve = mode_strength(ts, z**h, s, h)
        for bump in (0.0, 1e-15, 1e-12, 1e-9):
            xi = np.full(h, z)
            xi[0] += bump
            np.testing.assert_allclose(np.prod(unbalanced_mode(ts, xi, s), axis=1), curve, rtol=50 * h * bump + 1e-12)


def test_scalar_arguments_are_checked():
    for arguments, message in (
        (([-1.0], [1.0, 2.0], 1.0), "`ts`"),
        ((1.0, [1.0, 2.0], 1.0), "`ts`"),
        (([1.0], [1.0, np.nan], 1.0), "`weights`"),
        (([1.0], [1.0, 2.0], np.inf), "`s`"),
        (([1.0], [1.0, 2.0], 1.0, 0.0), "`input_variance`"),
    ):
        with pytest.raises(ValueError, match=message):
            unbalanced_mode(*arguments)
    for arguments, message in ((([-1.0], 1.0, 2.0, 1.0), "`ts`"), ((1.0, 1.0, 2.0, 1.0, 0.0), "`input_variance`")):
        with pytest.raises(ValueError, match=message):
            unbalanced_pair(*arguments)


# ---- infinite depth


@pytest.mark.parametrize("s", [1.0, 0.4, -1.0, -3.0, 0.0])
def test_infinite_depth(s):
    worst_time = worst = 0.0
    for u0 in (1e-3, 0.3, 0.399, 0.9, 1.001, 5.0, 1e3, 1e8):
        for way in (1e-9, 0.01, 0.5, 0.9, 0.999):
            u1 = u0 + (max(s, 0.0) - u0) * way
            with mp.workdps(50):
                S, a, b = mp.mpf(s), mp.mpf(u0), mp.mpf(u1)
                if s:
                    truth = mp.log(b * (S - a) / (a * (S - b))) / S**2 + (1 / a - 1 / b) / S
                else:
                    truth = (b**-2 - a**-2) / 2
            got = float(infinite_depth_time(u1, u0, s))
            worst_time = max(worst_time, float(abs(got / truth - 1)))
            speed = abs(u1 * (s - u1))
            allowed = 1 + speed * (float(truth) + 1 / abs(u0 * (s - u0)))  # conditioning
            worst = max(worst, abs(float(infinite_depth_strength(float(truth), u0, s)) / u1 - 1) / allowed)
    print(f"infinite depth, s = {s}: times {worst_time:.1e}, strengths {worst:.1e}")
    assert worst_time < 1e-14 and worst < 5e-15


def test_the_limit_of_depth():
    # the error of finite depth falls as 1 / h
    ts, u0, s = np.array([2.0, 8.0, 12.0]), 0.1, 1.0
    limit = infinite_depth_strength(ts, u0, s)
    errors = [np.abs(mode_strength(ts / h, u0, s, h) - limit).max() for h in (2000, 4000)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.01)
    half = infinite_depth_half_time([0.1, 0.01, 0.7, 0.0], [1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(infinite_depth_strength(half[:2], [0.1, 0.01], 1.0).diagonal(), 0.5, rtol=1e-13)
    np.testing.assert_array_equal(half[2:], [0.0, np.inf])
    np.testing.assert_array_equal(infinite_depth_half_time(1.0, [0.0, -1.0]), np.inf)
    for bad in ((-1.0, 0.1, 1.0), (1.0, -0.1, 1.0), (1.0, 0.1, np.inf)):
        with pytest.raises(ValueError, match="`"):
            infinite_depth_strength(*bad)


# ---- networks


def aligned(seed, widths, s, xi, variances=None, scale=dl.HALF_MEAN):
    """A problem with singular values s and a network with mode weights xi (layer, mode) between Haar frames."""
    rng = np.random.default_rng(seed)
    modes = len(s)
    U, V = frame(rng, widths[-1], widths[-1])[:, :modes], frame(rng, widths[0], widths[0])
    frames = [V[:, :modes], *(frame(rng, d, d) for d in widths[1:-1]), U]
    layers = []
    for x, below, above in zip(xi, frames[:-1], frames[1:], strict=True):
        k = min(below.shape[1], above.shape[1], modes)
        layers.append((above[:, :k] * np.asarray(x)[:k]) @ below[:, :k].T)
    sigma_xx = None if variances is None else (V * variances) @ V.T
    objective = SquaredError.from_moments((U * s) @ V[:, :modes].T, sigma_xx, scale=scale)
    return objective, Network(layers), V, U


CASES = {
    "unbalanced": ((3, 4, 3), [2.0, 1.0, 0.5], [[0.3, -0.5, 0.1], [0.7, 0.2, -0.6]], None),
    "deep": ((4, 3, 5, 3), [2.0, 1.0, 0.5], [[0.3, -0.5, 1.1], [0.7, 0.2, -0.6], [1.2, 0.9, 0.8]], None),
    "correlated along the modes": (
        (4, 3, 5, 3),
        [2.0, 1.0, 0.5],
        [[0.3, -0.5, 1.1], [0.7, 0.2, -0.6], [1.2, 0.9, 0.8]],
        [0.5, 1.0, 2.0, 3.0],
    ),
    "repeated singular values": ((3, 4, 3), [1.0, 1.0, 1.0], [[0.3, -0.5, 1.1], [0.7, 0.2, -0.6]], None),
    "kernel with weights in it": ((4, 5, 4), [2.0, 0.0, 0.0, 0.0], [[0.3, 0.5, 1.1, 0.2], [0.7, 0.2, 0.6, 0.9]], None),
    "zeros in layers": ((3, 3, 4, 3), [2.0, 1.0, 0.0], [[0.0, 0.6, 0.4], [0.7, 0.0, 0.5], [0.9, 0.8, 0.0]], None),
    "idle modes": ((3, 4, 3), [2.0, 1.0, 0.5], [[0.3, 0.0, 0.4], [0.7, 0.0, -0.4]], None),
    "bottleneck": ((4, 2, 3), [2.0, 1.0, 0.5], [[0.3, 0.5, 0.0], [0.7, 0.2, 0.0]], None),
    "one layer": ((4, 3), [2.0, 1.0, 0.5], [[0.3, -4.0, 0.0]], [0.5, 1.0, 2.0, 3.0]),
    "overshoot": ((2, 3, 2), [1.0, 0.2], [[2.0, 1.0], [1.5, 0.9]], None),
}


@pytest.mark.parametrize("case", CASES)
def test_networks_move_as_their_modes(case):
    widths, s, xi, variances = CASES[case]
    objective, network, *_ = aligned(7, widths, s, xi, variances, dl.MEAN)
    solution = decoupled(objective, network)
    ts = np.array([0.0, 0.1, 0.7, 2.0])
    trajectory, curve = solution.trajectory(ts), solution(ts)
    error = weight_error(objective, network, trajectory)
    print(f"decoupled, {case}: worst weight {error:.1e}, violations {max(c.violation for c in solution.checks):.0e}")
    assert error < 2e-14
    np.testing.assert_allclose(curve.end_to_end, trajectory.end_to_end, rtol=0, atol=2e-14)
    np.testing.assert_allclose(curve.strengths, np.prod(curve.layer_weights, axis=1), rtol=1e-15)
    np.testing.assert_allclose(curve.loss, [float(objective(W)) for W in trajectory.end_to_end], rtol=1e-11, atol=1e-15)


def test_every_assumption_that_fails_is_named():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3, 3))
    objective = SquaredError.from_moments(rng.standard_normal((3, 3)), A @ A.T)
    with pytest.raises(NotExact) as caught:
        decoupled(objective, Network([rng.standard_normal((4, 3)), rng.standard_normal((3, 4))]))
    assert len(caught.value.checks) == 3 and "\n" not in str(caught.value)
    assert all(check.violation > 1e-3 for check in caught.value.checks)


@pytest.mark.parametrize("place", ["inputs", "first layer", "last layer", "hidden frame"])
def test_violations_are_as_large_as_what_was_spoilt(place):
    widths, s, xi, variances = CASES["correlated along the modes"]
    objective, network, V, _ = aligned(3, widths, s, xi, variances)
    assert max(c.violation for c in decoupled(objective, network).checks) < 1e-13
    layers, sigma_xx, eps = [np.array(W) for W in network.weights], np.array(objective.sigma_xx), 1e-5
    if place == "inputs":
        sigma_xx += eps * (np.outer(V[:, 0], V[:, 1]) + np.outer(V[:, 1], V[:, 0]))
    else:
        l = {"first layer": 0, "last layer": 2, "hidden frame": 1}[place]
        layers[l] += eps * np.random.default_rng(1).standard_normal(layers[l].shape)
    spoilt = SquaredError.from_moments(objective.sigma_yx, sigma_xx)
    with pytest.raises(NotExact) as caught:
        decoupled(spoilt, Network(layers))
    worst = max(check.violation for check in caught.value.checks)
    assert 1e-7 < worst < 1e-3


def test_init_decoupled_is_recognised_on_a_hierarchy():
    # repeated singular values; tiny strengths; more inputs than outputs
    task = dl.tasks.hierarchy()
    objective = SquaredError.from_moments(task.moments.sigma_yx, task.moments.sigma_xx)
    d_y, d_x = objective.optimum.shape
    network = init.decoupled(0, objective, (d_x, 16, 12, d_y), 1e-6)
    curve = decoupled(objective, network)([0.0, 1e3])
    expected = mode_strength([1e3], 1e-6, np.asarray(objective.modes.s), 3)
    np.testing.assert_allclose(np.sort(curve.strengths[1])[::-1], expected[0], rtol=1e-9, atol=1e-14)


@given(data=st.data(), h=st.integers(1, 5), seed=st.integers(0, 999))
def test_frames_are_found_for_any_shapes_and_signs(data, h, seed):
    widths = tuple(data.draw(st.lists(st.integers(1, 5), min_size=h + 1, max_size=h + 1)))
    modes = min(widths[0], widths[-1])
    s = sorted(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0]), min_size=modes, max_size=modes)))[::-1]
    number = st.sampled_from([0.0, 1e-3, 0.2, 0.5, -0.8, 1.1, -1.7])
    xi = data.draw(st.lists(st.lists(number, min_size=modes, max_size=modes), min_size=h, max_size=h))
    variances = data.draw(st.sampled_from([None, np.linspace(0.5, 2.0, widths[0])]))
    objective, network, *_ = aligned(seed, widths, s, xi, variances)
    solution = decoupled(objective, network)
    ts = np.array([0.0, 0.4])
    trajectory = solution.trajectory(ts)
    for W, kept in zip(network.weights, trajectory.networks.weights, strict=True):
        np.testing.assert_allclose(kept[0], W, rtol=0, atol=1e-15)
    truth = flow(objective, network, ts, rtol=1e-12, atol=1e-14)[1]
    for W, kept in zip(truth, trajectory.networks.weights, strict=True):
        np.testing.assert_allclose(kept[1], W, rtol=0, atol=1e-10)
    np.testing.assert_allclose(trajectory.end_to_end[1], product(truth), rtol=0, atol=1e-10)


def test_times_are_checked():
    objective = SquaredError.from_moments([[2.0]])
    solution = decoupled(objective, Network([[[1.0]], [[0.5]]]))
    for ts, message in (([-1.0], ">= 0"), ([np.nan], "finite"), ([[1.0]], "shape")):
        with pytest.raises(ValueError, match=message):
            solution(ts)
    assert solution([3.0, 0.0]).strengths[1] == 0.5
