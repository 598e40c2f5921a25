r"""The chain of weights at one point, and how its product and gradient answer to a direction, along the thinner side.

With $S_j = W_h \cdots W_{j+1}$ and $R_j = G W_1^T \cdots W_{j-1}^T$, $G = \nabla L(W)$, the gradient is $S_j^T R_j$.
All these have min(d_x, d_y) rows (where d_x < d_y the transposed chain is used), and so have their changes along V:

$$ dS_{j-1} = dS_j W_j + S_j V_j, \quad dW = dS_0, \quad dR_1 = \nabla^2 L(W)[dW], \quad
   dR_{j+1} = dR_j W_j^T + R_j V_j^T, \quad (H V)_j = S_j^T dR_j + dS_j^T R_j $$

Hence layer j of every H V has the form $S_j^T A + B R_j$: the Hessian of a network with few outputs has low rank and
its eigenvectors fit into $U_j X_j + Y_j Q_j^T$, with orthonormal U_j, Q_j that span the rows of S_j and R_j and
$U_j^T Y_j = 0$. In these coordinates a vector of 784-256-256-10 has 18,000 numbers instead of 269,000.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from .._linalg import product
from .._types import Array
from ..objectives import gradient_of
from .arguments import Point


class Frame(NamedTuple):
    """Where the images of the Hessian lie in one layer."""

    U: Array
    """Orthonormal, (d_j, n): spans the rows of S_j."""
    Q: Array
    """Orthonormal, (d_{j-1}, n): spans the rows of R_j."""
    r: Array
    """R_j Q, (n, n)."""

    def outside(self, Y: Array) -> Array:
        """The part of Y that U does not span."""
        return Y - product(self.U, product(self.U.T, Y))


class Layer(NamedTuple):
    """A direction in one layer: X U-coordinates with Y beside them, or, without a frame, the matrix X itself."""

    X: Array
    Y: Array | None


class Chain(eqx.Module):
    """What of a point does not depend on the direction; n = min(d_x, d_y) rows everywhere."""

    weights: tuple[Array, ...]
    W: Array
    above: tuple[Array, ...]
    """S_j, or S_j U_j where there is a frame; S_h is the identity."""
    right: tuple[Array, ...] | None
    """R_j; None leaves out the part of the Hessian with the gradient of the loss (Gauss-Newton)."""
    frames: tuple[Frame | None, ...]

    def variation(self, layers: list[Layer]) -> list[Array]:
        """dS_0, ..., dS_{h-1}; dW is the first."""
        changes = [layers[-1].X]  # S_h is the identity, and the last layer never has a frame
        for W, S, layer in zip(self.weights[-2::-1], self.above[-2::-1], layers[-2::-1], strict=True):
            changes.append(product(changes[-1], W) + product(S, layer.X))
        return changes[::-1]

    def image(self, layers: list[Layer], changes: list[Array], d_gradient: Array) -> list[Layer]:
        """H V from the changes of S_j and of the gradient with respect to the end-to-end matrix."""
        d_right, images, h = d_gradient, [], len(self.weights)
        for j in range(h):
            right = None if self.right is None else self.right[j]
            images.append(_image(self.above[j], right, self.frames[j], changes[j + 1] if j + 1 < h else None, d_right))
            if j + 1 < h:
                d_right = product(d_right, self.weights[j].T)
                if right is not None:
                    d_right = d_right + _met(right, self.frames[j], layers[j])
        return images


def _image(S: Array, R: Array | None, frame: Frame | None, dS: Array | None, dR: Array) -> Layer:
    """S^T dR + dS^T R in the coordinates of the layer."""
    if dS is None:  # the last layer
        return Layer(dR, None)
    if R is None:
        return Layer(product(S.T, dR), None)
    seen = dS if frame is None else product(dS, frame.U)
    X = product(jnp.concatenate([S, seen]).T, jnp.concatenate([dR, R]))
    return Layer(X, None if frame is None else frame.outside(product(dS.T, frame.r)))


def _met(R: Array, frame: Frame | None, layer: Layer) -> Array:
    """R V^T."""
    met = product(R, layer.X.T)
    return met if frame is None or layer.Y is None else product(met, frame.U.T) + product(frame.r, layer.Y.T)


def is_flipped(point: Point) -> bool:
    """Whether the transposed chain is the thin one."""
    return point.network.widths[-1] > point.network.widths[0]


def flip(layers: tuple[Array, ...]) -> tuple[Array, ...]:
    """The layers of the transposed chain."""
    return tuple(W.T for W in layers[::-1])


def oriented(point: Point, layers: tuple[Array, ...]) -> tuple[Array, ...]:
    """The layers in the order in which the outputs are the thinner side; its own inverse."""
    return flip(layers) if is_flipped(point) else layers


def gradient_at(point: Point, W: Array) -> Array:
    """dL/dW of the oriented chain."""
    gradient = gradient_of(point.objective)
    return gradient(W.T).T if is_flipped(point) else gradient(W)


def chain_of(point: Point, with_residual: bool = True, with_frames: bool = False) -> Chain:
    """The chain at a point; `with_frames`: directions in coordinates of low rank where these are fewer."""
    weights = oriented(point, point.network.weights)
    above = [jnp.eye(weights[-1].shape[0])]
    for l, W in enumerate(weights[::-1]):
        above.append(W if l == 0 else product(above[-1], W))
    W, above = above[-1], above[-2::-1]
    right = [gradient_at(point, W)]
    for layer in weights[:-1]:
        right.append(product(right[-1], layer.T))
    if not with_frames:
        return Chain(weights, W, tuple(above), tuple(right) if with_residual else None, (None,) * len(weights))
    frames = tuple(_frame(S, R) if _pays(S, layer) else None for S, R, layer in zip(above, right, weights, strict=True))
    above = [S if frame is None else product(S, frame.U) for S, frame in zip(above, frames, strict=True)]
    return Chain(weights, W, tuple(above), tuple(right), frames)


def _pays(S: Array, W: Array) -> bool:
    rows, columns = W.shape
    return S.shape[0] * (rows + columns) < rows * columns


def _frame(S: Array, R: Array) -> Frame:
    Q = jnp.linalg.qr(R.T)[0]
    return Frame(jnp.linalg.qr(S.T)[0], Q, product(R, Q))
