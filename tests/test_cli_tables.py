"""Tables on the command line: names with markup, notes, options of columns, hints."""

import json
import os

import pytest

from deeplinear import records
from deeplinear.cli import _exit_code

QUICK = ["--hidden", "2", "--time", "0.1"]
TABLE = "id,x,z,text,y\n1,5,2,u,0\n2,3,1,v,1\n3,1,NA,w,2\n4,2,2,x,1\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


@pytest.mark.parametrize("name", ["a[/b].csv", "a[bold].csv", "a[red]b[/red].csv", ":smile:.csv", "[link=x]y.csv"])
def test_names_are_printed_as_they_are(here, capsys, name):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    (here / name).write_text("x[/b],y\n1,2\n5,4\n3,[bold]\n")
    assert _exit_code(["learn", name, "--target", "y", *QUICK]) == 2
    assert "[bold]" in capsys.readouterr().err
    (here / name).write_text("x[/b],y\n1,2\n5,4\n3,3\n")
    assert _exit_code(["learn", name, "--target", "y", *QUICK, "--out", "out"]) == 0
    assert f"{name}: 1 → 2 → 1" in capsys.readouterr().out
    assert name.replace("&", "&amp;") in (here / "out/report.html").read_text()
    assert _exit_code(["atlas", name, "--target", "y", "--hidden", "2", "--table"]) == 0
    assert f"{name}: 1 → 2 → 1" in capsys.readouterr().out


def test_control_characters_in_names_of_files_never_reach_the_terminal(here, capsys):
    (here / "a\x1b[31m.csv").write_text("x,y\n1,2\n5,4\n3,3\n")
    assert _exit_code(["atlas", "a\x1b[31m.csv", "--target", "y", "--hidden", "2", "--table"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "a\ufffd[31m.csv: 1 → 2 → 1" in printed
    assert _exit_code(["learn", "b\x1b[31m.csv", "--target", "y"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_was_set_aside_is_a_note_and_stands_in_report_and_record(here, capsys):
    options = ["--target", "y", "--drop", "text", "--missing", "drop", "--classes", "y", *QUICK]
    assert _exit_code(["learn", "t.csv", *options, "--out", "out"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Note: column 'id' counts the rows, 1 to 4: set aside" in printed
    assert "Note: 1 of 4 rows have missing values and were left out" in printed
    assert "2 → 2 → 2" in printed  # x, z; the classes 0 and 1 of the rows that stay
    warnings = records.load("out/record.zarr").attrs["warnings"]
    assert any("counts the rows" in warning for warning in warnings)
    report = (here / "out/report.html").read_text()
    assert "counts the rows" in report and "were left out" in report
    settings = (here / "out/experiment.toml").read_text()
    assert 'missing = "drop"' in settings and 'classes = "y"' in settings and 'drop = "text"' in settings
    assert _exit_code(["learn", "--experiment", "out/experiment.toml", "--quiet"]) == 0


@pytest.mark.parametrize("command", ["learn", "atlas", "verify"])
def test_every_command_knows_the_options_of_columns(command, here, capsys):
    options = ["--target", "y", "--inputs", "x,z", "--missing", "drop", "--hidden", "2", "--json"]
    assert _exit_code([command, "t.csv", *options]) in (0, 1)
    assert json.loads(capsys.readouterr().out)
    assert _exit_code([command, "t.csv", *options[:4], "--hidden", "2"]) == 2
    assert "line 4, column 'z': the value is missing ('NA'); fill it" in capsys.readouterr().err


def test_set_knows_the_options_of_columns(here, capsys):
    settings = ["--set", "target=y", "--set", "inputs=x", "--set", "missing=drop"]
    assert _exit_code(["learn", "t.csv", *settings, *QUICK, "--out", "out"]) == 0
    assert records.load("out/record.zarr").attrs["experiment"]["inputs"] == "x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "digits", "--init", "balanced"], "Unknown option: --init. Did you mean --start?"),
        (["learn", "digits", "--hidden", "32", "32"], "write lists with commas and no blanks, such as --hidden 32,32"),
        (["learn", "semantics"], "did you mean 'semantic'?"),
        (["learn", "t.csv"], "--target y on the command line"),
        (["learn", "t.csv", "--target", "y", "--missing", "drop"], "--drop text on the command line"),
        (["learn", "digits", "--inputs", "a"], "`inputs`: got 'a', but the task 'digits' has its own outputs"),
        (["learn", "/dev/zero"], "a device or pipe, not a file"),
        (["learn", "/dev/zero", "--experiment", "/dev/zero"], "a device or pipe, not a file"),
        (["learn", "caf\udce9.csv"], "`data`: got 'caf\\udce9.csv'"),
    ],
)
def test_hints(arguments, message, capsys):
    assert _exit_code(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
