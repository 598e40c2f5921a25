"""Runs that stop and go on are the run that never stopped, to the last bit; files that do not fit are refused."""

import errno
import os
import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, WHITE, WIDTHS, correlated, quartic, random_network

from deeplinear import Network, gradient_flow
from deeplinear.dynamics import engine
from deeplinear.flows import checkpoint as files
from deeplinear.flows import drive, native

LARGE = (4, 14, 3)  # calls of matrix products; WIDTHS is one kernel
MANY = np.linspace(0.5, 12.0, 150)  # more than a buffer holds


def same(one, other):
    """The same times, networks and counts, to the last bit, and the same ending."""
    np.testing.assert_array_equal(one.ts, other.ts)
    for a, b in zip(one.networks.weights, other.networks.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    counts = lambda run: (run.statistics.steps, run.statistics.rejected, run.statistics.evaluations)
    assert counts(one) == counts(other)
    assert one.ending == other.ending


def in_pieces(path, objective, network, ts, seed, **options):
    """The run, stopped after random numbers of steps and called again."""
    rng, budget, stops = np.random.default_rng(seed), 0, 0
    while True:
        budget += int(rng.integers(1, 25))
        trajectory = gradient_flow(objective, network, ts, checkpoint=path, max_steps=budget, **options)
        if trajectory.ending.kind != "steps":
            return trajectory, stops
        stops += 1
        assert f"the budget of {budget} steps" in trajectory.ending.message


@pytest.mark.parametrize("widths", [WIDTHS, LARGE])
@pytest.mark.parametrize("solver", ["rock4", "rodas4", "dopri8", "auto"])
@pytest.mark.parametrize("ts", [None, MANY], ids=["chosen", "given"])
def test_pieces_are_the_whole(tmp_path, widths, solver, ts):
    network = random_network(widths, scale=0.05)
    options = {"solver": solver, "rtol": 1e-5, "tolerance": 1e-4, "keep": 40}
    whole = gradient_flow(WHITE, network, ts, **options)
    pieces, stops = in_pieces(tmp_path / "run.npz", WHITE, network, ts, 0, **options)
    assert stops >= 3
    same(pieces, whole)


def test_segments_change_nothing(monkeypatch):
    """How much a segment does follows from the clock; the result must not."""
    rng, network = np.random.default_rng(1), random_network(WIDTHS, scale=1e-3)
    whole, other = gradient_flow(WHITE, network, keep=30), gradient_flow(quartic, network, TIMES)
    for most in (3, 40, 400):
        monkeypatch.setattr(drive, "next_budget", lambda *_, most=most: int(rng.integers(1, most)))
        monkeypatch.setattr(drive, "first_budget", lambda *_, most=most: most)
        same(gradient_flow(quartic, network, TIMES), other)
        monkeypatch.setattr(engine, "SEGMENT_SECONDS", 1e-5 * most)
        same(gradient_flow(WHITE, network, keep=30), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": Network([np.ones((5, 4), dtype=bool), np.tri(3, 5, 2, dtype=bool)]), "weight_decay": 0.1},
        {"project": True},
    ],
    ids=["mask and decay", "project"],
)
def test_pieces_with_options(tmp_path, options):
    network = random_network(WIDTHS)
    whole = gradient_flow(correlated(), network, TIMES, **options)
    same(in_pieces(tmp_path / "run", correlated(), network, TIMES, 2, **options)[0], whole)


def test_a_finished_run_returns_at_once(tmp_path, monkeypatch):
    network, path = random_network(WIDTHS), tmp_path / "run.npz"
    first = gradient_flow(WHITE, network, checkpoint=path)
    assert os.listdir(tmp_path) == ["run.npz"]

    def none(*_):
        raise AssertionError("a segment was run")

    monkeypatch.setattr(engine.Run, "advance", none)
    same(gradient_flow(WHITE, network, checkpoint=str(path)), first)


