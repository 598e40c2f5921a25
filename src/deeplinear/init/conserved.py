"""Starts with given conserved quantities C_l = W_{l+1}^T W_{l+1} - W_l W_l^T."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arrays import floats, number
from .._linalg import from_svd, haar
from .._types import Array, Key
from ..network import Network
from .arguments import check_drawn, check_key, check_product, check_scale
from .fibre import aligned_pair, random_chain, random_orthogonal
from .level import FAR, Layers, on_level, size_of, stretched

SIGN = 1e-13  # eigenvalues of C_l below this part of the weights' squares count as zero
SPREAD = 3.0  # condition number of the random change of hidden bases that a solution is searched from
TURNS = 5  # random hidden bases of two layers that are tried
ATTEMPTS = 100  # random starts of the search in networks of three or more layers


def lambda_balanced(key: Key, widths: Sequence[int], lam: Any, scale: Any) -> Network:
    r"""A random two-layer network with $W_2^T W_2 - W_1 W_1^T = \lambda I$.

    $W_1 = E \, \mathrm{diag}(\sqrt{s^2 + \max(-\lambda, 0)}) \, V^T$ and $W_2 = U \, \mathrm{diag}(\sqrt{s^2 +
    \max(\lambda, 0)}) \, E^T$ with Haar frames $U, E, V$; $s$ are the largest min(widths) singular values of a (d_y,
    d_x) matrix of entries N(0, scale^2), as in `balanced`, and 0 beyond. $\lambda > 0$ needs d_1 <= d_y (a positive
    definite $W_2^T W_2$), $\lambda < 0$ needs d_1 <= d_x; for $\lambda = 0$ any widths will do. No network is smaller
    than $\|W_2\| \ge \sqrt\lambda$, whatever the scale.

    One key gives the same frames and $s$ for every `lam` and every `scale` (up to that factor). Both may be traced by
    JAX, and mapped; an infeasible sign is then reported when the program runs. Raises `ValueError` for widths that are
    not three, and for an infeasible or infinite `lam`.

    >>> W1, W2 = lambda_balanced(0, (3, 2, 4), lam=5.0, scale=0.1).weights
    >>> bool(jnp.allclose(W2.T @ W2 - W1 @ W1.T, 5 * jnp.eye(2)))
    True

    Source: Domine et al. (2025); Braun et al. (2022) for lam = 0.
    """
    widths = check_drawn(widths)
    if len(widths) != 3:
        raise ValueError(f"`widths`: got {widths}; lambda-balance is of two layers, so give (d_x, d_1, d_y)")
    lam, scale = _feasible(lam, widths), check_scale(scale)
    d_x, d_1, d_y = widths
    frames_key, spectrum_key = jax.random.split(check_key(key))
    hidden_key, output_key, input_key = jax.random.split(frames_key, 3)
    below, above = min(d_1, d_x), min(d_1, d_y)
    s = scale * jnp.linalg.svd(jax.random.normal(spectrum_key, (d_y, d_x)), compute_uv=False)[: min(widths)]
    s = jnp.pad(s, (0, d_1 - s.shape[0]))
    E = haar(hidden_key, d_1, max(below, above))
    U, V = haar(output_key, d_y, above), haar(input_key, d_x, below)
    W1 = from_svd(E[:, :below], _root(s**2 + jnp.maximum(-lam, 0.0))[:below], V)
    return Network([W1, from_svd(U, _root(s**2 + jnp.maximum(lam, 0.0))[:above], E[:, :above])])


def from_imbalance(key: Key, product: Any, imbalances: Sequence[Any], widths: Sequence[int] | None = None) -> Network:
    r"""A random network with given end-to-end matrix and given $C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$, any depth.

    `imbalances` holds one symmetric matrix (d_l, d_l) for every hidden layer, as `diagnostics.imbalance` returns, or
    numbers $\lambda_l$ for $C_l = \lambda_l I$; the latter need `widths`.

    Such a network has at most d_{l+1} positive and d_{l-1} negative eigenvalues in $C_l$, and no hidden width below
    the rank of `product`; where this fails, `ValueError` says so. In two layers these conditions are also sufficient,
    and a network is always found: `fibre.aligned_pair` is one in closed form, random changes of basis carried back to
    the given $C$ (`level.on_level`) make it random. If all hidden widths equal the rank of `product`, every set of
    $C_l$ can be had (`level` says why). In other networks of three or more layers the conditions do not suffice.
    Beyond two layers the network is searched for, from 100 random ones with the given product: `ValueError` then
    reports the closest that it came, which is no proof that there is none. Hardest are $C_l$ many orders below the
    product, as of a small random start; a flow from that start, which conserves them, leads to networks that have them.

    Errors of the product and of every $C_l$, relative to the size of the weights (its powers h and 2), are at most
    1e-12, checked before the network is returned, and 1e-15 to 1e-14 as a rule. Runs in numpy: not under `jit`.
    One step costs O(sum of d_l^3) a layer.

    >>> network = from_imbalance(0, [[1.0, 2.0], [0.0, 1.0]], [[[3.0, 1.0], [1.0, -2.0]]])
    >>> W1, W2 = network.weights
    >>> bool(jnp.allclose(W2 @ W1, jnp.array([[1.0, 2.0], [0.0, 1.0]])))
    True
    >>> bool(jnp.allclose(W2.T @ W2 - W1 @ W1.T, jnp.array([[3.0, 1.0], [1.0, -2.0]])))
    True

    Source: C_l is conserved, Arora, Cohen and Hazan (2018), eq. (11); existence as for the moment map of a group that
    acts by changes of the hidden bases, Kempf and Ness (1979).
    """
    product, imbalances, widths = _checked(product, imbalances, widths)
    if not imbalances:
        return Network([product])
    size = size_of(product, imbalances)
    if size == 0:
        return Network([np.zeros(shape) for shape in zip(widths[1:], widths[:-1], strict=True)])
    spectra = [_spectrum(C, size) for C in imbalances]
    _check_signs(spectra, widths)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(check_key(key))).ravel())
    weights, distance = _search(rng, product, imbalances, spectra, widths, size)
    if distance > FAR:
        raise ValueError(
            f"`imbalances`: no network of widths {widths} with this product and these conserved quantities was found; "
            f"{ATTEMPTS} random starts came as close as {distance:.1e} of the weights' squares. Widen the hidden "
            "layers, give a product of higher rank, or take conserved quantities from a network"
        )
    return Network(weights)


def _search(
    rng: np.random.Generator,
    product: np.ndarray,
    imbalances: list[np.ndarray],
    spectra: list[tuple[np.ndarray, np.ndarray]],
    widths: tuple[int, ...],
    size: float,
) -> tuple[Layers, float]:
    """The network found, or the closest, and its relative distance from the given conserved quantities."""
    if len(imbalances) > 1:
        return _search_deep(rng, product, imbalances, spectra, widths, size)
    (W1, W2), E = aligned_pair(rng, product, *spectra[0])
    best, closest = [E @ W1, W2 @ E.T], _distance([E @ W1, W2 @ E.T], product, imbalances, size)
    for _ in range(TURNS):  # the closed form is left where no other hidden basis leads back to C
        O = random_orthogonal(rng, len(W1))
        (V1, V2), _ = on_level(stretched(rng, [O @ W1, W2 @ O.T], SPREAD), [E.T @ imbalances[0] @ E], size)
        distance = _distance([E @ V1, V2 @ E.T], product, imbalances, size)
        if distance <= FAR:
            return [E @ V1, V2 @ E.T], distance
    return best, closest


def _search_deep(
    rng: np.random.Generator,
    product: np.ndarray,
    imbalances: list[np.ndarray],
    spectra: list[tuple[np.ndarray, np.ndarray]],
    widths: tuple[int, ...],
    size: float,
) -> tuple[Layers, float]:
    """`_search` in three or more layers, from random networks with the product."""
    best, closest = [], np.inf
    U, s, Vt = np.linalg.svd(product, full_matrices=False)
    rank = min(int(np.sum(s > SIGN * size ** len(widths[1:]))), *widths)
    wide = max(np.abs(c).max() for c, _ in spectra) ** 0.5  # what the product does not need may be far smaller
    least = [max(rank, int(np.sum(c != 0))) for c, _ in spectra]
    for attempt in range(ATTEMPTS):
        # first as few hidden directions as possible (unused ones make the equations singular), then all, then some
        choices = [(low, d, int(rng.integers(low, d + 1))) for low, d in zip(least, widths[1:-1], strict=True)]
        used = [choice[min(attempt % 4, 2)] for choice in choices]
        frames = [_range_and_more(rng, c, E, m) for (c, E), m in zip(spectra, used, strict=True)]
        chain = random_chain(rng, (U, s, Vt.T), rank, used, (wide, size)[attempt % 2], full=attempt % 6 < 4)
        targets = [F.T @ C @ F for F, C in zip(frames, imbalances, strict=True)]
        chain, _ = on_level(stretched(rng, chain, SPREAD if attempt % 3 else 1.0), targets, size)
        outer = [np.eye(widths[0]), *frames, np.eye(widths[-1])]
        weights = [above @ W @ below.T for below, W, above in zip(outer, chain, outer[1:], strict=False)]
        distance = _distance(weights, product, imbalances, size)
        if distance < closest:
            best, closest = weights, distance
        if closest <= FAR:
            break
    return best, closest


def _distance(weights: Layers, product: np.ndarray, imbalances: list[np.ndarray], size: float) -> float:
    """Error of the product and of every C_l, relative to powers of `size`."""
    made = np.linalg.multi_dot([*weights[::-1], np.eye(product.shape[1])])
    errors = [np.linalg.norm(made - product) / size ** len(weights)]
    for W, above, C in zip(weights, weights[1:], imbalances, strict=False):
        errors.append(np.linalg.norm(above.T @ above - W @ W.T - C) / size**2)
    return float(max(errors))


def _range_and_more(rng: np.random.Generator, c: np.ndarray, E: np.ndarray, m: int) -> np.ndarray:
    """Frame of m columns: the range of C, then random directions of its kernel."""
    kept, kernel = E[:, c != 0], E[:, c == 0]
    return np.hstack([kept, kernel @ random_orthogonal(rng, kernel.shape[1])[:, : m - kept.shape[1]]])


def _spectrum(C: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of C; what is rounding beside the weights' squares is zero exactly."""
    c, E = np.linalg.eigh(C)
    return np.where(np.abs(c) <= SIGN * size**2, 0.0, c), E


