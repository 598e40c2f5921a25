"""Files from which a run goes on, to the last bit as if it had not stopped."""

import hashlib
import io
import json
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from ..network import Network
from .drive import Run

VERSION = f"2, JAX {jax.__version__}"  # raise the number when steps or the state change: JAX's releases round otherwise
SECONDS = 5.0  # between two writes
SHARE = 20  # a write may take one part in this many of the time of a run


class Checkpoint:
    """A file that holds the state of one run: `load` before it, `save` during it.

    Everything in it is a plain array; nothing is unpickled. Raises `ValueError` where the file cannot be written, is
    damaged, holds the run of another question, or was written by a version whose steps differ.
    """

    def __init__(self, path: str | Path, objective: Any, network: Network, settings: dict[str, Any]):
        self.path = Path(path)
        self.partial = self.path.with_name(f".{self.path.name}.partial")
        if not self.path.parent.is_dir():
            raise ValueError(f"`checkpoint`: there is no folder {self.path.parent}; make it first")
        if self.path.is_dir():
            raise ValueError(f"`checkpoint`: {self.path} is a folder; give the name of a file in it")
        question = {"objective": _of_function(objective, network.end_to_end), "network": _of_values(network)}
        self.question = question | {name: _of_values(value) for name, value in settings.items()}
        self.next = time.monotonic() + SECONDS

    def load(self, run: Run) -> None:
        """Takes a run that has just begun to where the file says, if there is one."""
        self.partial.unlink(missing_ok=True)  # of a process that was killed while it wrote
        if not self.path.exists():
            return
        arrays = self._read()
        leaves, structure = jax.tree.flatten(run.progress)
        states = {f"state{i}": leaf for i, leaf in enumerate(leaves)}
        count = arrays["times"].size if "times" in arrays else 0
        shapes = {name: leaf.shape for name, leaf in states.items()} | {"times": (count,), "time_unit": (), "most": ()}
        layers = {f"W{l}": (count, *W.shape) for l, W in enumerate(run.progress.network.weights, start=1)}
        if any(name not in arrays or arrays[name].shape != shape for name, shape in (shapes | layers).items()):
            raise ValueError(self._damaged("arrays are missing or of other shapes"))
        state = [jnp.asarray(arrays[name], dtype=leaf.dtype) for name, leaf in states.items()]
        run.progress = jax.tree.unflatten(structure, state)
        run.time_unit, run.recorder.most = float(arrays["time_unit"]), int(arrays["most"])
        run.recorder.times = arrays["times"].tolist()
        run.recorder.pieces = [[arrays[name] for name in layers]]

    def save(self, run: Run, last: bool) -> None:
        """Writes the run's state: when it ends, and before only as often as costs little."""
        began = time.monotonic()
        if not last and began < self.next:
            return
        arrays = {f"state{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(run.progress))}
        kept = run.recorder.stacked() or [np.zeros((0, *W.shape)) for W in run.progress.network.weights]
        arrays |= {f"W{l}": outputs for l, outputs in enumerate(kept, start=1)}
        arrays |= {
            "version": np.asarray(VERSION),
            "question": np.asarray(json.dumps(self.question)),
            "times": np.array(run.recorder.times, dtype=float),
            "time_unit": np.asarray(run.time_unit),
            "most": np.asarray(run.recorder.most),
        }
        try:
            self._write(arrays)
        except OSError as error:
            warnings.warn(
                f"`checkpoint`: {self.path} could not be written ({error}); the run goes on, the file stays as it was",
                stacklevel=2,
            )
        now = time.monotonic()
        self.next = now + max(SECONDS, SHARE * (now - began))

    def _write(self, arrays: dict[str, np.ndarray]) -> None:
        """All or nothing: whoever looks finds the old file or the new one."""
        try:
            with self.partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.partial, self.path)
        finally:
            self.partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, np.ndarray]:
        """The file's arrays, once they are known to belong to this question."""
        try:
            with np.load(io.BytesIO(self.path.read_bytes()), allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            version = str(arrays["version"])
            question = json.loads(str(arrays["question"])) if version == VERSION else {}
        except Exception as error:  # zipfile, zlib, json and numpy have their own for a damaged file
            raise ValueError(self._damaged(str(error).split("\n")[0] or type(error).__name__)) from error
        if version != VERSION:
            raise ValueError(
                f"`checkpoint`: {self.path} was written by version {version}, whose steps differ from those of "
                f"{VERSION}; finish it there, or delete it to start anew"
            )
        others = [name for name in self.question if question.get(name) != self.question[name]]
        if others:
            raise ValueError(
                f"`checkpoint`: {self.path} holds a run with another {', '.join(f'`{name}`' for name in others)}; "
                "ask the same question to go on, or give another file"
            )
        return arrays

    def _damaged(self, why: str) -> str:
        return f"`checkpoint`: {self.path} is damaged or no checkpoint ({why}); delete it to start anew"


def _of_values(tree: Any) -> str:
    """A hash of what a tree of numbers, arrays and words holds."""
    sha = hashlib.sha256(_without_addresses(str(jax.tree.structure(tree))).encode())
    for leaf in jax.tree.leaves(tree):
        leaf = np.asarray(leaf)
        sha.update(f"{leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes())
    return sha.hexdigest()


def _of_function(objective: Any, W: jax.Array) -> str:
    """A hash of what an objective computes: its program as JAX sees it, and every constant in it."""
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
