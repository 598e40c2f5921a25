"""The command line: what it prints, what it writes, what it refuses, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from deeplinear import records
from deeplinear.cli import _exit_code

SEMANTIC = ["learn", "semantic", "--hidden", "16", "--start", "decoupled", "--scale", "1e-3"]
QUICK = ["learn", "semantic", "--hidden", "5", "--scale", "0.1"]

IRIS = """length,width,species
5.1,3.5,setosa
4.9,3.0,setosa
7.0,3.2,versicolor
6.4,3.1,versicolor
6.3,3.3,virginica
5.8,2.7,virginica
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_is_one_object_with_the_promised_fields(capsys):
    assert _exit_code([*SEMANTIC, "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.out.count("\n") == 1 and printed.err == ""
    s = np.array([7**0.5, 3**0.5, 1, 1]) / 4
    assert [mode["mode"] for mode in result["modes"]] == [1, 2, 3, 4]
    np.testing.assert_allclose([mode["singular_value"] for mode in result["modes"]], s, rtol=1e-12)
    exact = np.log(s / 1e-3 - 1) / (2 * s)
    np.testing.assert_allclose([mode["half_time"] for mode in result["modes"]], exact, rtol=1e-3)
    np.testing.assert_allclose([mode["half_time_predicted"] for mode in result["modes"]], exact, rtol=1e-12)
    assert set(result["modes"][0]) == {"mode", "singular_value", "half_time", "half_time_predicted", "strength"}
    known = {"kind", "loss", "excess", "unexplained", "predicted_loss", "time", "message"}
    assert set(result["ending"]) == known and result["ending"]["unexplained"] <= 1e-6
    gap = result["theory"].pop("gap")
    assert result["theory"] == {"name": "decoupled modes", "exact": True, "obstruction": None, "violations": []}
    assert 0 < gap < 1e-6
    assert result["statistics"]["steps"] > 0
    assert records.load(result["record"]).attrs["data"] == "semantic"
    assert os.path.exists(result["report"])


def test_an_exact_theorem_is_named_with_its_distance_from_the_run(capsys):
    assert _exit_code(["learn", "semantic", "--hidden", "5", "--start", "balanced", "--scale", "0.1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Theory: two-layer Riccati" in printed
    gap = re.search(r"Exact: Fukumizu \(1998\).* departs from it by at most (\S+) ", printed)
    assert gap and float(gap[1]) < 1e-5


def test_what_never_happens_is_null_in_json(capsys):
    assert _exit_code(["learn", "semantic", "--hidden", "1", "--scale", "0.1", "--json"]) == 0
    last = json.loads(capsys.readouterr().out)["modes"][-1]
    assert last["half_time"] is None and last["half_time_predicted"] is None


def test_a_table_written_by_hand(here, capsys):
    (here / "iris.csv").write_text(IRIS)
    assert (
        _exit_code(["learn", "iris.csv", "--target", "species", "--hidden", "4", "--scale", "0.1", "--time", "50"]) == 0
    )
    printed = capsys.readouterr().out
    assert "iris.csv: 2 → 4 → 3" in printed and "Report: runs/iris-1/report.html" in printed
    experiment = (here / "runs/iris-1/experiment.toml").read_text()
    assert 'target = "species"' in experiment
    assert _exit_code(["learn", "--experiment", "runs/iris-1/experiment.toml", "--set", "seed=4", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert records.load("runs/iris-2/record.zarr").attrs["seed"] == 4


def test_options_win_over_the_file_and_set_wins_over_options(here, capsys):
    (here / "run.toml").write_text('data = "semantic"\nseed = 1\nhidden = [5]\nscale = 0.1\n')
    assert (
        _exit_code(["learn", "--experiment", "run.toml", "--seed", "2", "--set", "seed=3", "--out", "a", "--quiet"])
        == 0
    )
    assert records.load("a/record.zarr").attrs["seed"] == 3
    assert _exit_code(["learn", "--experiment", "run.toml", "--seed", "2", "--out", "b", "--quiet"]) == 0
    assert records.load("b/record.zarr").attrs["seed"] == 2


def test_an_existing_folder_is_refused_and_nothing_is_lost(here, capsys):
    (here / "mine").mkdir()
    (here / "mine/precious.txt").write_text("mine")
    assert _exit_code([*QUICK, "--out", "mine"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert _exit_code([*QUICK, "--out", "mine", "--overwrite"]) == 2  # not a folder that this command wrote
    assert capsys.readouterr().err.count("\n") == 1
    assert (here / "mine/precious.txt").read_text() == "mine"
    assert _exit_code([*QUICK, "--out", "out", "--quiet"]) == 0
    assert _exit_code([*QUICK, "--seed", "7", "--out", "out", "--quiet"]) == 2
    assert records.load("out/record.zarr").attrs["seed"] == 0
    assert _exit_code([*QUICK, "--seed", "7", "--out", "out", "--overwrite", "--quiet"]) == 0
    assert records.load("out/record.zarr").attrs["seed"] == 7
    assert sorted(path.name for path in here.iterdir()) == ["mine", "out"]


def test_a_full_disk_leaves_nothing_half_written(here, capsys, monkeypatch):
    from deeplinear import plots

    def full(data, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(plots, "report", full)
    assert _exit_code([*QUICK, "--out", "out"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "nothing"], "'nothing'"),
        (["learn", "missing.csv", "--target", "y"], "missing.csv"),
        (["learn", "bad.csv", "--target", "y"], "bad.csv"),
        (["learn", "empty.csv", "--target", "y"], "empty.csv"),
        (["learn", "good.csv"], "target"),
        (["learn", "good.csv", "--target", "z"], "'z'"),
        (["learn", "--hidden", "0"], "`hidden`: got 0"),
        (["learn", "--hidden", "a,b"], "`hidden`"),
        (["learn", "--scale", "0"], "`scale`"),
        (["learn", "--scale", "tiny"], "`scale`: got 'tiny'"),
        (["learn", "--start", "zeros"], "`start`"),
        (["learn", "--loss", "huber"], "`loss`"),
        (["learn", "--rtol", "1e-17"], "`rtol`"),
        (["learn", "--time", "-5"], "`time`"),
        (["learn", "--set", "depth=3"], "`depth`"),
        (["learn", "--set", "seed"], "'seed'"),
        (["learn", "--experiment", "no.toml"], "no.toml"),
        (["learn", "--bogus"], "--bogus"),
        (["teach"], "teach"),
        (["learn", "inf.npz"], "inf.npz"),
        (["learn", "shapes.npz"], "shapes.npz"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(arguments, message, here, capsys):
    (here / "bad.csv").write_text("x,y\n1,2\nthree,4\n")
    (here / "good.csv").write_text("x,y\n1,2\n3,4\n")
    (here / "empty.csv").write_text("")
    np.savez("inf.npz", x=np.array([[np.inf]]), y=np.ones((1, 1)))
    np.savez("shapes.npz", x=np.ones((3, 1)), y=np.ones((2, 1)))
    before = sorted(here.iterdir())
    assert _exit_code(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.startswith("deeplinear: ")
    assert message in printed.err
    assert sorted(here.iterdir()) == before


def run_python(code: str, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["learn", "--help"],
        ["atlas", "--help"],
        ["reproduce", "--help"],
        ["reproduce", "list"],
        ["--version"],
    ],
)
def test_help_comes_without_jax(arguments):
    code = (
        "import sys, deeplinear.cli as cli\n"
        f"code = cli._exit_code({arguments!r})\n"
        "sys.exit(code or ('jax' in sys.modules) * 9 or ('matplotlib' in sys.modules) * 8)"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_ctrl_c_keeps_what_there_is(capsys, monkeypatch):
    from deeplinear.flows.native import NativeRun

    follow = NativeRun.follow

    def interrupted_after_a_while(self, *arguments):
        threading.Timer(3.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        return follow(self, *arguments)

    monkeypatch.setattr(NativeRun, "follow", interrupted_after_a_while)
    endless = ["--rtol", "1e-12", "--max-steps", "100000000", "--tolerance", "1e-13"]
    assert _exit_code(["learn", "digits", "--hidden", "8", *endless, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ending"]["kind"] == "interrupted" and result["ending"]["time"] > 0
    assert records.load(result["record"]).sizes["time"] > 1
