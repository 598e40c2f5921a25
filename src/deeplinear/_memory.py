"""How much memory there is, and a refusal in one line of what needs more."""

import math
import os
from contextlib import suppress
from pathlib import Path

SHARE = 0.8
"""Of the memory that is free, what one call may ask for: an estimate leaves out temporaries, and others work here."""
UNKNOWN = 2**46
"""Where a system does not say how much is free: 64 TiB, more than any machine gives one process."""
MIB = 2**20
"""Requests below this are not looked at; asking the system takes some tenths of a millisecond."""


def check(argument: str, what: str, needed: int | float, remedy: str, share: float = SHARE) -> None:
    """Raise `ValueError` where `what` needs more than a share of the memory that is free; `needed` in bytes.

    >>> check("widths", "the weights", 8e3, "take smaller layers")
    >>> check("widths", "the weights of 9 -> 10^18", 8e19, "take smaller layers")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `widths`: the weights of 9 -> 10^18 takes 8e+07 TB of memory, but ... are free; take smaller layers
    """
    if needed < MIB:
        return
    free = available()
    if needed > share * free:
        raise ValueError(f"`{argument}`: {what} takes {size(needed)} of memory, but {size(free)} are free; {remedy}")


def check_moments(argument: str, inputs: int) -> None:
    """Raise `ValueError` where second moments of that many inputs, with their eigenvectors, do not fit into memory.

    >>> check_moments("X", 100)
    """
    needed = 8 * 4 * inputs**2  # the moments, their eigenvectors, and a copy of each
    check(argument, f"the second moment of {inputs} inputs", needed, "leave out columns, or reduce them first")


def size(count: int | float) -> str:
    """A number of bytes as people read it.

    >>> size(3_500_000_000), size(10**60)
    ('3.5 GB', '1e+48 TB')
    """
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= factor:
            value = count // factor if count > 10**25 else count / factor
            return f"{float(value):.4g} {unit}" if value < 10**300 else f"more than 1e300 {unit}"
    return f"{count / 1000:.3g} kB"


def short(number: int) -> str:
    """A whole number that may have thousands of digits.

    >>> short(1000), short(10**30)
    ('1000', 'about 10^30')
    """
    return str(number) if number < 10**15 else f"about 10^{int(math.log10(number))}"


def available() -> int:
    """Bytes that this process can still have: free memory of the machine, of its control group, of its own limit."""
    return max(min(_of_machine(), _of_group(), _of_limit()), 0)


def _of_machine() -> int:
    with suppress(OSError, ValueError, IndexError):  # counts what the kernel would give back from its caches
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN


def _of_group() -> int:
    """What the control groups of this process leave it, version 2 or 1; caches of files count as free."""
    free = UNKNOWN
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            root = Path("/sys/fs/cgroup", controllers)
            most, used = (
                ("memory.max", "memory.current")
                if controllers == ""
                else ("memory.limit_in_bytes", "memory.usage_in_bytes")
            )
            group = root / name.lstrip("/")
            for folder in (group, *group.parents):
                if folder == root.parent:
                    break
                with suppress(OSError, ValueError, StopIteration):  # "max" is no number: no limit
                    limit = int((folder / most).read_text())
                    caches = (folder / "memory.stat").read_text().splitlines()
                    cached = next(int(line.split()[1]) for line in caches if line.startswith("inactive_file "))
                    free = min(free, limit - int((folder / used).read_text()) + cached)
    return free


def _of_limit() -> int:
    """What `ulimit -v` leaves."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return limit - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN
