r"""Similarity of hidden representations: what inputs evoke, and what outputs ask for.

Both are Gram matrices of one hidden vector a sample (a row), so any rotation of the hidden layer leaves them alone.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Float

from .._arguments import checks_arguments
from .._arrays import floats, number
from .._checks import check_whole
from .._linalg import on_device
from .._types import Array
from ..network import Network
from .labels import labelled

Similarity = Float[Array, "sample sample"]
DIMS = ("sample", "other_sample")


@checks_arguments
def rsm_input(X: Any, layer: int = 1) -> Callable[[Network], Similarity]:
    r"""Similarity of the representations that inputs evoke: $H H^T$, $H = X W_{1:l}^T$ with l = `layer`.

    X holds samples in rows (n, d_x); the result is (n, n). `layer` runs from 1 to the depth h, where it is the
    similarity of predictions. Papers, with samples in columns, write $X^T W_1^T W_1 X$. Raises `ValueError` for an X
    that is not rows of samples, and where the network has no such layer.

    >>> rsm_input([[1.0], [2.0]])(Network([[[3.0]], [[1.0]]])).tolist()
    [[9.0, 18.0], [18.0, 36.0]]

    Source: Braun et al. (2022); Domine et al. (2025).
    """
    label = labelled(DIMS, f"similarity of inputs in layer {layer}")
    return label(Partial(_rsm_input, _samples("X", X), layer=layer))


@checks_arguments
def rsm_output(Y: Any, layer: int = 1, rtol: float | None = None) -> Callable[[Network], Similarity]:
    r"""Similarity of the representations that outputs ask for: $H H^T$, $H = Y (W_{l+1:h}^+)^T$ with l = `layer`.

    Row i of H is the shortest hidden vector from which the layers above make $y_i$, or come nearest to it. Y holds
    samples in rows (n, d_y): targets, or the predictions `X @ network.end_to_end.T`, for which the result equals
    `rsm_input(X, layer)` wherever the rows of $W_{1:l}^T$ lie in the row space of the layers above. `layer` runs from
    1 to h - 1. Papers, with samples in columns, write $Y^T (W_2 W_2^T)^+ Y$; here the pseudo-inverse is that of the
    factor, $(W_2 W_2^T)^+ = (W_2^+)^T W_2^+$, whose small singular values are known to twice as many digits.

    Singular values up to `rtol` times the largest count as zero (None: 10 eps max(d_y, d_l)); the result jumps when
    one of them passes. Raises `ValueError` for a Y that is not rows of samples, and where the network has no such
    hidden layer.

    >>> rsm_output([[1.0], [2.0]])(Network([[[3.0]], [[0.5]]])).tolist()
    [[4.0, 8.0], [8.0, 16.0]]

    Source: Braun et al. (2022); Domine et al. (2025).
    """
    label = labelled(DIMS, f"similarity of outputs in layer {layer}")
    return label(Partial(_rsm_output, _samples("Y", Y), layer=layer, rtol=_check_rtol(rtol)))


def rsm_from_gram(X: Any, gram_in: Any) -> Array:
    r"""`rsm_input` of two layers from $W_1^T W_1$ (..., d_x, d_x), as an exact solution has it: $X W_1^T W_1 X^T$.

    Leading axes, such as time, are kept: (..., n, n). Raises `ValueError` for shapes that do not fit.

    >>> rsm_from_gram([[1.0], [2.0]], [[9.0]]).tolist()
    [[9.0, 18.0], [18.0, 36.0]]
    """
    X, gram_in = _samples("X", X), on_device(floats("gram_in", gram_in))
    if gram_in.ndim < 2 or gram_in.shape[-2:] != (X.shape[1], X.shape[1]):
        raise ValueError(
            f"`gram_in`: has shape {gram_in.shape}; for these samples it is (..., {X.shape[1]}, {X.shape[1]})"
        )
    return X @ gram_in @ X.T


@checks_arguments
def rsm_from_factor(Y: Any, factor_out: Any, rtol: float | None = None) -> Array:
    r"""`rsm_output` of two layers from any F (..., d_y, k) with $F F^T = W_2 W_2^T$: $Y (F^+)^T F^+ Y^T$.

    An exact solution has such an F of few columns where it has no $W_2$; the assembled $W_2 W_2^T$ of rank below d_y
    could not be inverted reliably. Leading axes, such as time, are kept: (..., n, n). Raises `ValueError` for shapes
    that do not fit.

    >>> rsm_from_factor([[1.0], [2.0]], [[0.5]]).tolist()
    [[4.0, 8.0], [8.0, 16.0]]
    """
    Y, factor_out, rtol = _samples("Y", Y), on_device(floats("factor_out", factor_out)), _check_rtol(rtol)
    if factor_out.ndim < 2 or factor_out.shape[-2] != Y.shape[1]:
        raise ValueError(f"`factor_out`: has shape {factor_out.shape}; for these samples it is (..., {Y.shape[1]}, k)")
    return _evoked_by(Y, factor_out, rtol)


@checks_arguments
def _rsm_input(X: Array, network: Network, layer: int) -> Similarity:
    _check_layer(layer, network.depth, "a layer")
    if X.shape[1] != network.widths[0]:
        raise ValueError(f"`X`: has {X.shape[1]} columns; this network has {network.widths[0]} inputs")
    H = X @ network.product(1, layer).T
    return H @ H.T


@checks_arguments
def _rsm_output(Y: Array, network: Network, layer: int, rtol: float | None) -> Similarity:
    _check_layer(layer, network.depth - 1, "a hidden layer")
    if Y.shape[1] != network.widths[-1]:
        raise ValueError(f"`Y`: has {Y.shape[1]} columns; this network has {network.widths[-1]} outputs")
    return _evoked_by(Y, network.product(layer + 1, network.depth), rtol)


def _evoked_by(Y: Array, F: Array, rtol: float | None) -> Array:
    H = Y @ jnp.swapaxes(jnp.linalg.pinv(F, rtol=rtol), -2, -1)
    return H @ jnp.swapaxes(H, -2, -1)


def _samples(name: str, X: Any) -> Array:
    return on_device(floats(name, X, 2, "(n, d), samples in rows"))


def _check_rtol(rtol: float | None) -> float | None:
    return None if rtol is None else number("rtol", rtol, "a number of at least 0, or None", low=0.0)


def _check_layer(layer: int, last: int, what: str) -> None:
    if not 1 <= check_whole("layer", layer) <= last:
        raise ValueError(f"`layer`: got {layer}; {what} of this network has a number from 1 to {last}")
