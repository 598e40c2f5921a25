"""What a run tells while it runs, and a live line on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..network import Network
from .landmarks import Landmarks, standing


class Report(NamedTuple):
    """What a progress callback is told after every segment."""

    time: float
    loss: float
    excess: float | None
    modes_learned: tuple[int, ...] | None
    steps: int

    @property
    def line(self) -> str:
        """The report in words."""
        learned = "" if self.modes_learned is None else f", modes learned: {len(self.modes_learned)}"
        return f"t = {self.time:.4g}, loss {self.loss:.5g}{learned}, {self.steps} steps"


def report_of(objective: Any, network: Network, t: Any, steps: Any, marks: Landmarks) -> Report:
    """The report of a run that stands at `network`."""
    stand = standing(objective, network)
    excess = None if stand.excess is None else float(stand.excess)
    return Report(float(t), float(stand.loss), excess, marks.learned(np.asarray(stand.W)), int(steps))


@contextmanager
def as_reporter(progress: bool | Callable[[Any], None]) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """A function that is handed a maker of reports every now and then; makes none where nobody listens."""
    if progress is False:
        yield lambda make: None
    elif progress is not True:
        yield lambda make: progress(make())
    else:
        from rich.console import Console

        with Console(stderr=True).status("integrating ...") as status:
            yield lambda make: status.update(make().line)
