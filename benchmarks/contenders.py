"""The table of contenders: name -> where its `prepare` is, imported only when it is asked for."""

import importlib

from .contenders_scipy import Run
from .problems import Problem

OURS = "deeplinear"
CONTENDERS = {
    OURS: "contenders_jax:deeplinear",
    "cvode-bdf": "contenders_sundials:bdf",
    "scipy-lsoda": "contenders_scipy:lsoda",
    "scipy-radau": "contenders_scipy:radau",
    "scipy-dop853": "contenders_scipy:dop853",
    "scipy-rk45": "contenders_scipy:rk45",
    "diffrax-tsit5": "contenders_jax:tsit5",
    "diffrax-dopri8": "contenders_jax:dopri8",
    "diffrax-kvaerno5": "contenders_jax:kvaerno5",
    "torchdiffeq-dopri5": "contenders_torch:dopri5",
    "gradient-descent": "contenders_scipy:descent",
}
# single engines of ours, timed only when named
ENGINES = {f"{OURS}:{engine}": f"contenders_jax:deeplinear_{engine}" for engine in ("dopri8", "rock4", "bdf")}


def check_name(name: str) -> str:
    """The name; raises `ValueError` for one that is not in the table."""
    if name not in CONTENDERS | ENGINES:
        raise ValueError(f"`contender`: got {name!r}; give some of {', '.join(CONTENDERS | ENGINES)}")
    return name


def compiles(name: str) -> bool:
    """Whether that contender's first call compiles."""
    return (CONTENDERS | ENGINES)[name].startswith("contenders_jax:")


def prepare(name: str, problem: Problem) -> Run:
    """`run(tolerance)` of that contender; raises ImportError without its package, `NotApplicable` for the problem."""
    module, function = (CONTENDERS | ENGINES)[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)(problem)
