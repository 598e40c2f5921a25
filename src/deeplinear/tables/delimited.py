"""Tables of text: five separators, quotes, UTF-8, UTF-16 or cp1252; split by Python's own csv, which is strict."""

import codecs
import csv
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .cells import Decimals
from .source import BLOCK_CELLS, Block, Source, batches, clean_name

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
BLANK = " "
"""Separates columns where none of those does; any number of blanks then counts as one."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16 does, so it is tried first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
YEARS = (1000, 2999)
LONG_COUNT = 6
"""Whole numbers in even steps that are names of columns, not a row of data: as many at least, if they are not years."""

Rows = Iterator[tuple[int, list[str]]]


def open_text(file: Path) -> Source:
    """The header of a table of text, its encoding and its separator found out."""
    encoding, remarks = _encoding(file)
    separator = _separator(file, encoding)
    start = list(itertools.islice(_rows(file, encoding, separator), 2))
    header, first = start[0][1], start[1][1] if len(start) > 1 else None
    named_rows = first is not None and len(first) == len(header) + 1 and first[-1] != ""
    names = [""] * named_rows + [clean_name(name, file.name) for name in header]
    if first is None:
        raise ValueError(f"`path`: {file.name!r} has a header and no rows; add samples")
    remarks += _check_header(file, names[named_rows:], first[named_rows:])
    decimals = Decimals(comma=separator != ",")

    def blocks(positions: Sequence[int]) -> Iterator[Block]:
        rows = itertools.islice(_rows(file, encoding, separator), 1, None)
        checked = ((line, _check_width(file, line, row, len(names), len(header))) for line, row in rows)
        for lines, block in batches(checked, max(1, BLOCK_CELLS // len(names))):
            columns = list(zip(*block, strict=True))
            yield Block(lines, [columns[position] for position in positions])

    length = max(2 * len(first), sum(map(len, first)) + len(first))
    size = os.path.getsize(file) / length
    return Source(names, {}, named_rows, "line", decimals, remarks, size, blocks)


def _check_width(file: Path, line: int, row: list[str], width: int, named: int) -> list[str]:
    if len(row) != width:
        raise ValueError(f"`path`: {file.name!r}, line {line}: has {len(row)} cells, but the header has {named}")
    return row


def _encoding(file: Path) -> tuple[str, list[str]]:
    with open(file, "rb") as stream:
        start = stream.read(4)
    for mark, name in MARKS.items():
        if start.startswith(mark):
            return name, []
    for name in ("utf-8", "cp1252"):
        try:
            _decode(file, name)
        except UnicodeDecodeError:
            continue
        remark = f"{file.name!r} is not UTF-8 and was read as cp1252 (Western European); check letters with accents"
        return name, [remark] if name == "cp1252" else []
    raise ValueError(f"`path`: {file.name!r} is neither UTF-8 nor UTF-16 text; save it as UTF-8")


def _decode(file: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    with open(file, "rb") as stream:
        while chunk := stream.read(2**20):
            if b"\0" in chunk:
                raise ValueError(f"`path`: {file.name!r} holds zero bytes and is no table of text; save it as UTF-8")
            decoder.decode(chunk)
    decoder.decode(b"", final=True)


def _separator(file: Path, encoding: str) -> str:
    """What separates the columns: what the suffix says, or else the only other that the header holds."""
    own = "\t" if file.suffix.lower() == ".tsv" else ","
    width, faults, header = {}, {}, [""]
    for separator in (own, *SEPARATORS, BLANK):
        try:
            _, header = next(_rows(file, encoding, separator), (0, []))
        except ValueError as error:  # quotes that make sense with another separator alone
            faults[separator] = error
            continue
        width[separator] = len(header)
        if not header:
            raise ValueError(f"`path`: {file.name!r} is empty; it needs a header and rows")
        if width.get(own, 0) > 1:
            return own
    found = [separator for separator in SEPARATORS if width.get(separator, 0) > 1]
    if not found and width.get(BLANK, 0) > 1:
        return BLANK
    if not found and own in faults:
        raise faults[own]
    if len(found) == 1:
        return found[0]
    words = [SEPARATORS[separator] for separator in found]
    if found:
        raise ValueError(
            f"`path`: {file.name!r} may be separated by {' or by '.join(words)}; separate its columns by "
            f"{SEPARATORS[own]}"
        )
    raise ValueError(
        f"`path`: {file.name!r} has one column, {header[0]!r:.60}; its columns must be separated by commas, "
        "semicolons, tabs, bars or blanks"
    )


def _rows(file: Path, encoding: str, separator: str) -> Rows:
    """The line (from 1) and the stripped cells of every row that is not blank, the header first."""
    line = 1
    with open(file, encoding=encoding, newline="") as stream:
        lines = (line.rstrip() + "\n" for line in stream) if separator == BLANK else stream
        reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
        try:
            for cells in reader:
                row, start, line = [cell.strip() for cell in cells], line, reader.line_num + 1
                if row not in ([], [""]):
                    yield start, row
        except csv.Error as error:
            raise ValueError(f"`path`: {file.name!r}, line {line}: {error}; check the quotes around there") from None


def _check_header(file: Path, names: list[str], first: list[str]) -> list[str]:
    """Refuses a first line of data; a remark on numbers that are names."""
    decimals = Decimals(comma=False)
    kinds = [decimals.number(name) is not None for name in names]
    if not any(kinds) or names == [str(i) for i in range(len(names))]:  # pandas' names for columns without names
        return []
    numbers = list(itertools.compress(names, kinds))
    shown = ", ".join(numbers[:3]) + (", ..." if len(numbers) > 3 else "")
    if _counts(numbers, mixed=not all(kinds)) and not _counts(list(itertools.compress(first, kinds)), mixed=False):
        return [f"the first line ({shown}) was taken as names of columns"]
    if all(kinds) or kinds == [decimals.number(cell) is not None for cell in first]:
        raise ValueError(
            f"`path`: {file.name!r} begins with data ({', '.join(names[:3])}, ...); its first line must name the "
            "columns"
        )
    return []


def _counts(cells: list[str], mixed: bool) -> bool:
    """Whether these are whole numbers in even steps that name columns: years, many, or 1, 2, 3 beside words."""
    if not all(cell.isascii() and cell.isdigit() and len(cell) < 10 for cell in cells):
        return False
    values = list(map(int, cells))
    steps = {after - before for before, after in itertools.pairwise(values)}
    years = YEARS[0] <= min(values) and max(values) <= YEARS[1]
    from_one = mixed and len(values) > 2 and values[0] in (0, 1) and steps == {1}
    return len(steps) < 2 and 0 not in steps and (years or from_one or len(cells) >= LONG_COUNT)
