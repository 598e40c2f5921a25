"""Matrix completion to a training error: `python -m benchmarks.completion --json completion.json`.

A 100 x 100 matrix of rank 5 with entries of variance 1, 2000 of them seen, three layers of 100 from N(0, scale^2); the
loss is the mean square over seen entries, the goal 1e-6. Ours follows the gradient flow until the goal is reached. The
torch loop is `torch.optim.SGD` with autograd, plain and with momentum 0.9, at two learning rates of a grid of powers of
two, whose search is not counted: the fastest, and the fastest that comes to the matrix of the flow, its error over all
entries within a tenth of the flow's (large rates fit the seen entries and miss the others). One process, one pinned
core, one thread, warm, taking turns; medians of CPU seconds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import machine

SIZE, RANK, SEEN, DEPTH, GOAL = 100, 5, 2000, 3, 1e-6
STARTS = (0.03, 0.01, 1e-3, 1e-4)
RATES = [2.0**k for k in range(5, -5, -1)]
MOMENTUM = 0.9
ALIKE = 0.1  # by how much the error over all entries may differ from the flow's, relative to it
LOOK = 50  # steps between looks at the loss
RTOL = 1e-2


class Problem(NamedTuple):
    """What both are given."""

    target: Any
    row: Any
    column: Any
    start: list


class Result(NamedTuple):
    """Where a contender ended."""

    cpu_seconds: float
    training_error: float
    test_error: float
    evaluations: int


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints one line a start and contender, writes the JSON file."""
    core = machine.use_one_core()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.completion", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of timing; default 3")
    parser.add_argument("--limit", type=float, default=60.0, help="CPU seconds that a torch loop may take; default 60")
    parser.add_argument("--start", help=f"comma-separated scales; default {','.join(map(str, STARTS))}")
    options = parser.parse_args(arguments)
    starts = [float(scale) for scale in options.start.split(",")] if options.start else STARTS
    rows = []
    for scale in starts:
        found = compared(scale, options.repeats, options.limit)
        rows += found
        for row in found:
            print(
                f"start {row['start']:<7g} {row['contender']:32s} {row['cpu_seconds']:8.3f} s, training "
                f"{row['training_error']:.2g}, test {row['test_error']:.2g}, {row['evaluations']} gradients, "
                f"ratio {row['ratio']:.3g}",
                flush=True,
            )
    if options.json:
        facts = machine.facts(core) | {"repeats": options.repeats, "limit_seconds": options.limit}
        options.json.write_text(json.dumps(facts | {"completion": rows}, indent=1) + "\n", encoding="utf-8")


def compared(scale: float, repeats: int, limit: float) -> list[dict]:
    """Median times of ours and of the torch loops from one start."""
    problem = build(scale)
    runs: dict[str, Callable[[], Result]] = {"deeplinear": lambda: ours(problem)}
    flow = ours(problem)  # compiles
    for name, momentum in (("torch SGD", 0.0), ("torch momentum", MOMENTUM)):
        for kind, rate in rates(problem, momentum, limit, flow.test_error).items():
            run = lambda rate=rate, momentum=momentum: by_torch(problem, rate, momentum, limit)
            runs[f"{name} {rate:g}, {kind}"] = run
    results: dict[str, list[Result]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            results[name].append(run())
    medians = {name: sorted(found)[len(found) // 2] for name, found in results.items()}
    own = medians["deeplinear"].cpu_seconds
    return [
        {"start": scale, "contender": name, "ratio": result.cpu_seconds / own} | result._asdict()
        for name, result in medians.items()
    ]


def build(scale: float) -> Problem:
    """Target, seen entries and start."""
    import numpy as np

    rng = np.random.default_rng(0)
    target = rng.standard_normal((SIZE, RANK)) @ rng.standard_normal((RANK, SIZE))
    row, column = np.divmod(rng.permutation(SIZE * SIZE)[:SEEN], SIZE)
    start = [scale * rng.standard_normal((SIZE, SIZE)) for _ in range(DEPTH)]
    return Problem(SIZE * target / np.linalg.norm(target), row, column, start)


def ours(problem: Problem) -> Result:
    """The gradient flow until the goal; objective, network and everything the host does included."""
    import jax.numpy as jnp
    import numpy as np

    import deeplinear as dl

    began = time.process_time()
    places = np.stack([problem.row, problem.column], axis=1)
    values = problem.target[problem.row, problem.column]
    objective = dl.MatrixCompletion(values, places, problem.target.shape, dl.MEAN)
    whole = float(objective.excess(jnp.zeros(objective.shape)))
    trajectory = dl.gradient_flow(objective, dl.Network(problem.start), rtol=RTOL, tolerance=GOAL / whole, keep=2)
    W = np.asarray(trajectory.end_to_end[-1])
    seconds = time.process_time() - began
    return Result(
        seconds,
        float(objective(jnp.asarray(W))),
        float(np.mean((W - problem.target) ** 2)),
        trajectory.statistics.evaluations,
    )


def rates(problem: Problem, momentum: float, limit: float, test_error: float) -> dict[str, float]:
    """The fastest learning rate, and the fastest that comes to the flow's matrix; none where the limit is too short."""
    found: dict[str, float] = {}
    for rate in RATES:
        result = by_torch(problem, rate, momentum, limit)
        reached = result.training_error <= GOAL
        if found and not reached:  # smaller ones take longer still
            break
        if reached and not found:
            found["fastest"] = rate
        if reached and abs(result.test_error - test_error) <= ALIKE * test_error:
            found["like the flow"] = rate
            break
    return found


def by_torch(problem: Problem, rate: float, momentum: float, limit: float) -> Result:
    """The loop that a user writes, in float64, looking at the loss every few steps."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    began = time.process_time()
    weights = [torch.tensor(W, requires_grad=True) for W in problem.start]
    seen = torch.from_numpy(problem.row * SIZE + problem.column)
    values = torch.from_numpy(problem.target[problem.row, problem.column])
    optimiser = torch.optim.SGD(weights, lr=rate, momentum=momentum)
    steps, error = 0, float("inf")
    while True:
        product = weights[0]
        for W in weights[1:]:
            product = W @ product
        loss = torch.mean((product.reshape(-1)[seen] - values) ** 2)
        if steps % LOOK == 0:
            error = loss.item()
            if not error < 1e3 or error <= GOAL or time.process_time() - began > limit:
                break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps += 1
    seconds = time.process_time() - began
    test = float(np.mean((product.detach().numpy() - problem.target) ** 2))
    return Result(seconds, error, test, steps)


if __name__ == "__main__":
    main()
