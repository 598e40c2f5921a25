"""Networks at a given critical value: representatives of the fibre over a signature."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from .._arguments import checks_arguments
from .._types import Key
from ..init.arguments import check_drawn, check_key
from ..network import Network
from .forms import lifted, partial_products
from .generators import GENERATORS, block_shapes, orthogonal_matrix
from .signatures import check_signature
from .structure import assemble, change_basis
from .target import Target

VANISH = 1e-10
"""Share of the product of norms below which a product of given blocks counts as zero."""


@checks_arguments
def network_on_fibre(
    objective: Any,
    signature: Sequence[int],
    key: Key,
    widths: Sequence[int],
    *,
    Z: Sequence[Any] | None = None,
    generator: Literal["canonical", "two zero", "tightened", "cyclic"] = "canonical",
    basis: Literal["canonical", "orthogonal", "general"] = "orthogonal",
    condition: float = 10.0,
) -> Network:
    r"""A critical point with given learned modes: $W_l = P_l (A_l + Z_l) P_{l-1}^{-1}$, in the data's coordinates.

    In coordinates in which $\Sigma$ is diagonal $A_1 = [U_S^T \Sigma; 0]$, $A_l = \mathrm{diag}(I_r, 0)$, $A_h =
    [U_S, 0]$ and $Z_1 = [0; Z_1]$, $Z_l = \mathrm{diag}(0, Z_l)$, $Z_h = [0, U_Q Z_h]$, with Q the modes outside S.
    It is critical exactly if $Z_{j-1} \cdots Z_1 \Sigma^T U_Q Z_h \cdots Z_{j+1} = 0$ for every j and $Z_h \cdots Z_1
    = 0$.

    `signature`: modes from 1, largest singular value first. `Z`: the
    blocks (shapes (d_1 - r, rank of sigma_xx), (d_l - r, d_{l-1} - r), (d_y - r, d_{h-1} - r)); otherwise `generator`
    draws them: all zero; two of them zero; three (every pivot tightened, needs 3 layers); or none, as intervals on a
    cycle. `basis` of the hidden layers: none, Haar, or random of condition number `condition` in each layer. Along
    null directions of sigma_xx, which the loss does not see, W_1 is zero. Raises `ValueError` for signatures and
    widths that do not fit the data, blocks of wrong shapes or whose products do not vanish, and unknown names.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 3)
    >>> network = network_on_fibre(objective, (1, 3), 0, (3, 4, 4, 3), generator="cyclic")
    >>> np.allclose(network.end_to_end, np.diag([3.0, 0.0, 1.0]))
    True

    Source: Altafini, eqs. (32) and (33); the condition on products is exact, proposition 18 there has a sufficient one.
    """
    choices: dict[str, Any] = {"generator": generator, "basis": basis, "condition": condition}
    return network_of(Target.of(objective), signature, key, widths, Z=Z, **choices)


@checks_arguments
def network_of(
    target: Target,
    signature: Sequence[int],
    key: Key,
    widths: Sequence[int],
    *,
    Z: Sequence[Any] | None = None,
    generator: Literal["canonical", "two zero", "tightened", "cyclic"] = "canonical",
    basis: Literal["canonical", "orthogonal", "general"] = "orthogonal",
    condition: float = 10.0,
) -> Network:
    """`network_on_fibre` of an objective whose factorisation is known."""
    widths = check_drawn(widths, bases=True)
    S = check_signature(target, widths, signature)
    for name, value, known in (("generator", generator, GENERATORS), ("basis", basis, BASES)):
        if value not in known:
            raise ValueError(f"`{name}`: got {value!r}; choose one of {', '.join(map(repr, known))}")
    if generator == "tightened" and len(widths) < 4 and Z is None:
        raise ValueError(f"`generator`: 'tightened' needs 3 layers, `widths` {widths} have {len(widths) - 1}")
    if not np.isfinite(condition) or condition < 1:
        raise ValueError(f"`condition`: got {condition}; a condition number is at least 1")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(check_key(key))).ravel())
    blocks = GENERATORS[generator](rng, target, widths, S) if Z is None else _given(Z, target, widths, S)
    weights = assemble(target, widths, S, blocks)
    changes = [BASES[basis](rng, d, condition) for d in widths[1:-1]]
    return Network(lifted(target, change_basis(weights, changes)))


def _general(rng: np.random.Generator, size: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    """A random matrix with singular values between condition^(-1/2) and condition^(1/2), and its inverse."""
    U, V = orthogonal_matrix(rng, size), orthogonal_matrix(rng, size)
    s = condition ** np.linspace(0.5, -0.5, size)
    return (U * s) @ V.T, (V / s) @ U.T


def _orthogonal(rng: np.random.Generator, size: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    P = orthogonal_matrix(rng, size)
    return P, P.T


def _identity(rng: np.random.Generator, size: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(size), np.eye(size)


BASES = {"canonical": _identity, "orthogonal": _orthogonal, "general": _general}


def _given(Z: Sequence[Any], target: Target, widths: tuple[int, ...], signature: tuple[int, ...]) -> list[np.ndarray]:
    """Blocks of a caller, of the right shapes and with products that vanish."""
    shapes = block_shapes(target, widths, len(signature))
    blocks = [np.asarray(block, dtype=float) for block in Z]
    if [block.shape for block in blocks] != shapes:
        raise ValueError(f"`Z`: has blocks of shapes {[block.shape for block in blocks]}; they must be {shapes}")
    if not all(np.isfinite(block).all() for block in blocks):
        raise ValueError("`Z`: has entries that are NaN or infinite; give finite blocks")
    left = [k for k in range(target.d_y) if k + 1 not in signature]
    below, above = partial_products(blocks)
    norms = [float(np.linalg.norm(block)) for block in blocks]
    for j in range(1, len(blocks) + 1):
        around = below[j - 1] @ target.matrix.T[:, left] @ above[j]
        scale = np.prod(np.delete(norms, j - 1)) * float(np.linalg.norm(target.sigma))
        if np.linalg.norm(around) > VANISH * scale:
            raise ValueError(
                f"`Z`: the product around block {j} (Z_{{{j}-1}}...Z_1 Sigma^T U_Q Z_h...Z_{{{j}+1}}) has norm "
                f"{np.linalg.norm(around):.3g}; at a critical point it is zero (two zero blocks are enough)"
            )
    if np.linalg.norm(below[-1]) > VANISH * np.prod(norms):
        raise ValueError(
            f"`Z`: the product Z_h...Z_1 has norm {np.linalg.norm(below[-1]):.3g}; at a critical point it is zero"
        )
    return blocks
