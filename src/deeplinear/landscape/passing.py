"""The saddles that a trajectory visits on its way: when, how close, how fast they are left, and where it ends."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp

from .._dataset import Dataset
from ..conventions import TIME_UNIT
from ..curvature import lowest_eigenvalue
from ..network import Network
from ..obstructions import Obstruction, obstruction
from ..trajectory import Trajectory
from .carried import critical_near
from .target import Target

PATIENCE = 20.0
"""A predicted escape is looked for over this many times the length of the visit, and as many time constants."""


class Visit(NamedTuple):
    """A stretch of a trajectory whose end-to-end matrix is nearer to one critical value's than to any other's.

    >>> from deeplinear import SquaredError, gradient_flow
    >>> run = gradient_flow(SquaredError.from_moments([[1.0]]), Network([[[0.01]], [[0.01]]]))
    >>> saddle_path(run).visits[0].value
    0.5
    """

    signature: tuple[int, ...]
    """The modes learned there, from 1."""
    entry: float
    exit: float
    """Time at which the next signature is nearer; infinity for the last visit."""
    closest: float
    """Recorded time at which the distance is smallest."""
    distance: float
    r"""Smallest $\|\Phi - S \Sigma\|_F$, in the quotient: end-to-end matrices on whitened inputs."""
    weight_distance: float
    """Distance of the weights, at the closest time, from the critical point `saddle`: an upper bound of the distance
    from the set; NaN where the network does not carry the modes yet."""
    loss: float
    """Loss at the closest time."""
    value: float
    """Loss of the critical point."""
    escape_rate: float
    """Minus the lowest eigenvalue of the Hessian at `saddle`, not below 0; NaN without one."""
    predicted_exit: float
    """Exit that the weights at the closest time imply to first order; infinity: no mode is left that can grow."""
    saddle: Network | None
    """The critical point, made of the network at the closest time."""


@dataclass(frozen=True)
class SaddlePath:
    """What `saddle_path` returns.

    >>> from deeplinear import SquaredError, gradient_flow
    >>> run = gradient_flow(SquaredError.from_moments([[1.0]]), Network([[[0.01]], [[0.01]]]))
    >>> saddle_path(run).order
    (1,)
    """

    visits: tuple[Visit, ...]
    order: tuple[int, ...]
    """Modes in the order in which they were learned for good; one that is not learned at the end is missing."""
    obstruction: Obstruction | None
    """What keeps the exact flow from the minimum, and the loss at which it ends; None: nothing does."""

    def dataset(self) -> xr.Dataset:
        """The visits as a table: dimension `visit`, from 1; `learned` (visit, mode) says which modes are.

        >>> from deeplinear import SquaredError, gradient_flow
        >>> run = gradient_flow(SquaredError.from_moments([[1.0]]), Network([[[0.01]], [[0.01]]]))
        >>> saddle_path(run).dataset()["learned"].values.tolist()
        [[False], [True]]
        """
        modes = max((k for visit in self.visits for k in visit.signature), default=1)
        learned = [[k in visit.signature for k in range(1, modes + 1)] for visit in self.visits]
        names = [name for name in Visit._fields if name not in ("signature", "saddle")]
        variables: dict[str, Any] = {name: ("visit", [getattr(visit, name) for visit in self.visits]) for name in names}
        for name in ("entry", "exit", "closest", "predicted_exit"):
            variables[name] += ({"units": TIME_UNIT},)
        variables["learned"] = (("visit", "mode"), np.array(learned, dtype=bool))
        coordinates = {"visit": np.arange(1, len(self.visits) + 1), "mode": np.arange(1, modes + 1)}
        attributes: dict[str, Any] = {"order": list(self.order)}
        if self.obstruction is not None:
            attributes |= {"obstruction": self.obstruction.reason, "predicted_loss": self.obstruction.loss}
        return Dataset(variables, coordinates, attributes)


def saddle_path(trajectory: Trajectory, objective: Any = None) -> SaddlePath:
    r"""The critical points that a trajectory passes, in order, from the start to where it ends.

    - A visit lasts while one signature S is the nearest, $\|\Phi(t) - S \Sigma\|_F$ smallest over all signatures that
      the widths allow; $\Phi$ is the end-to-end matrix in the coordinates in which $\Sigma$ is diagonal. A mode then
      counts as learned beyond half of its final strength. Among equal singular values the learned directions are the
      eigenvectors of their block of $\Phi$, and the lowest numbers stand for them. Times in between are interpolated.
      Passing through a cell is no visit to a saddle by itself: `distance` says how close it came.
    - `weight_distance` and `escape_rate` belong to `saddle`, the critical point that the network at the closest time
      becomes when what carries S is brought to its final strength and the two smallest blocks of the rest are cut away.
    - `predicted_exit`: the rest of the network, at the closest time, run alone on what is left to learn until the next
      mode is half learned. To first order in the rest that is what the whole network does, if what carries S is
      orthogonal to the rest, as in balanced networks. Where S fills the smallest width a mode can only be exchanged:
      NaN for saddles.

    `trajectory` is of one network; `objective` a `SquaredError` (None: what the trajectory descended). Raises
    `ValueError` for ensembles, other objectives and a network of one layer, which has no saddles.

    >>> from deeplinear import SquaredError, gradient_flow, init
    >>> objective = SquaredError.from_singular_values([3.0, 1.0], 2, 2)
    >>> path = saddle_path(gradient_flow(objective, init.gaussian(0, (2, 3, 2), scale=1e-3)))
    >>> [visit.signature for visit in path.visits], path.order
    ([(), (1,), (1, 2)], (1, 2))
    >>> abs(path.visits[1].predicted_exit / path.visits[1].exit - 1) < 0.01
    True

    Source: Jacot et al. (2021) for saddle-to-saddle dynamics; Altafini, section 5.3.1.
    """
    objective = trajectory.objective if objective is None else objective
    target, widths = Target.of(objective), trajectory[0].widths
    if trajectory.kept.weights[0].ndim != 3:
        raise ValueError("`trajectory`: is an ensemble; give one of its members, `trajectory.member(b)`")
    if len(widths) == 2:
        raise ValueError("`trajectory`: is of a network with one layer, which has no saddles")
    target.check_widths(widths)
    ts, form = np.asarray(trajectory.ts), target.form
    Phi = form.output_map @ np.asarray(trajectory.end_to_end) @ form.input_map
    shares = strengths(target, Phi)
    learned = nearest_signature(target, shares, target.max_rank(widths))
    changes = (1 + np.flatnonzero(np.any(learned[1:] != learned[:-1], axis=1))).tolist()
    bounds = [0, *changes, len(ts)]
    crossings = [_crossing(target, ts, shares, learned, i) for i in changes]
    visits = []
    for k, (first, after) in enumerate(pairwise(bounds)):
        entry = crossings[k - 1] if k else float(ts[0])
        leaves = crossings[k] if k < len(crossings) else np.inf
        visits.append(_visit(target, objective, trajectory, Phi, learned[first], slice(first, after), entry, leaves))
    return SaddlePath(tuple(visits), _order(learned), obstruction(objective, trajectory[0]))


def strengths(target: Target, Phi: np.ndarray) -> np.ndarray:
    r"""Strength of every mode over its final one, shape (..., rank of $\Sigma$), of end-to-end matrices (..., d_y,
    d_x).

    $\Phi_{kk} / \sigma_k$; for equal singular values the eigenvalues of the symmetric part of their block, descending.
    """
    groups, shares = target.groups[: target.rank], np.zeros((*Phi.shape[:-2], target.rank))
    for group in range(groups.max(initial=-1) + 1):
        at = np.flatnonzero(groups == group)
        block = Phi[..., at[:, None], at[None, :]] / target.sigma[at, None]
        shares[..., at] = np.linalg.eigvalsh((block + np.swapaxes(block, -1, -2)) / 2)[..., ::-1]
    return shares


def nearest_signature(target: Target, shares: np.ndarray, max_rank: int) -> np.ndarray:
    r"""Which modes the nearest $S \Sigma$ has learned, boolean, shape (..., rank); at most `max_rank` of them.

    Learning mode k brings $S \Sigma$ nearer by $\sigma_k^2 (2 x_k - 1)$, x the share of its strength.
    """
    gains = _gains(target, shares)
    places = np.argsort(np.argsort(-gains, axis=-1, kind="stable"), axis=-1, kind="stable")
    return (gains > 0) & (places < max_rank)


def _gains(target: Target, shares: np.ndarray) -> np.ndarray:
    return target.sigma[: target.rank] ** 2 * (2 * shares - 1)


def _crossing(target: Target, ts: np.ndarray, shares: np.ndarray, learned: np.ndarray, i: int) -> float:
    """Time between ts[i - 1] and ts[i] at which both signatures are equally near, on a straight line."""
    change = learned[i].astype(float) - learned[i - 1]
    before, after = (float(_gains(target, shares[k]) @ change) for k in (i - 1, i))
    part = -before / (after - before) if after > before else 1.0
    return float(ts[i - 1] + min(max(part, 0.0), 1.0) * (ts[i] - ts[i - 1]))


def _frame(target: Target, Phi: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Orthonormal columns U of the learned directions: axes, or eigenvectors among equal singular values."""
    groups, columns = target.groups[: target.rank], []
    for group in range(groups.max(initial=-1) + 1):
        at = np.flatnonzero(groups == group)
        block = Phi[np.ix_(at, at)]
        vectors = np.linalg.eigh((block + block.T) / 2)[1][:, ::-1]
        frame = np.zeros((target.d_y, at.size))
        frame[at] = vectors
        columns.append(frame[:, : np.count_nonzero(learned[at])])
    return np.concatenate(columns, axis=1) if columns else np.zeros((target.d_y, 0))


