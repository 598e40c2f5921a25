"""The compiled engine (engine/engine.h) as Python sees it: arrays in, arrays out."""

import os
import threading
from collections.abc import Sequence
from ctypes import byref, c_int32, c_void_p
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from .library import CProblem, CSettings, CSummary, load

METHODS = {"rock4": 0, "rodas4": 1, "dopri8": 2, "auto": 3}
RUNNING, REACHED, GOAL, STATIONARY, STALLED = range(5)
LOG = ("t", "h", "error", "spent", "radius", "formula", "accepted")
"""Columns of a log: step tried, its error in tolerances, its cost, the spectral radius, the formula in `FORMULAS`."""
FORMULAS = ("rock4", "cnd4", "rodas4", "dopri8")
BUFFER, BUFFER_BYTES = 128, 2**24  # outputs that a segment holds, and what they may take
SEGMENT_SECONDS = 0.1  # of a segment: how long the caller's thread may not look for Ctrl-C
LOOK_SECONDS = 0.05  # between looks for Ctrl-C while a segment runs beside
LONGEST_STEP = 165  # evaluations in a long step
WIDEST = 2**31 - 65  # that the engine counts to
SLOWEST = 1e9  # multiplications a second that every machine can do
REFUSALS = {
    1: "there is not enough memory for a network of these widths",
    2: "sizes do not fit the engine",
    3: "a number is not finite or out of range",
    4: "`times`: are not finite, increasing and at least 0",
    5: "the state belongs to another problem, or to another version of the engine",
}


@dataclass(frozen=True)
class Problem:
    r"""Squared error $\frac{c}{2} \|(W - W^*) T\|_F^2$ of a network's end-to-end matrix, and how its layers move.

    $\dot W_l = -\eta_l (\partial L / \partial W_l + \gamma_l W_l)$, zero where the mask is False. `optimum` W*
    (d_y, d_x); `root` T (d_x, rank) with T T^T = sigma_xx, best with orthogonal columns, None for white inputs; `rates`
    and `decay` one number per layer, None for 1 and 0; `mask` one array of booleans per layer. Shapes are checked where
    a run begins, by `ValueError`.
    """

    optimum: np.ndarray
    root: np.ndarray | None = None
    factor: float = 1.0
    rates: Sequence[float] | np.ndarray | None = None
    decay: Sequence[float] | np.ndarray | None = None
    mask: Sequence[np.ndarray] | None = None
    graded: bool = False
    """Whether the variances in sigma_xx differ so much that products with it lose the small ones."""


@dataclass(frozen=True)
class Settings:
    """What a run is asked for: see `deeplinear_settings` in engine/engine.h.

    `times` None: outputs are chosen evenly along the path, and the run ends at `goal` (excess loss) or `max_time`.
    """

    method: str = "auto"
    rtol: float = 1e-6
    atol: float = 1e-200
    times: np.ndarray | None = None
    max_time: float = float("inf")
    goal: float = float("-inf")
    spread: float = 1.0
    outputs: int | None = None
    """That a segment may hold; None: `BUFFER`, or as many as `BUFFER_BYTES` hold."""
    log: int = 0


class Summary(NamedTuple):
    """Where a run stands after a segment."""

    status: int
    steps: int
    rejected: int
    evaluations: int
    t: float
    slope: float
    """Norm of all dW_l/dt."""
    outputs: int
    logged: int


@dataclass
class _Packed:
    """A problem and weights as the engine wants them; keeps the arrays alive that it points to."""

    problem: Problem
    shapes: list[tuple[int, int]]
    arrays: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = self.problem
        widths = [self.shapes[0][1], *(rows for rows, _ in self.shapes)]
        d_x, d_y, depth = widths[0], widths[-1], len(self.shapes)
        _check("weights", [(b, a) for a, b in pairwise(widths)], self.shapes)
        root, rank = given.root, 0
        if root is not None:
            root = np.asarray(root, dtype=float)
            rank = root.shape[1] if root.ndim == 2 else 0
            _check("root", (d_x, rank), root.shape)
        mask = None
        if given.mask is not None:
            _check("mask", self.shapes, [np.shape(M) for M in given.mask])
            mask = np.concatenate([np.asarray(M, dtype=np.uint8).ravel() for M in given.mask])
        self.c = CProblem(
            depth,
            self.point(np.array(widths, dtype=np.int32)),
            self.point(given.optimum, float, "optimum", (d_y, d_x)),
            self.point(root, float),
            rank,
            int(given.graded),
            given.factor,
            self.point(given.rates, float, "rates", (depth,)),
            self.point(given.decay, float, "decay", (depth,)),
            self.point(mask, np.uint8),
        )

    def point(self, array: Any, dtype: Any = None, name: str = "", shape: tuple = ()) -> int | None:
        """The address of an array that stays where it is."""
        if array is None:
            return None
        array = np.ascontiguousarray(array, dtype=dtype)
        if name:
            _check(name, shape, array.shape)
        self.arrays.append(array)
        return array.ctypes.data


