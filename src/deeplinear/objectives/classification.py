"""Losses of classification, without overflow or cancellation however large the logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arrays import classes as named_classes
from .._arrays import floats, traced
from .._trees import value
from .._types import Array
from .arguments import indices, samples
from .samples import SampleLoss

SUM_TO_ONE = 1e-6  # by how much the probabilities of a soft target may miss 1


@value(init=False)
class Logistic(SampleLoss):
    r"""Logistic loss $\frac{1}{n} \sum_{ik} y_{ik} \ln(1 + e^{-z_{ik}}) + (1 - y_{ik}) \ln(1 + e^{z_{ik}})$.

    $z_i = W x_i$; X (n, d_x); y (n,) or (n, d_y), each output a yes or no of its own: 0 and 1, or probabilities
    between. No minimum is known: of separable data it is 0, and no matrix reaches it. Raises `ValueError` for labels
    outside [0, 1] and arrays that do not fit.

    >>> objective = Logistic([[1.0], [-1.0]], [1, 0])
    >>> round(float(objective(jnp.array([[0.0]]))), 12), float(objective(jnp.array([[1000.0]])))
    (0.69314718056, 0.0)

    Source: Soudry, Hoffer, Nacson, Gunasekar and Srebro (2018), JMLR 19; deep: Ji and Telgarsky (2019), ICLR.
    """

    X: Float[Array, "n d_x"]
    Y: Float[Array, "n d_y"]

    def __init__(self, X: Any, y: Any):
        self._take(*samples(X, y, "y"))
        if not traced(y):
            _check_probabilities("y", np.asarray(self.Y), "0 and 1, or probabilities between; map -1 to 0")

    def _losses(self, Z: Array) -> Array:
        return self.Y * jax.nn.softplus(-Z) + (1 - self.Y) * jax.nn.softplus(Z)

    def _slopes(self, Z: Array) -> Array:
        # sigma(z) - y without cancellation where a sample is learned
        return (1 - self.Y) * jax.nn.sigmoid(Z) - self.Y * jax.nn.sigmoid(-Z)

    def _bends(self, Z: Array, dZ: Array) -> Array:
        return jax.nn.sigmoid(Z) * jax.nn.sigmoid(-Z) * dZ


@value(init=False)
class CrossEntropy(SampleLoss):
    r"""Cross-entropy $-\frac{1}{n} \sum_{ik} p_{ik} \ln \mathrm{softmax}(W x_i)_k$ of C classes, W (C, d_x).

    X (n, d_x); `labels`: classes (n,), whole numbers from 0 (`classes`: how many there are, None: the largest label and
    one) or texts (in alphabetical order), or soft targets (n, C), probabilities that add up to 1. No minimum is known:
    of separable labels it is 0, and no matrix reaches it. Raises `ValueError` for labels outside the classes, targets
    that are no probabilities, and arrays that do not fit.

    >>> objective = CrossEntropy([[1.0], [-1.0]], [0, 1])
    >>> round(float(objective(jnp.zeros((2, 1)))), 12), float(objective(jnp.array([[1000.0], [-1000.0]])))
    (0.69314718056, 0.0)

    Source: Bishop (2006), Pattern Recognition and Machine Learning, eq. (4.108).
    """

    X: Float[Array, "n d_x"]
    Y: Float[Array, "n d_y"]
    """Probabilities of the classes, (n, C)."""

    def __init__(self, X: Any, labels: Any, classes: int | None = None):
        texts = named_classes("labels", labels)
        labels = labels if texts is None else texts[1]
        targets = labels if np.ndim(labels) == 2 else _one_hot(labels, classes)
        self._take(*samples(X, targets, "labels"))
        if classes is not None and self.Y.shape[1] != classes:
            raise ValueError(f"`classes`: got {classes}, but the targets have {self.Y.shape[1]} columns; leave it out")
        if np.ndim(labels) == 2 and not traced(labels):
            _check_probabilities("labels", np.asarray(self.Y), "probabilities, or whole numbers (n,)")
            _check_sums(np.asarray(self.Y))

    def _losses(self, Z: Array) -> Array:
        below = Z - _largest(Z)
        return jnp.log1p(_softmax(Z)[1]) - jnp.sum(self.Y * below, axis=1)

    def _slopes(self, Z: Array) -> Array:
        p, rest = _softmax(Z)
        # 1 - p, without cancellation for the largest, whose p can be 1 to rounding
        others = jnp.where(_is_largest(Z), (rest / (1 + rest))[:, None], 1 - p)
        return (1 - self.Y) * p - self.Y * others

    def _bends(self, Z: Array, dZ: Array) -> Array:
        p, _ = _softmax(Z)
        return p * (dZ - jnp.sum(p * dZ, axis=1, keepdims=True))


def _is_largest(Z: Array) -> Array:
    """Where the largest of every row is, once a row."""
    return jax.nn.one_hot(jnp.argmax(Z, axis=1), Z.shape[1], dtype=bool)


def _largest(Z: Array) -> Array:
    """The largest of every row, (n, 1); its derivative is that of one entry where several are equal."""
    return jnp.sum(jnp.where(_is_largest(Z), Z, 0.0), axis=1, keepdims=True)


def _softmax(Z: Array) -> tuple[Array, Array]:
    """Probabilities, and the sum of all but the largest relative to it."""
    powers = jnp.exp(Z - _largest(Z))
    rest = jnp.sum(jnp.where(_is_largest(Z), 0.0, powers), axis=1)
    return powers / (1 + rest)[:, None], rest


def _one_hot(labels: Any, classes: int | None) -> Array:
    if classes is None:
        if traced(labels):
            raise ValueError("`classes`: is needed where the labels are traced by JAX; give the number of classes")
        classes = int(np.max(floats("labels", labels, 1, "(n,)"))) + 1
    return jax.nn.one_hot(jnp.asarray(indices("labels", labels, classes, "classes")), classes, dtype=float)


def _check_probabilities(name: str, Y: np.ndarray, wanted: str) -> None:
    bad = Y[(Y < 0) | (Y > 1)]
    if bad.size:
        raise ValueError(f"`{name}`: has the value {bad[0]:g}; give {wanted}")


def _check_sums(Y: np.ndarray) -> None:
    sums = Y.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > SUM_TO_ONE:
        raise ValueError(f"`labels`: row {worst} adds up to {sums[worst]:g}; the probabilities of a sample add up to 1")
