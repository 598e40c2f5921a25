"""Files from which a run goes on, to the last bit as if it had not stopped."""

import hashlib
import io
import json
import math
import os
import re
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from .._files import atomic_file, check_name, forget_partial, read_plain
from ..network import Network
from ..objectives import SquaredError
from .recorder import Recorder

SECONDS = 5.0  # between two writes
SHARE = 20  # a write may take one part in this many of the time of a run


MOST = 2**40
"""Bytes up to which a file is looked at: one of a terabyte was not written here."""


@runtime_checkable
class Resumable(Protocol):
    """What a run offers to be kept in a file."""

    recorder: Recorder

    @property
    def version(self) -> str:
        """What decides how its steps are rounded."""
        ...

    @property
    def network(self) -> Network: ...
    def state(self) -> dict[str, np.ndarray]:
        """From what it goes on, to the last bit, beside what was recorded."""
        ...

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes it to such a state; `ValueError` where that is of another run."""
        ...


class Checkpoint:
    """A file that holds the state of one run: `load` before it, `save` during it.

    Everything in it is a plain array under a common hash; nothing is unpickled, and nothing but a plain file is opened.
    Raises `ValueError` where the file cannot be written, is damaged, holds the run of another question, or was written
    by a version whose steps differ.
    """

    def __init__(self, path: str | Path, objective: Any, network: Network, settings: dict[str, Any]):
        check_name(path, "checkpoint")
        self.path = Path(path)
        if not os.path.isdir(self.path.parent):  # which is False for names that no system takes
            raise ValueError(f"`checkpoint`: there is no folder {self.path.parent}; make it first")
        if os.path.isdir(self.path):
            raise ValueError(f"`checkpoint`: {self.path} is a folder; give the name of a file in it")
        question = {"objective": _of_function(objective, network.end_to_end), "network": _of_values(network)}
        self.question = question | {name: _of_values(value) for name, value in settings.items()}
        self.next = time.monotonic() + SECONDS

    def load(self, run: Resumable) -> None:
        """Takes a run that has just begun to where the file says, if there is one."""
        forget_partial(self.path)
        if not os.path.lexists(self.path):
            self._try()
            return
        arrays = self._read(run.version)
        states = run.state()
        count = arrays["times"].size if "times" in arrays else 0
        shapes = {name: array.shape for name, array in states.items()} | {"times": (count,), "most": ()}
        layers = {f"W{l}": (count, *W.shape) for l, W in enumerate(run.network.weights, start=1)}
        kinds = {name: array.dtype for name, array in states.items()} | {"most": np.dtype(np.int64)}
        expected = {name: (shape, kinds.get(name, np.dtype(float))) for name, shape in (shapes | layers).items()}
        if any(
            name not in arrays or (arrays[name].shape, arrays[name].dtype) != what for name, what in expected.items()
        ):
            raise ValueError(self._damaged("arrays are missing or of other shapes"))
        try:
            run.restore({name: arrays[name] for name in states})
        except ValueError as error:
            raise ValueError(self._damaged(str(error))) from None
        run.recorder.most = int(arrays["most"])
        run.recorder.times = arrays["times"].tolist()
        run.recorder.pieces = [[arrays[name] for name in layers]]

    def save(self, run: Resumable, last: bool) -> None:
        """Writes the run's state: when it ends, and before only as often as costs little."""
        began = time.monotonic()
        if not last and began < self.next:
            return
        arrays = run.state()
        kept = run.recorder.stacked() or [np.zeros((0, *W.shape)) for W in run.network.weights]
        arrays |= {f"W{l}": outputs for l, outputs in enumerate(kept, start=1)}
        arrays |= {
            "question": np.asarray(json.dumps(self.question)),
            "times": np.array(run.recorder.times, dtype=float),
            "most": np.asarray(run.recorder.most, dtype=np.int64),
        }
        try:
            self._write(arrays, run.version)
        except OSError as error:
            warnings.warn(
                f"`checkpoint`: {self.path} could not be written ({error}); the run goes on, the file stays as it was",
                stacklevel=2,
            )
        now = time.monotonic()
        self.next = now + max(SECONDS, SHARE * (now - began))

    def _try(self) -> None:
        """Refuses before the run what could not be written during it."""
        try:
            with self.path.open("xb"):
                pass
            self.path.unlink()
        except OSError as error:
            raise ValueError(
                f"`checkpoint`: {self.path} cannot be written ({error.strerror}); give another file"
            ) from None

    def _write(self, arrays: dict[str, np.ndarray], version: str) -> None:
        """All or nothing: whoever looks finds the old file or the new one."""
        seal = {"version": np.asarray(version), "sha256": np.asarray(_of_arrays(arrays))}
        with atomic_file(self.path, "checkpoint") as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays, **seal)

    def _read(self, own: str) -> dict[str, np.ndarray]:
        """The file's arrays, once they are known to be whole, of this version, and to belong to this question."""
        try:
            arrays = _plain_arrays(read_plain(self.path, MOST))
            version, digest = str(arrays.pop("version")), str(arrays.pop("sha256", None))
            question, alike = {}, version.partition(",")[0] == own.partition(",")[0]
            if alike:
                if _of_arrays(arrays) != digest:
                    raise ValueError("its content does not match its hash")
                question = dict(json.loads(str(arrays["question"])))
        except Exception as error:  # zipfile, json and numpy have their own for a damaged file
            raise ValueError(self._damaged(ascii(str(error))[1:-1][:200] or type(error).__name__)) from error
        others = [name for name in self.question if alike and question.get(name) != self.question[name]]
        if others:
            raise ValueError(
                f"`checkpoint`: {self.path} holds a run with another {', '.join(f'`{name}`' for name in others)}; "
                "ask the same question to go on, or give another file"
            )
        if version != own:
            raise ValueError(
                f"`checkpoint`: {self.path} was written by version {ascii(version)[1:60].rstrip(chr(39))}, whose steps "
                f"differ from those of {own}; finish it there, or delete it to start anew"
            )
        return arrays

    def _damaged(self, why: str) -> str:
        return f"`checkpoint`: {self.path} is damaged or no checkpoint ({why}); delete it to start anew"


