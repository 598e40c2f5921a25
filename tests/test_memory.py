"""What does not fit into memory is refused in one line, before anything is allocated; exact reductions still run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deeplinear as dl
from deeplinear import _memory
from deeplinear.cli import _exit_code

HUGE = 10**9
SEMANTIC = dl.tasks.semantic().moments
SMALL = dl.SquaredError.from_moments([[1.0]])
LINE = r"^`{}`: .* takes? (more than )?[0-9.e+]+ [TGM]B of memory, but [0-9.]+ [TGM]B are free; "


def square(d):
    """A matrix of d columns that takes no memory."""
    return np.broadcast_to(0.5, (1, d))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: dl.init.gaussian(0, (4, HUGE, 7), 0.1), "widths"),
        (lambda: dl.init.gaussian(0, (4, 10**20, 7), 0.1), "widths"),
        (lambda: dl.init.gaussian(0, (4, 10**400, 7), 0.1), "widths"),
        (lambda: dl.init.orthogonal(0, (4, HUGE, 7), 0.1), "widths"),
        (lambda: dl.init.xavier(0, (HUGE, HUGE)), "widths"),
        (lambda: dl.init.kaiming(0, (4, 7, 10**25)), "widths"),
        (lambda: dl.init.balanced(0, (4, HUGE, 7), scale=0.1), "widths"),
        (lambda: dl.init.balanced(0, (1, HUGE, 1), product=[[1.0]]), "widths"),
        (lambda: dl.init.from_product(0, (1, 10**6, 1), [[1.0]]), "widths"),
        (lambda: dl.init.lambda_balanced(0, (4, HUGE, 7), 0.0, 0.1), "widths"),
        (lambda: dl.init.from_imbalance(0, [[1.0]], [0.0], (1, HUGE, 1)), "widths"),
        (lambda: dl.init.decoupled(0, dl.SquaredError.from_data(SEMANTIC), (4, HUGE, 7), 0.1), "widths"),
        (lambda: dl.masks.sparse(0, (4, HUGE, 7), 0.5), "widths"),
        (lambda: dl.learn(SEMANTIC, hidden=HUGE), "widths"),
        (lambda: dl.learn(SEMANTIC, hidden=(5, 10**20)), "widths"),
        (lambda: dl.gradient_flow(SMALL, [[[0.1]], [[0.1]]], keep=10**10), "network"),
        (lambda: dl.SquaredError.from_moments(square(200_000)), "sigma_yx"),
        (lambda: dl.SquaredError.from_singular_values([1.0], 200_000, 1), "sigma_yx"),
        (lambda: dl.SquaredError.of(square(200_000), [[1.0]]), "X"),
        (lambda: dl.data.Moments.of(square(200_000), [[1.0]]), "X"),
        (lambda: dl.data.Moments.given(square(200_000)), "sigma_yx"),
        (lambda: dl.learn(square(200_000), [[1.0]]), "X"),
        (lambda: dl.diagnostics.ntk(dl.Network([square(200_000)])), "network"),
        (lambda: dl.diagnostics.ntk(dl.init.gaussian(0, (400, 3, 400), 1.0)).full(), "kernel"),
        (lambda: dl.diagnostics.ntk(dl.Network([[[1.0]]])).on(np.broadcast_to(1.0, (10**6, 1))), "X"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(without_annotations, make, argument):
    with pytest.raises(ValueError, match=LINE.format(argument)) as caught:
        make()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_dense_matrices_have_their_limits():
    network = dl.init.gaussian(0, (60, 40, 1), 1.0)
    with pytest.raises(ValueError, match=r"^`network`: has 2,440 weights that learn"):
        dl.curvature.hessian(dl.SquaredError.from_singular_values([1.0], 60, 1), network)


def test_critical_points_of_wide_layers_need_no_memory():
    points = dl.landscape.critical_points(dl.SquaredError.from_data(SEMANTIC), (4, HUGE, 7))
    assert points.count == 16 and points[-1].inertia.negative > 0


@pytest.mark.parametrize("width", ["1000000000", "1" + 20 * "0"])
@pytest.mark.parametrize("command", ["learn", "atlas", "verify"])
def test_the_command_line_refuses_too(tmp_path, monkeypatch, capsys, command, width):
    monkeypatch.chdir(tmp_path)
    assert _exit_code([command, "semantic", "--hidden", width]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("deeplinear: `widths`: a network of widths 4 -> ") and "are free" in printed.err
    assert not list(tmp_path.iterdir())


def test_a_reduction_makes_wide_networks_possible():
    network = dl.init.gaussian(0, (100, 10**5, 1), 1e-4)
    objective = dl.SquaredError.from_singular_values([1.0], 100, 1)
    trajectory = dl.gradient_flow(objective, network, [0.0, 1.0])
    assert trajectory.statistics.widths[1] < 200 and trajectory.ending.kind == "time"


def test_limits_of_the_system_count(monkeypatch, tmp_path):
    assert 0 < _memory.available() <= _memory._of_machine()
    for limit in ("_of_machine", "_of_group", "_of_limit"):
        with monkeypatch.context() as patch:
            patch.setattr(_memory, limit, lambda: 10**8)
            assert _memory.available() == 10**8
            with pytest.raises(ValueError, match=r"^`x`: y takes 81 MB of memory, but 100 MB are free; z$"):
                _memory.check("x", "y", 81 * 10**6, "z")
            _memory.check("x", "y", 79 * 10**6, "z")
    code = "from deeplinear import _memory; print(_memory._of_limit() < 2**31, _memory.available() < 2**31)"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 2000000; exec {sys.executable} -c '{code}'"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(Path(dl.__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout.split() == ["True", "True"]


def test_limits_of_control_groups(monkeypatch, tmp_path):
    """A container's limit, in either layout of the files."""
    files = {
        "/proc/self/cgroup": "0::/a/b\n",
        "/sys/fs/cgroup/a/b/memory.max": "max",
        "/sys/fs/cgroup/a/memory.max": "1000",
        "/sys/fs/cgroup/a/memory.current": "700",
        "/sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 200\n",
        "/sys/fs/cgroup/memory/c/memory.limit_in_bytes": "900",
        "/sys/fs/cgroup/memory/c/memory.usage_in_bytes": "100",
        "/sys/fs/cgroup/memory/c/memory.stat": "inactive_file 50\n",
    }

    def read(path):
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(_memory.Path, "read_text", read)
    assert _memory._of_group() == 1000 - 700 + 200
    files["/proc/self/cgroup"] = "9:cpu:/c\n8:memory:/c\n"
    assert _memory._of_group() == 900 - 100 + 50
