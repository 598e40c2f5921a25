"""CND4's table against its defining properties, none of which the generator's own formulas are asked for."""

from __future__ import annotations

import generate_cnd4
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
from cnd4_numpy import cnd4_step

from deeplinear.flows.stabilised import table

TABLE = table("cnd4")
ROCK4 = table("rock4")
STAGES = TABLE["stages"]
MEMBERS = range(STAGES.size)


def place(stages: int) -> int:
    return int(np.flatnonzero(stages == STAGES)[0])


@pytest.mark.parametrize("member", MEMBERS)
def test_order_conditions(member: int) -> None:
    a, b, error = tableau(cnd4_step, member, TABLE, STAGES[member] + 4)
    assert np.abs(order_defects(a, b)).max() < 1e-12
    assert np.abs(error_moments(a, error)).max() < 1e-12


@pytest.mark.parametrize("member", MEMBERS)
def test_stability_on_the_real_interval(member: int) -> None:
    z = -TABLE["interval"][member] * np.linspace(0, 1, 40 * STAGES[member] + 1)
    value, error, _ = amplification(cnd4_step, member, TABLE, z)
    assert np.abs(value[z < -1]).max() < 0.95 + 1e-9
    assert np.abs(value[z < 0]).max() < 1
    assert 0.5 < np.abs(error).max() < 0.6


def test_same_stability_polynomial_as_rock4() -> None:
    shared = np.isin(ROCK4["stages"], STAGES)
    np.testing.assert_array_equal(ROCK4["interval"][shared], TABLE["interval"])


@pytest.mark.parametrize("stages", [6, 8, 12, 20, 40, 62, 104])
def test_fourth_order_on_a_nonlinear_system(stages: int) -> None:
    counts = [16, 32, 64]
    errors = global_errors(cnd4_step, place(stages), TABLE, counts)
    assert slope(1 / np.array(counts), errors) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("stages", [6, 8, 12, 20, 40, 62, 104])
def test_error_estimate_has_order_three(stages: int) -> None:
    sizes = 0.04 / 2.0 ** np.arange(3)
    assert slope(sizes, estimated_errors(cnd4_step, place(stages), TABLE, sizes)) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("stages", [20, 62, 160])
def test_round_off_stays_small_at_the_end_of_the_interval(stages: int) -> None:
    assert round_off(cnd4_step, place(stages), TABLE) < 2e-12


def test_generator_gives_the_stored_table() -> None:
    fresh = generate_cnd4.build_table([6, 17, 40])
    for row, stages in enumerate([6, 17, 40]):
        member = place(stages)
        here, there = slice(*fresh["offset"][row : row + 2]), slice(*TABLE["offset"][member : member + 2])
        np.testing.assert_array_equal(fresh["place"][row], TABLE["place"][member])
        np.testing.assert_allclose(fresh["repair"][row], TABLE["repair"][member], rtol=1e-5)
        for name in ("beta", "eps"):
            np.testing.assert_allclose(fresh[name][here], TABLE[name][there], rtol=0, atol=1e-9)
