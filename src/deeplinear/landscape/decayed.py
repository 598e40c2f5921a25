r"""The landscape under weight decay, $L + \frac{\gamma}{2} \sum_l \|W_l\|_F^2$, with white inputs.

At a critical point $W_{l+1}^T W_{l+1} = W_l W_l^T$: decay balances, and nothing moves there. So each is 0-balanced and
aligned with modes of the data: any set of modes is learned, each to a root of $z^{h-2} (s - z^h) = \gamma$ with $u =
z^h$, and the others are 0. The Hessian is negative along a root that is not stable, and where a stronger mode is left
out for a weaker one: the exchange of mode j by i has $z_j^{2h-2} + \gamma - s_i z_j^{h-2}$, with the sign of $s_j -
s_i$. In two layers a direction leads from a mode that is left out although it could be learned; deeper none does.
Losses of another scale c: $\gamma / c$ in the place of $\gamma$, and c times the loss.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import checks_arguments
from .._linalg import from_svd, haar
from .._types import Key
from ..decayed_modes import decay_thresholds, decayed_fixed_points
from ..init.arguments import check_key
from ..network import Network
from ..objectives import SquaredError
from .target import EQUAL, Target


class DecayedModes(NamedTuple):
    """Roots and thresholds of every mode of the data, largest singular value first, each of shape (mode,).

    >>> modes = decayed_modes(SquaredError.from_singular_values([2.0, 1.0], 2, 2), depth=2, weight_decay=1.5)
    >>> modes.stable.tolist(), modes.best.tolist()
    ([0.5, nan], [0.5, 0.0])
    """

    s: np.ndarray
    """Singular values."""
    exists: np.ndarray
    """gamma_max: the weight decay above which 0 is a mode's only rest."""
    optimal: np.ndarray
    """gamma_*: the weight decay above which a mode is not worth learning."""
    unstable: np.ndarray
    """Strength of the smaller root, from which a mode falls to 0 or rises; NaN where there is none."""
    stable: np.ndarray
    """Strength of the larger root; NaN where there is none."""
    best: np.ndarray
    """Strength at the global minimum, where the widths allow all modes."""


@checks_arguments
def decayed_modes(objective: SquaredError, depth: int, weight_decay: float) -> DecayedModes:
    r"""What weight decay makes of every mode: `exact.decay_thresholds` and `exact.decayed_fixed_points` of all.

    Thresholds are in units of `weight_decay` for this objective's loss scale. Raises `ValueError` for inputs that are
    not white, one layer, and a decay that is not above 0.

    >>> modes = decayed_modes(SquaredError.from_singular_values([1.7, 0.5], 2, 2), depth=3, weight_decay=0.6)
    >>> modes.exists.round(4).tolist(), modes.optimal.round(4).tolist()
    ([0.9586, 0.1875], [0.8052, 0.1575])
    >>> modes.stable.round(4).tolist(), modes.best.round(4).tolist()
    ([1.1227, nan], [1.1227, 0.0])
    """
    target, gamma = _problem(objective, depth, weight_decay)
    s = np.asarray(target.sigma)[: min(target.d_x, target.d_y)]
    thresholds = [decay_thresholds(x, depth) for x in s]
    exists, optimal = (np.array([getattr(t, name) for t in thresholds]) for name in ("exists", "optimal"))
    low, high = np.array([_roots(x, depth, gamma) for x in s]).T
    best = np.where((gamma < optimal) & np.isfinite(high), high, 0.0)
    return DecayedModes(s, exists * target.factor, optimal * target.factor, low, high, best)


@dataclass(frozen=True, eq=False)
class DecayedPoint:
    """A critical point of the loss with weight decay.

    >>> point = decayed_point(SquaredError.from_singular_values([2.0, 1.0], 2, 2), (2, 3, 2), 0.5, [1])
    >>> point.kind, point.value, point.network(0).widths
    ('strict saddle', 1.375, (2, 3, 2))
    """

    objective: SquaredError
    widths: tuple[int, ...]
    weight_decay: float
    signature: tuple[int, ...]
    """Modes that are learned, from 1."""
    strengths: np.ndarray
    """u of every mode, shape (mode,)."""
    value: float
    """Loss and decay, $L + \\frac{\\gamma}{2} \\sum_l \\|W_l\\|^2$."""
    kind: str
    """"global minimum", "local minimum" or "strict saddle"."""

    def network(self, key: Key) -> Network:
        """One of its networks, which differ by rotations of the hidden layers (and of modes of equal strength)."""
        U, _, V = self.objective.modes
        learned, rank = np.flatnonzero(self.strengths), max(len(self.signature), 1)  # no layer of width 0
        chosen = learned if learned.size else np.zeros(1, int)
        z = jnp.asarray(self.strengths[chosen] ** (1 / (len(self.widths) - 1)))
        keys = jax.random.split(check_key(key), len(self.widths))
        hidden = [haar(k, d, rank) for k, d in zip(keys, self.widths[1:-1], strict=False)]
        frames = [V[:, chosen], *hidden, U[:, chosen]]
        return Network([from_svd(above, z, below) for below, above in pairwise(frames)])


