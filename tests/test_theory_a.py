"""Propositions 3 to 25: they hold on random problems wherever they apply, and what was printed wrongly does not."""

from functools import cache

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from theory_problems import PROBLEMS, network, question

from deeplinear import Network, SquaredError, theory
from deeplinear.landscape.forms import lifted
from deeplinear.theory import measures, points
from deeplinear.theory.propositions import adjacency, arcs, critical, problem, second_order, stability
from deeplinear.theory.question import Question, product
from deeplinear.trajectory import Trajectory

KEYS = ("A.2", *map(str, range(3, 26)))
ENTRIES = {each.key: each for each in theory.statements() if each.key in KEYS}
NUMBERS = range(len(PROBLEMS))


@cache
def asked(number):
    return question(*PROBLEMS[number], seed=number)


@cache
def found(number):
    return {key: each(asked(number)) for key, each in ENTRIES.items()}


def test_all_of_them_are_there():
    assert set(ENTRIES) == set(KEYS)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_statement_that_applies_holds(number):
    for key, finding in found(number).items():
        assert finding.holds is not False, (key, finding)
        assert finding.applies == (finding.residual is not None)
        if finding.applies:
            assert finding.reason and finding.tolerance <= 1e-9


def test_every_statement_applies_to_many_problems():
    for key in KEYS:
        applying = [number for number in NUMBERS if found(number)[key].applies]
        assert len(applying) >= 10, key
        assert all(PROBLEMS[number][1] for number in applying)


def test_what_does_not_apply_says_how_far_off_it_is():
    for number in NUMBERS:
        for finding in found(number).values():
            assert (
                finding.applies
                or "off by" in finding.note
                or "needs two different" in finding.note
                or ("leaves a stronger mode" in finding.note)
            )


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.lists(st.floats(0.3, 3.0), min_size=4, max_size=4),
    st.integers(0, 1000),
)
@settings(max_examples=8, deadline=None)
def test_random_shapes_and_spectra(widths, s, seed):
    values = sorted(s[: min(widths[0], widths[-1])], reverse=True)
    here = question(values, tuple(widths), seed)
    for key, each in ENTRIES.items():
        assert each(here).holds is not False, key


@pytest.mark.parametrize("number", [2, 5, 10, 13, 16, 21, 24])
@pytest.mark.parametrize("scale", [0.0, 1e-5, 10.0])
def test_networks_of_every_size(number, scale):
    here = asked(number)
    other = Question(here.objective, Network([scale * np.asarray(W) for W in here.network.weights]))
    for key in (*map(str, range(4, 14)), "A.2"):
        assert ENTRIES[key](other).holds, key


@pytest.mark.parametrize("number", [5, 13, 16, 24])
def test_critical_networks(number):
    here = asked(number)
    for point in points.made(here)[::3]:
        other = Question(here.objective, Network(lifted(here.target, point.weights)))
        for key in (*map(str, range(4, 15)), "A.2"):
            assert ENTRIES[key](other).holds, (key, point.name)
        assert f"critical, S = {{{', '.join(map(str, point.signature))}}}" in ENTRIES["14"](other).note or (
            len({*np.round(here.target.sigma, 9)}) < here.target.d_y
        )


PRINTED = [
    ("A.2", 5),
    ("3", 5),
    ("3", 9),
    ("6", 0),
    ("6", 16),
    ("15", 4),
    ("18", 5),
    ("18", 17),
    ("20", 4),
    ("20", 19),
    ("21", 5),
    ("21", 16),
    ("23", 12),
    ("24", 5),
    ("24", 16),
]
"""Entries, and problems that show their printed form to be wrong."""


@pytest.mark.parametrize(("key", "number"), PRINTED)
def test_what_was_printed_is_caught(key, number):
    printed = ENTRIES[key].as_printed(asked(number))
    assert printed.holds is False and printed.residual > 1e-6, printed
    assert found(number)[key].holds


def test_every_printed_formula_is_caught_somewhere():
    assert {key for key, _ in PRINTED} == {key for key, each in ENTRIES.items() if each.as_printed is not None}


