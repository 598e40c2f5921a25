r"""Train and test error of deep linear networks on noisy outputs of a low-rank teacher, and when to stop.

Inputs are white, so that training sees one noisy matrix $\hat\Sigma = \bar W + Z$ and the test error of a map W is
$\|W - \bar W\|_F^2$, up to the noise of the test outputs. From a small start in the modes of $\hat\Sigma$ each mode is
learned by itself (`exact.mode_strength`): strong ones, the signal, before weak ones, the noise, and the more so the
deeper the network. Source: Lampinen and Ganguli (2019), "An analytic theory of generalization dynamics and transfer
learning in deep linear networks".
"""

from typing import Any, NamedTuple

import numpy as np

from ._arguments import check_times, checks_arguments
from ._arrays import LARGEST, floats, number
from ._checks import check_whole
from .exact import mode_strength

MOST = 10**9  # inputs and outputs
NODES = 400
"""Noise modes by which the continuous spectrum is stood in for."""


class SpikedModes(NamedTuple):
    """What noise makes of a teacher's modes, in the limit of large widths; see `spiked_modes`.

    >>> spiked_modes([0.5], d_x=100, d_y=100, deviation=0.1).overlap.tolist()
    [0.0]
    """

    observed: np.ndarray
    """Singular values of the noisy matrix, (mode,); the edge of the noise where a mode is lost in it."""
    overlap: np.ndarray
    """Product of the cosines of the noisy mode's two singular vectors with the teacher's, (mode,)."""


class Errors(NamedTuple):
    r"""Errors along training, (time,), relative to the teacher's $\|\bar W\|_F^2$.

    >>> exact_errors([0.0], [[2.0]], [[3.0]], start=1.0).train.tolist()
    [1.0]
    """

    train: np.ndarray
    r"""Excess training error $\|W - \hat\Sigma\|_F^2$."""
    test: np.ndarray
    r"""Excess test error $\|W - \bar W\|_F^2$."""


class Stopping(NamedTuple):
    """Where a test curve is lowest.

    >>> optimal_stopping([0.0, 1.0, 2.0], [3.0, 2.0, 1.0])
    Stopping(time=2.0, error=1.0)
    """

    time: float
    error: float


@checks_arguments
def spiked_modes(s: Any, d_x: int, d_y: int, deviation: float) -> SpikedModes:
    r"""Singular values and overlaps of the modes of $\bar W + Z$ with a teacher of singular values s (mode,).

    Z (d_y, d_x) has independent entries of standard deviation `deviation`. With $\tau$ = deviation $\sqrt{d_x}$,
    $\theta = s / \tau$ and $c = d_y / d_x$: for $\theta^4 > c$ a mode stands out of the noise,

    $$ \hat s = \frac{\tau}{\theta} \sqrt{(1 + \theta^2)(c + \theta^2)}, \quad
       (u^T \hat u)^2 = 1 - \frac{c (1 + \theta^2)}{\theta^2 (\theta^2 + c)}, \quad
       (v^T \hat v)^2 = 1 - \frac{c + \theta^2}{\theta^2 (\theta^2 + 1)}, $$

    else $\hat s = \tau (1 + \sqrt c)$ and the overlap is 0. Exact for large widths and few modes. Raises `ValueError`
    for values that are not positive.

    >>> observed, overlap = spiked_modes([4.0, 0.5], d_x=100, d_y=100, deviation=0.1)
    >>> observed.round(4).tolist(), overlap.round(4).tolist()
    ([4.25, 2.0], [0.9375, 0.0])

    Source: Benaych-Georges and Nadakuditi (2012), J. Multivariate Analysis 111, theorems 2.8 and 2.9; Lampinen and
    Ganguli (2019), section 2.3.
    """
    s = _strengths(s)
    _check_noise(d_x, d_y, deviation)
    tau, c = deviation * np.sqrt(d_x), d_y / d_x
    theta = s / tau
    seen = theta**4 > c
    safe = np.where(seen, theta, c**0.25 + 1.0)
    observed = np.where(seen, tau / safe * np.sqrt((1 + safe**2) * (c + safe**2)), tau * (1 + np.sqrt(c)))
    left = 1 - c * (1 + safe**2) / (safe**2 * (safe**2 + c))
    right = 1 - (c + safe**2) / (safe**2 * (safe**2 + 1))
    return SpikedModes(observed, np.where(seen, np.sqrt(left * right), 0.0))


@checks_arguments
def noise_spectrum(d_x: int, d_y: int, deviation: float, nodes: int = NODES) -> tuple[np.ndarray, np.ndarray]:
    r"""Singular values of pure noise (d_y, d_x) as nodes and weights of sum 1: integrate by `weights @ f(values)`.

    The law of Marchenko and Pastur (1967), $\sqrt{(x^2 - a^2)(b^2 - x^2)} / (\pi x \min(c, 1))$ for x in units of
    deviation $\sqrt{d_x}$, $a, b = |1 \mp \sqrt c|$, $c = d_y / d_x$. Raises `ValueError` as `spiked_modes` does.

    >>> values, weights = noise_spectrum(100, 50, 0.1)
    >>> float(weights @ values**2).__round__(6)  # the mean square of 50 values is 100 d_x d_y deviation^2 / 50
    1.0
    """
    _check_noise(d_x, d_y, deviation)
    nodes = check_whole("nodes", nodes, 1, 10**7)
    c = d_y / d_x
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    squares = 1 + c + 2 * np.sqrt(c) * np.cos(angle)
    weights = 2 * c * np.sin(angle) ** 2 / (min(c, 1.0) * squares * nodes)
    return deviation * np.sqrt(d_x * squares), weights / weights.sum()


