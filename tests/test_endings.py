"""How runs of the flow end, what they report, and what they refuse."""

import os
import signal
import threading
from itertools import pairwise

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, WHITE, WIDTHS, correlated, quartic, random_network

import deeplinear as dl
from deeplinear import Network, SquaredError, curvature, gradient_flow, init
from deeplinear.flows import velocity


def lowest_by_hand(objective, network):
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    hessian = jax.hessian(lambda v: curvature.loss(objective, unravel(v)))(flat)
    return float(np.linalg.eigvalsh(np.asarray(hessian))[0])


def test_ends_at_a_global_minimum():
    objective = correlated()
    trajectory = gradient_flow(objective, random_network(WIDTHS), tolerance=1e-8)
    ending = trajectory.ending
    assert ending.kind == "global minimum"
    assert ending.signature == (1, 2, 3)
    assert 0 <= ending.excess <= 1e-8 * float(objective.excess(jnp.zeros((3, 4))))
    assert ending.loss == pytest.approx(float(objective.minimum) + ending.excess, rel=1e-14)
    assert ending.escape_rate is None
    assert ending.message.startswith("the excess loss fell to the tolerance")
    slope = velocity(objective, trajectory[-1])
    assert ending.gradient_norm == pytest.approx(float(jnp.sqrt(sum(jnp.sum(V**2) for V in slope.weights))), rel=1e-10)
    statistics = trajectory.statistics
    assert statistics.steps > 0 and statistics.solver
    assert statistics.evaluations >= 4 * (statistics.steps + statistics.rejected)  # no method of order 4 takes fewer
    assert "global minimum at t = " in repr(trajectory)


def test_ends_at_the_minimum_that_a_bottleneck_allows():
    objective = correlated()
    trajectory = gradient_flow(objective, random_network((4, 2, 3)), tolerance=1e-10)
    assert trajectory.ending.kind == "global minimum"
    assert trajectory.ending.loss - float(objective.minimum_at_rank(2)) == pytest.approx(
        trajectory.ending.excess, rel=1e-4
    )
    assert trajectory.ending.excess < 1e-9 < trajectory.ending.loss - float(objective.minimum)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-14])
def test_a_start_at_or_near_the_optimum_is_a_global_minimum(tolerance):
    balanced = init.balanced(0, WIDTHS, product=WHITE.optimum)
    exact = Network([jnp.eye(4), WHITE.optimum])
    near = Network([jnp.eye(4), WHITE.optimum + 1e-6])
    for start in (balanced, exact, near):
        ending = gradient_flow(WHITE, start, tolerance=tolerance, max_steps=5000).ending
        assert ending.kind == "global minimum"
        assert ending.excess <= 1e-12


def test_a_target_of_zero_is_reached():
    ending = gradient_flow(SquaredError.from_moments(np.zeros((3, 4))), random_network(WIDTHS, scale=0.1)).ending
    assert ending.kind == "global minimum"
    assert ending.signature == ()


SMALL = SquaredError.from_singular_values([3.0, 1.0], 2, 2)


@pytest.mark.parametrize(
    ("start", "signature", "rate"),
    [
        (Network([jnp.zeros((3, 2)), jnp.zeros((2, 3))]), (), 3.0),
        # balanced, d_x = d_y, with the wrong sign of the determinant: the second mode cannot be learned
        (init.decoupled(0, SMALL, (2, 3, 2), [0.1, -0.1]), (1,), 1.0),
        (init.decoupled(0, SMALL, (2, 3, 2), [-0.1, 0.1]), (2,), 3.0),
    ],
    ids=["zero", "obstructed", "obstructed first mode"],
)
def test_ends_at_a_saddle(start, signature, rate):
    trajectory = gradient_flow(SMALL, start)
    ending = trajectory.ending
    assert ending.kind == "saddle"
    assert ending.signature == signature
    assert ending.gradient_norm < 1e-13
    assert ending.excess == pytest.approx(
        sum(s**2 / 2 for a, s in ((1, 3.0), (2, 1.0)) if a not in signature), rel=1e-9
    )
    assert ending.escape_rate == pytest.approx(-lowest_by_hand(SMALL, trajectory[-1]), rel=1e-12)
    assert ending.escape_rate == pytest.approx(rate, rel=1e-9)
    assert "a saddle, not a minimum" in ending.message


