"""The compiled engine's field, linear algebra and methods against numpy, and its door."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cnd4_numpy
import generate_engine_tables
import numpy as np
import pytest
import rock4_numpy
from engine_problems import all_of, product, random_case
from scipy.integrate import solve_ivp

from deeplinear.dynamics import engine
from deeplinear.dynamics.engine import Problem, Run, Settings

pytestmark = pytest.mark.usefixtures("engine_library")


def close(ours, theirs, tolerance=1e-12):
    size = max(1.0, *(np.abs(M).max() for M in theirs))
    for A, B in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(A, B, rtol=0, atol=tolerance * size)


def test_the_field_is_the_field(level):
    for seed in range(120):
        case = random_case(seed, *((12, 5) if seed % 4 else (70, 3)))
        close(engine.velocity(case.problem, case.weights), case.velocity(case.weights))


def test_the_derivative_is_the_derivative(level):
    for seed in range(120):
        case = random_case(seed, *((12, 5) if seed % 4 else (70, 3)))
        rng = np.random.default_rng(seed)
        direction = [np.where(m, rng.standard_normal(m.shape), 0.0) for m in case.mask]
        ours = engine.derivative(case.problem, case.weights, direction)
        close(ours, case.derivative(case.weights, direction))


def test_the_reference_is_right():
    """What the two tests above rest on: numpy's field is minus the gradient, by complex steps."""
    case = random_case(3)
    slopes, V = case.velocity(case.weights), [np.ones(W.shape) for W in case.weights]
    step = 1e-30j
    moved = [W + step * v for W, v in zip(case.weights, V, strict=True)]
    bare = case.__class__(case.weights, case.optimum, case.root, case.factor, 1 + 0 * case.rates, case.decay, V)
    expected = -sum(np.sum(S) for S in bare.velocity(case.weights))
    D = product(moved, case.optimum.shape[1]) - case.optimum
    loss = case.factor / 2 * np.trace(D @ case.sigma @ D.T) + sum(
        g / 2 * np.sum(W**2) for g, W in zip(case.decay, moved, strict=True)
    )
    assert np.imag(loss) / 1e-30 == pytest.approx(expected, rel=1e-12)
    assert all(np.all(S[~m] == 0) for S, m in zip(slopes, case.mask, strict=True))


