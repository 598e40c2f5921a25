"""The space in which the Hessian's eigenvectors are looked for, as vectors of numbers on the host."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from .._linalg import product
from .._types import Array
from ..network import Network
from .arguments import Point
from .chain import Chain, Layer, chain_of, gradient_at, oriented
from .dense import learning_of
from .operators import Operator, applied, d_gradient

PASSES = 20  # of the power method, for norms that need one digit


class Coordinates(NamedTuple):
    """Isometric coordinates of a space that the Hessian maps into itself; outside it the Hessian is the weight decay.

    The low-rank space of `chain`, or, under a mask, which leaves no low rank to use, the weights that learn.
    """

    point: Point
    chain: Chain
    learn: np.ndarray | None
    """Numbers of the weights that learn; None: all."""
    length: int
    """Numbers in a vector."""
    dimension: int
    """Of the space: U^T Y = 0 takes some where there are frames."""
    random: np.random.Generator

    @classmethod
    def of(cls, point: Point) -> "Coordinates":
        """Coordinates at a point, with a random generator of fixed seed."""
        chain, random = _prepared(point, point.mask is None), np.random.default_rng(0)
        if point.mask is not None:
            return cls(point, chain, learning_of(point), point.learning, point.learning, random)
        return cls(point, chain, None, *length_of(chain), random)

    @property
    def outside(self) -> int:
        """Dimension of the rest."""
        return self.point.learning - self.dimension

    def product(self, v: np.ndarray) -> np.ndarray:
        """The Hessian, weight decay included, times a vector."""
        return np.asarray(_image_of(self.point, self.chain, self.learn, v))

    def draw(self) -> np.ndarray:
        """A random vector of the space."""
        return self.inside(self.random.standard_normal(self.length))

    def inside(self, v: np.ndarray) -> np.ndarray:
        """The part of a vector that lies in the space."""
        return v if self.learn is not None else np.asarray(_inside(self.chain, v))

    def expand(self, v: np.ndarray) -> Network:
        """The direction with these coordinates, of the same length."""
        return _expand(self.point, self.chain, self.learn, v)

    def draw_outside(self, others: list[Network]) -> Network:
        """A random direction of length 1 outside the space, orthogonal to others from there."""
        flat, unravel = jax.flatten_util.ravel_pytree(self.point.network)
        v = np.asarray(_beyond(self.point, self.chain, unravel(jnp.asarray(self.random.standard_normal(flat.size)))))
        for _ in range(2):
            for other in others:
                u = np.asarray(jax.flatten_util.ravel_pytree(other)[0])
                v = v - (u @ v) * u
        return unravel(jnp.asarray(v / np.linalg.norm(v)))


@eqx.filter_jit
def _prepared(point: Point, with_frames: bool) -> Chain:
    return chain_of(point, with_frames=with_frames)


def _shapes(chain: Chain) -> list[tuple[tuple[int, int], tuple[int, int] | None]]:
    """Of X and Y of every layer."""
    shapes = []
    for W, frame in zip(chain.weights, chain.frames, strict=True):
        n = W.shape[0] if frame is None else frame.U.shape[1]
        shapes.append(((n, W.shape[1]), None if frame is None else (W.shape[0], n)))
    return shapes


def _layers(chain: Chain, v: Array) -> list[Layer]:
    """A vector cut into layers."""
    layers, at = [], 0
    for X, Y in _shapes(chain):
        parts = []
        for shape in (X, Y):
            size = 0 if shape is None else shape[0] * shape[1]
            parts.append(None if shape is None else v[at : at + size].reshape(shape))
            at += size
        layers.append(Layer(*parts))
    return layers


def _vector(layers: list[Layer]) -> Array:
    return jnp.concatenate([part.ravel() for layer in layers for part in layer if part is not None])


def length_of(chain: Chain) -> tuple[int, int]:
    """Numbers in a vector, and the dimension of the space."""
    shapes = _shapes(chain)
    length = sum(int(np.prod(X)) + (int(np.prod(Y)) if Y else 0) for X, Y in shapes)
    return length, length - sum(X[0] ** 2 for X, Y in shapes if Y)


def image_of(point: Point, chain: Chain, learn: Any, v: Any) -> Array:
    """The Hessian, weight decay included, times a vector."""
    v = jnp.asarray(v)
    if learn is not None:
        return jax.flatten_util.ravel_pytree(Operator(point, chain)(_scattered(point, learn, v)))[0][learn]
    image = _vector(applied(point, chain, _layers(chain, v)))
    return image if point.weight_decay is None else image + point.weight_decay * v


def inside(chain: Chain, v: Any) -> Array:
    """With U^T Y = 0 in every layer."""
    layers = zip(_layers(chain, jnp.asarray(v)), chain.frames, strict=True)
    return _vector(
        [layer if f is None or layer.Y is None else Layer(layer.X, f.outside(layer.Y)) for layer, f in layers]
    )


_image_of, _inside = eqx.filter_jit(image_of), eqx.filter_jit(inside)


@eqx.filter_jit
def _expand(point: Point, chain: Chain, learn: Any, v: Any) -> Network:
    if learn is not None:
        return _scattered(point, learn, v)
    matrices = [
        layer.X if f is None or layer.Y is None else product(f.U, layer.X) + product(layer.Y, f.Q.T)
        for layer, f in zip(_layers(chain, jnp.asarray(v)), chain.frames, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(point.network), oriented(point, tuple(matrices)))


def _scattered(point: Point, learn: Any, v: Any) -> Network:
    """The network whose learning weights are v and whose others are zero."""
    flat, unravel = jax.flatten_util.ravel_pytree(point.network)
    return unravel(jnp.zeros(flat.size).at[learn].set(v))


scattered = eqx.filter_jit(_scattered)


@eqx.filter_jit
def _beyond(point: Point, chain: Chain, V: Network) -> Array:
    """The part of V outside the space, flat: (I - U U^T) V (I - Q Q^T), nothing where there is no frame."""
    parts = []
    for D, frame in zip(oriented(point, V.weights), chain.frames, strict=True):
        if frame is not None:
            D = frame.outside(D)
            parts.append(D - product(product(D, frame.Q), frame.Q.T))
        else:
            parts.append(jnp.zeros_like(D))
    return jax.flatten_util.ravel_pytree(oriented(point, tuple(parts)))[0]


def noise_of(point: Point) -> float:
    r"""Estimate of the rounding error of H v for |v| = 1.

    Proportional to what the terms of the product could be without cancellation,
    $c \sum_j \prod_{l \ne j} \|W_l\|^2 + 2 g \sum_{j < k} \prod_{l \ne j, k} \|W_l\|$ with spectral norms, c that of
    the objective's second derivative and g = |G| + c |W|: near a saddle the Hessian may be smaller by far.
    """
    sizes, curved, gradient = (np.asarray(value) for value in _sizes(point))
    h = len(sizes)
    without = lambda *left: float(np.prod([s for l, s in enumerate(sizes) if l not in left]))
    once = sum(without(j) ** 2 for j in range(h))
    twice = sum(without(j, k) for j in range(h) for k in range(j))
    terms = float(curved) * once + 2 * (float(gradient) + float(curved) * without()) * twice
    if not np.isfinite(terms):
        raise ValueError("`objective`: its derivatives at this network are not finite; start from smaller weights")
    return 4 * float(np.finfo(float).eps) * (h + 1) * float(np.sqrt(max(point.network.widths))) * terms


@eqx.filter_jit
def _sizes(point: Point) -> tuple[Array, Array, Array]:
    """Spectral norms of the layers, of the objective's second derivative, and the norm of its gradient."""
    chain = chain_of(point)
    random = lambda *shape: jax.random.normal(jax.random.key(0), shape)
    norms = [_norm(lambda v, W=W: W.T @ (W @ v), random(W.shape[1])) ** 0.5 for W in chain.weights]
    curved = _norm(lambda dW: d_gradient(point, chain.W, dW), random(*chain.W.shape))
    return jnp.stack(norms), curved, jnp.sqrt(jnp.sum(gradient_at(point, chain.W) ** 2))


def _norm(apply: Any, start: Array) -> Array:
    """Largest eigenvalue in modulus, by the power method, from below."""

    def step(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        image = apply(state[0])
        size = jnp.sqrt(jnp.sum(image**2))
        return image / jnp.where(size > 0, size, 1.0), size

    first = start / jnp.sqrt(jnp.sum(start**2))
    return jax.lax.fori_loop(0, PASSES, step, (first, jnp.zeros(())))[1]
