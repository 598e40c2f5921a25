"""Numerical range and the spectra of the symmetric and skew parts: a network's layers are even or odd."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .blocks import BlockMatrix


def numerical_radius(A: BlockMatrix) -> Any:
    r"""Radius of the numerical range $\{x^* A x : x^* x = 1\}$, a disk around 0: $\lambda_{\max}((A + A^T) / 2)$.

    Half the largest singular value of the block between odd and even layers. Compiles and differentiates.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> float(numerical_radius(adjacency(Network([[[3.0]], [[4.0]]]))))
    2.5

    Source: Altafini, proposition 11; Tam (1994), Linear and Multilinear Algebra 37, theorem 1.
    """
    return _odd_even_values(A)[0] / 2


def symmetric_spectrum(A: BlockMatrix) -> Any:
    r"""Eigenvalues of $A_{sy} = (A + A^T) / 2$, all n_v, smallest first: symmetric around 0.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> symmetric_spectrum(adjacency(Network([[[3.0]], [[4.0]]]))).tolist()
    [-2.5, 0.0, 2.5]

    Source: Altafini, proposition 11.
    """
    s = _odd_even_values(A) / 2
    xp = jnp if isinstance(s, Tracer) else np
    return xp.concatenate([-s, xp.zeros(sum(A.widths) - 2 * s.size), s[::-1]])


def skew_spectrum(A: BlockMatrix) -> Any:
    r"""Eigenvalues of $A_{sk} = (A - A^T) / 2$: those of the symmetric part times i.

    >>> from deeplinear import Network
    >>> from deeplinear.blockshift import adjacency
    >>> skew_spectrum(adjacency(Network([[[3.0]], [[4.0]]]))).imag.tolist()
    [-2.5, 0.0, 2.5]

    Source: Altafini, proposition 11.
    """
    return 1j * symmetric_spectrum(A)


def _odd_even_values(A: BlockMatrix) -> Any:
    """Singular values, largest first, of A + A^T between the odd and the even layers, where all its blocks are."""
    A.layers  # noqa: B018 (raises for blocks that no adjacency matrix has)
    both = A + A.T
    layers = range(A.depth + 1)
    xp = jnp if any(isinstance(block, Tracer) for block in A.blocks.values()) else np
    return xp.linalg.svd(xp.block([[both[l, m] for m in layers[::2]] for l in layers[1::2]]), compute_uv=False)
