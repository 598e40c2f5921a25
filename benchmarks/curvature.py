"""Second derivatives of one network: `python -m benchmarks.curvature`.

Hessian-vector products and quadratic forms beside one gradient and beside autograd (torch, JAX); both extreme
eigenvalues of the Hessian by `curvature.extreme_eigenvalues` beside torch autograd with the power method and beside
scipy's `eigsh` on torch's product and on ours. One process, one pinned core, everyone warm, taking turns; medians of
CPU seconds. All eigenvalues are asked for at the same relative residual, which is computed here for everybody.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from . import machine

WIDTHS = (784, 256, 256, 10)
SAMPLES = 4000
TOLERANCE = 1e-6
QUICK = (60, 20, 20, 5)
POWER_STEPS = 600  # of an end; the residual then says how far it came


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints one line a contender, writes the JSON file."""
    core = machine.use_one_core()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curvature", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--quick", action="store_true", help="a small network, one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    repeats = 1 if options.quick else options.repeats
    problem = Problem(QUICK if options.quick else WIDTHS)
    results = {
        "derivatives": race(derivatives(problem), repeats, calls=1 if options.quick else 20),
        "extremes": race(eigenvalues(problem), repeats, calls=1),
    }
    for title, rows in results.items():
        first = next(iter(rows.values()))["cpu_ms"]
        print(f"{title} of {'-'.join(map(str, problem.widths))} ({problem.size:,} weights)")
        for name, row in rows.items():
            row["ratio"] = row["cpu_ms"] / first
            more = "".join(f", {key} {value}" for key, value in row.items() if key not in ("cpu_ms", "ratio"))
            print(f"  {name:38s} {row['cpu_ms']:10.3g} ms, {row['ratio']:8.3g}x{more}")
    if options.json:
        facts = machine.facts(core) | {"widths": problem.widths, "repeats": repeats, "tolerance": TOLERANCE}
        options.json.write_text(json.dumps(facts | results, indent=1) + "\n", encoding="utf-8")


class Problem:
    """Ten classes in correlated inputs, variances falling like 1 / k^1.5, and a Gaussian start of Xavier's size."""

    def __init__(self, widths: tuple[int, ...]):
        import jax.flatten_util
        import numpy as np

        import deeplinear as dl

        rng, d_x, d_y = np.random.default_rng(0), widths[0], widths[-1]
        labels = rng.integers(0, d_y, SAMPLES)
        mixing = rng.standard_normal((d_x, d_x)) / np.arange(1, d_x + 1) ** 0.75
        X = 0.3 * rng.standard_normal((SAMPLES, d_x)) @ mixing.T + 0.5 * rng.standard_normal((d_y, d_x))[labels]
        self.widths = widths
        self.objective = dl.SquaredError.of(X, np.eye(d_y)[labels])
        self.network = dl.Network([rng.standard_normal((b, a)) / a**0.5 for a, b in pairwise(widths)])
        self.size = sum(W.size for W in self.network.weights)
        self.direction = dl.Network([rng.standard_normal(W.shape) for W in self.network.weights])
        self.flat = np.asarray(jax.flatten_util.ravel_pytree(self.direction)[0])
        self.unravel = jax.flatten_util.ravel_pytree(self.network)[1]

    def torch_product(self) -> Callable[[Any], Any]:
        """v -> H v of flat numpy vectors by double backward, the graph of the gradient kept."""
        import numpy as np
        import torch

        torch.set_num_threads(1)
        tensor = lambda array: torch.tensor(np.array(array), dtype=torch.float64)
        weights = [tensor(W).requires_grad_() for W in self.network.weights]
        optimum, sigma_xx = tensor(self.objective.optimum), tensor(self.objective.sigma_xx)
        W = weights[-1]
        for layer in weights[-2::-1]:  # the thinner side first, as for us
            W = W @ layer
        gap = W - optimum
        loss = float(self.objective.factor) / 2 * ((gap @ sigma_xx) * gap).sum()
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        gradient = torch.cat([slope.reshape(-1) for slope in slopes])

        def product(v: Any) -> Any:
            seed = torch.tensor(v)
            images = torch.autograd.grad(gradient, weights, grad_outputs=seed, retain_graph=True)
            return torch.cat([image.reshape(-1) for image in images]).numpy()

        return product


