"""Small random starts: learning times to first order in the size of the start."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import root_scalar

from ..exact.assumptions import TOLERANCE as EXACT
from ..exact.assumptions import Check
from ..exact.modes import half_time, mode_strength
from ..frames import off_axes
from ..network import Network
from ..objectives import SquaredError
from ..plots.learned import groups_of
from .prediction import Prediction

SMALL = 0.1  # how large a random start may be, in units of the mode's own scale, for the first-order theory
SOURCE = "Atanasov, Bordelon and Pehlevan (2022) for the direction of escape"
LOST = 1e-14  # part of a direction, orthogonal to those of earlier modes, that is rounding: the start misses the mode
BLOWN_UP = 1e4  # growth of the weights after which one direction is left and the closed tail takes over


class _Problem(NamedTuple):
    """The problem in the coordinates of the data's modes, on the host, in canonical time."""

    layers: list[np.ndarray]
    U: np.ndarray
    s: np.ndarray
    V: np.ndarray
    variances: np.ndarray
    """v_a^T sigma_xx v_a."""
    inputs: Check
    """Whether the modes are eigenvectors of sigma_xx."""
    factor: float

    @property
    def depth(self) -> int:
        return len(self.layers)

    @property
    def strengths(self) -> np.ndarray:
        return np.sum(self.U * (self.end_to_end @ self.V), axis=0)

    @property
    def end_to_end(self) -> np.ndarray:
        W = self.layers[0]
        for above in self.layers[1:]:
            W = above @ W
        return W


def small_start(objective: SquaredError, network: Network) -> Prediction:
    """First order in a small random start, if the start is small and the inputs are white on the modes."""
    prediction = _canonical(_in_modes(objective, network))
    return prediction._replace(half_times=prediction.half_times / float(objective.factor))


def _in_modes(objective: SquaredError, network: Network) -> _Problem:
    U, s, V = (np.asarray(part) for part in objective.modes)
    layers = [np.asarray(W) for W in network.weights]
    if objective.whitened:
        return _Problem(layers, U, s, V, np.ones_like(s), Check("", "", 0.0, EXACT), float(objective.factor))
    root = np.asarray(objective.root_xx)
    image, variances = root @ (root.T @ V), np.sum((root.T @ V) ** 2, axis=0)
    smallest = objective.second_moment.variances.min(initial=np.inf)
    violation = float(off_axes(V, image, variances, smallest).max(initial=0.0))
    inputs = Check("", "every mode of the data is an eigenvector of sigma_xx", violation, EXACT)
    return _Problem(layers, U, s, V, variances, inputs, float(objective.factor))


def _canonical(problem: _Problem) -> Prediction:
    """The prediction in canonical time."""
    name, depth, c = "small random start", problem.depth, float(problem.variances.mean())
    spread = float(np.ptp(problem.variances) / c) if c > 0 else 1.0
    white = Check(
        name, "sigma_xx is a multiple of the identity on the modes", max(spread, problem.inputs.violation), EXACT
    )
    deep = Check(name, "the network has at least two layers", 0.0 if depth > 1 else 1.0, 0.0)
    target = problem.s / c if c > 0 else problem.s
    norms = [float(np.linalg.norm(W, 2)) for W in problem.layers]
    sizes = np.full(target.shape, np.inf)
    np.divide(max(norms), target ** (1 / depth), out=sizes, where=target > 0)
    small = Check(
        name, "weights are small: square of the largest |W_l| over (s_1/c)^(1/h)", float(sizes[0]) ** 2, SMALL
    )
    checks = (white, deep, small)
    if not all(check.holds for check in checks):
        return Prediction(name, "", np.full(target.shape, np.nan), None, checks)
    half = _two_layer_half_times(problem, c) if depth == 2 else _first_half_time(problem, c)
    if depth == 2:
        half[sizes**2 > SMALL] = np.nan
    half[np.arange(half.size) >= min(min(W.shape) for W in problem.layers)] = np.inf
    half[problem.s <= 1e-14 * problem.s[0]] = np.inf
    return Prediction(name, _SMALL_FORMULA[depth == 2], half, _curves(problem, half, c), checks, SOURCE)


_SMALL_FORMULA = {
    True: "t_half = ln(2 s / (c |b|^2)) / (2 s), b = (W_1 v + W_2^T u)/sqrt(2) orthogonal to earlier modes",
    False: "t_half = blow-up time of the start's shape + the rest of the closed curve (first mode only)",
}