def _plain_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file as `numpy.savez` writes it: not compressed, so that no member is larger than the file.

    Raises `ValueError`, or what zipfile and numpy have for damaged files; no more memory is asked for than `content`
    has bytes.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                raise ValueError(f"its member {member.filename!r} is compressed, or larger than the file")
            stream = io.BytesIO(archive.read(member))
            major, _ = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, in_columns, dtype = read_header(stream)
            data = stream.read()
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
                raise ValueError(f"its member {member.filename!r} holds objects, or less than it says")
            flat = np.frombuffer(data, dtype)
            arrays[member.filename.removesuffix(".npy")] = flat.reshape(shape, order="F" if in_columns else "C")
    return arrays


def _of_arrays(arrays: dict[str, np.ndarray]) -> str:
    """A hash of names, types, shapes and values."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        sha.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape} ".encode())
        sha.update(np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


def _of_values(tree: Any) -> str:
    """A hash of what a tree of numbers, arrays and words holds."""
    sha = hashlib.sha256(_without_addresses(str(jax.tree.structure(tree))).encode())
    for leaf in jax.tree.leaves(tree):
        leaf = np.asarray(leaf)
        sha.update(f"{leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes())
    return sha.hexdigest()


def _of_function(objective: Any, W: Any) -> str:
    """A hash of what an objective computes: its program as JAX sees it, and every constant in it."""
    if isinstance(objective, SquaredError):  # its arrays are all of it
        return _of_values(objective)
    import equinox as eqx

    arrays, rest = eqx.partition(objective, eqx.is_array)
    program = jax.make_jaxpr(lambda arrays, W: eqx.combine(arrays, rest)(W))(arrays, W)
    return _of_values((_without_addresses(str(program)), arrays, list(_constants(program))))


def _constants(program: ClosedJaxpr) -> Iterator[Any]:
    """The arrays that a program and those it calls have closed over."""
    yield from program.consts
    for equation in program.jaxpr.eqns:
        inside = jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, ClosedJaxpr))
        for part in inside:
            if isinstance(part, ClosedJaxpr):
                yield from _constants(part)


def _without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "", text)
