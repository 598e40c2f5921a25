"""Yes or no with a margin: the special networks of the survey, and what it assumes of the data."""

from importlib import import_module
from typing import Any

from .balance import balanced as balanced
from .balance import best_lambdas as best_lambdas
from .balance import delta_balanced as delta_balanced
from .balance import lambda_balanced as lambda_balanced
from .balance import smallest_delta as smallest_delta
from .data import full_rank_and_wide as full_rank_and_wide
from .data import generic_spectrum as generic_spectrum
from .shape import aligned as aligned
from .shape import block_shift_diagonal as block_shift_diagonal
from .shape import decoupled as decoupled

HANDED_ON = ("Pivot", "pivots", "tightened")
"""What is decided in the landscape, a floor above: looked up there when it is asked for."""


def __getattr__(name: str) -> Any:
    if name in HANDED_ON:
        return getattr(import_module("deeplinear.landscape"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *HANDED_ON])
