import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplinear import tasks
from deeplinear.data import Moments


def test_semantic_is_the_published_table():
    task = tasks.semantic()
    assert task.item_names == ("canary", "salmon", "oak", "rose")
    assert task.output_names == ("grow", "move", "roots", "fly", "swim", "leaves", "petals")
    assert ["".join(f"{entry:.0f}" for entry in column) for column in task.Y.T] == [
        "1111",
        "1100",
        "0011",
        "1000",
        "0100",
        "0010",
        "0001",
    ]
    np.testing.assert_array_equal(task.X, np.eye(4))
    np.testing.assert_array_equal(task.moments.sigma_yx, task.Y.T / 4)
    np.testing.assert_array_equal(task.moments.sigma_xx, np.eye(4))
    assert task.moments.trace_yy is None
    singular_values = np.linalg.svd(task.moments.sigma_yx)[1]
    np.testing.assert_allclose(singular_values, np.sqrt([7, 3, 1, 1]) / 4, rtol=4e-15)


def test_sample_moments_of_the_semantic_task_have_a_quarter_of_the_identity():
    task = tasks.semantic()
    moments = Moments.of(task.X, task.Y)
    np.testing.assert_allclose(moments.sigma_xx, np.eye(4) / 4, atol=1e-16)
    np.testing.assert_allclose(moments.sigma_yx, task.moments.sigma_yx, atol=1e-16)


def test_binary_tree_of_four_levels():
    task = tasks.hierarchy()
    assert task.Y.T.shape == (15, 8)
    np.testing.assert_array_equal(task.Y[:, 0], 1)
    np.testing.assert_array_equal(task.Y[:, 7:], np.eye(8))
    np.testing.assert_array_equal(task.Y[:, 1], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(np.linalg.svd(task.Y.T)[1], np.sqrt([15, 7, 3, 3, 1, 1, 1, 1]), rtol=1e-14)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(2, 4))
