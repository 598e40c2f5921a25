"""ROCK4's table against its defining properties, none of which the generator's own formulas are asked for."""

from __future__ import annotations

import generate_rock4
import numpy as np
import pytest
from butcher import (
    amplification,
    error_moments,
    estimated_errors,
    global_errors,
    order_defects,
    round_off,
    slope,
    tableau,
)
from rock4_numpy import rock4_step

from deeplinear.flows.stabilised import table

TABLE = table("rock4")
STAGES = TABLE["stages"]
MEMBERS = range(STAGES.size)


def place(stages: int) -> int:
    return int(np.flatnonzero(stages == STAGES)[0])


def test_family_is_dense_enough() -> None:
    assert STAGES[0] == 5
    assert STAGES[-1] == 160
    assert np.all((np.diff(STAGES) == 1) | (STAGES[1:] <= 1.06 * STAGES[:-1]))
    assert np.array_equal(np.diff(TABLE["offset"]), STAGES - 4)
    assert TABLE["mu"].size == TABLE["ka"].size == TABLE["node"].size == TABLE["offset"][-1]


@pytest.mark.parametrize("member", MEMBERS)
def test_order_conditions(member: int) -> None:
    a, b, error = tableau(rock4_step, member, TABLE, STAGES[member] + 1)
    assert np.abs(order_defects(a, b)).max() < 2e-13
    assert np.abs(error_moments(a, error)).max() < 2e-14
    m = STAGES[member] - 4
    first = TABLE["offset"][member]
    np.testing.assert_allclose(a.sum(axis=1)[1 : m + 1], TABLE["node"][first : first + m], rtol=0, atol=1e-13)


@pytest.mark.parametrize("member", MEMBERS)
def test_stability_on_the_real_interval(member: int) -> None:
    z = -TABLE["interval"][member] * np.linspace(0, 1, 40 * STAGES[member] + 1)
    value, error, _ = amplification(rock4_step, member, TABLE, z)
    noise = 1e-14 + 1e-19 * STAGES[member] ** 8.0  # of the finishing stages, near the end of the interval
    assert np.abs(value[z < -1]).max() < 0.95 + 1e-9 + noise
    assert abs(value[-1]) == pytest.approx(0.95, abs=1e-9 + noise)
    assert np.abs(value + error).max() < 1 + 1e-9 + noise


@pytest.mark.parametrize("member", MEMBERS)
def test_recurrence_stages_are_bounded_by_one(member: int) -> None:
    z = -TABLE["interval"][member] * np.linspace(0, 1, 40 * STAGES[member] + 1)
    first, last = TABLE["offset"][member : member + 2]
    previous, current = np.ones_like(z), 1 + TABLE["mu"][first] * z
    largest = np.abs(current).max()
    for mu, ka in zip(TABLE["mu"][first + 1 : last], TABLE["ka"][first + 1 : last], strict=True):
        previous, current = current, (mu * z + 1 + ka) * current - ka * previous
        largest = max(largest, np.abs(current).max())
    assert largest < 1 + 1e-12


def test_interval_grows_like_the_square_of_the_stages() -> None:
    measured = {5: 0.23993, 8: 0.30850, 12: 0.33320, 20: 0.34597, 40: 0.35139}
    for stages, expected in measured.items():
        assert TABLE["interval"][place(stages)] / stages**2 == pytest.approx(expected, abs=6e-6)
    assert TABLE["interval"][-1] / STAGES[-1] ** 2 == pytest.approx(0.353, abs=5e-4)


@pytest.mark.parametrize("stages", [5, 6, 8, 12, 20, 40, 62, 104])
def test_fourth_order_on_a_nonlinear_system(stages: int) -> None:
    counts = [8, 16, 32]
    errors = global_errors(rock4_step, place(stages), TABLE, counts)
    assert slope(1 / np.array(counts), errors) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("stages", [5, 6, 8, 12, 20, 40, 62, 104])
def test_error_estimate_has_order_three(stages: int) -> None:
    sizes = 0.04 / 2.0 ** np.arange(3)
    assert slope(sizes, estimated_errors(rock4_step, place(stages), TABLE, sizes)) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("stages", [12, 20, 40, 62, 104])
def test_round_off_grows_like_the_eighth_power_of_the_stages(stages: int) -> None:
    bound = 5e-20 * stages**8
    assert bound / 30 < round_off(rock4_step, place(stages), TABLE) < 2 * bound


def test_error_estimate_is_scaled_by_the_interval() -> None:
    np.testing.assert_allclose(TABLE["error"][:, 4] * TABLE["interval"], 1, rtol=1e-14)


def test_generator_gives_the_stored_table() -> None:
    fresh = generate_rock4.build_table([5, 8, 17, 40])
    for row, stages in enumerate([5, 8, 17, 40]):
        member = place(stages)
        here, there = slice(*fresh["offset"][row : row + 2]), slice(*TABLE["offset"][member : member + 2])
        for name in ("mu", "ka", "node"):
            np.testing.assert_allclose(fresh[name][here], TABLE[name][there], rtol=1e-9, atol=1e-12)
        for name in ("interval", "finish", "error"):
            np.testing.assert_allclose(fresh[name][row], TABLE[name][member], rtol=1e-6)
