"""Writes engine/tables.cpp: the coefficients of ROCK4, CND4 and Dormand-Prince 8(5,3) as C++, to the last bit.

The first two are those of tools/generate_rock4.py and tools/generate_cnd4.py, as stored in src/deeplinear/flows; the
third is the tableau of `scipy.integrate.DOP853`.
"""

from pathlib import Path

import numpy as np
from scipy.integrate import DOP853

ROOT = Path(__file__).parents[1]
STAGES = 12


def array(kind: str, name: str, values: np.ndarray) -> str:
    """One definition; a number is written with as many digits as tell it from every other."""
    dimensions = "".join(f"[{n}]" for n in values.shape)
    numbers = [repr(x) for x in values.ravel().tolist()]
    lines, line = [], "   "
    for number in numbers:
        if len(line) + len(number) > 117:
            lines, line = [*lines, line], "   "
        line += f" {number},"
    return f"const {kind} {name}{dimensions} = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def text() -> str:
    """The whole file."""
    parts = ['// Written by tools/generate_engine_tables.py.\n#pragma GCC diagnostic ignored "-Wmissing-braces"\n']
    parts += ['#include "tables.h"\n', "namespace deeplinear {"]
    names = {
        "rock4": ("stages", "offset", "interval", "finish", "error", "mu", "ka"),
        "cnd4": ("stages", "offset", "place", "interval", "repair", "beta", "eps"),
    }
    for method, fields in names.items():
        table = np.load(ROOT / "src" / "deeplinear" / "flows" / f"{method}.npz", allow_pickle=False)
        arrays = [array("int" if table[name].dtype.kind == "i" else "double", name, table[name]) for name in fields]
        parts += [f"namespace {method} {{\n" + "".join(arrays) + f"}}  // namespace {method}\n"]
    tableau = {"A": DOP853.A[:STAGES, :STAGES], "B": DOP853.B, "E3": DOP853.E3, "E5": DOP853.E5}
    arrays = [array("double", name, np.asarray(values)) for name, values in tableau.items()]
    parts += ["namespace dopri8 {\n" + "".join(arrays) + "}  // namespace dopri8", "}  // namespace deeplinear"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "engine" / "tables.cpp").write_text(text(), encoding="utf-8")
