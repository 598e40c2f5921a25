"""Every exact solution answers the same questions: limit, Gram matrices, weights, warning, loss, trajectory."""

import jax
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError, exact, init
from deeplinear.exact.dispatch import Approximation

WHITE = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
COLOURED = SquaredError.from_moments([[1.0, 0.2, 0.0], [0.3, 0.8, 0.0]], np.diag([2.0, 1.0, 0.0]))
BALANCED = init.balanced(0, (3, 4, 2), scale=0.3)
SOLUTIONS = {
    "one layer": lambda: exact.solve(COLOURED, Network([np.arange(6.0).reshape(2, 3) / 10])),
    "one layer, decay": lambda: exact.regression(WHITE, Network([np.ones((2, 3))]), weight_decay=0.2),
    "decoupled": lambda: exact.solve(WHITE, init.decoupled(0, WHITE, (3, 4, 2), [0.3, 0.1])),
    "decoupled, deep": lambda: exact.solve(WHITE, init.decoupled(0, WHITE, (3, 5, 4, 2), [0.3, 0.1])),
    "two layers": lambda: exact.solve(WHITE, BALANCED),
    "two layers, decay": lambda: exact.two_layer(WHITE, BALANCED, weight_decay=0.2),
    "balanced": lambda: exact.solve(COLOURED, BALANCED),
    "sequence": lambda: exact.sequence([(WHITE, 3.0), (WHITE, 40.0)], BALANCED),
    "nearly": lambda: exact.solve(WHITE, init.gaussian(0, (3, 4, 2), 1e-2), approximate=True),
}
TS = np.array([0.0, 0.7, 2.5])


@pytest.mark.parametrize("make", SOLUTIONS.values(), ids=SOLUTIONS)
def test_every_solution_answers_the_same_questions(make):
    solution = make()
    state, run, network = solution(TS), solution.trajectory(TS), solution.weights(TS)
    assert solution.warning is None and state.warning is None
    assert isinstance(run, dl.Trajectory) and len(run) == 3
    layers = [np.asarray(W) for W in network.weights]
    accuracy = {"rtol": 1e-9, "atol": 1e-11}
    for W, kept, of_state in zip(layers, run.networks.weights, state.weights, strict=True):
        np.testing.assert_allclose(kept, W, **accuracy)
        np.testing.assert_allclose(of_state, W, **accuracy)
    W = layers[0]
    for above in layers[1:]:
        W = above @ W
    np.testing.assert_allclose(state.end_to_end, W, **accuracy)
    np.testing.assert_allclose(state.gram_in, layers[0].transpose(0, 2, 1) @ layers[0], **accuracy)
    np.testing.assert_allclose(state.gram_out, layers[-1] @ layers[-1].transpose(0, 2, 1), **accuracy)
    assert state.loss.shape == (3,) and state.ts.shape == (3,)


@pytest.mark.parametrize("name", [name for name in SOLUTIONS if name != "balanced"])
def test_the_limit_is_where_late_times_are(name):
    solution = SOLUTIONS[name]()
    limit, late = solution.limit(), solution([{"sequence": 43.0, "nearly": 1e6}.get(name, 60.0)])
    assert limit.ts.shape == limit.loss.shape == () and np.isinf(limit.ts)
    accuracy = 1e-6 if isinstance(solution, Approximation) else 1e-9
    for what in ("end_to_end", "gram_in", "gram_out", "loss"):
        np.testing.assert_allclose(getattr(limit, what), getattr(late, what)[0], atol=accuracy)


def test_the_limit_keeps_what_no_input_moves_and_stays_at_saddles():
    start = Network([np.arange(6.0).reshape(2, 3) / 10])
    end = exact.regression(COLOURED, start).limit().end_to_end
    best = np.array([[1.0, 0.2], [0.3, 0.8]]) / np.array([2.0, 1.0])
    np.testing.assert_allclose(end[:, :2], best, atol=1e-12)
    np.testing.assert_allclose(end[:, 2], start.weights[0][:, 2], atol=1e-12)
    saddle = exact.decoupled(WHITE, init.decoupled(0, WHITE, (3, 4, 2), [0.3, 0.0])).limit()
    np.testing.assert_allclose(saddle.strengths, [2.0, 0.0], atol=1e-12)
    assert float(saddle.loss) == pytest.approx(0.5, abs=1e-12)


def test_what_is_not_known_says_why():
    with pytest.raises(
        ValueError, match=r"^`limit`: the end-to-end flow has no closed form at infinite time; `gradient_"
    ):
        exact.solve(COLOURED, BALANCED).limit()
    with pytest.raises(
        ValueError, match=r"^`weights`: at infinite time the rotation of the hidden layer has no closed"
    ):
        _ = exact.solve(WHITE, BALANCED).limit().weights


def test_states_pass_through_jax():
    ends = jax.vmap(lambda s: exact.two_layer(SquaredError.from_moments(s * WHITE.sigma_yx), BALANCED)(TS))(
        np.array([1.0, 2.0])
    )
    assert ends.end_to_end.shape == (2, 3, 2, 3)
