"""Extreme eigenpairs of the Hessian, with residuals that certify the signs of the eigenvalues."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._arguments import checks_arguments
from .._checks import check_whole
from .._linalg import one_thread
from .._types import Array
from ..network import Network
from .arguments import Point, check_concrete, checked
from .coordinates import Coordinates, noise_of, scattered
from .dense import dense_of, learning_of
from .lanczos import Found, Problem, ends
from .operators import Operator, hessian_operator

DENSE = 256  # weights up to which the Hessian is formed
SHARE = 4  # the Lanczos basis takes at most so many times the memory of the weights
LEAST = 2**16  # numbers that it may take in any case, half a megabyte
LONGEST = 120  # vectors beyond which their orthogonalisation costs more than restarts
FINE = 1e-10  # residual of `lowest_eigenvalue`, relative to the Hessian; the error is about the square


class Eigenpairs(eqx.Module):
    """Eigenpairs at one end of the spectrum, the outermost first.

    >>> from deeplinear import SquaredError
    >>> found = extreme_eigenvalues(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]))
    >>> found.low.values.tolist(), found.low.signs
    ([-2.0], ('negative',))
    """

    values: np.ndarray
    """(k,)"""
    vectors: tuple[Network, ...]
    """Of length 1 over all weights together, orthogonal to each other."""
    residuals: np.ndarray
    """Bounds on |H v - value v|, rounding included, (k,): the Hessian has an eigenvalue within each."""
    signs: tuple[str, ...] = eqx.field(static=True)
    """"negative" or "positive" where the residual excludes zero and the other sign, else "uncertain"."""


class Extremes(eqx.Module):
    """Both ends of a Hessian's spectrum; unpacks as (lowest k, highest k) eigenvalues.

    >>> from deeplinear import SquaredError
    >>> lowest, highest = extreme_eigenvalues(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]))
    >>> lowest.tolist(), highest.tolist()
    ([-2.0], [2.0])
    """

    low: Eigenpairs
    high: Eigenpairs
    products: int = eqx.field(static=True)
    """Hessian-vector products that it took; 0: from the dense matrix."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.low.values, self.high.values))


@checks_arguments
def extreme_eigenvalues(
    objective: Any,
    network: Network,
    k: int = 1,
    *,
    mask: Network | None = None,
    weight_decay: Any = 0.0,
    tolerance: float = 1e-8,
    max_products: int = 5000,
) -> Extremes:
    r"""The k smallest and k largest eigenpairs of the Hessian of the loss in all weights that learn.

    Unpacks as (lowest, highest), each (k,) and outermost first, repeated as often as their multiplicity; `.low` and
    `.high` also hold eigenvectors, residuals and signs. From the dense matrix up to 256 weights; beyond by Lanczos with
    thick restarts and full orthogonalisation, from fixed random starts, in the subspace that layers' images span, until
    residuals are below `tolerance` times the largest eigenvalue in modulus, or `max_products` are spent.

    - A value's sign is certified where its residual, with an estimate of rounding, excludes zero: then the Hessian has
      an eigenvalue of that sign. Values in `low` are upper bounds of the true ones, those in `high` lower bounds:
      "negative" in `low` certifies a direction of descent. That nothing lies further out holds with probability one
      over the starts, not with certainty, so "positive" in `low` alone is no proof of a minimum.
    - Any JAX function of the end-to-end matrix is an objective. `mask`, `weight_decay`: as in `hessian_operator`;
      eigenvectors are zero where weights are held.
    - Memory: four times the weights, and 2 k networks of eigenvectors. Runs on the host, not under `jax.jit`.

    Raises `ValueError` for widths that do not fit, k below 1 or above the number of weights that learn.

    >>> from deeplinear import SquaredError
    >>> network = Network([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    >>> found = extreme_eigenvalues(SquaredError.from_singular_values([3.0, 1.0], 2, 2), network, k=2)
    >>> lowest, highest = found
    >>> lowest.round(6).tolist(), highest.round(6).tolist(), found.low.signs
    ([-2.0, -1.0], [2.0, 2.0], ('negative', 'negative'))

    Source: Wu and Simon (2000), SIAM J. Matrix Anal. Appl. 22, 602-616, for the restarts; Parlett (1998), The Symmetric
    Eigenvalue Problem, theorem 4.5.1, for the residual.
    """
    point = checked(objective, network, mask, weight_decay)
    check_concrete(point)
    if not 1 <= check_whole("k", k) <= point.learning:
        raise ValueError(f"`k`: got {k}; {point.learning:,} weights learn, so give 1 to {point.learning:,}")
    if not (np.isfinite(tolerance) and 0 < tolerance < 1):
        raise ValueError(f"`tolerance`: got {tolerance}; give a share of the largest eigenvalue between 0 and 1")
    check_whole("max_products", max_products, 1)
    spectrum = _ends(point, k, k, tolerance, max_products)
    operator = hessian_operator(objective, network, mask=mask, weight_decay=weight_decay)
    last = spectrum.values.size - 1
    low, high = (_pairs(spectrum, order, operator) for order in (range(k), range(last, last - k, -1)))
    return Extremes(low, high, spectrum.products)


