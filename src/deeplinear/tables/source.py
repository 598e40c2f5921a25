"""What readers of files hand on: names of columns, and rows in blocks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .cells import Decimals

BLOCK_CELLS = 2**16
"""Cells that are in memory as text at one time, about."""


class Block(NamedTuple):
    """Some rows of the columns that were asked for."""

    rows: Sequence[int]
    """Where each row is in the file: numbers of lines of text, of rows in other files."""
    columns: Sequence[Any]
    """For each column its cells: a float array in which NaN is a missing value, or texts."""


class Source(NamedTuple):
    """A file whose header was read."""

    names: list[str]
    """Names of all columns, in their order; "" has no name."""
    no_data: dict[int, str]
    """Columns that are known not to be data, and why."""
    named_rows: bool
    """Whether the first column must be names of rows: the header leaves it out."""
    place: str
    """What `Block.rows` counts, "line" or "row"."""
    decimals: Decimals
    remarks: list[str]
    rows: float
    """About how many rows there are."""
    blocks: Callable[[Sequence[int]], Iterator[Block]]
    """Blocks of the columns at these positions."""


def clean_name(name: str, file: str) -> str:
    """A name with single spaces; `ValueError` for control characters, which no terminal should see."""
    name = " ".join(name.split())
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        raise ValueError(f"`path`: {file!r} has the name {name!r:.60}, with a control character; rename it")
    return name


def batches(rows: Iterable[tuple[int, list[str]]], size: int) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Numbered rows in lists of `size`."""
    numbers: list[int] = []
    cells: list[list[str]] = []
    for number, row in rows:
        numbers.append(number)
        cells.append(row)
        if len(cells) == size:
            yield numbers, cells
            numbers, cells = [], []
    if cells:
        yield numbers, cells