def _check_signs(spectra: list[tuple[np.ndarray, np.ndarray]], widths: tuple[int, ...]) -> None:
    """`ValueError` where a layer has too few rows or columns for the signs of a C_l."""
    for l, (c, _) in enumerate(spectra, start=1):
        for sign, count, room, layer in (
            ("positive", int(np.sum(c > 0)), widths[l + 1], f"W_{l + 1}^T W_{l + 1}"),
            ("negative", int(np.sum(c < 0)), widths[l - 1], f"W_{l} W_{l}^T"),
        ):
            if count > room:
                raise ValueError(
                    f"`imbalances`: C_{l} has {count} {sign} eigenvalues, but {layer} has rank at most {room}, the "
                    f"width of layer {l + 1 if sign == 'positive' else l - 1}; widen that layer, or give C_{l} at most "
                    f"{room} of them"
                )


def _checked(
    product: Any, imbalances: Sequence[Any], widths: Sequence[int] | None
) -> tuple[np.ndarray, list[np.ndarray], tuple[int, ...]]:
    """The product and symmetric matrices, of shapes that fit."""
    product = floats("product", product, 2, "(d_y, d_x)")
    given = [floats("imbalances", C, part=f"C_{l} ") for l, C in enumerate(imbalances, start=1)]
    if widths is None:
        if any(C.ndim != 2 for C in given):
            raise ValueError(
                "`widths`: numbers in `imbalances` do not tell the hidden widths; give (d_x, d_1, ..., d_y)"
            )
        widths = (product.shape[1], *(C.shape[0] for C in given), product.shape[0])
    widths = check_drawn(widths, bases=True)
    if len(given) != len(widths) - 2:
        raise ValueError(f"`imbalances`: got {len(given)}; widths {widths} have {len(widths) - 2} hidden layers")
    matrices = []
    for l, (C, d) in enumerate(zip(given, widths[1:-1], strict=True), start=1):
        if C.ndim not in (0, 2) or (C.ndim == 2 and C.shape != (d, d)):
            raise ValueError(f"`imbalances`: C_{l} has shape {C.shape}; it must be {(d, d)}, or one number")
        C = C * np.eye(d) if C.ndim == 0 else C
        if np.abs(C - C.T).max() > 1e-10 * np.abs(C).max():
            raise ValueError(f"`imbalances`: C_{l} is not symmetric; W^T W and W W^T are")
        matrices.append((C + C.T) / 2)
    return np.array(check_product(product, widths)), matrices, widths


