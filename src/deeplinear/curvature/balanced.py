"""The Hessian's spectrum at balanced minima, in closed form."""

from itertools import pairwise
from typing import Any

import numpy as np

from .._arguments import checks_arguments
from .._arrays import floats
from ..init.arguments import check_widths


@checks_arguments
def balanced_hessian_spectrum(s: Any, widths: Any) -> np.ndarray:
    r"""All eigenvalues of the Hessian at a 0-balanced network whose end-to-end matrix is the target, ascending.

    $$ \lambda_{ab} = \sum_{l=1}^h s_a^{2(h-l)/h} s_b^{2(l-1)/h}, \quad a \le d_y, \; b \le d_x, $$

    with $0^0 = 1$ and $s_a = 0$ beyond the last singular value, and zeros for the rest of the $\sum_l d_l d_{l-1}$
    directions. `s` are the singular values of the end-to-end matrix, at most min(widths) of them. White inputs,
    half-mean loss (others: times the loss's factor and the input variance). Raises `ValueError` for more singular
    values than the widths allow.

    >>> balanced_hessian_spectrum([4.0], (1, 1, 1)).tolist()
    [0.0, 8.0]

    Source: the Gauss-Newton matrix of a product at zero residual, which balance makes diagonal.
    """
    s, widths = np.sort(floats("s", s, (0, 1), "(mode,)").ravel())[::-1], check_widths(widths)
    if s.size > min(widths):
        raise ValueError(f"`widths`: {widths} carry at most min(widths) singular values, but `s` has {s.size}")
    if (s < 0).any():
        raise ValueError("`s`: singular values are finite and at least 0")
    h, d_x, d_y = len(widths) - 1, widths[0], widths[-1]
    out, into = np.zeros(d_y), np.zeros(d_x)
    out[: s.size] = into[: s.size] = s
    l = np.arange(1, h + 1)
    above, below = out[:, None] ** (2 * (h - l) / h), into[:, None] ** (2 * (l - 1) / h)  # numpy's 0^0 is 1
    curved = np.sort((above @ below.T).ravel())[::-1]
    count = sum(a * b for a, b in pairwise(widths))
    spectrum = np.zeros(count)
    spectrum[: curved.size] = curved[:count]
    return spectrum[::-1]
