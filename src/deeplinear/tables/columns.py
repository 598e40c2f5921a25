"""One column of a table as it is read: numbers, or texts that are classes, truth values or names of rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .cells import BOOLEANS, MISSING, Decimals, cell_number, fast_numbers, is_like_a_number, label

MAX_CATEGORIES = 1000
"""More different texts than this in a target column are names of items, not classes."""
FEW = 20
"""Different whole numbers in a target, up to which they may be labels of classes."""


class Column:
    """Takes the cells of one column block by block and gives numbers: values, or places in `texts`; NaN is missing.

    `role`: "input", "target", "classes" (a target whose numbers are labels), "empty" (without a name, must hold
    nothing) or "rows?" (the first column, which may be names of the rows; what would be wrong with it as an input is
    kept in `fault`).
    """

    def __init__(self, name: str, role: str, file: str, place: str, decimals: Decimals, refuse_missing: bool):
        self.name, self.role, self.file, self.place = name, role, file, place
        self.decimals, self.refuse_missing = decimals, refuse_missing
        self.texts: dict[str, int] = {}
        self.has_numbers = self.repeats = False
        self.fault: ValueError | None = None
        self.strange: tuple[int, str] | None = None
        """Where the first text is that looks like a number."""

    def read(self, cells: Any, rows: Sequence[int]) -> np.ndarray:
        """The numbers of some cells, shape (rows,)."""
        if self.role == "classes":
            return np.array([self._label(cell, row) for cell, row in zip(cells, rows, strict=True)], dtype=float)
        if self.role == "empty":
            return self._nothing(cells, rows)
        if self.texts and self.role == "target" and (codes := self._known(cells)) is not None:
            return codes
        values = cells if isinstance(cells, np.ndarray) else fast_numbers(cells, self.decimals)
        if values is None:
            return np.array([self._value(cell, row) for cell, row in zip(cells, rows, strict=True)], dtype=float)
        if self.texts:
            self._mixed(str(cells[0]), rows[0])
        self.has_numbers = True
        missing = np.isnan(values)
        if missing.any():
            self._missing("", rows[int(np.argmax(missing))])
        return values

    def _known(self, cells: Any) -> np.ndarray | None:
        """Codes of texts that all came before, as nearly all do in a column of classes; else None."""
        try:
            return np.array([self.texts[cell] for cell in cells], dtype=float)
        except (KeyError, TypeError):
            return None

    def _nothing(self, cells: Any, rows: Sequence[int]) -> np.ndarray:
        for cell, row in zip(cells, rows, strict=True):
            if str(cell).lower() not in MISSING:
                raise ValueError(
                    f"`path`: {self.file!r}, {self.place} {row}: {str(cell)[:40]!r} is in a column that has no name; "
                    "name it in the first line"
                )
        return np.full(len(rows), np.nan)

    def _value(self, cell: str, row: int) -> float:
        try:
            number = cell_number(cell, self.decimals)
        except ValueError as error:
            self._refuse(f"{self._where(row)}: {cell[:40]!r} {error}; correct it or remove the row")
            return np.nan
        if number is None:
            return self._text(cell, row)
        if np.isnan(number):
            self._missing(cell, row)
        else:
            if self.texts:
                self._mixed(cell, row)
            self.has_numbers = True
        return number

    def _text(self, cell: str, row: int) -> float:
        known = self.texts.get(cell)
        if known is not None:
            self.repeats |= cell.lower() not in BOOLEANS
            return float(known)
        if self.role in ("input", "rows?") and cell.lower() not in BOOLEANS:
            self._refuse(
                f"{self._where(row)}: {cell[:40]!r} is text; inputs must be numbers (drop={self.name!r}, or --drop "
                f"{self.name} on the command line, leaves the column out)"
            )
        if self.has_numbers:
            self._mixed(cell, row)
        self._check_text(cell, row)
        return float(self.texts.setdefault(cell, len(self.texts)))

    def _label(self, cell: Any, row: int) -> float:
        try:
            text = label(cell if isinstance(cell, str) else float(cell), self.decimals)
        except ValueError as error:
            raise ValueError(f"{self._where(row)}: {cell[:40]!r} {error}; correct it or remove the row") from None
        if text is None:
            self._missing(cell if isinstance(cell, str) else "", row)
            return np.nan
        if text not in self.texts:
            self._check_text(text, row)
        return float(self.texts.setdefault(text, len(self.texts)))

    def _check_text(self, text: str, row: int) -> None:
        if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text if not letter.isspace()):
            raise ValueError(f"{self._where(row)}: {text[:40]!r} holds a control character; the file may be damaged")
        if self.role in ("target", "classes") and len(self.texts) >= MAX_CATEGORIES:
            raise ValueError(
                f"`target`: column {self.name!r} of {self.file!r} has more than {MAX_CATEGORIES} different texts; "
                "these are names, not classes: choose another column"
            )
        if self.strange is None and is_like_a_number(text):
            self.strange = row, text

    def _mixed(self, cell: str, row: int) -> None:
        if self.role == "target":
            text = min(self.texts) if self.texts else cell
            raise ValueError(
                f"{self._where(row)}: the target mixes numbers and texts ({text[:40]!r}); make all of them numbers, or "
                f"name it in `classes` (--classes {self.name}) to make all of them classes"
            )
        text = next(iter(self.texts)) if self.texts else cell
        self._refuse(f"{self._where(row)}: the column mixes numbers and texts ({text[:40]!r}); inputs must be numbers")

    def _missing(self, cell: str, row: int) -> None:
        if self.refuse_missing:
            self._refuse(
                f"{self._where(row)}: the value is missing ({cell!r}); fill it, or leave such rows out with "
                "missing='drop', --missing drop on the command line"
            )

    def _refuse(self, complaint: str) -> None:
        error = ValueError(complaint)
        if self.role != "rows?":
            raise error
        self.fault = self.fault or error

    def _where(self, row: int) -> str:
        return f"`path`: {self.file!r}, {self.place} {row}, column {self.name!r}"

    @property
    def truth(self) -> bool:
        """Whether all texts are true or false, so that they are the numbers 1 and 0."""
        return self.role != "classes" and bool(self.texts) and {text.lower() for text in self.texts} <= set(BOOLEANS)

    @property
    def categorical(self) -> bool:
        return bool(self.texts) and not self.truth

    def finished(self, values: np.ndarray) -> np.ndarray:
        """The column's values, with true and false as 1 and 0."""
        if not self.truth:
            return values
        numbers = np.array([BOOLEANS[text.lower()] for text in self.texts])
        return np.where(np.isnan(values), np.nan, numbers[np.nan_to_num(values).astype(int)])

    def row_names(self, values: np.ndarray) -> str | None:
        """Why this first column is no input, if it is none: it counts the rows, or names every row."""
        n = len(values)
        if self.texts and not self.has_numbers and not self.truth:
            return "names the rows" if n > 1 and not self.repeats and not np.isnan(values).any() else None
        if self.has_numbers and n > 2 and values[0] in (0, 1) and np.array_equal(values, values[0] + np.arange(n)):
            return f"counts the rows, {values[0]:.0f} to {values[-1]:.0f}"
        return None

    def check_classes(self) -> None:
        """Refuses texts that are numbers in a form that is not read, all of them."""
        if self.role == "target" and self.strange and all(map(is_like_a_number, self.texts)):
            row, text = self.strange
            raise ValueError(
                f"{self._where(row)}: {text[:40]!r} is a number or a date in a form that is not read; write plain "
                f"numbers, or name it in `classes` (--classes {self.name}) to make the texts classes"
            )

    def classes(self, codes: np.ndarray) -> list[str]:
        """The classes that occur among the codes, sorted; numbers by size."""
        occurring = np.array(list(self.texts), dtype=object)[np.unique(codes).astype(int)]
        try:
            return sorted(occurring, key=float)
        except ValueError:
            return sorted(occurring)
