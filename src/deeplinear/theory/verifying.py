"""Every statement held against one problem."""

import importlib
import pkgutil
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from .. import records
from .._arguments import checks_arguments
from .._checks import check_whole
from .._dataset import Dataset
from .._linalg import one_thread
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from . import propositions as folder
from .question import Question
from .statement import Finding, Statement


@cache
def statements() -> tuple[Statement, ...]:
    """All statements in the order of their keys: the survey's by number, then the rest by name.

    >>> len({each.key for each in statements()}) == len(statements())
    True
    """
    modules = [
        importlib.import_module(f"{folder.__name__}.{module.name}") for module in pkgutil.iter_modules(folder.__path__)
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Statement)]
    return tuple(sorted(found, key=lambda each: _order(each.key)))


@checks_arguments
def verify(
    objective: Any,
    network: Network,
    trajectory: Trajectory | None = None,
    only: Iterable[str] | str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Every statement of the survey and of the other sources, measured on this objective, network and trajectory.

    A residual is the relative error of an identity or the relative violation of an inequality; it holds where it is at
    most the tolerance. Statements about the flow (5) use the survey's coordinates. `only`: keys such as "6", "lemma37".
    Returns variables over the dimension `statement`: name, source, applies, holds, residual, tolerance, reason, note.
    Raises `ValueError` for an objective other than `SquaredError`, widths that do not fit, unknown keys.

    >>> from deeplinear import init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], d_x=3, d_y=2)
    >>> found = verify(objective, init.gaussian(0, (3, 4, 2), scale=0.5), only="6")
    >>> found["name"].values.tolist(), bool(found["holds"][0])
    (['Proposition 6'], True)
    """
    _check(objective, network)
    chosen = check_keys(only)
    question = Question(objective, network, trajectory, check_whole("seed", seed))
    with one_thread():  # of small factorisations more threads wait for each other
        findings = [each(question) for each in chosen]
    return _dataset(chosen, findings, network)


def _check(objective: Any, network: Any) -> None:
    if not isinstance(objective, SquaredError):
        raise ValueError(
            f"`objective`: is a {type(objective).__name__}; the survey is about squared error, give a SquaredError"
        )


def check_keys(only: Iterable[str] | str | None) -> tuple[Statement, ...]:
    """The statements of these keys, all for None, each once; raises `ValueError` for a key that there is not.

    >>> [each.name for each in check_keys("6, 13")]
    ['Proposition 6', 'Proposition 13']
    """
    if only is None:
        return statements()
    wanted = re.split(r"[,\s]+", only.strip()) if isinstance(only, str) else [str(key) for key in only]
    known = {each.key: each for each in statements()}
    for key in wanted:
        if key not in known:
            raise ValueError(f"`only`: there is no statement {key!r}; give some of {', '.join(known)}")
    return tuple(known[key] for key in dict.fromkeys(wanted))


def _dataset(chosen: tuple[Statement, ...], findings: list[Finding], network: Network) -> xr.Dataset:
    number = lambda value: np.nan if value is None else float(value)
    columns = {
        "name": [each.name for each in chosen],
        "source": [each.source for each in chosen],
        "words": [each.words for each in chosen],
        "erratum": [each.erratum for each in chosen],
        "applies": [finding.applies for finding in findings],
        "holds": [bool(finding.holds) for finding in findings],
        "residual": [number(finding.residual) for finding in findings],
        "tolerance": [number(finding.tolerance) for finding in findings],
        "reason": [finding.reason for finding in findings],
        "note": [finding.note for finding in findings],
    }
    return Dataset(
        {name: ("statement", np.array(values)) for name, values in columns.items()},
        {"statement": [each.key for each in chosen]},
        {"title": "Statements of theory, measured", "widths": list(network.widths), **records.provenance()},
    )


def _order(key: str) -> tuple[int, int, str]:
    digits = re.match(r"(\d+)$", key)
    return (0, int(digits.group()), "") if digits else (1, 0, key)
