"""Samples from tables, CSV and TSV as a stream, parquet in batches: read twice, so that memory holds numbers alone."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BLOCK_ROWS = 4096
"""Rows of a table that are in memory as text at one time."""
MAX_CATEGORIES = 1000
"""More different texts than this in a target column are names of items, not classes."""
MISSING = frozenset({"", "na", "n/a", "null"})
"""Cells that say that a value is missing, in small letters."""


class Samples(NamedTuple):
    """Samples of one file, one per row."""

    X: np.ndarray
    """Inputs, shape (n, d_x)."""
    Y: np.ndarray
    """Outputs, shape (n, d_y) or (n,)."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


class Table(NamedTuple):
    """A table that is read twice: once for its size and the texts in its targets, once for its numbers."""

    rows: int
    inputs: list[str]
    categories: dict[str, list[str] | None]
    """Target columns in the order asked for: the sorted classes of a text column, None for a column of numbers."""
    blocks: Callable[[], Iterator[dict[str, Any]]]
    """Blocks of rows: a float array for every column of numbers, a list of texts for every column of classes."""


def collect(file: Path, table: Table) -> Samples:
    """The numbers of a scanned table; a target of texts becomes one column of zeros and ones per class."""
    columns = {
        name: [name] if texts is None else [f"{name}={text}" for text in texts]
        for name, texts in table.categories.items()
    }
    output_names = tuple(entry for entries in columns.values() for entry in entries)
    X, Y = np.empty((table.rows, len(table.inputs))), np.zeros((table.rows, len(output_names)))
    filled = 0
    for block in table.blocks():
        size = len(next(iter(block.values())))
        stop = filled + size
        if stop > table.rows:
            break
        for j, name in enumerate(table.inputs):
            X[filled:stop, j] = block[name]
        first = 0
        for name, texts in table.categories.items():
            if texts is None:
                Y[filled:stop, first] = block[name]
            else:
                code = {text: first + i for i, text in enumerate(texts)}
                Y[range(filled, stop), [code[text] for text in block[name]]] = 1.0
            first += len(columns[name])
        filled = stop
    if filled != table.rows:
        raise ValueError(f"`path`: {file.name!r} changed while it was read; try again")
    return Samples(X, Y, tuple(table.inputs), output_names)


def _split_columns(file: Path, names: list[str], target: Any) -> tuple[list[str], list[str]]:
    """Input and target columns among `names`; `target` is a name, names with commas between, or a sequence."""
    if "" in names:
        nameless = names.index("") + 1
        raise ValueError(f"`path`: column {nameless} of {file.name!r} has no name; name it (or write without an index)")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`path`: {file.name!r} has two columns named {twice!r}; rename one")
    listed = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    if target is None or not len(target):
        raise ValueError(
            f"`target`: {file.name!r} has the columns {listed}; name the outputs, as in target={names[-1]!r}"
        )
    if isinstance(target, str):
        target = [target] if target in names else [part.strip() for part in target.split(",")]
    targets = list(dict.fromkeys(target))
    for name in targets:
        if name not in names:
            raise ValueError(f"`target`: {file.name!r} has no column {name!r}; its columns are {listed}")
    inputs = [name for name in names if name not in targets]
    if not inputs:
        raise ValueError(f"`target`: takes every column of {file.name!r} ({listed}); leave at least one as input")
    return inputs, targets


def _check_categories(file: Path, name: str, texts: set[str]) -> None:
    if len(texts) > MAX_CATEGORIES:
        raise ValueError(
            f"`target`: column {name!r} of {file.name!r} has more than {MAX_CATEGORIES} different texts; these are "
            "names, not classes: choose another column"
        )


def _scan_csv(file: Path, target: Any) -> Table:
    rows = _csv_rows(file)
    _, names = next(rows, (0, []))
    _check_header(file, names)
    inputs, targets = _split_columns(file, names, target)
    positions = {name: names.index(name) for name in targets}
    texts: dict[str, set[str]] = {name: set() for name in targets}
    numbers: dict[str, int] = {}  # the line of a number in that column
    count = 0
    for line, row in rows:
        count += 1
        for name, position in positions.items():
            cell = row[position]
            if _number(cell) is not None:
                numbers[name] = line
            elif cell.lower() in MISSING:
                raise _cell_error(file, line, name, cell)
            else:
                texts[name].add(cell)
                _check_categories(file, name, texts[name])
            if name in numbers and texts[name]:
                raise ValueError(
                    f"`path`: {file.name!r}, line {line}, column {name!r}: the target mixes numbers and texts "
                    f"({min(texts[name])!r}); make all of them numbers or all of them texts"
                )
    if not count:
        raise ValueError(f"`path`: {file.name!r} has a header and no rows; add samples")
    categories = {name: sorted(texts[name]) or None for name in targets}
    return Table(count, inputs, categories, lambda: _csv_blocks(file, names, categories))