@checks_arguments
def decayed_minima(objective: SquaredError, widths: Sequence[int], weight_decay: float) -> list[DecayedPoint]:
    r"""All local minima of the loss with weight decay, up to symmetry, from the fewest learned modes to the most.

    The k strongest modes are learned and the others are 0: in two layers k is the number of modes with $s > \gamma$ (or
    that fit the widths), and this is the only minimum; deeper every k with $\gamma < \gamma_{\max}(s_k)$ is one, and
    the global one has all modes with $\gamma < \gamma_*(s_k)$. Assumes white inputs. Raises `ValueError` as
    `decayed_modes` does, and for widths that do not fit.

    >>> objective = SquaredError.from_singular_values([1.7, 1.2], 2, 2)
    >>> [(point.signature, point.kind) for point in decayed_minima(objective, (2, 2, 2, 2), 0.55)]
    [((), 'local minimum'), ((1,), 'global minimum'), ((1, 2), 'local minimum')]

    Source: derived here, from the survey's Proposition 10 (Altafini) for the decay of the imbalances.
    """
    modes = decayed_modes(objective, len(widths) - 1, weight_decay)
    most = min(int(np.sum(np.isfinite(modes.stable))), *map(int, widths))
    fewest = most if len(widths) == 3 else 0
    return [decayed_point(objective, widths, weight_decay, range(1, k + 1)) for k in range(fewest, most + 1)]


@checks_arguments
def decayed_point(
    objective: SquaredError,
    widths: Sequence[int],
    weight_decay: float,
    signature: Iterable[int],
    unstable: Iterable[int] = (),
) -> DecayedPoint:
    r"""The critical point at which the modes of `signature` are learned, those also in `unstable` to the smaller root.

    Raises `ValueError` for modes that have no such root at this decay, for more of them than the narrowest layer has
    units, and as `decayed_modes` does.

    >>> objective = SquaredError.from_singular_values([1.7, 1.2], 2, 2)
    >>> decayed_point(objective, (2, 2, 2, 2), 0.5, [1, 2], unstable=[2]).kind
    'strict saddle'
    """
    widths, signature, unstable = tuple(map(int, widths)), tuple(sorted(set(signature))), set(unstable)
    modes = decayed_modes(objective, len(widths) - 1, weight_decay)
    target = Target.of(objective)
    target.check_widths(widths)
    if len(signature) > min(widths) or not unstable <= set(signature) <= set(range(1, modes.s.size + 1)):
        raise ValueError(
            f"`signature`: got {signature}, `unstable`: {tuple(sorted(unstable))}; give at most {min(widths)} of "
            f"the modes 1 to {modes.s.size}, and as unstable some of them"
        )
    strengths = np.zeros(modes.s.size)
    for k in signature:
        strengths[k - 1] = (modes.unstable if k in unstable else modes.stable)[k - 1]
        if np.isnan(strengths[k - 1]):
            raise ValueError(
                f"`signature`: mode {k} has no such root at weight decay {weight_decay:g}; up to "
                f"{modes.exists[k - 1]:g} it has a stable one, and an unstable one from three layers on"
            )
    value = _value(target, len(widths) - 1, weight_decay, strengths)
    kind = "strict saddle" if unstable or _leaves(modes, widths, signature) else "local minimum"
    if kind == "local minimum":
        lowest = np.where(np.arange(modes.s.size) < min(widths), modes.best, 0.0)
        least = _value(target, len(widths) - 1, weight_decay, lowest)
        if value <= least + 1e-12 * max(abs(least), _value(target, len(widths) - 1, weight_decay, 0 * lowest)):
            kind = "global minimum"
    return DecayedPoint(objective, widths, float(weight_decay), signature, strengths, value, kind)


def _leaves(modes: DecayedModes, widths: tuple[int, ...], signature: tuple[int, ...]) -> bool:
    """Whether a mode that is left out is stronger than one that is learned, or grows from 0 in two layers."""
    learned = np.isin(np.arange(1, modes.s.size + 1), signature)
    left = modes.s[~learned].max(initial=0.0)
    weakest = modes.s[learned].min(initial=np.inf)
    grows = len(widths) == 3 and len(signature) < min(widths) and np.isfinite(modes.stable[~learned]).any()
    return bool(left - weakest > EQUAL * modes.s.max(initial=0.0) or grows)


def _value(target: Target, depth: int, weight_decay: float, u: np.ndarray) -> float:
    r"""$L_{\min} + \frac{c}{2} \sum (s - u)^2 + \frac{\gamma h}{2} \sum u^{2/h}$."""
    s = target.sigma.copy()
    s[: u.size] -= u
    return (
        target.minimum + target.factor / 2 * float(s @ s) + weight_decay * depth / 2 * float(np.sum(u ** (2 / depth)))
    )


def _roots(s: float, depth: int, gamma: float) -> tuple[float, float]:
    """Strengths at the unstable and at the stable root; NaN where there is none."""
    points = decayed_fixed_points(s, depth, gamma)
    positive = points.strengths > 0
    if not (positive & points.stable).any():
        return np.nan, np.nan
    low = points.strengths[positive & ~points.stable]
    return float(low[0]) if low.size else np.nan, float(points.strengths[positive & points.stable][0])


def _problem(objective: Any, depth: int, weight_decay: float) -> tuple[Target, float]:
    """Target, and the decay beside the half-mean loss."""
    target = Target.of(objective)
    if not objective.whitened:
        raise ValueError(
            "`objective`: its inputs are not white, and modes under weight decay mix; whiten them (`Moments.whitened`)"
        )
    if depth < 2:
        raise ValueError("`depth`: with one layer the loss with decay is convex (ridge regression); give two or more")
    if not (np.isfinite(weight_decay) and weight_decay > 0):
        raise ValueError(
            f"`weight_decay`: got {weight_decay}; give a finite number above 0 (`critical_points` lists those without)"
        )
    return target, weight_decay / target.factor
