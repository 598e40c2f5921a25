"""`gradient_descent`: checks the question, takes the steps, judges the ending."""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import check_decay, checks_arguments
from .._types import Array, Key
from ..masks import check_mask
from ..network import Network
from ..objectives import SquaredError
from ..reduction import reduce as smaller_problem
from ..running.arguments import check_kept, is_traced
from ..running.compiling import is_small
from ..running.landmarks import landmarks
from ..running.progress import as_reporter
from ..running.segments import interruptible
from ..trajectory import Statistics, Trajectory
from .arguments import check_draws, check_momentum, check_outputs, check_rate
from .drive import Descent
from .endings import judge
from .stepping import Problem, Rule, as_jax_code


@checks_arguments
def gradient_descent(
    objective: Callable,
    network: Network,
    learning_rate: float | Array | Callable | None,
    steps: int,
    *,
    optimizer: Any = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    mask: Network | None = None,
    samples: tuple[Any, Any] | None = None,
    batch_size: int | None = None,
    label_noise: float = 0.0,
    key: Key | None = None,
    save_every: int | None = None,
    save_at: Any = None,
    progress: bool | Callable[[Any], None] = False,
    reduce: bool = True,
) -> Trajectory:
    r"""Gradient descent $W_l \leftarrow W_l - \eta \, \partial L / \partial W_l$ from `network`, all layers at once.

    By default with the whole objective: for squared error a step costs the same for any number of samples.

    - `learning_rate`: $\eta$, or a schedule: a JAX function of the number of steps taken, such as optax makes them.
    - `steps`: how many. Kept are the start, every `save_every`-th step (None: about 400 of them) and the last, or those
      after the numbers of steps `save_at`, increasing, of which the last ends the run.
    - `momentum`: $\mu$ of $M \leftarrow \mu M + G$, $W \leftarrow W - \eta M$ with the gradient G; `nesterov`: $W
      \leftarrow W - \eta (G + \mu M)$.
    - `optimizer`: any optax transformation with a learning rate of its own (then `learning_rate` is None and time
      counts steps), or a function of the learning rate that makes one, such as `optax.adam`.
    - `weight_decay`: $\gamma$ of $\frac{\gamma}{2} \sum_l \|W_l\|^2$, in the gradient. `mask`: a `Network` of booleans,
      False holds an entry fixed.
    - `batch_size`: samples in a step. Every epoch takes them in a new random order; the rest that makes no whole batch
      waits for the next. From `samples` = (X, Y), X (n, d_x) and Y (n, d_y), those that the `SquaredError` is of; or
      from an objective that keeps its own: one with `count` and with `batch(rows)`, the loss of those rows.
    - `label_noise`: standard deviation of noise that is added to every label anew in each step (`samples` too). With
      the whole objective its effect is drawn from moments, $\frac{c \sigma}{\sqrt n} Z \Sigma_{xx}^{1/2}$.
    - `key`: a jax key or an int, for order and noise. Draws depend on it and on the step alone.
    - `progress`: True shows a live line; a function is called with a `Report` a few times a second.
    - `reduce`: whether to descend the smaller problem with the same path (`reduction.reduce`) where there is one.

    `trajectory.ts` is $\eta k$ after k steps, the sum of the learning rates with a schedule. A run that ends early says
    so in `trajectory.ending`, and how many steps it took in `trajectory.statistics`: "interrupted" after Ctrl-C,
    "diverged" where the next step leaves float64. Then the last network within is kept, and `ending.stable_rate` is the
    smaller one of $2 / \lambda_{\max}$ (with momentum: more) at the start and at a balanced minimum. Otherwise the kind
    is "steps", or "global minimum" (excess loss below 1e-6 of the start's), "saddle" or "critical point".

    The path is that of the flow up to $O(\eta)$, and that of the flow of $L + \frac{\eta}{4} \|\nabla L\|^2$ up to
    $O(\eta^2)$. Inside `jax.jit`, `jax.vmap` and `jax.grad` the descent is JAX code, differentiable in the start, the
    objective and the learning rate, and batched over these and `key`; the trajectory has no ending and no statistics,
    and what diverges stays at its last network. Raises `ValueError` for bad settings and batches larger than the data.

    >>> import deeplinear as dl
    >>> objective, start = dl.SquaredError.from_moments([[1.0]]), dl.Network([[[0.5]], [[0.5]]])
    >>> trajectory = gradient_descent(objective, start, 0.125, 400, save_every=80)
    >>> trajectory.ts.tolist(), trajectory.ending.kind
    ([0.0, 10.0, 20.0, 30.0, 40.0, 50.0], 'global minimum')
    >>> gradient_descent(objective, start, 5.0, 500).ending.kind
    'diverged'

    Source: Arora, Cohen and Hazan (2018), eq. (4); Barrett and Dherin (2021), theorem 3.1, for the modified flow.
    """
    started = time.perf_counter()
    network = jax.tree.map(lambda W: W.astype(float), network)
    traced = is_traced(objective, network, learning_rate, key)
    at = check_outputs(steps, save_every, save_at)
    rule, rate = _rule(learning_rate, optimizer, momentum, nesterov)
    draws = check_draws(objective, samples, batch_size, label_noise, key)
    problem = Problem(objective, check_mask(mask, network), check_decay(weight_decay), rate, draws)
    if traced:
        ts, networks = as_jax_code(rule, problem, network, at)
        return Trajectory(ts, networks, objective=objective)
    reduction = None
    whole = problem.mask is None and problem.weight_decay is None and draws is None and optimizer is None
    if reduce and whole and isinstance(objective, SquaredError) and not is_small(network):
        found = smaller_problem(objective, network)
        if not found.is_trivial:
            reduction, network = found, found.network
            problem = Problem(found.objective, None, None, rate, None)
    check_kept(network, len(at), "`save_every` or `save_at`")
    marks = landmarks(problem.objective, network)
    descent = Descent(rule, problem, network, at, marks)
    with interruptible() as interrupted, as_reporter(progress) as report:
        kind = descent.follow(interrupted, report)
    ts, networks = descent.networks()
    ending = judge(kind, rule, problem, network, descent.position, marks)
    count = descent.steps
    statistics = Statistics(count, count, 0, rule.name, time.perf_counter() - started, network.widths)
    return Trajectory(jnp.asarray(ts), networks, ending, statistics, objective, reduction)


