"""Arguments that are whole numbers: nothing is rounded, True is no number, and 20 digits get one line as well."""

import numpy as np
import pytest

import deeplinear as dl
from deeplinear import blockshift, init, landscape, tasks
from deeplinear._checks import check_whole
from deeplinear.cli import _exit_code
from deeplinear.experiment import Experiment

OBJECTIVE = dl.SquaredError.from_singular_values([2.0, 1.0], d_x=3, d_y=2)
NETWORK = init.gaussian(0, (3, 4, 2), 0.1)

CALLS = {
    "init.gaussian key": ("key", lambda n: init.gaussian(n, (3, 4, 2), 1.0)),
    "init.gaussian width": ("widths", lambda n: init.gaussian(0, (3, n, 2), 1.0)),
    "init.xavier width": ("widths", lambda n: init.xavier(0, (3, n, 2))),
    "gradient_flow max_steps": ("max_steps", lambda n: dl.gradient_flow(OBJECTIVE, NETWORK, max_steps=n)),
    "gradient_flow keep": ("keep", lambda n: dl.gradient_flow(OBJECTIVE, NETWORK, keep=n)),
    "gradient_flow threads": ("threads", lambda n: dl.gradient_flow(OBJECTIVE, NETWORK, threads=n)),
    "gradient_descent steps": ("steps", lambda n: dl.gradient_descent(OBJECTIVE, NETWORK, 0.1, steps=n)),
    "gradient_descent save_every": (
        "save_every",
        lambda n: dl.gradient_descent(OBJECTIVE, NETWORK, 0.1, steps=9, save_every=n),
    ),
    "critical_points widths": ("widths", lambda n: landscape.critical_points(OBJECTIVE, (3, n, 2))),
    "critical_points max_rank": ("max_rank", lambda n: landscape.critical_points(OBJECTIVE, (3, 4, 2), max_rank=n)),
    "minimum_at_rank": ("max_rank", lambda n: OBJECTIVE.minimum_at_rank(n)),
    "rho": ("k", lambda n: blockshift.rho(blockshift.adjacency(NETWORK), blockshift.adjacency(NETWORK), n)),
    "power": ("k", lambda n: blockshift.adjacency(NETWORK) ** n),
    "verify seed": ("seed", lambda n: dl.theory.verify(OBJECTIVE, NETWORK, only="6", seed=n)),
    "hierarchy": ("levels", lambda n: tasks.hierarchy(levels=n)),
    "teacher_student": ("samples", lambda n: tasks.teacher_student((3, 2), (1.0,), samples=n)),
    "learn seed": ("seed", lambda n: dl.learn(tasks.semantic(), hidden=2, seed=n)),
    "learn hidden": ("hidden", lambda n: dl.learn(tasks.semantic(), hidden=n)),
    "learn hidden of many": ("hidden", lambda n: dl.learn(tasks.semantic(), hidden=(3, n))),
    "learn max_steps": ("max_steps", lambda n: dl.learn(tasks.semantic(), hidden=2, max_steps=n)),
    "learn skip": ("skip", lambda n: dl.learn(tasks.semantic(), hidden=2, skip=[(0, n)])),
}


@pytest.mark.usefixtures("without_annotations")
@pytest.mark.parametrize("value", [1.5, 2.7, float("nan"), -1], ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_whole_number_is_refused_in_one_line(call, value):
    name, function = CALLS[call]
    with pytest.raises(ValueError, match=rf"^`{name}`: ") as caught:
        function(value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("without_annotations")
@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"power"}))
def test_true_is_no_number(call):
    name, function = CALLS[call]
    with pytest.raises(ValueError, match=rf"^`{name}`: "):
        function(True)


@pytest.mark.usefixtures("without_annotations")
@pytest.mark.parametrize("call", ["init.gaussian key", "gradient_flow max_steps"])
@pytest.mark.parametrize("digits", [20, 5000])
def test_numbers_of_many_digits_are_refused_in_one_line(call, digits):
    name, function = CALLS[call]
    with pytest.raises(ValueError, match=rf"^`{name}`: got .*; ") as caught:
        function(10**digits)
    assert len(str(caught.value)) < 200


