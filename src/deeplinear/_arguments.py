"""What functions of networks and objectives check of their arguments, each in one place."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._arrays import floats, number, traced
from ._checks import shown
from .network import Network

F = TypeVar("F", bound=Callable[..., Any])


def takes_networks(function: F) -> F:
    """`function`, with lists of matrices where its signature says `Network` made into networks.

    Where it takes an `objective` too, the first network must have its inputs and outputs. `ValueError` in one line for
    anything that is no network, naming the argument.

    >>> @takes_networks
    ... def depth(network: Network) -> int:
    ...     return network.depth
    >>> depth([[[1.0]], [[2.0]]])
    2
    """
    parameters = inspect.signature(function).parameters
    names = list(parameters)
    places = {name: names.index(name) for name, p in parameters.items() if _says_network(p.annotation)}
    optional = {name for name in places if parameters[name].default is None}
    first = next(iter(places))

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        for name, i in places.items():
            into, key = (given, i) if i < len(given) else (kwargs, name)
            if key is name and name not in kwargs:
                continue
            value = cast(Any, into)[key]
            if not isinstance(value, Network) and not (value is None and name in optional):
                cast(Any, into)[key] = value = as_network(value, name)
            if name == first and "objective" in parameters:
                at = names.index("objective")
                objective = given[at] if at < len(given) else kwargs.get("objective")
                check_fit(objective, value, name)
        return function(*given, **kwargs)

    return cast(F, checked)


def as_network(network: Any, name: str = "network") -> Network:
    """A network, also of a list of matrices or a mapping; `ValueError` that names the argument for anything else."""
    if isinstance(network, Network):
        return network
    if not isinstance(network, list | tuple | Mapping | np.ndarray):
        way = "Network.from_torch(module)" if hasattr(network, "named_modules") else "a list of matrices"
        way = "one of its networks, such as trajectory[-1]" if hasattr(network, "networks") else way
        raise ValueError(f"`{name}`: got {shown(network)}; give a Network, or {way}")
    try:
        return Network(network)
    except ValueError as error:
        raise ValueError(str(error).replace("`weights`", f"`{name}`", 1)) from None


def check_fit(objective: Any, network: Network, name: str = "network") -> None:
    """`ValueError` for a network whose end-to-end matrix has another shape than the objective knows of itself."""
    shape = (network.widths[-1], network.widths[0])
    known = getattr(objective, "optimum", objective)
    d_y, d_x = getattr(known, "shape", shape)[-2:] if callable(objective) else shape
    if (d_y, d_x) != shape:
        raise ValueError(
            f"`{name}`: maps {shape[1]} inputs to {shape[0]} outputs, but the objective has {d_x} and {d_y}"
        )


def check_single(network: Network, name: str = "network") -> None:
    """`ValueError` for a network with leading axes of members or times."""
    if any(W.ndim != 2 for W in network.weights):
        raise ValueError(
            f"`{name}`: has a leading axis of members or times; give one network, such as trajectory[i], or use "
            "`jax.vmap`"
        )


def check_decay(weight_decay: Any) -> Array | None:
    """The weight decay as a number of at least 0; None for 0."""
    decay = number("weight_decay", weight_decay, "a finite number of at least 0", low=0.0)
    return None if not traced(decay) and not decay else jnp.asarray(decay, dtype=float)


def check_times(ts: Any, name: str = "ts", *, increasing: bool = False, single: bool = False) -> Any:
    """Times as a vector of floats, at least 0 and, if asked for, `increasing`; JAX's where JAX traces them.

    `single`: one time may come without an axis.
    """
    times = floats(name, ts, (0, 1) if single else 1, "(time,), a list of times")
    if traced(times):
        return times
    if (times < 0).any():
        raise ValueError(
            f"`{name}`: times must be >= 0, but the smallest is {times.min():g}; count time from the start"
        )
    if increasing and (np.diff(times) <= 0).any():
        i = int(np.argmax(np.diff(times) <= 0))
        raise ValueError(f"`{name}`: {times[i + 1]:g} follows {times[i]:g}; sort the times and drop repeated ones")
    return times


def _says_network(annotation: Any) -> bool:
    return annotation is Network or Network in get_args(annotation)
