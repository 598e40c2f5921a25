"""The compiled engine's libraries: what they need, which one is loaded, which are refused."""

import importlib.util
import os
import platform
import subprocess
import sys

import elf
import pytest

from deeplinear.dynamics import library

pytestmark = pytest.mark.usefixtures("engine_library")
LIBC = {"calloc", "clock_gettime", "free", "memcpy", "memset"}
LIBM = {"floor", "fmax", "hypot"}
LOADER = {"_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__cxa_finalize", "__gmon_start__"}
ENGINE, ABI = library.FOLDER, library.ABI
LEVELS = list(library.LEVELS) if platform.machine() in ("x86_64", "AMD64") else ["baseline"]


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    """Libraries are looked for anew, and nobody has forced one."""
    monkeypatch.delenv(library.FORCED, raising=False)
    library._open.cache_clear(), library.load.cache_clear()
    yield
    library._open.cache_clear(), library.load.cache_clear()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder of libraries that a test fills."""
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    return tmp_path


def refusal(level=None):
    with pytest.raises(ImportError) as caught:
        library.load(level)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_there_is_a_library_for_every_level():
    there = {path.name for path in library.FOLDER.glob("*.so")}
    assert there == {f"deeplinear_{level}.so" for level in LEVELS}


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
@pytest.mark.parametrize("level", LEVELS)
def test_libraries_need_nothing_but_the_c_library(level):
    found = elf.dynamic(library.FOLDER / f"deeplinear_{level}.so")
    assert found.undefined <= LIBC | LIBM | LOADER
    assert found.undefined >= {"calloc", "free"}
    assert found.defined == {f"deeplinear_{name}" for name in library.SIGNATURES}
    assert {name.split(".")[0] for name in found.needed} <= {"libc", "libm"}


def test_the_best_library_that_the_processor_can_run_is_loaded(monkeypatch):
    able = library.load("baseline").call["processor"]()
    assert able in library.LEVELS.values()
    for level in LEVELS:
        needs = library.LEVELS[level]
        if needs <= able:
            library.load.cache_clear()
            monkeypatch.setitem(library._open("baseline").call, "processor", lambda needs=needs: needs)
            assert library.load().level == level


def test_levels_are_forced_by_the_environment():
    code = "from deeplinear.dynamics import library; print(library.load().level)"
    for forced, level in (("baseline", "baseline"), ("", library.load().level)):
        environment = os.environ | {library.FORCED: forced}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == level


def test_levels_that_are_refused(monkeypatch):
    monkeypatch.setenv(library.FORCED, "v9")
    assert refusal() == "DEEPLINEAR_ENGINE: got 'v9'; give baseline, v3, v4, or leave it out for the best"
    monkeypatch.setitem(library._open("baseline").call, "processor", lambda: 1)
    monkeypatch.setenv(library.FORCED, "v3")
    assert refusal() == "DEEPLINEAR_ENGINE: this processor cannot run 'v3'; leave it out for the best"


def test_no_library(folder):
    path = folder / "deeplinear_baseline.so"
    assert refusal() == f"the compiled engine {path} is not there; {library.REBUILD}"
    assert "`make engine`" in library.REBUILD


def test_a_library_for_another_processor(folder):
    damaged = bytearray((ENGINE / "deeplinear_baseline.so").read_bytes())
    damaged[elf.MACHINE] ^= 0xFF
    path = folder / "deeplinear_baseline.so"
    for content in (bytes(damaged), b"", damaged[:1000]):
        path.write_bytes(content)
        message = refusal()
        assert message.startswith(f"the compiled engine {path} cannot be loaded (")
        assert message.endswith(f"); {library.REBUILD}")


def test_a_library_with_another_interface(monkeypatch):
    monkeypatch.setattr(library, "ABI", 0)
    path = library.FOLDER / "deeplinear_baseline.so"
    assert refusal() == f"the compiled engine {path} has interface {ABI}, not 0; {library.REBUILD}"


def test_a_library_of_another_version(folder):
    foreign = importlib.util.find_spec("numpy._core._multiarray_umath")
    assert foreign is not None and foreign.origin is not None
    path = folder / "deeplinear_baseline.so"
    path.symlink_to(foreign.origin)
    assert refusal() == f"the compiled engine {path} is of another version; {library.REBUILD}"


def test_a_library_older_than_its_sources(monkeypatch, tmp_path):
    for source in library.SOURCES.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(library, "SOURCES", tmp_path)
    assert library.load("baseline")
    with (tmp_path / "README.md").open("a") as notes:
        notes.write("more\n")
    library._open.cache_clear(), library.load.cache_clear()
    assert library.load("baseline")
    with (tmp_path / "field.h").open("a") as header:
        header.write("// changed\n")
    library._open.cache_clear(), library.load.cache_clear()
    path = library.FOLDER / "deeplinear_baseline.so"
    assert refusal() == f"the compiled engine {path} is older than its sources in {tmp_path}; run `make engine`"
