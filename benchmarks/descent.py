"""Steps of full-batch gradient descent: `python -m benchmarks.descent --problem P1,P4 --json descent.json`.

One process on one pinned core with one thread; contenders take turns, warm, and the table shows medians of CPU
microseconds a step and how many times as long as ours the others take. All descend the same loss, from the moments of
the data, and must agree after the first steps. Differences below a quarter are noise on a shared machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from . import machine

RATE = 1e-3
AGREE_AFTER, AGREE = 50, 1e-10
ROUNDS, SECONDS = 7, 0.5
MILLION = 1_000_000


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints one line a contender, writes the JSON file."""
    core = machine.use_one_core()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.descent", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--problem", default="P1,P4", help="comma-separated, of P1, P2, P3r, P4, P5, P6")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of timing; default {ROUNDS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    options = parser.parse_args(arguments)
    from . import problems

    try:
        chosen = [problems.build(name) for name in options.problem.split(",")]
    except ValueError as problem:
        parser.error(str(problem))
    rows = [row for problem in chosen for row in measured(problem, max(options.rounds, 1))]
    for row in rows:
        print(
            f"{row['problem']:4s} {row['contender']:14s} {row['microseconds']:9.3g} us a step, "
            f"{row['ratio']:8.3g} x ours, differs by {row['difference']:.1e}"
        )
    for problem in chosen if options.rounds >= ROUNDS else ():
        wall, cpu = a_million(problem)
        rows.append({"problem": problem.name, "million_steps_seconds": wall, "million_steps_cpu_seconds": cpu})
        print(f"{problem.name:4s} a million steps in {wall:.3g} s, {cpu:.3g} s of CPU")
    if options.json:
        options.json.write_text(json.dumps(machine.facts(core) | {"descent": rows}, indent=1) + "\n", encoding="utf-8")


def measured(problem, rounds: int) -> list[dict]:
    """Median CPU microseconds a step of every contender, taking turns."""
    import numpy as np

    runs = {}
    for name, make in CONTENDERS.items():
        try:
            runs[name] = make(problem)
        except ModuleNotFoundError as missing:
            print(f"skipped {name}: {missing}")
    ends = {name: run(AGREE_AFTER) for name, run in runs.items()}
    reference = ends["numpy"]
    difference = {name: float(np.linalg.norm(W - reference) / np.linalg.norm(reference)) for name, W in ends.items()}
    wrong = [name for name, gap in difference.items() if not gap <= AGREE]
    if wrong:
        raise ArithmeticError(f"{', '.join(wrong)} took other steps than numpy on {problem.name}")
    counts = {name: max(AGREE_AFTER, int(SECONDS / per_step(run, 1000))) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(per_step(run, counts[name]))
    middle = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    return [
        {
            "problem": problem.name,
            "contender": name,
            "microseconds": 1e6 * seconds,
            "ratio": seconds / middle["deeplinear"],
            "difference": difference[name],
        }
        for name, seconds in middle.items()
    ]


def per_step(run: Callable, count: int) -> float:
    """CPU seconds of one of `count` steps."""
    started = time.process_time()
    run(count)
    return (time.process_time() - started) / count


def a_million(problem) -> tuple[float, float]:
    """Wall and CPU seconds of a million steps by ours, with everything around them."""
    run = ours(problem)
    run(AGREE_AFTER)
    wall, cpu = time.perf_counter(), time.process_time()
    run(MILLION)
    return time.perf_counter() - wall, time.process_time() - cpu


def ours(problem) -> Callable:
    """`gradient_descent` on the network as it is."""
    import numpy as np

    import deeplinear as dl

    objective, start = dl.SquaredError.from_moments(problem.sigma), dl.Network(problem.starts[0])

    def run(count: int):
        trajectory = dl.gradient_descent(objective, start, RATE, count, save_at=[count], reduce=False)
        return np.asarray(trajectory.end_to_end[-1])

    return run


def in_numpy(problem) -> Callable:
    """A loop in numpy with the gradient by hand, products along the thin side."""
    from .field import Field

    field = Field(problem)

    def run(count: int):
        y = field.flat(problem.starts[0])
        for _ in range(count):
            y += RATE * field(0.0, y)
        return _end_to_end(field.layers(y))

    return run


def in_torch(problem) -> Callable:
    """A loop in torch with autograd."""
    import torch

    torch.set_num_threads(1)
    sigma = torch.from_numpy(problem.sigma)

    def run(count: int):
        weights = [torch.tensor(W, requires_grad=True) for W in problem.starts[0]]
        for _ in range(count):
            W = weights[-1]
            for below in weights[-2::-1]:
                W = W @ below
            loss = 0.5 * torch.sum((W - sigma) ** 2)
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for layer, gradient in zip(weights, gradients, strict=True):
                    layer -= RATE * gradient
        return _end_to_end([layer.detach().numpy() for layer in weights])

    return run


def in_torch_optim(problem) -> Callable:
    """The same with modules, `backward` and `torch.optim.SGD`, as one writes it first."""
    import torch

    torch.set_num_threads(1)
    sigma = torch.from_numpy(problem.sigma)

    def run(count: int):
        weights = [torch.nn.Parameter(torch.tensor(W)) for W in problem.starts[0]]
        optimizer = torch.optim.SGD(weights, lr=RATE)
        for _ in range(count):
            optimizer.zero_grad()
            W = weights[-1]
            for below in weights[-2::-1]:
                W = W @ below
            (0.5 * torch.sum((W - sigma) ** 2)).backward()
            optimizer.step()
        return _end_to_end([layer.detach().numpy() for layer in weights])

    return run


def in_jax(problem) -> Callable:
    """A loop in Python around one compiled step of JAX with optax's sgd."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    sigma, optimizer = jnp.asarray(problem.sigma), optax.sgd(RATE)

    def loss(weights):
        W = weights[-1]
        for below in weights[-2::-1]:
            W = W @ below
        return 0.5 * jnp.sum((W - sigma) ** 2)

    @jax.jit
    def step(weights, state):
        updates, state = optimizer.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, updates), state

    def run(count: int):
        weights = [jnp.asarray(W) for W in problem.starts[0]]
        state = optimizer.init(weights)
        for _ in range(count):
            weights, state = step(weights, state)
        return _end_to_end([np.asarray(W) for W in weights])

    return run


def _end_to_end(layers):
    W = layers[-1]
    for below in layers[-2::-1]:
        W = W @ below
    return W


CONTENDERS = {
    "deeplinear": ours,
    "torch-autograd": in_torch,
    "torch-sgd": in_torch_optim,
    "jax-optax": in_jax,
    "numpy": in_numpy,
}

if __name__ == "__main__":
    main()
