"""Exact two-layer solutions beside tight integration on C1 (3-3-3, lambda -50, 0, 50): `python -m benchmarks.exact`.

Integrators run at a relative tolerance of 1e-12: ours, scipy's DOP853, diffrax's Dopri8; all give the end-to-end matrix
at the same times. "exact" is the call under `jax.jit`, from the weights on; "exact, eager" the same with its checks, as
a user types it. One pinned core, medians of interleaved repeats, compiled: one call after all the others have emptied
the processor's caches ("alone"), and the mean of the calls that follow it ("in a row"). "C1" is all three lambdas
together, by one compiled program (`jax.vmap`) and by three flows. Then the exact solution of large networks.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import machine

LAMBDAS = (-50.0, 0.0, 50.0)
COUNTS = (200, 1000)
REPEATS = 7
IN_A_ROW = 5
TOLERANCE = 1e-12
LARGE = {(100, 10, 100): 1000, (1000, 1000, 1000): 10, (20, 1_000_000, 20): 1}
"""Widths and number of times."""


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints one line a case, writes the JSON file."""
    core = machine.use_one_core()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--quick", action="store_true", help="C1 at lambda = 0 and 200 times only")
    options = parser.parse_args(arguments)
    cases = [(0.0, COUNTS[0])] if options.quick else [(lam, count) for lam in LAMBDAS for count in COUNTS]
    rows = [measured(lam, count) for lam, count in cases]
    rows += [measured_together(count) for count in sorted({count for _, count in cases})]
    for row in rows:
        print(f"{row['case']}, {row['times']:5d} times")
        for how in ("alone", "in a row"):
            ratios = ", ".join(f"{name} {ratio:.3g}x" for name, ratio in row[how]["ratios"].items())
            print(f"    {how:8s}: exact {row[how]['milliseconds']:.3g} ms; {ratios}")
    large = (
        [] if options.quick else [{"widths": w, "times": n, "seconds": large_seconds(w, n)} for w, n in LARGE.items()]
    )
    for row in large:
        print(f"{'-'.join(map(str, row['widths']))}, {row['times']} times: {row['seconds']:.3g} s")
    if options.json:
        facts = machine.facts(core) | {"c1": rows, "large": large}
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def measured(lam: float, count: int) -> dict[str, Any]:
    """The exact solution beside the integrators."""
    import jax
    import numpy as np

    import deeplinear as dl

    objective, network, ts = problem(lam, count)
    solved = lambda weights: dl.exact.two_layer(objective, dl.Network(weights))(ts).end_to_end
    compiled = jax.jit(solved)
    runs = {
        "exact": lambda: np.asarray(compiled(network.weights)),
        "exact, eager": lambda: np.asarray(solved(network.weights)),
    }
    runs |= integrators(objective, network, ts)
    return {"case": f"lambda {lam:g}", "lambda": lam, "times": count} | compared(runs)


def measured_together(count: int) -> dict[str, Any]:
    """The same for all three lambdas at once, beside our flows."""
    import jax
    import numpy as np

    import deeplinear as dl

    objective, *_ = problem(0.0, count)
    starts, ts = zip(*(problem(lam, count)[1:] for lam in LAMBDAS), strict=True)
    weights = tuple(np.stack(layers) for layers in zip(*(start.weights for start in starts), strict=True))
    solved = lambda weights, ts: dl.exact.two_layer(objective, dl.Network(weights))(ts).end_to_end
    compiled, flow = jax.jit(jax.vmap(solved)), dl.gradient_flow
    flows = lambda: [flow(objective, *one, rtol=TOLERANCE).end_to_end for one in zip(starts, ts, strict=True)]
    runs = {"exact": lambda: np.asarray(compiled(weights, np.stack(ts))), "flow": lambda: np.stack(flows())}
    return {"case": "C1", "times": count} | compared(runs)


