"""Train and test error on a noisy low-rank teacher: early stopping, its best time, and what depth does.

Modes of the signal stand out of the noise and are learned first, then the noise is: the test error falls and rises
again. Theory of the draw is exact, theory of the average is that of large random matrices. Source: Lampinen and Ganguli
(2019), figures on training dynamics and optimal stopping; 100 inputs and outputs, teachers of rank 1 and 3; strengths,
noise, start and draws are our own.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import init
from ...flows import gradient_flow
from ...generalisation import exact_errors, expected_errors, optimal_stopping, spiked_modes
from ...objectives import SquaredError
from ...plots import style
from .. import overlay
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `deviation` of every entry of the noise makes its largest singular value 2."""

    width: int = 100
    deviation: float = 0.1
    rank_1: tuple[float, ...] = (3.0,)
    rank_3: tuple[float, ...] = (6.0, 4.0, 3.0)
    start: float = 1e-3
    horizon: float = 6.0
    points: int = 121
    strengths: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
    draws: int = 6
    depths: tuple[int, ...] = (1, 2, 3, 4)
    long_times: int = 500
    seed: int = 0
    rtol: float = 1e-9


SETTINGS = QUICK = Settings()
CASES = ("rank_1", "rank_3")
CURVES = ("train", "test")
GAP = 1e-6
AVERAGE = 0.1  # fluctuations of 1 / sqrt(width) of a draw, three times that of the mean of six draws
GOLDEN: dict[str, float] = {
    "best time, rank_1": 1.353698037,
    "least test error, rank_1": 0.2268617264,
    "last test error, rank_1": 10.47467968,
    "best time, rank_3": 1.436017714,
    "least test error, rank_3": 0.09553009507,
    "last test error, rank_3": 1.553556454,
    "least test error at depth 1": 0.6281317528,
    "least test error at depth 2": 0.0958683757,
    "least test error at depth 3": 0.09164901265,
    "least test error at depth 4": 0.09419494482,
}


