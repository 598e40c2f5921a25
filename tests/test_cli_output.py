"""Folders of results are claimed and tried before anything runs, and keep foreign files; signals and streams."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import xarray as xr

from deeplinear import _files, records
from deeplinear.cli import _exit_code, learning

ROOT = str(Path(records.__file__).parents[1])
RUN = ["learn", "semantic", "--hidden", "5", "--scale", "0.1", "--quiet"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(value=1.0):
    return xr.Dataset({"loss": ("time", [value, 0.1])}, {"time": [0.0, 1.0]}, {"title": "a run"})


@pytest.fixture
def quick(monkeypatch):
    """Runs that take no time and need no JAX."""
    monkeypatch.setattr(learning, "simulated", lambda *_, **__: finished())


def never(*_, **__):
    raise AssertionError("it ran")


def tree(folder):
    return sorted((str(entry.relative_to(folder)), entry.lstat().st_size) for entry in folder.rglob("*"))


CLAIM = """
import sys, time
from itertools import count
from pathlib import Path
from deeplinear import _files
with _files.claimed((Path("runs", f"a-{n}") for n in count(1)), False, _files.only_empty) as folder:
    print(folder.name, flush=True)
    sys.stdin.readline()
    with _files.atomic_folder(folder, True) as partial:
        (partial / "x").write_text(folder.name)
