"""Products of wide matrices, which the engine packs: alone, in the field and in its derivative, against numpy."""

from ctypes import byref
from itertools import pairwise

import numpy as np
import pytest
from engine_problems import Case

from deeplinear.dynamics import engine, library
from deeplinear.dynamics.engine import Run, Settings

pytestmark = pytest.mark.usefixtures("engine_library")

SIDES = [
    (64, 64, 64),
    (63, 401, 320),  # too few rows to be packed, and the fewest
    (64, 401, 320),
    (401, 64, 320),
    (401, 320, 64),
    (199, 200, 201),  # about as many multiplications as are needed with vectors of 2 and 4
    (200, 201, 200),
    (257, 513, 255),  # about one block, about two
    (511, 512, 512),  # with vectors of 8
    (515, 517, 519),
    (67, 1301, 1607),
]
"""Rows, columns and inner index, on both sides of every limit in engine/packing.cpp; most are no multiple of 8."""


def close(ours, theirs):
    for A, B in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(A, B, rtol=0, atol=1e-13 * np.abs(B).max())


@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_numpys(level, transposed):
    rng = np.random.default_rng(0)
    for rows, columns, inner in SIDES:
        A, B = rng.standard_normal((rows, inner)), rng.standard_normal((inner, columns))
        close([engine.product(A.T if transposed else A, B, transposed)], [A @ B])


def test_whole_numbers_leave_no_rounding(level):
    """Every entry of the product of small whole numbers is exact, whatever the order of the sums."""
    rng = np.random.default_rng(1)
    A, B = (rng.integers(-9, 10, shape).astype(float) for shape in [(523, 541), (541, 509)])
    np.testing.assert_array_equal(engine.product(A, B), A @ B)
    np.testing.assert_array_equal(engine.product(A.T, B, transposed=True), A @ B)


def wide_case(widths, rank=None, plain=False):
    """Weights of about unit size; rates, decay and a mask unless `plain`."""
    rng = np.random.default_rng(sum(widths))
    weights = [rng.standard_normal((b, a)) / np.sqrt(max(a, b)) for a, b in pairwise(widths)]
    optimum, depth = rng.standard_normal((widths[-1], widths[0])), len(weights)
    root = None if rank is None else rng.standard_normal((widths[0], rank)) / np.sqrt(widths[0])
    rates = np.ones(depth) if plain else rng.uniform(0.5, 2, depth)
    decay = np.zeros(depth) if plain else rng.uniform(0, 0.1, depth)
    mask = [np.ones(W.shape, dtype=bool) if plain else rng.random(W.shape) < 0.8 for W in weights]
    return Case(weights, optimum, root, 1.0 if plain else 1.5, rates, decay, mask)


WIDE = {
    "white": wide_case((211, 229, 203), plain=True),
    "white, packed with any vectors": wide_case((521, 517, 515)),
    "fewer inputs than outputs": wide_case((203, 251, 307)),
    "rank below inputs, formed": wide_case((310, 205, 217), rank=201),
    "rank below inputs, from its root": wide_case((430, 205, 203), rank=207),
    "fewer inputs than outputs, formed": wide_case((207, 223, 311), rank=205),
    "one layer": wide_case((331, 215), rank=301),
    "four layers": wide_case((202, 207, 65, 211, 206), rank=201),
    "wide inputs, few outputs": wide_case((784, 523, 10), plain=True),
}


QUESTIONS = [(name, graded) for name, case in WIDE.items() for graded in (False, True)[: 1 + (case.root is not None)]]


@pytest.mark.parametrize(("name", "graded"), QUESTIONS)
def test_the_field_and_its_derivative_are_numpys(level, name, graded):
    case = WIDE[name]
    problem = engine.Problem(case.optimum, case.root, case.factor, case.rates, case.decay, case.mask, graded)
    close(engine.velocity(problem, case.weights), case.velocity(case.weights))
    rng = np.random.default_rng(7)
    direction = [np.where(m, rng.standard_normal(m.shape), 0.0) for m in case.mask]
    close(engine.derivative(problem, case.weights, direction), case.derivative(case.weights, direction))


@pytest.mark.parametrize("method", ["rock4", "rodas4"])
def test_where_segments_end_changes_nothing(level, method):
    """Two steps one at a time, and at once: the same bits, preconditioner included."""
    case = wide_case((203, 67, 205), rank=201, plain=True)
    runs = [Run(case.problem, case.weights, Settings(method, 1e-2, max_time=1.0)) for _ in range(2)]
    assert runs[0].advance(1, 60.0).steps + runs[0].advance(1, 60.0).steps == 3
    assert runs[1].advance(2, 60.0).steps == 2
    np.testing.assert_array_equal(runs[0].state(), runs[1].state())


def test_room_is_counted_where_products_are_packed(level):
    """Beside the matrices of a run, which grow by steps of a few percent."""

    def needed(width):
        packed = engine._Packed(wide_case((width, width), plain=True).problem, [(width, width)])
        settings = library.CSettings(0, 1e-3, 1e-12, None, 0, 1.0, -1.0, 1.0, 1, 0)
        return library.load().call["bytes"](byref(packed.c), byref(settings))

    first = 512 if level == "v4" else 200
    jump = needed(first) - needed(first - 1)
    smooth = needed(first - 1) - needed(first - 2)
    assert 8 * 256 * 256 < jump - smooth < 1e6


@pytest.mark.parametrize(
    ("change", "named"),
    [({"B": np.ones((4, 2))}, "`B`: has shape"), ({"A": np.ones((2, 0)), "B": np.ones((0, 2))}, "sizes do not fit"),
     ({"times": 0}, "sizes do not fit")],
)  # fmt: skip
def test_products_that_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        engine.product(**({"A": np.ones((2, 3)), "B": np.ones((3, 2))} | change))
