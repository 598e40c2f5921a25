"""Matrix completion to a training error: `python -m benchmarks.completion --json completion.json`.

A 100 x 100 matrix of rank 5 with entries of variance 1, 2000 of them seen, three layers of 100 from N(0, scale^2); the
loss is the mean square over seen entries, the goal 1e-6. Ours follows the gradient flow until the goal is reached. The
torch loop is `torch.optim.SGD` with autograd, at the best of a geometric grid of learning rates (factor 1.5 up to the
last that is stable: its best case, the search is not counted), and with momentum 0.9, which follows another path. One
process, one pinned core, one thread, warm, taking turns; medians of CPU seconds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import machine

SIZE, RANK, SEEN, DEPTH, GOAL = 100, 5, 2000, 3, 1e-6
STARTS = (0.03, 0.01, 1e-3, 1e-4)
RATES = [48 / 1.5**k for k in range(10)]
MOMENTUM = 0.9
LOOK = 50  # steps between looks at the loss
RTOL = 1e-2


class Problem(NamedTuple):
    """What both are given."""

    target: object
    row: object
    column: object
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
        rows += compared(scale, options.repeats, options.limit)
        for row in rows[-3:]:
            print(
                f"start {row['start']:<7g} {row['contender']:26s} {row['cpu_seconds']:8.3f} s, training "
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
    for name, momentum in (("torch SGD", 0.0), ("torch SGD with momentum", MOMENTUM)):
        rate = best_rate(problem, momentum, limit)
        runs[f"{name}, {rate:.3g}"] = lambda rate=rate, momentum=momentum: by_torch(problem, rate, momentum, limit)
    results: dict[str, list[Result]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            result = run()
            if turn:  # the first compiles
                results[name].append(result)
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
        seconds, float(objective(W)), float(np.mean((W - problem.target) ** 2)), trajectory.statistics.evaluations
    )


def best_rate(problem: Problem, momentum: float, limit: float) -> float:
    """The learning rate of the grid that reaches the goal in the least steps."""
    fewest, best = float("inf"), RATES[-1]
    for rate in RATES:
        result = by_torch(problem, rate, momentum, limit)
        if result.training_error <= GOAL and result.evaluations < fewest:
            fewest, best = result.evaluations, rate
        elif result.evaluations > 2 * fewest or (fewest < float("inf") and result.training_error > GOAL):
            break
    return best


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
