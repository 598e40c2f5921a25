"""Tables as Parquet, read in batches by pyarrow; the index that pandas saves is known from the file's own notes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cells import LARGEST, Decimals
from .source import BLOCK_CELLS, Block, Source, clean_name


def open_parquet(file: Path) -> Source:
    """The schema of a Parquet file."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"`path`: reading {file.name!r} needs pyarrow; install deeplinear[table]") from None
    with parquet.ParquetFile(file) as opened:
        schema, rows = opened.schema_arrow, opened.metadata.num_rows
    names = [clean_name(name, file.name) for name in schema.names]
    if not rows:
        raise ValueError(f"`path`: {file.name!r} has columns and no rows; add samples")
    saved = _saved_index(schema.metadata)
    index = {i: "is the index of a pandas table" for i, name in enumerate(schema.names) if name in saved}

    def blocks(positions: Sequence[int]) -> Iterator[Block]:
        wanted, first = [schema.names[position] for position in positions], 1
        size = max(1, BLOCK_CELLS // max(len(wanted), 1))
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=size, columns=wanted):
                at = range(first, first + batch.num_rows)
                columns = {name: i for i, name in enumerate(batch.schema.names)}
                cells = [_cells(batch.column(columns[name]), file.name, name, first) for name in wanted]
                yield Block(at, cells)
                first += batch.num_rows

    return Source(names, index, False, "row", Decimals(comma=False), [], rows, blocks)


def _saved_index(metadata: Any) -> set[str]:
    """Names of the columns that pandas saved as an index."""
    try:
        columns = json.loads((metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
        return {name for name in columns if isinstance(name, str)}
    except (ValueError, AttributeError, TypeError):
        return set()


def _cells(column: Any, file: str, name: str, first: int) -> np.ndarray | list[str]:
    """Numbers as a float array with NaN for missing values; texts and booleans as texts, "" for missing ones."""
    import pyarrow as pa

    types, place = pa.types, lambda i: f"`path`: {file!r}, row {first + i}, column {name!r}"
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return [(text or "").strip() for text in column.to_pylist()]
    if types.is_boolean(kind):
        return ["" if value is None else str(value).lower() for value in column.to_pylist()]
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        raise ValueError(
            f"`path`: {file!r}, column {name!r}: holds {kind}; leave it out, or convert it to numbers (or to text in a "
            "target)"
        )
    values = np.array(column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy(zero_copy_only=False))
    if not types.is_floating(kind) and (large := np.abs(values) >= LARGEST).any():
        for i in np.flatnonzero(large):
            whole = column[i].as_py()
            if abs(whole) > LARGEST and whole == int(whole):
                raise ValueError(
                    f"{place(int(i))}: {whole} is a whole number beyond 2^53, which 64 bits would round (if "
                    "it is a name, leave it out)"
                )
    if (infinite := np.isinf(values)).any():
        i = int(np.argmax(infinite))
        raise ValueError(f"{place(int(i))}: {values[i]} is not finite; correct it or remove the row")
    return values