def _two_layer_half_times(problem: _Problem, c: float) -> np.ndarray:
    b = (problem.layers[0] @ problem.V + problem.layers[1].T @ problem.U) / np.sqrt(2)  # shape (hidden, mode)
    # on R's diagonal are the parts of b orthogonal to the earlier ones; equal modes escape along their block's axes
    remaining, R = np.zeros(problem.s.shape), np.asarray(np.linalg.qr(b, mode="r"))
    for group in groups_of(problem.s):
        within = group[group < len(R)]
        remaining[within] = np.linalg.svd(R[np.ix_(within, group)], compute_uv=False)[: within.size] ** 2
    half = np.full(problem.s.shape, np.inf)
    grows = (problem.s > 1e-14 * problem.s[0]) & (remaining > LOST**2 * np.sum(b**2, axis=0))
    half[grows] = np.log(2 * problem.s[grows] / (c * remaining[grows])) / (2 * problem.s[grows])
    return half


def _first_half_time(problem: _Problem, c: float) -> np.ndarray:
    r"""Blow-up time of the field without saturation, then the closed curve from far below its target to half of it.

    The field g is homogeneous: with all weights $r v$, $|v| = 1$, and $d\tau = r^{h-2} dt$

    $$ dv/d\tau = g(v) - v \langle v, g \rangle, \quad d \ln r / d\tau = \langle v, g \rangle, \quad
       dt/d\tau = r^{2-h} , $$

    so that no clock has to tell apart the times just before the blow-up, which float64 cannot for deep networks.
    """
    half, depth, s = np.full(problem.s.shape, np.nan), problem.depth, float(problem.s[0])
    size = max(float(np.linalg.norm(W)) for W in problem.layers)
    if size == 0:
        return np.full(problem.s.shape, np.inf)
    unit = size ** (2 - depth) / s  # the time scale of the growth; the shape is integrated in units of size and unit
    shapes = [W.shape for W in problem.layers]
    cuts = np.cumsum([W.size for W in problem.layers])[:-1]
    sigma = (problem.U * (problem.s / s)) @ problem.V.T

    def growth(tau: float, state: np.ndarray) -> np.ndarray:
        v, log_r = state[:-2], state[-2]
        layers = [part.reshape(shape) for part, shape in zip(np.split(v, cuts), shapes, strict=True)]
        g = np.concatenate([slope.ravel() for slope in _growth(layers, sigma)])
        gain = v @ g
        return np.concatenate([g - gain * v, [gain, np.exp((2 - depth) * log_r)]])

    flat = np.concatenate([W.ravel() for W in problem.layers]) / size
    length = np.linalg.norm(flat)
    blown = lambda tau, state: state[-2] - np.log(BLOWN_UP)
    blown.terminal = True  # type: ignore[attr-defined]
    start = np.concatenate([flat / length, [np.log(length), 0.0]])
    solution = solve_ivp(growth, (0, 1e6), start, "DOP853", events=blown, rtol=1e-9, atol=1e-12)
    if solution.status != 1:
        return half  # never blows up: on the stable manifold of the origin, or too close to it to say
    z = np.exp(solution.y[-2, -1]) / np.sqrt(depth)
    blow_up = unit * (solution.y[-1, -1] + z ** (2 - depth) / (depth - 2))
    # the closed curve from u0 blows up (without saturation) at z0^(2-h) / ((h-2) s); its own time to half is longer
    far = (1e-3) ** depth * s / c
    saturation = half_time(far, s, depth, c) - far ** (2 / depth - 1) / ((depth - 2) * s)
    half[0] = blow_up + float(saturation)
    return half


def _growth(layers: list[np.ndarray], sigma: np.ndarray) -> list[np.ndarray]:
    """W_{j+1:h}^T sigma W_{1:j-1}^T for every layer."""
    rights = [sigma]
    for W in layers[:-1]:
        rights.append(rights[-1] @ W.T)
    slopes, left = [], np.eye(sigma.shape[0])
    for W, right in zip(reversed(layers), reversed(rights), strict=True):
        slopes.append(left.T @ right)
        left = left @ W
    return slopes[::-1]


def _curves(problem: _Problem, half: np.ndarray, c: float) -> Callable[[Any], np.ndarray]:
    """Closed curves of aligned modes that pass their halves at the predicted times."""
    depth, predicted = problem.depth, np.isfinite(half)
    u0 = np.array(
        [_start_for(t, s, depth, c) if known else 0.0 for t, s, known in zip(half, problem.s, predicted, strict=True)]
    )

    def strengths(ts: Any) -> np.ndarray:
        curves = mode_strength(problem.factor * np.asarray(ts), u0, problem.s, depth, c)
        return np.where(np.isnan(half), np.nan, curves)

    return strengths


def _start_for(time: float, s: float, depth: int, c: float) -> float:
    """The strength at time 0 of the aligned mode that reaches half of s/c at `time` > 0."""
    target = s / c
    if depth == 2:
        return target / (1 + np.exp(min(2 * s * time, 700.0)))
    late = lambda q: float(half_time(target * np.exp(q), s, depth, c)) - time
    return target * np.exp(root_scalar(late, bracket=(-600.0, np.log(0.5)), xtol=1e-13).root)
