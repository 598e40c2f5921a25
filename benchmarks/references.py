"""Reference solutions: stored end-to-end matrices, or random projections of them where they are large.

`references/<problem>.npz` holds `norms` (member, time), the Frobenius norms of W, and either `W` (member, time, d_y,
d_x) or `projections` (member, time, 128): W's entries times fixed standard normal directions G. For a difference D
that does not know the directions, |D G|^2 / 128 estimates |D|^2; the norm has a relative deviation of 6 %. Of the
ensemble P7 the first 50 members are stored. `python -m benchmarks.make_references` computes them again.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .problems import Problem

FOLDER = Path(__file__).parent / "references"
DIRECTIONS = 128
LARGEST_STORED = 100  # entries of W up to which the matrices themselves are stored
MEMBERS_STORED = 50


@cache
def directions(entries: int) -> np.ndarray:
    """The fixed normal directions, shape (entries, 128)."""
    return np.random.default_rng(2).standard_normal((entries, DIRECTIONS))


def end_to_end(stacks: list[np.ndarray]) -> np.ndarray:
    """W_h ... W_1 of layers with leading axes, outputs first because they are the thin side."""
    W = stacks[-1]
    for layer in stacks[-2::-1]:
        W = W @ layer
    return W


def project(W: np.ndarray) -> np.ndarray:
    """(..., d_y, d_x) -> (..., 128)."""
    return W.reshape(*W.shape[:-2], -1) @ directions(W.shape[-2] * W.shape[-1])


@dataclass(frozen=True)
class Reference:
    """What is stored of one problem; `values` are matrices or projections."""

    values: np.ndarray
    norms: np.ndarray
    projected: bool

    def error(self, W: np.ndarray) -> float:
        """Largest relative Frobenius error of W (member, time, d_y, d_x) over members and times; inf if not finite."""
        count = min(len(W), len(self.norms))
        if not np.isfinite(W).all():
            return float("inf")
        if self.projected:
            size = np.linalg.norm(project(W[:count]) - self.values[:count], axis=-1) / np.sqrt(DIRECTIONS)
        else:
            size = np.linalg.norm(W[:count] - self.values[:count], axis=(-2, -1))
        return float((size / self.norms[:count]).max())

    def save(self, name: str) -> Path:
        """Writes `references/<name>.npz`."""
        path = FOLDER / f"{name}.npz"
        np.savez_compressed(path, norms=self.norms, **{"projections" if self.projected else "W": self.values})
        return path


def reference_of(W: np.ndarray) -> Reference:
    """What to store of (member, time, d_y, d_x)."""
    projected = W.shape[-2] * W.shape[-1] > LARGEST_STORED
    return Reference(project(W) if projected else W, np.linalg.norm(W, axis=(-2, -1)), projected)


@cache
def load(name: str) -> Reference:
    """The stored reference of a problem; raises `ValueError` where there is none."""
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        raise ValueError(f"`problem`: {name} has no stored reference; run python -m benchmarks.make_references {name}")
    with np.load(path, allow_pickle=False) as arrays:
        projected = "projections" in arrays
        return Reference(arrays["projections" if projected else "W"], arrays["norms"], projected)


def error_of(problem: Problem, members: list[list[np.ndarray]]) -> float:
    """Trajectory error of the layers (time, d_l, d_{l-1}) of every member."""
    reference = load(problem.name)
    kept = members[: len(reference.norms)]
    return reference.error(np.stack([end_to_end(stacks) for stacks in kept]))