def test_slow_directions_keep_their_digits():
    """Variances from 1 to 1e-24: once the others are learned, the slope along each of them is right to many digits."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    optimum, roots = rng.standard_normal((2, 5)), np.geomspace(1, 1e-12, 5)
    for k, root in enumerate(roots):
        W = np.outer([1.0, -2.0], Q[:, k])
        (slope,) = engine.velocity(Problem(0 * optimum, Q * roots, graded=True), [W])
        np.testing.assert_allclose(slope @ Q[:, k], -(root**2) * np.array([1.0, -2.0]), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (7, 3), (12, 12), (40, 25)])
def test_singular_values(level, shape):
    rng = np.random.default_rng(0)
    rows, columns = shape
    for A in (rng.standard_normal(shape), 1e200 * rng.standard_normal(shape), np.ones(shape), np.zeros(shape)):
        U, s, V = engine.svd(A)
        size = np.abs(A).max() or 1.0
        np.testing.assert_allclose(s / size, np.linalg.svd(A / size, compute_uv=False), rtol=0, atol=1e-13 * rows)
        np.testing.assert_allclose((U * (s / size)) @ V.T, A / size, rtol=0, atol=1e-13 * columns)
        few = U if rows <= columns else V
        np.testing.assert_allclose(few.T @ few, np.eye(len(s)), rtol=0, atol=1e-13)


def flat(weights):
    return np.concatenate([W.ravel() for W in weights])


def flat_field(case):
    shapes = [W.shape for W in case.weights]

    def field(y):
        layers, at = [], 0
        for shape in shapes:
            layers.append(y[at : at + shape[0] * shape[1]].reshape(shape))
            at += shape[0] * shape[1]
        return flat(case.velocity(layers))

    return field


STEPPED = random_case(20, plain=True)
"""Near its minimum, where a first step may be long."""
STEPPED.weights = [np.eye(4, 3) + 0.1, np.eye(2, 4) - 0.1]
STEPPED.root, STEPPED.rates, STEPPED.decay = None, np.ones(2), np.zeros(2)
STEPPED.mask = [np.ones(W.shape, dtype=bool) for W in STEPPED.weights]
STEPPED.optimum = STEPPED.weights[1] @ STEPPED.weights[0] + 1e-10


@pytest.mark.parametrize(
    ("name", "stages"),
    [("rock4", 5), ("rock4", 8), ("rock4", 24), ("rock4", 61), ("cnd4", 8), ("cnd4", 24), ("cnd4", 61)],
)
def test_a_stabilised_step_is_the_reference_step(name, stages):
    table = np.load(Path(engine.__file__).parents[1] / "flows" / f"{name}.npz")
    radius = np.abs(np.linalg.eigvalsh(dense_jacobian(STEPPED))).max()
    member = int(np.searchsorted(table["stages"], stages))
    h = 0.85 * table["interval"][member] / radius
    # an absolute tolerance that accepts everything; the relative one tells where ROCK4's rounding begins
    rtol = 1e20 if name == "rock4" else 0.5 * 5e-20 / 0.1 * stages**8 / (0.25 / 2)
    run = Run(STEPPED.problem, STEPPED.weights, Settings("rock4", rtol, 1e20, np.array([h]), log=1))
    summary = run.advance()
    (row,) = run.log()
    assert summary.status == engine.REACHED and engine.FORMULAS[int(row[5])] == name
    member = int(np.sum(table["interval"] < h * row[4]))
    y, field = flat(STEPPED.weights), flat_field(STEPPED)
    reference = {"rock4": rock4_numpy.rock4_step, "cnd4": cnd4_numpy.cnd4_step}[name]
    after, _, error = reference(field, y, field(y), h, member, table)
    noise = 1e-11 + (5e-20 * float(stages) ** 8 if name == "rock4" else 0.0)  # inherent in ROCK4's finishing stages
    np.testing.assert_allclose(flat(run.weights()), after, rtol=0, atol=noise)
    assert row[3] == table["stages"][member] + (3 if name == "cnd4" else 0)
    layer_errors = np.split(error, np.cumsum([W.size for W in STEPPED.weights])[:-1])
    sizes = [0.25 / 2 * (1e20 + rtol * np.linalg.norm(W)) for W in STEPPED.weights]
    expected = np.sqrt(np.mean([np.sum((E / s) ** 2) for E, s in zip(layer_errors, sizes, strict=True)]))
    assert row[2] == pytest.approx(expected, rel=1e-3, abs=1e4 * noise / min(sizes))


def dense_jacobian(case):
    n = flat(case.weights).size
    columns = []
    for i in range(n):
        unit = np.zeros(n)
        unit[i] = 1
        parts = np.split(unit, np.cumsum([W.size for W in case.weights])[:-1])
        V = [part.reshape(W.shape) for part, W in zip(parts, case.weights, strict=True)]
        columns.append(flat(case.derivative(case.weights, V)))
    return np.array(columns)


@pytest.mark.parametrize(("method", "order"), [("dopri8", 8), ("rock4", 4), ("rodas4", 4)])
def test_order_by_slope(method, order):
    """Error against steps, at tolerances that fall by factors: it falls like the number of steps to the -order."""
    case = random_case(1, plain=True)
    rng = np.random.default_rng(5)
    case.weights = [0.6 * rng.standard_normal((4, 3)), 0.6 * rng.standard_normal((2, 4))]
    case.optimum, case.root = np.array([[2.0, 0.3, 0.0], [0.1, 1.0, -0.4]]), np.diag([1.2, 1.0, 0.7])
    problem, y, field = Problem(case.optimum, case.root), flat(case.weights), flat_of(case)
    exact = solve_ivp(lambda t, y: field(y), (0, 1), y, "DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
    steps, errors = [], []
    for rtol in np.geomspace(1e-6, 1e-10, 9):
        summary, _, layers, _ = all_of(Run(problem, case.weights, Settings(method, rtol, 1e-200, np.array([1.0]))))
        steps.append(summary.steps)
        errors.append(np.linalg.norm(flat([layer[-1] for layer in layers]) - exact))
    print(method, steps, errors)
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -slope > order - 0.4


def flat_of(case):
    bare = case.__class__(
        case.weights,
        case.optimum,
        case.root,
        1.0,
        np.ones(2),
        np.zeros(2),
        [np.ones(W.shape, dtype=bool) for W in case.weights],
    )
    return flat_field(bare)


@pytest.mark.parametrize("method", engine.METHODS)
def test_every_method_follows_the_flow(level, method):
    """Layer rates, decay, a mask, correlated inputs, transposed or not, against scipy."""
    for seed in (2, 9):
        case = random_case(seed, widest=5, deepest=3)
        ts, y, field = np.linspace(0, 5, 11)[1:], flat(case.weights), flat_field(case)
        exact = solve_ivp(lambda t, y, f=field: f(y), (0, 5), y, "DOP853", t_eval=ts, rtol=1e-12, atol=1e-14).y.T
        _, times, layers, _ = all_of(Run(case.problem, case.weights, Settings(method, 1e-7, 1e-10, ts)))
        assert times.tolist() == ts.tolist()
        ours = np.concatenate([layer.reshape(len(ts), -1) for layer in layers], axis=1)
        assert np.abs(ours - exact).max() < 1e-6 * np.abs(exact).max()


def test_rates_are_a_change_of_units():
    """With W_l = sqrt(eta_l) V_l: what is conserved is W_{l+1}^T W_{l+1} / eta_{l+1} - W_l W_l^T / eta_l."""
    rng = np.random.default_rng(0)
    weights = [0.3 * rng.standard_normal(shape) for shape in ((4, 5), (4, 4), (3, 4))]
    rates = [0.5, 3.0, 1.7]
    problem = Problem(rng.standard_normal((3, 5)), None, 1.0, rates)
    _, _, layers, _ = all_of(Run(problem, weights, Settings("auto", 1e-10, 1e-13, np.array([0.0, 10.0]))))

    def conserved(W):
        return [W[l + 1].T @ W[l + 1] / rates[l + 1] - W[l] @ W[l].T / rates[l] for l in range(2)]

    start, end = conserved([layer[0] for layer in layers]), conserved([layer[1] for layer in layers])
    close([layer[0] for layer in layers], weights, 1e-15)
    close(end, start, 1e-8)


def test_an_exact_solution():
    """One layer, in closed form: W(t) = W* (1 - exp(-lambda t)) along eigenvectors of the inputs."""
    optimum, variances, ts = np.array([[2.0, -1.0, 0.5]]), np.array([2.0, 1.0, 0.01]), np.array([0.5, 3.0, 700.0])
    settings = Settings("auto", 1e-9, 1e-9, ts)
    _, _, (W,), _ = all_of(Run(Problem(optimum, np.diag(np.sqrt(variances))), [np.zeros((1, 3))], settings))
    expected = optimum * (1 - np.exp(-variances * ts[:, None]))
    np.testing.assert_allclose(W[:, 0], expected, rtol=1e-7)


def stiff():
    """A small start on a long plateau."""
    rng = np.random.default_rng(1)
    U, V = np.linalg.qr(rng.standard_normal((4, 4)))[0], np.linalg.qr(rng.standard_normal((11, 4)))[0]
    widths = (11, 6, 6, 6, 6, 4)
    weights = [0.02 * rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    return Problem((U * [6, 4.5, 3, 1.5]) @ V.T), weights


def test_a_stiff_plateau_is_handed_over_and_few_products_do():
    problem, weights = stiff()
    ts = np.linspace(0, 2e4, 101)[1:]
    logs = {}
    for method in ("auto", "rock4"):
        summary, _, layers, log = all_of(Run(problem, weights, Settings(method, 1e-4, 1e-13, ts, log=10_000)))
        assert summary.status == engine.REACHED
        logs[method] = summary, layers, log
    sizes = [np.linalg.norm(layer) for layer in logs["auto"][1]]
    for ours, theirs, size in zip(logs["auto"][1], logs["rock4"][1], sizes, strict=True):
        assert np.linalg.norm(ours - theirs) < 1e-3 * size  # two methods that share no formula agree
    assert logs["auto"][0].evaluations < logs["rock4"][0].evaluations / 2
    implicit = logs["auto"][2][logs["auto"][2][:, 5] == 2]
    assert len(implicit) > 50
    assert (implicit[:, 3] - 7).mean() / 6 <= 5  # products a solve


def test_few_products_do_for_correlated_inputs_of_many_scales():
    import deeplinear as dl

    task = dl.tasks.resolve("digits")
    X, Y = np.asarray(task.X), np.asarray(task.Y)
    values, Q = np.linalg.eigh(X.T @ X / len(X))
    kept = values > 1e-12 * values[-1]
    root = Q[:, kept] * np.sqrt(values[kept])
    optimum = Y.T @ X / len(X) @ Q[:, kept] / values[kept] @ Q[:, kept].T
    rng = np.random.default_rng(0)
    weights = [1e-3 * rng.standard_normal(shape) for shape in ((32, 64), (32, 32), (10, 32))]
    settings = Settings("rodas4", 1e-4, 1e-13, max_time=1e4, log=100_000)
    *_, log = all_of(Run(Problem(optimum, root), weights, settings))
    assert values[-1] / values[kept][0] > 1e6 and len(log) > 100
    assert (log[:, 3] - 7).mean() / 6 <= 5


def test_chosen_outputs_and_the_goal():
    problem, weights = stiff()
    summary, times, layers, _ = all_of(Run(problem, weights, Settings("auto", 1e-5, goal=1e-6)))
    assert summary.status == engine.GOAL and times[0] == 0 and (np.diff(times) > 0).all()
    W = np.array([product(W, 11) for W in zip(*layers, strict=True)])
    losses = np.sum((W - problem.optimum) ** 2, axis=(1, 2)) / 2
    assert losses[-1] <= 1e-6 < losses[-2]
    moved = np.linalg.norm(np.diff(W, axis=0), axis=(1, 2))
    assert moved.max() < 2 / 250 * np.linalg.norm(problem.optimum)


def test_the_endings():
    one = np.ones((1, 1))
    assert all_of(Run(Problem(one), [0 * one, 0 * one], Settings(max_time=1e9)))[0].status == engine.STATIONARY
    assert all_of(Run(Problem(one), [0.1 * one, one], Settings(max_time=5.0)))[0].status == engine.REACHED
    run = Run(Problem(1e155 * one), [1e160 * one, 1e160 * one], Settings(max_time=5.0))
    assert all_of(run)[0].status == engine.STALLED  # its loss is beyond float64
    reached = all_of(Run(Problem(one), [0.1 * one, one], Settings(times=np.array([0.0]))))
    assert reached[0].status == engine.REACHED and reached[0].steps == 0 and reached[1].tolist() == [0.0]


@pytest.mark.parametrize("chosen", [False, True])
def test_where_segments_end_changes_nothing(level, chosen):
    problem, weights = stiff()
    many = np.linspace(0, 400, 301)
    settings = Settings("auto", 1e-4, times=None if chosen else many, max_time=400.0, outputs=2000)
    whole = all_of(Run(problem, weights, settings))
    short = Settings("auto", 1e-4, times=settings.times, max_time=400.0, outputs=3)
    run = Run(problem, weights, short)
    times, layers = [], []
    for _ in range(10**6):
        summary = run.advance(steps=2)
        t, stacked = run.outputs()
        times.append(t), layers.append(stacked)
        fresh = Run(problem, weights, short)  # as from a file, in a new process
        fresh.restore(run.state())
        run = fresh
        if summary.status != engine.RUNNING:
            break
    assert run.summary()[:6] == whole[0][:6]
    assert np.array_equal(np.concatenate(times), whole[1])
    for ours, theirs in zip(zip(*layers, strict=True), whole[2], strict=True):
        assert np.array_equal(np.concatenate(ours), theirs)


def wide(width=300):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((width, width)) / width for _ in range(2)]
    return Problem(rng.standard_normal((width, width))), weights, Settings("rock4", 1e-3, max_time=2.0, outputs=100)


def test_a_step_that_is_given_up_never_was():
    problem, weights, settings = wide()
    whole, broken = Run(problem, weights, settings), Run(problem, weights, settings)
    whole.advance(steps=4, seconds=1e9)
    before, given_up = -1, 0
    while True:
        timer = threading.Timer(0.02 * 1.2**given_up, broken.stop)
        timer.start()
        summary = broken.advance(steps=4 - max(before, 0), seconds=1e9)
        timer.cancel()
        timer.join()
        tried = summary.steps + summary.rejected
        given_up += tried < 4
        before = tried
        if tried == 4:
            break
    assert given_up > 0
    assert np.array_equal(broken.state(), whole.state())


@pytest.mark.alone
@pytest.mark.parametrize("beside", [False, True])
def test_ctrl_c_is_answered_soon(beside):
    problem, weights, settings = wide(600) if beside else (*stiff(), Settings("rock4", 1e-12, max_time=1e30))
    run, pressed = Run(problem, weights, settings), []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.15, press)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        while True:
            run.advance()
    assert time.monotonic() - pressed[0] < 0.2
    timer.join()
    assert np.isfinite(flat(run.weights())).all()


REFUSED = [
    (dict(times=np.array([1.0, 1.0])), "times"),
    (dict(times=np.array([-1.0])), "times"),
    (dict(times=np.array([np.nan])), "times"),
    (dict(max_time=0.0), "times"),
    (dict(rtol=0.0), "out of range"),
    (dict(rtol=np.nan), "out of range"),
    (dict(goal=np.nan), "out of range"),
    (dict(outputs=0), "sizes"),
    (dict(method="euler"), "method"),
]


@pytest.mark.parametrize(("change", "named"), REFUSED)
def test_settings_that_are_refused(change, named):
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match=named):
        Run(Problem(one), [one], Settings(**change))


WRONG = [
    (dict(optimum=np.ones((2, 2))), "optimum"),
    (dict(root=np.ones((3, 2))), "root"),
    (dict(root=np.ones((1, 0))), "sizes"),
    (dict(factor=-1.0), "out of range"),
    (dict(factor=np.inf), "out of range"),
    (dict(optimum=np.full((1, 1), np.nan)), "not finite"),
    (dict(rates=[1.0, 2.0]), "rates"),
    (dict(rates=[0.0]), "out of range"),
    (dict(decay=[-1.0]), "out of range"),
    (dict(mask=[np.ones((2, 1), dtype=bool)]), "mask"),
]


@pytest.mark.parametrize(("change", "named"), WRONG)
def test_problems_that_are_refused(change, named):
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match=named):
        engine.velocity(Problem(**(dict(optimum=one) | change)), [one])


def test_weights_that_are_refused():
    one = np.ones((1, 1))
    for weights in ([], [np.ones(2)], [np.ones((2, 1)), np.ones((1, 3))]):
        with pytest.raises(ValueError, match="`weights`"):
            engine.velocity(Problem(one), weights)
    for bad in (np.inf, np.nan):
        with pytest.raises(ValueError, match="not finite"):
            Run(Problem(one), [bad * one], Settings())
        with pytest.raises(ValueError, match="not finite"):
            engine.velocity(Problem(one), [bad * one])
        with pytest.raises(ValueError, match="not finite"):
            engine.derivative(Problem(one), [one], [bad * one])


def test_weights_beyond_float64_in_units_of_the_rates_are_refused():
    """The engine integrates W_l / sqrt(eta_l)."""
    weights, problem = [np.full((1, 1), 1e300)], Problem(np.ones((1, 1)), rates=[1e-20])
    for ask in (lambda: Run(problem, weights, Settings()), lambda: engine.velocity(problem, weights)):
        with pytest.raises(ValueError, match="out of range"):
            ask()


def test_a_damaged_state_is_refused_and_changes_nothing():
    problem, weights = stiff()
    run = Run(problem, weights, Settings(max_time=1.0))
    run.advance(steps=3)
    state = run.state()
    for place, number in ((4, -1.0), (15, np.nan), (20, 1e300), (30, np.inf), (26, np.nan)):
        damaged = state.copy()
        damaged[place] = number
        with pytest.raises(ValueError, match="another problem, or to another version"):
            run.restore(damaged)
        assert np.array_equal(run.state(), state)


@pytest.mark.parametrize("method", engine.METHODS)
def test_every_accepted_step_moves_time(method):
    """From starts, optima and factors anywhere in float64 no time is handed out twice."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        start, optimum, factor = 10 ** rng.uniform((-300, 0, -10), (0, 300, 10))
        weights = [np.full((1, 1), start)] * int(rng.integers(1, 4))
        run = Run(Problem(np.full((1, 1), optimum), factor=factor), weights, Settings(method, max_time=1.0))
        summary = run.advance(steps=30)
        times, _ = run.outputs()
        assert times[0] == 0 and np.all(np.diff(times) > 0) and times[-1] <= summary.t


