"""Ensembles: every member is what it would be alone, whatever happens to the others and however the work is split."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, WHITE, WIDTHS, correlated, quartic, random_network

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow
from deeplinear.dynamics import engine
from deeplinear.flows import compiled
from deeplinear.flows import compiled_ensemble as ensemble
from deeplinear.running import compiling

MEMBERS = 7


def starts(members=MEMBERS, widths=WIDTHS, scale=0.3):
    """Networks with a leading axis."""
    return stack([random_network(widths, seed, scale) for seed in range(members)])


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def at(tree, b):
    return jax.tree.map(lambda x: x[b], tree)


def problems(members=MEMBERS):
    """Problems with correlated inputs and a leading axis."""
    base, rng = correlated(), np.random.default_rng(3)
    targets = np.asarray(base.sigma_yx) * rng.uniform(0.5, 1.5, (members, 1, 1))
    return jax.vmap(lambda sigma: SquaredError.from_moments(sigma, base.sigma_xx))(jnp.asarray(targets))


def same(one, other):
    """Equal to the last bit, NaN included."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def is_as_alone(together, objectives, networks, ts, **options):
    for b, (objective, network) in enumerate(zip(objectives, networks, strict=True)):
        alone, member = gradient_flow(objective, network, ts, reduce=False, **options), together.member(b)
        same(member.networks, alone.networks)
        same(member.ts, alone.ts)
        assert member.ending == alone.ending


@pytest.mark.parametrize(
    "widths", [WIDTHS, pytest.param((4, 14, 3), marks=pytest.mark.slow)]
)  # one kernel, and calls of matrix products
@pytest.mark.parametrize("rtol", [1e-6, 1e-10])
def test_every_member_is_as_alone(widths, rtol):
    networks = starts(widths=widths)
    together = gradient_flow(WHITE, networks, TIMES, rtol=rtol)
    is_as_alone(together, [WHITE] * 3, [at(networks, b) for b in range(3)], TIMES, rtol=rtol)


def test_options_hold_for_every_member():
    networks, mask = starts(), Network([np.ones((5, 4), dtype=bool), np.tri(3, 5, 2, dtype=bool)])
    options = {"mask": mask, "weight_decay": 0.1, "atol": 1e-7, "rtol": 1e-5}
    together = gradient_flow(WHITE, networks, TIMES[1:], **options)
    is_as_alone(together, [WHITE] * 2, [at(networks, b) for b in range(2)], TIMES[1:], **options)
    assert {ending.kind for ending in together.ending} == {"time"}


def test_problems_may_differ():
    objectives, networks = problems(), starts()
    singles = [at(objectives, b) for b in range(3)]
    both = gradient_flow(objectives, networks, TIMES)
    is_as_alone(both, singles, [at(networks, b) for b in range(3)], TIMES)
    one_start = gradient_flow(objectives, at(networks, 0), TIMES)
    is_as_alone(one_start, singles, [at(networks, 0)] * 3, TIMES)
    same(both.member(0).networks, one_start.member(0).networks)
    assert both.member(2).objective.optimum.shape == (3, 4)
    assert both.member(2).ending.excess < both.member(2).objective.excess(jnp.zeros((3, 4))) * 1e-3


def test_the_split_changes_nothing():
    networks = starts()
    whole = gradient_flow(WHITE, networks, TIMES, threads=1)
    threaded = gradient_flow(WHITE, networks, TIMES, threads=2)
    many = gradient_flow(WHITE, networks, TIMES, threads=7)
    parts = [gradient_flow(WHITE, at(networks, part), TIMES) for part in (slice(0, 3), slice(3, 7))]
    same(whole.networks, threaded.networks)
    same(whole.networks, many.networks)
    same(whole.networks, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *(part.networks for part in parts)))
    assert whole.ending == threaded.ending == many.ending == parts[0].ending + parts[1].ending
    counts = lambda run: (run.statistics.steps, run.statistics.rejected, run.statistics.evaluations)
    assert counts(whole) == counts(threaded) == tuple(sum(pair) for pair in zip(*map(counts, parts), strict=True))


