"""The compiled engine's libraries, one for each instruction set of a processor: found, checked, loaded.

The best that the processor can run is loaded when it is first needed; DEEPLINEAR_ENGINE=baseline, v3 or v4 forces one.
The structures and functions here are those of engine/engine.h.
"""

import ctypes
import hashlib
import os
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_void_p
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

ABI = 3
PACKAGE = Path(str(resources.files("deeplinear")))
FOLDER = PACKAGE / "_engine"
SOURCES = PACKAGE.parents[1] / "engine"
"""Where its sources are, in a source tree."""
LEVELS = {"baseline": 1, "v3": 3, "v4": 4}
"""What a library is called, and what a processor must be able to run (`deeplinear_processor`)."""
FORCED = "DEEPLINEAR_ENGINE"
REBUILD = "run `make engine` in the source tree, or install deeplinear again"


class CProblem(ctypes.Structure):
    _fields_ = (
        ("depth", c_int32),
        ("widths", c_void_p),
        ("optimum", c_void_p),
        ("root", c_void_p),
        ("rank", c_int32),
        ("graded", c_int32),
        ("factor", c_double),
        ("rates", c_void_p),
        ("decay", c_void_p),
        ("mask", c_void_p),
    )


class CSettings(ctypes.Structure):
    _fields_ = (
        ("method", c_int32),
        ("rtol", c_double),
        ("atol", c_double),
        ("times", c_void_p),
        ("count", c_int64),
        ("max_time", c_double),
        ("goal", c_double),
        ("spread", c_double),
        ("outputs", c_int64),
        ("log", c_int64),
    )


class CSummary(ctypes.Structure):
    _fields_ = (
        ("status", c_int32),
        ("steps", c_int64),
        ("rejected", c_int64),
        ("evaluations", c_int64),
        ("t", c_double),
        ("slope", c_double),
        ("outputs", c_int64),
        ("logged", c_int64),
    )


SIGNATURES: dict[str, tuple[Any, tuple]] = {
    "abi": (c_int32, ()),
    "sources": (c_char_p, ()),
    "processor": (c_int32, ()),
    "bytes": (c_double, (POINTER(CProblem), POINTER(CSettings))),
    "begin": (c_int32, (POINTER(CProblem), POINTER(CSettings), c_void_p, POINTER(c_void_p))),
    "advance": (None, (c_void_p, c_int64, c_double, POINTER(c_int32))),
    "summarise": (None, (c_void_p, POINTER(CSummary))),
    "outputs": (None, (c_void_p, c_void_p, c_void_p)),
    "log": (None, (c_void_p, c_void_p)),
    "weights": (None, (c_void_p, c_void_p)),
    "state_size": (c_int64, (c_void_p,)),
    "state_export": (None, (c_void_p, c_void_p)),
    "state_import": (c_int32, (c_void_p, c_void_p)),
    "free": (None, (c_void_p,)),
    "velocity": (c_int32, (POINTER(CProblem), c_void_p, c_void_p)),
    "derivative": (c_int32, (POINTER(CProblem), c_void_p, c_void_p, c_void_p)),
    "product": (c_int32, (c_int32, c_int32, c_int32, c_int32, c_int64, c_void_p, c_void_p, c_void_p)),
    "svd": (c_int32, (c_int32, c_int32, c_void_p, c_void_p, c_void_p, c_void_p)),
}


class Engine(NamedTuple):
    """A loaded library: `call["velocity"]` is `deeplinear_velocity`."""

    level: str
    call: dict[str, Any]


@cache
def load(level: str | None = None) -> Engine:
    """The library of that level; None: the one that DEEPLINEAR_ENGINE names, or the best for this processor.

    Raises `ImportError` where there is none, with the command that builds it.

    >>> load("baseline").level
    'baseline'
    """
    level = level or os.environ.get(FORCED) or None
    if level is not None:
        if level not in LEVELS:
            raise ImportError(f"{FORCED}: got {level!r}; give {', '.join(LEVELS)}, or leave it out for the best")
        if level != "baseline" and LEVELS[level] > _open("baseline").call["processor"]():
            raise ImportError(f"{FORCED}: this processor cannot run {level!r}; leave it out for the best")
        return _open(level)
    able = _open("baseline").call["processor"]()
    there = [name for name, needs in LEVELS.items() if needs <= able and _path(name).exists()]
    return _open(there[-1])


def _path(level: str) -> Path:
    return FOLDER / f"deeplinear_{level}.so"


@cache
def _open(level: str) -> Engine:
    path = _path(level)
    if not path.is_file():
        raise ImportError(f"the compiled engine {path} is not there; {REBUILD}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"the compiled engine {path} cannot be loaded ({error}); {REBUILD}") from error
    call = {}
    for name, (result, arguments) in SIGNATURES.items():
        try:
            function = getattr(library, f"deeplinear_{name}")
        except AttributeError as error:
            raise ImportError(f"the compiled engine {path} is of another version; {REBUILD}") from error
        function.restype, function.argtypes = result, arguments
        call[name] = function
    if call["abi"]() != ABI:
        raise ImportError(f"the compiled engine {path} has interface {call['abi']()}, not {ABI}; {REBUILD}")
    if (SOURCES / "engine.h").is_file() and call["sources"]().decode() != hash_of_sources():
        raise ImportError(f"the compiled engine {path} is older than its sources in {SOURCES}; run `make engine`")
    return Engine(level, call)


def hash_of_sources() -> str:
    """What `make engine` writes into a library: a hash of all its sources in the order of their names."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
