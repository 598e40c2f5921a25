"""Samples from tables: text with separators and Parquet by one set of rules; memory holds numbers and one block."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import _memory
from .columns import FEW, Column
from .delimited import open_text
from .parquet import open_parquet
from .source import Source

READERS: dict[str, Callable[[Path], Source]] = {".csv": open_text, ".tsv": open_text, ".parquet": open_parquet}
"""By suffix."""


class Samples(NamedTuple):
    """Samples of one file, one per row."""

    X: np.ndarray
    """Inputs, shape (n, d_x)."""
    Y: np.ndarray
    """Outputs, shape (n, d_y) or (n,)."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    """What was set aside or taken for something."""


class Choice(NamedTuple):
    """What is asked of a table; columns are names, names with commas between, or sequences of names."""

    target: Any = None
    inputs: Any = None
    drop: Any = None
    missing: str = "refuse"
    """What to do with rows that have a missing value: "refuse" or "drop"."""
    classes: Any = None
    """Targets whose numbers are labels."""


class Layout(NamedTuple):
    """Which columns are what, by position."""

    inputs: list[int]
    targets: list[int]
    classes: set[int]
    empty: list[int]
    """Columns without a name, which must be empty."""
    doubtful: bool
    """Whether the first column may be names of rows."""
    remarks: list[str]


def read(file: Path, choice: Choice) -> Samples:
    """The samples of a table. Raises `ValueError` in one line that names the file and the place."""
    source = READERS[file.suffix.lower()](file)
    layout = _layout(file, source, choice)
    d_x = len(layout.inputs)
    _memory.check("path", f"the table {file.name!r}", 8 * d_x * source.rows, "take fewer rows or columns")
    _memory.check_moments("path", d_x)
    first = [0] if layout.doubtful else []
    used: list[int] = list(dict.fromkeys([*first, *layout.empty, *layout.inputs, *layout.targets]))
    columns = [_column(file, source, layout, position, choice.missing == "refuse") for position in used]
    blocks = []
    for block in source.blocks(used):
        values = [column.read(cells, block.rows) for column, cells in zip(columns, block.columns, strict=True)]
        blocks.append(np.stack(values, axis=1))
    if not blocks:
        raise ValueError(f"`path`: {file.name!r} has columns and no rows; add samples")
    remarks = [*source.remarks, *source.decimals.check(file.name), *layout.remarks]
    if layout.doubtful:
        names = columns[0].row_names(np.concatenate([block[:, 0] for block in blocks]))
        remarks += _settle_first(file, source, layout, columns[0], names)
    at = {position: i for i, position in enumerate(used)}
    inputs, targets = ([at[position] for position in positions] for positions in (layout.inputs, layout.targets))
    remarks += _truths(columns, blocks, [*inputs, *targets])
    remarks += _without_missing(file, blocks, [*inputs, *targets])
    return _collected(file, columns, blocks, inputs, targets, remarks)


def _truths(columns: list[Column], blocks: list[np.ndarray], used: list[int]) -> list[str]:
    """Makes columns of true and false numbers, in place."""
    truths = [i for i in used if columns[i].truth]
    for block in blocks:
        for i in truths:
            block[:, i] = columns[i].finished(block[:, i])
    names = ", ".join(repr(columns[i].name) for i in truths[:12]) + (", ..." if len(truths) > 12 else "")
    return [f"true and false were read as 1 and 0 in {names}"] if truths else []


def _without_missing(file: Path, blocks: list[np.ndarray], used: list[int]) -> list[str]:
    """Takes rows with missing values out of the blocks, in place."""
    kept = total = 0
    for i, block in enumerate(blocks):
        whole = ~np.isnan(block[:, used]).any(axis=1)
        kept, total = kept + int(whole.sum()), total + len(block)
        if not whole.all():
            blocks[i] = block[whole]
    if not kept:
        raise ValueError(f"`path`: every row of {file.name!r} has a missing value; leave columns out with `drop`")
    return [f"{total - kept} of {total} rows have missing values and were left out"] if kept < total else []


def _collected(
    file: Path,
    columns: list[Column],
    blocks: list[np.ndarray],
    inputs: list[int],
    targets: list[int],
    remarks: list[str],
) -> Samples:
    """Inputs and outputs of the blocks, which are let go one by one; a target of texts is one column per class."""
    rows, names, classes = sum(map(len, blocks)), [], {}
    for i in targets:
        column = columns[i]
        column.check_classes()
        codes = np.concatenate([block[:, i] for block in blocks])
        if column.categorical:
            classes[i] = column.classes(codes)
            names += [f"{column.name}={text}" for text in classes[i]]
        else:
            names.append(column.name)
            remarks += _labels_remark(column, codes)
    outputs = f"a matrix of the {len(names)} outputs of {file.name!r}"
    _memory.check("path", outputs, 8 * rows * len(names), "take fewer rows or targets")
    X, Y = np.empty((rows, len(inputs))), np.zeros((rows, len(names)))
    start = 0
    for k, block in enumerate(blocks):
        stop, first = start + len(block), 0
        X[start:stop] = block[:, inputs]
        for i in targets:
            if i in classes:
                place = {columns[i].texts[text]: first + j for j, text in enumerate(classes[i])}
                Y[range(start, stop), [place[code] for code in block[:, i].tolist()]] = 1.0
            else:
                Y[start:stop, first] = block[:, i]
            first += len(classes.get(i, [""]))
        start, blocks[k] = stop, np.empty((0, 0))
    return Samples(X, Y, tuple(columns[i].name for i in inputs), tuple(names), tuple(remarks))


def _labels_remark(column: Column, values: np.ndarray) -> list[str]:
    """Says that whole numbers which may be labels are taken for numbers."""
    if column.truth:
        return []
    found = np.unique(values[: 2**16]) if len(values) > 2**16 else np.unique(values)
    if len(found) > FEW or len(found) == len(values) or not (found == np.round(found)).all():
        return []
    listed = ", ".join(f"{value:.0f}" for value in found[:6]) + (", ..." if len(found) > 6 else "")
    return [
        f"target {column.name!r} holds the whole numbers {listed} and is learned as numbers; if they are labels, "
        f"--classes {column.name} makes them classes (`classes` in Python)"
    ]


def _layout(file: Path, source: Source, choice: Choice) -> Layout:
    names = source.names
    given = [name for name in names if name]
    if len(set(given)) < len(given):
        twice = next(name for name, times in Counter(given).items() if times > 1)
        raise ValueError(f"`path`: {file.name!r} has two columns named {twice!r}; rename one")
    listed = ", ".join(given[:12]) + (f", ... ({len(given)} in all)" if len(given) > 12 else "")
    if choice.missing not in ("refuse", "drop"):
        raise ValueError(f"`missing`: got {choice.missing!r}; give refuse or drop")
    if choice.target is None or (hasattr(choice.target, "__len__") and not len(choice.target)):
        raise ValueError(
            f"`target`: {file.name!r} has the columns {listed}; name the outputs, as in target={given[-1]!r}, --target "
            f"{given[-1]} on the command line"
        )
    find = lambda what, wanted: _positions(file, what, wanted, names, listed)
    targets, dropped = find("target", choice.target), find("drop", choice.drop)
    asked, classes = find("inputs", choice.inputs), find("classes", choice.classes)
    for what, positions in (("drop", dropped), ("inputs", asked)):
        if twice := set(positions) & set(targets):
            raise ValueError(f"`{what}`: {names[min(twice)]!r} is a target already; leave it out of one of them")
    if twice := set(asked) & set(dropped):
        raise ValueError(f"`drop`: {names[min(twice)]!r} is among the inputs as well; leave it out of one of them")
    if other := [names[position] for position in classes if position not in targets]:
        raise ValueError(f"`classes`: {other[0]!r} is no target; only targets may be classes")
    taken = {*targets, *dropped}
    if asked:
        return Layout(asked, targets, set(classes), [], source.named_rows, [])
    index = {i: why for i, why in _set_aside(source).items() if i not in taken}
    inputs = [i for i, name in enumerate(names) if name and i not in taken and i not in index]
    empty = [i for i, name in enumerate(names) if not name and i not in index]
    if not inputs:
        what = "`target`, `drop`: take" if dropped else "`target`: takes"
        raise ValueError(f"{what} every column of {file.name!r} ({listed}); leave at least one as input")
    remarks = [_remark(names[i], i, why) for i, why in index.items()]
    remarks += [_remark("", i, "has no name and no values") for i in empty]
    doubtful = source.named_rows or (0 in inputs and len(inputs) > 1)
    return Layout(inputs, targets, set(classes), empty, doubtful, remarks)


def _set_aside(source: Source) -> dict[int, str]:
    """Columns that are no data whatever they hold, and why."""
    aside = dict(source.no_data)
    names = source.names
    if not names[0] or names[0] == "Unnamed: 0":  # what pandas calls it when it reads its own index back
        aside[0] = "has no name and was taken for names of the rows"
    elif names[0].startswith("__index_level_"):
        aside[0] = "is the index of a pandas table"
    return aside


def _remark(name: str, position: int, why: str) -> str:
    return f"column {repr(name) if name else position + 1} {why}: set aside" + (
        " (name the inputs to keep it)" if name else ""
    )


def _positions(file: Path, argument: str, wanted: Any, names: list[str], listed: str) -> list[int]:
    """Positions of the columns that an argument names, without repetition."""
    if wanted is None:
        return []
    if isinstance(wanted, str):
        wanted = [wanted] if wanted in names else [part.strip() for part in wanted.split(",")]
    elif not isinstance(wanted, list | tuple):
        wanted = list(wanted) if hasattr(wanted, "__iter__") else [wanted]
    for name in wanted:
        if not isinstance(name, str) or not name or name not in names:
            raise ValueError(f"`{argument}`: {file.name!r} has no column {name!r}; its columns are {listed}")
    return [names.index(name) for name in dict.fromkeys(wanted)]


def _column(file: Path, source: Source, layout: Layout, position: int, refuse_missing: bool) -> Column:
    role = "input"
    if position in layout.targets:
        role = "classes" if position in layout.classes else "target"
    elif position in layout.empty:
        role = "empty"
    elif layout.doubtful and position == 0:
        role = "rows?"
    return Column(source.names[position], role, file.name, source.place, source.decimals, refuse_missing)


def _settle_first(file: Path, source: Source, layout: Layout, column: Column, names: str | None) -> list[str]:
    """Takes a first column that names the rows out of the inputs."""
    if names is not None:
        if 0 in layout.inputs:
            layout.inputs.remove(0)
        return [_remark(column.name, 0, names)] if column.name else []
    if source.named_rows:
        width = len(source.names)
        raise ValueError(f"`path`: {file.name!r}: its rows have {width} cells, but the header has {width - 1}")
    if column.fault is not None:
        raise column.fault
    return []