@checks_arguments
def expected_errors(ts: Any, s: Any, d_x: int, d_y: int, deviation: float, start: float, depth: int = 2) -> Errors:
    r"""Train and test error at times ts (time,), averaged over draws of the noise, for large widths.

    A teacher with singular values s (mode,) and noise as in `spiked_modes`; all modes of the noisy matrix start with
    strength `start` and follow `exact.mode_strength` at this `depth`, $u_k(t)$ of the observed modes and $u(t)$ of the
    noise:

    $$ E_{test} = \sum_k (s_k^2 - 2 s_k o_k u_k + u_k^2) + (\min(d_x, d_y) - r) \langle u^2 \rangle $$

    over $\sum_k s_k^2$, and the same with $(\hat s - u)^2$ for training. Time is that of the half-mean loss. Raises
    `ValueError` for values that are not positive and negative times.

    >>> errors = expected_errors([0.0, 1.5, 50.0], [4.0], 100, 100, deviation=0.1, start=1e-3)
    >>> errors.test.round(2).tolist()
    [1.0, 0.16, 6.32]

    Source: Lampinen and Ganguli (2019), section 2.
    """
    s = _strengths(s)
    observed, overlap = spiked_modes(s, d_x, d_y, deviation)
    values, weights = noise_spectrum(d_x, d_y, deviation)
    count = min(d_x, d_y) - len(s)
    start = float(floats("start", start, 0, "one number", largest=LARGEST))
    u = mode_strength(ts, start, observed, depth)
    noise = mode_strength(ts, start, values, depth)
    train = np.sum((observed - u) ** 2, axis=-1) + count * (values - noise) ** 2 @ weights
    test = np.sum(s**2 - 2 * s * overlap * u + u**2, axis=-1) + count * noise**2 @ weights
    return Errors(train / np.sum(s**2), test / np.sum(s**2))


@checks_arguments
def exact_errors(ts: Any, teacher: Any, noisy: Any, start: float, depth: int = 2) -> Errors:
    r"""Train and test error at times ts (time,) of one draw: a `teacher` (d_y, d_x) and the `noisy` matrix of data.

    $W(t) = \hat U \mathrm{diag}(u(t)) \hat V^T$ in the modes of the noisy matrix; each starts with strength `start` and
    follows `exact.mode_strength`: exact for `init.decoupled` starts and white inputs. Raises `ValueError` for
    shapes that differ and entries that are not finite.

    >>> exact_errors([0.0, 100.0], [[2.0]], [[3.0]], start=1.0).test.round(6).tolist()
    [0.25, 0.25]
    """
    teacher, noisy = (
        floats(name, M, 2, "(d_y, d_x)", largest=LARGEST) for name, M in (("teacher", teacher), ("noisy", noisy))
    )
    if teacher.shape != noisy.shape:
        raise ValueError(f"`noisy`: has shape {noisy.shape}, the teacher {teacher.shape}; give two matrices (d_y, d_x)")
    for name, matrix in (("teacher", teacher), ("noisy", noisy)):
        if not np.isfinite(matrix).all():
            raise ValueError(f"`{name}`: has the entry {matrix[~np.isfinite(matrix)][0]}; give finite numbers")
    U, observed, Vt = np.linalg.svd(noisy, full_matrices=False)
    start = float(floats("start", start, 0, "one number", largest=LARGEST))
    u = mode_strength(ts, start, observed, depth)
    size = float(np.sum(teacher**2))
    if size == 0:
        raise ValueError("`teacher`: is zero, and errors are relative to it; give a teacher that does something")
    met = np.sum(U * (teacher @ Vt.T), axis=0)
    test = size - 2 * u @ met + np.sum(u**2, axis=-1)
    return Errors(np.sum((observed - u) ** 2, axis=-1) / size, test / size)


def optimal_stopping(ts: Any, test: Any) -> Stopping:
    """Time and value of the least test error, by the parabola through the three points around the smallest.

    `ts` increasing (time,), `test` (time,) from any curve: a dataset's or a theory's. At an end of the curve, the end
    itself. Raises `ValueError` for shapes that differ and fewer than three times.

    >>> optimal_stopping([0.0, 1.0, 2.0, 4.0], [4.0, 1.0, 0.0, 4.0]).time
    2.0
    """
    ts, test = check_times(ts, increasing=True), floats("test", test, 1, "(time,)")
    if ts.shape != test.shape or ts.size < 3:
        raise ValueError(f"`test`: has shape {test.shape}, `ts` {ts.shape}; give a curve of at least three times")
    i = int(np.argmin(test))
    if i in (0, len(ts) - 1):
        return Stopping(float(ts[i]), float(test[i]))
    a, b, c = np.polyfit(ts[i - 1 : i + 2] - ts[i], test[i - 1 : i + 2] - test[i], 2)
    at = -b / (2 * a)
    return Stopping(round(float(ts[i] + at), 12), float(test[i] + c + at * (b + a * at)))


def _strengths(s: Any) -> np.ndarray:
    s = floats("s", s, 1, "(mode,), singular values above 0", largest=LARGEST)
    if not (s > 0).all():
        raise ValueError(f"`s`: got {s.min():g}; give a list of finite singular values above 0")
    return s


def _check_noise(d_x: int, d_y: int, deviation: float) -> None:
    check_whole("d_x", d_x, 1, MOST)
    check_whole("d_y", d_y, 1, MOST)
    deviation = number("deviation", deviation, "a finite number above 0", above=0.0)
    if not 1 / LARGEST <= deviation <= LARGEST:
        raise ValueError(
            f"`deviation`: got {deviation}; squares stay within float64 from {1 / LARGEST:g} to {LARGEST:g}"
        )