@pytest.mark.parametrize("objective", [WHITE, quartic])
def test_small_portions_change_nothing(monkeypatch, objective):
    networks = starts()
    whole = gradient_flow(objective, networks, TIMES)
    monkeypatch.setattr(ensemble, "PLACES", 3)
    monkeypatch.setattr(ensemble, "first_budget", lambda *_: 5)  # many calls per portion
    monkeypatch.setattr(engine, "SEGMENT_SECONDS", 1e-4)
    parts = gradient_flow(objective, networks, TIMES, threads=2)
    same(whole.networks, parts.networks)
    assert whole.ending == parts.ending


def test_more_times_than_a_buffer_holds():
    networks, times = starts(2), np.linspace(0.0, 9.0, 200)
    together = gradient_flow(WHITE, networks, times)
    assert together.end_to_end.shape == (2, 200, 3, 4)
    is_as_alone(together, [WHITE] * 2, [at(networks, b) for b in range(2)], times)


def test_side_by_side_agrees_to_the_tolerance(monkeypatch):
    # what other backends do, on this one
    networks = starts(5)
    one_by_one = gradient_flow(quartic, networks, TIMES, rtol=1e-8)
    monkeypatch.setattr(compiled, "one_by_one", lambda: False)
    monkeypatch.setattr(compiling, "is_small", lambda network: False)
    together = gradient_flow(quartic, networks, TIMES, rtol=1e-8)
    np.testing.assert_allclose(together.end_to_end, one_by_one.end_to_end, rtol=0, atol=1e-7)
    assert [ending.kind for ending in together.ending] == [ending.kind for ending in one_by_one.ending]


def test_a_start_beyond_float64_spoils_no_other():
    good = [random_network(WIDTHS, seed, 0.3) for seed in range(2)]
    networks = stack([good[0], random_network(WIDTHS, 0, 1e200), good[1]])
    together = gradient_flow(WHITE, networks, TIMES)
    for b, network in ((0, good[0]), (2, good[1])):
        same(together.member(b).networks, gradient_flow(WHITE, network, TIMES, reduce=False).networks)
    bad = together.member(1)
    assert bad.ending.kind == "stalled" and "beyond float64" in bad.ending.message
    assert (bad.ending.time, bad.ending.loss) == (0.0, np.inf)
    same(bad[0], at(networks, 1))
    assert all(np.isnan(W[1:]).all() for W in bad.networks.weights)
    assert together.statistics.rejected < 200  # it gave up at once
    with pytest.raises(ValueError, match=r"^`network`: its layers have norms .*, whose product float64 cannot square"):
        gradient_flow(WHITE, at(networks, 1), TIMES)


def test_an_explosion_spoils_no_other():
    explosive = lambda W: -jnp.sum(W**4)
    networks = stack([random_network(WIDTHS, 0, scale) for scale in (0.05, 0.7)])
    together = gradient_flow(explosive, networks, TIMES)
    calm, wild = together.member(0), together.member(1)
    assert calm.ending.kind == "time" and jnp.isfinite(calm.end_to_end).all()
    alone = gradient_flow(explosive, at(networks, 1), TIMES)
    assert wild.ending.kind == "stalled" and wild.ending == alone.ending
    reached = int(np.sum(wild.ending.time > TIMES))
    assert 1 <= reached < len(TIMES)
    first_layer = wild.networks.weights[0]  # the product of all may overflow before the weights do
    assert jnp.isfinite(first_layer[:reached]).all() and jnp.isnan(first_layer[reached:]).all()
    same(at(wild.networks, slice(0, reached)), at(alone.networks, slice(0, reached)))


def test_every_member_has_its_own_budget_of_steps():
    networks = stack([at(starts(), 0), random_network(WIDTHS, 1, 1e-4)])
    free = [gradient_flow(WHITE, at(networks, b), TIMES).statistics for b in range(2)]
    needs = [one.steps + one.rejected for one in free]
    assert needs[0] < needs[1] - 10
    together = gradient_flow(WHITE, networks, TIMES, max_steps=needs[0] + 5)
    assert [ending.kind for ending in together.ending] == ["global minimum", "steps"]
    assert f"{needs[0] + 5} steps is spent" in together.ending[1].message
    alone = gradient_flow(WHITE, at(networks, 1), TIMES, max_steps=needs[0] + 5)
    assert alone.ending == together.ending[1]
    kept = len(alone) - 1  # a single run keeps the network where it stopped, too
    same(at(together.member(1).networks, slice(0, kept)), at(alone.networks, slice(0, kept)))
    assert jnp.isnan(together.member(1).end_to_end[kept:]).all()


