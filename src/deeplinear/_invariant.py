"""Least subspaces that a set of matrices and their transposes map into each other, decided at rounding level."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROUNDING = 8 * float(np.finfo(float).eps)
"""A direction is new where it stands out of the rounding of the product that it came from by this factor of a bound."""
WELL_CONDITIONED = 0.5
"""Unit columns with a Gram matrix above this are made orthonormal through it alone, to a few units of rounding."""
TINY = 1e-140
"""What is smaller counts as zero: its square is not a normal number."""
MAX_SWEEPS = 32
"""Passes before the least subspaces are no longer sought but bounded by the spans of all images."""


class Edge(NamedTuple):
    """A matrix from the space of node `below` to that of node `above`; its parts below `noise` count as zero."""

    below: int
    above: int
    matrix: np.ndarray
    noise: float


def invariant_spans(
    edges: list[Edge], bases: list[np.ndarray], floors: list[int], too_large: Callable[[list[int]], bool]
) -> list[np.ndarray] | None:
    """Orthonormal bases of the least subspaces over `bases` that edges and their transposes map into each other.

    Every dimension is raised to at least that of `floors`. None as soon as the dimensions are too large to be of use.
    """
    fresh = bases
    for _ in range(MAX_SWEEPS):
        dimensions = [P.shape[1] for P in bases]
        if too_large(dimensions):
            return None
        if any(F.shape[1] for F in fresh):
            bases = list(bases)
            for edge in edges:
                bases[edge.above] = _with_image(bases[edge.above], edge.matrix, fresh[edge.below], edge.noise)
                bases[edge.below] = _with_image(bases[edge.below], edge.matrix.T, fresh[edge.above], edge.noise)
        elif any(d < floor for d, floor in zip(dimensions, floors, strict=True)):
            bases = [_filled(P, floor) for P, floor in zip(bases, floors, strict=True)]
        else:
            return bases
        fresh = [P[:, d:] for P, d in zip(bases, dimensions, strict=True)]
    spans = [_image_span(edges, node, len(P), floor) for node, (P, floor) in enumerate(zip(bases, floors, strict=True))]
    return None if too_large([P.shape[1] for P in spans]) else spans


def _image_span(edges: list[Edge], node: int, size: int, floor: int) -> np.ndarray:
    """Basis of all that edges send to a node, where that is less than the whole by their mere number of columns.

    Larger than need be, but invariant, whatever the other nodes keep, and found in one pass.
    """
    images = [(edge.matrix, edge.noise) for edge in edges if edge.above == node]
    images += [(edge.matrix.T, edge.noise) for edge in edges if edge.below == node]
    if sum(M.shape[1] for M, _ in images) >= size or floor >= size:
        return np.eye(size)
    P = np.zeros((size, 0))
    for M, noise in images:
        P = _with_image(P, M, np.eye(M.shape[1]), noise)
    return _filled(P, floor)


def _with_image(P: np.ndarray, M: np.ndarray, F: np.ndarray, noise: float) -> np.ndarray:
    """`P` extended by the columns of M F."""
    if not F.shape[1] or P.shape[1] == len(P):
        return P
    return extended(P, M @ F, np.maximum(ROUNDING * (_lengths(M) @ np.abs(F)), noise))


def extended(P: np.ndarray, Y: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns of `P` (orthonormal) and of `Y`, whose column i is known to `noise[i]`.

    Every column is measured in units of its own noise, so a faint direction is not lost beside a strong one.
    """
    for start in range(0, Y.shape[1], len(P)):  # never more columns than rows
        k = P.shape[1]
        if k == len(P):
            break
        block, unit = Y[:, start : start + len(P)], np.maximum(noise[start : start + len(P)], TINY)
        length = _lengths(block)
        inside = P.T @ block
        block = block - P @ inside if k else block
        unit = unit + ROUNDING * k**0.5 * _lengths(inside)
        rest = _lengths(block)
        kept = rest > unit
        if kept.any():
            if not kept.all():  # a copy that takes its time for tall blocks
                block, length, unit, rest = block[:, kept], length[kept], unit[kept], rest[kept]
            clear = (rest > WELL_CONDITIONED * length).all() and (unit < 0.01 * rest).all()
            Q = _gram_frame(block / rest) if clear else None
            P = np.hstack([P, _pivoted_frame(P, block / unit) if Q is None else Q])
    return P


def _gram_frame(Y: np.ndarray) -> np.ndarray | None:
    """Orthonormal basis of unit columns; None where they are nearly dependent. Far faster than QR of tall matrices."""
    squares, V = np.linalg.eigh(Y.T @ Y)
    return Y @ ((V / np.sqrt(squares)) @ V.T) if squares[0] > WELL_CONDITIONED else None


def _pivoted_frame(P: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Orthonormal basis, orthogonal to `P`, of the directions of Y beyond noise, which is 1 in every column."""
    from scipy.linalg import qr  # a quarter of a second that most networks need not wait

    Q, R = np.linalg.qr(Y)
    pivoted: Any = qr(R, pivoting=True)  # rotation, R, order; cheap, for R is small
    Q = Q @ pivoted[0][:, np.abs(np.diagonal(pivoted[1])) > 1]
    return np.linalg.qr(Q - P @ (P.T @ Q))[0] if P.shape[1] else Q


def _filled(P: np.ndarray, floor: int) -> np.ndarray:
    """`P` with at least `floor` columns: the coordinates that it touches least are added."""
    k = P.shape[1]
    if k >= floor:
        return P
    # `floor` coordinates always hold floor - k directions outside the k of P
    chosen = np.argsort(np.linalg.norm(P, axis=1), kind="stable")[:floor]
    E = np.zeros((len(P), floor))
    E[chosen, np.arange(floor)] = 1.0
    return extended(P, E, np.full(floor, ROUNDING))[:, :floor]


def _lengths(M: np.ndarray) -> np.ndarray:
    """Norms of the columns."""
    return np.sqrt(np.einsum("ij,ij->j", M, M))
