"""Published results: every check, on settings that are quick; the figures; the command line."""

import dataclasses
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from deeplinear import records, reproduce
from deeplinear.cli import _exit_code
from deeplinear.reproduce.checks import at_least, at_most, golden
from deeplinear.reproduce.results import hierarchy_representations as hierarchy

DATA = {}
LONG = {  # that take more than some seconds with an empty cache of programs; `make test-slow` runs them
    "continual_learning",
    "delta_balanced",
    "depth_delay",
    "edge_of_stability",
    "exact_trajectories",
    "generalisation_dynamics",
    "greedy_low_rank",
    "hessian_ranks",
    "illusory_correlations",
    "implicit_acceleration",
    "matrix_completion",
    "reversal_learning",
    "sequential_learning",
    "two_hidden_nodes",
    "weight_decay_bifurcation",
}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in reproduce.names()]


def quick(name):
    """The dataset of a result, made once."""
    if name not in DATA:
        result = reproduce.load(name)
        DATA[name] = result.run(result.QUICK)
    return DATA[name]


@pytest.mark.parametrize("name", EVERY)
def test_every_check_holds(name):
    checks = reproduce.load(name).check(quick(name))
    print(f"\n{name}")
    for check in checks:
        print(f"  {check.name}: {check.value:.3g} {check.sense} {check.bound:g}")
    assert len(checks) >= 3 and not [check for check in checks if not check.holds]


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_draws_what_the_dataset_holds(name, tmp_path):
    figure = reproduce.load(name).figure(quick(name))
    assert isinstance(figure, Figure)
    for ax in (ax for ax in figure.axes if ax.get_label() != "<colorbar>"):
        assert ax.lines or ax.images, "an empty panel"
        for line in ax.lines:
            assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)).any() or not len(line.get_ydata())
    figure.savefig(tmp_path / "figure.png", dpi=40)
    texts = [text.get_fontsize() for ax in figure.axes for text in (ax.xaxis.label, ax.yaxis.label) if text.get_text()]
    assert min(texts) >= 8


@pytest.mark.parametrize("name", EVERY)
def test_every_dataset_can_be_stored_and_drawn_again(name, tmp_path):
    again = records.load(records.save(quick(name), tmp_path / "data.zarr"))
    assert set(again.variables) == set(quick(name).variables)
    first, second = (reproduce.load(name).check(data) for data in (quick(name), again))
    assert first == second


@pytest.mark.parametrize("name", reproduce.names())
def test_settings_are_frozen_and_results_documented(name):
    result = reproduce.load(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.SETTINGS.seed = 5
    assert result.GOLDEN and "Source:" in result.__doc__ and reproduce.title(name) == result.__doc__.splitlines()[0]


@pytest.mark.parametrize("name", ["lambda_balanced_dynamics", "single_neuron", "hierarchy_representations"])
def test_a_spoiled_simulation_fails_its_checks(name):
    data = quick(name).copy(deep=True)
    data["gap"] = data["gap"] + 1e-6
    assert any(not check.holds for check in reproduce.load(name).check(data))


def test_a_spoiled_theory_misses_the_stored_numbers():
    result, data = reproduce.load("lambda_balanced_dynamics"), quick("lambda_balanced_dynamics").copy(deep=True)
    data["loss"] = data["loss"] * (1 + 1e-5)
    failed = [check.name for check in result.check(data) if not check.holds]
    assert failed and all(name.startswith("golden") for name in failed)


def test_checks_by_hand():
    assert at_most("x", 1.0, 1.0).holds and not at_most("x", np.inf, 1.0).holds
    assert at_least("x", 1.0, 1.0).holds and not at_least("x", np.nan, 1.0).holds
    near, far = golden({"a": 1.0 + 1e-9, "b": 2.1}, {"a": 1.0, "b": 2.0})
    assert near.holds and not far.holds and far.value == pytest.approx(0.05)


def test_the_hierarchy_is_the_published_one():
    s = np.linalg.svd(hierarchy.hierarchy(), compute_uv=False)
    np.testing.assert_allclose(s, [8**0.5] * 2 + [2.0] * 2 + [2**0.5] * 4, rtol=1e-14)


def test_specificity_at_its_ends():
    task = np.diag([3.0, 2.0, 1.0])
    assert hierarchy.specificity(5 * np.eye(3), task) == pytest.approx(0, abs=1e-15)
    assert hierarchy.specificity(7 * task, task) == pytest.approx(1, rel=1e-14)


def test_unknown_results_are_refused(capsys):
    with pytest.raises(ValueError, match="there is no result 'nothing'; give one of"):
        reproduce.load("nothing")
    assert _exit_code(["reproduce", "nothing"]) == 2
    assert "there is no result" in capsys.readouterr().err


def test_the_list(capsys):
    assert _exit_code(["reproduce", "list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == reproduce.names()
    assert _exit_code(["reproduce", "list"]) == 0
    assert all(name in (out := capsys.readouterr().out) or name in out for name in reproduce.names()[:1])


def test_a_run_writes_figures_data_and_checks(tmp_path, capsys):
    folder = tmp_path / "neuron"
    assert _exit_code(["reproduce", "single_neuron", "--out", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["holds"] and printed["results"][0]["name"] == "single_neuron"
    assert {path.name for path in folder.iterdir()} == {"figure.png", "figure.svg", "data.zarr", "checks.json"}
    first = (folder / "figure.svg").read_bytes()
    assert records.load(folder / "data.zarr").sizes["delta"] == 7
    assert _exit_code(["reproduce", "single_neuron", "--out", str(folder)]) == 0  # again, over the first
    assert (folder / "figure.svg").read_bytes() == first
    out = capsys.readouterr().out
    assert "kernel movement in the limit" in out and "yes" in out and "NO" not in out


def test_a_failed_check_is_exit_code_1(monkeypatch, capsys):
    result = reproduce.load("single_neuron")
    monkeypatch.setitem(result.GOLDEN, next(iter(result.GOLDEN)), 0.5)
    assert _exit_code(["reproduce", "check", "single_neuron", "--quick"]) == 1
    printed = capsys.readouterr()
    assert "NO" in printed.out and "1 checks do not hold: single_neuron: golden" in " ".join(printed.err.split())


@pytest.mark.slow
def test_all_published_settings(tmp_path):
    assert _exit_code(["reproduce", "all", "--out", str(tmp_path)]) == 0
