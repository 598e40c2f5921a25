"""Half-times read from exact solutions: closed for decoupled modes, by root finding on the strengths otherwise."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.interpolate import KroghInterpolator

from ..exact.aligned import Decoupled
from ..exact.deep import BALANCED, is_still, unbalanced_mode
from ..exact.dispatch import Solution
from ..exact.end_to_end import Balanced
from ..exact.lambda_balanced import TwoLayer
from ..exact.modes import half_time
from ..exact.pair import unbalanced_pair_time
from ..exact.rated import Rated
from ..network import Network
from ..objectives import SquaredError

CHUNK = 64  # times of one evaluation: solutions are compiled for a number of times
POINTS = 17  # of a search, per mode
ROUNDS = 2  # of refinement; then interpolation: their distance is 1/4096 of the horizon
NEIGHBOURS = 3  # on either side, that the interpolation uses
FADED = 40.0  # exponent at which rounding has grown to the whole, or a rest has faded to it
DOUBLINGS = 6  # of the horizon: slow competition between modes takes longer than their own growth
MAX_STEPS = 1000  # of an integration, about a millisecond each
LONGEST = 5.0  # times as many for the curves of one run
SAME = 1e-8  # distance from a permutation below which modes of data and solution are the same, with signs
NOTHING = 1e-12  # targets this small against the largest are zero


def evaluated(solution: Solution, ts: Any) -> tuple[np.ndarray, np.ndarray]:
    """End-to-end matrices (time, d_y, d_x) and losses (time,) of an exact solution, compiled once for all lengths.

    NaN at times to which integrating would take more than a few seconds.
    """
    ts = np.asarray(ts, dtype=float)
    if isinstance(solution, Rated):
        W, loss = evaluated(solution.at_unit_rates, ts)
        return solution.scale * W, loss
    if isinstance(solution, Balanced):
        near = ts <= LONGEST * _few_steps(solution.objective, solution.network) / float(solution.objective.factor)
        curve = solution(ts[near])
        W, loss = np.full((ts.size, *solution.objective.optimum.shape), np.nan), np.full(ts.size, np.nan)
        W[near], loss[near] = np.asarray(curve.end_to_end), np.asarray(curve.loss)
        return W, loss
    padded = np.concatenate([ts, np.full(-ts.size % CHUNK, ts[-1] if ts.size else 0.0)])
    parts = [solution(part) for part in np.split(padded, padded.size // CHUNK)] if _is_compiled(solution) else []
    if not parts:
        curve = solution(ts)
        return np.asarray(curve.end_to_end), np.asarray(curve.loss)
    W, loss = (np.concatenate([np.asarray(getattr(p, name)) for p in parts]) for name in ("end_to_end", "loss"))
    return W[: ts.size], loss[: ts.size]


def half_times(objective: SquaredError, network: Network, solution: Solution) -> np.ndarray:
    """Time at which every mode of the data has half of its target; inf: never; NaN: later than was looked."""
    if isinstance(solution, Decoupled):
        order = _order(objective, solution)
        if order is not None:
            return _decoupled(solution)[order]
    U, s, V = (np.asarray(part) for part in objective.modes)
    targets = np.sum(U * (np.asarray(objective.optimum_at_rank(network.max_rank)) @ V), axis=0)
    targets = np.where((np.abs(targets) > NOTHING * np.abs(targets).max()) & (s > NOTHING * s[0]), targets, 0.0)
    strengths = strengths_of(objective, solution)
    horizons = _horizons(objective, network, solution) / float(objective.factor)
    doublings = 0 if isinstance(solution, Balanced) else DOUBLINGS
    times = first_times(strengths, targets / 2, horizons, doublings)
    if isinstance(solution, TwoLayer):
        # a start on a saddle's stable manifold leaves it by rounding alone; the limit knows
        W = np.asarray(solution.limit().end_to_end)
        missed = np.sum(U * (W @ V), axis=0) * np.sign(targets) < np.abs(targets) / 2
        times = np.where(missed, np.inf, times)
    return np.where(targets == 0, np.inf, times)


def strengths_of(objective: SquaredError, solution: Solution) -> Callable[[Any], np.ndarray]:
    """u_a^T W(t) v_a in the modes of the data: times (time,) -> (time, mode)."""
    if isinstance(solution, Decoupled):
        order = _order(objective, solution)
        if order is not None:  # small strengths keep digits that W loses
            return lambda ts: np.asarray(solution(ts).strengths)[:, order]
    U, _, V = (np.asarray(part) for part in objective.modes)
    return lambda ts: np.sum(U[None] * (evaluated(solution, ts)[0] @ V), axis=1)


def first_times(
    curves: Callable[[np.ndarray], np.ndarray], levels: np.ndarray, horizons: np.ndarray, doublings: int = 0
) -> np.ndarray:
    """When each of smooth curves, times (time,) -> (time, curve), first has its level; 0 if at once, NaN if not seen.

    Looked for up to `horizons`, doubled for those that were not seen; a level of 0 is not looked for.

    >>> first_times(lambda ts: np.expm1(ts)[:, None], np.array([1.0]), np.array([3.0])).round(12).tolist()
    [0.69314718056]
    """
    side, times = np.sign(levels), np.full(levels.shape, np.nan)
    times[side * curves(np.zeros(1))[0] >= np.abs(levels)] = 0.0
    wanted = np.flatnonzero(np.isnan(times) & (side != 0) & np.isfinite(horizons))
    above = lambda ts, modes: curves(ts)[:, modes] * side[modes] >= np.abs(levels[modes])
    low, high = np.zeros(levels.shape), horizons.copy()
    for _ in range(doublings + 1):
        ts = np.unique(np.concatenate([np.linspace(low[a], high[a], POINTS) for a in wanted] or [np.zeros(1)]))
        reached = above(ts, wanted)
        seen = reached.any(axis=0)
        for a, i in zip(wanted[seen], np.argmax(reached, axis=0)[seen], strict=True):
            low[a], high[a], times[a] = ts[max(i - 1, 0)], ts[i], np.inf
        wanted = wanted[~seen]
        if not wanted.size:
            break
        low[wanted], high[wanted] = high[wanted], 2 * high[wanted]
    found = np.flatnonzero(np.isinf(times))
    for last in [False] * (ROUNDS - 1) + [True] if found.size else []:
        ts = np.stack([np.linspace(low[a], high[a], POINTS) for a in found])
        order = np.argsort(ts, axis=None)
        values = np.empty((ts.size, levels.size))
        values[order] = curves(ts.ravel()[order])
        for k, a in enumerate(found):
            own = side[a] * values[k * POINTS : (k + 1) * POINTS, a] - abs(levels[a])
            i = max(int(np.argmax(own >= 0)), 1)
            if last:
                start = min(max(i - NEIGHBOURS, 0), POINTS - 2 * NEIGHBOURS)
                near = slice(start, start + 2 * NEIGHBOURS)
                times[a] = _crossing(ts[k, near], own[near])
            low[a], high[a] = ts[k, i - 1], ts[k, i]
    return times


def _crossing(ts: np.ndarray, values: np.ndarray) -> float:
    """Where values that grow with ts pass 0."""
    if (np.diff(values) <= 0).any():  # rounding, or no room left between times
        return float(ts[min(int(np.searchsorted(values >= 0, True)), ts.size - 1)])
    size = values[-1] - values[0]
    return ts[0] + (ts[-1] - ts[0]) * float(KroghInterpolator(values / size, (ts - ts[0]) / (ts[-1] - ts[0]))(0.0))


def _is_compiled(solution: Solution) -> bool:
    return isinstance(solution, TwoLayer)


def _horizons(objective: SquaredError, network: Network, solution: Solution) -> np.ndarray:
    """Until when to look for every mode, in canonical time."""
    s, variances = np.asarray(objective.modes[1]), objective.second_moment.variances
    c, depth = float(variances.max(initial=0.0)), network.depth
    rates = np.where(s > NOTHING * s[0], s, np.inf)
    if depth == 1:
        return np.full(s.shape, FADED / variances.min())
    values = np.linalg.svd(np.asarray(network.end_to_end), compute_uv=False)
    size = float(values[0])
    if not isinstance(solution, Balanced):
        return (FADED + np.log(np.maximum(s / (c * max(size, 1e-300)), 1.0))) / rates
    smallest = float(np.min(values[values > NOTHING * size], initial=np.inf))
    if not np.isfinite(smallest):
        return np.zeros(s.shape)
    own = half_time(np.minimum(smallest, s / c / 10), s, depth, c)
    return np.minimum(4 * np.where(np.isfinite(own), own, 0.0), _few_steps(objective, network))


def _few_steps(objective: SquaredError, network: Network) -> float:
    """Canonical time that an explicit method covers in `MAX_STEPS`, once the network is at its target."""
    size = max(float(np.linalg.norm(np.asarray(W), 2)) for W in (network.end_to_end, objective.optimum))
    c = float(np.linalg.norm(np.asarray(objective.sigma_xx), 2))
    return 3 * MAX_STEPS / max(c * network.depth * size ** (2 - 2 / network.depth), 1e-300)


def _order(objective: SquaredError, solution: Decoupled) -> np.ndarray | None:
    """Which mode of the solution every mode of the data is; None if the solution mixes equal ones."""
    U, _, V = (np.asarray(part) for part in objective.modes)
    overlap = (U.T @ np.asarray(solution.frames[-1])) * (V.T @ np.asarray(solution.frames[0]))
    order = np.argmax(overlap, axis=1)
    known = overlap.max(axis=1) > 1 - SAME
    idle = np.asarray(solution.s) == 0  # no curve: nothing to find
    free = np.setdiff1d(np.flatnonzero(idle), order[known])
    if np.count_nonzero(~known) > free.size:
        return None
    order[~known] = free[: np.count_nonzero(~known)]
    return order


def _decoupled(solution: Decoupled) -> np.ndarray:
    """Half-times of the solution's own modes."""
    xi, s, c = (np.asarray(part) for part in (solution.layer_weights, solution.s, solution.input_variances))
    h, u0 = len(xi), np.prod(xi, axis=0)
    half = np.divide(s, 2 * c, out=np.zeros_like(s), where=c > 0)
    times = np.full(s.shape, np.inf)
    times[(s > 0) & (u0 >= half)] = 0.0
    on = (s > 0) & (u0 < half) & ~is_still(xi, s, c)
    signs, sizes = np.where(np.prod(np.sign(xi), axis=0) < 0, -1.0, 1.0), np.abs(xi)
    if h == 1:
        times[on] = half_time(xi[0, on], s[on], 1, c[on])
    elif h == 2:
        for a in np.flatnonzero(on):
            times[a] = unbalanced_pair_time(half[a], xi[0, a], xi[1, a], s[a], c[a])
    else:
        even = on & (np.ptp(sizes, axis=0) <= BALANCED * sizes.max(axis=0))
        rising = even & (signs > 0)
        times[rising] = half_time(u0[rising], s[rising], h, c[rising])
        for a in np.flatnonzero(on & ~even):
            times[a] = _uneven(xi[:, a], float(s[a]), float(c[a]))
    return times / float(solution.objective.factor)


def _uneven(xi: np.ndarray, s: float, c: float) -> float:
    """Half-time of one mode of three or more layers that are not balanced; inf if it sticks at 0 or starts there."""
    sizes = np.sort(np.abs(xi))
    blocked = sizes[1] - sizes[0] <= BALANCED * sizes[1] and np.prod(np.sign(xi)) <= 0
    if blocked:  # two weights of equal modulus, which none can pass zero
        return np.inf
    rate = s * max(float(np.prod(np.maximum(sizes, sizes[-1] * 1e-3)[1:-1])), 1e-12)
    horizon = np.array([FADED / rate])
    curve = lambda ts: np.prod(unbalanced_mode(ts, xi, s, c), axis=1)[:, None]
    return float(first_times(curve, np.array([s / c / 2]), horizon, 60)[0])
