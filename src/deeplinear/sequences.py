"""Tasks learned one after another, as one value."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._arrays import number, shown, traced
from ._trees import value
from ._types import Array, Matrix

ROUNDING = 1e-12  # relative; a time that was added up otherwise may lie beyond the end by this much


@value("durations")
class TaskSequence:
    """Objectives in the order in which they are learned, and for how long each.

    Task k (counted from 0) lasts from `starts[k]` to `starts[k + 1]`; a time at which one ends and the next begins
    belongs to the one that ends, so that its loss there is what was reached. Every objective is a function of the
    end-to-end matrix. Make one by `of`.

    >>> from deeplinear import SquaredError
    >>> there, back = SquaredError.from_moments([[1.0]]), SquaredError.from_moments([[-1.0]])
    >>> tasks = TaskSequence.of([(there, 5.0), (back, 10.0)])
    >>> len(tasks), tasks.total, float(tasks.at(5.0).optimum[0, 0]), float(tasks.at(5.1).optimum[0, 0])
    (2, 15.0, 1.0, -1.0)
    """

    objectives: tuple[Any, ...]
    durations: tuple[float, ...]

    @classmethod
    def of(cls, tasks: Iterable[Any]) -> "TaskSequence":
        """The sequence of pairs (objective, duration); `ValueError` for anything else, durations included."""
        pairs = list(tasks)
        if not pairs:
            raise ValueError("`tasks`: is empty; give at least one pair (objective, duration)")
        for k, pair in enumerate(pairs):
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and callable(pair[0])):
                raise ValueError(f"`tasks`: entry {k} is {pair!r}; give pairs (objective, duration)")
            try:
                duration = number("tasks", pair[1], "", above=0.0)
            except ValueError:
                duration = None
            if duration is None or traced(duration):
                raise ValueError(f"`tasks`: entry {k} lasts {shown(pair[1])}; give a finite number above 0")
        return cls(tuple(objective for objective, _ in pairs), tuple(float(duration) for _, duration in pairs))

    @property
    def starts(self) -> np.ndarray:
        """Times at which tasks begin, and the end of the last: (task + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.durations)])

    @property
    def total(self) -> float:
        """When the last task ends."""
        return float(self.starts[-1])

    def task_at(self, t: Any) -> Any:
        """Number of the task at a time or at an array of them, from 0; raises `ValueError` for a time outside."""
        t = np.asarray(t, dtype=float)
        outside = ~((t >= 0) & (t <= self.total * (1 + ROUNDING)))
        if outside.any():
            raise ValueError(f"`t`: {t[outside].flat[0]:g} is outside of the tasks, which run from 0 to {self.total:g}")
        return np.minimum(np.searchsorted(self.starts[1:], t, side="left"), len(self) - 1)

    def at(self, t: float) -> Any:
        """The objective at a time; raises `ValueError` for one outside."""
        return self.objectives[int(self.task_at(t))]

    def losses(self, W: Matrix) -> Array:
        """The loss of an end-to-end matrix on every task, (task,)."""
        return jnp.stack([objective(W) for objective in self.objectives])

    def __len__(self) -> int:
        return len(self.objectives)