def test_sizes_beyond_memory_are_refused_before_any_is_taken():
    hidden = 10**10
    weights = [np.broadcast_to(0.0, (hidden, 2)), np.broadcast_to(0.0, (1, hidden))]
    with pytest.raises(MemoryError, match="no machine"):
        Run(Problem(np.ones((1, 2))), weights, Settings())
    with pytest.raises(MemoryError, match="GiB"):
        Run(Problem(np.ones((1, 2))), [W[: 10**9, : 10**9] for W in weights], Settings())


def test_states_of_other_problems_are_refused():
    problem, weights = stiff()
    run = Run(problem, weights, Settings(max_time=1.0))
    run.advance(steps=3)
    for other in (Settings(max_time=2.0), Settings(max_time=1.0, rtol=1e-5), Settings("rock4", max_time=1.0)):
        with pytest.raises(ValueError, match="another problem"):
            Run(problem, weights, other).restore(run.state())
    with pytest.raises(ValueError, match="another problem"):
        run.restore(run.state()[:-1])
    with pytest.raises(ValueError, match="another problem"):
        Run(Problem(2 * problem.optimum), weights, Settings(max_time=1.0)).restore(run.state())


def test_tables_are_those_of_the_script():
    """engine/tables.cpp is written by tools/generate_engine_tables.py from the tables of the flows, and not by hand."""
    assert (generate_engine_tables.ROOT / "engine" / "tables.cpp").read_text() == generate_engine_tables.text()


