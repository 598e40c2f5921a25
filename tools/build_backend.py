"""Builds wheels with scikit-build-core, and brings a compiler along where the machine has none.

A C++17 compiler is the system's (CXX, or c++, g++, clang++ in the path). Where there is none, ziglang from the package
index is asked for as one more requirement of the build, and CMake is handed `zig cc` as a compiler: it compiles C++ as
well, and links without a C++ runtime, which the engine does without.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scikit_build_core import build as standard

ZIG = "ziglang>=0.13"
build_sdist = standard.build_sdist
get_requires_for_build_sdist = standard.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = standard.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = standard.prepare_metadata_for_build_editable


def _has_compiler() -> bool:
    named = os.environ.get("CXX")
    return bool(named and shutil.which(named.split()[0])) or any(map(shutil.which, ("c++", "g++", "clang++")))


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What scikit-build-core asks for, and zig where there is no compiler."""
    return [*standard.get_requires_for_build_wheel(config_settings), *([] if _has_compiler() else [ZIG])]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """As for a wheel."""
    return [*standard.get_requires_for_build_editable(config_settings), *([] if _has_compiler() else [ZIG])]


@contextmanager
def _compiler() -> Iterator[None]:
    """While inside, CMake finds a compiler."""
    if _has_compiler():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        tools = {}
        for name in ("cc", "ar", "ranlib"):
            tool = Path(folder) / f"zig-{name}"
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {name} "$@"\n', encoding="utf-8")
            tool.chmod(0o755)
            tools[name] = str(tool)
        before = dict(os.environ)
        os.environ |= {"CC": tools["cc"], "CXX": tools["cc"]}
        options = f"-DDEEPLINEAR_ZIG=ON -DCMAKE_AR={tools['ar']} -DCMAKE_RANLIB={tools['ranlib']}"
        os.environ["CMAKE_ARGS"] = f"{before.get('CMAKE_ARGS', '')} {options}".strip()
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before


def build_wheel(folder: str, config_settings: Any = None, metadata_folder: str | None = None) -> str:
    """A wheel with the engine for every instruction set."""
    with _compiler():
        return standard.build_wheel(folder, config_settings, metadata_folder)


def build_editable(folder: str, config_settings: Any = None, metadata_folder: str | None = None) -> str:
    """The same, with Python's files left where they are."""
    with _compiler():
        return standard.build_editable(folder, config_settings, metadata_folder)