def test_integers_of_numpy_are_whole_numbers():
    for value in (np.int8(3), np.uint64(3), np.array(3), 3):
        number = check_whole("n", value, 1, 3)
        assert number == 3 and type(number) is int
    for value in (np.float64(3), np.bool_(True), np.array([3]), "3", None, 3.0, 0, 4, 10**5000):
        with pytest.raises(ValueError, match=r"^`n`: got .*; give a whole number from 1 to 3$"):
            check_whole("n", value, 1, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seed", "1.5"],
        ["--seed", "1e3"],
        ["--seed", "true"],
        ["--seed", "99999999999999999999"],
        ["--seed", "9" * 5000],
        ["--max-steps", "2.7"],
        ["--max-steps", "1e3"],
        ["--hidden", "(4,"],
        ["--hidden", "4)"],
        ["--hidden", "[4"],
        ["--hidden", "[4)"],
        ["--hidden", "4,,4"],
        ["--hidden", ",4"],
        ["--hidden", "4.0"],
        ["--hidden", "+4"],
        ["--hidden", "-4"],
        ["--hidden", "٣"],
        ["--hidden", "1_0"],
        ["--hidden", "9" * 5000],
        ["--hidden", "[" * 5000],
        ["--set", "hidden=[1,"],
        ["--set", "hidden=[1.5]"],
        ["--set", "hidden=[true]"],
        ["--set", "hidden={a=1}"],
        ["--set", "seed=" + "9" * 5000],
        ["--set", "seed=" + "[" * 5000],
        ["--skip", "1:3,"],
        ["--skip", "1:٣"],
        ["--skip", "1:3:5"],
        ["--skip", "-1:3"],
        ["--skip", "1.5:3"],
        ["--skip", "3:1"],
        ["--skip", "0:0"],
        ["--skip", "1:" + "9" * 5000],
        ["--scale", "nan"],
        ["--scale", "-0.0"],
        ["--scale", "inf"],
        ["--scale", "true"],
        ["--time", "-0.0"],
        ["--time", "1" + "0" * 400],
        ["--rtol", "nan"],
        ["--missing", "ignore"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_settings_of_the_command_line_are_strict(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert _exit_code(["learn", "semantic", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and len(printed.err) < 300
    name = arguments[1].partition("=")[0] if arguments[0] == "--set" else arguments[0].lstrip("-").replace("-", "_")
    assert f"`{name}`" in printed.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["atlas", "--rows", "2.7"],
        ["atlas", "--max-rank", "1.5"],
        ["atlas", "--rows", "0x10"],
        ["verify", "--seed", "1.5"],
    ],
)
def test_other_commands_round_nothing(arguments, capsys):
    assert _exit_code([arguments[0], "semantic", *arguments[1:]]) == 2
    printed = capsys.readouterr().err
    assert arguments[2] in printed and printed.count("\n") == 1


def test_settings_in_python_are_strict():
    for settings in (
        {"hidden": [1.5]},
        {"hidden": 4.0},
        {"hidden": [np.float64(4)]},
        {"hidden": np.array([1.5])},
        {"seed": 10**5000},
        {"scale": True},
        {"scale": 10**400},
        {"time": -0.0},
    ):
        with pytest.raises(ValueError, match=rf"^`{next(iter(settings))}`: got "):
            Experiment(**settings)
    assert (
        Experiment(seed=np.int64(4), hidden=np.array([3, 4])).command()
        == "deeplinear learn digits --hidden 3,4 --seed 4"
    )


def test_a_width_of_a_million_digits_is_refused():
    with pytest.raises(ValueError, match=r"^`hidden`: got '9+\.\.\.; every width") as caught:
        Experiment(hidden="9" * 10**6)
    assert len(str(caught.value)) < 200
