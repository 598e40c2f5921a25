"""Datasets on disk: written whole or not at all, verified by a content hash when they are read, never unpickled."""

import hashlib
import json
import math
import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

SEAL = "deeplinear_record"
"""Attribute of the stored group with format, hashes of content and files, order of variables; `load` takes it off."""
FORMAT = 1
PACKAGES = ("deeplinear", "jax", "numpy", "scipy", "xarray", "zarr")
STORABLE = {"bool", "float16", "float32", "float64", "complex64", "complex128"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""Types of numbers that every reader of zarr knows."""
TEXT = np.dtypes.StringDType()
"""zarr 3 has a specification for text of variable length alone; fixed-width text is turned into it and back."""


def save(data: xr.Dataset, path: str | os.PathLike, overwrite: bool = False) -> Path:
    """Store a dataset as a zarr folder, atomically: afterwards `path` is the complete record, or it is as it was.

    Numbers (bool to complex128) and text keep every bit; attributes go through `plain`. Before the folder gets its name
    it is read back against its content hash and synced to the disk. `xarray.open_zarr(path, consolidated=False)` opens
    it too.

    Raises `ValueError` if `path` exists and `overwrite` is False, if it would replace something that is not a zarr
    folder, or if the dataset holds what cannot be stored (Python objects, dates, extended precision); `OSError` if the
    disk refuses.

    >>> import tempfile
    >>> data = xr.Dataset({"loss": ("time", [1.0, 0.5])}, {"time": [0.0, 1.0]}, {"widths": (4, 7)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(data, f"{folder}/run.zarr")).attrs
    {'widths': [4, 7]}
    """
    stored = _storable(data)
    seal = {"format": FORMAT, "sha256": content_hash(stored), "order": list(data.variables)}
    with atomic_folder(path, overwrite, known_by="zarr.json") as folder:
        # every chunk is written, so that -0.0 and NaN bits survive and a lost chunk never reads as zeros
        stored.to_zarr(folder, mode="w", consolidated=False, zarr_format=3, write_empty_chunks=True)
        group = json.loads((folder / "zarr.json").read_text("utf-8"))
        group.setdefault("attributes", {})[SEAL] = seal | {"files": _file_hashes(folder)}
        (folder / "zarr.json").write_text(json.dumps(group, indent=2), "utf-8")
        if content_hash(_read(folder)) != seal["sha256"]:
            raise ValueError(
                "`data`: does not read back as it was written; rename attributes that mean something to zarr or "
                "netCDF, such as 'coordinates', '_FillValue' or 'scale_factor'"
            )
    return Path(path)


def load(path: str | os.PathLike) -> xr.Dataset:
    """The dataset that `save` stored, in memory, equal to the last bit.

    Raises `ValueError` in one line if nothing is there, if it is no record, or if any byte of it has changed.

    >>> import tempfile
    >>> data = xr.Dataset({"loss": ("time", [2.0, 1.0])})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(data, f"{folder}/run.zarr")).identical(data)
    True
    """
    path = Path(path)
    if not os.path.lexists(path):
        aside = sorted(path.parent.glob(f".{path.name}.*.old"))
        hint = f"; a replacement was interrupted, the previous record is {str(aside[-1])!r}" if aside else ""
        raise ValueError(f"`path`: there is no record {str(path)!r}{hint}")
    if not (path / "zarr.json").is_file():
        raise ValueError(
            f"`path`: {str(path)!r} is not a record (a folder with a zarr.json); give one that `save` made"
        )
    seal = _seal(path)
    # before zarr sees them: a flipped bit in compressed text can make its decoder ask for gigabytes
    if any(_file_hash(path / name) != digest for name, digest in seal["files"].items()):
        raise _damaged(path, "its files do not match their hashes")
    try:
        data = _read(path)
    except Exception as error:  # only zarr.json can still be wrong, but zarr has dozens of ways to say so
        raise _damaged(path, " ".join(str(error).split())[:200]) from None
    data.attrs.pop(SEAL, None)
    order = seal["order"]
    if content_hash(data) != seal["sha256"] or {*order} != {*data.variables}:
        raise _damaged(path, "its content does not match its hash")
    variables = {name: data.variables[name] for name in order}  # a folder knows no order of its own
    coords = {name: variable for name, variable in variables.items() if name in data.coords}
    return xr.Dataset({name: variables[name] for name in order if name not in coords}, coords, data.attrs)


def content_hash(data: xr.Dataset) -> str:
    """SHA-256 (64 hex digits) of names, dimensions, types, values and attributes, whatever the order of variables.

    Independent of chunks, compression, byte order and machine; NaNs of different bits differ, as do 0.0 and -0.0.

    >>> content_hash(xr.Dataset({"s": ("mode", [2.0, 1.0])}))[:12]
    '8be2cb6c5e1b'
    """
    digest = hashlib.sha256()
    attrs = {key: value for key, value in data.attrs.items() if key != SEAL}
    digest.update(_canonical(["dataset", plain(attrs)]))
    for name in sorted(data.variables, key=str):
        variable = data.variables[name]
        text = variable.dtype.kind in "UT"
        head = [name, name in data.coords, variable.dims, variable.shape, "text" if text else variable.dtype.name]
        digest.update(_canonical([*head, plain(variable.attrs, f"{name}.attrs")]))
        if text:
            digest.update(_canonical(variable.values.astype(object).tolist()))
        else:
            little = variable.dtype.newbyteorder("<")
            digest.update(np.ascontiguousarray(variable.values, dtype=little).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def plain(value: Any, name: str = "attrs") -> Any:
    """`value` as JSON knows it: numpy scalars and arrays become numbers and lists, tuples lists, paths text.

    JSON has no NaN and no infinity: such numbers become None. (Arrays of a dataset keep theirs.) Raises `ValueError`
    for keys that are not text and for objects of any other type; `name` is where they were found.

    >>> plain({"widths": (4, np.int64(7)), "time": float("inf")})
    {'widths': [4, 7], 'time': None}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"`{name}`: has the key {key!r}; keys of attributes must be text")
        return {str(key): plain(entry, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, f"{name}[{i}]") for i, entry in enumerate(value)]
    if isinstance(value, os.PathLike):
        return str(value)
    raise ValueError(f"`{name}`: is of type {type(value).__name__}; use text, numbers, lists and dicts")


