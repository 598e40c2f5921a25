"""Builds wheels with scikit-build-core, and brings a compiler along where the machine has none.

A C++17 compiler is the system's (CXX, or c++, g++, clang++ in the path). Where there is none, ziglang from the package
index is asked for as one more requirement of the build, and CMake is handed `zig cc` as a compiler: it compiles C++ as
well, and links without a C++ runtime, which the engine does without.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scikit_build_core import build as standard

ZIG = "ziglang>=0.13"
SOURCE = Path(__file__).parents[1] / "src"
build_sdist = standard.build_sdist
get_requires_for_build_sdist = standard.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = standard.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = standard.prepare_metadata_for_build_wheel


def _has_compiler() -> bool:
    named = os.environ.get("CXX", "").split()[:1]
    return any(map(_runs, (*named, "c++", "g++", "clang++")))


def _runs(compiler: str) -> bool:
    """Whether it is there and answers; where its tools are not installed, macOS has a c++ that only says so."""
    path = shutil.which(compiler)
    return path is not None and subprocess.run([path, "--version"], capture_output=True).returncode == 0


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What scikit-build-core asks for, and zig where there is no compiler."""
    return [*standard.get_requires_for_build_wheel(config_settings), *([] if _has_compiler() else [ZIG])]


get_requires_for_build_editable = get_requires_for_build_wheel


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
    """The engine beside Python's files, where `make engine` puts it too, and a wheel that holds nothing but their path.

    scikit-build-core would put a finder before all paths: PYTHONPATH could no longer name another source tree.
    """
    with _compiler(), tempfile.TemporaryDirectory() as temporary:
        name = standard.build_wheel(temporary, config_settings, metadata_folder)
        with zipfile.ZipFile(Path(temporary) / name) as wheel:
            members = {member: wheel.read(member) for member in wheel.namelist()}
    for member, content in members.items():
        if member.startswith("deeplinear/_engine/"):
            library = SOURCE / member
            library.parent.mkdir(exist_ok=True)
            partial = library.with_suffix(".partial")
            partial.write_bytes(content)
            partial.replace(library)  # whoever has the old one open keeps it
    kept = {member: content for member, content in members.items() if ".dist-info/" in member}
    record = next(member for member in kept if member.endswith("/RECORD"))
    kept["deeplinear.pth"] = f"{SOURCE}\n".encode()
    kept[record] = "".join(_recorded(m, c) for m, c in kept.items() if m != record).encode() + f"{record},,\n".encode()
    with zipfile.ZipFile(Path(folder) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in kept.items():
            wheel.writestr(member, content)
    return name


def _recorded(member: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{member},sha256={digest},{len(content)}\n"