def test_tree_against_a_walk_from_every_leaf_to_the_root(levels, branching):
    task = tasks.hierarchy(levels, branching)
    items = branching ** (levels - 1)
    assert (
        task.X.shape == (items, items)
        and len(task.item_names) == items
        and len(set(task.output_names)) == task.Y.shape[1]
    )
    for leaf, row in enumerate(task.Y):
        above = {f"level {k + 1} node {leaf // branching ** (levels - 1 - k) + 1}" for k in range(levels)}
        assert {name for name, entry in zip(task.output_names, row, strict=True) if entry} == above
    expected = [((branching ** (levels - k) - 1) / (branching - 1)) ** 0.5 for k in range(levels)]
    times = [1] + [branching**k - branching ** (k - 1) for k in range(1, levels)]
    np.testing.assert_allclose(np.linalg.svd(task.Y)[1], np.repeat(expected, times), rtol=1e-13)
    np.testing.assert_array_equal(task.moments.sigma_yx, task.Y.T / items)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 1}, r"^`levels`: got 1; a tree needs at least 2$"),
        ({"branching": 0}, r"^`branching`: got 0; a tree needs at least 2$"),
        ({"levels": 2.5}, r"^`levels`: got 2.5; give a whole number from 0 to 64$"),
        ({"branching": True}, r"^`branching`: got True; give a whole number from 0 to 4096$"),
        ({"levels": 10**9}, r"^`levels`: got 1000000000; give a whole number from 0 to 64$"),
        ({"levels": 40}, r"^`levels`, `branching`: give 549755813888 items; at most 4096 fit$"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_impossible_trees(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.hierarchy(**arguments)


def test_digits_are_those_of_the_repository():
    task = tasks.digits()
    assert task.X.shape == (1797, 64) and task.Y.shape == (1797, 10) and len(task.input_names) == 64
    np.testing.assert_array_equal(task.Y.sum(axis=1), 1)
    # class sizes of optdigits.tes, as printed in the data set's own description
    assert task.Y.sum(axis=0).astype(int).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    first = [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
    ]
    np.testing.assert_array_equal(16 * task.X[0, :32].reshape(4, 8), first)
    assert task.Y[0].argmax() == 0 and task.X.min() == 0 and task.X.max() == 1
    assert "10.24432/C50P49" in task.description and "CC BY 4.0" in task.description
    np.testing.assert_allclose(task.moments.sigma_yx, task.Y.T @ task.X / 1797, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**32))
def test_teacher_has_the_singular_values_and_makes_the_outputs(d_x, d_y, rank, seed):
    s = np.linspace(3, 1, min(rank, d_x, d_y))
    task = tasks.teacher_student((d_x, 9, d_y), s, samples=7, seed=seed)
    np.testing.assert_allclose(task.Y, task.X @ task.teacher.T, atol=1e-14)
    padded = np.concatenate([s, np.zeros(min(d_x, d_y) - len(s))])
    np.testing.assert_allclose(np.linalg.svd(task.teacher)[1], padded, atol=1e-14)
    again = tasks.teacher_student((d_x, 9, d_y), s, samples=7, seed=seed)
    np.testing.assert_array_equal(task.Y, again.Y)


def test_teachers_are_haar_distributed():
    # the entries of a Haar vector in three dimensions are uniform on [-1, 1]; numpy's QR alone gives one sign only
    entries = np.array([tasks.teacher_student((3, 1), (1.0,), samples=1, seed=seed).teacher[0] for seed in range(2000)])
    for moment, expected in ((1, 0.0), (2, 1 / 3), (3, 0.0), (4, 1 / 5)):
        np.testing.assert_allclose((entries**moment).mean(axis=0), expected, atol=0.06)


def test_noise_and_inputs_have_the_stated_size():
    task = tasks.teacher_student((4, 3), (2.0, 1.0, 0.5), noise=0.5, samples=200_000, seed=1)
    residual = task.Y - task.X @ task.teacher.T
    # five standard errors of a variance: 5 * sqrt(2 / n) = 0.016
    np.testing.assert_allclose(residual.var(axis=0), 0.25, rtol=0.016)
    np.testing.assert_allclose(task.moments.sigma_xx, np.eye(4), atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (3,)}, r"^`widths`: got \(3,\); give at least \(d_x, d_y\), all positive$"),
        ({"widths": (3, 0, 2)}, r"^`widths`: got \(3, 0, 2\); "),
        ({"singular_values": (1.0, 1.0, 1.0)}, r"^`singular_values`: got \(1.0, 1.0, 1.0\); give at most 2 numbers"),
        ({"singular_values": (-1.0,)}, r"^`singular_values`: got \(-1.0,\); .* finite and at least 0$"),
        ({"singular_values": (float("nan"),)}, r"^`singular_values`: got \(nan,\); "),
        ({"noise": -0.1}, r"^`noise`: got -0.1; a standard deviation is finite and at least 0$"),
        ({"noise": float("inf")}, r"^`noise`: got inf; "),
        ({"samples": 2.5}, r"^`samples`: got 2.5; give a whole number of at least 1$"),
        ({"seed": True}, r"^`seed`: got True; give a whole number of at least 0$"),
        ({"widths": (3, 2.5, 2)}, r"^`widths`: got 2.5; give a whole number"),
        ({"samples": 0}, r"^`samples`: got 0; give a whole number of at least 1$"),
        ({"seed": -1}, r"^`seed`: got -1; give a whole number of at least 0$"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_impossible_teachers(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.teacher_student(**{"widths": (3, 4, 2), "singular_values": (1.0,), **arguments})


@pytest.mark.parametrize("name", ["semantic", "hierarchy", "digits"])
def test_tasks_by_name(name):
    task = tasks.resolve(name)
    assert task.name == name and task.description
    assert (len(task.input_names), len(task.output_names)) == (task.X.shape[1], task.Y.shape[1])
    assert (task.moments.d_x, task.moments.d_y) == (task.X.shape[1], task.Y.shape[1])


def test_resolve_reads_files_and_refuses_the_rest(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.eye(3), y=np.ones((3, 2)))
    assert tasks.resolve(str(tmp_path / "mine.npz")).Y.shape == (3, 2)
    with pytest.raises(
        ValueError,
        match=r"^`data`: got 'digit'; did you mean 'digits'\? give a task \(semantic, hierarchy, digits\) or a file, "
        "no such file exists$",
    ):
        tasks.resolve("digit")
    with pytest.raises(ValueError, match=r"^`data`: got 'semantics'; did you mean 'semantic'\? give a task"):
        tasks.resolve("semantics")
    with pytest.raises(ValueError, match=r"^`data`: got 'a\\x00b'; give a task .* no such file exists$"):
        tasks.resolve("a\0b")
    with pytest.raises(
        ValueError, match=r"^`target`: got 'y', but the task 'digits' has its own outputs; leave it out$"
    ):
        tasks.resolve("digits", target="y")
    with pytest.raises(ValueError, match=r"is a folder, not a file$"):
        tasks.resolve(tmp_path)


def test_nothing_here_imports_jax():
    code = (
        "import sys, deeplinear.tasks as t, deeplinear.records, deeplinear.experiment; t.resolve('digits'); "
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