@pytest.mark.parametrize("shape", [(3, 5, 4), (5, 4, 3)])
def test_the_goal_is_a_loss_in_the_callers_units(shape):
    """Layer rates and correlated inputs on either side: the run ends at the first step whose loss is small enough."""
    rng = np.random.default_rng(4)
    weights = [0.3 * rng.standard_normal((b, a)) for a, b in pairwise(shape)]
    optimum, root = rng.standard_normal((shape[-1], shape[0])), np.diag(np.linspace(1.0, 0.5, shape[0]))
    problem = Problem(optimum, root, 1.5, [2.0, 0.7])
    summary, _, layers, _ = all_of(Run(problem, weights, Settings("auto", 1e-5, goal=1e-4)))
    assert summary.status == engine.GOAL
    losses = [0.75 * np.sum(((product(W, shape[0]) - optimum) @ root) ** 2) for W in zip(*layers, strict=True)]
    assert losses[-1] <= 1e-4 < losses[-2]
    slope = np.sqrt(sum(np.sum(V**2) for V in engine.velocity(problem, [layer[-1] for layer in layers])))
    assert summary.slope == pytest.approx(slope, rel=1e-9)


def test_threads_do_not_meet():
    """Runs side by side give the bits that they give one after another."""
    problem, _ = stiff()
    shapes = [W.shape for W in stiff()[1]]
    draw = [np.random.default_rng(seed).standard_normal for seed in range(8)]
    starts = [[0.05 * normal(shape) for shape in shapes] for normal in draw]

    def last(weights):
        run = Run(problem, weights, Settings("auto", 1e-5, times=np.array([300.0])))
        while run.advance().status == engine.RUNNING:
            pass
        return run.state()

    alone = [last(weights) for weights in starts]
    with ThreadPoolExecutor(4) as pool:
        for ours, theirs in zip(pool.map(last, starts), alone, strict=True):
            assert np.array_equal(ours, theirs)