def test_the_printed_form_is_right_where_it_is_right():
    # no wide layer; three layers; white inputs: the errata concern none of these
    assert ENTRIES["3"].as_printed(question((2.0,), (1, 1, 1))).holds
    assert ENTRIES["15"].as_printed(question((2.0, 1.0), (2, 2, 2, 2))).holds
    assert ENTRIES["A.2"].as_printed(question((2.0, 1.0), (2, 3, 2), white=True)).holds


def test_both_errata_of_the_exchange_are_caught_alone():
    here = question((3.0, 2.0, 1.0), (3, 4, 4, 3))
    point = points.make_point(here, (2, 3))
    value = lambda **how: measures.second_variation(
        here.sigma, point.weights, second_order.exchange(here, point, **how)
    )[0]
    assert value() == pytest.approx(1.0 - 9.0, rel=1e-12)  # modes 1 and 3
    assert abs(value(printed=True) - (1.0 - 9.0)) > 0.1
    two = points.make_point(here, (2,))
    assert second_order._negative(here, shifted=True).residual == np.inf, "no column j"
    assert measures.second_variation(here.sigma, two.weights, second_order.exchange(here, two))[0] < 0


def test_both_errata_of_the_sum_of_squares_are_caught_alone():
    deep = question((3.0, 2.0, 1.0), (3, *[4] * 8, 3))  # nine layers: h - l_3 - 1 exceeds l_3 = 3
    early = lambda point: [bool(block.any()) for block in point.blocks] == [False] * 3 + [True] * 6
    for seed in range(1000):
        here = Question(deep.objective, deep.network, seed=seed)
        if early(point := points.make_point(here, (1, 2), "tightened")):
            break
    assert early(point)
    assert second_order.squares_gap(here, point) < 1e-12
    assert second_order.squares_gap(here, point, late=True) > 1e-3
    assert second_order.squares_gap(here, point, squared=False) > 1e-3


@pytest.mark.parametrize(
    ("module", "name", "keys"),
    [
        (problem, "flow", ("4",)),
        (adjacency, "flow", ("10",)),
        (adjacency, "velocity", ("9",)),
        (stability, "flow", ("13",)),
    ],
)
def test_a_wrong_velocity_is_caught(module, name, keys, monkeypatch):
    right, here = getattr(module, name), question((3.0, 2.0, 1.0), (4, 4, 5, 3), seed=3)
    wrong = lambda *given: [1.01 * V for V in right(*given)] if name == "velocity" else 1.01 * right(*given)
    monkeypatch.setattr(module, name, wrong)
    for key in keys:
        assert ENTRIES[key](here).holds is False, key


def test_wrong_points_are_caught(monkeypatch):
    here = question((3.0, 2.0, 1.0), (4, 4, 5, 3), seed=3)
    right = points.assemble

    def wrong(target, widths, signature, blocks):
        weights = right(target, widths, signature, blocks)
        weights[0] = 1.001 * weights[0]
        return weights

    monkeypatch.setattr(points, "assemble", wrong)
    for key in ("3", "9", "14", "15", "17", "18", "20", "21"):
        assert ENTRIES[key](here).holds is False, key


def test_a_wrong_kind_is_caught(monkeypatch):
    here = question((3.0, 2.0, 1.0), (3, 4, 4, 3))
    right = critical.classify
    swapped = {"strict saddle": "non-strict saddle", "non-strict saddle": "strict saddle"}

    def wrong(objective, network):
        answer = right(objective, network)
        object.__setattr__(answer, "kind", swapped.get(answer.kind, answer.kind))
        return answer

    monkeypatch.setattr(critical, "classify", wrong)
    assert ENTRIES["18"](here).holds is False


def test_a_wrong_arc_is_caught(monkeypatch):
    here = question((3.0, 2.0, 1.0), (3, 4, 4, 3))
    right = arcs._sums
    monkeypatch.setattr(arcs, "_sums", lambda *given: tuple(1.001 * part for part in right(*given)))
    assert ENTRIES["24"](here).holds is False


def run_of(layers_in_time):
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *map(Network, layers_in_time))
    return Trajectory(jnp.arange(float(len(layers_in_time))), stacked)


