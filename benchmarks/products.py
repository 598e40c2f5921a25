"""Single products of the compiled engine beside BLAS: `python -m benchmarks.products`.

A B and A^T B, as the field needs them, by every instruction set that the processor has; numpy's BLAS in the same
process on the same core, the two taking turns. BLAS chooses its instruction set when it starts:
OPENBLAS_CORETYPE=Haswell or Nehalem hold OpenBLAS to AVX2 or SSE, beside which `--level v3` and `--level baseline` are
fair. One pinned core, one thread, CPU seconds, the least of all rounds, which is the least disturbed by other jobs.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from . import machine

SIZES = (
    *((n, n, n) for n in (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1500)),
    (10, 784, 1024),
    (64, 1024, 1024),
    (1024, 64, 1024),
    (1024, 1024, 64),
)
"""Rows, columns and inner index."""
LEVELS = ("baseline", "v3", "v4")
SECONDS, ROUNDS = 0.4, 7


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints a Markdown table, writes the JSON file."""
    core = machine.use_one_core()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--level", action="append", choices=LEVELS, help="instruction set of the engine; default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of every number (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    options = parser.parse_args(arguments)
    levels = options.level or levels_here()
    rows = [measured(size, levels, options.seconds) for size in SIZES]
    print(table(rows, levels))
    if options.json:
        facts = machine.facts(core) | {"coretype": os.environ.get("OPENBLAS_CORETYPE")}
        options.json.write_text(json.dumps(facts | {"products": rows}, indent=1) + "\n", encoding="utf-8")


def levels_here() -> list[str]:
    """Every instruction set of the engine that this processor has."""
    from deeplinear.dynamics import library

    able = library.load("baseline").call["processor"]()
    return [level for level, needs in library.LEVELS.items() if needs <= able]


def measured(size: tuple[int, int, int], levels: list[str], seconds: float) -> dict:
    """GFlop/s of BLAS and of every level, for A B ("NN") and A^T B ("TN")."""
    import numpy as np

    rows, columns, inner = size
    rng = np.random.default_rng(0)
    found: dict = {"rows": rows, "columns": columns, "inner": inner}
    B = rng.standard_normal((inner, columns))
    for form, shape in {"NN": (rows, inner), "TN": (inner, rows)}.items():
        A = rng.standard_normal(shape)
        runs = {"BLAS": in_blas(A, B, form == "TN")} | {level: ours(level, A, B, form == "TN") for level in levels}
        best = shortest(runs, seconds)
        found[form] = {name: 2e-9 * rows * columns * inner / best[name] for name in runs}
    return found


def shortest(runs: dict[str, Callable[[int], float]], seconds: float) -> dict[str, float]:
    """CPU seconds of one product: what more of them take beyond one, each the least over `ROUNDS` rounds of turns.

    What a call takes beside its products, such as handing the matrices in and out, is left out.
    """
    counts = {name: 1 + int(seconds / ROUNDS / max(run(1), run(1), 1e-7)) for name, run in runs.items()}
    rounds = [{name: (run(1), run(counts[name] + 1)) for name, run in runs.items()} for _ in range(ROUNDS)]
    least = lambda name, which: min(times[name][which] for times in rounds)
    return {name: (least(name, 1) - least(name, 0)) / counts[name] for name in runs}


def in_blas(A, B, transposed: bool) -> Callable[[int], float]:
    """CPU seconds of so many products by numpy."""
    import numpy as np

    out = np.empty((A.shape[1] if transposed else A.shape[0], B.shape[1]))
    left = A.T if transposed else A

    def run(count: int) -> float:
        started = time.process_time()
        for _ in range(count):
            np.matmul(left, B, out=out)
        return time.process_time() - started

    return run


def ours(level: str, A, B, transposed: bool) -> Callable[[int], float]:
    """CPU seconds of one call for so many products by the engine."""
    import numpy as np

    from deeplinear.dynamics import library

    product = library.load(level).call["product"]
    rows, columns, inner = A.shape[1] if transposed else A.shape[0], B.shape[1], B.shape[0]
    out = np.empty((rows, columns))

    def run(count: int) -> float:
        pointers = (array.ctypes.data for array in (A, B, out))
        started = time.process_time()
        product(rows, columns, inner, int(transposed), count, *pointers)
        return time.process_time() - started

    return run


def table(rows: list[dict], levels: list[str]) -> str:
    """Sizes down; GFlop/s of BLAS and, for every level, how many times as long the engine takes."""
    names = [f"{form}, {name}" for form in ("NN", "TN") for name in ("BLAS, GFlop/s", *levels)]
    lines = [f"| rows x columns x inner | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{row['rows']} x {row['columns']} x {row['inner']}"]
        for form in ("NN", "TN"):
            blas = row[form]["BLAS"]
            cells += [f"{blas:.3g}", *(f"{blas / row[form][level]:.2f}" for level in levels)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
