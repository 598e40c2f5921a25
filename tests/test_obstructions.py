"""Starts that keep the exact flow from the minimum: named always, and never called a minimum."""

from functools import reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow, init
from deeplinear.obstructions import Obstacles, kept_sign, obstruction

S = np.array([4.0, 2.5, 1.5, 0.5])
SQUARE = SquaredError.from_singular_values(S, 4, 4)


def rotation(rng, d):
    Q, R = np.linalg.qr(rng.standard_normal((d, d)))
    return Q * np.sign(np.diagonal(R))


def balanced(rng, depth, d, sign, scale=0.1, widths=None):
    """A 0-balanced start with product `scale` N(0, 1), whose determinant has the wanted sign, in numpy alone."""
    widths = (d,) * (depth + 1) if widths is None else widths
    P = scale * rng.standard_normal((d, d))
    if np.linalg.slogdet(P)[0] != sign:
        P[0] = -P[0]
    U, s, Vt = np.linalg.svd(P)
    frames = [Vt.T, *(rotation(rng, w)[:, :d] for w in widths[1:-1]), U]
    return Network([above @ np.diag(s ** (1 / depth)) @ below.T for below, above in pairwise(frames)])


def product(network):
    return reduce(lambda below, W: np.asarray(W) @ below, network.weights, np.eye(network.widths[0]))


# runs that choose their own end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3])
def test_a_wrong_sign_of_the_determinant_ends_at_the_saddle_of_one_rank_less(depth):
    start = balanced(np.random.default_rng(0), depth, 4, -1.0)
    trajectory = gradient_flow(SQUARE, start)
    ending = trajectory.ending
    assert ending.kind == "saddle" and ending.predicted_loss == pytest.approx(0.125, rel=1e-12)
    assert ending.loss == pytest.approx(0.125, abs=2e-6 * np.sum(S**2))
    reached = np.linalg.svd(np.asarray(trajectory.end_to_end[-1]), compute_uv=False)
    np.testing.assert_allclose(reached, [4.0, 2.5, 1.5, 0.0], atol=1e-3)
    assert "the sign of det W(0), which is kept for ever" in ending.message
    assert ending.signature == (1, 2, 3)
    free = gradient_flow(SQUARE, balanced(np.random.default_rng(0), depth, 4, 1.0)).ending
    assert (free.kind, free.predicted_loss) == ("global minimum", None)


@pytest.mark.parametrize(
    ("strengths", "left"),
    [([0.1, 0.1, 0.1, -0.1], [3]), ([0.1, -0.1, 0.1, -0.1], [1, 3]), ([-0.1, 0.1, 0.1, 0.1], [0])],
)
def test_aligned_starts_lose_every_mode_of_the_wrong_sign(strengths, left):
    """Two wrong signs make a right determinant; each mode keeps its own sign all the same."""
    start = init.decoupled(0, SQUARE, (4, 4, 4), strengths)
    expected = float(np.sum(S[left] ** 2) / 2)
    found = obstruction(SQUARE, start)
    assert found is not None and found.exact
    assert (found.rank, found.loss) == (4 - len(left), pytest.approx(expected, rel=1e-12))
    ending = gradient_flow(SQUARE, start).ending
    assert ending.kind == "saddle" and ending.predicted_loss == pytest.approx(expected, rel=1e-12)
    assert ending.loss == pytest.approx(expected, abs=2e-6 * np.sum(S**2))


def test_of_aligned_chains_only_those_with_two_smallest_weights_stay():
    objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    chain = lambda *xi: Network([np.diag([0.3, x]) for x in xi])
    assert obstruction(objective, chain(0.2, -0.1)) is None  # crosses zero, the smaller weight first
    assert obstruction(objective, chain(0.2, 0.0)) is None
    assert obstruction(objective, chain(0.2, 0.2)) is None
    for stuck in (chain(0.1, -0.1), chain(0.0, 0.0), chain(0.1, -0.1, 0.3), chain(0.0, 0.0, 0.3)):
        assert obstruction(objective, stuck).loss == pytest.approx(0.5, rel=1e-12)
    assert obstruction(objective, chain(0.1, -0.2, 0.3)) is None


