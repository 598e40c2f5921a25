r"""Balanced networks: what gradient flow conserves between neighbouring layers is zero, small, or a multiple of I.

With layer rates $\eta_l$ all of it is said of $V_l = W_l / \sqrt{\eta_l}$, whose imbalance is what the flow conserves.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from .._arguments import checks_arguments
from .._checks import TOLERANCE, Check
from ..layer_rates import network_at_unit_rates, of_unit_rates
from ..network import Network

BALANCE = "W_{l+1}^T W_{l+1} - W_l W_l^T"


@checks_arguments
def balanced(network: Network, *, tolerance: float = TOLERANCE, rates: Any = None) -> Check:
    r"""Whether $C_l = W_{l+1}^T W_{l+1} - W_l W_l^T = 0$ for all l: violation $\max_l \|C_l\|_2 / \max_l \|W_l\|_2^2$.

    `rates`: learning rates, one per layer or one for all, of which `ValueError` is raised if one is not above 0.

    >>> balanced(Network([[[1.0, 0.0]], [[1.0]]])).holds
    True
    >>> balanced(Network([[[1.0]], [[2.0]]])).violation
    0.75

    Source: Altafini, section 5 (0-balanced); Arora, Cohen and Hazan (2018).
    """
    network = network_at_unit_rates(network, rates)
    off = max((float(np.linalg.norm(C, 2)) for C in _imbalances(network)), default=0.0)
    return _worded(Check("0-balanced", f"{BALANCE} = 0", off / _size(network), tolerance), rates)


@checks_arguments
def smallest_delta(network: Network, *, rates: Any = None) -> float:
    r"""The smallest $\delta$ for which the network is delta-balanced: $\max_l \|C_l\|_F$, conserved by the flow.

    `rates`: as of `balanced`.

    >>> smallest_delta(Network([[[1.0]], [[2.0]]]))
    3.0

    Source: Altafini, section 5.3.1; Arora, Cohen, Golowich and Hu (2019), definition 1.
    """
    conserved = _imbalances(network_at_unit_rates(network, rates))
    return max((float(np.linalg.norm(C)) for C in conserved), default=0.0)


@checks_arguments
def delta_balanced(network: Network, delta: float, *, rates: Any = None) -> Check:
    r"""Whether $\|W_{l+1}^T W_{l+1} - W_l W_l^T\|_F \le \delta$ for all l: the violation is `smallest_delta`, absolute.

    `rates`: as of `balanced`. Raises `ValueError` for a negative delta.

    >>> delta_balanced(Network([[[1.0]], [[2.0]]]), delta=3.5).holds
    True

    Source: Altafini, section 5.3.1.
    """
    if not delta >= 0:
        raise ValueError(f"`delta`: got {delta}; it bounds a norm, so give a number of at least 0")
    check = Check("delta-balanced", f"|{BALANCE}|_F <= {delta:g}", smallest_delta(network, rates=rates), float(delta))
    return _worded(check, rates)


@checks_arguments
def best_lambdas(network: Network, *, rates: Any = None) -> tuple[float, ...]:
    r"""For every junction the $\lambda$ that brings $\lambda I$ closest to $C_l$: $\mathrm{tr}(C_l) / d_l$.

    `rates`: as of `balanced`.

    >>> best_lambdas(Network([[[1.0]], [[2.0]]]))
    (3.0,)

    Source: Dominé et al. (2025), definition of lambda-balanced weights, for two layers.
    """
    return tuple(float(np.trace(C)) / len(C) for C in _imbalances(network_at_unit_rates(network, rates)))


@checks_arguments
def lambda_balanced(
    network: Network, lam: float | None = None, *, tolerance: float = TOLERANCE, rates: Any = None
) -> Check:
    r"""Whether $W_{l+1}^T W_{l+1} - W_l W_l^T = \lambda_l I$ for all l, with given `lam` or, for None, the best ones.

    Violation: $\max_l \|C_l - \lambda_l I\|_2 / \max_l \|W_l\|_2^2$. The note says which $\lambda_l$.
    `rates`: as of `balanced`.

    >>> check = lambda_balanced(Network([[[1.0]], [[2.0]]]))
    >>> check.holds, check.note
    (True, 'lambda = 3')
    >>> lambda_balanced(Network([[[1.0]], [[2.0]]]), lam=1.0).violation
    0.5

    Source: Dominé et al. (2025).
    """
    network = network_at_unit_rates(network, rates)
    lambdas = best_lambdas(network) if lam is None else (float(lam),) * (network.depth - 1)
    off = max(
        (float(np.linalg.norm(C - l * np.eye(len(C)), 2)) for C, l in zip(_imbalances(network), lambdas, strict=True)),
        default=0.0,
    )
    note = f"lambda = {', '.join(f'{l:.6g}' for l in lambdas)}" if lambdas else "one layer has no junction"
    check = Check("lambda-balanced", f"{BALANCE} = lambda_l I", off / _size(network), tolerance, note=note)
    return _worded(check, rates)


def _worded(check: Check, rates: Any) -> Check:
    return check if rates is None else of_unit_rates(check)


def _imbalances(network: Network) -> list[np.ndarray]:
    layers = [np.asarray(W) for W in network.weights]
    return [above.T @ above - below @ below.T for below, above in pairwise(layers)]


def _size(network: Network) -> float:
    """Largest squared spectral norm of a layer."""
    return max(max(float(np.linalg.norm(np.asarray(W), 2)) for W in network.weights) ** 2, 1e-300)
