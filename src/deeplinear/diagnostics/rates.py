"""How fast the flow must converge: lower bounds of its rate, from the weights and from what the flow conserves."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Float

from .._arguments import checks_arguments
from .._types import Array, Scalar
from ..network import Network
from ..objectives import SquaredError
from .balance import imbalance
from .labels import labelled

SIGN = 1e-9
"""Part of the weights' largest square below which an eigenvalue of C_l counts as zero: rounding, and a run's drift."""
PROPOSITIONS = (26, 27, 28)


class Hypothesis(NamedTuple):
    """One hypothesis of a proposition: a measured value that must reach a bound.

    >>> Hypothesis("d_1 >= d_x", value=2.0, bound=3.0).shortfall
    1.0
    """

    statement: str
    value: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the value reaches the bound."""
        return self.value >= self.bound

    @property
    def shortfall(self) -> float:
        """By how much the hypothesis fails; 0 where it holds."""
        return max(self.bound - self.value, 0.0)


class RateBound(NamedTuple):
    """What one proposition guarantees: the error norm decays at least like exp(-rate t).

    >>> RateBound(28, 1, 0.0, (Hypothesis("d_1 >= d_x", 2.0, 3.0),)).applies
    False
    """

    proposition: int
    """Number in the survey: 26 (holds now), 27 or 28 (hold for all times)."""
    layer: int | None
    """The layer j that the proposition singles out, from 1; None for the sum over all layers of 26."""
    rate: float
    """0 where the proposition does not apply."""
    hypotheses: tuple[Hypothesis, ...]

    @property
    def applies(self) -> bool:
        """Whether every hypothesis holds."""
        return all(hypothesis.holds for hypothesis in self.hypotheses)


@checks_arguments
def rates(objective: SquaredError) -> Callable[[Network], Float[Array, " bound"]]:
    r"""Lower bounds $\alpha$ of the rate at which the error norm decays, from propositions 26, 27 and 28; shape (3,).

    With $E = (W - W^*) \Sigma_{xx}^{1/2}$, so that $L - L_{\min} = \frac{c}{2} \|E\|_F^2$: $\|E(t)\|_F \le \|E(0)\|_F
    e^{-\alpha t}$, and the loss above its minimum decays at $2 \alpha$ or faster. Each is $c
    \lambda_{\min}(\Sigma_{xx})$ (of the inputs that occur) times, with $\lambda_{(k)}$ the k-th largest eigenvalue and
    $C_l$ the `imbalance`,

    - 26, at this moment: $\sum_j \prod_{i<j} \lambda_{\min}(W_i^T W_i) \prod_{i>j} \lambda_{\min}(W_i W_i^T)$.
    - 27, for all times: the sum over all j that fulfil its hypotheses of $\prod_{i<j} \lambda_{(d_{i-1})}(-C_i)
      \prod_{i=j}^{h-1} \lambda_{(d_{i+1})}(C_i)$.
    - 28, for all times: the largest over such j of $\prod_{i=1}^{h-1} \alpha_{(i)}$, $\alpha_{(i)} = \sum_{l=i}^{j-1}
      \lambda_{(d_x)}(-C_l)$ for i < j and $\sum_{l=j}^i \lambda_{(d_y)}(C_l)$ for i >= j.

    0 where a proposition does not apply; `rate_bounds` says why. Raises `ValueError` for an objective that is no
    `SquaredError`.

    >>> rates(SquaredError.from_moments([[2.0]]))(Network([[[0.5]], [[1.5]]])).tolist()
    [2.5, 2.0, 2.0]

    Source: Altafini, eqs. (47), (49), (52), where (47) lacks the factor 2 of the loss, the constants of (49) and (52)
    are of the error norm, and the first index of (49) is wrong; Min et al. (2023) for 28.
    """
    label = labelled(("bound",), "lower bounds of the error's rate of decay: propositions 26, 27, 28")
    return label(Partial(_rates, checked(objective)))


