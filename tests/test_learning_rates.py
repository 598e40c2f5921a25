"""The main job with layers that learn at different rates: simulation beside theory, what is conserved, the settings."""

import json

import numpy as np
import pytest

import deeplinear as dl
from deeplinear import learning, tasks
from deeplinear.cli import _exit_code
from deeplinear.experiment import Experiment

RATES = (1.0, 0.25, 4.0)


def run(start, scale, **settings):
    experiment = Experiment(
        data="semantic", hidden=(8, 8), start=start, scale=scale, rates=RATES, rtol=1e-9, **settings
    )
    return learning.run(experiment, tasks.of(experiment))


def test_aligned_layers_go_as_theory_says():
    data = run("decoupled", 1e-2)
    assert data.attrs["theory"]["name"] == "decoupled modes" and data.attrs["theory"]["gap"] < 1e-7
    assert data.attrs["theory"]["formula"].endswith("of V_l = W_l / sqrt(rate of layer l)")
    assert data.attrs["experiment"]["rates"] == list(RATES) and data.attrs["title"].endswith("rates 1, 0.25, 4")
    assert "--rates 1.0,0.25,4.0" in data.attrs["command"]
    np.testing.assert_allclose(data["half_time"], data["half_time_predicted"], rtol=1e-4)
    np.testing.assert_allclose(data["mode_strengths"], data["theory_mode_strengths"], atol=1e-7)
    np.testing.assert_allclose(data["theory_loss"], data["loss"], atol=1e-7)
    # not those of rate 1
    usual = dl.learn(dl.tasks.semantic(), hidden=(8, 8), init="decoupled", scale=1e-2)
    assert (np.abs(usual["half_time_predicted"] / data["half_time_predicted"] - 1) > 0.01).any()


def test_what_is_conserved_is_measured():
    data = run("gaussian", 0.2)
    assert float(data["imbalance_drift"].max()) < 1e-7
    assert data.attrs["theory"]["name"] is None
    assert any("V_l = W_l" in check["assumption"] for check in data.attrs["theory"]["violations"])


def test_one_rate_for_all_is_a_faster_clock():
    task, settings = dl.tasks.semantic(), {"hidden": (8,), "scale": 1e-2, "rtol": 1e-9}
    fast, usual = (dl.learn(task, **settings, **rates) for rates in ({"rates": 2.0}, {}))
    np.testing.assert_allclose(2 * fast["half_time_predicted"], usual["half_time_predicted"], rtol=1e-9)
    there = np.isfinite(usual["half_time"].values)
    np.testing.assert_allclose(2 * fast["half_time"][there], usual["half_time"][there], rtol=1e-4)


def test_biases_and_skips_come_with_rates_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 3))
    Y = X @ rng.standard_normal((3, 2)) + 1.0
    data = dl.learn(X, Y, hidden=(5, 5, 5), bias=True, skip="1:3", rates=[1.0, 0.5, 2.0, 1.0], scale=0.2, rtol=1e-6)
    assert data.attrs["theory"]["name"] is None and "imbalance_drift" not in data
    assert float(data["loss"][-1]) < 1e-4 * float(data["loss"][0])


@pytest.mark.parametrize("rates", ["1,0.1", "1,1,1,1"])
def test_the_command_line_refuses_as_many(tmp_path, rates, capsys):
    words = ["--hidden", "8,8", "--rates", rates, "--out", str(tmp_path / "run")]
    assert _exit_code(["learn", "semantic", *words]) == 2 and not (tmp_path / "run").exists()
    assert f"`rates`: got {rates.count(',') + 1} numbers for 3 layers" in capsys.readouterr().err


def test_the_command_line_takes_them(tmp_path, capsys):
    words = ["--hidden", "8", "--start", "decoupled", "--rates", "1,0.25", "--json", "--out", str(tmp_path / "run")]
    assert _exit_code(["learn", "semantic", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["theory"]["name"] == "decoupled modes" and found["theory"]["gap"] < 1e-4
