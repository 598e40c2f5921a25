"""What the survey assumes of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._arguments import checks_arguments
from .._arrays import floats
from .._checks import Check
from .._linalg import rank_tolerance
from ..init.arguments import check_widths
from ..objectives import SquaredError
from .sums import closest_sums

EQUAL = 1e-9
"""Singular values closer than this share of the largest count as equal."""
EQUAL_SUMS = 16 * float(np.finfo(float).eps)
"""Sums closer than this share of the largest count as equal: rounding. Sums are dense: a wider one finds equal ones."""


@checks_arguments
def full_rank_and_wide(objective: SquaredError, widths: Sequence[int], Y: Any = None) -> tuple[Check, ...]:
    r"""The survey's assumption 1: X and Y have full row rank, and every layer is at least as wide as the output.

    Full rank of $\Sigma_{xx}$ contains that there are at least as many samples as inputs. The rank of Y is read from
    samples `Y` (n, d_y) where given, else from $\Sigma_{yx}$: full rank of it proves that of Y. Violations count what
    is missing (ranks, units); margins are smallest singular values relative to the largest. Raises `ValueError` for an
    objective other than `SquaredError` and widths that do not fit.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    >>> [check.holds for check in full_rank_and_wide(objective, (3, 4, 2))]
    [True, True, True]
    >>> full_rank_and_wide(objective, (3, 1, 2))[-1].violation
    1.0

    Source: Altafini, assumption 1.
    """
    widths = _checked_widths(objective, widths)
    d_x, d_y = widths[0], widths[-1]
    outputs = _images(objective) if Y is None else floats("Y", Y, 2, f"(n, {d_y}), samples in rows")
    if Y is not None and outputs.shape[1] != d_y:
        raise ValueError(f"`Y`: has shape {outputs.shape}; samples are rows, so it must be (n, {d_y})")
    read_from = "read from sigma_yx" if Y is None else f"read from {len(outputs)} samples"
    if Y is not None:  # whatever the units of the outputs
        lengths = np.linalg.norm(outputs, axis=0)
        outputs = outputs / np.where(lengths > 0, lengths, 1.0)
    moment = objective.second_moment
    narrowest = min(widths[:-1])
    return (
        _rank_check("X has full row rank", moment.variances, d_x, rank=moment.rank, note="eigenvalues of sigma_xx"),
        _rank_check(
            "Y has full row rank", np.linalg.svd(outputs, compute_uv=False), d_y, note=read_from, size=len(outputs)
        ),
        Check(
            "assumption 1",
            "no layer is narrower than the output",
            float(max(d_y - narrowest, 0)),
            0.0,
            note=f"narrowest layer {narrowest}, output {d_y}",
        ),
    )


@checks_arguments
def generic_spectrum(objective: SquaredError) -> tuple[Check, ...]:
    r"""The survey's assumption 2: singular values nonzero and distinct, and so all partial sums of their squares.

    Of $\Sigma_{yx} \Sigma_{xx}^{-1/2}$, d_y values. Violations count zeros and coinciding neighbours; of the sums it is
    1 or 0, and the margin their smallest gap relative to the largest sum. All $2^{d_y}$ sums are compared, by meeting
    in the middle, up to d_y = 24. Beyond, double precision cannot tell them apart, and the note says which were
    compared. Raises `ValueError` for an objective other than `SquaredError`.

    >>> [check.holds for check in generic_spectrum(SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 3))]
    [True, True, True]
    >>> generic_spectrum(SquaredError.from_singular_values([5.0, 4.0, 3.0], 3, 3))[-1].note
    'sigma_1^2 = sigma_2^2 + sigma_3^2 (all 8 sums compared)'

    Source: Altafini, assumption 2.
    """
    sigma = _singular_values(objective)
    largest = max(float(sigma[0]), 1e-300)
    gaps = -np.diff(sigma) / largest
    closest = int(np.argmin(gaps)) if len(gaps) else 0
    distinct = Check(
        "assumption 2",
        "singular values are distinct",
        float(np.count_nonzero(gaps <= EQUAL)),
        0.0,
        margin=float(gaps.min(initial=1.0)),
        note=f"closest: {closest + 1} and {closest + 2}" if len(gaps) else "there is one",
    )
    nonzero = _rank_check("singular values are nonzero", sigma, len(sigma), theorem="assumption 2")
    return nonzero, distinct, _sums_check(sigma)


def _sums_check(sigma: np.ndarray) -> Check:
    found = closest_sums(sigma**2)
    side = lambda chosen: " + ".join(f"sigma_{i + 1}^2" for i in chosen) or "0"
    equal = found.gap <= EQUAL_SUMS
    first, second = sorted((found.first, found.second))
    note = f"{side(first)} {'=' if equal else 'is closest to'} {side(second)} ({found.compared} compared)"
    return Check("assumption 2", "partial sums of sigma_j^2 are distinct", float(equal), 0.0, found.gap, note)


def _rank_check(
    statement: str,
    s: np.ndarray,
    full: int,
    theorem: str = "assumption 1",
    note: str = "",
    size: int = 1,
    rank: int | None = None,
) -> Check:
    """Whether `full` of the values, largest first, are above the rounding of a matrix of this size; or their `rank`."""
    largest = float(s.max(initial=0.0))
    if rank is None:
        rank = int(np.count_nonzero(s > rank_tolerance(max(full, len(s), size)) * largest))
    smallest = float(s[full - 1]) / largest if len(s) >= full and largest > 0 else 0.0
    return Check(theorem, statement, float(full - min(rank, full)), 0.0, margin=smallest, note=note)


def _singular_values(objective: Any) -> np.ndarray:
    """d_y singular values in whitened inputs, largest first; zeros where there are fewer inputs."""
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: is a {type(objective).__name__}; the assumptions concern squared error")
    s = np.linalg.svd(images := _images(objective), compute_uv=False)
    return np.pad(s, (0, len(images) - s.size))


def _images(objective: SquaredError) -> np.ndarray:
    """W* R, the best map in whitened inputs."""
    W = np.asarray(objective.optimum)
    return W if objective.whitened else W @ np.asarray(objective.root_xx)


def _checked_widths(objective: Any, widths: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: is a {type(objective).__name__}; the assumptions concern squared error")
    widths, (d_y, d_x) = check_widths(widths), objective.optimum.shape
    if (widths[0], widths[-1]) != (d_x, d_y):
        raise ValueError(f"`widths`: got {widths}; the data have {d_x} inputs and {d_y} outputs: ({d_x}, ..., {d_y})")
    return widths