def test_a_deep_network_of_zeros_has_no_curvature_to_leave_by():
    wide = Network([jnp.zeros((5, 5))] * 3)  # more weights than the dense Hessian takes
    ending = gradient_flow(SquaredError.from_singular_values([2.0], 5, 5), wide).ending
    assert (ending.kind, ending.escape_rate) == ("saddle", 0.0)


def test_ends_at_a_limit_of_time_or_steps():
    network = random_network(WIDTHS, scale=1e-3)
    timed = gradient_flow(WHITE, network, max_time=1.0)
    assert (timed.ending.kind, timed.ending.time, float(timed.ts[-1])) == ("time", 1.0, 1.0)
    assert len(timed) > 50
    assert gradient_flow(WHITE, network, max_time=1e3).ending.time < 100  # converges before
    for ts in (None, TIMES):
        short = gradient_flow(WHITE, network, ts, max_steps=5)
        assert short.ending.kind == "steps"
        assert short.statistics.steps + short.statistics.rejected == 5
        assert float(short.ts[-1]) == short.ending.time
        assert "the budget of 5 steps is spent" in short.ending.message


def test_an_interrupt_returns_what_is_there():
    times = np.linspace(0.0, 20.0, 1000)  # several segments, for a buffer holds far fewer outputs

    def interrupt(report):
        killer = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        killer.start()
        killer.join()

    before = signal.getsignal(signal.SIGINT)
    trajectory = gradient_flow(WHITE, random_network(WIDTHS), times, progress=interrupt)
    assert trajectory.ending.kind == "interrupted"
    assert 1 < len(trajectory) < 500
    assert float(trajectory.ts[-1]) == trajectory.ending.time
    np.testing.assert_array_equal(trajectory.ts[:-1], times[: len(trajectory) - 1])
    assert jnp.isfinite(trajectory.end_to_end).all()
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread():
    kinds = []
    thread = threading.Thread(
        target=lambda: kinds.append(gradient_flow(WHITE, random_network(WIDTHS), [1.0]).ending.kind)
    )
    thread.start()
    thread.join()
    assert kinds == ["time"]


def test_a_tiny_start_takes_its_time():
    trajectory = gradient_flow(WHITE, random_network(WIDTHS, scale=1e-12))
    assert trajectory.ending.kind == "global minimum"
    assert trajectory.ending.signature == (1, 2, 3)


@pytest.mark.parametrize("scale", [1e3, 1e20])
def test_a_huge_start_comes_down_without_overflow(scale):
    network = random_network(WIDTHS, scale=scale)
    trajectory = gradient_flow(WHITE, network, max_steps=3000)
    assert all(jnp.isfinite(W).all() for W in trajectory.networks.weights)
    losses = np.asarray(trajectory.map(dl.diagnostics.loss(WHITE)))
    assert np.isfinite(losses).all() and np.all(np.diff(losses) <= 1e-9 * losses[:-1])
    assert trajectory.ending.excess < 1e-6 * losses[0]  # stiff, so that the budget may not reach the minimum


def test_weight_decay_passes_the_optimum_without_stopping():
    # from above, the decaying product goes through the optimum of the loss to a smaller fixed point, s - gamma
    strong = init.decoupled(0, WHITE, WIDTHS, [6.0, 4.0, 2.0])
    trajectory = gradient_flow(WHITE, strong, max_time=60.0, weight_decay=0.1, rtol=1e-8)
    assert trajectory.ending.kind in ("time", "critical point")
    strengths = np.asarray(dl.diagnostics.mode_strengths(WHITE)(trajectory[-1]))
    np.testing.assert_allclose(strengths, [2.9, 1.9, 0.9], rtol=1e-6)