"""


def run_python(code, *arguments, **options):
    environment = {**os.environ, "PYTHONPATH": ROOT} | options.pop("env", {})
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True, **options)


def test_parallel_runs_never_claim_the_same_folder(here):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [run_python(CLAIM, **pipes) for _ in range(6)]
    names = [child.stdout.readline().strip() for child in children]
    assert sorted(names) == [f"a-{n}" for n in range(1, 7)]
    children[2].kill()
    for child in children:
        child.communicate("go\n" if child is not children[2] else None)
    left = {folder.name: sorted(os.listdir(folder)) for folder in (here / "runs").iterdir()}
    assert left == {name: [] if name == names[2] else ["x"] for name in names}, (
        "of a killed one an empty folder is left"
    )


def test_folders_are_numbered_and_what_fails_leaves_none(here, quick, monkeypatch, capsys):
    assert [_exit_code(RUN) for _ in range(2)] == [0, 0]
    assert sorted(os.listdir("runs")) == ["semantic-1", "semantic-2"]
    (here / "runs" / "semantic-3").mkdir()  # claimed by another process
    assert _exit_code(RUN) == 0 and sorted(os.listdir("runs"))[-1] == "semantic-4"
    before = tree(here)
    for stop in (ValueError("bad"), OSError("full"), RuntimeError("boom"), KeyboardInterrupt()):

        def fails(*_, stop=stop, **__):
            assert Path("runs/semantic-5").is_dir() or Path("deep/er/out").is_dir(), "claimed before anything runs"
            raise stop

        monkeypatch.setattr(learning, "simulated", fails)
        for arguments in ([], ["--out", "deep/er/out"]):
            with suppress(RuntimeError, KeyboardInterrupt):
                assert _exit_code([*RUN, *arguments]) in (1, 2)
        assert tree(here) == before


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "exists; choose another folder or say --overwrite"),
        ("file/out", "cannot be written (Not a directory); choose another path"),
        ("dangling", "exists; choose another folder or say --overwrite"),
        ("dangling/out", "cannot be written"),
        ("x" * 300, "cannot be written (File name too long); choose another path"),
        ("/".join(["y" * 200] * 20), "cannot be written (File name too long); choose another path"),
        ("/proc/out", "cannot be written"),
        ("a\udcffb", r"got 'a\udcffb'; give a name in plain text"),
        ("a\0b", r"got 'a\x00b'; give a name in plain text"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(here, monkeypatch, capsys, out, message, overwrite):
    monkeypatch.setattr(learning, "simulated", never)
    (here / "file").write_text("mine")
    (here / "dangling").symlink_to(here / "nowhere")
    before = tree(here)
    assert _exit_code([*RUN, "--out", out, *(["--overwrite"] if overwrite else [])]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("deeplinear: `--out`: ") and printed.err.count("\n") == 1 and printed.out == ""
    assert message in printed.err or (overwrite and "so it is not replaced" in printed.err)
    assert tree(here) == before


def test_a_name_as_long_as_the_system_allows_works(here, quick):
    assert _exit_code([*RUN, "--out", "z" * 255]) == 0
    assert records.load(Path("z" * 255, "record.zarr")).identical(finished())


@pytest.mark.parametrize("out", [[], ["--out", "new/out"], ["--out", "old", "--overwrite"]])
def test_a_full_disk_is_noticed_before_the_run(here, quick, monkeypatch, capsys, out):
    assert _exit_code([*RUN, "--out", "old"]) == 0
    before = tree(here)
    monkeypatch.setattr(learning, "simulated", never)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    assert _exit_code([*RUN, *out]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert tree(here) == before


FOREIGN = [
    (lambda out: (out / "thesis.tex").write_text("mine"), "thesis.tex"),
    (lambda out: (out / "more").mkdir(), "more"),
    (lambda out: (out / "other.svg").write_text("<svg/>"), "other.svg"),
    (lambda out: (out / "record.zarr" / "notes").write_text("mine"), "record.zarr/notes"),
    (lambda out: (out / "record.zarr" / "loss" / "notes").write_text("mine"), "record.zarr/loss/notes"),
    (lambda out: ((out / "report.html").unlink(), (out / "report.html").symlink_to("../thesis.tex")), "report.html"),
    (lambda out: ((out / "report.html").unlink(), (out / "report.html").mkdir()), "report.html"),
    (lambda out: (out / "experiment.toml").unlink(), "record.zarr"),
    (lambda out: (out / "atlas.svg").symlink_to("nowhere"), "atlas.svg"),
    (lambda out: os.mkfifo(out / "atlas.svg"), "atlas.svg"),
    (lambda out: (os.rename(out / "record.zarr", "away"), (out / "record.zarr").symlink_to("../away")), "record.zarr"),
]


@pytest.mark.parametrize(("change", "stranger"), FOREIGN)
def test_overwrite_keeps_what_is_not_ours(here, quick, monkeypatch, capsys, change, stranger):
    assert _exit_code([*RUN, "--out", "out"]) == 0
    change(here / "out")
    before = tree(here)
    monkeypatch.setattr(learning, "simulated", never)
    assert _exit_code([*RUN, "--out", "out", "--overwrite"]) == 2
    printed = capsys.readouterr().err
    assert f"holds '{stranger}', which was not written here" in printed and printed.count("\n") == 1
    assert tree(here) == before


def test_overwrite_never_follows_a_link(here, quick, capsys):
    assert _exit_code([*RUN, "--out", "real"]) == 0
    (here / "out").symlink_to("real")
    before = tree(here)
    assert _exit_code([*RUN, "--out", "out", "--overwrite"]) == 2
    assert "is a link, so it is not replaced" in capsys.readouterr().err and tree(here) == before


def test_overwrite_keeps_the_old_results_until_the_new_ones_are_there(here, quick, monkeypatch, capsys):
    assert _exit_code([*RUN, "--out", "out"]) == 0
    before = tree(here)
    for stop in (ValueError("bad"), OSError("full"), KeyboardInterrupt()):

        def fails(*_, stop=stop, **__):
            raise stop

        monkeypatch.setattr(learning, "simulated", fails)
        with suppress(KeyboardInterrupt):
            assert _exit_code([*RUN, "--out", "out", "--overwrite"]) in (1, 2)
        assert tree(here) == before
    monkeypatch.setattr(learning, "simulated", lambda *_, **__: finished(2.0))
    (here / "out" / ".DS_Store").touch()
    assert _exit_code([*RUN, "--out", "out", "--overwrite"]) == 0
    assert records.load("out/record.zarr").identical(finished(2.0))
    assert _exit_code([*RUN, "--out", "fresh", "--overwrite"]) == 0, "what is not there needs no replacement"
    (here / "empty").mkdir()
    assert _exit_code([*RUN, "--out", "empty", "--overwrite"]) == 0
    assert sorted(os.listdir(here)) == ["empty", "fresh", "out"]


def test_a_claim_that_somebody_else_filled_loses_no_run(here, monkeypatch):
    def meanwhile(*_, **__):
        (here / "out" / "theirs").write_text("x")
        return finished()

    monkeypatch.setattr(learning, "simulated", meanwhile)
    assert _exit_code([*RUN, "--out", "out"]) == 0
    assert os.listdir("out") == ["theirs"] and records.load("out-1/record.zarr").identical(finished())


def test_results_of_reproduce_keep_what_is_not_theirs(here, monkeypatch, capsys):
    from deeplinear.reproduce import registry

    folder = here / "reproduced" / "single_neuron"
    folder.mkdir(parents=True)
    (folder / "figure.png").write_text("mine")
    monkeypatch.setattr(registry.load(name="single_neuron"), "run", never)
    assert _exit_code(["reproduce", "single_neuron"]) == 2
    assert "holds 'figure.png', which was not written here" in capsys.readouterr().err
    assert tree(folder) == [("figure.png", 4)]


STUB = """
import os, sys, time
from pathlib import Path
import deeplinear.cli
{before}
def simulated(*_, **__):
    print("running", flush=True)
    time.sleep(60)
