"""Tasks in sequence: the flow against single flows, the exact solution against the flow, forgetting in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear.exact import NotExact
from deeplinear.sequences import TaskSequence


def task(seed, d_y=3, d_x=4, scale=dl.HALF_MEAN):
    return dl.SquaredError.from_moments(np.random.default_rng(seed).normal(size=(d_y, d_x)), trace_yy=30.0, scale=scale)


TASKS = [(task(1), 3.0), (task(2), 2.0), (task(3), 4.0)]
TS = np.concatenate([np.linspace(0, 9, 37), [3.0, 3.001, 5.0]])
TS = np.unique(TS)


@pytest.mark.parametrize("lam", [pytest.param(-1.0, marks=pytest.mark.slow), 0.0, 1.0])
def test_the_exact_solution_and_the_flow_agree_through_all_tasks(lam):
    start = dl.init.lambda_balanced(0, (4, 2, 3), lam, 0.5)
    run = dl.gradient_flow(TASKS, start, TS, rtol=1e-12)
    exact = dl.exact.sequence(TASKS, start)
    state = exact(TS)
    W1, W2 = (np.asarray(W) for W in run.networks.weights)
    gaps = {
        "W": np.abs(state.end_to_end - run.end_to_end).max(),
        "W1^T W1": np.abs(state.gram_in - np.swapaxes(W1, -1, -2) @ W1).max(),
        "W2 W2^T": np.abs(state.gram_out - W2 @ np.swapaxes(W2, -1, -2)).max(),
        "weights": max(
            np.abs(a - b).max() for a, b in zip(exact.trajectory(TS).networks.weights, (W1, W2), strict=True)
        ),
    }
    print(f"lambda = {lam:g}:", {name: f"{gap:.1e}" for name, gap in gaps.items()})
    assert max(gaps.values()) < 1e-10
    losses = [[float(objective(W)) for objective, _ in TASKS] for W in run.end_to_end]
    np.testing.assert_allclose(state.losses, losses, atol=1e-9)
    assert np.array_equal(state.task, np.searchsorted([3.0, 5.0], TS, side="left"))
    np.testing.assert_allclose(state.loss, np.array(losses)[np.arange(len(TS)), state.task], atol=1e-9)


def test_a_sequence_is_single_flows_one_after_another():
    start = dl.init.gaussian(0, (4, 5, 3, 3), 0.3)  # no exact solution: any network will do
    run = dl.gradient_flow(TASKS, start, TS, rtol=1e-8)
    network, begin = start, 0.0
    for objective, duration in TASKS:
        inside = (begin < TS) & (begin + duration >= TS) | (TS == 0.0) & (begin == 0.0)
        asked = TS[inside] - begin
        if asked[-1] != duration:
            asked = np.append(asked, duration)
        alone = dl.gradient_flow(objective, network, asked, rtol=1e-8)
        np.testing.assert_allclose(run.end_to_end[inside], alone.end_to_end[: inside.sum()], rtol=0, atol=1e-12)
        network, begin = alone[len(alone) - 1], begin + duration
    assert run.ending is run.statistics.endings[-1] and len(run.statistics.endings) == 3
    assert run.statistics.steps > 0 and run.objective.at(3.0) is TASKS[0][0] and run.objective.at(3.001) is TASKS[1][0]


def test_without_times_every_task_lasts_as_long_as_it_was_given():
    start = dl.init.gaussian(0, (4, 5, 3), 0.3)
    tasks = [(task(1), 60.0), (task(2), 70.0)]
    run = dl.gradient_flow(tasks, start, tolerance=1e-6)
    ts = np.asarray(run.ts)
    assert ts[0] == 0 and ts[-1] == pytest.approx(130.0, rel=1e-12) and (np.diff(ts) > 0).all()
    assert np.abs(ts - 60.0).min() < 1e-9 and len(ts) > 50
    at = lambda t: run.end_to_end[int(np.argmin(np.abs(ts - t)))]
    assert float(tasks[0][0].excess(at(60.0))) < 1e-6 and float(tasks[1][0].excess(at(130.0))) < 1e-6


def test_measure_reads_the_losses_on_all_tasks():
    data = dl.measure(dl.gradient_flow(TASKS, dl.init.gaussian(0, (4, 5, 3), 0.3), TS))
    assert data["task_losses"].dims == ("time", "task") and data.sizes["task"] == 3
    assert data.attrs["task_starts"] == [0.0, 3.0, 5.0, 9.0] and "loss" not in data
    times = [ending["time"] for ending in data.attrs["statistics"]["endings"]]
    assert times == [3.0, 2.0, 4.0]


@pytest.mark.parametrize("lam", [-2.0, 0.0, 2.0])
def test_forgetting_is_half_the_squared_distance_of_the_tasks(lam):
    tasks = [(task(k), 80.0) for k in (1, 2)]  # to convergence: the modes' rates are above 0.3
    start = dl.init.lambda_balanced(1, (4, 3, 3), lam, 0.5)
    S1, S2 = (objective.optimum for objective, _ in tasks)
    predicted = 0.5 * float(jnp.sum((S1 - S2) ** 2))
    flow = dl.gradient_flow(tasks, start, [80.0, 160.0], rtol=1e-10)
    measured = float(tasks[0][0](flow.end_to_end[-1]) - tasks[0][0].minimum)
    exact = dl.exact.sequence(tasks, start)
    print(f"forgetting: {predicted:.10f}, flow {measured - predicted:+.1e}, exact {exact.forgetting[1, 0]:.10f}")
    assert abs(measured - predicted) < 1e-6
    assert abs(float(exact.forgetting[1, 0]) - predicted) < 1e-12 * predicted + 1e-13
    assert abs(float(exact.limit_losses[1, 0] - tasks[0][0].minimum) - predicted) < 1e-12


def test_forgetting_behind_a_bottleneck_and_with_loss_scales():
    # one neuron learns the first mode of each task only; by hand: L_j(W) = c/2 |W - S_j|^2
    S = [np.diag([3.0, 1.0]), np.diag([1.0, 2.0])]
    tasks = [(dl.SquaredError.from_moments(M, scale=dl.MEAN), 40.0) for M in S]
    solution = dl.exact.sequence(tasks, dl.Network([[[0.3, 0.2]], [[0.2], [0.3]]]))
    np.testing.assert_allclose(solution.limit_losses, [[1.0, 4.0 + 4.0], [9.0 + 1.0, 1.0]], atol=1e-9)
    np.testing.assert_allclose(solution.forgetting, [[0.0, 7.0], [9.0, 0.0]], atol=1e-9)


def test_reversal_stalls_at_zero_from_a_balanced_start_but_not_from_others():
    s = 2.0
    there, back = dl.SquaredError.from_moments([[s]]), dl.SquaredError.from_moments([[-s]])
    tasks = [(there, 3.0), (back, 12.0)]
    balanced = dl.exact.sequence(tasks, dl.Network([[[0.1]], [[0.1]]]))
    # u' = 2 u (s - u): the weights stay equal, so that W >= 0 for ever, and its decay is u0 e^{-2st} / (1 + ..)
    u0 = 0.01 / (np.exp(-12) + 0.01 * (1 - np.exp(-12)) / s)
    decay = np.exp(-4 * 2.0)
    W = balanced([3.0, 5.0, 15.0]).end_to_end[:, 0, 0]
    np.testing.assert_allclose(W[:2], [u0, u0 * decay / (1 + u0 * (1 - decay) / s)], rtol=1e-12)
    assert 0 <= float(W[2]) < 1e-12
    unbalanced = dl.exact.sequence(tasks, dl.Network([[[0.1]], [[0.3]]]))
    assert float(unbalanced([15.0]).end_to_end[0, 0, 0]) == pytest.approx(-s, abs=1e-6)


def test_reversal_of_a_learned_network_is_warned_of_from_when_rounding_rules():
    objective = task(5, 3, 3)
    reverse = dl.SquaredError.from_moments(-objective.optimum)
    start = dl.init.balanced(2, (3, 4, 3), scale=0.3)
    long = dl.exact.sequence([(objective, 60.0), (reverse, 60.0)], start)
    assert long([60.0, 61.0]).warning is None
    assert "task 2" in long([120.0]).warning and "saddle" in long([120.0]).warning
    fresh = dl.exact.sequence([(objective, 60.0), (task(6, 3, 3), 60.0)], start)
    assert fresh([120.0]).warning is None


@pytest.mark.slow
def test_one_program_for_all_times_under_jit_and_vmap():
    start = dl.init.lambda_balanced(0, (4, 2, 3), 1.0, 0.5)
    plain = dl.exact.sequence(TASKS, start)(TS).end_to_end
    jitted = jax.jit(lambda network, ts: dl.exact.sequence(TASKS, network)(ts).end_to_end)
    np.testing.assert_allclose(jitted(start, jnp.asarray(TS)), plain, atol=1e-13)
    both = jax.vmap(lambda lam: dl.init.lambda_balanced(0, (4, 2, 3), lam, 0.5))(jnp.array([0.5, 1.0]))
    mapped = jax.vmap(jitted, in_axes=(0, None))(both, jnp.asarray(TS))
    np.testing.assert_allclose(mapped[1], plain, atol=1e-13)


def test_an_ensemble_goes_through_the_tasks_member_by_member():
    starts = jax.vmap(lambda key: dl.init.gaussian(key, (4, 5, 3), 0.3))(jax.random.split(jax.random.key(0), 2))
    run = dl.gradient_flow(TASKS, starts, TS)
    one = dl.gradient_flow(TASKS, jax.tree.map(lambda W: W[1], starts), TS, reduce=False)
    assert run.end_to_end.shape == (2, len(TS), 3, 4)
    np.testing.assert_allclose(run.end_to_end[1], one.end_to_end, atol=1e-12)
    assert [ending.kind for ending in run.ending] == ["time", "time"]


@given(durations=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), share=st.floats(0, 1))
def test_every_time_is_in_the_task_that_covers_it(durations, share):
    tasks = TaskSequence.of([(lambda W: W.sum(), duration) for duration in durations])
    t = share * tasks.total
    k = int(tasks.task_at(t))
    assert tasks.starts[k] <= t <= tasks.starts[k + 1]
    assert tasks.task_at(tasks.starts[1:]).tolist() == list(range(len(tasks)))  # an end belongs to what ends


def test_a_run_out_of_steps_is_the_last():
    run = dl.gradient_flow(TASKS, dl.init.gaussian(0, (4, 5, 3), 0.3), TS, max_steps=2)
    assert run.ending.kind == "steps" and len(run.statistics.endings) == 1
    assert len(run.ts) == run.end_to_end.shape[0]


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([], "is empty"),
        ([task(1)], "entry 0"),
        ([(task(1), -1.0)], "entry 0 lasts -1"),
        ([(task(1), np.inf)], "entry 0 lasts inf"),
        ([(task(1), 1.0), ("task", 1.0)], "entry 1"),
    ],
)
def test_what_is_no_sequence_is_refused(tasks, says):
    network = dl.init.balanced(0, (4, 3, 3), scale=0.1)
    for ask in (lambda: dl.exact.sequence(tasks, network), lambda: dl.gradient_flow(tasks, network, [1.0])):
        with pytest.raises(ValueError, match=says):
            ask()


def test_other_bad_questions():
    network = dl.init.balanced(0, (4, 3, 3), scale=0.1)
    solution = dl.exact.sequence(TASKS, network)
    with pytest.raises(ValueError, match="after the last task"):
        solution([9.5])
    with pytest.raises(ValueError, match="outside of the tasks"):
        dl.gradient_flow(TASKS, network, [9.5])
    with pytest.raises(ValueError, match="max_time"):
        dl.gradient_flow(TASKS, network, max_time=3.0)
    with pytest.raises(ValueError, match="sort the times"):
        dl.gradient_flow(TASKS, network, [2.0, 1.0])
    with pytest.raises(ValueError, match=r"maps . inputs to"):
        dl.exact.sequence([(task(1, 2, 2), 1.0)], network)


def test_everything_that_is_not_exact_is_named_with_its_task():
    rng = np.random.default_rng(0)
    coloured = dl.SquaredError.of(rng.normal(size=(9, 4)), rng.normal(size=(9, 3)))
    with pytest.raises(NotExact, match=r"task 2: sigma_xx.*lambda-balanced|lambda-balanced.*task 2: sigma_xx") as error:
        dl.exact.sequence([(task(1), 1.0), (coloured, 1.0)], dl.init.gaussian(0, (4, 3, 3), 0.3))
    assert {check.assumption[:6] for check in error.value.checks} == {"task 1", "task 2"}