def test_a_stalled_run_stays_stalled(tmp_path):
    network, path = random_network(WIDTHS, 0, 0.7), tmp_path / "run.npz"
    explosive = lambda W: -jnp.sum(W**4)
    whole = gradient_flow(explosive, network, TIMES)
    assert whole.ending.kind == "stalled"
    same(in_pieces(path, explosive, network, TIMES, 3)[0], whole)
    same(gradient_flow(explosive, network, TIMES, checkpoint=path), whole)


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from problems import WHITE, random_network
from deeplinear import gradient_flow
from deeplinear.dynamics import engine
from deeplinear.flows import checkpoint
checkpoint.SECONDS, checkpoint.SHARE, engine.SEGMENT_SECONDS = 0.0, 0, 0.0
say = lambda report: print(report.steps, flush=True)
gradient_flow(WHITE, random_network((4, 14, 3), scale=1e-3), checkpoint={path!r}, progress=say)
"""


def test_a_killed_run_goes_on(tmp_path):
    network = random_network(LARGE, scale=1e-3)
    whole = gradient_flow(WHITE, network)
    path = tmp_path / "run.npz"
    code = CHILD.format(tests=os.path.dirname(__file__), path=str(path))
    for lines in (20, 50):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            for _ in range(lines):
                assert child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
        assert path.exists()
    seen = []
    trajectory = gradient_flow(WHITE, network, checkpoint=path, progress=seen.append)
    assert seen  # it was not finished
    same(trajectory, whole)
    assert os.listdir(tmp_path) == ["run.npz"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    network, path = random_network(WIDTHS), tmp_path / "run.npz"
    gradient_flow(WHITE, network, TIMES, checkpoint=path, max_steps=20)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match=r"^`checkpoint`: .*No space left.*goes on"):
        patch.setattr(files.os, "fsync", full)
        late = gradient_flow(WHITE, network, TIMES, checkpoint=path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.npz"]
    same(late, gradient_flow(WHITE, network, TIMES))


def test_writes_are_seldom(tmp_path, monkeypatch):
    writes, write = [], files.Checkpoint._write
    monkeypatch.setattr(files.Checkpoint, "_write", lambda self, *what: (writes.append(1), write(self, *what)))
    monkeypatch.setattr(engine, "SEGMENT_SECONDS", 0.0)
    gradient_flow(WHITE, random_network(WIDTHS), TIMES, checkpoint=tmp_path / "run.npz")
    assert len(writes) == 1


SHIFT = np.linspace(0.0, 1.0, 12).reshape(3, 4)
shifted = lambda shift: jax.jit(lambda W: jnp.sum((W - jnp.asarray(shift)) ** 4))  # the shift is inside `jit`


@pytest.mark.parametrize(
    ("objective", "network", "options", "names"),
    [
        (WHITE, random_network(WIDTHS, 1), {}, "`network`"),
        (correlated(), random_network(WIDTHS), {}, "`objective`"),
        (quartic, random_network(WIDTHS), {}, "`objective`"),
        (WHITE, random_network(WIDTHS), {"rtol": 1e-7}, "`rtol`"),
        (WHITE, random_network(WIDTHS), {"ts": TIMES[:-1]}, "`ts`"),
        (WHITE, random_network(WIDTHS), {"solver": "dopri8"}, "`solver`"),
        (WHITE, random_network(WIDTHS), {"weight_decay": 0.1}, "`weight_decay`"),
        (WHITE, random_network(WIDTHS), {"project": True}, "`project`"),
        (WHITE, random_network((4, 5, 5, 3)), {"ts": TIMES[1:]}, "`network`, `ts`"),
    ],
)
def test_a_file_of_another_question_is_refused(tmp_path, objective, network, options, names):
    path = tmp_path / "run.npz"
    gradient_flow(WHITE, random_network(WIDTHS), TIMES, checkpoint=path, max_steps=5)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"^`checkpoint`: .*run\.npz holds a run with another {names};") as caught:
        gradient_flow(objective, network, **({"ts": TIMES} | options), checkpoint=path)
    assert "\n" not in str(caught.value) and path.read_bytes() == before


def test_what_a_function_has_closed_over_counts(tmp_path):
    path, network = tmp_path / "run.npz", random_network(WIDTHS)
    gradient_flow(shifted(SHIFT), network, TIMES, checkpoint=path, max_steps=5)
    with pytest.raises(ValueError, match="another `objective`"):
        gradient_flow(shifted(SHIFT + 1e-15), network, TIMES, checkpoint=path)
    assert gradient_flow(shifted(SHIFT.copy()), network, TIMES, checkpoint=path).ending.kind == "time"


def test_damaged_files_and_other_versions_are_refused(tmp_path, monkeypatch):
    path, network = tmp_path / "run.npz", random_network(WIDTHS)
    ask = lambda: gradient_flow(WHITE, network, TIMES, checkpoint=path)
    gradient_flow(WHITE, network, TIMES, checkpoint=path, max_steps=5)
    good = path.read_bytes()
    arrays = dict(np.load(path))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (b"", b"words", good[: len(good) // 2], good[:-1], bytes(flipped)):
        path.write_bytes(bad)
        with pytest.raises(
            ValueError, match=r"^`checkpoint`: .*run\.npz is damaged or no checkpoint \(.*delete"
        ) as caught:
            ask()
        assert "\n" not in str(caught.value) and path.read_bytes() == bad
    for change in ({"times": arrays["times"][:-1]}, {"engine": np.zeros(3)}, {"question": np.array([object()])}):
        np.savez(path, **(arrays | change))
        with pytest.raises(ValueError, match=r"^`checkpoint`: .* is damaged"):
            ask()
    network.save(path)  # somebody's weights
    with pytest.raises(ValueError, match=r"^`checkpoint`: .* is damaged or no checkpoint"):
        ask()
    path.write_bytes(good)
    with monkeypatch.context() as patch:
        patch.setattr(native.NativeRun, "version", "99, engine 0")
        with pytest.raises(
            ValueError, match=r"^`checkpoint`: .*run\.npz was written by version \d+, engine .* 99, engine 0;"
        ):
            ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(ask(), gradient_flow(WHITE, network, TIMES))


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
def test_nothing_but_a_plain_file_is_opened(tmp_path):
    network, path = random_network(WIDTHS), tmp_path / "run.npz"
    ask = lambda: gradient_flow(WHITE, network, TIMES, checkpoint=path)
    for target in ("/dev/zero", str(tmp_path / "pipe"), "nowhere"):
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        if target.endswith("pipe"):
            os.mkfifo(target)
        with pytest.raises(
            ValueError, match=r"^`checkpoint`: .*run\.npz is damaged or no checkpoint \(.*delete"
        ) as caught:
            ask()
        assert "\n" not in str(caught.value)
    path.unlink()
    (tmp_path / "far").mkdir()
    gradient_flow(WHITE, network, TIMES, checkpoint=tmp_path / "far" / "run.npz")
    path.symlink_to(tmp_path / "far" / "run.npz")
    same(ask(), gradient_flow(WHITE, network, TIMES))  # a link to a file is a name of it
    path.unlink()
    os.truncate(tmp_path / "far" / "run.npz", 2**41)
    path.symlink_to(tmp_path / "far" / "run.npz")
    with pytest.raises(ValueError, match=r"\(has 2199023255552 bytes, more than the 1099511627776 expected\)"):
        ask()


@pytest.mark.parametrize("name", ["a\0b", "a\udcff", "x" * 300])
def test_names_that_cannot_be_written_are_refused_before_the_run(tmp_path, name):
    with pytest.raises(ValueError, match=r"^`checkpoint`: ") as caught:
        gradient_flow(WHITE, random_network(WIDTHS), TIMES, checkpoint=tmp_path / name)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (
            random_network(WIDTHS),
            {"checkpoint": "/no/such/folder/run.npz"},
            r"^`checkpoint`: there is no folder /no/such",
        ),
        (random_network(WIDTHS), {"checkpoint": os.path.dirname(__file__)}, r"^`checkpoint`: .* is a folder; give"),
        (
            jax.tree.map(lambda W: W[None], random_network(WIDTHS)),
            {"checkpoint": "x"},
            r"^`checkpoint`: an ensemble is",
        ),
    ],
)
def test_places_for_no_file_are_refused(network, options, message):
    with pytest.raises(ValueError, match=message):
        gradient_flow(WHITE, network, TIMES, **options)


def test_diffrax_keeps_no_files():
    diffrax = pytest.importorskip("diffrax")
    with pytest.raises(ValueError, match=r"^`checkpoint`: a flow that diffrax integrates is not kept"):
        gradient_flow(WHITE, random_network(WIDTHS), TIMES, solver=diffrax.Tsit5(), checkpoint="run.npz")
