"""The benchmark suite runs, its right-hand side is right, and its references are solutions."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl

ROOT = Path(__file__).parents[1]
STORED = ("P1", "P1s", "P1x", "P1xx", "P2", "P3", "P3r", "P4", "P5", "P6", "P7")


@pytest.fixture
def suite(monkeypatch):
    """`suite("field")` imports benchmarks.field."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda module: importlib.import_module(f"benchmarks.{module}")


@pytest.fixture
def lopsided(suite):
    """A problem with unequal widths, its field, and a point with every layer of size one."""
    problems = suite("problems")
    rng = np.random.default_rng(5)
    widths = (7, 5, 3, 4, 2)
    sigma = problems.random_target(rng, 2, 7, np.array([2.0, 1.0]))
    problem = problems.Problem("lopsided", sigma, (problems.gaussian_start(rng, widths, 1.0),), 1.0)
    field = suite("field").Field(problem)
    return problem, field, field.flat(problem.starts[0])


def run_flow(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "benchmarks.flow", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_quick_race_reaches_its_target_and_writes_its_numbers(tmp_path):
    file = tmp_path / "times.json"
    done = run_flow("--quick", "--problem", "P2", "--contender", "scipy-lsoda,scipy-dop853", "--json", str(file))
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    rows = {row["contender"]: row for row in results["problems"]["P2"]["rows"]}
    assert set(rows) == {"deeplinear", "scipy-lsoda", "scipy-dop853"}
    assert all(0 < row["error"] <= 1e-4 and row["cpu_ms"] > 0 for row in rows.values())
    assert rows["deeplinear"]["ratio"] == 1
    assert rows["scipy-lsoda"]["ratio"] == pytest.approx(rows["scipy-lsoda"]["cpu_ms"] / rows["deeplinear"]["cpu_ms"])
    assert {"deeplinear", "numpy", "jax", "scipy"} <= set(results["versions"]) and results["machine"]["cpu"]
    assert "scipy-lsoda" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(("--problem", "P9"), "`problem`: got 'P9'"), (("--contender", "euler"), "`contender`: got 'euler'")],
)
def test_unknown_names_are_refused_in_one_line(arguments, names):
    done = run_flow(*arguments)
    assert done.returncode == 2
    assert names in done.stderr.splitlines()[-1]


def test_field_is_minus_the_gradient_of_the_loss(lopsided):
    problem, field, y = lopsided
    objective = dl.SquaredError.from_moments(problem.sigma)
    gradient = jax.grad(lambda network: objective(network.end_to_end))(dl.Network(problem.starts[0]))
    np.testing.assert_allclose(field(0.0, y), -field.flat([np.asarray(W) for W in gradient.weights]), atol=1e-12)


def test_jacobian_and_its_products_are_minus_the_hessian(lopsided):
    problem, field, y = lopsided
    sigma = jnp.asarray(problem.sigma)

    def loss(flat):
        W = jnp.eye(problem.widths[0])
        for layer in field.layers(flat):
            W = layer @ W
        return jnp.sum((W - sigma) ** 2) / 2

    hessian = np.asarray(jax.hessian(loss)(jnp.asarray(y)))
    np.testing.assert_allclose(field.jacobian(0.0, y), -hessian, atol=1e-11)
    v = np.random.default_rng(0).standard_normal(problem.size)
    field.update(y)
    np.testing.assert_allclose(field.jacobian_product(v), -hessian @ v, atol=1e-10)


@pytest.mark.parametrize("name", STORED)
def test_stored_references_fit_their_problems(suite, name):
    references, problem = suite("references"), suite("problems").build(name)
    reference = references.load(name)
    members = min(len(problem.starts), references.MEMBERS_STORED)
    assert reference.norms.shape == reference.values.shape[:2] == (members, problem.outputs)
    assert (references.FOLDER / f"{name}.npz").stat().st_size < 500_000


def test_projections_measure_the_error_that_matrices_have(suite):
    references, rng = suite("references"), np.random.default_rng(3)
    W = rng.standard_normal((1, 6, 30, 40))
    D = rng.standard_normal(W.shape)
    reference = references.reference_of(W)
    assert reference.projected
    exact = (np.linalg.norm(1e-6 * D, axis=(-2, -1)) / np.linalg.norm(W, axis=(-2, -1))).max()
    assert reference.error(W + 1e-6 * D) == pytest.approx(exact, rel=0.3)
    assert reference.error(W) == 0
    assert reference.error(W * np.nan) == np.inf


def test_reduction_of_the_wide_problem_is_exact(suite):
    problems = suite("problems")
    problem = problems._gaussian("wide", (40, 6, 5, 3), np.array([2.0, 1.0]), 0.3, 1.0)
    small, basis = problems.reduced(problem, "small"), problems.seen_inputs(problem)
    assert small.widths == (8, 6, 5, 3)
    field, small_field = suite("field").Field(problem), suite("field").Field(small)
    whole = field.layers(field(0.0, field.flat(problem.starts[0])))
    part = small_field.layers(small_field(0.0, small_field.flat(small.starts[0])))
    np.testing.assert_allclose(whole[0], part[0] @ basis.T, atol=1e-14)
    np.testing.assert_allclose(whole[2], part[2], atol=1e-14)


def test_completion_reaches_its_goal_by_both(suite, monkeypatch):
    completion = suite("completion")
    for name, value in {"SIZE": 20, "RANK": 1, "SEEN": 200, "DEPTH": 2, "GOAL": 1e-4}.items():
        monkeypatch.setattr(completion, name, value)
    problem = completion.build(0.005)
    assert np.mean(problem.target**2) == pytest.approx(1)
    flow = completion.ours(problem)
    assert flow.training_error <= 1e-4 and flow.test_error < 1e-2 and flow.evaluations > 0
    pytest.importorskip("torch")
    loop = completion.by_torch(problem, 0.5, 0.0, 20.0)
    assert (
        loop.training_error <= 1e-4 and loop.test_error < 1e-2
    )  # it looks every 50 steps, so it may go on for a while
    assert not completion.by_torch(problem, 1e3, 0.0, 20.0).training_error <= 1e-4


def test_the_descents_take_the_same_steps_and_are_timed(suite, monkeypatch):
    descent, problem = suite("descent"), suite("problems").build("P2")
    monkeypatch.setattr(descent, "SECONDS", 1e-3)
    rows = {row["contender"]: row for row in descent.measured(problem, 1)}
    assert {"deeplinear", "jax-optax", "numpy"} <= set(rows) and rows["deeplinear"]["ratio"] == 1
    assert all(row["microseconds"] > 0 and row["difference"] < 1e-12 for row in rows.values())
    run = lambda count: problem.sigma + 1e-6 * count
    monkeypatch.setattr(descent, "CONTENDERS", descent.CONTENDERS | {"wrong": lambda problem: run})
    with pytest.raises(ArithmeticError, match="wrong took other steps"):
        descent.measured(problem, 1)
