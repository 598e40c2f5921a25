r"""The tangent kernel of a deep linear network, held as a short sum of Kronecker products.

$f(x) = W_h \cdots W_1 x$ has $\partial f(x) / \partial W_l = W_{l+1:h} \otimes (W_{1:l-1} x)^T$, so

$$ K(x, x') = \sum_l A_l \; x^T B_l x', \quad A_l = W_{l+1:h} W_{l+1:h}^T, \quad B_l = W_{1:l-1}^T W_{1:l-1}. $$

Vectors stack the rows of a matrix (output-major): K is $\sum_l A_l \otimes B_l$ and takes V to $\sum_l A_l V B_l$.
Papers that stack columns write the factors in the opposite order. Source: Jacot, Gabriel and Hongler (2018); for two
layers Braun et al. (2022) and Domine et al. (2025).
"""

import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh

from .. import _memory
from .._arguments import checks_arguments
from .._arrays import floats, position
from .._linalg import on_device
from .._types import Array
from ..network import Network

DENSE = 1024  # rows up to which `spectrum` forms the matrix: 8 MB, a quarter of a second


class TangentKernel(eqx.Module):
    r"""The kernel $K = \sum_l A_l \otimes B_l$ on matrices (d_y, d_in), never formed unless `full` is called.

    `outputs` (..., h, d_y, d_y) and `inputs` (..., h, d_in, d_in) hold the symmetric positive semidefinite $A_l$ and
    $B_l$; leading axes (time, member) are carried through everything but `spectrum` of one kernel. `ntk(network)` and
    `two_layer(gram_in, gram_out)` give the kernel on maps, d_in = d_x: under gradient flow $\dot W = -K \nabla L(W)$.
    `on(X)` gives the kernel on n samples, d_in = n, which acts on (d_y, n): predictions (n, d_y) transposed.

    >>> kernel = ntk(Network([[[2.0]], [[3.0]]]))
    >>> kernel.full().tolist(), float(kernel.trace)
    ([[13.0]], 13.0)

    Source: Jacot, Gabriel and Hongler (2018).
    """

    outputs: Float[Array, "*batch layer out out"]
    inputs: Float[Array, "*batch layer in in"]
    on_maps: bool = eqx.field(static=True, default=True)
    """Whether this is the kernel on maps, where B_1 and A_h are identities."""

    @classmethod
    def two_layer(cls, gram_in: Any, gram_out: Any) -> "TangentKernel":
        r"""The kernel $W_2 W_2^T \otimes I + I \otimes W_1^T W_1$ of a two-layer network, from its Gram matrices.

        `gram_in` = $W_1^T W_1$ (..., d_x, d_x) and `gram_out` = $W_2 W_2^T$ (..., d_y, d_y), as an exact solution has
        them, with or without a leading time axis. Raises `ValueError` for matrices that are not square or whose leading
        axes differ.

        >>> TangentKernel.two_layer([[4.0]], [[9.0]]).full().tolist()
        [[13.0]]
        """
        gram_in, gram_out = on_device(floats("gram_in", gram_in)), on_device(floats("gram_out", gram_out))
        for name, gram in (("gram_in", gram_in), ("gram_out", gram_out)):
            if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2]:
                raise ValueError(f"`{name}`: has shape {gram.shape}; give a square matrix, or a stack of them")
        if gram_in.shape[:-2] != gram_out.shape[:-2]:
            raise ValueError(
                f"`gram_in`, `gram_out`: have shapes {gram_in.shape}, {gram_out.shape}; their leading axes must agree"
            )
        identity = lambda gram: jnp.broadcast_to(jnp.eye(gram.shape[-1]), gram.shape)
        stack = lambda first, second: jnp.stack([first, second], axis=-3)
        return cls(stack(gram_out, identity(gram_out)), stack(identity(gram_in), gram_in))

    def on(self, X: Any) -> "TangentKernel":
        """The kernel on samples, rows of X (n, d_x): B_l becomes X B_l X^T, shape (n, n).

        >>> ntk(Network([[[2.0]], [[3.0]]])).on([[1.0], [10.0]]).full().tolist()
        [[13.0, 130.0], [130.0, 1300.0]]
        """
        X = on_device(floats("X", X, 2, "(n, d_x), samples in rows"))
        if not self.on_maps or X.shape[1] != self.inputs.shape[-1]:
            raise ValueError(
                f"`X`: has shape {X.shape}; give samples in rows of {self.inputs.shape[-1]} inputs, to a kernel on maps"
            )
        needed = 8 * 2 * self.inputs.shape[-3] * len(X) ** 2
        _memory.check("X", f"the kernel on {len(X)} samples", needed, "give fewer samples")
        return TangentKernel(self.outputs, X @ self.inputs @ X.T, on_maps=False)

    def matvec(self, V: Float[Array, "*batch out in"]) -> Float[Array, "*batch out in"]:
        """K applied to a matrix (..., d_y, d_in), the sum of A_l V B_l, at O(h (d_y + d_in) d_y d_in).

        >>> ntk(Network([[[2.0]], [[3.0]]])).matvec(jnp.array([[2.0]])).tolist()
        [[26.0]]
        """
        return jnp.sum(self.outputs @ V[..., None, :, :] @ self.inputs, axis=-3)

    @property
    def trace(self) -> Array:
        """Sum of tr(A_l) tr(B_l)."""
        return jnp.sum(_trace(self.outputs) * _trace(self.inputs), axis=-1)

    @property
    def norm(self) -> Array:
        """Frobenius norm of K."""
        return jnp.sqrt(self.inner(self))

    def inner(self, other: "TangentKernel") -> Array:
        r"""$\langle K, K' \rangle = \sum_{lm} \mathrm{tr}(A_l A'_m) \, \mathrm{tr}(B_l B'_m)$, any two depths."""
        return _inner(self.outputs, self.inputs, other.outputs, other.inputs)

    def distance(self, other: "TangentKernel") -> Array:
        r"""Frobenius norm of K - K' for kernels of one depth, accurate where they nearly agree as well.

        From the norm of $\sum_l (A_l - A'_l) \otimes B_l + A'_l \otimes (B_l - B'_l)$, for the difference of the three
        inner products would lose half of the digits.
        """
        if self.outputs.shape[-3] != other.outputs.shape[-3]:
            raise ValueError(
                f"`other`: has {other.outputs.shape[-3]} layers, this kernel {self.outputs.shape[-3]}; they must agree"
            )
        A0, B0 = jnp.broadcast_to(other.outputs, self.outputs.shape), jnp.broadcast_to(other.inputs, self.inputs.shape)
        A = jnp.concatenate([self.outputs - A0, A0], axis=-3)
        B = jnp.concatenate([self.inputs, self.inputs - B0], axis=-3)
        return jnp.sqrt(jnp.maximum(_inner(A, B, A, B), 0.0))

    def alignment(self, other: "TangentKernel") -> Array:
        """Cosine of the angle between K and K', from 0 to 1 for these positive kernels; NaN for a kernel of zero."""
        size = self.norm * other.norm
        return jnp.where(size > 0, self.inner(other) / jnp.where(size > 0, size, 1.0), jnp.nan)

    def spectrum(self, k: int | None = None) -> Array:
        r"""The k largest eigenvalues (None: all), largest first.

        Exact from small matrices on maps up to depth two: there all eigenvalues are sums $\alpha_i + \beta_j$ of those
        of $W_2 W_2^T$ and $W_1^T W_1$. Otherwise from the full matrix where that has at most 1024 rows, and by Lanczos
        beyond, for one kernel outside `jit`. Raises `ValueError` for a k out of range, and beyond 1024 rows for k=None.

        >>> ntk(Network([[[2.0, 0.0]], [[3.0]]])).spectrum().tolist()
        [13.0, 9.0]
        """
        d_y, d_in, depth = self.outputs.shape[-1], self.inputs.shape[-1], self.outputs.shape[-3]
        count = d_y * d_in if k is None else k
        if not 1 <= count <= d_y * d_in:
            raise ValueError(f"`k`: got {k}; this kernel has {d_y * d_in} eigenvalues")
        if self.on_maps and depth <= 2:  # I x I, or A x I + I x B
            alpha, beta = (
                jnp.linalg.eigvalsh(self.outputs[..., 0, :, :]),
                jnp.linalg.eigvalsh(self.inputs[..., -1, :, :]),
            )
            sums = alpha[..., :, None] + beta[..., None, :] - (2 - depth)
            return -jnp.sort(-sums.reshape(*sums.shape[:-2], -1), axis=-1)[..., :count]
        if d_y * d_in <= DENSE:
            return jnp.linalg.eigvalsh(self.full())[..., ::-1][..., :count]
        if k is None or k >= d_y * d_in // 2:
            raise ValueError(f"`k`: got {k}; of {d_y * d_in} eigenvalues ask for fewer than half, the largest ones")
        if isinstance(self.outputs, Tracer) or self.trace.ndim:
            raise ValueError("`spectrum`: Lanczos runs on one kernel outside of jit; take `kernel[i]` in a loop")
        A, B = np.asarray(self.outputs), np.asarray(self.inputs)
        product = lambda v: np.sum(A @ v.reshape(1, d_y, d_in) @ B, axis=0).ravel()
        make: Any = LinearOperator  # its annotations hide the arguments that it takes
        operator = make((d_y * d_in,) * 2, matvec=product, dtype=float)
        start = np.random.default_rng(0).standard_normal(d_y * d_in)  # ARPACK's own would differ from call to call
        return jnp.asarray(np.sort(eigsh(operator, k, which="LA", v0=start, return_eigenvectors=False))[::-1].copy())

    def full(self) -> Array:
        """The matrix (..., d_y d_in, d_y d_in), rows and columns output-major: (d_y d_in)^2 numbers."""
        n = self.outputs.shape[-1] * self.inputs.shape[-1]
        needed = 8 * 2 * n**2 * math.prod(self.outputs.shape[:-3])
        _memory.check("kernel", f"the full tangent kernel of {n} rows", needed, "use `matvec` or `spectrum`")
        blocks = jnp.einsum("...lab,...lij->...aibj", self.outputs, self.inputs)
        return blocks.reshape(*blocks.shape[:-4], n, n)

    def __len__(self) -> int:
        """Length of the first leading axis; `TypeError` for a single kernel."""
        if self.outputs.ndim < 4:
            raise TypeError("a single kernel has no length; kernels over time or members have")
        return self.outputs.shape[0]

    def __getitem__(self, index: Any) -> "TangentKernel":
        """The kernel at an index, or a tuple of them, of the leading axes; `IndexError` beyond their ends."""
        indices, lengths = index if isinstance(index, tuple) else (index,), self.outputs.shape[:-3]
        if len(indices) > len(lengths):
            raise IndexError(f"this kernel has {len(lengths)} leading axes; got {len(indices)} indices")
        places = tuple(position(i, n, "kernels") for i, n in zip(indices, lengths, strict=False))
        return jax.tree.map(lambda factor: factor[places], self)

    def __iter__(self) -> Iterator["TangentKernel"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return True


@checks_arguments
def ntk(network: Network) -> TangentKernel:
    r"""The tangent kernel of a network on maps, $K = \sum_l W_{l+1:h} W_{l+1:h}^T \otimes W_{1:l-1}^T W_{1:l-1}$.

    Shapes: factors (h, d_y, d_y) and (h, d_x, d_x). `trajectory.map(ntk)` is the kernel over time, `ntk(network).on(X)`
    the kernel on samples; a dataset holds arrays, so `measure` takes what is read of a kernel, for instance
    `lambda network: ntk(network).spectrum(5)`.

    >>> kernel = ntk(Network([[[2.0, 0.0]], [[3.0]]]))
    >>> kernel.full().tolist()
    [[13.0, 0.0], [0.0, 9.0]]

    Source: Jacot, Gabriel and Hongler (2018); Braun et al. (2022) for two layers.
    """
    W, h = network.weights, network.depth
    needed = 8 * 2 * h * (network.widths[0] ** 2 + network.widths[-1] ** 2)
    _memory.check(
        "network", f"the tangent kernel's {2 * h} factors", needed, "take a network of fewer inputs and outputs"
    )
    above = [jnp.eye(network.widths[-1], dtype=W[0].dtype)]  # W_{l+1:h}, from the last layer down
    below = [jnp.eye(network.widths[0], dtype=W[0].dtype)]  # W_{1:l-1}, from the first layer up
    for l in range(1, h):
        above.append(above[-1] @ W[h - l])
        below.append(W[l - 1] @ below[-1])
    return TangentKernel(jnp.stack([M @ M.T for M in above[::-1]]), jnp.stack([M.T @ M for M in below]))


def _trace(M: Array) -> Array:
    return jnp.trace(M, axis1=-2, axis2=-1)


def _inner(A: Array, B: Array, A1: Array, B1: Array) -> Array:
    """Inner product of two sums of Kronecker products."""
    products = lambda M, N: jnp.einsum("...lij,...mij->...lm", M, N)
    return jnp.sum(products(A, A1) * products(B, B1), axis=(-2, -1))
