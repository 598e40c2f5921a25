"""Blocks Z of critical points beyond the canonical one: the ways in which their products vanish."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from .target import Target

Generator = Callable[[np.random.Generator, Target, Sequence[int], tuple[int, ...]], list[np.ndarray]]


def block_shapes(target: Target, widths: Sequence[int], r: int) -> list[tuple[int, int]]:
    """Shapes of Z_1 .. Z_h as in the survey's (33): Z_1 has a column for every input that the loss sees.

    >>> from deeplinear import SquaredError
    >>> block_shapes(Target.of(SquaredError.from_singular_values([3.0, 2.0], 2, 2)), (2, 4, 2), 1)
    [(3, 2), (1, 3)]
    """
    inner = [d - r for d in widths[1:]]
    return list(zip(inner, [target.d_x, *inner[:-1]], strict=True))


def orthogonal_matrix(rng: np.random.Generator, size: int) -> np.ndarray:
    """Haar-distributed orthogonal matrix; QR alone is not Haar."""
    Q, R = np.linalg.qr(rng.standard_normal((size, size)))
    return Q * np.where(np.diagonal(R) < 0, -1.0, 1.0)


def _with_zeros(count: int) -> Generator:
    """`count` random blocks zero (None: all of them), the others normal with variance 1 / columns."""

    def blocks(
        rng: np.random.Generator, target: Target, widths: Sequence[int], signature: tuple[int, ...]
    ) -> list[np.ndarray]:
        shapes = block_shapes(target, widths, len(signature))
        drawn = [rng.standard_normal(shape) / max(shape[1], 1) ** 0.5 for shape in shapes]
        for k in rng.choice(len(shapes), min(count, len(shapes)), replace=False):
            drawn[k] = np.zeros(shapes[k])
        drawn[0][:, [k - 1 for k in signature]] = 0.0  # a change of basis away from it
        return drawn

    return blocks


def _canonical(
    rng: np.random.Generator, target: Target, widths: Sequence[int], signature: tuple[int, ...]
) -> list[np.ndarray]:
    """All blocks zero."""
    return [np.zeros(shape) for shape in block_shapes(target, widths, len(signature))]


def _cyclic(
    rng: np.random.Generator, target: Target, widths: Sequence[int], signature: tuple[int, ...]
) -> list[np.ndarray]:
    r"""No block need vanish: intervals of at most h - 2 consecutive arrows on a cycle of h spaces, in random bases.

    The spaces are $X_0$ = the modes outside S with $\sigma > 0$ and the hidden spaces $X_1, \dots, X_{h-1}$; the
    arrows are $Z_1 \Sigma^T$ (from $X_0$), $Z_2, \dots, Z_h$ (back to $X_0$). Columns of $Z_1$ at inputs without a
    mode are free.
    """
    shapes = block_shapes(target, widths, len(signature))
    h, rest = len(shapes), np.array([k for k in range(target.d_y) if k + 1 not in signature], dtype=int)
    live = target.sigma[rest] > 0
    sizes = [int(live.sum()), *(rows for rows, _ in shapes[:-1])]
    arrows = _intervals(rng, sizes, longest=max(h - 2, 0))
    bases = [orthogonal_matrix(rng, size) for size in sizes]
    arrows = [bases[(k + 1) % h] @ arrow @ bases[k].T for k, arrow in enumerate(arrows)]
    blocks = [np.zeros(shapes[0]), *arrows[1:-1], np.zeros(shapes[-1])]
    sigma = target.sigma[rest[live]]
    blocks[0][:, rest[live]] = arrows[0] * (sigma.min(initial=np.inf) / sigma)
    blocks[-1][live] = arrows[-1]
    modeless = [k for k in range(target.d_x) if k >= target.rank]
    blocks[0][:, modeless] = rng.standard_normal((shapes[0][0], len(modeless)))
    return blocks


def _intervals(rng: np.random.Generator, sizes: list[int], longest: int) -> list[np.ndarray]:
    """Arrows k -> k + 1 of a cycle, a direct sum of random intervals of at most `longest` arrows."""
    h, used = len(sizes), [0] * len(sizes)
    arrows = [np.zeros((sizes[(k + 1) % h], sizes[k])) for k in range(h)]
    for _ in range(4 * sum(sizes)):
        start, length = int(rng.integers(h)), int(rng.integers(longest + 1))
        path = [(start + step) % h for step in range(length + 1)]
        if any(used[node] >= sizes[node] for node in path):
            continue
        for node, following in pairwise(path):
            arrows[node][used[following], used[node]] = 1.0
        for node in path:
            used[node] += 1
    return arrows


GENERATORS: dict[str, Generator] = {
    "canonical": _canonical,
    "two zero": _with_zeros(2),
    "tightened": _with_zeros(3),
    "cyclic": _cyclic,
}
"""Ways to draw Z: all blocks zero; two zero blocks; three (every pivot tightened); none need be zero."""