def test_ranks_and_inputs_that_never_occur():
    zero, lacking = Network([np.zeros((4, 4))] * 2), Network([np.diag([0.1, 0.1, 0.0, 0.0])] * 2)
    assert obstruction(SQUARE, zero).loss == pytest.approx(np.sum(S**2) / 2)
    assert obstruction(SQUARE, lacking).loss == pytest.approx((1.5**2 + 0.5**2) / 2)
    # a bottleneck of two leaves the same rank to everything
    narrow = Network([np.eye(2, 4) * 0.1, np.eye(4, 2) * 0.1])
    assert obstruction(SQUARE, narrow) is None
    rng = np.random.default_rng(3)
    # hidden layers wider than the ends change nothing, inputs that never occur neither
    for widths in ((4, 6, 4), (4, 4, 7, 4)):
        depth = len(widths) - 1
        assert obstruction(SQUARE, balanced(rng, depth, 4, -1.0, widths=widths)).loss == pytest.approx(0.125)
        assert obstruction(SQUARE, balanced(rng, depth, 4, 1.0, widths=widths)) is None
    seen = SquaredError.from_moments(np.diag([2.0, 1.0]) @ np.eye(2, 3), np.diag([1.0, 1.0, 0.0]))
    for sign in (-1.0, 1.0):
        first, second = (np.asarray(W) for W in balanced(rng, 2, 2, sign).weights)
        start = Network([np.hstack([first, np.zeros((2, 1))]), second])
        found = obstruction(seen, start)
        assert (found is None) == (sign > 0) and (found is None or found.loss == pytest.approx(0.5))


@pytest.mark.parametrize("size", [1e-200, 1e-20, 1.0, 1e150])
def test_the_size_of_a_start_changes_no_verdict(size):
    for sign in (-1.0, 1.0):
        start = balanced(np.random.default_rng(5), 2, 4, sign)
        found = obstruction(SQUARE, Network([size * np.asarray(W) for W in start.weights]))
        assert (found is None) == (sign > 0)


# given times, ensembles, sequences, other losses ----------------------------------------------------------------------


def test_given_times_and_ensembles_name_it_member_by_member():
    rng = np.random.default_rng(1)
    signs = [-1.0, 1.0, -1.0, 1.0]
    starts = [balanced(rng, 2, 4, sign) for sign in signs]
    members = jax.tree.map(lambda *layers: jnp.stack(layers), *starts)
    for ts in ([2.0], [12.0], [1e4]):
        together = gradient_flow(SQUARE, members, ts)
        for sign, start, member in zip(signs, starts, together.ending, strict=True):
            alone = gradient_flow(SQUARE, start, ts, reduce=False).ending
            assert (alone.kind, alone.predicted_loss, alone.message) == (
                member.kind,
                member.predicted_loss,
                member.message,
            )
            if sign > 0:
                assert member.predicted_loss is None and member.kind in ("time", "global minimum")
                continue
            assert member.predicted_loss == pytest.approx(0.125, rel=1e-12) and "det W(0)" in member.message
            assert member.kind in ("time", "saddle", "left the flow")
            if ts == [1e4]:  # rounding has led it away by then
                assert member.kind == "left the flow" and "led the run away" in member.message
            assert (member.kind == "saddle") == (abs(member.loss - 0.125) <= 2e-6 * np.sum(S**2))


def test_a_sequence_keeps_the_sign_of_its_very_first_network():
    mirrored = SquaredError.from_moments(np.diag(S * [1, 1, 1, -1]))
    start = balanced(np.random.default_rng(2), 2, 4, -1.0)
    for ts in (None, [100.0, 200.0]):
        run = gradient_flow([(SQUARE, 100.0), (mirrored, 100.0)], start, ts)
        first, second = run.statistics.endings
        assert first.kind in ("saddle", "left the flow") and first.predicted_loss == pytest.approx(0.125)
        assert run.ending == second
        # the second task suits the sign of the start: only a run that lost it earlier is off
        lost = np.linalg.slogdet(np.asarray(run.end_to_end[-1]))[0] > 0
        assert (second.kind == "global minimum") == (not lost)
    # and where the second task does not suit it, no run of it is a minimum, though its own start may look free
    run = gradient_flow([(mirrored, 100.0), (SQUARE, 100.0)], start, [100.0, 200.0])
    first, second = run.statistics.endings
    assert first.kind == "global minimum" and second.kind != "global minimum"
    assert second.predicted_loss == pytest.approx(0.125)


def test_completion_keeps_the_sign_too():
    """Off-diagonals 2 and .5 and a zero on the diagonal are seen: det W = -1 at all solutions, det W(0) is positive."""
    values, places = [2.0, 0.5, 0.0], [[0, 1], [1, 0], [0, 0]]
    objective = dl.MatrixCompletion(np.array(values), np.array(places), (2, 2))
    start = balanced(np.random.default_rng(4), 2, 2, 1.0)
    for ts in (None, [1e4]):
        options = {"max_time": 1e4} if ts is None else {}
        run = gradient_flow(objective, start, ts, **options)
        lost = np.linalg.det(np.asarray(run.end_to_end[-1])) < 0
        assert (run.ending.kind == "left the flow") == lost
        assert not lost or "sign of det W(0) is kept for ever" in run.ending.message
    free = gradient_flow(objective, balanced(np.random.default_rng(4), 2, 2, -1.0)).ending
    assert free.kind == "global minimum"


