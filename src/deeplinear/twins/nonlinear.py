"""A network read as a nonlinear one: the same matrices, with an activation after every hidden layer."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._arguments import checks_arguments
from .._arrays import floats
from .._linalg import on_device
from .._types import Array
from ..network import Network


def _identity(x: Array) -> Array:
    return x


ACTIVATIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "identity": _identity,
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "leaky_relu": jax.nn.leaky_relu,
        "softplus": jax.nn.softplus,
    }
)
"""Activations by name; any JAX function that acts on every entry may stand in their place."""

PROBED = (2, 3)  # shape of the array on which a given activation is tried


@checks_arguments
def forward(network: Network, X: Any, activation: str | Callable = "relu") -> Array:
    r"""Outputs $W_h \phi(W_{h-1} \cdots \phi(W_1 x))$ of samples in rows, X (n, d_x), shape (n, d_y).

    $\phi$ = `activation` acts on every entry of every hidden layer, not on the outputs; there are no biases. A name of
    `ACTIVATIONS` or a JAX function. Raises `ValueError` for an unknown name, a function that returns another shape, and
    inputs that do not fit.

    >>> network = Network([[[1.0], [-1.0]], [[2.0, 3.0]]])
    >>> forward(network, [[1.0], [-1.0]], "relu").tolist(), forward(network, [[1.0]], "identity").tolist()
    ([[2.0], [3.0]], [[-1.0]])
    """
    activities = hidden_activities(network, X, activation)
    return (activities[-1] if activities else _inputs(network, X)) @ network.weights[-1].T


@checks_arguments
def hidden_activities(network: Network, X: Any, activation: str | Callable = "relu") -> list[Array]:
    r"""Activities $\phi(W_l \cdots \phi(W_1 x))$ of the hidden layers l = 1, ..., h - 1, shapes (n, d_l).

    Arguments and errors are those of `forward`.

    >>> [H.tolist() for H in hidden_activities(Network([[[1.0], [-1.0]], [[2.0, 3.0]]]), [[1.0]])]
    [[[1.0, 0.0]]]
    """
    phi = resolved(activation)
    H, activities = _inputs(network, X), []
    for W in network.weights[:-1]:
        H = phi(H @ W.T)
        activities.append(H)
    return activities


def _inputs(network: Network, X: Any) -> Array:
    X = on_device(floats("X", X))
    if X.ndim != 2 or X.shape[1] != network.widths[0]:
        raise ValueError(f"`X`: has shape {X.shape}; give samples in rows, (n, {network.widths[0]}) for this network")
    return X


def resolved(activation: Any) -> Callable[..., Any]:
    """The function behind `activation`, tried on an array; one clear `ValueError` for what is none."""
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"`activation`: got {activation!r}; give one of {', '.join(ACTIVATIONS)}, or a function")
        return ACTIVATIONS[activation]
    if not callable(activation):
        raise ValueError(f"`activation`: got {activation!r}; give one of {', '.join(ACTIVATIONS)}, or a function")
    try:
        answer = jax.eval_shape(activation, jax.ShapeDtypeStruct(PROBED, float))
    except Exception as problem:  # whatever the function raises
        line = str(problem).split("\n")[0]
        raise ValueError(f"`activation`: fails on an array of shape {PROBED} ({line}); give JAX code") from problem
    if getattr(answer, "shape", None) != PROBED or not jnp.issubdtype(answer.dtype, jnp.floating):
        raise ValueError(
            f"`activation`: turns an array of shape {PROBED} into {_described(answer)}; give a function that acts on "
            "every entry"
        )
    return activation


def _described(answer: Any) -> str:
    """What an activation returns, in words."""
    return f"{answer.dtype} of shape {answer.shape}" if hasattr(answer, "shape") else f"a {type(answer).__name__}"


def called(activation: str | Callable) -> str:
    """How a dataset and a figure call an activation."""
    return activation if isinstance(activation, str) else getattr(activation, "__name__", type(activation).__name__)


class SampleLoss(eqx.Module):
    r"""$L = \frac{c}{2n} \sum_i \|y_i - f(x_i)\|^2$ of a nonlinear network on samples; c is the loss scale's factor."""

    X: Array
    Y: Array
    factor: Array
    activation: Callable = eqx.field(static=True)

    def __call__(self, network: Network) -> Array:
        missed = forward(network, self.X, self.activation) - self.Y
        return self.factor / (2 * len(self.X)) * jnp.sum(missed**2)
