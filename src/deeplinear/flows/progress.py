"""A live line on a terminal while a flow runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def as_reporter(progress: bool | Callable[[Any], None]) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """A function that is handed a maker of reports after every segment; makes none where nobody listens."""
    if progress is False:
        yield lambda make: None
    elif progress is not True:
        yield lambda make: progress(make())
    else:
        from rich.console import Console

        with Console(stderr=True).status("integrating ...") as status:
            yield lambda make: status.update(describe(make()))


def describe(report: Any) -> str:
    """One line about where a run is."""
    learned = "" if report.modes_learned is None else f", modes learned: {len(report.modes_learned)}"
    return f"t = {report.time:.4g}, loss {report.loss:.5g}{learned}, {report.steps} steps"
