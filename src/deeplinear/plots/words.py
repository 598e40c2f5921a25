"""Numbers as a person reads them: few digits, unicode powers of ten, ranges of mode numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

ABSENT = "–"  # shown where a number is missing or not finite

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(exponent: int) -> str:
    """Ten to an integer power, as unicode text.

    >>> power(-12)
    '10⁻¹²'
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def number(value: object, digits: int = 3) -> str:
    """A number with `digits` significant digits; very small and very large ones as a power of ten.

    >>> number(0.43301270), number(3.14e-12), number(float("nan")), number(0.0), number(12345678)
    ('0.433', '3.14·10⁻¹²', '–', '0', '1.23·10⁷')
    """
    if isinstance(value, bool) or value is None:
        return ABSENT
    try:
        x = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)
    if not math.isfinite(x):
        return ABSENT
    if x == 0:
        return "0"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    if -3 <= int(exponent) < 5:
        return f"{x:.{max(digits - 1 - int(exponent), 0)}f}"
    return f"{mantissa}·{power(int(exponent))}"


def short(value: object) -> str:
    """A number as in `number`, without zeros at its end.

    >>> short(1e-3), short(0.25), short(3.2e-13), short(100.0)
    ('0.001', '0.25', '3.2·10⁻¹³', '100')
    """
    mantissa, dot, exponent = number(value).partition("·")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + dot + exponent


def percent(share: object) -> str:
    """A share as a percentage with two digits where it is small.

    >>> percent(0.4375), percent(0.0123), percent(1e-9), percent(1.0), percent(float("nan"))
    ('44%', '1.2%', '<0.1%', '100%', '–')
    """
    try:
        x = 100 * float(share)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ABSENT
    if not math.isfinite(x):
        return ABSENT
    if 0 < x < 0.1:
        return "<0.1%"
    return f"{x:.0f}%" if abs(x) >= 9.95 or x == 0 else f"{x:.1f}%"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in order, runs of three or more joined by a dash.

    >>> ranges([3, 4]), ranges([1, 2, 3, 7])
    ('3, 4', '1–3, 7')
    """
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    parts = [f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts)


def numbered(noun: str, numbers: Iterable[int]) -> str:
    """A noun and its numbers, in the plural where there are several.

    >>> numbered("mode", [2]), numbered("mode", [3, 4])
    ('mode 2', 'modes 3, 4')
    """
    listed = sorted(numbers)
    return f"{noun}{'s' if len(listed) > 1 else ''} {ranges(listed)}"