def _visit(
    target: Target,
    objective: Any,
    trajectory: Trajectory,
    Phi: np.ndarray,
    learned: np.ndarray,
    here: slice,
    entry: float,
    leaves: float,
) -> Visit:
    signature = tuple(int(k) + 1 for k in np.flatnonzero(learned))
    distances = []
    for matrix in Phi[here]:
        frame = _frame(target, matrix, learned)
        distances.append(float(np.linalg.norm(matrix - frame @ frame.T @ target.matrix)))
    index = here.start + int(np.argmin(distances))
    ts, network = np.asarray(trajectory.ts), trajectory[index]
    near = critical_near(target, network, _frame(target, Phi[index], learned))
    loss = float(objective(network.end_to_end))
    away, rate, exit_time = np.nan, np.nan, np.nan
    if near is not None:
        away, rate = near.distance, max(0.0, -lowest_eigenvalue(objective, near.network))
        last = float(ts[-1]) if np.isinf(leaves) else leaves
        room = len(signature) < target.max_rank(network.widths)
        wait = _escape(target, objective, near.rest, signature, last - entry) if room else np.inf
        exit_time = float(ts[index]) + wait
        if not room and target.value(signature) > target.value(tuple(range(1, len(signature) + 1))):
            exit_time = np.nan
    value = target.value(signature)
    closest, distance = float(ts[index]), min(distances)
    saddle = None if near is None else near.network
    return Visit(signature, entry, leaves, closest, distance, away, loss, value, rate, exit_time, saddle)