def test_an_objective_without_a_known_minimum_ends_at_a_critical_point():
    target = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4)))
    below_zero = lambda W: jnp.sum((W - target) ** 2) - 100.0
    ending = gradient_flow(below_zero, random_network(WIDTHS), max_time=300.0).ending
    assert ending.kind == "critical point"
    assert ending.loss == pytest.approx(-100.0, abs=1e-9)
    assert ending.excess is None and ending.escape_rate is None


def test_a_mask_makes_critical_points_that_are_no_saddles():
    network = Network([jnp.eye(4), jnp.zeros((3, 4))])
    mask = Network([np.zeros((4, 4), dtype=bool), np.arange(12).reshape(3, 4) % 5 > 0])
    trajectory = gradient_flow(WHITE, network, mask=mask)  # the strengths of all modes are held at zero
    assert trajectory.ending.kind == "critical point"
    assert trajectory.ending.excess == pytest.approx(7.0)


# progress and errors --------------------------------------------------------------------------------------------------


def test_progress_is_reported(capsys):
    reports = []
    trajectory = gradient_flow(WHITE, random_network(WIDTHS, scale=1e-3), progress=reports.append)
    assert len(reports) >= 2
    assert reports[-1].time == trajectory.ending.time
    assert reports[-1].loss == trajectory.ending.loss
    assert (reports[-1].modes_learned, reports[-1].steps) == ((1, 2, 3), trajectory.statistics.steps)
    assert all(a.time < b.time and a.loss > b.loss for a, b in pairwise(reports))
    gradient_flow(quartic, random_network(WIDTHS), TIMES, progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("without_annotations")
def test_takes_lists_and_single_precision():
    single = Network([W.astype(jnp.float32) for W in random_network(WIDTHS).weights])
    for network in (single, [np.asarray(W) for W in single.weights]):
        trajectory = gradient_flow(WHITE, network, [0.0, 1.0])
        assert trajectory.networks.weights[0].dtype == jnp.float64
        np.testing.assert_array_equal(trajectory[0].weights[0], single.weights[0].astype(float))


NETWORK = random_network(WIDTHS)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (WHITE, random_network((3, 5, 3))),
            {},
            r"^`network`: maps 3 inputs to 3 outputs, but the objective has 4 and 3",
        ),
        ((WHITE, [[1.0]]), {}, r"^`network`: layer 1 has shape \(1,\); give a matrix"),
        ((WHITE, NETWORK, [1.0, 0.5]), {}, r"^`ts`: 0\.5 follows 1; sort the times and drop repeated ones"),
        ((WHITE, NETWORK, [1.0, 1.0]), {}, r"^`ts`: 1 follows 1"),
        ((WHITE, NETWORK, [-1.0, 1.0]), {}, r"^`ts`: times must be >= 0, but the smallest is -1"),
        ((WHITE, NETWORK, [0.0, np.nan]), {}, r"^`ts`: has nan at place 2; give finite numbers"),
        ((WHITE, NETWORK, []), {}, r"^`ts`: has shape \(0,\); give an array \(time,\), a list of times"),
        ((WHITE, NETWORK, 1.0), {}, r"^`ts`: has shape \(\)"),
        ((WHITE, NETWORK), {"rtol": 1e-14}, r"^`rtol`: got 1e-14; float64 can give 1e-13 to 1"),
        ((WHITE, NETWORK), {"rtol": float("nan")}, r"^`rtol`: got nan"),
        ((WHITE, NETWORK), {"atol": -1.0}, r"^`atol`: got -1\.0; give a finite number of at least 0"),
        ((WHITE, NETWORK), {"tolerance": 1e-15}, r"^`tolerance`: got 1e-15; .* from 1e-14 to 1"),
        (
            (WHITE, NETWORK),
            {"weight_decay": -0.1},
            r"^`weight_decay`: got -0\.1; give finite numbers of at least 0",
        ),
        ((WHITE, NETWORK), {"solver": "euler"}, r"^`solver`: got 'euler'; give 'auto'"),
        ((WHITE, NETWORK), {"mask": NETWORK}, r"^`mask`: must be a Network of booleans with widths \(4, 5, 3\)"),
        ((WHITE, NETWORK), {"mask": Network([np.ones((3, 4), dtype=bool)])}, r"^`mask`: must be a Network of booleans"),
        ((WHITE, NETWORK), {"max_time": -1.0}, r"^`max_time`: got -1\.0; give a finite time above 0"),
        ((WHITE, NETWORK), {"max_steps": 0}, r"^`max_steps`: got 0; give at least 1"),
        ((WHITE, NETWORK), {"keep": 1}, r"^`keep`: got 1; the start and the end are kept"),
        ((WHITE, NETWORK), {"weight_decay": 0.1}, r"^`ts`: is None, but the smallest loss is not known in closed form"),
        ((quartic, NETWORK), {}, r"^`ts`: is None, but the smallest loss is not known in closed form"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_bad_arguments_get_one_clear_line(arguments, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        gradient_flow(*arguments, **options)
    assert "\n" not in str(caught.value)


def balanced_square(seed, depth, wanted):
    """A random 0-balanced start whose determinant has the wanted sign."""
    for key in range(seed, seed + 40):
        start = init.balanced(key, (3,) * (depth + 1), scale=0.3)
        if np.linalg.slogdet(start.end_to_end)[0] == wanted:
            return start
    raise AssertionError("no such start in 40 draws")


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_starts_that_theory_obstructs_are_reported_with_the_loss_they_end_at(depth):
    objective = SquaredError.from_singular_values([2.0, 1.0, 0.5], 3, 3)
    free, wrong = (gradient_flow(objective, balanced_square(1, depth, sign)).ending for sign in (1.0, -1.0))
    assert (free.kind, free.predicted_loss) == ("global minimum", None)
    assert wrong.predicted_loss == pytest.approx(0.5**2 / 2) and "det W(0)" in wrong.message
    if wrong.kind == "global minimum":  # errors leave the manifold, like exp(s t) at depth 2
        assert "led the run away" in wrong.message
    else:
        assert wrong.loss == pytest.approx(wrong.predicted_loss, rel=1e-3)


def test_dead_neurons_obstruct():
    objective = SquaredError.from_singular_values([2.0, 1.0, 0.5], 3, 3)
    first, second = init.gaussian(2, (3, 1, 3), 0.3).weights
    start = Network([jnp.vstack([first, jnp.zeros((4, 3))]), jnp.hstack([second, jnp.zeros((3, 4))])])
    ending = gradient_flow(objective, start).ending
    assert ending.predicted_loss == pytest.approx((1.0 + 0.25) / 2)
    assert "1 dimensions only" in ending.message


def test_a_run_without_an_end_is_bounded_by_theory():
    """A depth-3 obstructed scalar: |w| t -> 1, the saddle is never reached to rounding in reasonable time."""
    start = Network([[[0.5]], [[0.5]], [[-0.5]]])
    ending = gradient_flow(SquaredError.from_moments([[1.0]]), start).ending
    assert ending.kind in ("time", "saddle") and ending.time < 1e9
    assert ending.predicted_loss == pytest.approx(0.5)
    slow = gradient_flow(SquaredError.from_moments([[1.0]]), Network([[[1e-3]]] * 4)).ending
    assert slow.kind == "global minimum"


def test_a_gradient_that_drowns_in_rounding_is_no_saddle():
    """One layer has no saddles: inputs of 1e7 drown the gradient of inputs of 1 before all is learned."""
    rng = np.random.default_rng(0)
    X = np.stack([3e7 * rng.standard_normal(200), rng.standard_normal(200), rng.uniform(size=200)], axis=1)
    X = X - X.mean(axis=0)
    objective = SquaredError.of(X, X[:, 1] - 2 * X[:, 2])
    ending = gradient_flow(objective, init.gaussian(0, (3, 1), 1e-3)).ending
    assert ending.kind == "stalled" and "its own rounding" in ending.message
    assert "more would be needed" in ending.message
    assert 0 < ending.excess < 1e-4 * float(objective(jnp.zeros((1, 3))))
