"""Every theorem held against a problem, and the most explicit one that applies."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .._arguments import checks_arguments
from ..layer_rates import at_unit_rates, of_unit_rates
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from .aligned import Decoupled, decoupled
from .assumptions import TOLERANCE, Check, NearMiss, NotExact
from .end_to_end import Balanced, balanced
from .lambda_balanced import TwoLayer, TwoLayerState, two_layer
from .one_layer import Regression, regression
from .question import check_objective, imbalances
from .rated import Rated, rated

IMBALANCE_COUNTS = 0.15
"""Error by an imbalance C, relative to |C| / |W*|: 0.04 to 0.5 in simulations of unbalanced two-layer starts."""
LARGEST_ESTIMATE = 0.3
"""An approximation that is more wrong than this is not offered."""


class Theorem(NamedTuple):
    """An exact solution: what it says, who found it, and the function that holds it against a problem and builds it.

    >>> [theorem.name for theorem in THEOREMS]
    ['regression', 'decoupled modes', 'two-layer Riccati', 'end-to-end flow']
    """

    name: str
    statement: str
    formula: str
    source: str
    build: Callable[[SquaredError, Network, float], Any]
    """(objective, network, tolerance) to the solution; raises `NotExact`."""

    def measure(self, objective: SquaredError, network: Network, tolerance: float = TOLERANCE) -> tuple[Check, ...]:
        """Its assumptions, those that fail and those that hold.

        >>> from deeplinear import SquaredError
        >>> start = Network([[[0.1]], [[0.1]]])
        >>> [check.holds for check in THEOREMS[0].measure(SquaredError.from_moments([[2.0]]), start)]
        [False]
        """
        return self.attempt(objective, network, tolerance)[1]

    def attempt(
        self, objective: SquaredError, network: Network, tolerance: float = TOLERANCE
    ) -> tuple[Any, tuple[Check, ...]]:
        """The solution, or None, and the checks; solutions are lazy, so that building one costs what measuring costs.

        >>> from deeplinear import SquaredError
        >>> solution, checks = THEOREMS[0].attempt(SquaredError.from_moments([[2.0]]), Network([[[0.1]]]))
        >>> round(float(solution([1.0]).end_to_end[0, 0, 0]), 4)
        1.301
        """
        try:
            solution = self.build(objective, network, tolerance)
        except NotExact as error:
            return None, error.measured
        return solution, solution.checks


THEOREMS = (
    Theorem(
        "regression",
        "One layer: linear regression by gradient flow, for any inputs.",
        "W(t) = W* + (W(0) - W*) exp(-sigma_xx t)",
        "Le Cun, Kanter and Solla (1991)",
        lambda objective, network, tolerance: regression(objective, network),
    ),
    Theorem(
        "decoupled modes",
        "Layers aligned with the modes of the data, any depth, balanced or not: every mode moves alone.",
        "xi_l' = prod_{j != l} xi_j (s - c prod_j xi_j)",
        "Saxe, McClelland and Ganguli (2014)",
        lambda objective, network, tolerance: decoupled(objective, network, tolerance=tolerance),
    ),
    Theorem(
        "two-layer Riccati",
        "Two layers, lambda-balanced, white inputs: a matrix Riccati equation for Q Q^T, Q = [W_1^T; W_2].",
        "Q Q^T(t) = e^{Ft} Q0 (I + c Q0^T int_0^t e^{2Fr} dr Q0)^{-1} Q0^T e^{Ft}",
        "Fukumizu (1998); Braun et al. (2022); Domine et al. (2025)",
        lambda objective, network, tolerance: two_layer(objective, network, tolerance=tolerance),
    ),
    Theorem(
        "end-to-end flow",
        "0-balanced layers of any depth, any inputs: the end-to-end matrix has an equation of its own, integrated.",
        "W' = sum_l (W W^T)^{(h-l)/h} (sigma_yx - W sigma_xx) (W^T W)^{(l-1)/h}",
        "Arora, Cohen and Hazan (2018)",
        lambda objective, network, tolerance: balanced(objective, network, tolerance=tolerance),
    ),
)
"""What is known exactly of gradient flow, the most explicit first."""


@dataclass(frozen=True)
class Applicability:
    """Every assumption of every theorem, held against one problem; prints as a table, iterates over the checks.

    >>> from deeplinear import SquaredError
    >>> applicable(SquaredError.from_moments([[2.0]]), Network([[[0.1]], [[0.1]]])).theorems
    ('decoupled modes', 'two-layer Riccati', 'end-to-end flow')
    """

    checks: tuple[Check, ...]

    @property
    def theorems(self) -> tuple[str, ...]:
        """Names of the theorems that apply, the most explicit first."""
        names = dict.fromkeys(check.theorem for check in self.checks)
        return tuple(name for name in names if all(check.holds for check in self.checks if check.theorem == name))

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def __str__(self) -> str:
        rows = [("theorem", "assumption", "violation", "tolerance", "holds")] + [
            (c.theorem, c.assumption, f"{c.violation:.2g}", f"{c.tolerance:g}", "yes" if c.holds else "no")
            for c in self.checks
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    __repr__ = __str__


class Approximation(eqx.Module):
    """A solution of a problem to which its theorem applies only nearly; made by `solve(..., approximate=True)`.

    >>> from deeplinear import SquaredError, init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 3, 3)
    >>> solution = solve(objective, init.gaussian(0, (3, 4, 3), 1e-2), approximate=True)
    >>> solution.near_miss.theorem, solution.error_estimate < 1e-3
    ('two-layer Riccati', True)
    """

    solution: TwoLayer
    near_miss: NearMiss = eqx.field(static=True)
    checks: tuple[Check, ...] = eqx.field(static=True)
    """The theorem's assumptions, among them the one that fails."""

    @property
    def error_estimate(self) -> float:
        """Largest error of the end-to-end matrix over time, relative to its target: the order of magnitude."""
        return self.near_miss.error_estimate

    def __call__(self, ts: Any) -> TwoLayerState:
        """The state at times (time,)."""
        return self.solution(ts)

    def limit(self) -> TwoLayerState:
        """The state for t to infinity."""
        return self.solution.limit()

    def weights(self, ts: Any) -> Network:
        """The network at times (time,), with a leading time axis."""
        return self.solution.weights(ts)

    @property
    def warning(self) -> str | None:
        """Why late times are not to be trusted, and from when on; None where they are."""
        return self.solution.warning

    def trajectory(self, ts: Any) -> Trajectory:
        """The network at times (time,)."""
        return self.solution.trajectory(ts)


