"""Ways off saddles: along a certificate to the lowest point of its line, and from the origin down, saddle by saddle."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.polynomial import Polynomial

from .._arguments import checks_arguments
from .._types import Key
from ..init import gaussian
from ..init.arguments import check_key
from ..network import Network
from ..trajectory import Trajectory
from .classifying import classify
from .passing import Visit, saddle_path
from .target import Target

LONGEST = 50
"""Links of a chain beyond which something is wrong: each has to lower the loss by a mode."""


class Departure(NamedTuple):
    """A network below a strict saddle.

    >>> from deeplinear import SquaredError
    >>> round(leave(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]])).drop, 12)
    2.0
    """

    network: Network
    loss: float
    step: float
    """$\\epsilon$: length of the step along the certificate's unit direction, of either sign."""
    drop: float
    """Loss of the saddle less this loss, above 0."""
    direction: Network
    """V, the certificate's direction, of norm 1."""


class Chain(NamedTuple):
    """Critical points, each reached by the flow from beside the one before.

    >>> from deeplinear import SquaredError, gradient_flow
    >>> chain(SquaredError.from_moments([[1.0]]), (1, 1, 1), 0, gradient_flow).complete
    True
    """

    visits: tuple[Visit, ...]
    """What each run saw of the saddle that it came from (its times count from the kick off it), the end last."""
    complete: bool
    """Whether the last one is a global minimum."""

    @property
    def signatures(self) -> tuple[tuple[int, ...], ...]:
        """Learned modes along the chain."""
        return tuple(visit.signature for visit in self.visits)


@checks_arguments
def leave(objective: Any, network: Network, tol: float = 1e-10) -> Departure:
    r"""One step off a strict saddle: the lowest point of $L(W + \epsilon V)$ over all $\epsilon$, V the certificate.

    $L(W + \epsilon V)$ is a polynomial of degree 2h in $\epsilon$ that begins with $L(W) + \frac{\epsilon^2}{2} \,
    \mathfrak h(W, V)$, $\mathfrak h < 0$; its stationary points are found as roots, so the step is exact and needs no
    step size. `tol`: as in `classify`. Raises `ValueError` for a network that is not critical (follow the gradient), a
    global minimum (nothing is lower), a non-strict saddle (no direction is negative to second order: kick it, or use
    `chain`), and for objectives other than `SquaredError`.

    >>> from deeplinear import SquaredError
    >>> down = leave(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]))
    >>> round(down.loss, 12), round(down.drop, 12), round(down.step**2, 12)
    (0.0, 2.0, 4.0)

    Source: Altafini, propositions 21 and 23, for the directions.
    """
    target, found = Target.of(objective), classify(objective, network, tol)
    if found.certificate is None:
        raise ValueError(f"`network`: is no strict saddle but {_advice(found.kind)}")
    direction = found.certificate.direction
    along = _line(target, network, direction)
    stationary = along.deriv().roots()
    real = stationary[np.abs(stationary.imag) <= 1e-7 * np.abs(stationary)].real
    step = min(real, key=along)
    moved = Network([W + step * V for W, V in zip(network.weights, direction.weights, strict=True)])
    loss = float(objective(moved.end_to_end))
    return Departure(moved, loss, float(step), found.loss - loss, direction)


@checks_arguments
def chain(
    objective: Any,
    widths: tuple[int, ...],
    key: Key,
    flow: Callable[[Any, Network], Trajectory],
    size: float = 1e-3,
) -> Chain:
    r"""Saddle to saddle from the origin down: kick, flow to beside the next critical point, start again there.

    From each critical point, the origin first, weights $N(0, \text{size}^2)$ are added and `flow(objective, network)`
    (such as `gradient_flow`, or any descent that leaves a `Trajectory`) runs; where its closest approach to the next
    signature is, the critical point beside it is the next link. In the limit of small kicks that is the chain that
    gradient flow from a vanishing start follows. It ends at a global minimum, or, with `complete` false, where a run
    does not get below the saddle that it came from. `flow` is an argument because the landscape knows nothing of how it
    is descended. Raises `ValueError` for objectives other than `SquaredError`, widths that do not fit it, one layer (no
    saddles), and a size that is not positive.

    >>> from deeplinear import SquaredError, gradient_flow
    >>> objective = SquaredError.from_singular_values([3.0, 1.0], 2, 2)
    >>> chain(objective, (2, 3, 2), 0, gradient_flow).signatures
    ((), (1,), (1, 2))

    Source: Jacot et al. (2021), saddle-to-saddle dynamics in deep linear networks.
    """
    target, key = Target.of(objective), check_key(key)
    target.check_widths(tuple(widths))
    if len(widths) == 2:
        raise ValueError(f"`widths`: got {tuple(widths)}; a network with one layer has no saddles")
    here = Network([np.zeros((above, below)) for below, above in pairwise(widths)])
    lowest = target.value(tuple(range(1, target.max_rank(tuple(widths)) + 1)))
    links: list[Visit] = []
    for kick in range(LONGEST):
        noise = gaussian(jax.random.fold_in(key, kick), widths, size)
        start = Network([W + V for W, V in zip(here.weights, noise.weights, strict=True)])
        first, *later = saddle_path(flow(objective, start), objective).visits
        links.append(first)
        lower = [visit for visit in later if visit.value < first.value and visit.saddle is not None]
        if not lower or lower[0].saddle is None:
            break
        here = lower[0].saddle
        if lower[0].value <= lowest + 1e-12 * max(abs(lowest), target.factor):
            return Chain((*links, lower[0]), True)
    return Chain(tuple(links), False)


def _line(target: Target, network: Network, direction: Network) -> Polynomial:
    """Loss above the minimum along a direction, as a polynomial in the step."""
    product = [np.eye(target.d_x)]
    for W, V in zip(target.reduce(network).weights, target.reduce(direction).weights, strict=True):
        still = [np.asarray(W) @ C for C in product] + [0.0]
        moved = [0.0] + [np.asarray(V) @ C for C in product]
        product = [a + b for a, b in zip(still, moved, strict=True)]
    product[0] = product[0] - target.matrix
    total = np.zeros(2 * len(product) - 1)
    for i, A in enumerate(product):
        for j, B in enumerate(product):
            total[i + j] += target.factor / 2 * float(np.sum(A * B))
    return Polynomial(total)


def _advice(kind: str) -> str:
    return {
        "not critical": "not critical; follow the gradient",
        "global minimum": "a global minimum; nothing is lower",
        "non-strict saddle": "a non-strict saddle, from which no direction leads down to second order; see `chain`",
    }.get(kind, f"a {kind} without certificate")