def _csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The line (from 1) and the stripped cells of every row that is not blank, the header first."""
    width, line = None, 1
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
            for cells in reader:
                row, start, line = [cell.strip() for cell in cells], line, reader.line_num + 1
                if row in ([], [""]):
                    continue
                width = width or len(row)
                if len(row) != width:
                    raise ValueError(
                        f"`path`: {file.name!r}, line {start}: has {len(row)} cells, but the header has {width}"
                    )
                yield start, row
    except UnicodeDecodeError as error:
        raise ValueError(f"`path`: {file.name!r} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"`path`: {file.name!r}, line {line}: {error}; check the quotes around there") from None


def _check_header(file: Path, names: list[str]) -> None:
    if not names:
        raise ValueError(f"`path`: {file.name!r} is empty; it needs a header and rows")
    if len(names) == 1:
        separator = "tabs" if file.suffix.lower() == ".tsv" else "commas"
        raise ValueError(
            f"`path`: {file.name!r} has one column, {names[0]!r:.60}; its columns must be separated by {separator}"
        )
    counted = [str(i) for i in range(len(names))]  # pandas' names for columns without names
    if names != counted and all(_number(name) is not None for name in names):
        raise ValueError(
            f"`path`: {file.name!r} begins with numbers ({names[0]}, ...); its first line must name the columns"
        )


def _csv_blocks(file: Path, names: list[str], categories: dict[str, list[str] | None]) -> Iterator[dict[str, Any]]:
    rows = _csv_rows(file)
    next(rows)
    block: list[tuple[int, list[str]]] = []

    def columns() -> dict[str, Any]:
        lines = [line for line, _ in block]
        cells = dict(zip(names, zip(*(row for _, row in block), strict=True), strict=True))
        return {
            name: cells[name] if categories.get(name) else _numbers(file, lines, name, cells[name]) for name in names
        }

    for row in rows:
        block.append(row)
        if len(block) == BLOCK_ROWS:
            yield columns()
            block.clear()
    if block:
        yield columns()


def _numbers(file: Path, lines: list[int], name: str, cells: Sequence[str]) -> np.ndarray:
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        values = np.array([math.nan])
    if not np.isfinite(values).all() or "_" in "".join(cells):  # Python's float reads 1_000
        finite = lambda cell: (number := _number(cell)) is not None and math.isfinite(number)
        raise next(
            _cell_error(file, line, name, cell) for line, cell in zip(lines, cells, strict=True) if not finite(cell)
        )
    return values


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _cell_error(file: Path, line: int, name: str, cell: str) -> ValueError:
    place = f"`path`: {file.name!r}, line {line}, column {name!r}"
    if cell.lower() in MISSING:
        return ValueError(f"{place}: the value is missing ({cell!r}); fill it or remove the row")
    if _number(cell) is not None:
        return ValueError(f"{place}: {cell!r} is not finite; fill it or remove the row")
    return ValueError(f"{place}: {cell[:40]!r} is text; inputs must be numbers (only targets may be classes)")


def _scan_parquet(file: Path, target: Any) -> Table:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"`path`: reading {file.name!r} needs pyarrow; install deeplinear[table]") from None
    try:
        names, rows = parquet.read_schema(file).names, parquet.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"`path`: {file.name!r} cannot be read as parquet ({first_line(error)})") from None
    inputs, targets = _split_columns(file, list(names), target)
    if not rows:
        raise ValueError(f"`path`: {file.name!r} has columns and no rows; add samples")
    texts: dict[str, set[str]] = {name: set() for name in targets}
    for block in _parquet_blocks(file, targets, targets):
        for name, column in block.items():
            texts[name].update(column if isinstance(column, list) else ())
            _check_categories(file, name, texts[name])
    categories = {name: sorted(texts[name]) or None for name in targets}
    return Table(rows, inputs, categories, lambda: _parquet_blocks(file, inputs + targets, targets))


def _parquet_blocks(file: Path, names: list[str], targets: list[str]) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException, parquet

    first = 1
    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=BLOCK_ROWS, columns=names):
                yield {
                    name: _parquet_column(
                        batch.column(name), f"`path`: {file.name!r}, column {name!r}", first, name in targets
                    )
                    for name in names
                }
                first += batch.num_rows
    except (ArrowException, OSError) as error:
        raise ValueError(f"`path`: {file.name!r} cannot be read as parquet ({first_line(error)})") from None


def _parquet_column(column: Any, place: str, first: int, is_target: bool) -> np.ndarray | list[str]:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if text and not is_target:
        raise ValueError(f"{place}: holds text; inputs must be numbers (only targets may be classes)")
    if not (
        text
        or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        raise ValueError(f"{place}: holds {column.type}; convert it to numbers, or to text in a target")
    column = column.cast(kind)
    if column.null_count:
        row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(f"{place}, row {row}: the value is missing; fill it or remove the row")
    if text:
        return column.to_pylist()
    values = np.array(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if not np.isfinite(values).all():
        i = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"{place}, row {first + i}: {values[i]} is not finite; fill it or remove the row")
    return values


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


SCANS: dict[str, Callable[[Path, Any], Table]] = {".csv": _scan_csv, ".tsv": _scan_csv, ".parquet": _scan_parquet}