def test_signs_that_nothing_keeps():
    rng = np.random.default_rng(6)
    square = [rng.standard_normal((3, 3)) for _ in range(2)]
    assert kept_sign(square) is None  # not balanced
    assert kept_sign(square[:1]) is None  # one layer
    assert kept_sign([np.ones((2, 3)), np.ones((3, 2))]) is None  # a bottleneck
    start = balanced(rng, 2, 4, -1.0)
    mask = Network([np.ones((4, 4), dtype=bool), ~np.eye(4, dtype=bool)])
    assert gradient_flow(SQUARE, start, [1.0], mask=mask).ending.predicted_loss is None


def test_learn_says_so_first_of_all(tmp_path):
    start = balanced(np.random.default_rng(0), 2, 4, -1.0)
    seeds = [k for k in range(20) if np.linalg.det(np.asarray(init.balanced(k, (4, 4, 4), scale=0.3).end_to_end)) < 0]
    assert start.widths == (4, 4, 4)
    data = dl.learn(dl.data.Moments.given(np.diag(S)), hidden=4, init="balanced", scale=0.3, seed=seeds[0])
    assert data.attrs["ending"]["kind"] == "saddle"
    assert data.attrs["ending"]["predicted_loss"] == pytest.approx(0.125)
    assert "det W(0)" in data.attrs["theory"]["obstruction"]
    assert any("did not end at a minimum (saddle)" in warning for warning in data.attrs["warnings"])
    told = dl.plots.reading.summary(data)
    assert told[0].startswith("The start keeps the flow from the smallest loss: it ends at a saddle at a loss of 0.125")
    assert "3 of 4 modes were learned" in " ".join(told) and "within 1e+02" not in " ".join(told)


# searches -------------------------------------------------------------------------------------------------------------


@pytest.mark.search
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(1, 5), st.booleans(), st.floats(1e-6, 1e2))
def test_search_verdicts_on_random_balanced_starts(seed, depth, d, wide, scale):
    rng = np.random.default_rng(seed)
    s = np.sort(rng.uniform(0.1, 3.0, d))[::-1]
    target = rotation(rng, d) @ np.diag(s) @ rotation(rng, d).T
    root = np.eye(d) if rng.random() < 0.5 else rotation(rng, d) @ np.diag(rng.uniform(0.5, 2.0, d))
    sigma_xx = root @ root.T
    objective = SquaredError.from_moments(target @ root.T, sigma_xx)  # W* = target root^-1
    sign = 1.0 if rng.random() < 0.5 else -1.0
    start = balanced(rng, depth, d, sign, scale, (d, *([d + 2 * wide] * (depth - 1)), d))
    found = Obstacles(objective).before(start)
    wanted = np.linalg.slogdet(target)[0] * np.linalg.slogdet(root)[0]
    if sign == wanted:
        assert found is None
    else:
        assert found.loss == pytest.approx(s[-1] ** 2 / 2, rel=1e-9, abs=1e-12) and found.rank == d - 1


BATCH = 8
SHAPES = {(2, 2): 0, (3, 3): 1, (2, 4): 2}
"""(depth, size) of the ensembles that are run: every shape is compiled once."""


@pytest.mark.search
@settings(max_examples=max(settings.default.max_examples // BATCH, 3))
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(SHAPES)), st.floats(0.5, 3.0))
def test_search_no_run_past_a_wrong_sign_is_a_minimum(seed, shape, late):
    depth, d = shape
    rng = np.random.default_rng(seed)
    s = np.sort(rng.uniform(0.4, 3.0, d))[::-1]
    target = rotation(rng, d) @ np.diag(s) @ rotation(rng, d).T
    objective = SquaredError.from_moments(target)
    signs = rng.choice([-1.0, 1.0], BATCH)
    starts = [balanced(rng, depth, d, sign, 0.2) for sign in signs]
    members = jax.tree.map(lambda *layers: jnp.stack(layers), *starts)
    run = gradient_flow(objective, members, [10**late], threads=1)
    wanted, size = np.linalg.slogdet(target)[0], np.sum(s**2)
    for sign, ending, W in zip(signs, run.ending, np.asarray(run.end_to_end[:, -1]), strict=True):
        excess = np.sum((W - target) ** 2) / 2
        if sign == wanted:
            assert ending.predicted_loss is None and ending.kind in ("global minimum", "time")
            assert ending.kind == "global minimum" or excess > 1e-13 * size
        else:
            assert ending.kind in ("saddle", "left the flow", "time")
            assert ending.predicted_loss == pytest.approx(s[-1] ** 2 / 2, rel=1e-9)
            assert ending.kind != "saddle" or abs(excess - s[-1] ** 2 / 2) <= 1.01e-6 * size
