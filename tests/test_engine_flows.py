"""The compiled engine and the JAX engine side by side: the same steps, the same networks."""

from itertools import pairwise

import jax
import numpy as np
import pytest
from engine_problems import all_of

import deeplinear as dl
from deeplinear.dynamics import engine
from deeplinear.flows import solve
from deeplinear.flows.rosenbrock import Rosenbrock
from deeplinear.running import compiling
from deeplinear.running.landmarks import landmarks

pytestmark = pytest.mark.usefixtures("engine_library")
SHAPES = [(5, 4, 3), (3, 4, 4, 6)]  # the second has fewer inputs than outputs
METHODS = ("rock4", "rodas4", "auto", "dopri8")
FOLLOWED = 30
"""Steps that are compared: near the limit of stability the control of steps is chaotic, and rounding grows."""
TOLERANCE = 1e-3  # of the excess loss at which runs with chosen outputs stop


@pytest.fixture
def plain(monkeypatch):
    """The JAX engine integrates, in the form that preconditions, with conjugate gradients for every size."""
    monkeypatch.setattr(solve, "is_native", lambda problem: False)
    monkeypatch.setattr(compiling, "refused", ["one kernel does not precondition"])
    monkeypatch.setitem(solve.SOLVERS, "rodas4", Rosenbrock(whole=False))


def question(seed, method, shape, chosen):
    """A random problem: what the JAX engine is asked, and the same for the compiled one."""
    rng = np.random.default_rng(seed)
    rtol, d_x, d_y = 10 ** rng.uniform(-7, -3), shape[0], shape[-1]
    rtol = rtol / 1000 if method == "dopri8" else rtol  # the tolerances that it is for
    samples = rng.standard_normal((3 * d_x, d_x))
    sigma = None if rng.random() < 0.5 else samples.T @ samples / len(samples)
    objective = dl.SquaredError.from_moments(rng.standard_normal((d_y, d_x)), sigma, scale=dl.ENTRY_MEAN)
    scale = 10 ** rng.uniform(-1.5, -0.3)
    weights = [scale * rng.standard_normal((b, a)) for a, b in pairwise(shape)]
    network = dl.Network([np.array(W) for W in weights])
    mask = [rng.random(W.shape) > 0.2 for W in weights] if rng.random() < 0.3 else None
    decay = float(rng.choice([0.0, 0.01]))
    end = 10 ** rng.uniform(0, 2)
    ts = None if chosen else np.sort(rng.uniform(0, end, 7))
    options = dict(
        mask=None if mask is None else dl.Network([np.array(M) for M in mask]),
        weight_decay=decay,
        solver=method,
        rtol=rtol,
        atol=1e-12,
        reduce=False,
        max_steps=FOLLOWED,
        tolerance=TOLERANCE,
        max_time=end if chosen else None,
    )
    root = None if sigma is None else np.linalg.cholesky(sigma)
    decays = None if decay == 0 else [decay] * len(weights)
    problem = engine.Problem(np.asarray(objective.optimum), root, float(objective.factor), None, decays, mask)
    marks = landmarks(objective, network)
    goal, finer = marks.goal(TOLERANCE) if decay == 0 else (None, rtol)
    assert not chosen or finer >= rtol
    stop = -np.inf if goal is None or not chosen else goal + marks.tail
    settings = engine.Settings(method, rtol, 1e-12, ts, end, stop)
    return (objective, network, ts, options), (problem, weights, settings)


def compare(seed, method, shape, chosen):
    (objective, network, ts, options), (problem, weights, settings) = question(seed, method, shape, chosen)
    trajectory = dl.gradient_flow(objective, network, ts, **options)
    theirs = trajectory.statistics
    run = engine.Run(problem, weights, settings)
    summary = run.advance(steps=FOLLOWED, seconds=1e9)
    times, layers = run.outputs()
    assert (summary.steps, summary.rejected) == (theirs.steps, theirs.rejected)
    assert summary.evaluations == theirs.evaluations
    if times.size == 0 or times[-1] < summary.t:  # the JAX engine keeps where it stopped, too
        layers = [np.concatenate([layer, W[None]]) for layer, W in zip(layers, run.weights(), strict=True)]
        times = np.append(times, summary.t)
    # order 8 estimates errors from sums that cancel to their last digits, and lengths of steps follow: networks are
    # compared where they are at the same times
    np.testing.assert_allclose(times, trajectory.ts, rtol=1e-6 if method == "dopri8" else 1e-9)
    same = times == np.asarray(trajectory.ts) if method == "dopri8" else np.full(times.size, True)
    size = max(np.abs(layer).max() for layer in layers)
    for ours, reference in zip(layers, trajectory.networks.weights, strict=True):
        np.testing.assert_allclose(ours[same], np.asarray(reference)[same], rtol=0, atol=1e-10 * size)


@pytest.mark.parametrize("seed", range(20))
def test_both_engines_take_the_same_steps(plain, seed):
    compare(seed, METHODS[seed % 4], SHAPES[seed // 4 % 2], chosen=seed % 5 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20, 220, 20))
def test_both_engines_take_the_same_steps_on_many_problems(plain, first):
    for seed in range(first, first + 20):
        compare(seed, METHODS[seed % 4], SHAPES[seed // 4 % 2], chosen=seed % 5 == 0)


def test_both_engines_follow_a_stiff_plateau_alike(plain):
    """Changes of methods included, to the tolerance: after some hundred steps rounding has decided single ones."""
    widths = (4, 3, 3, 2)
    rng = np.random.default_rng(0)
    weights = [0.02 * rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    optimum = np.array([[3.0, 0.2, 0.0, 0.1], [0.0, 0.6, 0.3, 0.0]])
    ts = np.linspace(0, 400, 41)
    objective, network = dl.SquaredError.from_moments(optimum), dl.Network([np.array(W) for W in weights])
    trajectory = dl.gradient_flow(objective, network, ts, rtol=1e-6, atol=1e-15, reduce=False)
    run = engine.Run(engine.Problem(optimum), weights, engine.Settings("auto", 1e-6, 1e-15, ts))
    summary, _, layers, _ = all_of(run)
    assert summary.steps == pytest.approx(trajectory.statistics.steps, rel=0.02)
    assert summary.evaluations == pytest.approx(trajectory.statistics.evaluations, rel=0.1)
    for ours, theirs in zip(layers, jax.tree.leaves(trajectory.networks), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
