"""Whether float64 can hold what a run multiplies: moments, losses and gradients, and the squares of their sizes."""

from collections.abc import Iterable
from typing import Any

import numpy as np

SQUARES = 1e150
"""Numbers between this and its inverse have squares that are neither infinite nor rounded to zero."""


def check_moments(sigma_xx: np.ndarray, sigma_yx: np.ndarray, trace_yy: float | None) -> None:
    """`ValueError` for data so large or so small that squares of their moments are beyond float64; zeros pass.

    >>> check_moments(np.eye(2) * 1e-300, np.zeros((1, 2)), None)
    Traceback (most recent call last):
    ...
    ValueError: `data`: the inputs have second moments of about 1e-300, whose squares are beyond float64; give the \
inputs in other units (multiply them by about 1e+150)
    """
    for name, moment, power in (
        ("inputs have second moments", np.abs(sigma_xx).max(initial=0.0), 0.5),
        ("outputs and inputs have products", np.abs(sigma_yx).max(initial=0.0), 1.0),
        ("outputs have a second moment", trace_yy or 0.0, 0.5),
    ):
        if moment and not 1 / SQUARES < moment < SQUARES:
            which = "inputs" if name.startswith("inputs") else "outputs"
            advice = (
                "" if not np.isfinite(moment) else f" (multiply them by about {10 ** (-power * _digits(moment)):.0e})"
            )
            raise ValueError(
                f"`data`: the {name} of about {moment:.0e}, whose squares are beyond float64; give the {which} in "
                f"other units{advice}"
            )


def check_start(scale: float, weights: Iterable[Any], sigma_xx: np.ndarray) -> None:
    r"""`ValueError` for a start whose gradient, at most $\|\Sigma_{xx}\| \prod_l \|W_l\|^2 / \|W_j\|$, has no square.

    >>> check_start(1e100, [np.array([[1e100]])] * 2, np.eye(1))
    Traceback (most recent call last):
    ...
    ValueError: `scale`: got 1e+100; the square of the gradient at this start is beyond float64; take a smaller one
    """
    sizes = [_digits(np.abs(np.asarray(W)).max(initial=0.0)) + 0.5 * np.log10(np.size(W)) for W in weights]
    gradient = 2 * sum(sizes) - min(sizes) + _digits(np.abs(sigma_xx).max(initial=0.0))
    if not gradient < np.log10(SQUARES):
        raise ValueError(
            f"`scale`: got {scale:g}; the square of the gradient at this start is beyond float64; take a smaller one"
        )


def _digits(size: float) -> float:
    """The decimal logarithm, of zero that of the smallest number."""
    return float(np.log10(max(size, 5e-324)))
