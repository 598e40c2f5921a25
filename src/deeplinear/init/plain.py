"""Random layers, and layers put together from frames: balanced, of a given product, aligned with the data's modes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from .._arrays import floats, number
from .._linalg import from_svd, haar, thin_svd
from .._types import Array, Key
from ..network import Network
from ..objectives import SquaredError
from .arguments import check_drawn, check_key, check_product, check_scale


def gaussian(key: Key, widths: Sequence[int], scale: float) -> Network:
    r"""Independent weights $W_{l,ij} \sim N(0, \text{scale}^2)$.

    `widths` = (d_x, d_1, ..., d_y); `key` is a jax key or an int. Raises `ValueError` for widths below 1 and scale
    at most 0.

    >>> gaussian(0, (4, 3, 2), scale=1e-3).widths
    (4, 3, 2)
    """
    scale = check_scale(scale)
    return _layers(key, widths, lambda key, rows, columns: scale * jax.random.normal(key, (rows, columns)))


def orthogonal(key: Key, widths: Sequence[int], scale: float) -> Network:
    """`scale` times matrices with orthonormal rows or columns, Haar distributed, one per layer.

    >>> W = orthogonal(0, (3, 3), scale=2.0).end_to_end
    >>> bool(jnp.allclose(W.T @ W, 4 * jnp.eye(3)))
    True

    Source: Saxe, McClelland and Ganguli (2014), section 3.
    """
    scale = check_scale(scale)
    return _layers(key, widths, lambda key, rows, columns: scale * haar(key, rows, columns))


def xavier(key: Key, widths: Sequence[int]) -> Network:
    r"""Independent weights $N(0, 2 / (d_{l-1} + d_l))$, as `torch.nn.init.xavier_normal_`.

    >>> xavier(0, (4, 3, 2)).depth
    2

    Source: Glorot and Bengio (2010), eq. (12), normal variant.
    """
    normal = lambda key, rows, columns: jax.random.normal(key, (rows, columns)) * (2 / (rows + columns)) ** 0.5
    return _layers(key, widths, normal)


def kaiming(key: Key, widths: Sequence[int]) -> Network:
    r"""Independent weights $N(0, 1 / d_{l-1})$: the fan-in rule with gain 1, which keeps the variance.

    PyTorch's default gain $\sqrt 2$ makes up for a ReLU, which is not here; it would multiply the weights by $\sqrt 2$.

    >>> kaiming(0, (4, 3, 2)).depth
    2

    Source: He et al. (2015), eq. (10), without the factor for the rectifier.
    """
    normal = lambda key, rows, columns: jax.random.normal(key, (rows, columns)) / columns**0.5
    return _layers(key, widths, normal)


def balanced(key: Key, widths: Sequence[int], scale: float | None = None, product: Any = None) -> Network:
    r"""A 0-balanced network, $W_{l+1}^T W_{l+1} = W_l W_l^T$, random or with a given end-to-end matrix.

    $W_l = R_l \, \mathrm{diag}(s)^{1/h} R_{l-1}^T$ with Haar frames $R_l$ of the hidden layers and $R_h \,
    \mathrm{diag}(s) R_0^T$ the end-to-end matrix. With `scale` every layer has the singular values of a (d_y, d_x)
    matrix of entries N(0, scale^2), the largest min(widths) of them, between Haar frames; with `product` the end-to-end
    matrix is that one. Raises `ValueError` unless exactly one of the two is given, or if the rank of `product` exceeds
    a hidden width.

    >>> network = balanced(0, (3, 4, 2), product=[[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    >>> bool(jnp.allclose(network.end_to_end, jnp.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])))
    True

    Source: Arora, Cohen and Hazan (2018), definition 1 and appendix A.
    """
    if (scale is None) == (product is None):
        raise ValueError(
            "`scale`, `product`: give exactly one of them, the size of a random start or its end-to-end matrix"
        )
    widths = check_drawn(widths)
    shape, depth, rank = (widths[-1], widths[0]), len(widths) - 1, min(widths)
    frames_key, spectrum_key = jax.random.split(check_key(key))
    if product is None:
        frames_key, output_key, input_key = jax.random.split(frames_key, 3)
        z = jnp.linalg.svd(check_scale(scale) * jax.random.normal(spectrum_key, shape), compute_uv=False)[:rank]
        U, V = haar(output_key, shape[0], rank), haar(input_key, shape[1], rank)
    else:
        U, s, V = thin_svd(check_product(product, widths))
        U, z, V = U[:, :rank], s[:rank] ** (1 / depth), V[:, :rank]
    return _between_frames(frames_key, widths, U, [z] * depth, V)


def from_product(key: Key, widths: Sequence[int], product: Any, condition: float = 10.0) -> Network:
    r"""A network with a given end-to-end matrix that is not balanced: `balanced` seen in random hidden bases.

    $W_l = G_l W^b_l G_{l-1}^{-1}$ with $W^b$ = `balanced(product=product)`, $G_0 = G_h = I$ and $G_l = P_l \,
    \mathrm{diag}(g) \, Q_l^T$ in every hidden layer, $P_l, Q_l$ Haar and the logarithm of every $g_i$ uniform over an
    interval of length ln(condition): no change of basis is worse conditioned than `condition`. `condition=1` rotates
    only, and the network stays balanced. Every layer has the rank of `product`; where all hidden widths equal that
    rank, every network with this product is such a change of basis.

    `condition` is at least 1; the product is exact up to rounding times `condition`. Works under `jax.jit` and
    `jax.vmap`. Raises `ValueError` for a `product` of another shape or of a rank above a hidden width.

    >>> network = from_product(0, (2, 3, 2), [[2.0, 0.0], [0.0, 1.0]])
    >>> bool(jnp.allclose(network.end_to_end, jnp.diag(jnp.array([2.0, 1.0])), atol=1e-14))
    True

    Source: the action of the hidden general linear groups, Altafini, section 3.5.
    """
    number("condition", condition, "a condition number, finite and at least 1", low=1.0)
    widths = check_drawn(widths, bases=True)
    depth, rank = len(widths) - 1, min(widths)
    U, s, V = thin_svd(check_product(product, widths))
    z, half = s[:rank] ** (1 / depth), jnp.log(condition) / 2
    below, weights = V[:, :rank], []
    for k, d in zip(jax.random.split(check_key(key), depth), widths[1:-1], strict=False):
        frame_key, left_key, right_key, spread_key = jax.random.split(k, 4)
        P, Q, R = haar(left_key, d, d), haar(right_key, d, d), haar(frame_key, d, rank)
        g = jax.random.uniform(spread_key, (d,), minval=-half, maxval=half)
        weights.append(from_svd(from_svd(P, jnp.exp(g), Q) @ R, z, below))  # G_l R_l diag(z) (G_{l-1}^{-T} R_{l-1})^T
        below = from_svd(P, jnp.exp(-g), Q) @ R
    return Network([*weights, from_svd(U[:, :rank], z, below)])


def decoupled(key: Key, objective: SquaredError, widths: Sequence[int], strengths: Any) -> Network:
    r"""A 0-balanced network aligned with the modes of the data: $u_a^T W v_b = \delta_{ab}\, \text{strengths}_a$.

    $W_l = R_l \, \mathrm{diag}(|\text{strengths}|^{1/h}) R_{l-1}^T$ with $R_0 = V$, $R_h = U$ of `objective.modes` and
    Haar frames between; the sign of a strength sits in the last layer. `strengths` is one number or one per mode; with
    a bottleneck only the first min(widths) modes can have any. Raises `ValueError` for widths that do not fit the
    objective or strengths that are not finite.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> bool(jnp.allclose(decoupled(0, objective, (2, 5, 2), 0.1).end_to_end, 0.1 * jnp.eye(2)))
    True

    Source: Saxe, McClelland and Ganguli (2014), section 2.
    """
    key, widths = check_key(key), check_drawn(widths)
    U, s, V = objective.modes
    if (widths[0], widths[-1]) != (V.shape[0], U.shape[0]):
        raise ValueError(
            f"`widths`: go from {widths[0]} to {widths[-1]}, but the objective has {V.shape[0]} inputs and "
            f"{U.shape[0]} outputs"
        )
    strengths = floats("strengths", strengths, (0, 1), "(mode,), or one number")
    if strengths.size not in (1, s.size):
        raise ValueError(
            f"`strengths`: came with shape {strengths.shape}; give one finite number, or one for each of {s.size} modes"
        )
    depth, rank = len(widths) - 1, min(widths)
    u = jnp.broadcast_to(jnp.asarray(strengths), s.shape)[:rank]
    z = jnp.abs(u) ** (1 / depth)
    return _between_frames(key, widths, U[:, :rank], [z] * (depth - 1) + [jnp.copysign(z, u)], V[:, :rank])


def _between_frames(key: PRNGKeyArray, widths: tuple[int, ...], U: Array, z: list[Array], V: Array) -> Network:
    """W_l = R_l diag(z_l) R_{l-1}^T with R_0 = V, R_h = U and Haar frames between."""
    hidden = [haar(k, d, V.shape[1]) for k, d in zip(jax.random.split(key, len(widths)), widths[1:-1], strict=False)]
    frames = [V, *hidden, U]
    return Network([from_svd(above, z_l, below) for (below, above), z_l in zip(pairwise(frames), z, strict=True)])


def _layers(key: Key, widths: Sequence[int], draw) -> Network:
    widths = check_drawn(widths)
    keys = jax.random.split(check_key(key), len(widths) - 1)
    return Network([draw(k, rows, columns) for k, (columns, rows) in zip(keys, pairwise(widths), strict=True)])