def _feasible(lam: Any, widths: tuple[int, ...]) -> Array:
    """`lam` of a sign that the widths allow; checked when the program runs where JAX traces it."""
    d_x, d_1, d_y = widths
    if isinstance(lam, Tracer):
        import equinox as eqx  # a third of a second, for this alone

        if d_1 > d_y:
            lam = eqx.error_if(lam, lam > 0, f"`lam`: is above 0, which widths {widths} forbid (d_1 > d_y)")
        if d_1 > d_x:
            lam = eqx.error_if(lam, lam < 0, f"`lam`: is below 0, which widths {widths} forbid (d_1 > d_x)")
        return lam
    lam = number("lam", lam, "one finite number (jax.vmap maps over several)")
    for wrong, sign, side, layer, room in (
        (lam > 0 and d_1 > d_y, "above", "outputs", "W_2^T W_2", d_y),
        (lam < 0 and d_1 > d_x, "below", "inputs", "W_1 W_1^T", d_x),
    ):
        if wrong:
            raise ValueError(
                f"`lam`: {lam} is {sign} 0, which the hidden width {d_1} forbids with {room} {side}: {layer} would "
                f"need rank {d_1}; take a hidden width of at most {room}, or lam = 0, which any widths allow"
            )
    return jnp.asarray(lam, dtype=float)


def _root(x: Array) -> Array:
    """Square root with derivative 0, not infinity, at 0: padded singular values stay where they are."""
    return jnp.where(x == 0, 0.0, jnp.sqrt(jnp.where(x == 0, 1.0, x)))