def test_paths_that_are_no_flow_are_caught():
    here = question((2.0, 1.0), (3, 3, 2), seed=1)
    layers = [np.asarray(W) for W in here.network.weights]
    stretched = run_of([layers, [2.0 * layers[0], layers[1]]])
    finding = ENTRIES["6"](Question(here.objective, here.network, stretched))
    assert finding.holds is False and finding.note == "along the trajectory"
    flown = brute.flow(here.objective, here.network, [0.0, 1.0, 3.0])
    right, backwards = (Question(here.objective, here.network, run_of(path)) for path in (flown, flown[::-1]))
    assert ENTRIES["6"](right).holds and ENTRIES["9"](right).holds and ENTRIES["13"](right).holds
    assert "drift along the trajectory" in ENTRIES["6"](right).note
    assert ENTRIES["12"](right).holds and ENTRIES["12"](backwards).holds is False


@pytest.mark.parametrize("number", [5, 12, 15])
def test_made_points_are_critical_by_brute_force(number):
    here = asked(number)
    sigma_yx, sigma_xx = np.asarray(here.objective.sigma_yx), np.asarray(here.objective.sigma_xx)
    assert {point.generator for point in points.made(here)} == set(points.generators(here))
    for point in points.made(here):
        slopes = brute.slopes(lifted(here.target, point.weights), sigma_yx, sigma_xx)
        assert max(np.abs(G).max() for G in slopes) < 1e-12, point.name
        back = point.conjugate_back(point.weights)
        assert max(np.abs(a - b).max() for a, b in zip(back, point.plain, strict=True)) < 1e-12


def test_measures_against_brute_force():
    here = question((3.0, 2.0, 1.0), (4, 4, 5, 3), seed=2)
    V = here.random_direction()
    loss = lambda t: np.sum((here.sigma - product([W + t * D for W, D in zip(here.weights, V, strict=True)])) ** 2) / 2
    polynomial = np.polynomial.Polynomial.fit(t := np.cos(np.pi * np.arange(13) / 12), [*map(loss, t)], 12).convert()
    assert measures.slope(lambda W: measures.square_loss(here.sigma, W), here.weights, V) == pytest.approx(
        polynomial.coef[1], rel=1e-9
    )
    second, size = measures.second_variation(here.sigma, here.weights, V)
    assert second == pytest.approx(2 * polynomial.coef[2], rel=1e-9) and size >= abs(second)


def test_curvature_of_large_networks_is_that_of_the_dense_hessian(monkeypatch):
    here = question((3.0, 2.0, 1.0), (4, 4, 5, 3), seed=2)
    point = points.make_point(here, (2,))
    dense = measures.extreme_curvatures(here, point.weights)
    monkeypatch.setattr(measures, "DENSE_WEIGHTS", 0)
    lanczos = measures.extreme_curvatures(here, point.weights)
    assert lanczos[:2] == pytest.approx(dense[:2], rel=1e-6)
    assert dense[2] == "dense Hessian" and "Lanczos" in lanczos[2]


def test_statements_of_large_networks(monkeypatch):
    here = question((3.0, 2.0, 1.0), (4, 4, 5, 3), seed=2)
    monkeypatch.setattr(problem, "JACOBIAN", 0)
    monkeypatch.setattr(adjacency, "EIGEN", 0)
    monkeypatch.setattr(measures, "DENSE_NODES", 0)
    monkeypatch.setattr(measures, "DENSE_WEIGHTS", 0)
    monkeypatch.setattr(points, "LARGE", 0)
    for key in ("3", "5", "11", "18", "23"):
        assert ENTRIES[key](here).holds, key
    assert ENTRIES["3"](here).note.split()[:4] == found_note(question((3.0, 2.0, 1.0), (4, 4, 5, 3), seed=2), "3")
    assert "angles" in ENTRIES["11"](here).note and "Lanczos" in ENTRIES["18"](here).note


def found_note(here, key):
    return ENTRIES[key](here).note.split()[:4]


def test_null_directions_of_the_inputs_do_not_count():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 5))
    here = Question(SquaredError.of(X, X @ rng.standard_normal((5, 2))), network((5, 4, 3, 2), 1))
    assert here.widths == (3, 4, 3, 2)
    for key, each in ENTRIES.items():
        assert each(here).holds is not False, key