Solution = Regression | Decoupled | TwoLayer | Balanced | Rated
"""Callable with times (time,), for `ts`, `end_to_end`, `loss`, `weights`, `gram_in`, `gram_out` and `warning`; beside
it `limit()`, `weights(ts)`, `trajectory(ts)`, `warning` and `checks`."""


@checks_arguments
def applicable(
    objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: Any = None
) -> Applicability:
    r"""Which theorems apply to gradient flow from `network`, and by how much the others fail: a table of `Check`s.

    Each assumption's violation is relative and compared with `tolerance`; a wrong depth is infinitely far off. With
    `rates` $\eta_l$, one learning rate per layer or one for all, assumptions are those of $V_l = W_l / \sqrt{\eta_l}$.
    Raises `ValueError` for an objective other than `SquaredError`, widths that do not fit, a negative tolerance and
    rates that are not above 0.

    >>> from deeplinear import SquaredError, init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    >>> table = applicable(objective, init.balanced(0, (3, 4, 2), scale=0.1))
    >>> table.theorems
    ('two-layer Riccati', 'end-to-end flow')
    >>> print(str(table).splitlines()[1])
    regression         the network has one layer                                          inf        0          no

    Source: those of `THEOREMS`.
    """
    _check(objective, network, tolerance)
    if rates is not None:
        change = at_unit_rates(objective, network, rates)
        found = applicable(change.objective, change.network, tolerance=tolerance)
        return Applicability(tuple(map(of_unit_rates, found)))
    measured = [check for theorem in THEOREMS for check in theorem.measure(objective, network, tolerance)]
    return Applicability(tuple(measured))


