"""What is assumed, held against the problem at hand; and what every door checks: whole numbers and files."""

import operator
import os
from pathlib import Path
from typing import Any, NamedTuple

TOLERANCE = 1e-9
"""How far an assumption of an exact statement may fail, relative: rounding of the data and of the start."""


class Check(NamedTuple):
    """One assumption of a theorem, or one property of a network, held against the problem at hand.

    >>> Check("two-layer Riccati", "sigma_xx is a multiple of the identity", violation=0.3, tolerance=1e-9).holds
    False
    """

    theorem: str
    """The theorem, or the name of the property."""
    assumption: str
    """What is assumed, or what the property says."""
    violation: float
    """How far off it is, relative; infinite where the question makes no sense (a wrong depth)."""
    tolerance: float
    margin: float | None = None
    """Of strict conditions (a rank, a gap): how far from failing, relative; None where the violation says it all."""
    note: str = ""
    """What else was found, in words."""

    @property
    def holds(self) -> bool:
        """Whether the violation is within the tolerance."""
        return self.violation <= self.tolerance


def check_whole(name: str, value: Any, least: int | None = 0, most: int | None = None) -> int:
    """`value` as an int; `ValueError` for all that is no whole number from `least` to `most` (None: any).

    2.0 and True are none.

    >>> check_whole("steps", 3, least=1)
    3
    >>> check_whole("steps", 2.7)
    Traceback (most recent call last):
    ...
    ValueError: `steps`: got 2.7; give a whole number of at least 0
    """
    try:
        number, wrong = operator.index(value), False  # also the integers of numpy, and no float
    except TypeError:
        number, wrong = 0, True
    wrong = wrong or type(value).__name__ in ("bool", "bool_")
    if wrong or (least is not None and number < least) or (most is not None and number > most):
        span = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
        raise ValueError(f"`{name}`: got {shown(value)}; give {'one' if least is None else 'a'} whole number{span}")
    return number


def shown(value: Any, most: int = 60) -> str:
    """A value in one short line of a message; Python itself refuses to write more than 4300 digits.

    >>> shown(list(range(100)), 12), shown(10**9999)
    ('[0, 1, 2,...', 'a value of type int that cannot be shown')
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else text[: most - 3] + "..."


def check_file(argument: str, path: str | os.PathLike) -> Path:
    """The path of a plain file; `ValueError` for what is not there, for folders, pipes and devices."""
    try:
        file = Path(path)
        there = file.exists()
    except (OSError, ValueError, TypeError):  # a name that no file can have, or a folder that may not be looked into
        file, there = Path(), False
    if not there:
        raise ValueError(f"`{argument}`: {str(path)!r} is not there")
    if not file.is_file():
        kind = "a folder" if file.is_dir() else "a device or pipe"
        raise ValueError(f"`{argument}`: {str(path)!r} is {kind}, not a file")
    return file
