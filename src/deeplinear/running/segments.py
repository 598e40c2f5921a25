"""Compiled code in segments: Ctrl-C, patience, and how long a segment may be."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import jax

from ..network import Network

SEGMENT_SECONDS = 0.25  # how long the host lets a segment run before it looks and reports
LOOK_SECONDS = 0.05  # between looks for Ctrl-C
RATE, START = 1e9, 1e-6  # the guess of an evaluation: operations a second, seconds a call
PATIENCE_SECONDS = 0.5  # after Ctrl-C a segment may take this to end; then it is left to itself
T = TypeVar("T")


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C interrupts as usual. Outside the main thread it stays unset."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(number, frame):
        event.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def beside(interrupted: threading.Event) -> Iterator[Callable[[Callable[[], T]], T | None]]:
    """A caller of functions in a thread of their own, which leaves them to themselves (None) some time after Ctrl-C.

    Compiled code and the compiler cannot be interrupted, and one step of a large network may take minutes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda f: f()
        return
    pool = ThreadPoolExecutor(1)

    def call(f: Callable[[], T]) -> T | None:
        future, left = pool.submit(where_it_was(f)), PATIENCE_SECONDS
        while left > 0:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                if future.done():  # the function's own
                    raise
                left -= LOOK_SECONDS if interrupted.is_set() else 0
        return None

    try:
        yield call
    finally:
        pool.shutdown(wait=False)


def where_it_is(f: Callable[[], T]) -> T:
    """f in this thread."""
    return f()


def where_it_was(f: Callable[..., T]) -> Callable[..., T]:
    """f for another thread, on the device that JAX uses in this one."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def g(*arguments: Any) -> T:
        with jax.default_device(device):
            return f(*arguments)

    return g


def evaluation_seconds(network: Network) -> float:
    """A guess, rather too long, of the time that one evaluation of the vector field takes."""
    size = sum(W.shape[-1] * W.shape[-2] for W in network.weights)
    return START + 6 * size * min(network.widths[0], network.widths[-1]) / RATE


def next_budget(budget: int, steps: int, seconds: float) -> int:
    """Steps of the next segment, after one that took `seconds` for `steps`; `budget` were allowed."""
    return max(1, min(2 * budget, int(steps * SEGMENT_SECONDS / max(seconds, 1e-6))))