if {patch}:
    from deeplinear.cli import learning
    learning.simulated = simulated
sys.argv = ["deeplinear", *{arguments!r}]
deeplinear.cli.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("out", [[], ["--out", "new/out"], ["--out", "old", "--overwrite"]])
def test_a_signal_leaves_nothing_and_says_one_line(here, quick, number, code, out):
    assert _exit_code([*RUN, "--out", "old"]) == 0
    before = tree(here)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with run_python(STUB.format(before="", patch=True, arguments=[*RUN, *out]), **pipes) as child:
        assert child.stdout.readline() == "running\n"
        child.send_signal(number)
        _, error = child.communicate()
    assert (child.returncode, error) == (code, "deeplinear: interrupted\n")
    assert tree(here) == before


@pytest.mark.parametrize("module", ["cyclopts", "deeplinear.cli.application", "pydantic"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_an_import_gives_no_traceback(here, module, number, code):
    before = f"""
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder())
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with run_python(STUB.format(before=before, patch=False, arguments=["learn", "--hidden", "x"]), **pipes) as child:
        out, error = child.communicate()
    assert (child.returncode, out, error) == (code, "", "deeplinear: interrupted\n")


def test_the_script_imports_little_before_it_answers_signals():
    code = (
        "import sys, deeplinear.cli; print([m for m in sys.modules if m in ('cyclopts', 'numpy', 'pydantic', 'rich')])"
    )
    with run_python(code, stdout=subprocess.PIPE) as child:
        assert child.communicate()[0] == "[]\n"


MAIN = "import sys, deeplinear.cli; sys.argv = ['deeplinear', *sys.argv[1:]]; deeplinear.cli.main()"


def shell(command, **environment):
    """Exit code, output and errors of a shell command in which $DL is the program."""
    program = f'"{sys.executable}" -c "{MAIN}"'
    done = subprocess.run(
        ["bash", "-c", command.replace("$DL", program)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("$DL reproduce list >&-", 0, ""),
        ("$DL reproduce list >&- 2>&-", 0, ""),
        ("$DL reproduce list <&-", 0, ""),
        ("$DL teach 2>&-", 2, ""),
        ("$DL reproduce list | true; test ${PIPESTATUS[0]} -le 1", 0, ""),
        ("$DL --help | head -1; test ${PIPESTATUS[0]} -le 1", 0, ""),
        ("$DL reproduce list >/dev/full", 1, "deeplinear: [Errno 28] No space left on device\n"),
        ("$DL teach 2>/dev/full", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full_give_no_traceback(command, code, error):
    done = shell(command)
    assert (done[0], done[2]) == (code, error)


@pytest.mark.parametrize(
    "setting",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["encoding", "locale"],
)
def test_terminals_that_know_ascii_alone_get_ascii(setting):
    code, out, error = shell("$DL atlas semantic --hidden 5 --table", **setting)
    assert (code, error) == (0, "") and out.isascii() and "4 -> 5 -> 7" in out and "?" not in out
    code, out, error = shell("$DL learn größe.csv", **setting)
    assert code == 2 and error.isascii() and error.count("\n") == 1