def provenance() -> dict[str, str]:
    """Versions of Python and of the packages that a number may depend on, read without importing any of them.

    >>> sorted(provenance())
    ['deeplinear', 'jax', 'numpy', 'python', 'scipy', 'xarray', 'zarr']
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


@contextmanager
def atomic_folder(path: str | os.PathLike, overwrite: bool = False, known_by: str | None = None) -> Iterator[Path]:
    """A new folder beside `path` to write into; it becomes `path` when the block ends and vanishes if it raises.

    Everything in it is synced to the disk before the rename. With `overwrite` whatever was at `path` steps aside first
    and comes back if the rename fails; with `known_by` only a folder that holds an entry of that name may be replaced.
    A process killed inside the block leaves `path` untouched and a hidden `.NAME.*.partial` that nothing reads.

    Raises `ValueError` if `path` exists without `overwrite`, lacks the entry `known_by` or holds the working directory.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_folder(f"{parent}/out") as folder:
    ...         _ = (folder / "run.json").write_text("{}")
    ...     [str(file.relative_to(parent).as_posix()) for file in Path(parent).rglob("*.json")]
    ['out/run.json']
    """
    path = Path(os.path.abspath(path))
    check_free(path, overwrite, known_by)
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:12]
    partial = path.with_name(f".{path.name}.{token}.partial")
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        check_free(path, overwrite, known_by)  # once more: another process may have been faster
        _put_in_place(partial, path, aside=path.with_name(f".{path.name}.{token}.old"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(path: Path, overwrite: bool, known_by: str | None = None) -> None:
    """Raise `ValueError` unless `atomic_folder` may write to `path`.

    >>> check_free(Path("a/folder/that/is/not/there"), overwrite=False)
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ValueError(f"`path`: {str(path)!r} exists already; choose another path or allow to overwrite it")
    if path in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"`path`: {str(path)!r} is or holds the working directory; choose another path")
    if known_by is not None and not (path / known_by).exists():
        raise ValueError(f"`path`: {str(path)!r} has no {known_by} inside, so it is not replaced; choose another path")


