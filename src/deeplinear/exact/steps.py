"""Gradient descent with a finite step, where it is known exactly: one layer, conservation laws, stability, escape."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import checks_arguments
from .._arrays import LARGEST, floats, number, traced
from .._checks import check_whole
from .._types import Array
from ..network import Network
from ..objectives import SquaredError
from .assumptions import TOLERANCE, Check, require
from .question import Curve, check_objective, gradients


@checks_arguments
def descent_regression(objective: SquaredError, network: Network, learning_rate: Any, ks: Any) -> Curve:
    r"""Gradient descent of one layer after k steps, for any $\Sigma_{xx}$, singular ones included.

    $$ W_k = W^* + (W_0 - W^*) (I - \eta c \Sigma_{xx})^k $$

    on inputs that occur, $W_0$ on the others; c is the factor of the loss scale. `ks` is (time,), whole numbers of at
    least 0; the result has `ts` = $\eta k$, `end_to_end` (time, d_y, d_x) and `loss` (time,). Diverges where
    $\eta c \lambda_{\max} > 2$, as descent does. Raises `NotExact` for deeper networks, `ValueError` for bad steps.

    >>> objective = SquaredError.from_moments([[2.0]])
    >>> descent_regression(objective, Network([[[0.0]]]), 0.5, [0, 1, 2, 50]).end_to_end[:, 0, 0].round(4).tolist()
    [0.0, 1.0, 1.5, 2.0]

    Source: the same geometric series as Le Cun, Kanter and Solla (1991), Phys. Rev. Lett. 66.
    """
    check_objective(objective)
    off = 0.0 if network.depth == 1 else float("inf")
    require([Check("descent of one layer", "the network has one layer", off, 0.0)])
    _check_rate(learning_rate)
    ks = floats("ks", ks, 1, "(time,), whole numbers of steps")
    if not traced(ks) and ((ks < 0).any() or (ks != np.round(ks)).any()):
        raise ValueError("`ks`: give a list of whole numbers of steps, each at least 0")
    k = jnp.asarray(ks, dtype=float)[:, None]
    variances, Q = objective.input_spectrum
    step = (learning_rate * objective.factor * variances)[None, :]
    # |1 - x|^k by logarithms, which keep x of a million steps; the sign is the parity's
    size = jnp.where(step < 0.5, jnp.log1p(-jnp.minimum(step, 0.5)), jnp.log(jnp.abs(1 - step)))
    factor = jnp.where(k == 0, 1.0, jnp.exp(jnp.where(k == 0, 1.0, k) * size))
    factor = jnp.where((step > 1) & (k % 2 == 1), -factor, factor)[:, None, :]
    optimum = (objective.optimum @ Q)[None]
    left = ((network.weights[0] @ Q)[None] - optimum) * factor
    excess = objective.factor / 2 * jnp.sum(left**2 * variances[None, None, :], axis=(1, 2))
    return Curve(learning_rate * k[:, 0], (left + optimum) @ Q.T, objective.minimum + excess)


@checks_arguments
def balance_drift(objective: Any, network: Network, learning_rate: Any) -> tuple[Float[Array, "_ _"], ...]:
    r"""Change of the imbalance in one step of gradient descent, exactly, for any objective of the end-to-end matrix.

    $C_l^+ - C_l = \eta^2 (G_{l+1}^T G_{l+1} - G_l G_l^T)$ with $C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$ and $G_l$ the
    gradient of layer l: nothing of first order. A tuple of h - 1 symmetric matrices (d_l, d_l). Works under `jit`.

    >>> balance_drift(SquaredError.from_moments([[2.0]]), Network([[[0.5]], [[1.0]]]), 1.0)[0].tolist()
    [[-1.6875]]

    Source: Arora, Cohen and Hazan (2018), theorem 1, with the step kept finite.
    """
    _check_rate(learning_rate)
    G = gradients(objective, network)
    return tuple(learning_rate**2 * (G[l + 1].T @ G[l + 1] - G[l] @ G[l].T) for l in range(len(G) - 1))


@checks_arguments
def stability_limit(objective: SquaredError, depth: int) -> float:
    r"""Learning rate above which gradient descent leaves a 0-balanced global minimum.

    $\eta_{\max} = 2 / \lambda_{\max}$ with $\lambda_{\max} = c \sigma^2 h \, s_1^{2 - 2/h}$: $s_1$ the largest singular
    value of the optimum, $\Sigma_{xx} = \sigma^2 I$ (any $\Sigma_{xx}$ at depth 1), c the factor of the loss scale.
    Infinite where nothing curves. Assumes that no width is below the rank of the optimum. Raises `NotExact` for other
    inputs, `ValueError` for other objectives.

    >>> stability_limit(SquaredError.from_singular_values([4.0, 1.0], 2, 2), depth=2)
    0.25

    Source: the largest of `balanced_hessian_spectrum`; Cohen et al. (2021) for its use.
    """
    check_objective(objective)
    depth = check_whole("depth", depth, 1)
    variances = np.linalg.eigvalsh(np.asarray(objective.sigma_xx))
    if depth > 1:
        spread = float(np.ptp(variances) / max(variances[-1], 1e-300))
        require([Check("stability limit", "sigma_xx is a multiple of the identity", spread, TOLERANCE)])
    s1 = float(np.linalg.norm(np.asarray(objective.optimum), 2))
    sharpness = float(objective.factor) * float(variances[-1]) * depth * s1 ** (2 - 2 / depth)
    return 2 / sharpness if sharpness > 0 else float("inf")


@checks_arguments
def descent_mode_factors(weights: Any, s: float, learning_rate: float, input_variance: float = 1.0) -> np.ndarray:
    r"""Factors by which one step of descent multiplies $\xi_i^2 - \xi_j^2$ of a decoupled mode, (layer, layer).

    $1 - \eta^2 e^2 \prod_{k \ne i, j} \xi_k^2$ with the error $e = s - c \prod_k \xi_k$; the diagonal is 1. At depth 2
    also $\xi_1 + \xi_2$ is multiplied by $1 + \eta e$ and $\xi_1 - \xi_2$ by $1 - \eta e$. `weights` is (layer,), of
    any signs. Raises `ValueError` for another shape and numbers that are not finite.

    >>> descent_mode_factors([0.5, 1.0], s=2.0, learning_rate=0.1).round(4).tolist()
    [[1.0, 0.9775], [0.9775, 1.0]]

    Source: one step of $\xi_i \mathrel{+}= \eta e \prod_{k \ne i} \xi_k$, squared.
    """
    xi, s = floats("weights", weights, 1, "(layer,)", largest=LARGEST), float(floats("s", s, 0, largest=LARGEST))
    input_variance = float(floats("input_variance", input_variance, 0, largest=LARGEST))
    if input_variance < 0:
        raise ValueError(f"`input_variance`: got {input_variance}; a variance is at least 0")
    _check_rate(learning_rate)
    error, h = s - input_variance * np.prod(xi), xi.size
    factors = np.ones((h, h))
    for i in range(h):
        for j in range(i):
            rest = np.prod(np.delete(xi, [i, j]) ** 2)
            factors[i, j] = factors[j, i] = 1 - learning_rate**2 * error**2 * rest
    return factors


@checks_arguments
def escape_steps(u1: float, u0: float, s: float, learning_rate: float) -> tuple[int, int]:
    r"""Bounds on the number of descent steps in which a decoupled 0-balanced two-layer mode first reaches strength u1.

    $$ \Big\lceil \frac{\ln (u_1 / u_0)}{2 \ln (1 + \eta s)} \Big\rceil \le k \le
       \Big\lceil \frac{\ln (u_1 / u_0)}{2 \ln (1 + \eta (s - u_1))} \Big\rceil $$

    for $0 < u_0 \le u_1 < s$ and white inputs, half-mean loss: a step multiplies u by $(1 + \eta (s - u))^2$. Raises
    `ValueError` for other strengths.

    >>> escape_steps(u1=0.5, u0=1e-6, s=1.0, learning_rate=0.1)
    (69, 135)

    Source: the step of a balanced scalar mode; its limit of small steps is the logistic curve.
    """
    u1, u0, s = (number(name, value, "a finite number") for name, value in (("u1", u1), ("u0", u0), ("s", s)))
    if not 0 < u0 <= u1 < s:
        raise ValueError(f"`u0`, `u1`: got {u0} and {u1} with s = {s}; the bounds need 0 < u0 <= u1 < s")
    _check_rate(learning_rate)
    growth = np.log(u1 / u0) / 2
    bounds = (growth / np.log1p(learning_rate * s), growth / np.log1p(learning_rate * (s - u1)))
    return int(np.ceil(bounds[0] * (1 - 1e-14))), int(np.ceil(bounds[1] * (1 + 1e-14)))  # rounding must not break them


def _check_rate(learning_rate: Any) -> None:
    rate = number("learning_rate", learning_rate, "a finite number above 0", above=0.0)
    if not traced(rate) and not 1e-150 <= rate <= 1e150:
        raise ValueError(f"`learning_rate`: got {rate}, whose square leaves float64; give 1e-150 to 1e150")
