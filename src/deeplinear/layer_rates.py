r"""Layers that learn at different rates: the change of variables after which every layer learns at rate 1.

$$ \dot W_l = -\eta_l \Big(\frac{\partial L}{\partial W_l} + \gamma_l W_l\Big), \quad W_l = \sqrt{\eta_l} \, V_l
   \quad \Rightarrow \quad \dot V_l = -\frac{\partial L'}{\partial V_l} - \eta_l \gamma_l V_l, \quad
   L'(V) = L(a V), \quad a = \prod_l \sqrt{\eta_l} . $$

The clock stays. A squared error with optimum $W^*$ and factor c becomes one with optimum $W^* / a$ and factor $a^2 c$:
same inputs, same values of the loss, also the smallest one of every rank. So every theorem about rates 1 holds of V,
and $V_{l+1}^T V_{l+1} - V_l V_l^T = W_{l+1}^T W_{l+1} / \eta_{l+1} - W_l W_l^T / \eta_l$ is conserved.
"""

import re
from collections.abc import Callable
from operator import mul, truediv
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import check_decay, check_rates, check_squared, checks_arguments
from ._arrays import LARGEST, traced
from ._checks import TOLERANCE, Check
from ._linalg import on_device
from ._trees import replaced, value
from ._types import Array
from .network import Network
from .objectives import SquaredError

DEFINITION = "V_l = W_l / sqrt(rate of layer l)"
"""What V is, as messages say it."""


@value()
class UnitRates:
    r"""A problem with layer rates seen in $V_l = W_l / \sqrt{\eta_l}$, where every rate is 1, and the way back.

    >>> at_one = at_unit_rates(SquaredError.from_moments([[6.0]]), Network([[[1.0]], [[1.0]]]), [1.0, 4.0])
    >>> at_one.objective.optimum.tolist(), [W.tolist() for W in at_one.network.weights]
    ([[3.0]], [[[1.0]], [[0.5]]])
    """

    objective: SquaredError
    """L', of the end-to-end matrix of V."""
    network: Network
    """V at the start."""
    roots: tuple[Any, ...]
    r"""$\sqrt{\eta_l}$ of every layer."""

    @property
    def scale(self) -> Any:
        """a, by which the end-to-end matrix of W is larger than that of V.

        >>> at_unit_rates(SquaredError.from_moments([[6.0]]), Network([[[1.0]], [[1.0]]]), [1.0, 4.0]).scale
        2.0
        """
        return _product(self.roots)

    def lift(self, network: Network) -> Network:
        """W of a V, whose weights may have leading axes.

        >>> at_one = at_unit_rates(SquaredError.from_moments([[6.0]]), Network([[[1.0]], [[1.0]]]), [1.0, 4.0])
        >>> [W.tolist() for W in at_one.lift(at_one.network).weights]
        [[[1.0]], [[1.0]]]
        """
        return _scaled(network, mul, self.roots)


@checks_arguments
def at_unit_rates(objective: SquaredError, network: Network, rates: Any) -> UnitRates:
    r"""The problem in $V_l = W_l / \sqrt{\eta_l}$, whose rates are 1; `rates` $\eta$: one per layer, or one for all.

    V follows $\dot V_l = -\partial L' / \partial V_l$, its weight decay is that of `decay_at_unit_rates`. Under `jit`
    rates may be traced. Raises `ValueError` for rates that are not above 0, not finite or too many or too few, for
    rates whose product leaves float64, and for networks that do not fit.

    >>> objective, start = SquaredError.from_moments([[6.0]]), Network([[[1.0]], [[1.0]]])
    >>> at_one = at_unit_rates(objective, start, [1.0, 4.0])
    >>> float(objective(start.end_to_end)), float(at_one.objective(at_one.network.end_to_end))
    (12.5, 12.5)

    Source: Kunin et al. (2024), "Get rich quick", for what two layers of unequal rates conserve.
    """
    roots = _roots(rates, network.depth)
    at_one = objective_at_unit_rates(objective, _product(roots))
    return UnitRates(at_one, _scaled(network, truediv, roots), roots)


def objective_at_unit_rates(objective: SquaredError, scale: Any) -> SquaredError:
    """L'(V) = L(scale V) of a squared error: all that is known of the inputs, and every value of the loss, stays.

    >>> objective_at_unit_rates(SquaredError.from_moments([[6.0]]), 2.0)
    SquaredError(1 inputs -> 1 outputs, half-mean, whitened)
    """
    optimum = _on_the_host(truediv, check_squared(objective).optimum, scale)
    return replaced(objective, optimum=optimum, factor=objective.factor * scale * scale)


@value()
class AtUnitRates:
    """V -> L(scale V) of any objective, with the closed forms that this has.

    >>> float(AtUnitRates(lambda W: W.sum() ** 2, 2.0)(np.ones((1, 1))))
    4.0
    """

    objective: Any
    scale: Any

    def __call__(self, V: Any) -> Any:
        """L(scale V)."""
        return self.objective(self.scale * V)

    def __getattr__(self, name: str) -> Any:
        if name not in _FORMS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return _FORMS[name](getattr(self.objective, name), self.scale)


_FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "gradient": lambda gradient, a: lambda V: a * gradient(a * V),
    "hessian_vector": lambda product, a: lambda V, X: a * a * product(a * V, X),
    "excess": lambda excess, a: lambda V, *rank: excess(a * V, *rank),
    "minimum": lambda minimum, a: minimum,
    "knows_minimum": lambda knows_minimum, a: knows_minimum,
    "shape": lambda shape, a: shape,
}
"""Closed forms of L(a V), by their names, from those of L and a."""


def scaled_layers(network: Network, rates: Any) -> Network:
    r"""$\sqrt{\eta_l}$ times every layer, W of V; leading axes are kept.

    >>> [W.tolist() for W in scaled_layers(Network([[[1.0]], [[0.5]]]), [1.0, 4.0]).weights]
    [[[1.0]], [[1.0]]]
    """
    return _scaled(network, mul, _roots(rates, network.depth))


def network_at_unit_rates(network: Network, rates: Any) -> Network:
    r"""$V_l = W_l / \sqrt{\eta_l}$, whose weights may have leading axes; the network itself for `rates=None`.

    >>> [V.tolist() for V in network_at_unit_rates(Network([[[1.0]], [[1.0]]]), [1.0, 4.0]).weights]
    [[[1.0]], [[0.5]]]
    """
    return network if rates is None else _scaled(network, truediv, _roots(rates, network.depth))


def decay_at_unit_rates(weight_decay: Any, rates: Any, depth: int) -> Array | None:
    r"""$\eta_l \gamma_l$ of every layer, the weight decay of V, (depth,); None where no layer decays.

    `weight_decay` $\gamma$ and `rates`: one per layer, or one for all. Raises `ValueError` for others.

    >>> decay_at_unit_rates(0.5, [1.0, 4.0], depth=2).tolist()
    [0.5, 2.0]
    """
    decay, rates = check_decay(weight_decay, depth), check_rates(rates, depth)
    return decay if decay is None or rates is None else decay * jnp.asarray(rates)


def shared_decay(theorem: str, weight_decay: Any, rates: Any, depth: int) -> tuple[Any, Check]:
    r"""The one number $\eta_l \gamma_l$ at which all layers of V decay, and whether they do.

    >>> gamma, check = shared_decay("two-layer Riccati", [0.4, 0.1], [1.0, 4.0], depth=2)
    >>> round(float(gamma), 12), check.holds
    (0.4, True)
    """
    decay = decay_at_unit_rates(weight_decay, rates, depth)
    words = "every layer decays alike: weight decay times rate is the same number"
    if decay is None:
        return 0.0, Check(theorem, words, 0.0, TOLERANCE)
    if traced(decay):
        return decay[0], Check(theorem, words, 0.0, TOLERANCE)
    values = np.asarray(decay)
    return float(values.max()), Check(theorem, words, float(np.ptp(values) / values.max()), TOLERANCE)


def of_unit_rates(check: Check) -> Check:
    """A `Check` of V, in words that say so.

    >>> of_unit_rates(Check("", "|W_l| is small", 0.0, 0.0)).assumption
    '|V_l| is small, V_l = W_l / sqrt(rate of layer l)'
    """
    words = re.sub(r"\bW_", "V_", check.assumption)
    return check if words == check.assumption else check._replace(assumption=f"{words}, {DEFINITION}")


def _roots(rates: Any, depth: int) -> tuple[Any, ...]:
    """Square roots of the rates: floats of Python, which change no dtype, or scalars that JAX traces."""
    rates = check_rates(1.0 if rates is None else rates, depth)
    if traced(rates):
        return tuple(jnp.sqrt(rates))
    digits = np.log10(rates) / 2
    for size, what in ((np.abs(digits).max(), "one of them"), (abs(digits.sum()), "their product")):
        if size > np.log10(LARGEST):
            raise ValueError(f"`rates`: the square root of {what} is not within 1e-75 to 1e75; give rates nearer to 1")
    return tuple(map(float, np.sqrt(rates)))


def _product(roots: tuple[Any, ...]) -> Any:
    product = roots[0]
    for root in roots[1:]:
        product = product * root
    return product


def _scaled(network: Network, change: Callable[[Any, Any], Any], factors: tuple[Any, ...]) -> Network:
    """`change` of every layer and its factor."""
    layers = [_on_the_host(change, W, factor) for W, factor in zip(network.weights, factors, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(network), layers)


def _on_the_host(change: Callable[[Any, Any], Any], array: Any, factor: Any) -> Any:
    """`change` of an array and a number, in numpy where nothing is traced, so that no shape is compiled."""
    if traced(array, factor) or isinstance(array, np.ndarray):
        return change(array, factor)
    return on_device(change(np.asarray(array), factor))