def derivatives(problem: Problem) -> dict[str, Callable[[], Any]]:
    """One gradient, then second derivatives."""
    import equinox as eqx
    import jax.flatten_util

    from deeplinear import curvature
    from deeplinear.flows import velocity

    objective, network, V = problem.objective, problem.network, problem.direction
    operator = curvature.hessian_operator(objective, network)
    gradient, applied = eqx.filter_jit(velocity), eqx.filter_jit(lambda operator, V: operator(V))
    loss = lambda o, net: o(net.end_to_end)
    forward = eqx.filter_jit(lambda o, net, V: jax.jvp(jax.grad(lambda at: loss(o, at)), (net,), (V,))[1])
    product = problem.torch_product()
    done = jax.block_until_ready
    return {
        "gradient": lambda: done(gradient(objective, network)),
        "curvature.quadratic_form": lambda: done(curvature.quadratic_form(objective, network, V)),
        "curvature.hessian_operator (kept)": lambda: done(applied(operator, V)),
        "curvature.hvp": lambda: done(curvature.hvp(objective, network, V)),
        "JAX, forward over reverse": lambda: done(forward(objective, network, V)),
        "torch, double backward (graph kept)": lambda: product(problem.flat),
    }


def eigenvalues(problem: Problem) -> dict[str, Callable[[], Any]]:
    """The smallest and the largest eigenvalue of the Hessian; every run returns them, residuals and products."""
    import equinox as eqx
    import jax.flatten_util
    import numpy as np

    from deeplinear import curvature

    operator = curvature.hessian_operator(problem.objective, problem.network)
    applied = eqx.filter_jit(lambda operator, v: jax.flatten_util.ravel_pytree(operator(problem.unravel(v)))[0])
    flat_product = lambda v: np.asarray(applied(operator, np.ascontiguousarray(v).reshape(-1)))
    torch_product = problem.torch_product()

    def ours() -> dict:
        found = curvature.extreme_eigenvalues(problem.objective, problem.network, tolerance=TOLERANCE)
        (low,), (high,) = found
        residual = max(found.low.residuals[0], found.high.residuals[0])
        return {"low": float(low), "high": float(high), "residual": float(residual / high), "products": found.products}

    return {
        "curvature.extreme_eigenvalues": ours,
        "scipy eigsh, our product": lambda: by_arpack(problem, flat_product),
        "scipy eigsh, torch product": lambda: by_arpack(problem, torch_product),
        "torch and the power method": lambda: by_powers(problem, torch_product),
    }


def by_arpack(problem: Problem, product: Callable[[Any], Any]) -> dict:
    """`eigsh(which="BE", k=2)`; ARPACK's tolerance is relative to each eigenvalue."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator, eigsh

    count = 0

    def counted(v: Any) -> Any:
        nonlocal count
        count += 1
        return product(v.reshape(-1))

    shape = (problem.size, problem.size)
    operator = LinearOperator(shape, matvec=counted, dtype=np.float64)  # type: ignore[call-arg]
    values, vectors = eigsh(operator, k=2, which="BE", tol=TOLERANCE, v0=problem.flat)
    order = np.argsort(values)
    return summary(values[order], vectors[:, order], product, count)


def by_powers(problem: Problem, product: Callable[[Any], Any]) -> dict:
    """The power method for the eigenvalue of largest modulus, then for the other end with the first as a shift."""
    import numpy as np

    count, found, shift = 0, [], 0.0
    for _ in range(2):
        v, residual = problem.flat / np.linalg.norm(problem.flat), np.inf
        value = 0.0
        for _ in range(POWER_STEPS):
            image = product(v)
            count, value = count + 1, float(v @ image)
            residual = np.linalg.norm(image - value * v)
            if residual <= TOLERANCE * max(abs(shift), abs(value)):
                break
            image = image - shift * v
            v = image / np.linalg.norm(image)
        found.append((value, v))
        shift = value
    found.sort(key=lambda pair: pair[0])
    values, vectors = np.array([value for value, _ in found]), np.stack([v for _, v in found], axis=1)
    return summary(values, vectors, product, count)


def summary(values: Any, vectors: Any, product: Callable[[Any], Any], count: int) -> dict:
    """What every contender is asked for, residuals relative to the largest eigenvalue."""
    import numpy as np

    residual = max(np.linalg.norm(product(v) - value * v) for value, v in zip(values, vectors.T, strict=True))
    return {
        "low": float(values[0]),
        "high": float(values[1]),
        "residual": float(residual / np.abs(values).max()),
        "products": count,
    }


def race(runs: dict[str, Callable[[], Any]], repeats: int, calls: int) -> dict[str, dict]:
    """Median CPU milliseconds of one call of each, taking turns, with what its last call returned."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Any] = {}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.process_time()
            for _ in range(calls):
                results[name] = run()
            times[name].append(1e3 * (time.process_time() - started) / calls)
    middle = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    return {
        name: {"cpu_ms": middle[name]} | (results[name] if isinstance(results[name], dict) else {}) for name in runs
    }


if __name__ == "__main__":
    main()
