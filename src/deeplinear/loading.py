"""Samples from files: NumPy arrays, mapped rather than read, and tables; nothing is unpickled."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplinear import _memory, tables
from deeplinear._checks import check_file
from deeplinear.tables import Choice, Samples

SUFFIXES = (".npz", ".npy", *tables.READERS)


def read(path: str | os.PathLike | Sequence, choice: Choice) -> Samples:
    """Samples of a file, by its suffix; `deeplinear.tasks.load` lists the formats. Raises `ValueError` in one line."""
    files = [check_file("path", part) for part in _parts(path)]
    if not files:
        raise ValueError("`path`: got an empty sequence; give one file, or two .npy files")
    suffix = files[0].suffix.lower()
    if suffix == ".npy":
        return _read_npy(files, choice)
    if len(files) > 1:
        raise ValueError(f"`path`: got {len(files)} files; only .npy files come in pairs (inputs, outputs)")
    if suffix == ".npz":
        return _whole(files[0], lambda: _read_npz(files[0], choice))
    if suffix in tables.READERS:
        return _whole(files[0], lambda: tables.read(files[0], choice))
    hint = "unpack it and " if suffix in (".gz", ".bz2", ".xz", ".zip", ".zst") else ""
    raise ValueError(f"`path`: {files[0].name!r} has suffix {suffix!r}; {hint}give {', '.join(SUFFIXES)}")


def _whole(file: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives. Libraries raise whatever they like for a damaged file: here it becomes one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy about files of old versions
            return read()
    except Exception as error:
        if type(error) is ValueError and str(error).startswith("`"):  # said by this library
            raise
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise ValueError(f"`path`: {file.name!r} cannot be read ({reason}); it may be damaged") from None


def _parts(path: str | os.PathLike | Sequence) -> list[str]:
    """One path, or the two of a pair given as a sequence or with a comma between."""
    if not isinstance(path, str | os.PathLike):
        if not hasattr(path, "__iter__"):
            raise ValueError(f"`path`: got {path!r}; give a path, or a pair of paths")
        return [str(part) for part in path]
    text = str(path)
    return text.split(",") if text.endswith(".npy") and ".npy," in text and not os.path.exists(text) else [text]


def _read_npy(files: list[Path], choice: Choice) -> Samples:
    if len(files) == 1 and isinstance(choice.target, str | os.PathLike):
        return read([files[0], choice.target], choice._replace(target=None))
    if len(files) != 2 or choice.target is not None:
        raise ValueError(f"`path`: got {files[0].name!r}; give the inputs and the outputs, as in 'x.npy,y.npy'")
    _check_choice(files[0], choice)
    X, Y = (_whole(file, lambda file=file: _mapped(file)) for file in files)
    return _named(files[0], X, Y)


def _mapped(file: Path) -> np.ndarray:
    with file.open("rb") as stream:
        if stream.read(2) == b"PK":
            raise ValueError(f"`path`: {file.name!r} is in truth a .npz file; rename it")
    return np.lib.format.open_memmap(file, mode="r")


def _read_npz(file: Path, choice: Choice) -> Samples:
    _check_choice(file, choice)
    with file.open("rb") as stream:  # opened here: NumPy leaves the file open if it is damaged
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError(f"`path`: {file.name!r} is in truth a .npy file; rename it")
        for x, y in (("x", "y"), ("X", "Y")):
            if x in archive and y in archive:
                return _named(file, *(_member(file, archive, name) for name in (x, y)))
        held = ", ".join(map(repr, list(archive)[:12])) or "nothing"
    raise ValueError(f"`path`: {file.name!r} holds {held:.200}; it must hold the arrays x (n, d_x) and y (n, d_y)")


def _check_choice(file: Path, choice: Choice) -> None:
    """Arrays have no columns by name."""
    for name, default in Choice._field_defaults.items():
        if getattr(choice, name) != default:
            raise ValueError(
                f"`{name}`: got {getattr(choice, name)!r}, but {file.name!r} has no columns; it holds the arrays x and "
                "y themselves"
            )


def _member(file: Path, archive: Any, name: str) -> np.ndarray:
    member = name if name in archive.zip.namelist() else f"{name}.npy"
    needed = archive.zip.getinfo(member).file_size
    _memory.check("path", f"the array {name} of {file.name!r}", needed, "take fewer rows or columns")
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"`path`: {name} of {file.name!r} is no array; save it with numpy.savez")
    return array.astype(float) if array.dtype.kind in "biuf" else array


def _named(file: Path, X: np.ndarray, Y: np.ndarray) -> Samples:
    """Columns without names are counted from 1, as in everything that people read."""
    if X.ndim == 2 and X.size:
        _memory.check_moments("path", X.shape[1])
    count = lambda letter, array: tuple(
        f"{letter}{i}" for i in range(1, (array.shape[1] if array.ndim == 2 else 1) + 1)
    )
    return Samples(X, Y, count("x", X), count("y", Y))
