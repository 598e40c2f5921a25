"""Samples from files: NumPy arrays, mapped rather than read, and tables; nothing is unpickled."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplinear import tables
from deeplinear.tables import Samples, first_line

DAMAGE = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for a file that is cut off, holds Python objects or is something else."""
SUFFIXES = (".npz", ".npy", *tables.SCANS)


def read(path: str | os.PathLike | Sequence, target: Any = None) -> Samples:
    """Samples of a file, by its suffix; `deeplinear.tasks.load` lists the formats. Raises `ValueError` in one line."""
    files = [Path(part) for part in _parts(path)]
    for file in files:
        if not os.path.isfile(file):
            raise ValueError(
                f"`path`: {str(file)!r} is {'a folder, not a file' if os.path.isdir(file) else 'not there'}"
            )
    if not files:
        raise ValueError("`path`: got an empty sequence; give one file, or two .npy files")
    suffix = files[0].suffix.lower()
    if suffix == ".npy":
        return _read_npy(files, target)
    if len(files) > 1:
        raise ValueError(f"`path`: got {len(files)} files; only .npy files come in pairs (inputs, outputs)")
    if suffix == ".npz":
        return _read_npz(files[0], target)
    if suffix in tables.SCANS:
        return tables.collect(files[0], tables.SCANS[suffix](files[0], target))
    raise ValueError(f"`path`: {files[0].name!r} has suffix {suffix!r}; give {', '.join(SUFFIXES)}")


def _parts(path: str | os.PathLike | Sequence) -> list[str]:
    """One path, or the two of a pair given as a sequence or with a comma between."""
    if not isinstance(path, str | os.PathLike):
        return [str(part) for part in path]
    text = str(path)
    return text.split(",") if text.endswith(".npy") and ".npy," in text and not os.path.exists(text) else [text]


def _read_npy(files: list[Path], target: Any) -> Samples:
    if len(files) == 1 and isinstance(target, str | os.PathLike):
        return read([files[0], target])
    if len(files) != 2 or target is not None:
        raise ValueError(f"`path`: got {files[0].name!r}; give the inputs and the outputs, as in 'x.npy,y.npy'")
    X, Y = (_open_array(file, file, mmap_mode="r") for file in files)
    return _named(X, Y)


def _read_npz(file: Path, target: Any) -> Samples:
    if target is not None:
        raise ValueError(
            f"`target`: got {target!r}, but {file.name!r} has no columns; it holds the arrays x and y itself"
        )
    with file.open("rb") as stream:  # opened here: NumPy leaves the file open if it is damaged
        archive = _open_array(file, stream)
        for x, y in (("x", "y"), ("X", "Y")):
            if x in archive and y in archive:
                return _named(*(_member(file, archive, name) for name in (x, y)))
        held = ", ".join(list(archive)[:12]) or "nothing"
    raise ValueError(f"`path`: {file.name!r} holds {held}; it must hold the arrays x (n, d_x) and y (n, d_y)")


def _open_array(file: Path, source: Any, mmap_mode: Any = None) -> Any:
    try:
        opened = np.load(source, mmap_mode=mmap_mode, allow_pickle=False)
    except DAMAGE as error:
        raise ValueError(f"`path`: {file.name!r} cannot be read as NumPy numbers ({first_line(error)})") from None
    if isinstance(opened, np.ndarray) == (file.suffix.lower() == ".npz"):
        opened_as = ".npy" if isinstance(opened, np.ndarray) else ".npz"
        raise ValueError(f"`path`: {file.name!r} is in truth a {opened_as} file; rename it")
    return opened


def _member(file: Path, archive: Any, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except DAMAGE as error:
        raise ValueError(f"`path`: array {name} of {file.name!r} cannot be read ({first_line(error)})") from None
    return array.astype(float) if array.dtype.kind in "biuf" else array


def _named(X: np.ndarray, Y: np.ndarray) -> Samples:
    """Columns without names are counted from 1, as in everything that people read."""
    count = lambda letter, array: tuple(
        f"{letter}{i}" for i in range(1, (array.shape[1] if array.ndim == 2 else 1) + 1)
    )
    return Samples(X, Y, count("x", X), count("y", Y))
