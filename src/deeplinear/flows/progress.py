"""A live line on a terminal while a flow runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