@checks_arguments
def rate_bounds(objective: SquaredError, network: Network) -> tuple[RateBound, ...]:
    """Every bound of `rates` by itself: 26, then 27 and 28 for each layer j, with their hypotheses and how far off.

    Rates as in `rates`; those of 27 with different j may be added. Not under `jit`. Raises `ValueError` as `rates`.

    >>> bounds = rate_bounds(SquaredError.from_moments([[2.0, 0.0]]), Network([[[1.0, 0.0]], [[2.0]]]))
    >>> [(bound.proposition, bound.layer, bound.rate) for bound in bounds if bound.applies]
    [(26, None, 4.0), (27, 1, 3.0)]
    >>> [(h.statement, round(h.shortfall, 3)) for h in bounds[2].hypotheses if not h.holds]
    [('d_1 >= d_0', 1.0), ('-C_1 has 2 positive eigenvalues', 3.0)]

    Source: as `rates`.
    """
    strength = float(slowest_input(checked(objective)))
    spectra, noise = _spectra(network)
    found = [RateBound(26, None, strength * float(_now(network)), ())]
    for proposition, of_layer in ((27, _by_each_layer), (28, _by_sums)):
        for j in range(1, network.depth + 1):
            rate, hypotheses = of_layer(network.widths, spectra, noise, j)
            measured = tuple(Hypothesis(words, float(value), float(bound)) for words, value, bound in hypotheses)
            found.append(RateBound(proposition, j, strength * float(rate), measured))
    return tuple(found)


def decay_rate(objective: Any) -> Callable[[Network], Scalar]:
    r"""The rate at which the error norm decays at this moment, $\|\nabla L\|^2 / (2 (L - L_{\min}))$.

    $\|\nabla L\|^2 = -\dot L$ sums over all weights. Never below the first of `rates`. NaN at the minimum.

    >>> objective = SquaredError.from_moments([[2.0]])
    >>> float(decay_rate(objective)(Network([[[0.5]], [[1.5]]])))
    2.5

    Source: Altafini, eq. (48).
    """
    label = labelled((), "rate at which the error decays, |grad L|^2 / (2 (L - minimum))")
    return label(Partial(_decay, checked(objective)))


@checks_arguments
def lojasiewicz(objective: Any, exponent: float = 0.5, value: Any = None) -> Callable[[Network], Scalar]:
    r"""Lojasiewicz's quotient $\|\nabla L\| / |L - L_c|^\theta$, bounded below near a critical point of value $L_c$.

    `exponent` is $\theta$, in (0, 1); `value` is $L_c$ (None: the smallest loss of any linear map). $\theta = 1/2$ at
    minima (Polyak-Lojasiewicz: the square is twice the `decay_rate`), $1 - 1/h$ at W_1 = ... = W_h = 0. NaN or infinite
    where L = L_c. Any objective with a `value`. Raises `ValueError` for another exponent.

    >>> zero = lojasiewicz(SquaredError.from_moments([[2.0]]), 2 / 3, value=2.0)
    >>> [round(float(zero(Network([[[z]]] * 3))), 3) for z in (1e-2, 1e-4)]  # to 3^(1/2) sigma^(1/3)
    [2.182, 2.182]

    Source: Lojasiewicz (1982); Altafini, section 4.7.
    """
    if not 0 < exponent < 1:
        raise ValueError(f"`exponent`: got {exponent}; Lojasiewicz's exponent lies between 0 and 1")
    if value is None:
        checked(objective)
    label = labelled((), f"Lojasiewicz quotient |grad L| / |L - value|^{exponent:.3g}")
    return label(Partial(_lojasiewicz, objective, exponent, value))


def checked(objective: Any) -> SquaredError:
    """The objective, if its smallest loss and the shape of its error are known."""
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: got a {type(objective).__name__}; rates are known of a SquaredError")
    return objective


def slowest_input(objective: SquaredError) -> Scalar:
    r"""$c \lambda_{\min}(\Sigma_{xx})$ over the inputs that occur: the rate of a single layer."""
    if objective.whitened:
        return objective.factor
    variances, _ = objective.input_spectrum
    return objective.factor * jnp.min(jnp.where(variances > 0, variances, jnp.inf))


@checks_arguments
def _rates(objective: SquaredError, network: Network) -> Float[Array, " bound"]:
    spectra, noise = _spectra(network)
    layers = range(1, network.depth + 1)
    each, sums = (
        jnp.stack([of_layer(network.widths, spectra, noise, j)[0] for j in layers])
        for of_layer in (_by_each_layer, _by_sums)
    )
    return slowest_input(objective) * jnp.stack([_now(network), jnp.sum(each), jnp.max(sums)])