@checks_arguments
def lowest_eigenvalue(
    objective: Any, network: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> float:
    """Smallest eigenvalue of the Hessian of the loss in all weights that learn, by Lanczos (dense when small).

    See `extreme_eigenvalues`, which also returns the eigenvector and the residual.

    >>> from deeplinear import SquaredError
    >>> lowest_eigenvalue(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]))
    -2.0
    """
    point = checked(objective, network, mask, weight_decay)
    check_concrete(point)
    return float(_ends(point, 1, 0, FINE, 5000).values[0])


class Spectrum(NamedTuple):
    """Eigenvalues at both ends together, ascending."""

    values: np.ndarray
    vector: Callable[[int], Network]
    """The eigenvector of the eigenvalue with this number."""
    noise: float
    """Rounding error of a product with the Hessian."""
    products: int


def _ends(point: Point, low: int, high: int, tolerance: float, products: int) -> Spectrum:
    noise = noise_of(point)
    if point.learning <= DENSE:
        learn = learning_of(point)
        values, vectors = np.linalg.eigh(np.asarray(dense_of(point, learn)))
        return Spectrum(values, lambda i: scattered(point, learn, vectors[:, i]), noise, 0)
    space = Coordinates.of(point)
    basis = min(max(SHARE * point.learning, LEAST) // space.length, LONGEST)
    problem = Problem(space.product, space.draw, space.inside, space.dimension, basis, tolerance, noise, products)
    with _few_threads():
        found, used = ends(problem, min(low, space.dimension), min(high, space.dimension))
    return _with_outside(space, found, low + high, noise, used)


def _few_threads() -> AbstractContextManager:
    """One BLAS thread, where no thread of ours is in BLAS: two wait for each other on a busy machine, 14 times as long.

    Ensembles judge their endings in worker threads, under a limit of their own.
    """
    return one_thread() if threading.current_thread() is threading.main_thread() else nullcontext()


def _with_outside(space: Coordinates, found: Found, count: int, noise: float, used: int) -> Spectrum:
    """Beside those found the eigenvalue outside the space, the weight decay, as often as `count` can ask for it."""
    decay = 0.0 if space.point.weight_decay is None else float(space.point.weight_decay)
    values = np.concatenate([found.values, np.full(min(count, space.outside), decay)])
    order = np.argsort(values, kind="stable")
    drawn: dict[int, Network] = {}

    def vector(i: int) -> Network:
        number = int(order[i])
        if number < found.values.size:
            return space.expand(found.vectors[number])
        if number not in drawn:
            drawn[number] = space.draw_outside(list(drawn.values()))
        return drawn[number]

    return Spectrum(values[order], vector, noise, used)


def _pairs(spectrum: Spectrum, order: range, operator: Operator) -> Eigenpairs:
    """Eigenpairs as networks; residuals by the operator on networks itself, not by the recurrence that found them."""
    values = spectrum.values[list(order)]
    vectors = tuple(spectrum.vector(i) for i in order)
    residuals = np.array([float(_residual(operator, v, a)) for v, a in zip(vectors, values, strict=True)])
    residuals += spectrum.noise
    sign = lambda a, r: "negative" if a < -r else "positive" if a > r else "uncertain"
    return Eigenpairs(values, vectors, residuals, tuple(map(sign, values, residuals)))


@eqx.filter_jit
def _residual(operator: Operator, vector: Network, value: Any) -> Array:
    image = operator(vector)
    return jnp.sqrt(sum(jnp.sum((I - value * v) ** 2) for I, v in zip(image.weights, vector.weights, strict=True)))
