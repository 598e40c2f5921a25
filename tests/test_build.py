"""The engine built as `make engine` builds it, in a copy of the source tree, on a machine without a compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import elf
import pytest

from deeplinear.dynamics import library

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine_library")]
ROOT = Path(__file__).parents[1]
SOURCES = ("engine", "src", "tools", "CMakeLists.txt", "LICENSE", "Makefile", "README.md", "pyproject.toml")
COMPILERS = ("c++", "g++", "gcc", "cc", "clang", "x86_64-linux-gnu-g", "aarch64-linux-gnu-g")
RUN = """
from deeplinear.dynamics.engine import *
one = np.array([[1.0]])
run = Run(Problem(2 * one), [one, one], Settings(times=np.array([50.0])))
print(run.advance().status == REACHED, abs(run.weights()[0].item() ** 2 - 2) < 1e-6)
"""


@pytest.fixture
def tools(tmp_path):
    """A PATH with all programs of this one but compilers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if not program.name.startswith(COMPILERS) and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="compilers of macOS are not in PATH alone")
def test_the_engine_is_built_without_a_compiler(tmp_path, tools):
    """By ziglang from the package index."""
    assert shutil.which("make", path=tools) and not any(shutil.which(name, path=tools) for name in COMPILERS)
    tree = tmp_path / "tree"
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        tree.mkdir(exist_ok=True), copy(ROOT / name, tree / name)
    shutil.rmtree(tree / "src" / "deeplinear" / "_engine", ignore_errors=True)
    (tree / ".venv").symlink_to(ROOT / ".venv")
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", library.FORCED)}
    environment |= {"PATH": str(tools), "PYTHONPATH": str(tree / "src")}
    built = subprocess.run(["make", "engine"], cwd=tree, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    libraries = sorted((tree / "src" / "deeplinear" / "_engine").iterdir())
    assert [path.name for path in libraries] == sorted(path.name for path in library.FOLDER.glob("*.so"))
    for path in libraries:
        assert {name.split(".")[0] for name in elf.dynamic(path).needed} <= {"libc", "libm"}
    python = tree / ".venv" / "bin" / "python"
    for level in library.LEVELS if len(libraries) > 1 else ("baseline",):
        if library.LEVELS[level] <= library.load("baseline").call["processor"]():
            forced = environment | {library.FORCED: level}
            done = subprocess.run([python, "-c", RUN], env=forced, capture_output=True, text=True, check=True)
            assert done.stdout.split() == ["True", "True"]
