"""Starts and data at the ends of what float64 can hold: a run without a warning, or one line."""

import warnings

import numpy as np
import pytest
import synthetic

import deeplinear as dl
from deeplinear import plots, records
from deeplinear._dataset import Dataset
from deeplinear.cli import _exit_code

rng = np.random.default_rng(0)
X = rng.standard_normal((20, 3))
Y = X @ rng.standard_normal((3, 2))
SCALE = r"^`scale`: got {}; the square of the gradient at this start is beyond float64; take a smaller one$"


@pytest.mark.parametrize("start", ["balanced", "gaussian", "orthogonal", "decoupled"])
@pytest.mark.parametrize("scale", [1e100, 1e200, 1e300])
def test_starts_beyond_float64_are_refused(start, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if start == "decoupled" and scale == 1e100:
            scale = 1e101  # of two layers of 1e50: the gradient's square is just about 1e300
        with pytest.raises(ValueError, match=SCALE.format(r"1e\+\d+")):
            dl.learn(X, Y, hidden=4, init=start, scale=scale)


@pytest.mark.parametrize(
    ("x", "y", "name"), [(1e-150, 1.0, "X"), (1e-80, 1.0, "X"), (1e80, 1.0, "X"), (1.0, 1e-200, "Y"), (1.0, 1e80, "Y")]
)
def test_data_beyond_float64_are_refused(x, y, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = rf"^`{name}`: .* squares of such numbers leave the range of float64; "
        with pytest.raises(ValueError, match=line) as caught:
            dl.learn(X * x, Y * y, hidden=4, scale=0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "y", "start", "scale"),
    [
        (1e-60, 1.0, "gaussian", 0.1),
        (1e70, 1.0, "gaussian", 1e-3),
        (1.0, 1e-70, "balanced", 0.1),
        (1.0, 1e70, "orthogonal", 0.1),
        (1.0, 1.0, "gaussian", 1e45),
        (1.0, 1.0, "balanced", 1e-300),
        (1.0, 1.0, "gaussian", 1e-300),
    ],
)
def test_what_float64_can_hold_runs_without_a_warning(x, y, start, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = dl.learn(X * x, Y * y, hidden=4, init=start, scale=scale, max_steps=50)
    assert np.isfinite(data["loss"]).all()


@pytest.mark.parametrize("command", ["learn", "atlas", "verify"])
def test_the_command_line_says_one_line(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert _exit_code([command, "semantic", "--hidden", "5", "--scale", "1e200"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("deeplinear: `scale`: got 1e+200; ")
    assert printed.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_text_that_is_no_text_spoils_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for title in ("a\udcffb", "\ud800", "a\0b", "$\\frac{", "<b>"):
        data = synthetic.run().assign_attrs(title=title, data=title)
        page = plots.report(data, "report.html").read_bytes().decode("utf-8")
        assert "\udcff" not in page
        assert records.load(records.save(data, "run.zarr", overwrite=True)).attrs["title"] == title
    noted = Dataset({"x": ("n", [1.0])}, attrs={"title": "a\udcffb"})
    noted.to_netcdf("x.nc")
    assert _exit_code(["learn", "a\udcff.csv"]) == 2
    printed = capsys.readouterr().err
    assert printed.isascii() and printed.count("\n") == 1
