"""Signatures: which modes a critical point has learned, checked against the data and the widths."""

from collections.abc import Sequence

import numpy as np

from .target import Target


def check_signature(target: Target, widths: Sequence[int], signature: Sequence[int]) -> tuple[int, ...]:
    """The modes S (from 1, ascending) of a critical point of these widths, else one clear `ValueError`.

    >>> from deeplinear import SquaredError
    >>> check_signature(Target.of(SquaredError.from_singular_values([3.0, 2.0], 2, 2)), (2, 4, 2), [2])
    (2,)
    """
    target.check_widths(tuple(widths))
    modes = tuple(sorted(int(k) for k in signature))
    if len(set(modes)) < len(modes) or list(modes) != sorted(signature):
        raise ValueError(f"`signature`: got {tuple(signature)}; name each learned mode once, by its number from 1")
    if modes and not 1 <= modes[0] <= modes[-1] <= target.rank:
        raise ValueError(f"`signature`: got {modes}; the data have the modes 1 to {target.rank}")
    if len(modes) > target.max_rank(tuple(widths)):
        raise ValueError(
            f"`signature`: got {len(modes)} modes; networks of widths {tuple(widths)} hold at most "
            f"{target.max_rank(tuple(widths))}"
        )
    if len(widths) == 2 and len(modes) < target.rank:
        raise ValueError(
            f"`signature`: got {modes}; a single layer is critical only where all modes 1 to {target.rank} are learned"
        )
    return modes


def pairs(target: Target, signature: tuple[int, ...]) -> tuple[int, int]:
    r"""Pairs (i not in S, j in S) with $\sigma_i > \sigma_j$, and with $\sigma_i = \sigma_j$."""
    groups = target.groups
    size = np.bincount(groups)
    learned = np.bincount(groups[[k - 1 for k in signature]], minlength=size.size)
    left = size - learned
    return int(np.sum(learned * (np.cumsum(left) - left))), int(np.sum(learned * left))
