"""Datasets on disk: written whole or not at all, verified by a content hash when they are read, never unpickled."""

import hashlib
import json
import math
import os
import platform
import stat
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from . import _memory
from ._dataset import Dataset
from ._files import SYSTEM, atomic_folder, check_name, only_empty, read_plain, set_aside

SEAL = "deeplinear_record"
"""Attribute of the stored group with format, hashes of content and files, order of variables; `load` takes it off."""
FORMAT = 1
PACKAGES = ("deeplinear", "jax", "numpy", "scipy", "xarray", "zarr")
STORABLE = {"bool", "float16", "float32", "float64", "complex64", "complex128"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""Types of numbers that every reader of zarr knows."""
GROUP = "zarr.json"
MOST_METADATA = 2**28
"""Bytes of a zarr.json that is looked at: attributes and hashes take some kilobytes."""
MISMATCH = "its files do not match their hashes"
MOST_PACKED = 2**15
"""Zstandard packs a block of at most 128 KiB into at least 4 bytes (RFC 8878, section 3.1.1.2)."""
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
    with atomic_folder(path, overwrite, foreign) as folder:
        # every chunk is written, so that -0.0 and NaN bits survive and a lost chunk never reads as zeros
        stored.to_zarr(folder, mode="w", consolidated=False, zarr_format=3, write_empty_chunks=True)
        group = json.loads((folder / GROUP).read_text("utf-8"))
        group.setdefault("attributes", {})[SEAL] = seal | _listing(folder)
        (folder / GROUP).write_text(json.dumps(group, indent=2), "utf-8")
        try:
            _loaded(folder, share=math.inf)
        except ValueError:
            raise ValueError(
                "`data`: does not read back as it was written; rename attributes that mean something to zarr or "
                "netCDF, such as 'coordinates', '_FillValue' or 'scale_factor'"
            ) from None
    return Path(path)


def load(path: str | os.PathLike) -> xr.Dataset:
    """The dataset that `save` stored, in memory, equal to the last bit.

    Only plain files inside the record are opened, each read once: what is hashed is what is decoded. Raises
    `ValueError` in one line if nothing is there, if it is no record, if any byte of it has changed, or if it needs more
    memory than there is.

    >>> import tempfile
    >>> data = xr.Dataset({"loss": ("time", [2.0, 1.0])})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(data, f"{folder}/run.zarr")).identical(data)
    True
    """
    given = check_name(path)
    if not os.path.lexists(given):
        aside = set_aside(given)
        hint = f"; a replacement was interrupted, the previous record is {aside[-1]!r}" if aside else ""
        raise ValueError(f"`path`: there is no record {str(path)!r}{hint}")
    return _loaded(Path(path), _memory.SHARE)


def foreign(path: Path) -> str | None:
    """The first entry of a folder that is no file of the record in it; None where `save` wrote all of them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = save(xr.Dataset({"loss": ("time", [2.0, 1.0])}), f"{folder}/run.zarr")
    ...     _ = (record / "notes.txt").write_text("mine")
    ...     foreign(record)
    'notes.txt'
    """
    try:
        known = {*_seal(path)["files"], GROUP}
    except ValueError:
        known = set()
    for folder, folders, files in os.walk(path):
        inside = Path(folder).relative_to(path)
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*files, *links]):
            entry = (inside / name).as_posix()
            plain_file = stat.S_ISREG(os.lstat(path / entry).st_mode)
            if not (plain_file and (entry in known or name in SYSTEM)):
                return entry
    return None


def foreign_to_results(folder: Path, mark: str, record: str, files: Collection[str]) -> str | None:
    """The first entry of a folder of results that is neither its record nor one of `files`; None where there is none.

    A folder without the file `mark` is nobody's results: everything in it is foreign.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("checks.json", "thesis.tex"):
    ...         _ = Path(folder, name).write_text("mine")
    ...     foreign_to_results(Path(folder), "checks.json", "data.zarr", ["checks.json"])
    'thesis.tex'
    """
    names = sorted(os.listdir(folder))
    if mark not in names:
        return only_empty(folder)
    for name in names:
        kind = os.lstat(folder / name).st_mode
        if name == record and stat.S_ISDIR(kind):
            inside = foreign(folder / name)
            if inside is not None:
                return f"{name}/{inside}"
        elif not (name in (*files, *SYSTEM) and stat.S_ISREG(kind)):
            return name
    return None


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


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"`path`: {str(path)!r} is damaged: {why}; restore it or run again")


def _seal(path: Path) -> dict[str, Any]:
    """The seal of a record, its parts checked for their types and its names for where they lead."""
    try:
        group = read_plain(path / GROUP, MOST_METADATA)
    except (OSError, ValueError):
        raise ValueError(
            f"`path`: {str(path)!r} is not a record (a folder with a zarr.json); give one that `save` made"
        ) from None
    try:
        parsed = _parsed(group)
    except ValueError:
        raise _damaged(path, "its zarr.json is not JSON") from None
    try:
        seal = parsed["attributes"][SEAL]
        if seal["format"] != FORMAT:
            raise ValueError(
                f"`path`: {str(path)!r} has record format {_short(seal['format'])}, but this version reads {FORMAT}; "
                "update deeplinear"
            )
        files, sizes, order, digest = seal["files"], seal.get("bytes"), seal["order"], seal["sha256"]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            f"`path`: {str(path)!r} has no content hash; open other zarr folders with xarray.open_zarr"
        ) from None
    texts = isinstance(order, list) and all(isinstance(name, str) for name in [digest, *order])
    if not (texts and isinstance(files, dict) and (sizes is None or isinstance(sizes, dict))):
        raise _damaged(path, "its list of hashes is none")
    unlisted = [name for name in order if f"{name}/{GROUP}" not in files]
    if unlisted:
        raise _damaged(path, f"it has no hash of {_short(unlisted[0])}")
    inside = lambda name: not ({*name.split("/")} & {"", ".", ".."} or {*name} & {*"\\:\0"})
    outside = [name for name in files if not inside(name)]
    if outside:
        raise _damaged(path, f"it names a file that is not inside it, {_short(outside[0])}")
    return {"sha256": digest, "order": order, "files": files, "bytes": sizes, "group": group}


def _loaded(path: Path, share: float) -> xr.Dataset:
    """The dataset of a record that takes at most `share` of the memory there is."""
    seal = _seal(path)
    files = _contents(path, seal, share)
    try:
        needed = sum(_declared_bytes(name, files) for name in seal["order"])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RuntimeError, MemoryError):
        raise _damaged(path, "its arrays are not as large as they say") from None
    _memory.check("path", f"the record {str(path)!r}", needed, "load it where there is more", share)
    try:
        data = _read(files)
        data.attrs.pop(SEAL, None)
        found = content_hash(data)
    except Exception as error:  # only zarr.json can still be wrong, but zarr has dozens of ways to say so
        raise _damaged(path, " ".join(str(error).split())[:200]) from None
    order = seal["order"]
    if found != seal["sha256"] or sorted(order) != sorted(map(str, data.variables)):
        raise _damaged(path, "its content does not match its hash")
    variables = {name: data.variables[name] for name in order}  # a folder knows no order of its own
    coords = {name: variable for name, variable in variables.items() if name in data.coords}
    return Dataset({name: variables[name] for name in order if name not in coords}, coords, data.attrs)


def _contents(path: Path, seal: dict[str, Any], share: float) -> dict[str, bytes]:
    """The bytes of all files that the seal lists, read once and held against their hashes."""
    root = os.path.realpath(path)
    sizes = {}
    for name in seal["files"]:
        try:
            if os.path.realpath(path / name) != os.path.join(root, *name.split("/")):
                raise _damaged(path, f"its {_short(name)} is a link")
            sizes[name] = os.stat(path / name).st_size
        except (OSError, UnicodeError):
            sizes[name] = -1
    if seal["bytes"] is not None and sizes != seal["bytes"]:
        raise _damaged(path, MISMATCH)
    _memory.check("path", f"the record {str(path)!r}", sum(sizes.values()), "load it where there is more", share)
    files = {GROUP: seal["group"]}
    for name, digest in seal["files"].items():
        try:
            files[name] = read_plain(path / name, sizes[name])
        except (OSError, ValueError):
            raise _damaged(path, MISMATCH) from None
        # before zarr sees it: a flipped bit in compressed text can make its decoder ask for gigabytes
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise _damaged(path, MISMATCH)
    return files


def _declared_bytes(name: str, files: dict[str, bytes]) -> int:
    """Memory that an array will take, by what its zarr.json says, if its chunks can hold that much."""
    array = _parsed(files[f"{name}/{GROUP}"])
    shape, chunk = array["shape"], array["chunk_grid"]["configuration"]["chunk_shape"]
    if not all(type(n) is int and n >= low for axis, low in ((shape, 0), (chunk, 1)) for n in axis):
        raise ValueError("sizes are no numbers")
    kind = array["data_type"]
    stored, held = (np.dtype(kind).itemsize,) * 2 if kind in STORABLE else (4, TEXT.itemsize)
    contents = [content for file, content in files.items() if file.startswith(f"{name}/c")]
    chunks = [len(content) for content in contents]
    count = math.prod(-(-n // size) for n, size in zip(shape, chunk, strict=True))
    if count != len(chunks) or math.prod(chunk) * stored > MOST_PACKED * min(chunks, default=math.inf):
        raise ValueError("chunks are missing, or too short for what they are said to hold")
    if kind not in STORABLE and any(_texts_in(content, array["codecs"]) != math.prod(chunk) for content in contents):
        raise ValueError("texts are more or fewer than said")  # the decoder believes the chunk and asks for that many
    return held * max(math.prod(shape), math.prod(chunk) if count else 0)


def _texts_in(content: bytes, codecs: Any) -> int:
    """How many texts a chunk says that it holds, in its first four bytes."""
    if [codec["name"] for codec in codecs] != ["vlen-utf8", "zstd"]:
        raise ValueError("texts are coded in another way")
    from numcodecs.zstd import decompress

    return int.from_bytes(bytes(decompress(content)[:4]), "little")


def _parsed(text: bytes) -> Any:
    """JSON; `ValueError` for anything else, whatever is wrong with it."""
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listing(folder: Path) -> dict[str, Any]:
    """SHA-256 and size of every file except the group's own zarr.json, which holds them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / GROUP)
    contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return {"files": hashes, "bytes": {name: len(content) for name, content in contents.items()}}


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
        if variable.dtype.kind in "UT":
            try:
                "".join(variable.values.ravel().tolist()).encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"`data`: variable {name!r} has text that is no UTF-8 ({error.reason})") from None
    stored = _with_text(data, "U", TEXT).drop_encoding()
    for name, variable in stored.variables.items():
        variable.attrs = plain(variable.attrs, f"{name}.attrs")
        variable.encoding = {"_FillValue": None}
    stored.attrs = {key: value for key, value in plain(data.attrs).items() if key != SEAL}
    return stored


def _read(files: dict[str, bytes]) -> xr.Dataset:
    """The dataset in the files of a zarr group; nothing but these bytes is looked at."""
    from zarr.core.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    store = MemoryStore({name: Buffer.from_bytes(content) for name, content in files.items()}, read_only=True)
    # raw values: no masking, no dates made of units, no dask
    with xr.open_zarr(
        store, consolidated=False, chunks=None, decode_times=False, decode_timedelta=False, mask_and_scale=False
    ) as stored:
        return _with_text(stored.load(), "T", np.str_).drop_encoding()


def _with_text(data: xr.Dataset, kind: str, dtype: Any) -> xr.Dataset:
    """A copy of `data` whose text variables of one numpy kind have the other type of text."""
    texts = {name: variable for name, variable in data.variables.items() if variable.dtype.kind == kind}
    convert = lambda text: np.array(text.values.tolist(), dtype).reshape(text.shape)
    changed = {name: (text.dims, convert(text), text.attrs) for name, text in texts.items()}
    coords = {name: value for name, value in changed.items() if name in data.coords}
    return data.copy().assign_coords(coords).assign({name: changed[name] for name in changed if name not in coords})
