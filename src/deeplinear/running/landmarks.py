"""What the host needs to know of a problem before and after a run: of squared error by numpy, else compiled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._linalg import as_numpy, namespace, thin_svd
from .._trees import remembered
from ..network import Network
from ..objectives import SquaredError, gradient_of, knows_minimum
from .compiling import jitted
from .packing import Packed

EPS = float(np.finfo(np.float64).eps)
FINEST_TOLERANCE = 1e-14  # smallest excess loss to be asked for, relative to what there is to explain
FINEST_WEIGHTS = 1e-12  # error of the end-to-end matrix, relative, that float64 can be asked for
ROUNDING = 1e-14  # share of a loss that rounding of its parts can be
CERTIFIED = 0.01  # share of what there is to explain that a minimum may leave, however coarse the tolerance

AT_REST = {
    "global minimum": (
        "the excess loss fell to the tolerance: {excess:.3g} above the smallest that the widths allow{rest}"
    ),
    "saddle": "the gradient is zero to rounding, {excess:.3g} above the smallest loss: a saddle, not a minimum",
    "critical point": "the gradient is zero to rounding; no closed form says here whether it is a minimum",
}
"""What an ending says of a run that came to rest."""
UNEXPLAINED = ", {share:.2g} of what the inputs can explain"
NOTHING = "there is nothing to learn: the start has the smallest loss already, and no weight moves"


class Landmarks(NamedTuple):
    """Scales of a problem at its start, on the host; None where the objective has no closed form."""

    noise: float
    """Rounding error of the gradient with respect to the end-to-end matrix."""
    matrix_size: float
    """Norm of the optimum, or of the lowest point straight down from zero; 0 where both are unknown."""
    excess: float | None
    excess_of_zero: float | None
    tail: float
    """What a bottleneck cannot reach: smallest loss of its rank minus smallest loss."""
    explainable: float | None
    """By how much the smallest loss is below that of the best constant; None: the data's means are not known."""
    mode_scales: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    """U, V and 1 / (final strength) of the modes, 0 where that is 0."""

    @property
    def progressions(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """(T, d_y, d_x) -> (T, mode): how much of its final strength u_a^T W* v_a each mode holds."""
        if self.mode_scales is None:
            return None
        U, V, scales = self.mode_scales
        return lambda matrices: np.sum(U[None] * (matrices @ V), axis=1) * scales

    def learned(self, W: np.ndarray) -> tuple[int, ...] | None:
        """Numbers (from 1) of the modes beyond half of their final strength."""
        if self.progressions is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # a run may end beyond float64
            return tuple((np.flatnonzero(self.progressions(W[None])[0] > 0.5) + 1).tolist())

    def goal(self, tolerance: float) -> tuple[float | None, float]:
        """Excess loss that counts as converged (None: unknown), and the rtol that it takes to get there.

        `tolerance` is a share of the start's excess loss, or of what there is to explain (`scale`) where that is less.
        At a minimum the step is as long as stability allows and the weights wander by rtol of their size.
        """
        if self.excess is None or self.excess_of_zero is None:
            return None, 1.0
        whole, scale = self.whole, self.scale
        goal = max(tolerance * min(self.excess, scale), FINEST_TOLERANCE * scale, FINEST_WEIGHTS**2 * whole)
        return goal, 0.1 * (goal / whole) ** 0.5 if whole > 0 else 1.0

    def unexplained(self, excess: float | None) -> float | None:
        """Share of what there is to explain that this excess loss leaves; None where nothing is or that is unknown."""
        there_is = excess is not None and (self.excess_of_zero or 0.0) > 0
        return excess / self.scale if there_is and excess is not None else None

    def is_minimum(self, excess: float, goal: float) -> bool:
        """Whether an excess loss within the goal is that of a minimum, and no rest that the goal is too coarse for."""
        return excess <= goal and (self.unexplained(excess) or 0.0) <= CERTIFIED

    def words(self, kind: str, excess: float | None) -> str:
        """What an ending at rest says of a known excess loss."""
        share = self.unexplained(excess)
        if kind == "global minimum" and self.noise == 0 and self.whole == 0:
            return NOTHING
        rest = "" if share is None else UNEXPLAINED.format(share=share)
        return AT_REST[kind].format(excess=np.nan if excess is None else excess, rest=rest)

    @property
    def whole(self) -> float:
        """Excess loss of the zero map; where there is nothing to learn that of the start, which decays to zero."""
        return (self.excess_of_zero or self.excess) or 0.0

    @property
    def scale(self) -> float:
        """Loss that there is to explain: by y's variation about its mean, where known, or that of the zero map.

        A large mean is explained at once, and says nothing of the rest.
        """
        if self.explainable is None or self.explainable <= FINEST_WEIGHTS**2 * self.whole:
            return self.whole
        return min(self.whole, self.explainable)


def landmarks(objective: Any, network: Network) -> Landmarks:
    """The landmarks of a run that starts at `network`."""
    if not isinstance(objective, SquaredError):
        return marks_of(_survey(objective, network))
    host, rank = objective.on_host, network.max_rank
    with np.errstate(over="ignore", invalid="ignore"):  # a start may be beyond float64
        W = as_numpy(network).end_to_end
        of_zero = remembered(host, ("landmarks", rank), lambda: marks_of(_survey_at(host, 0 * W, rank)))
        noise = of_zero.noise / 2 + EPS * float(np.linalg.norm(host.gradient(W)))
        return of_zero._replace(noise=noise, excess=float(host.excess(W, rank)))


def marks_of(surveyed: tuple) -> Landmarks:
    """The landmarks in what `survey` returns."""
    at_start, at_zero, ahead, known = surveyed
    noise = EPS * (float(at_start) + float(at_zero))
    if known is None:
        return Landmarks(noise, float(ahead), None, None, 0.0, None, None)
    excess, of_zero, tail, explainable, modes = known
    if modes is not None:
        # here and not in compiled code: what calls LAPACK there waits for JAX to import scipy.linalg
        sigma_yx, best = (np.asarray(part) for part in modes)
        U, _, V = thin_svd(sigma_yx)
        targets = np.sum(U * (best @ V), axis=0)
        seen = np.abs(targets) > 1e-12 * np.abs(targets).max(initial=0.0)
        modes = (U, V, np.where(seen, 1 / np.where(seen, targets, 1.0), 0.0))
    explainable = None if explainable is None else float(explainable)
    return Landmarks(noise, float(ahead), float(excess), float(of_zero), float(tail), explainable, modes)


def survey(objective: Any, network: Network) -> tuple:
    """Gradients at the start and at zero; sizes, losses and modes where the objective has closed forms, else None."""
    return _survey_at(objective, network.end_to_end, network.max_rank)


def _survey_at(objective: Any, W: Any, rank: int) -> tuple:
    gradient, xp = gradient_of(objective), namespace(W)
    norm, zero = xp.linalg.norm, xp.zeros_like(W)
    sizes = norm(gradient(W)), norm(gradient(zero)), _size_ahead(objective, zero)
    if not knows_minimum(objective, rank):
        return *sizes, None
    losses = objective.excess(W, rank), objective.excess(zero, rank)
    if not isinstance(objective, SquaredError):
        return *sizes, (*losses, jnp.zeros(()), None, None)
    tail = objective.minimum_at_rank(rank) - objective.minimum
    explainable = None
    if objective.variation is not None:
        explainable = objective.variation - objective.minimum - tail
        # a difference that is rounding of the whole: the inputs may explain all that varies
        explainable = xp.where(abs(explainable) > ROUNDING * losses[1], explainable, objective.variation)
    return *sizes, (*losses, tail, explainable, (objective.sigma_yx, objective.optimum_at_rank(rank)))


_survey = jitted(survey, 1)


def _size_ahead(objective: Any, zero: Any) -> Any:
    """Norm of the optimum, or |G|^3 / <G, H G> at zero, where the loss along -G has its minimum to second order."""
    if isinstance(objective, SquaredError):
        return namespace(zero).linalg.norm(objective.optimum)
    if not hasattr(objective, "hessian_vector"):
        return jnp.zeros(())
    G = gradient_of(objective)(zero)
    bend = jnp.sum(G * objective.hessian_vector(zero, G))
    return jnp.where(bend > 0, jnp.linalg.norm(G) ** 3 / jnp.where(bend > 0, bend, 1.0), 0.0)


class Standing(NamedTuple):
    """Where a network stands."""

    W: Any
    loss: Any
    excess: Any


def stand_of(objective: Any, network: Network) -> Standing:
    """End-to-end matrix, loss, and loss above the smallest that the widths allow (None: unknown)."""
    W = network.end_to_end
    excess = objective.excess(W, network.max_rank) if knows_minimum(objective, network.max_rank) else None
    return Standing(W, objective(W), excess)


def standing(objective: Any, network: Network) -> Standing:
    """`stand_of` on the host: compiled once per shape, but for squared error, which numpy computes."""
    if isinstance(objective, SquaredError):
        with np.errstate(over="ignore", invalid="ignore"):  # a run may end beyond float64
            return stand_of(objective.on_host, as_numpy(network))
    return _standing(objective, network).unpack()


_standing = jitted(lambda objective, network: Packed.of(stand_of(objective, network)), 1)