def _put_in_place(partial: Path, path: Path, aside: Path) -> None:
    replaces = os.path.lexists(path)
    if replaces:
        os.rename(path, aside)
    try:
        os.rename(partial, path)
    except BaseException:
        if replaces:
            os.rename(aside, path)
        raise
    _sync_entry(path.parent)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for file in files:
            _sync_entry(Path(parent, file))
        _sync_entry(Path(parent))


def _sync_entry(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"`path`: {str(path)!r} is damaged: {why}; restore it or run again")


def _seal(path: Path) -> dict[str, Any]:
    try:
        seal = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"][SEAL]
        if seal["format"] != FORMAT:
            raise ValueError(
                f"`path`: {str(path)!r} has record format {seal['format']!r}, but this version reads {FORMAT}; "
                "update deeplinear"
            )
        return {"sha256": str(seal["sha256"]), "order": [*map(str, seal["order"])], "files": dict(seal["files"])}
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _damaged(path, "its zarr.json is not JSON") from None
    except (KeyError, TypeError):
        raise ValueError(
            f"`path`: {str(path)!r} has no content hash; open other zarr folders with xarray.open_zarr"
        ) from None


def _file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file except the group's own zarr.json, which holds them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / "zarr.json")
    return {file.relative_to(folder).as_posix(): _file_hash(file) for file in files}


def _file_hash(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "missing"


def _storable(data: xr.Dataset) -> xr.Dataset:
    """`data` with plain attributes, text of variable length and no memory of how an earlier file was encoded."""
    for name, variable in data.variables.items():
        if not isinstance(name, str) or not name or name.startswith((".", "__")) or set(name) & set("/\\\0"):
            raise ValueError(f"`data`: has a variable named {name!r}; use plain text without slashes or a leading dot")
        if variable.dtype.kind not in "UT" and variable.dtype.name not in STORABLE:
            raise ValueError(
                f"`data`: variable {name!r} has type {variable.dtype}; convert it to text or to numbers of at most "
                "64 bits per part"
            )
    stored = _with_text(data, "U", TEXT).drop_encoding()
    for name, variable in stored.variables.items():
        variable.attrs = plain(variable.attrs, f"{name}.attrs")
        variable.encoding = {"_FillValue": None}
    stored.attrs = {key: value for key, value in plain(data.attrs).items() if key != SEAL}
    return stored


def _read(folder: Path) -> xr.Dataset:
    # raw values: no masking, no dates made of units, no dask
    with xr.open_zarr(
        folder, consolidated=False, chunks=None, decode_times=False, decode_timedelta=False, mask_and_scale=False
    ) as stored:
        return _with_text(stored.load(), "T", np.str_).drop_encoding()


def _with_text(data: xr.Dataset, kind: str, dtype: Any) -> xr.Dataset:
    """A copy of `data` whose text variables of one numpy kind have the other type of text."""
    texts = {name: variable for name, variable in data.variables.items() if variable.dtype.kind == kind}
    convert = lambda text: np.array(text.values.tolist(), dtype).reshape(text.shape)
    changed = {name: (text.dims, convert(text), text.attrs) for name, text in texts.items()}
    coords = {name: value for name, value in changed.items() if name in data.coords}
    return data.copy().assign_coords(coords).assign({name: changed[name] for name in changed if name not in coords})