@checks_arguments
def solve(
    objective: SquaredError,
    network: Network,
    *,
    tolerance: float = TOLERANCE,
    approximate: bool = False,
    rates: Any = None,
) -> Solution | Approximation:
    r"""The exact gradient flow from `network`, by the most explicit theorem that applies.

    In this order: `regression`, `decoupled`, `two_layer`, `balanced`; `solution.checks` says which it was.
    `solution(ts)` has `ts`, `end_to_end` (time, d_y, d_x) and `loss` (time,), and more where more is known;
    `solution.trajectory(ts)` the networks. Raises `NotExact` where none applies, with every assumption that fails and
    how far off it is, and `ValueError` as `applicable` does. With `rates` $\eta_l$, one learning rate per layer or one
    for all, the solution is an `exact.Rated`, made from that of $V_l = W_l / \sqrt{\eta_l}$.

    Two layers may come near: white inputs up to $d = |\Sigma_{xx} / c - I|_2$, imbalance $\lambda I + C$ with $\lambda$
    its mean eigenvalue and small C. The error then names the `near_misses`, and `approximate=True` returns that
    solution with the imbalance $\lambda I$, as an `Approximation` whose `error_estimate` is $d + 0.15 |C|_F / |W^*|_F$:
    the largest error of W over time relative to its target, in order of magnitude (a factor of 5 in simulations).

    >>> from deeplinear import SquaredError, init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    >>> solution = solve(objective, init.balanced(0, (3, 4, 2), scale=0.1))
    >>> solution.checks[0].theorem, solution([0.0, 100.0]).loss.round(4).tolist()[1]
    ('two-layer Riccati', 0.0)

    Source: those of `THEOREMS`.
    """
    _check(objective, network, tolerance)
    if rates is not None:
        return rated(partial(solve, tolerance=tolerance, approximate=approximate), objective, network, rates)
    measured: list[Check] = []
    for theorem in THEOREMS:
        solution, checks = theorem.attempt(objective, network, tolerance)
        if solution is not None:
            return solution
        measured += checks
    near = _near_miss(objective, network)
    if not approximate or near is None:
        raise NotExact(measured, () if near is None else (near,))
    checks = tuple(check for check in measured if check.theorem == near.theorem)
    return Approximation(two_layer(objective, network, tolerance=np.inf), near, checks)


def theorem_of(solution: Solution) -> Theorem:
    """The theorem that a solution rests on."""
    return next(theorem for theorem in THEOREMS if theorem.name == solution.checks[0].theorem)


def _check(objective: SquaredError, network: Network, tolerance: float) -> None:
    check_objective(objective)
    if not tolerance >= 0:
        raise ValueError(f"`tolerance`: got {tolerance}; give a relative violation of at least 0")


def _near_miss(objective: SquaredError, network: Network) -> NearMiss | None:
    """Two layers as if they were lambda-balanced and their inputs white, if that is about right."""
    target = float(np.linalg.norm(np.asarray(objective.optimum_at_rank(network.max_rank))))
    if network.depth != 2 or target == 0:
        return None
    C = np.asarray(imbalances([np.asarray(W) for W in network.weights])[0])
    uneven = float(np.linalg.norm(C - np.trace(C) / len(C) * np.eye(len(C)))) / target
    variances = np.linalg.eigvalsh(np.asarray(objective.sigma_xx))
    total = float(np.sum(variances))
    coloured = float(np.abs(variances * total / np.sum(variances**2) - 1).max()) if total > 0 else 0.0
    estimate = coloured + IMBALANCE_COUNTS * uneven
    neglected = [
        words
        for words, size in (
            ("the imbalance beyond lambda I", IMBALANCE_COUNTS * uneven),
            ("the inputs' departure from white", coloured),
        )
        if size > TOLERANCE
    ]
    if estimate > LARGEST_ESTIMATE:
        return None
    return NearMiss("two-layer Riccati", " and ".join(neglected) or "rounding", estimate)
