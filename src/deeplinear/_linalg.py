"""Matrices: thin SVD with fixed signs, products of chains, roots of covariances, Haar frames."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache, reduce, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Float, PRNGKeyArray
from threadpoolctl import ThreadpoolController

from ._second_moment import rank_tolerance
from ._types import Array

T = TypeVar("T")


def on_device(array: Any) -> Array:
    """The array as JAX's, a copy if it is numpy's; `jnp.asarray` compiles a program for every shape."""
    return array if isinstance(array, jax.Array) else jax.device_put(np.array(array))  # it may keep what it is given


def namespace(array: Any) -> Any:
    """numpy for its own arrays, so that no shape is compiled, and JAX's for its own."""
    return np if isinstance(array, np.ndarray) else jnp


def joined(parts: Sequence[Any], axis: int = 0) -> Any:
    """Arrays one after another, numpy's where all of them are."""
    xp = np if all(isinstance(part, np.ndarray) for part in parts) else jnp
    return xp.concatenate(parts, axis=axis)


def as_numpy(tree: T) -> T:
    """A network, an objective, any tree with its arrays as numpy's: its methods then compute in numpy."""
    return jax.tree.map(np.asarray, tree)


def thin_svd(M: Any) -> tuple[Any, Any, Any]:
    """Thin SVD (U, s, V) with M = U diag(s) V^T and the entry of largest modulus in every column of U positive.

    The signs make modes comparable between machines and runs; note that V, not V^T, is returned. On the host for an
    array of numpy.
    """
    xp = namespace(M)
    U, s, Vt = xp.linalg.svd(M, full_matrices=False)
    largest = xp.argmax(xp.abs(U), axis=0)
    signs = xp.sign(U[largest, xp.arange(U.shape[1])])
    return U * signs[None, :], s, Vt.T * signs[None, :]


def from_svd(U: Any, s: Any, V: Any) -> Any:
    """U diag(s) V^T."""
    return (U * s[None, :]) @ V.T


_FUSED: ContextVar[bool] = ContextVar("fused", default=False)


@contextmanager
def fused_products() -> Iterator[None]:
    """While tracing: `product` becomes a multiplication and a sum that XLA fuses with its surroundings.

    A call of a matrix-product routine costs a microsecond, the whole product of two 6 x 6 matrices a tenth of that.
    Inside, the values are the same to rounding; whoever compiles under it keeps a compiled function of its own.
    """
    token = _FUSED.set(True)
    try:
        yield
    finally:
        _FUSED.reset(token)


def are_fused() -> bool:
    """Whether this is being traced under `fused_products`."""
    return _FUSED.get()


def product(A: Any, B: Any) -> Any:
    """The matrix product A B, in the form that the surrounding program wants (`fused_products`)."""
    if _FUSED.get() and A.ndim == B.ndim == 2:
        return (A[:, :, None] * B[None, :, :]).sum(1)
    return A @ B


def chain(matrices: Sequence[Any]) -> Any:
    """Product M_h ... M_1 of (M_1, ..., M_h), multiplied along the thinner of the two outer sides."""
    if matrices[0].shape[-1] <= matrices[-1].shape[-2]:
        return reduce(lambda below, M: product(M, below), matrices)
    return reduce(product, matrices[::-1])


def psd_root(S: Any) -> tuple[Any, Any, Any]:
    """Symmetric root R of a positive semidefinite S, its pseudo-inverse, and the projector onto the kernel of S.

    Eigenvalues at most n eps lam_max count as zero, the accuracy to which they can be known. Differentiable where S
    keeps its rank, repeated eigenvalues included; a second time only where they differ. On the host for an array of
    numpy.
    """
    return _psd_root(S) if isinstance(S, np.ndarray) else _differentiable_root(S)


def _psd_root(S: Any) -> tuple[Any, Any, Any]:
    Q, kept, root, inverse = _root_spectrum(S)
    return from_svd(Q, root, Q), from_svd(Q, inverse, Q), from_svd(Q, (~kept).astype(S.dtype), Q)


def _root_spectrum(S: Any) -> tuple[Any, Any, Any, Any]:
    """Eigenvectors, which eigenvalues count as nonzero, their roots and inverse roots (0 for the others)."""
    xp = namespace(S)
    eigenvalues, Q = xp.linalg.eigh((S + S.T) / 2)
    kept = eigenvalues > rank_tolerance(S.shape[0]) * xp.max(xp.abs(eigenvalues))
    root = xp.where(kept, xp.sqrt(xp.where(kept, eigenvalues, 1.0)), 0.0)
    return Q, kept, root, xp.where(kept, 1 / xp.where(kept, root, 1.0), 0.0)


_differentiable_root = jax.custom_jvp(_psd_root)


@_differentiable_root.defjvp
def _psd_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple, tuple]:
    """Derivatives by divided differences of eigenvalues a, b: differentiating `eigh` would bring 1 / (a - b).

    With r the roots: 1 / (r_a + r_b) for the root, -1 / (r_a r_b (r_a + r_b)) for its inverse, 0 for the projector;
    between the range and the kernel f(a) / a; within the kernel nothing, for the rank stays.
    Source: Higham (2008), Functions of Matrices, theorem 3.11 (Daleckii and Krein).
    """
    (S,), (dS,) = primals, tangents
    Q, kept, root, inverse = _root_spectrum(S)
    both, one = kept[:, None] & kept[None, :], kept[:, None] ^ kept[None, :]
    sums, reach = root[:, None] + root[None, :], inverse[:, None] + inverse[None, :]
    of_root = jnp.where(both | one, 1 / jnp.where(both | one, sums, 1.0), 0.0)
    of_inverse = jnp.where(both, -inverse[:, None] * inverse[None, :] * of_root, jnp.where(one, reach**3, 0.0))
    of_projector = jnp.where(one, -(reach**2), 0.0)
    rotated = Q.T @ ((dS + dS.T) / 2) @ Q
    return _differentiable_root(S), tuple(Q @ (part * rotated) @ Q.T for part in (of_root, of_inverse, of_projector))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager:
    """While inside, BLAS and LAPACK work in one thread: for small matrices more of them wait for each other.

    Not while another thread may be inside BLAS: OpenBLAS does not survive a change of its threads then.
    """
    return _blas().limit(limits=1)


def haar(key: PRNGKeyArray, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """Haar-distributed matrix with orthonormal columns (rows >= columns) or orthonormal rows (rows < columns).

    numpy's and JAX's QR alone are not Haar: the signs of R's diagonal have to be taken out.
    """
    if rows < columns:
        return haar(key, columns, rows).T
    Q, R = jnp.linalg.qr(jax.random.normal(key, (rows, columns)))
    return Q * jnp.where(jnp.diagonal(R) < 0, -1.0, 1.0)[None, :]


def computed_once(f: Callable) -> Callable:
    """f as a function of its own in compiled code, whose results are stored.

    XLA fuses arithmetic into everything that reads it: long chains that are read in several places would be computed
    in each of them, and take as long to compile as they take to run.
    """

    @wraps(getattr(f, "func", f))
    def apart(*arguments: Any) -> Any:
        if jax.default_backend() != "cpu":
            return f(*arguments)

        def body(arguments: Any) -> Any:
            with set_xla_metadata(inlineable=None):  # what f calls is fused with the rest of f
                return f(*arguments)

        with set_xla_metadata(inlineable="false"):
            return jax.jit(body, inline=False)(arguments)

    return apart