def problem(lam: float, count: int) -> tuple[Any, Any, Any]:
    """C1: objective, start and times."""
    import numpy as np

    import deeplinear as dl

    objective = dl.SquaredError.from_moments(np.random.default_rng(0).standard_normal((3, 3)))
    network = dl.init.lambda_balanced(0, (3, 3, 3), lam, 0.1)
    return objective, network, np.linspace(0.0, 20.0 if lam == 0 else 1.0, count)


def compared(runs: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Milliseconds of CPU of the run called exact, and of the others as ratios, all within 1e-9 of each other."""
    import numpy as np

    reached = {name: run() for name, run in runs.items()}  # compiles
    for name, path in reached.items():
        off = float(np.abs(path - reached["exact"]).max())
        assert off < 1e-9, f"{name} is off by {off:.3g}"
    times: dict[str, dict[str, list[float]]] = {how: {name: [] for name in runs} for how in ("alone", "in a row")}
    for _ in range(REPEATS):
        for name, run in runs.items():
            times["alone"][name].append(seconds(run, 1))
            times["in a row"][name].append(seconds(run, IN_A_ROW))
    result = {}
    for how, of in times.items():
        median = {name: statistics.median(values) for name, values in of.items()}
        ratios = {name: median[name] / median["exact"] for name in runs if name != "exact"}
        result[how] = {"milliseconds": 1e3 * median["exact"], "ratios": ratios}
    return result


def seconds(run: Callable[[], Any], calls: int) -> float:
    """Seconds of CPU of one call, the mean of several."""
    started = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - started) / calls


def integrators(objective: Any, network: Any, ts: Any) -> dict[str, Callable[[], Any]]:
    """End-to-end matrices at `ts` by our flow, by scipy and by diffrax."""
    import diffrax
    import jax
    import numpy as np
    from scipy.integrate import solve_ivp

    import deeplinear as dl

    sigma = np.asarray(objective.sigma_yx)
    start = [np.asarray(W) for W in network.weights]

    def field(_, y):
        W1, W2 = y[:9].reshape(3, 3), y[9:].reshape(3, 3)
        residual = sigma - W2 @ W1
        return np.concatenate([(W2.T @ residual).ravel(), (residual @ W1.T).ravel()])

    def scipy():
        flat = np.concatenate([W.ravel() for W in start])
        y = solve_ivp(field, (0, ts[-1]), flat, "DOP853", t_eval=ts, rtol=TOLERANCE, atol=1e-14).y.T
        return y[:, 9:].reshape(-1, 3, 3) @ y[:, :9].reshape(-1, 3, 3)

    @jax.jit
    def diffrax_path(weights):
        slope = lambda t, y, args: (y[1].T @ (sigma - y[1] @ y[0]), (sigma - y[1] @ y[0]) @ y[0].T)
        control = diffrax.PIDController(rtol=TOLERANCE, atol=1e-14)
        term, solver, save = diffrax.ODETerm(slope), diffrax.Dopri8(), diffrax.SaveAt(ts=ts)
        solution = diffrax.diffeqsolve(
            term, solver, ts[0], ts[-1], 1e-3, weights, saveat=save, stepsize_controller=control, max_steps=10**6
        )
        return solution.ys[1] @ solution.ys[0]

    return {
        "flow": lambda: np.asarray(dl.gradient_flow(objective, network, ts, rtol=TOLERANCE).end_to_end),
        "scipy-dop853": scipy,
        "diffrax-dopri8": lambda: np.asarray(diffrax_path(tuple(start))),
    }


def large_seconds(widths: tuple[int, int, int], count: int) -> float:
    """Median seconds of the whole exact solution of a large network, warm."""
    import numpy as np

    import deeplinear as dl

    d_x, width, d_y = widths
    objective = dl.SquaredError.from_moments(np.random.default_rng(0).standard_normal((d_y, d_x)) / d_x**0.5)
    network = dl.init.balanced(0, widths, scale=1e-2 * min(1.0, (d_x / width) ** 0.5))
    ts = np.linspace(0.0, 10.0, count)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        np.asarray(dl.exact.two_layer(objective, network)(ts).end_to_end)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
