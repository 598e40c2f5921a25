"""Arguments of functions of one mode: numbers, lists of modes and lists of times, brought to one shape."""

from typing import Any

import numpy as np

from .._arrays import floats

LARGEST = 1e300
"""Strengths up to here; times have no limit."""
Values = np.ndarray | np.floating
"""What arithmetic makes of arrays of any shape: numpy turns those without axes into numbers."""


def finite_grid(**named: Any) -> list[np.ndarray]:
    """The first argument, number, (time,) or (time, mode), and the others, numbers or (mode,), as arrays of one shape.

    The shape is (time, mode), without axes that no argument has. Raises `ValueError` for values that are not finite and
    shapes that do not fit.
    """
    arrays = {
        key: floats(key, value, empty=True, largest=np.inf if key == "ts" else LARGEST) for key, value in named.items()
    }
    along, *modes = arrays.values()
    try:
        modes = np.broadcast_arrays(*modes)
        return list(np.broadcast_arrays(along[:, *[None] * modes[0].ndim] if along.ndim == 1 else along, *modes))
    except ValueError:
        shapes = ", ".join(f"`{key}` {a.shape}" for key, a in arrays.items())
        name = next(iter(named))
        raise ValueError(f"shapes {shapes}: give {name} as (time,) or (time, mode), the others as (mode,)") from None


def refuse_negative(ts: Values) -> None:
    """`ValueError` for times before the start."""
    if np.any(ts < 0):
        raise ValueError(f"`ts`: times must be >= 0, but the smallest is {ts.min()}; count time from the start")
