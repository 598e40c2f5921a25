"""What functions of networks and objectives check of their arguments, each in one place."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import jax.numpy as jnp
import numpy as np

from ._arrays import floats, number, traced
from ._checks import check_whole, shown
from ._types import Array
from .init.arguments import check_widths
from .network import Network
from .objectives import SquaredError
from .sequences import TaskSequence

F = TypeVar("F", bound=Callable[..., Any])
Check = Callable[[Any], Any]

TOLERANCES = ("tolerance", "tol", "rank_tolerance", "accuracy")
LARGEST_PRODUCT = 1e150
"""Norms of layers, multiplied, up to which the loss stays within float64."""


def checks_arguments(function: F) -> F:
    """`function`, behind a door that reads its signature: every argument is what it says, or one line says otherwise.

    Where the signature says `Network`, lists of matrices become one; `int` and `float` are single numbers (arrays,
    texts, None and NaN are refused), `bool` and `Literal` one of their values, `widths` a list of widths,
    `SquaredError` one. Where an `objective` comes with a network, they fit. Ranges are the function's own business, and
    so is all that JAX traces.

    >>> @checks_arguments
    ... def power(network: Network, depth: int) -> int:
    ...     return network.depth ** depth
    >>> power([[[1.0]], [[2.0]]], depth=np.int64(3))
    8
    >>> power([[[1.0]]], depth=[1, 2])
    Traceback (most recent call last):
    ...
    ValueError: `depth`: got [1, 2]; give one whole number
    """
    parameters = inspect.signature(function).parameters
    names = list(parameters)
    checks = {name: check for name in names if (check := _check_of(parameters[name])) is not None}
    networks = [name for name in names if _says(parameters[name].annotation, Network)]
    fits = "objective" in names and bool(networks)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs if len(args) <= len(names) else {}
        for name, check in checks.items():
            if name in given:
                given[name] = check(given[name])
        for name in networks:
            if given.get(name) is not None:
                check_size(given[name], name)
        if fits and given.get(networks[0]) is not None:
            check_fit(given.get("objective"), given[networks[0]], networks[0])
        if not given:
            return function(*args, **kwargs)
        return function(*(given[name] for name in names[: len(args)]), **{name: given[name] for name in kwargs})

    return cast(F, checked)


def _check_of(parameter: inspect.Parameter) -> Check | None:
    """What brings an argument into the form that its annotation says; None where nothing is checked."""
    name, annotation = parameter.name, parameter.annotation
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    if get_origin(annotation) is Literal:
        return lambda value: _one_of(name, value, get_args(annotation))
    if name == "widths":
        check: Check = check_widths
    elif _says(annotation, Network):
        check = lambda value: finite(as_network(value, name), name)
    elif name in TOLERANCES and _says(annotation, float):
        check = lambda value: number(name, value, "one number of at least 0", low=0.0, finite=False)
    elif _says(annotation, float):
        check = lambda value: number(name, value, "one number", finite=False)
    elif _says(annotation, int):
        check = lambda value: value if traced(value) else check_whole(name, value, None)
    elif annotation is bool:
        return lambda value: bool(_one_of(name, value, (True, False)))
    elif annotation is SquaredError:
        return check_squared
    elif name == "objective" and annotation in (Any, Callable):
        check = _callable
    else:
        return None
    optional = parameter.default is None or type(None) in get_args(annotation)
    checked = cast(Check, check)
    return lambda value: None if value is None and optional else checked(value)


def _says(annotation: Any, kind: type) -> bool:
    """Whether an annotation is of this type alone, or of it or None."""
    parts = get_args(annotation)
    return annotation is kind or (len(parts) == 2 and kind in parts and type(None) in parts)


def _one_of(name: str, value: Any, choices: tuple) -> Any:
    for choice in choices:
        if type(value) in (type(choice), np.bool_) and value == choice:
            return choice
    raise ValueError(f"`{name}`: got {shown(value)}; give {' or '.join(map(repr, choices))}")


def _callable(objective: Any) -> Any:
    if not callable(objective) and not isinstance(objective, TaskSequence):
        raise ValueError(
            f"`objective`: got {shown(objective)}; give a function of the end-to-end matrix, such as "
            "`SquaredError.of(X, Y)`"
        )
    return objective


def check_squared(objective: Any) -> SquaredError:
    """The objective if it is a squared error."""
    if not isinstance(objective, SquaredError):
        raise ValueError(
            f"`objective`: got a {type(objective).__name__}; this is known for squared error alone, "
            "`SquaredError.of(X, Y)`"
        )
    return objective


def finite(network: Network, name: str = "network") -> Network:
    """The network, unless one of its weights is NaN or infinite."""
    for l, W in enumerate(network.weights, start=1):
        if not traced(W) and not np.isfinite(W).all():
            raise ValueError(f"`{name}`: layer {l} has entries that are NaN or infinite; give finite weights")
    return network


def check_size(network: Network, name: str = "network") -> None:
    """`ValueError` for weights so large that the square of their product leaves float64.

    Not for members of an ensemble: one that cannot run says so in its own ending and spoils no other.
    """
    if traced(network) or network.weights[0].ndim > 2 or network.weights[0].dtype == bool:
        return
    with np.errstate(over="ignore", divide="ignore"):
        norms = [float(np.linalg.norm(W)) for W in network.weights]
        total = np.sum(np.log10(norms))
    if not max(norms) < LARGEST_PRODUCT or total > np.log10(LARGEST_PRODUCT):
        raise ValueError(
            f"`{name}`: its layers have norms {', '.join(f'{norm:.3g}' for norm in norms)}, whose product float64 "
            "cannot square; make them smaller"
        )


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
    known = getattr(objective, "optimum", objective)
    shape = getattr(known, "shape", None) if callable(objective) else None
    if shape is not None:
        check_ends(network, shape[-1], shape[-2], name=name)


def check_ends(network: Network, d_x: int, d_y: int, of: str = "the objective has", name: str = "network") -> None:
    """`ValueError` for a network of other inputs and outputs."""
    ends = network.widths[0], network.widths[-1]
    if ends != (d_x, d_y):
        raise ValueError(f"`{name}`: maps {ends[0]} inputs to {ends[1]} outputs, but {of} {d_x} and {d_y}")


def check_single(network: Network, name: str = "network") -> None:
    """`ValueError` for a network with leading axes of members or times."""
    if any(W.ndim != 2 for W in network.weights):
        raise ValueError(
            f"`{name}`: has a leading axis of members or times; give one network, such as trajectory[i], or use "
            "`jax.vmap`"
        )


def check_decay(weight_decay: Any, depth: int | None = None) -> Array | None:
    """The weight decay as a number of at least 0; None for 0.

    With `depth` it may also be one number per layer, and comes as (depth,); None where no layer decays.
    """
    if isinstance(weight_decay, float) and weight_decay == 0:
        return None
    if depth is None:
        decay = number("weight_decay", weight_decay, "a finite number of at least 0", low=0.0)
    else:
        decay = _per_layer("weight_decay", weight_decay, depth, "finite numbers of at least 0", low=0.0)
    return None if not traced(decay) and not np.any(decay) else jnp.asarray(decay, dtype=float)


def check_rates(rates: Any, depth: int) -> Any:
    """Learning rates of the layers, (depth,), each above 0: numpy's, or JAX's where they are traced; None for None.

    One number is the rate of every layer.

    >>> check_rates(0.5, depth=2).tolist(), check_rates([1.0, 0.1], depth=2).tolist()
    ([0.5, 0.5], [1.0, 0.1])
    >>> check_rates([1.0, 0.0], depth=2)
    Traceback (most recent call last):
    ...
    ValueError: `rates`: got 0.0 for layer 2; give finite numbers above 0, one per layer or one for all
    """
    return None if rates is None else _per_layer("rates", rates, depth, "finite numbers above 0", above=0.0)


def _per_layer(name: str, value: Any, depth: int, wanted: str, **limits: Any) -> Any:
    """(depth,) of one number per layer or of one for all; `limits` are those of `number`."""
    wanted = f"{wanted}, one per layer or one for all"
    if not hasattr(value, "__len__") or isinstance(value, str) or getattr(value, "ndim", 1) == 0:
        one = number(name, value, wanted, **limits)
        return jnp.broadcast_to(one, (depth,)) if traced(one) else np.full(depth, one)
    array = floats(name, value, 1, "(layer,)", instead=f"give {wanted}")
    if len(array) != depth:
        raise ValueError(f"`{name}`: got {len(array)} numbers for {depth} layers; give {wanted}")
    if traced(array):
        return array
    for l, x in enumerate(array.tolist(), start=1):
        try:
            number(name, x, wanted, **limits)
        except ValueError as error:
            raise ValueError(str(error).replace(";", f" for layer {l};", 1)) from None
    return array.copy()


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
