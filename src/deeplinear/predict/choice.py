"""When every mode will be learned: by an exact solution where one applies, else to first order in a small start."""

from itertools import pairwise
from typing import Any

import numpy as np

from .._arguments import checks_arguments
from ..exact.assumptions import Check
from ..exact.dispatch import THEOREMS
from ..exact.rated import Rated
from ..layer_rates import DEFINITION, at_unit_rates, of_unit_rates
from ..network import Network
from ..objectives import SquaredError
from ..obstructions import obstruction
from .crossings import half_times, strengths_of
from .prediction import Prediction
from .small_start import small_start

CLOSED = ("decoupled modes", "regression")
"""Theorems whose half-times are cheap at any size; tried first."""
MAX_WEIGHTS = 20_000
"""Size from which root finding on the end-to-end flow takes seconds."""
MAX_COLUMNS = 200
"""Columns of Q = [W_1^T; W_2] from which root finding on the two-layer solution does, most of it for compilation."""


@checks_arguments
def learning_times(objective: SquaredError, network: Network, *, rates: Any = None) -> Prediction:
    r"""Predicted half-time of every mode: when its strength reaches half of its final value.

    Tried in this order, each with its assumptions measured:

    - decoupled modes (exact): closed times, $t = \ln(s / (c u_0) - 1) / (2 s)$ for two balanced layers; any depth,
      balanced or not. Assumes that every mode is an eigenvector of $\Sigma_{xx}$ (variance c) and all layers aligned
      with the modes.
    - one layer, lambda-balanced two-layer networks on white inputs, 0-balanced networks of any depth (exact): the root
      of $u_a^T W(t) v_a$ less half its target, W of `exact.regression`, `exact.two_layer` (up to 200
      hidden neurons), `exact.balanced` (up to 20000 weights).
    - small random start (first order): at depth 2, $t = \ln(2 s_k / (c |b_k^\perp|^2)) / (2 s_k)$ with $b_k = (W_1 v_k
      + W_2^T u_k) / \sqrt 2$ made orthogonal to those of earlier modes; deeper, for the first mode only, the blow-up
      time of $\dot W_j = W_{j+1:h}^T \Sigma_{yx} W_{1:j-1}^T$ plus the rest of the closed curve. Assumes $\Sigma_{xx} =
      c I$ and weights small against the mode.

    The result's `exact` says which kind it is and `solution` is the exact solution. Modes beyond a bottleneck, without
    correlation, or behind an `obstruction` (the start misses a dimension, or the sign of a determinant that is kept)
    are never learned: infinite. NaN: later than was looked. Where no theory applies, `name` is None, every half-time is
    NaN and `violations` says by how much each assumption fails. With `rates` $\eta_l$, one learning rate per layer or
    one for all, formulas and assumptions are those of $V_l = W_l / \sqrt{\eta_l}$ and $W^* / \prod_l \sqrt{\eta_l}$;
    times and strengths are those of W. Raises `ValueError` for an objective other than `SquaredError`, for widths that
    do not fit it and for rates that are not above 0.

    >>> from deeplinear import init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> learning_times(objective, init.decoupled(0, objective, (2, 4, 2), 1e-3)).half_times.round(4).tolist()
    [1.9001, 3.4534]
    >>> prediction = learning_times(objective, init.balanced(1, (2, 4, 2), scale=1e-2))
    >>> prediction.name, prediction.exact
    ('two-layer Riccati', True)

    Source: Saxe, McClelland and Ganguli (2014), eq. (7); those of `exact.solve`; Atanasov, Bordelon and Pehlevan (2022)
    for the direction of escape.
    """
    _check(objective, network)
    if rates is not None:
        return _rated(objective, network, rates)
    blocked, checks = obstruction(objective, network), ()
    sizes = _sizes(network)
    theorems = sorted(THEOREMS, key=lambda theorem: theorem.name not in CLOSED or CLOSED.index(theorem.name))
    for theorem in theorems:
        size = sizes.get(theorem.name)
        if size is not None and not size.holds:
            checks += (size,)
            continue
        solution, measured = theorem.attempt(objective, network)
        checks += measured
        if solution is not None:
            times = half_times(objective, network, solution)
            if blocked is not None and theorem.name == "end-to-end flow":
                times = np.where(np.arange(times.size) >= blocked.rank, np.inf, times)
            curves = strengths_of(objective, solution)
            return Prediction(
                theorem.name, theorem.formula, times, curves, checks, theorem.source, True, solution, blocked
            )
    prediction = small_start(objective, network)
    checks += prediction.checks
    if all(check.holds for check in prediction.checks):
        return prediction._replace(checks=checks, obstruction=blocked)
    nothing = np.full(objective.modes[1].shape, np.nan)
    return Prediction(None, "", nothing, None, checks, obstruction=blocked)


def _rated(objective: SquaredError, network: Network, rates: Any) -> Prediction:
    """The prediction of V as one of W."""
    change = at_unit_rates(objective, network, rates)
    found = learning_times(change.objective, change.network)
    curves, solution = found.strengths, found.solution
    return found._replace(
        formula=f"{found.formula}, of {DEFINITION}" if found.formula else "",
        strengths=None if curves is None else lambda ts: change.scale * curves(ts),
        checks=tuple(map(of_unit_rates, found.checks)),
        solution=None if solution is None else Rated.of(objective, network, change, solution),
    )


def _sizes(network: Network) -> dict[str, Check]:
    """Whether an exact solution can be searched for half-times in about a second, by the theorem's name."""
    weights = sum(a * b for a, b in pairwise(network.widths))
    columns = min(network.widths[1], network.widths[0] + network.widths[-1]) if network.depth == 2 else 0
    limits = {"two-layer Riccati": (columns, MAX_COLUMNS), "end-to-end flow": (weights, MAX_WEIGHTS)}
    words = "the problem is small enough to search the solution for times"
    return {name: Check(name, words, float(size), float(limit)) for name, (size, limit) in limits.items()}


def _check(objective: SquaredError, network: Network) -> None:
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: got a {type(objective).__name__}; learning times are known for SquaredError")
