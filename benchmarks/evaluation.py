"""One evaluation of the vector field: `python -m benchmarks.evaluation`.

Small networks beside C with fixed sizes (gcc -O3 -march=native), wide ones beside the bare matrix products in BLAS.
Each evaluation is followed by an addition to the weights, so that none can be left out. One pinned core, one thread.
"""

import argparse
import ctypes
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from . import machine

PROBLEMS = ("P1", "P3r", "P4", "P5")
ROUNDS, SECONDS = 7, 0.2
STEP = 1e-6


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints one line a problem, writes the JSON file."""
    core = machine.use_one_core()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    options = parser.parse_args(arguments)
    from . import problems

    rows = [measured(problems.build(name)) for name in PROBLEMS]
    for row in rows:
        print(
            f"{row['problem']:4s} {row['widths']:22s} {row['microseconds']:8.3g} us, {row['gigaflops']:5.3g} GFlop/s; "
            f"{row['bound']} {row['bound_microseconds']:.3g} us, ratio {row['ratio']:.3g}"
        )
    if options.json:
        options.json.write_text(
            json.dumps(machine.facts(core) | {"evaluations": rows}, indent=1) + "\n", encoding="utf-8"
        )


def measured(problem) -> dict:
    """Median microseconds of ours and of the bound, taking turns."""
    small = max(problem.widths) <= 12 and shutil.which("gcc")
    runs = {"ours": ours(problem), "bound": in_c(problem) if small else in_blas(problem)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    counts = {name: max(1, int(SECONDS / per_call(run, 10))) for name, run in runs.items()}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(per_call(run, counts[name]))
    best = {name: 1e6 * sorted(values)[ROUNDS // 2] for name, values in times.items()}
    return {
        "problem": problem.name,
        "widths": "-".join(map(str, problem.widths)),
        "microseconds": best["ours"],
        "gigaflops": 1e-3 * flops(problem.widths) / best["ours"],
        "bound": "C" if small else "BLAS",
        "bound_microseconds": best["bound"],
        "ratio": best["ours"] / best["bound"],
    }


def per_call(run: Callable[[int], None], count: int) -> float:
    """CPU seconds of one of `count` evaluations, once warm."""
    run(count)
    started = time.process_time()
    run(count)
    return (time.process_time() - started) / count


def products(widths: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(rows, inner, columns) of the matrix products of one evaluation, from the side with fewer rows."""
    if widths[-1] > widths[0]:
        widths = widths[::-1]
    out, depth = widths[-1], len(widths) - 1
    lefts = [(out, widths[l], widths[l - 1]) for l in range(depth - 1, 0, -1)]
    rights = [(out, widths[l - 1], widths[l]) for l in range(1, depth)]
    slopes = [(widths[l], out, widths[l - 1]) for l in range(1, depth)]
    return lefts + rights + slopes


def flops(widths: tuple[int, ...]) -> int:
    """Multiplications and additions of one evaluation."""
    return sum(2 * rows * inner * columns for rows, inner, columns in products(widths))


def ours(problem) -> Callable[[int], None]:
    """The field as the flow evaluates it, in the form that suits the network."""
    import jax
    import jax.numpy as jnp
    from jax.experimental.xla_metadata import set_xla_metadata

    import deeplinear as dl
    from deeplinear._linalg import fused_products
    from deeplinear.running import compiling
    from deeplinear.running.fields import velocity

    objective, start = dl.SquaredError.from_moments(problem.sigma), dl.Network(problem.starts[0])

    def loop(count, network):
        step = lambda _, at: jax.tree.map(lambda W, V: W + STEP * V, at, velocity(objective, at))
        return jax.lax.fori_loop(0, count, step, network)

    def kernel(count, network):
        with fused_products():
            return loop(count, network)

    def tagged(count, network):
        with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
            return jax.jit(kernel, inline=False)(count, network)

    run = jax.jit(tagged if compiling.is_small(start) else loop, **compiling.OPTIONS)
    return lambda count: jax.block_until_ready(run(jnp.asarray(count), start))