def teacher_and_data(seed: int, s: tuple[float, ...], settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """A teacher with Haar-distributed modes, and what noise leaves of it."""
    rng, d = np.random.default_rng(seed), settings.width
    U, V = (np.linalg.qr(rng.standard_normal((d, len(s))))[0] for _ in range(2))
    teacher = (U * np.array(s)) @ V.T
    return teacher, teacher + settings.deviation * rng.standard_normal((d, d))


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Curves of two teachers, best stopping times over strengths, and depths at equal training error."""
    d, ts = settings.width, np.linspace(0, settings.horizon, settings.points)
    errors = np.empty((3, len(CASES), 2, len(ts)))
    for k, case in enumerate(CASES):
        s = getattr(settings, case)
        teacher, noisy = teacher_and_data(settings.seed, s, settings)
        objective = SquaredError.from_moments(noisy)
        start = init.decoupled(settings.seed, objective, (d, d, d), settings.start)
        W = np.asarray(gradient_flow(objective, start, ts, rtol=settings.rtol).end_to_end)
        errors[0, k] = [np.sum((W - goal) ** 2, axis=(1, 2)) / np.sum(teacher**2) for goal in (noisy, teacher)]
        errors[1, k] = exact_errors(ts, teacher, noisy, settings.start)
        errors[2, k] = expected_errors(ts, s, d, d, settings.deviation, settings.start)
    stopping = np.array([_stopping(settings, strength, ts) for strength in settings.strengths])
    depth = np.array([_by_depth(settings, h) for h in settings.depths])
    variables = {
        "error": (("source", "case", "curve", "time"), errors, {"long_name": "error relative to the teacher"}),
        "stopping": (("strength", "kind", "value"), stopping, {"long_name": "best time and its test error"}),
        "by_depth": (("depth", "curve", "point"), depth, {"long_name": "error relative to the teacher"}),
    }
    coordinates = {
        "source": ["simulation", "theory", "average"],
        "case": list(CASES),
        "curve": list(CURVES),
        "time": ts,
        "strength": list(settings.strengths),
        "kind": ["draws", "average"],
        "value": ["time", "error"],
        "depth": list(settings.depths),
    }
    return xr.Dataset(variables, coordinates, asdict(settings))


def _stopping(settings: Settings, strength: float, ts: np.ndarray) -> list[list[float]]:
    """Best time and error of the mean test curve over draws, and of the average by theory, for a rank-1 teacher."""
    fine = np.linspace(0, settings.horizon, 2 * settings.points)
    curves = []
    for seed in range(settings.draws):
        draw = teacher_and_data(seed, (strength,), settings)
        curves.append(exact_errors(fine, *draw, settings.start).test)
    theory = expected_errors(fine, [strength], settings.width, settings.width, settings.deviation, settings.start).test
    return [list(optimal_stopping(fine, np.mean(curves, axis=0))), list(optimal_stopping(fine, theory))]


def _by_depth(settings: Settings, h: int) -> np.ndarray:
    """Train and test error of the rank-3 draw along training, at evenly spaced training errors."""
    teacher, noisy = teacher_and_data(settings.seed, settings.rank_3, settings)
    ts = np.concatenate([[0.0], np.geomspace(1e-3, 1e7, settings.long_times)])
    train, test = exact_errors(ts, teacher, noisy, settings.start, h)
    at = np.linspace(0.02, 0.999, 200) * train[0]
    return np.stack([at, np.interp(at, train[::-1], test[::-1])])


def figure(data: xr.Dataset) -> Figure:
    """Curves of both teachers above; best stopping time and depths below."""
    figure = Figure(figsize=(7.4, 5.4), layout="constrained")
    (one, three), (times, depths) = figure.subplots(2, 2)
    for ax, case, title in ((one, "rank_1", "A teacher of rank 1"), (three, "rank_3", "A teacher of rank 3")):
        style.canvas(ax, title)
        for k, curve in enumerate(CURVES):
            simulated, exact, average = data["error"].sel(case=case, curve=curve).values
            ax.plot(data["time"], average, color=style.GREY, linewidth=4, alpha=0.35, zorder=1)
            ax.plot(data["time"], simulated, label=curve, **overlay.solid(style.colour(3 * k)))
            ax.plot(data["time"], exact, **overlay.dotted())
        best = optimal_stopping(data["time"].values, data["error"].sel(source="theory", case=case, curve="test").values)
        ax.axvline(best.time, color=style.GREY, linewidth=0.8, linestyle="--", zorder=1)
        ax.set_ylim(0, None)
        ax.margins(x=0)
        ax.set_xlabel("time", fontsize=style.TEXT)
        ax.set_ylabel("error / teacher's size", fontsize=style.TEXT)
        ax.legend(frameon=False, fontsize=style.TEXT)
    style.canvas(times, "Best time to stop, rank 1 (lines: large widths)")
    best = data["stopping"].sel(value="time")
    times.plot(data["strength"], best.sel(kind="average"), **style.line(0))
    times.plot(data["strength"], best.sel(kind="draws"), "o", color=style.colour(3), markersize=5)
    times.set_xlabel("teacher's singular value (noise: up to 2)", fontsize=style.TEXT)
    times.set_ylabel("time of least test error", fontsize=style.TEXT)
    style.canvas(depths, "Rank 3: from depth 2 the signal comes first")
    for k, h in enumerate(data["depth"].values):
        train, test = data["by_depth"].sel(depth=h).values
        depths.plot(train, test, label=f"depth {h}", **style.line(k))
    depths.invert_xaxis()
    depths.set_xlabel("training error, falling along training", fontsize=style.TEXT)
    depths.set_ylabel("test error", fontsize=style.TEXT)
    depths.legend(frameon=False, fontsize=style.TEXT)
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    numbers = {}
    for case in CASES:
        test = data["error"].sel(source="simulation", case=case, curve="test").values
        best = optimal_stopping(data["time"].values, test)
        numbers |= {f"best time, {case}": best.time, f"least test error, {case}": best.error}
        numbers[f"last test error, {case}"] = float(test[-1])
    return numbers | {f"least test error at depth {h}": _least(data, h) for h in data["depth"].values.tolist()}


def _least(data: xr.Dataset, h: int) -> float:
    return float(data["by_depth"].sel(depth=h, curve="test").min())


def check(data: xr.Dataset) -> list[Checked]:
    """Simulation beside both theories, stopping times, overfitting, the gain of depth, stored numbers."""
    simulated, exact, average = data["error"].values
    numbers, stopping = measured(data), data["stopping"]
    strong = stopping.sel(strength=[s for s in data["strength"].values if s >= 2])
    apart = abs(strong.sel(kind="draws") / strong.sel(kind="average") - 1)
    checks = [
        at_most("gap of simulation and exact theory", np.abs(simulated - exact).max() / exact.max(), GAP),
        at_most("one draw from the average", np.abs(exact - average).max() / average.max(), AVERAGE),
        at_most("best time, draws from the average", apart.sel(value="time").max(), AVERAGE),
        at_most("least error, draws from the average", apart.sel(value="error").max(), AVERAGE),
        at_most("a mode below the noise is not seen", spiked_modes([0.99], 100, 100, 0.1).overlap[0], 0.0),
    ]
    for case in CASES:
        gain = numbers[f"last test error, {case}"] / numbers[f"least test error, {case}"]
        checks.append(at_least(f"overfitting: last over least test error, {case}", gain, 2.0))
    least = {h: _least(data, h) for h in data["depth"].values.tolist()}
    checks += [
        at_least("gain of depth 2 over 1", least[1] / least[2], 3.0),
        at_least("gain of depth 3 over 2", least[2] / least[3], 1.01),
        at_most("no more gain from depth 3 to 4", least[3] / least[4], 1.0),
    ]
    return [*checks, *golden(numbers, GOLDEN)]