def _rule(learning_rate: Any, optimizer: Any, momentum: float, nesterov: bool) -> tuple[Rule, Array]:
    """How a gradient becomes a step, and the constant learning rate (1: time counts steps)."""
    check_momentum(momentum, nesterov, optimizer)
    complete = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    if complete and learning_rate is not None:
        raise ValueError(
            "`learning_rate`: the optimizer has one of its own; give None here, or a function such as "
            "`optimizer=optax.adam` that takes this one"
        )
    if complete:
        return Rule(optimizer=optimizer), jnp.ones(())
    schedule = check_rate(learning_rate)
    rate = jnp.ones(()) if schedule else jnp.asarray(learning_rate, dtype=float)
    if optimizer is None:
        return Rule(schedule, float(momentum), bool(nesterov)), rate
    known: Any = learning_rate if schedule or isinstance(learning_rate, Tracer) else float(np.asarray(learning_rate))
    made = _made.__wrapped__(optimizer, known) if isinstance(known, Tracer) else _made(optimizer, known)
    return Rule(schedule, optimizer=made), rate


@lru_cache(maxsize=128)
def _made(maker: Callable, learning_rate: Any) -> Any:
    """The transformation of this learning rate; the same one for the same question, which is compiled already."""
    made = maker(learning_rate) if callable(maker) else maker
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise ValueError(
            f"`optimizer`: got {maker!r}; give an optax transformation, or a function of the learning rate that "
            "makes one"
        )
    return made