def in_blas(problem) -> Callable[[int], None]:
    """The matrix products and the additions alone, into memory that is there already."""
    import numpy as np
    from scipy.linalg.blas import daxpy

    rng = np.random.default_rng(0)
    work = [
        (rng.standard_normal((rows, inner)), rng.standard_normal((inner, columns)), np.empty((rows, columns)))
        for rows, inner, columns in products(problem.widths)
    ]

    layers = [(rng.standard_normal(W.size), rng.standard_normal(W.size)) for W in problem.starts[0]]

    def run(count: int) -> None:
        for _ in range(count):
            for A, B, out in work:
                np.matmul(A, B, out=out)
            for weights, slope in layers:
                daxpy(slope, weights, a=STEP)

    return run


def in_c(problem) -> Callable[[int], None]:
    """The same evaluation in C, every size a constant."""
    import numpy as np

    folder = Path(tempfile.mkdtemp())
    source, library = folder / "field.c", folder / "field.so"
    source.write_text(c_source(problem.widths), encoding="utf-8")
    subprocess.run(
        ["gcc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", source, "-o", library], check=True
    )
    flow = ctypes.CDLL(str(library)).flow
    weights = np.concatenate([np.asarray(W).ravel() for W in problem.starts[0]])
    sigma = np.ascontiguousarray(problem.sigma)
    double = ctypes.POINTER(ctypes.c_double)
    pointers = [array.ctypes.data_as(double) for array in (weights, sigma)]
    return lambda count: flow(ctypes.c_long(count), ctypes.c_double(STEP), *pointers)


def c_source(widths: tuple[int, ...]) -> str:
    """`flow(count, h, weights, sigma)`: count steps of Euler's method, along the outputs."""
    depth, out, d_x = len(widths) - 1, widths[-1], widths[0]
    offsets = [0]
    for below, above in pairwise(widths):
        offsets.append(offsets[-1] + below * above)
    W = lambda l: f"(w + {offsets[l - 1]})"
    lines = ["#define EACH(i, n) for (int i = 0; i < n; i++)"]
    lines += [f"static double L{l}[{out} * {widths[l]}], R{l}[{out} * {widths[l]}];" for l in range(depth)]
    lines += [
        "void flow(long count, double h, double *restrict w, const double *restrict sigma) {",
        "while (count--) {",
    ]
    for l in range(depth - 1, -1, -1):  # L_l = W_h .. W_{l+1}, (out, d_l)
        above = W(depth) if l == depth - 1 else f"L{l + 1}"
        if l == depth - 1:
            lines.append(f"EACH(i, {out * widths[l]}) L{l}[i] = {above}[i];")
        else:
            lines.append(multiply(f"L{l}", above, W(l + 1), out, widths[l + 1], widths[l]))
    lines.append(f"EACH(i, {out * d_x}) R0[i] = sigma[i] - L0[i];")
    for l in range(1, depth):  # R_l = R_{l-1} W_l^T, (out, d_l)
        a, b = widths[l - 1], widths[l]
        body = f"double s = 0; EACH(k, {a}) s += R{l - 1}[i*{a}+k] * {W(l)}[j*{a}+k]; R{l}[i*{b}+j] = s;"
        lines.append(f"EACH(i, {out}) EACH(j, {b}) {{ {body} }}")
    lines.append(f"EACH(i, {out * widths[depth - 1]}) {W(depth)}[i] += h * R{depth - 1}[i];")
    for l in range(1, depth):  # W_l += h L_l^T R_{l-1}
        a, b = widths[l - 1], widths[l]
        body = f"double s = 0; EACH(k, {out}) s += L{l}[k*{b}+i] * R{l - 1}[k*{a}+j]; {W(l)}[i*{a}+j] += h * s;"
        lines.append(f"EACH(i, {b}) EACH(j, {a}) {{ {body} }}")
    return "\n".join([*lines, "}", "}"]) + "\n"


def multiply(C: str, A: str, B: str, rows: int, inner: int, columns: int) -> str:
    """C = A B."""
    body = f"EACH(j, {columns}) {C}[i*{columns}+j] = 0; EACH(k, {inner}) EACH(j, {columns}) "
    return f"EACH(i, {rows}) {{ {body} {C}[i*{columns}+j] += {A}[i*{inner}+k] * {B}[k*{columns}+j]; }}"


if __name__ == "__main__":
    main()
