"""The executable survey as a whole: its entries, its dataset, its command, its page."""

import importlib.util
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from theory_problems import network

import deeplinear as dl
from deeplinear import SquaredError, theory
from deeplinear.cli import _exit_code
from deeplinear.theory.statement import Finding, does_not_apply

OBJECTIVE = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
PAGE = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("each", theory.statements(), ids=lambda each: each.key)
def test_every_entry_says_what_it_is(each):
    for text in (each.name, each.source, each.words, each.latex, each.assumptions):
        assert text and text == text.strip()
    assert each.latex.count("{") == each.latex.count("}")
    assert inspect.getdoc(each.measure)
    assert each.as_printed is None or each.erratum


def test_entries_come_in_the_order_of_their_numbers():
    keys = [each.key for each in theory.statements()]
    assert len(set(keys)) == len(keys)
    numbers = [int(key) for key in keys if key.isdecimal()]
    assert numbers == sorted(numbers) and {*range(3, 26)} <= {*numbers}


def test_the_dataset_holds_what_was_found():
    found = theory.verify(OBJECTIVE, network((3, 4, 2), 0), only="13, 6,15")
    assert found["statement"].values.tolist() == ["13", "6", "15"]
    assert found["holds"].values.tolist() == [True, True, True]
    assert np.all(found["residual"].values <= found["tolerance"].values)
    assert found.attrs["widths"] == [3, 4, 2]
    repeated = SquaredError.from_singular_values([2.0, 2.0], 3, 2)
    found = theory.verify(repeated, network((3, 4, 2), 0), only=["15"])
    assert not found["applies"].values[0] and not found["holds"].values[0]
    assert np.isnan(found["residual"].values[0])
    assert found["note"].values[0] == "assumption 2: singular values are distinct (off by 1)"


def test_the_seed_chooses_directions():
    residuals = [
        theory.verify(OBJECTIVE, network((3, 4, 2), 0), only="4,19", seed=seed)["residual"].values for seed in (0, 0, 1)
    ]
    assert np.array_equal(residuals[0], residuals[1]) and not np.array_equal(residuals[0], residuals[2])


def test_a_finding_without_a_number_does_not_hold():
    assert Finding(float("nan"), 1.0).holds is False
    assert Finding(float("inf"), 1.0).holds is False
    assert does_not_apply("no").holds is None


@pytest.mark.parametrize(
    ("objective", "shape", "only", "message"),
    [
        (lambda W: 0.0, (3, 4, 2), None, "`objective`: is a function; .* give a SquaredError"),
        (OBJECTIVE, (2, 4, 2), None, r"`network`: maps 2 inputs to 2 outputs, but the objective has 3 and 2"),
        (OBJECTIVE, (3, 4, 2), "6,99", "`only`: there is no statement '99'; give some of 3, 4, 5"),
        (OBJECTIVE, (3, 4, 2), "", "`only`: there is no statement ''"),
    ],
)
def test_bad_questions_are_answered_by_one_line(objective, shape, only, message):
    with pytest.raises(ValueError, match=message) as raised:
        theory.verify(objective, network(shape, 0), only=only)
    assert "\n" not in str(raised.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


QUICK = ("verify", "semantic", "--hidden", "3", "--scale", "0.1")


def test_the_command_prints_json(here, capsys):
    assert _exit_code([*QUICK, "--only", "6,13,15", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["name"] for row in rows] == ["Proposition 6", "Proposition 13", "Proposition 15"]
    assert all(set(row) == {"name", "source", "applies", "holds", "residual", "tolerance", "note"} for row in rows)
    assert [row["holds"] for row in rows] == [True, True, None]
    assert rows[2]["residual"] is None and not rows[2]["applies"]
    assert "drift along the trajectory" in rows[0]["note"]
    assert not list(here.iterdir()), "nothing is written"


def test_the_command_prints_a_table(here, capsys):
    assert _exit_code([*QUICK, "--only", "12,15"]) == 0
    out = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    named = [line[:3] for line in lines if line[0]]  # a long note goes on below
    assert named == [["12", "Proposition 12", "yes"], ["15", "Proposition 15", "-"]]
    assert "2 statements: 1 apply here, 1 hold" in out


def test_exit_codes(here, capsys, monkeypatch):
    assert _exit_code([*QUICK, "--only", "99"]) == 2
    answer = capsys.readouterr()
    assert answer.out == "" and answer.err.count("\n") == 1 and "`only`: there is no statement '99'" in answer.err
    entries = {each.key: each for each in theory.statements()}
    object.__setattr__(broken := entries["13"], "measure", keep := broken.measure)
    try:
        object.__setattr__(broken, "measure", lambda question: Finding(1.0, 1e-12))
        assert _exit_code([*QUICK, "--only", "6,13"]) == 1
    finally:
        object.__setattr__(broken, "measure", keep)
    answer = capsys.readouterr()
    assert "1 statements do not hold: Proposition 13" in answer.err and "NO" in answer.out


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_survey", PAGE / "make_survey.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (PAGE / "survey.md").read_text(encoding="utf-8")
    assert page == module.text(), "run `python docs/make_survey.py`"
    for each in theory.statements():
        assert f"## {each.name} (`--only {each.key}`)" in page
        assert each.latex in page
        assert not each.erratum or each.erratum in page


def test_theory_is_a_room_of_the_library():
    assert dl.theory.verify is theory.verify
