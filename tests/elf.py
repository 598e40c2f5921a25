"""What a 64-bit little-endian ELF library exports and what it wants of others (System V gABI, chapters 4 and 5).

Read here, so that a machine without binutils can tell as well.
"""

import struct
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

DYNAMIC, DYNSYM = 6, 11  # types of sections
NEEDED = 1  # a tag in the dynamic section
UNDEFINED = 0  # the section of a symbol that somebody else defines
MACHINE = 18  # where in a file the processor is named, two bytes


class Dynamic(NamedTuple):
    defined: set[str]
    undefined: set[str]
    needed: set[str]


def dynamic(path: Path) -> Dynamic:
    """The dynamic symbols of a library, without their versions, and the libraries that it needs."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", f"{path} is no 64-bit little-endian ELF file"
    (start,), (size, count) = struct.unpack_from("<Q", data, 0x28), struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + i * size) for i in range(count)]

    def rows(kind: int, layout: str) -> list[tuple]:
        """Entries of the one section of that kind."""
        (section,) = [section for section in sections if section[1] == kind]
        offset, length = section[4:6]
        return list(struct.iter_unpack(layout, data[offset : offset + length]))

    def text(kind: int, at: int) -> str:
        (strings,) = [sections[section[6]] for section in sections if section[1] == kind]
        return bytes(takewhile(bool, data[strings[4] + at :])).decode()

    symbols = [(text(DYNSYM, name), section) for name, _, _, section, _, _ in rows(DYNSYM, "<IBBHQQ") if name]
    return Dynamic(
        {name for name, section in symbols if section != UNDEFINED},
        {name for name, section in symbols if section == UNDEFINED},
        {text(DYNAMIC, value) for tag, value in rows(DYNAMIC, "<qQ") if tag == NEEDED},
    )
