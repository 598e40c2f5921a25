"""What the last network of a descent is, and below which learning rate descent is stable."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..curvature import lowest_eigenvalue
from ..init import balanced
from ..network import Network
from ..running.compiling import jitted
from ..running.fields import sensitivity, velocity
from ..running.landmarks import AT_REST, Landmarks, standing
from ..trajectory import Ending
from .stepping import Position, Problem, Rule

TOLERANCE = 1e-6  # excess loss that counts as a minimum, relative to that of the start
MESSAGES = {
    "steps": "all {steps} steps are taken",
    "interrupted": "interrupted after {steps} steps; the trajectory holds everything up to here",
    "diverged": "step {next} left float64; the network after {steps} steps is the last one kept",
}


def judge(kind: str, rule: Rule, problem: Problem, start: Network, at: Position, marks: Landmarks) -> Ending:
    """The ending of a descent, made more precise where the last network is a critical point."""
    stand = standing(problem.objective, at.network)
    slope, noise = _slope(problem, at.network)
    norm, still = float(slope), float(slope) <= marks.noise * float(noise)
    excess = None if stand.excess is None else float(stand.excess)
    goal = marks.goal(TOLERANCE)[0] if problem.weight_decay is None else None
    if kind == "steps" and excess is not None and goal is not None and marks.is_minimum(excess, goal):
        kind = "global minimum"
    elif kind == "steps" and still:
        known = excess is not None and goal is not None and problem.mask is None
        kind = "saddle" if known else "critical point"
    escape = max(-lowest_eigenvalue(problem.objective, at.network), 0.0) if kind == "saddle" else None
    steps = int(at.k)
    message = marks.words(kind, excess) if kind in AT_REST else MESSAGES[kind].format(steps=steps, next=steps + 1)
    rate = None
    if kind == "diverged" and rule.optimizer is None:
        rates = stable_rates(rule, problem, start)
        rate = min(rates.values())
        message += f"; a learning rate is stable {' and '.join(f'below {r:.3g} at {p}' for p, r in rates.items())}"
    learned, share = marks.learned(np.asarray(stand.W)), marks.unexplained(excess)
    return Ending(kind, float(stand.loss), excess, float(at.t), norm, learned, escape, message, None, rate, share)


def stable_rates(rule: Rule, problem: Problem, start: Network) -> dict[str, float]:
    r"""Below which learning rate a step is stable at the start and, where it is known, at a 0-balanced minimum.

    $2 (1 + \mu) / \lambda_{\max}$ with momentum $\mu$, divided by $1 + 2 \mu$ for Nesterov's, with the largest
    eigenvalue of the Hessian. A mask can only make it smaller, which is not looked at.

    Source: Cohen et al. (2021), section 2 and appendix B.
    """
    places, objective = {"the start": start}, problem.objective
    if hasattr(objective, "optimum_at_rank"):
        best = np.asarray(objective.optimum_at_rank(start.max_rank))
        places["a balanced minimum"] = balanced(0, start.widths, product=best)
    decay = 0.0 if problem.weight_decay is None else float(problem.weight_decay)
    factor = 2 * (1 + rule.momentum) / (1 + 2 * rule.momentum if rule.nesterov else 1)
    rates = {}
    for place, network in places.items():
        sharpness = -lowest_eigenvalue(lambda W: -objective(W), network) + decay
        rates[place] = factor / sharpness if sharpness > 0 else float("inf")
    return rates


@jitted
def _slope(problem: Problem, network: Network) -> tuple[Any, Any]:
    """Norm of the gradient in all weights that learn, and by how much it can exceed that in the end-to-end matrix."""
    slope = velocity(problem.objective, network, problem.mask, problem.weight_decay)
    return jnp.linalg.norm(jnp.stack([jnp.linalg.norm(W) for W in slope.weights])), sensitivity(network)
