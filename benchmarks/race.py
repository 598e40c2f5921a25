"""Calibration of every contender to the same error, and interleaved timing."""

import gc
import os
import signal
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from . import contenders
from .contenders_scipy import NotApplicable, Run
from .problems import Problem
from .references import error_of

COARSEST, FINEST, PER_DECADE = -2.0, -13.0, 2  # the scanned tolerances, powers of ten
COMPILING = 60.0  # seconds that the first call of a JAX contender may spend compiling
JAX_SOURCES = os.path.join("jax", "_src")
SHORTEST = 0.02  # seconds: calls shorter than this are repeated within one measurement
LONGEST = 10.0  # seconds in all rounds together: contenders this slow take part in fewer


class TooSlow(Exception):
    """A call took longer than the limit."""


@dataclass
class Setting:
    """One contender at the tolerance that reaches one target error, and its measurements in seconds a call."""

    contender: str
    target: float
    tolerance: float
    error: float
    run: Run
    rounds: int
    loops: int
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Times one round of calls, without the garbage collector."""
        gc.collect()
        gc.disable()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.loops):
            self.run(self.tolerance)
        self.cpu.append((time.process_time() - cpu) / self.loops)
        self.wall.append((time.perf_counter() - wall) / self.loops)
        gc.enable()


def race(
    problem: Problem, names: list[str], targets: list[float], repeats: int, limit: float, say: Callable[[str], None]
) -> dict:
    """Rows and skipped contenders of one problem, ready for JSON."""
    settings, skipped = [], []
    for name in names:
        say(f"{problem.name}: calibrating {name}")
        found, reasons = calibrate(name, problem, targets, limit)
        settings += found
        skipped += [{"contender": name, **reason} for reason in reasons]
    for target in targets:
        group = [setting for setting in settings if setting.target == target]
        for setting in group:
            if setting.rounds > 1:
                setting.run(setting.tolerance)  # warm-up
        for repeat in range(repeats):
            say(f"{problem.name}: timing at {target:g}, round {repeat + 1} of {repeats}")
            for setting in group:
                if repeat < setting.rounds:
                    setting.measure()
    return {"widths": list(problem.widths), "horizon": problem.horizon, "members": len(problem.starts)} | {
        "rows": rows_of(settings, targets),
        "skipped": skipped,
    }


def calibrate(
    name: str, problem: Problem, targets: list[float], limit: float
) -> tuple[list[Setting], list[dict[str, object]]]:
    """The coarsest scanned tolerance that reaches each target; and for the others the reason why not."""
    try:
        run = contenders.prepare(name, problem)
    except ImportError as missing:
        return [], [{"reason": f"not installed ({missing.name or missing})"}]
    except NotApplicable as reason:
        return [], [{"reason": str(reason)}]
    compiling = COMPILING if contenders.compiles(name) else 0.0
    found, open_targets, reason = [], sorted(targets, reverse=True), "no scanned tolerance reaches it"
    for k in range(round((COARSEST - FINEST) * PER_DECADE) + 1):
        tolerance = 10 ** (COARSEST - k / PER_DECADE)
        try:
            seconds, error = attempt(run, problem, tolerance, limit, compiling if k == 0 else 0.0)
        except TooSlow:
            reason = f"more than {limit:g} CPU s a call at tolerance {tolerance:.0e}"
            break
        except NotApplicable as refusal:
            reason = str(refusal)
            break
        except (ArithmeticError, ValueError):  # diverged: a finer tolerance may hold
            continue
        while open_targets and error <= open_targets[0]:
            rounds, loops = max(1, round(LONGEST / seconds)), max(1, min(20, round(SHORTEST / seconds)))
            found.append(Setting(name, open_targets.pop(0), tolerance, error, run, rounds, loops))
        if not open_targets:
            break
    return found, [{"target": target, "reason": reason} for target in open_targets]


def attempt(run: Run, problem: Problem, tolerance: float, limit: float, compiling: float) -> tuple[float, float]:
    """CPU seconds and trajectory error of one call; raises `TooSlow`.

    A call that was too slow by less than `compiling` seconds gets a second chance.
    """
    for allowed in (limit + compiling, limit) if compiling else (limit,):
        # overflow raises: scipy's explicit methods never return once they have stepped to infinity
        with deadline(allowed), np.errstate(over="raise", invalid="raise"), warnings.catch_warnings(action="ignore"):
            started = time.process_time()
            members = run(tolerance)
            seconds = max(time.process_time() - started, SHORTEST / 100)  # clocks of some machines tick slowly
        if seconds <= limit:
            return seconds, error_of(problem, members)
    raise TooSlow


@contextmanager
def deadline(seconds: float):
    """Raises `TooSlow` in the block after that CPU time, as soon as Python runs (compiled loops end first).

    Not while JAX traces or compiles: it does not survive that, the process crashes when it ends.
    """

    def ring(number, frame):
        while frame is not None:
            if JAX_SOURCES in frame.f_code.co_filename:
                return  # the timer rings again
            frame = frame.f_back
        raise TooSlow

    previous = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def rows_of(settings: list[Setting], targets: list[float]) -> list[dict]:
    """One row a setting, fastest first within a target; the ratio is of median CPU seconds to ours."""
    rows = []
    for target in targets:
        group = [setting for setting in settings if setting.target == target]
        medians = {setting.contender: statistics.median(setting.cpu) for setting in group}
        ours = medians.get(contenders.OURS)
        for setting in sorted(group, key=lambda setting: medians[setting.contender]):
            cpu = medians[setting.contender]
            rows.append(
                {
                    "target": target,
                    "contender": setting.contender,
                    "tolerance": setting.tolerance,
                    "error": setting.error,
                    "cpu_ms": 1e3 * cpu,
                    "wall_ms": 1e3 * statistics.median(setting.wall),
                    "ratio": cpu / ours if ours else None,
                    "cpu_ms_of_rounds": [1e3 * seconds for seconds in setting.cpu],
                    "calls_a_round": setting.loops,
                }
            )
    return rows
