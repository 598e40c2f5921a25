"""What one cell of a table means: a number, nothing, or a text. The same for every kind of file."""

import math
import re
from collections.abc import Sequence

import numpy as np

MISSING = frozenset(
    {
        "",
        "na", "n/a", "n.a.", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "nat", "null", "<null>", "nil", "none",
        "missing", "?", ".", "..", "...", "…", "-", "--", "---", "–", "—",
        "*", "\\n", "#div/0!", "#value!", "#ref!", "#name?",
        "#num!", "#null!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
    }
)  # fmt: skip
"""Cells that say that a value is missing, in small letters; the empty cell is one of them."""
BOOLEANS = {"true": 1.0, "false": 0.0}
"""In small letters."""
LARGEST = 2**53
"""Whole numbers beyond this are not all exact in 64 bits."""

_PLAIN = re.compile(r"[0-9eE+.\-]*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?(?:[0-9]+,[0-9]*|,[0-9]+)(?:[eE][+-]?[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_LIKE = re.compile(  # numbers with units, currencies, thousands; other bases; dates and times
    r"""[+\-−]?\s*[$€£¥]?\s*[+\-−]?
        (?:\d[\d.,'_\s]*\s*(?:[%‰°]|[$€£¥]|[^\W\d_]{1,3}[²³]?(?:/[^\W\d_]{1,3}[²³]?)?)?   # 12%, 5 kg, 1'000, 3 m/s
        |0x[\da-f]+ | \d+\.?\d*d[+-]?\d+                                                   # 0xff, 1.5d3
        |\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T\s].*)? | \d{1,2}:\d\d(?::\d\d.*)?)           # 2020-01-31, 12:30
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Decimals:
    """The sign before decimals in one file: a point, or a comma where columns are not separated by commas.

    `comma`: whether 1,5 may be a number at all. Both signs in one file, or commas that could as well stand between
    thousands, are refused by `check` when all cells were read.
    """

    def __init__(self, comma: bool):
        self.comma = comma
        self.points = self.commas = False
        self.certain = False
        self.example = ""

    def number(self, cell: str) -> str | None:
        """The cell with a decimal point if it is a number, else None."""
        if _NUMBER.fullmatch(cell):
            self.points |= "." in cell
            return cell
        if not (self.comma and _COMMA.fullmatch(cell)):
            return None
        self.commas, self.example = True, self.example or cell
        self.certain |= not _THOUSANDS.fullmatch(cell)
        return cell.replace(",", ".")

    def check(self, file: str) -> list[str]:
        """A remark on decimal commas, if there are any."""
        if not self.commas:
            return []
        if self.points or not self.certain:
            reason = "other numbers have a decimal point" if self.points else "the comma may stand between thousands"
            raise ValueError(
                f"`path`: {file!r} holds {self.example!r}, and {reason}; write decimals with a point and thousands "
                "without a sign"
            )
        return [f"commas in numbers ({self.example}) were read as decimal commas"]


def fast_numbers(cells: Sequence[str], decimals: Decimals) -> np.ndarray | None:
    """All cells as numbers, or None where one of them has to be looked at."""
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        return None
    joined = "".join(cells)  # `float` also reads 1_000, inf and digits of other scripts
    if not _PLAIN.fullmatch(joined) or not (np.abs(values) < LARGEST).all():
        return None
    if "e" in joined.lower() and not values.all():  # 1e-400 would be zero
        return None
    decimals.points |= "." in joined
    return values


def cell_number(cell: str, decimals: Decimals) -> float | None:
    """The number of a cell, NaN where it is missing, None where it is a text; `ValueError` says what is refused."""
    text = decimals.number(cell)
    if text is None:
        if cell.lower() in MISSING:
            return math.nan
        if _not_finite(cell):
            raise ValueError("is not finite")
        return None
    number = float(text)
    if math.isinf(number):
        raise ValueError("is not finite in 64 bits")
    if _WHOLE.fullmatch(text) and abs(number) >= LARGEST and abs(int(text)) > LARGEST:
        raise ValueError("is a whole number beyond 2^53, which 64 bits would round (if it is a name, leave it out)")
    if not number and re.search("[1-9]", text.lower().partition("e")[0]):
        raise ValueError("is too small for 64 bits")
    return number


def is_like_a_number(text: str) -> bool:
    """Whether a text is a number, an amount or a date in a form that is not read: 12%, 5 kg, 1,000, 0x10, 2020-01-31.

    >>> [is_like_a_number(text) for text in ("12%", "1 000", "$5", "2020-01-31", "setosa", "18-25", "A1")]
    [True, True, True, True, False, False, False]
    """
    try:
        float(text)
    except ValueError:
        return bool(_LIKE.fullmatch(text))
    return True


def label(value: str | float | np.floating, decimals: Decimals) -> str | None:
    """A cell as the name of a class, None where it is missing: 1, 1.0 and 01 are one class."""
    if isinstance(value, str):
        number = cell_number(value, decimals)
        if number is None:
            return value
        value = number
    if math.isnan(value):
        return None
    return str(int(value)) if int(value) == value else repr(float(value))


def _not_finite(cell: str) -> bool:
    try:
        return math.isinf(float(cell))
    except ValueError:
        return False
