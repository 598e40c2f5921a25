"""Labels that turn a function of a network into a named variable of a dataset."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Labels(NamedTuple):
    """How a diagnostic's value is written into a dataset."""

    dims: tuple[str, ...]
    """Names of its axes; their entries are numbered from 1"""
    long_name: str
    units: str = "1"


def labelled(dims: tuple[str, ...], long_name: str, units: str = "1") -> Callable[[F], F]:
    """Marks a function of a `Network` with the names of its axes, for `deeplinear.measure`.

    >>> @labelled((), "number of layers")
    ... def depth(network):
    ...     return network.depth
    >>> depth.labels.long_name
    'number of layers'
    """

    def mark(f: F) -> F:
        setattr(f, "labels", Labels(dims, long_name, units))  # noqa: B010 (functions take any attribute)
        return f

    return mark
