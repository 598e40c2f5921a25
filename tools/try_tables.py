"""Loads every table of text in the folders given, compares it with another reading, prints what was refused and why.

    python tools/try_tables.py SITE_PACKAGES/statsmodels SITE_PACKAGES/pydataset ...

The target is the last column of numbers, rows with missing values are left out; columns of text are dropped one by one
as the messages say. Compressed tables (.gz, .bz2) and archives (.tar.gz) are unpacked first.
"""

import bz2
import csv
import gzip
import io
import re
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deeplinear import loading
from deeplinear.tables import Choice

SUFFIXES = (".csv", ".tsv")
MISSING = {"", "na", "nan", "n/a", ".", "?", "none", "null", "-", "*"}
REASONS = {
    r"is text; inputs must be numbers": "text in every input",
    r"takes every column": "no column of numbers beside the target",
    r"every row of .* has a missing value": "a missing value in every row",
    r"has one column": "one column",
    r"is not finite": "infinity",
    r"begins with data": "no header",
    r"has \d+ cells, but the header|its rows have": "rows of unequal length",
    r"mixes numbers and texts": "numbers and texts in one column",
    r"two columns named": "two columns of one name",
    r"column that has no name": "a column without a name",
    r"beyond 2\^53": "whole numbers beyond 2^53",
    r"check the quotes": "broken quotes",
    r"neither UTF-8|zero bytes": "no text",
    r"comma may stand|decimal point": "commas in numbers that may be thousands",
    r"is empty|no rows": "no rows",
    r"number or a date": "amounts or dates as target",
}


def tables_in(folder: Path, unpacked: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of all tables below a folder."""
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.name.startswith("._"):  # what some systems put beside every file
            continue
        if file.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(file) as archive:
                archive.extractall(unpacked / name, filter="data")
            yield from (
                (f"{name}/{inner}", path) for inner, path in tables_in(unpacked / name, unpacked / name / "more")
            )
        elif file.suffix in SUFFIXES and file.is_file():
            yield name, file
        elif file.suffix in (".gz", ".bz2") and Path(file.stem).suffix in SUFFIXES:
            whole = unpacked / name.removesuffix(file.suffix)
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_bytes((gzip if file.suffix == ".gz" else bz2).open(file).read())
            yield name, whole


def other_reading(file: Path) -> dict[str, list[str]]:
    """Cells by column name, read without the library; names of rows that the header leaves out are left out too."""
    content = file.read_bytes()
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252", "latin-1"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    separator = max(",;\t|", key=text.strip().split("\n", 1)[0].count)
    if separator not in text.strip().split("\n", 1)[0]:  # blanks, any number of them
        separator, text = " ", "\n".join(" ".join(line.split()) for line in text.splitlines())
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]
    header, *rows = [row for row in rows if row not in ([], [""])]
    shift = len(rows[0]) - len(header) if rows else 0
    names = [" ".join(name.split()) for name in header]
    rows = [row for row in rows if len(row) == len(header) + shift]
    return {name: [row[i + shift] for row in rows] for i, name in enumerate(names) if i + shift >= 0}


def number(cell: str) -> float | None:
    """A float, NaN where it is missing, None for a text."""
    if cell.lower() in MISSING:
        return float("nan")
    try:
        return {"true": 1.0, "false": 0.0}.get(cell.lower()) if cell.lower() in ("true", "false") else float(cell)
    except ValueError:
        return None


def last_column_of_numbers(cells: dict[str, list[str]]) -> str | None:
    """The last named column whose cells are all numbers or missing, not all of them missing."""
    for name in reversed(cells):
        values = [number(cell) for cell in cells[name]]
        if name and None not in values and not np.isnan(np.array(values, dtype=float)).all():
            return name
    return None


def attempt(file: Path) -> tuple[str, str]:
    """("loaded" | "loaded after dropping" | "refused" | "WRONG", reason)."""
    try:
        cells = other_reading(file)
    except (csv.Error, ValueError, IndexError):
        cells = {}
    target = last_column_of_numbers(cells)
    if target is None:
        return "refused", "no column of numbers"
    dropped: list[str] = []
    while True:
        try:
            samples = loading.read(file, Choice(target=[target], drop=dropped or None, missing="drop"))
        except ValueError as error:
            column = re.search(r"column '(.*)': .* is text; inputs must be numbers", str(error))
            column = column or re.search(r"column '(.*)': the column mixes numbers and texts", str(error))
            if column and column[1] in cells and column[1] not in dropped:
                dropped.append(column[1])
                continue
            if not str(error).startswith("`") or "\n" in str(error):
                return "WRONG", str(error)
            return "refused", next((why for what, why in REASONS.items() if re.search(what, str(error))), str(error))
        break
    used = [*samples.input_names, target]
    expected = np.array([[number(cell) for cell in cells[name]] for name in used], dtype=float).T
    expected = expected[~np.isnan(expected).any(axis=1)]
    same = np.array_equal(expected, np.column_stack([samples.X, samples.Y]))
    return ("WRONG", "other numbers") if not same else ("loaded after dropping" if dropped else "loaded", "")


def version(folder: Path) -> str:
    """Of the installed package beside whose metadata the folder lies."""
    for name in (folder.name, {"sklearn": "scikit_learn"}.get(folder.name, folder.name)):
        for found in folder.parent.glob(f"{name}-*.dist-info"):
            return found.name.removesuffix(".dist-info").rpartition("-")[2]
    return "?"


def main(folders: list[str]) -> None:
    """Prints one row of a Markdown table per folder, and every table that is neither loaded nor refused."""
    print("| package | version | tables | loaded | loaded without columns of text | refused | why |\n|" + "---|" * 7)
    total, wrong = Counter(), []
    for folder in map(Path, folders):
        counts, reasons = Counter(), Counter()
        with tempfile.TemporaryDirectory() as unpacked:
            for name, file in tables_in(folder, Path(unpacked)):
                kind, reason = attempt(file)
                counts[kind] += 1
                reasons[reason] += bool(reason)
                wrong += [f"{folder.name}/{name}: {reason}"] * (kind == "WRONG")
                if "-v" in sys.argv and reason:
                    print(f"    {name}: {reason}")
        why = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common() if reason)
        row = (counts["loaded"], counts["loaded after dropping"], counts["refused"])
        print(f"| {folder.name} | {version(folder)} | {counts.total()} | {' | '.join(map(str, row))} | {why} |")
        total += counts
    row = (total["loaded"], total["loaded after dropping"], total["refused"])
    print(f"| all | | {total.total()} | {' | '.join(map(str, row))} | |")
    print(f"\n{len(wrong)} tables with other numbers or without one clear line", *wrong, sep="\n")


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument != "-v"])