@checks_arguments
def _decay(objective: SquaredError, network: Network) -> Scalar:
    return _squared_gradient(objective, network) / (2 * objective.excess(network.end_to_end))


@checks_arguments
def _lojasiewicz(objective: Any, exponent: float, value: Any, network: Network) -> Scalar:
    W = network.end_to_end
    height = objective.excess(W) if value is None else jnp.abs(objective(W) - value)
    return jnp.sqrt(_squared_gradient(objective, network)) / height**exponent


def _squared_gradient(objective: Any, network: Network) -> Scalar:
    gradient = jax.grad(lambda point: objective(point.end_to_end))(network)
    return sum((jnp.sum(G**2) for G in gradient.weights), jnp.zeros(()))


def _now(network: Network) -> Scalar:
    """The sum over j of proposition 26; a factor is 0 where the shape alone makes it so."""
    squares = [jnp.linalg.svd(W, compute_uv=False)[-1] ** 2 for W in network.weights]
    injective = [jnp.where(W.shape[0] >= W.shape[1], s, 0.0) for W, s in zip(network.weights, squares, strict=True)]
    surjective = [jnp.where(W.shape[0] <= W.shape[1], s, 0.0) for W, s in zip(network.weights, squares, strict=True)]
    terms = [_product([*injective[:j], *surjective[j + 1 :]]) for j in range(network.depth)]
    return jnp.sum(jnp.stack(terms))


def _spectra(network: Network) -> tuple[list[Array], Scalar]:
    """Eigenvalues of every C_l, ascending, and below what size one is zero."""
    largest = jnp.max(jnp.stack([jnp.linalg.norm(W, 2) for W in network.weights]))
    return [jnp.linalg.eigvalsh(C) for C in imbalance(network)], SIGN * largest**2


def _by_each_layer(widths: tuple[int, ...], spectra: list[Array], noise: Scalar, j: int) -> tuple[Scalar, list]:
    """Rate and hypotheses of proposition 27 for layer j; -C_i for i < j, C_i for i >= j."""
    factors, hypotheses = [], []
    for i, c in enumerate(spectra, start=1):
        name, signed, k, other = (
            (f"-C_{i}", -c[::-1], widths[i - 1], i - 1) if i < j else (f"C_{i}", c, widths[i + 1], i + 1)
        )
        hypotheses.append((f"d_{i} >= d_{other}", widths[i], k))
        value = _largest(signed, k)
        hypotheses.append((f"{name} has {k} positive eigenvalues", value, noise))
        factors.append(value)
    return _rate(factors, hypotheses), hypotheses


def _by_sums(widths: tuple[int, ...], spectra: list[Array], noise: Scalar, j: int) -> tuple[Scalar, list]:
    """Rate and hypotheses of proposition 28 for layer j."""
    (d_x, *_, d_y), hypotheses, below, above = widths, [], [], []
    for i, c in enumerate(spectra, start=1):
        hypotheses.append((f"d_{i} >= max(d_0, d_{len(spectra) + 1})", widths[i], max(d_x, d_y)))
        name, signed = (f"-C_{i}", -c[::-1]) if i < j else (f"C_{i}", c)
        hypotheses.append((f"{name} is positive semidefinite", signed[0], -noise))
        (below if i < j else above).append(jnp.maximum(_largest(signed, d_x if i < j else d_y), 0.0))
    sums = [sum(below[i:], jnp.zeros(())) for i in range(len(below))]
    sums += [sum(above[: i + 1], jnp.zeros(())) for i in range(len(above))]
    if sums:
        hypotheses.append(("the product of the sums of eigenvalues is positive", jnp.min(jnp.stack(sums)), noise))
    return _rate(sums, hypotheses), hypotheses


def _largest(ascending: Array, k: int) -> Scalar:
    """The k-th largest eigenvalue; the smallest where there are fewer."""
    return ascending[-min(k, ascending.shape[0])]


def _rate(factors: list[Array], hypotheses: list) -> Scalar:
    """The product of the factors where all hypotheses hold, else 0."""
    fulfilled = [jnp.asarray(value >= bound) for _, value, bound in hypotheses]
    return jnp.where(jnp.all(jnp.stack(fulfilled)), _product(factors), 0.0) if fulfilled else _product(factors)


def _product(factors: Sequence[Array]) -> Scalar:
    return jnp.prod(jnp.stack(factors)) if factors else jnp.ones(())
