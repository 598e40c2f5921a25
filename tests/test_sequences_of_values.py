"""Values with `[ ]` are sequences as Python's are: length, ends, negative numbers, slices, one line for the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError, Trajectory, blockshift, diagnostics, landscape

pytestmark = pytest.mark.usefixtures("without_annotations")

TS = jnp.array([0.0, 1.0, 2.5, 4.0])
ENDING = dl.Ending("time", 0.5, None, 4.0, 0.0, None, None, "reached the last time")


def trajectory(*axes):
    """Four times of a network whose numbers tell the time, after other axes."""
    W = jnp.broadcast_to(10.0 * jnp.arange(4.0)[:, None, None] + jnp.arange(2.0)[None, None], (*axes, 4, 1, 2))
    networks = jax.tree.map(lambda _: W, Network([np.ones((1, 2))]))
    return Trajectory(TS, networks, ENDING if not axes else (ENDING,) * axes[0])


def test_a_trajectory_is_a_sequence_of_networks():
    run = trajectory()
    assert len(run) == 4 and bool(run)
    assert [float(network.weights[0][0, 0]) for network in run] == [0.0, 10.0, 20.0, 30.0]
    assert [float(network.weights[0][0, 0]) for network in reversed(run)] == [30.0, 20.0, 10.0, 0.0]
    for i in range(-4, 4):
        assert float(run[i].weights[0][0, 0]) == [0.0, 10.0, 20.0, 30.0][i]
        assert run[np.int64(i)].weights[0].shape == (1, 2)
    for i in (4, -5, 99, 10**30):
        with pytest.raises(IndexError, match=r"^there are 4 times; got \[-?\d+\]$"):
            run[i]
    for i in (1.0, "1", None, [0], np.array([0, 1]), (0, 0), ...):
        with pytest.raises(TypeError, match=r"^times are numbered by whole numbers and slices of them; got \[.*\]$"):
            run[i]


@pytest.mark.parametrize("axes", [(), (3,)])
@pytest.mark.parametrize("part", [np.s_[1:3], np.s_[:-1], np.s_[::2], np.s_[::-1], np.s_[-2:], np.s_[7:], np.s_[:]])
def test_slices_of_a_trajectory_are_trajectories(axes, part):
    run = trajectory(*axes)
    piece = run[part]
    assert isinstance(piece, Trajectory) and len(piece) == len(range(4)[part])
    np.testing.assert_array_equal(piece.ts, np.asarray(TS)[part])
    np.testing.assert_array_equal(piece.end_to_end, np.asarray(run.end_to_end)[(slice(None),) * len(axes) + (part,)])
    ends = 3 in range(4)[part][-1:]
    assert piece.ending == (run.ending if ends else None)
    assert repr(piece).startswith(f"Trajectory({len(piece)} times")


def test_in_an_ensemble_times_are_numbered_and_members_have_a_name():
    run = trajectory(3)
    assert len(run) == 4 and run[1].weights[0].shape == (3, 1, 2) and len(list(run)) == 4
    assert float(run.member(-1)[2].weights[0][0, 0]) == 20.0
    for b in (3, -4):
        with pytest.raises(IndexError, match=r"^there are 3 members; got"):
            run.member(b)
    with pytest.raises(TypeError, match=r"^members are numbered by whole numbers"):
        run.member("first")


def test_real_runs_are_sequences_with_their_reduction():
    objective = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    run = dl.gradient_flow(objective, dl.init.balanced(0, (3, 4, 2), scale=0.1), ts=[0.0, 1.0, 20.0])
    assert len(list(run)) == len(run) == 3
    for i, network in enumerate(run):
        np.testing.assert_allclose(network.end_to_end, run.end_to_end[i], atol=1e-12)
    np.testing.assert_allclose(run[1:].end_to_end, run.end_to_end[1:], atol=1e-14)
    data = dl.measure(run[:2])
    assert data.sizes["time"] == 2 and "ending" not in data.attrs


def test_an_index_may_be_traced():
    run = trajectory()
    assert float(jax.jit(lambda i: run[i].weights[0][0, 0])(2)) == 20.0


def test_critical_points_are_a_sequence():
    points = landscape.critical_points(SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 3), (3, 2, 3))
    every = list(points)
    assert len(points) == points.count == len(every) == 7 and points
    signatures = [point.signature for point in every]
    for i in range(-7, 7):
        assert points[i].signature == points[np.int32(i)].signature == signatures[i]
    for part in (np.s_[1:3], np.s_[-2:], np.s_[::-2], np.s_[5:1:-1], np.s_[9:], np.s_[:]):
        assert [point.signature for point in points[part]] == signatures[part]
    for i in (7, -8):
        with pytest.raises(IndexError, match=r"^there are 7 critical values; got"):
            points[i]
    with pytest.raises(TypeError, match=r"^critical values are numbered by whole numbers"):
        points["lowest"]


def test_many_critical_points_are_not_listed_for_a_few():
    many = landscape.critical_points(SquaredError.from_singular_values(np.arange(80.0, 0.0, -1), 80, 80), (80, 80, 80))
    assert many and many.count == 2**80
    assert many[2].signature == (*range(1, 79), 80)
    assert [point.signature for point in many[-2:]] == [(80,), ()]
    assert [point.signature for point in many[:-2:-1]] == [()]


def test_kernels_over_time_are_a_sequence():
    kernels = trajectory().map(diagnostics.ntk)
    assert len(kernels) == len(list(kernels)) == 4
    assert kernels[-1].outputs.shape == (1, 1, 1) and len(kernels[1:]) == 3
    with pytest.raises(IndexError, match=r"^there are 4 kernels; got \[4\]"):
        kernels[4]
    single = kernels[0]
    with pytest.raises(IndexError, match=r"^this kernel has 0 leading axes; got 1 indices"):
        single[0]
    with pytest.raises(TypeError, match=r"^a single kernel has no length"):
        len(single)
    of_members = trajectory(3).map(diagnostics.ntk)
    assert of_members[2, 1].outputs.shape == (1, 1, 1) and of_members[2].outputs.shape == (4, 1, 1, 1)


def test_block_matrices_are_indexed_by_two_layers():
    A = blockshift.adjacency(Network([np.ones((2, 3)), np.ones((1, 2))]))
    assert A[1, 0].shape == (2, 3) and A[np.int64(0), 2].shape == (3, 1)
    for layers in ((3, 0), (-1, -2), (0, -1)):
        with pytest.raises(IndexError, match=r"^layers are numbered 0 to 2; got A\["):
            A[layers]
    for layers in (0, "ab", (0.5, 1), (0, 1, 2)):
        with pytest.raises(TypeError, match=r"^a block is between two layers, A\[l, m\]; got A\["):
            A[layers]
    with pytest.raises(TypeError, match="not iterable"):
        iter(A)