def test_the_trajectory_of_an_ensemble():
    together = gradient_flow(WHITE, starts(), TIMES)
    assert [W.shape for W in together.networks.weights] == [(MEMBERS, 9, 5, 4), (MEMBERS, 9, 3, 5)]
    assert len(together) == 9 and together.end_to_end.shape == (MEMBERS, 9, 3, 4)
    same(together[0], starts())
    losses = together.map(dl.diagnostics.loss(WHITE))
    assert losses.shape == (MEMBERS, 9)
    np.testing.assert_allclose(losses[:, -1], [ending.loss for ending in together.ending], rtol=1e-9, atol=1e-20)
    same(together.member(2).end_to_end, together.end_to_end[2])
    assert together.member(-1).ending == together.ending[-1]
    assert repr(together) == f"Trajectory(9 times of {together[0]!r}, {MEMBERS} global minimum)"
    with pytest.raises(ValueError, match=r"^`b`: this trajectory is of one network"):
        together.member(0).member(0)


def test_an_interrupt_returns_what_is_there():
    def interrupt(report):
        seen.append(report)
        if len(seen) > 1:  # a second Ctrl-C would raise
            return
        killer = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        killer.start()
        killer.join()

    seen, before = [], signal.getsignal(signal.SIGINT)
    networks = starts(3000)
    trajectory = gradient_flow(WHITE, networks, np.linspace(0.0, 20.0, 100), threads=1, progress=interrupt)
    assert {ending.kind for ending in trajectory.ending} == {"global minimum", "interrupted"}
    known = np.isfinite(trajectory.end_to_end).all(axis=(2, 3))
    learned = [ending.kind == "global minimum" for ending in trajectory.ending]
    assert known[:, 0].all() and known.all(axis=1).tolist() == learned
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_is_reported(capsys):
    reports = []
    trajectory = gradient_flow(WHITE, starts(), TIMES, threads=1, progress=reports.append)
    assert [report.members_done for report in reports] == sorted(report.members_done for report in reports)
    assert (reports[-1].members_done, reports[-1].members) == (MEMBERS, MEMBERS)
    assert reports[-1].steps == trajectory.statistics.steps
    assert reports[-1].line == f"7 of 7 members, {reports[-1].steps} steps"
    gradient_flow(WHITE, starts(), TIMES, progress=True)
    assert capsys.readouterr().out == ""


def test_an_error_in_a_callback_comes_out():
    def fail(report):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        gradient_flow(WHITE, starts(), TIMES, progress=fail)


def test_an_objective_without_closed_forms_is_shared():
    networks = starts(3)
    together = gradient_flow(quartic, networks, TIMES)
    is_as_alone(together, [quartic] * 2, [at(networks, b) for b in range(2)], TIMES)
    assert together.ending[0].excess is None and together.ending[0].signature is None


STARTS = starts()
UNEVEN = jax.tree.unflatten(jax.tree.structure(STARTS), [STARTS.weights[0], STARTS.weights[1][:3]])
DEEP = jax.tree.map(lambda W: W[None], STARTS)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((WHITE, STARTS), {}, r"^`ts`: is None, but an ensemble needs output times that all its members share; give"),
        ((problems(), at(STARTS, 0)), {"max_time": 1.0}, r"^`ts`: is None, but an ensemble needs"),
        ((problems(4), STARTS, TIMES), {}, r"^`network`: has 7 members, but the objective has 4; give equal numbers"),
        ((WHITE, UNEVEN, TIMES), {}, r"^`network`: the weights have leading axes \(3,\), \(7,\); give every layer"),
        ((WHITE, DEEP, TIMES), {}, r"^`network`: the weights have leading axes \(1, 7\); give every layer"),
        ((problems(), starts(widths=(3, 5, 3)), TIMES), {}, r"^`network`: maps 3 inputs to 3 outputs, but the obj"),
        ((WHITE, STARTS, TIMES), {"threads": 0}, r"^`threads`: got 0; give at least 1"),
        ((WHITE, STARTS, TIMES), {"mask": jax.tree.map(lambda W: W > 0, STARTS)}, r"^`mask`: must be a Network of"),
        ((stack([problems()]), STARTS, TIMES), {}, r"^`objective`: the optimum has shape \(1, 7, 3, 4\); for an"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        gradient_flow(*arguments, **options)
    assert "\n" not in str(caught.value)