def _escape(
    target: Target, objective: Any, rest: tuple[np.ndarray, ...], signature: tuple[int, ...], stay: float
) -> float:
    """Time until the rest of the network, alone, has half learned its first mode; infinity if it does not."""
    shapes, cuts = [D.shape for D in rest], np.cumsum([D.size for D in rest])[:-1]
    open_modes = np.ones(target.sigma.size, dtype=bool)
    open_modes[[k - 1 for k in signature]] = False
    left = target.matrix * open_modes[:, None]
    sigma_xx = target.factor * np.asarray(objective.sigma_xx)
    wanted = target.form.output_map.T @ left @ target.form.inverse_input_map @ sigma_xx
    split = lambda flat: [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]

    def slopes(t: float, flat: np.ndarray) -> np.ndarray:
        layers = split(flat)
        below = [np.eye(shapes[0][1])]
        for D in layers:
            below.append(D @ below[-1])
        slope, above = [], wanted - below[-1] @ sigma_xx
        for D, B in zip(layers[::-1], below[-2::-1], strict=True):
            slope.append((above @ B.T).ravel())
            above = D.T @ above
        return np.concatenate(slope[::-1])

    def learned(t: float, flat: np.ndarray) -> float:
        W = target.form.input_map
        for D in split(flat):
            W = D @ W
        return float(strengths(target, target.form.output_map @ W).max(initial=0.0)) - 0.5

    learned.terminal = True  # type: ignore[attr-defined]
    constant = 1 / (target.factor * max(float(np.abs(left).max()), 1e-300))
    start = np.concatenate([D.ravel() for D in rest])
    horizon = PATIENCE * (stay + constant)
    found = solve_ivp(slopes, (0, horizon), start, "DOP853", events=learned, rtol=1e-8, atol=1e-14)
    return float(found.t[-1]) if found.status == 1 else np.inf


def _order(learned: np.ndarray) -> tuple[int, ...]:
    """Modes by the last time at which they became learned."""
    stays = {int(k): int(np.flatnonzero(~learned[:, k])[-1:].sum()) for k in np.flatnonzero(learned[-1])}
    return tuple(k + 1 for k in sorted(stays, key=lambda k: (stays[k], k)))