def _check(name: str, expected: Any, got: Any) -> None:
    if list(expected) != list(got):
        raise ValueError(f"`{name}`: has shape {got}; the network wants {expected}")


def _flat(layers: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(W, dtype=float).ravel() for W in layers])


def _shapes(layers: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    shapes = [np.shape(W) for W in layers]
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"`weights`: have shapes {shapes}; give one matrix per layer")
    if max(max(shape) for shape in shapes) > WIDEST:
        raise MemoryError(f"`weights`: have shapes {shapes}; no machine holds a network of these widths")
    return [(int(rows), int(columns)) for rows, columns in shapes]


def _layers(flat: np.ndarray, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    """(..., n) -> one array (..., d_l, d_{l-1}) per layer."""
    ends = list(accumulate(rows * columns for rows, columns in shapes))
    return [flat[..., a:b].reshape(*flat.shape[:-1], *s) for a, b, s in zip([0, *ends], ends, shapes, strict=False)]


def _refuse(code: int) -> None:
    if code == 1:
        raise MemoryError(REFUSALS[code])
    if code:
        raise ValueError(REFUSALS[code])


def velocity(problem: Problem, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    r"""$\dot W_l = -\eta_l (\partial L / \partial W_l + \gamma_l W_l)$ of every layer, zero where it is held.

    >>> velocity(Problem(np.array([[2.0]])), [np.array([[1.0]]), np.array([[1.0]])])[0].tolist()
    [[1.0]]
    """
    packed, out = _Packed(problem, _shapes(weights)), _flat(weights)
    _refuse(load().call["velocity"](byref(packed.c), packed.point(_flat(weights)), out.ctypes.data))
    return _layers(out, packed.shapes)


def derivative(problem: Problem, weights: Sequence[np.ndarray], direction: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The derivative of `velocity` in a direction, one array per layer.

    >>> one = np.array([[1.0]])
    >>> derivative(Problem(np.array([[2.0]])), [one, one], [one, 0 * one])[0].tolist()
    [[-1.0]]
    """
    packed, out = _Packed(problem, _shapes(weights)), _flat(weights)
    _check("direction", packed.shapes, _shapes(direction))
    arrays = packed.point(_flat(weights)), packed.point(_flat(direction)), out.ctypes.data
    _refuse(load().call["derivative"](byref(packed.c), *arrays))
    return _layers(out, packed.shapes)


def svd(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thin singular value decomposition (U, s, V), A = U diag(s) V^T; zero columns where s vanishes on the wider side.

    >>> svd(np.diag([1.0, 2.0]))[1].tolist()
    [2.0, 1.0]
    """
    A = np.ascontiguousarray(A, dtype=float)
    rows, columns = A.shape
    rank = min(rows, columns)
    U, s, V = np.empty((rows, rank)), np.empty(rank), np.empty((columns, rank))
    _refuse(load().call["svd"](rows, columns, *(array.ctypes.data for array in (A, U, s, V))))
    return U, s, V


def product(A: np.ndarray, B: np.ndarray, transposed: bool = False, times: int = 1) -> np.ndarray:
    """A B, or A^T B, by the engine's own products, computed `times` over for whoever measures them.

    A (m, k), or (k, m) where `transposed`; B (k, n). `ValueError` for other shapes, no entries, and `times` below 1.

    >>> product(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    A, B = np.ascontiguousarray(A, dtype=float), np.ascontiguousarray(B, dtype=float)
    inner, rows = A.shape if transposed else A.shape[::-1]
    _check("B", (inner, B.shape[-1]), B.shape)
    C = np.empty((rows, B.shape[1]))
    sizes = rows, B.shape[1], inner, int(transposed), times
    _refuse(load().call["product"](*sizes, A.ctypes.data, B.ctypes.data, C.ctypes.data))
    return C


class Run:
    """One integration: begun here, carried on by `advance`, read by `outputs`, kept by `state` and `restore`.

    >>> run = Run(Problem(np.array([[1.0]])), [np.array([[0.1]])] * 2, Settings(times=np.array([50.0])))
    >>> run.advance().status == REACHED, round(float(run.outputs()[1][0][0, 0, 0]), 6)
    (True, 1.0)
    """

    def __init__(self, problem: Problem, weights: Sequence[np.ndarray], settings: Settings):
        if settings.method not in METHODS:
            raise ValueError(f"`method`: got {settings.method!r}; give {', '.join(map(repr, METHODS))}")
        self._handle = c_void_p()
        self._engine = load()
        self._stop = c_int32(0)
        self._summary: Summary | None = None
        packed = _Packed(problem, _shapes(weights))
        self.shapes, self._logs = packed.shapes, settings.log > 0
        self._size = sum(rows * columns for rows, columns in self.shapes)
        fitting = max(1, min(BUFFER, BUFFER_BYTES // (8 * self._size)))
        outputs = fitting if settings.outputs is None else settings.outputs
        times = None if settings.times is None else np.asarray(settings.times, dtype=float)
        c = CSettings(
            METHODS[settings.method],
            settings.rtol,
            settings.atol,
            packed.point(times),
            0 if times is None else times.size,
            settings.max_time,
            settings.goal,
            settings.spread,
            outputs,
            settings.log,
        )
        _refuse_what_does_not_fit(self._engine.call["bytes"](byref(packed.c), byref(c)))
        _refuse(
            self._engine.call["begin"](byref(packed.c), byref(c), packed.point(_flat(weights)), byref(self._handle))
        )
        thin = min(self.shapes[0][1], self.shapes[-1][0])
        self._short = 3 * thin * self._size * LONGEST_STEP / SLOWEST < LOOK_SECONDS

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._engine.call["free"](self._handle)
            self._handle = c_void_p()

    def stop(self) -> None:
        """Ends the segment under way, in whatever thread; its step is given up as if it had never begun."""
        self._stop.value = 1

    def advance(
        self, steps: int = 2**62, seconds: float | None = None, interrupted: threading.Event | None = None
    ) -> Summary:
        """A segment of at most so many steps and about so many seconds (None: `SEGMENT_SECONDS`).

        It ends soon after `interrupted` is set.

        Where a single step may take long the main thread lets the engine work beside it and looks for Ctrl-C.
        """
        self._stop.value, self._summary = 0, None
        arguments = self._handle, steps, SEGMENT_SECONDS if seconds is None else seconds, byref(self._stop)
        if self._short or threading.current_thread() is not threading.main_thread():
            self._engine.call["advance"](*arguments)
            return self._looked()
        over = threading.Event()  # not `join`: Ctrl-C in it makes threads look dead (Python 3.11)

        def work() -> None:
            try:
                self._engine.call["advance"](*arguments)
            finally:
                over.set()

        try:
            threading.Thread(target=work).start()
            while not over.wait(LOOK_SECONDS):
                if interrupted is not None and interrupted.is_set():
                    self.stop()
        finally:  # KeyboardInterrupt where nobody handles it
            self.stop()
            over.wait()
        return self._looked()

    def summary(self) -> Summary:
        """Where the run stands."""
        return self._summary or self._looked()

    def _looked(self) -> Summary:
        c = CSummary()
        self._engine.call["summarise"](self._handle, byref(c))
        self._summary = Summary(*(getattr(c, name) for name in Summary._fields))
        return self._summary

    def outputs(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Times (count,) and stacked layers (count, d_l, d_{l-1}) of the last segment."""
        count = self.summary().outputs
        times, flat = np.empty(count), np.empty((count, self._size))
        self._engine.call["outputs"](self._handle, times.ctypes.data, flat.ctypes.data)
        return times, _layers(flat, self.shapes)

    def weights(self) -> list[np.ndarray]:
        """The network where the run stands."""
        flat = np.empty(self._size)
        self._engine.call["weights"](self._handle, flat.ctypes.data)
        return _layers(flat, self.shapes)

    def log(self) -> np.ndarray:
        """Steps of the last segment, accepted and rejected ones, (count, len(`LOG`))."""
        rows = np.empty((self.summary().logged, len(LOG)))
        self._engine.call["log"](self._handle, rows.ctypes.data)
        return rows

    def state(self) -> np.ndarray:
        """Numbers from which a run of the same question goes on, to the last bit on this instruction set."""
        numbers = np.empty(self._engine.call["state_size"](self._handle))
        self._engine.call["state_export"](self._handle, numbers.ctypes.data)
        return numbers

    def restore(self, state: np.ndarray) -> None:
        """Takes the run to a state; `ValueError` for one of another problem or version."""
        state = np.ascontiguousarray(state, dtype=float)
        if state.shape != (self._engine.call["state_size"](self._handle),):
            raise ValueError(REFUSALS[5])
        self._summary = None
        _refuse(self._engine.call["state_import"](self._handle, state.ctypes.data))


def _refuse_what_does_not_fit(needed: float) -> None:
    """`MemoryError` for more than the machine has, before any of it is asked for."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if needed > there:
        raise MemoryError(
            f"a network of these widths takes {needed / 2**30:.3g} GiB to integrate, and this machine has "
            f"{there / 2**30:.3g} GiB; give smaller widths"
        )
