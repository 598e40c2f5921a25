"""Which results there are: the files of `results/`."""

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

RESULTS = Path(__file__).parent / "results"


def names() -> list[str]:
    """Names of all results, sorted; nothing is imported.

    >>> "exact_trajectories" in names()
    True
    """
    return sorted(module.name for module in pkgutil.iter_modules([str(RESULTS)]) if not module.name.startswith("_"))


def title(name: str) -> str:
    """The first line of a result's docstring, read without importing it; raises `ValueError` as `load` does.

    >>> title("exact_trajectories").startswith("Gradient descent")
    True
    """
    tree = ast.parse((RESULTS / f"{_known(name)}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or name).splitlines()[0]


def load(name: str) -> ModuleType:
    """The module of a result, with `Settings`, `QUICK`, `run`, `figure` and `check`; `ValueError` for an unknown name.

    >>> result = load("single_neuron")
    >>> all(check.holds for check in result.check(result.run(result.QUICK)))
    True
    """
    return importlib.import_module(f"{__package__}.results.{_known(name)}")


def _known(name: str) -> str:
    if name not in names():
        raise ValueError(f"`name`: there is no result {name!r}; give one of {', '.join(names())}")
    return name
