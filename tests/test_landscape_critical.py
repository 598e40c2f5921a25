"""Critical points in order, against enumeration of all subsets and dense Hessians in the data's own coordinates."""

import itertools
import time

import brute
import landscape_oracle as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscapes import data_of, problem

import deeplinear as dl
from deeplinear import SquaredError, landscape
from deeplinear.data import NormalForm
from deeplinear.landscape.critical import CriticalPoints
from deeplinear.landscape.subsets import cheapest_subsets
from deeplinear.landscape.target import Target

VALUES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 2.5, 3.0, 4.0]), min_size=1, max_size=6)


def all_subsets(modes, largest):
    return [subset for k in range(largest + 1) for subset in itertools.combinations(modes, k)]


@given(VALUES, st.integers(0, 6), st.integers(2, 4))
def test_every_signature_once_in_the_order_of_its_value(s, bottleneck, depth):
    s = sorted(s, reverse=True)
    objective = problem(s, len(s) + 1, len(s) + 2)
    widths = (len(s) + 1, *[max(bottleneck, 1)] * (depth - 1), len(s) + 2)
    points = landscape.critical_points(objective, widths)
    rank = int(np.count_nonzero(s))
    expected = all_subsets(range(1, rank + 1), min(rank, max(bottleneck, 1)))
    up, down = list(points), list(reversed(points))
    for found in (up, down):
        assert sorted(point.signature for point in found) == sorted(expected)
    left = lambda signature: sum(x**2 for i, x in enumerate(s, start=1) if i not in signature) / 2
    for point in up:
        assert point.value == pytest.approx(left(point.signature), rel=1e-14, abs=1e-14)
    assert np.all(np.diff([point.value for point in up]) >= 0)
    assert np.all(np.diff([point.value for point in down]) <= 0)
    assert points.count == len(expected)


@given(st.lists(st.integers(0, 9), min_size=0, max_size=7), st.data())
def test_subsets_of_any_sizes_come_cheapest_first(costs, data):
    costs = sorted(costs)
    low = data.draw(st.integers(0, len(costs)))
    sizes = range(low, data.draw(st.integers(low, len(costs))) + 1)
    found = list(cheapest_subsets(costs, sizes))
    expected = [subset for k in sizes for subset in itertools.combinations(range(len(costs)), k)]
    assert sorted(found) == sorted(expected)
    totals = [sum(costs[k] for k in subset) for subset in found]
    assert totals == sorted(totals)


def test_the_first_thousand_of_two_to_the_thousand():
    gains = 15 + 0.37 * np.arange(1000)
    sigma, same = np.sqrt(gains)[::-1], np.eye(1000)
    target = Target(NormalForm(np.diag(sigma), same, same, same, True), sigma, factor=1.0, minimum=0.0)
    points = CriticalPoints(target, (1000, 1000, 1000), max_rank=1000)  # without the factorisation, which takes seconds
    started = time.perf_counter()
    lowest = [(point.signature, point.value, point.kind) for point in itertools.islice(points, 1000)]
    highest = [point.signature for point in itertools.islice(reversed(points), 1000)]
    seconds = time.perf_counter() - started
    assert points.count == 2**1000
    sums = sorted(sum(few) for k in range(4) for few in itertools.combinations(gains[:120], k))[:1000]
    assert gains[120] > sums[-1] and gains[:4].sum() > sums[-1]  # so no other subset belongs to the list
    np.testing.assert_allclose([value for _, value, _ in lowest], np.array(sums) / 2, rtol=1e-12, atol=1e-12)
    learned = [gains[[1000 - k for k in signature]].sum() for signature in highest]
    np.testing.assert_allclose(learned, sums, rtol=1e-12)
    assert lowest[0] == (tuple(range(1, 1001)), 0.0, "global minimum")
    assert seconds < 5.0  # 0.15 on a quiet machine


def test_equal_values_come_in_a_fixed_order_and_rounding_makes_no_difference():
    exact = problem([2.0, 1.0, 1.0, 1.0])
    rng = np.random.default_rng(0)
    U, V = brute.frame(rng, 4, 4), brute.frame(rng, 4, 4)
    turned = SquaredError.from_moments(U @ np.diag([2.0, 1.0, 1.0, 1.0]) @ V.T)
    order = [[point.signature for point in landscape.critical_points(o, (4, 4, 4))] for o in (exact, turned)]
    assert order[0] == order[1]
    assert order[0][:4] == [(1, 2, 3, 4), (1, 2, 3), (1, 2, 4), (1, 3, 4)]


CASES = [
    ([3.0, 2.0, 1.0], 3, 3, (3, 3, 3)),
    ([3.0, 2.0, 1.0], 4, 3, (4, 2, 3)),
    ([3.0, 2.0, 2.0], 3, 4, (3, 3, 3, 4)),
    ([2.0, 1.0, 0.0], 3, 3, (3, 4, 3)),
    ([2.0, 1.0], 2, 4, (2, 3, 2, 4)),
    ([2.0, 2.0, 1.0], 4, 3, (4, 2, 3, 2, 3)),
    ([2.0, 1.0], 2, 2, (2, 2)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_canonical_representatives_have_the_gradient_value_inertia_and_kind_that_are_told(case):
    s, d_x, d_y, widths = CASES[case]
    objective = data_of(s, d_x, d_y, seed=case)
    points = list(landscape.critical_points(objective, widths))
    for point in points:
        network = point.network(0, basis="general", condition=3.0)
        weights = [np.asarray(W) for W in network.weights]
        assert np.linalg.norm(oracle.gradient(objective, weights)) < 1e-12 * max(s)
        assert float(objective(network.end_to_end)) == pytest.approx(point.value, rel=1e-13, abs=1e-13)
        eigenvalues = np.linalg.eigvalsh(oracle.hessian(objective, weights))
        relative = eigenvalues / max(np.abs(eigenvalues).max(), 1.0)
        assert not np.any((np.abs(relative) > 1e-13) & (np.abs(relative) < 1e-6))  # so that every sign is certain
        signs = tuple(int(np.sum(side)) for side in (relative < -1e-9, abs(relative) < 1e-9, relative > 1e-9))
        assert point.inertia == signs, point
        excess = point.value - points[0].value
        kind = "strict saddle" if signs[0] else "global minimum" if excess < 1e-12 else "non-strict saddle"
        assert point.kind == kind, point


def test_kinds_on_a_fibre():
    points = landscape.critical_points(problem([3.0, 2.0, 2.0, 1.0]), (4, 3, 4, 4))
    saddle = ("strict saddle",)
    assert points.at([1]).kinds == ("non-strict saddle", "strict saddle")
    assert points.at([2]).kinds == saddle
    assert points.at([1, 2]).kinds == points.at([1, 3]).kinds == ("non-strict saddle", "strict saddle")
    assert points.at([1, 2, 3]).kinds == ("global minimum",)
    assert points.at([1, 2, 4]).kinds == saddle
    assert {p.kinds for p in landscape.critical_points(problem([2.0, 1.0]), (2, 2, 2))} == {("global minimum",), saddle}


@pytest.mark.parametrize("widths", [(3, 4, 4, 3), (3, 2, 3, 3), (3, 3, 3)])
def test_all_kinds_that_are_told_and_no_other_are_found_on_the_fibres(widths):
    objective = problem([3.0, 2.0, 1.0])
    points = landscape.critical_points(objective, widths)
    for point in points:
        found = set()
        for seed, generator in itertools.product(range(6), ("canonical", "two zero", "tightened")):
            if generator == "tightened" and len(widths) == 3:
                continue
            network = point.network(seed, generator=generator)
            weights = [np.asarray(W) for W in network.weights]
            assert float(objective(network.end_to_end)) == pytest.approx(point.value, abs=1e-13)
            lowest = np.linalg.eigvalsh(oracle.hessian(objective, weights))[0]
            assert lowest > -1e-12 or lowest < -1e-6
            flat = "global minimum" if point.value == points[0].value else "non-strict saddle"
            found.add("strict saddle" if lowest < -1e-6 else flat)
        assert found == set(point.kinds), point


def test_a_representative_of_other_widths():
    point = landscape.critical_points(problem([2.0, 1.0]), (2, 2, 2)).at([2])
    network = point.network(0, widths=(2, 3, 4, 2), generator="tightened")
    assert network.widths == (2, 3, 4, 2)
    np.testing.assert_allclose(network.end_to_end, np.diag([0.0, 1.0]), atol=1e-14)


@pytest.mark.parametrize("bottleneck", [1, 2, 4])
def test_arcs_are_counted_as_there_are_nested_signatures(bottleneck):
    points = landscape.critical_points(problem([4.0, 3.0, 2.0, 1.0, 0.0]), (5, bottleneck, 5))
    signatures = [set(point.signature) for point in points]
    for point in points:
        own = set(point.signature)
        assert point.unstable_arcs == sum(own < other for other in signatures)
        assert point.stable_arcs == sum(other < own for other in signatures)


def test_one_layer_has_the_minimum_alone():
    points = landscape.critical_points(problem([2.0, 1.0]), (2, 2))
    assert [(point.signature, point.kind) for point in points] == [((1, 2), "global minimum")]
    assert points.count == 1 == len(list(reversed(points)))
    with pytest.raises(ValueError, match="a single layer"):
        points.at([1])


def test_a_target_of_zero():
    points = landscape.critical_points(SquaredError.from_moments(np.zeros((2, 2)), trace_yy=3.0), (2, 3, 2))
    assert [(point.signature, point.value, point.kind) for point in points] == [((), 1.5, "global minimum")]


def test_indexing_from_both_ends():
    points = landscape.critical_points(problem([2.0, 1.0]), (2, 2, 2))
    assert [points[k].signature for k in range(4)] == [(1, 2), (1,), (2,), ()]
    assert [points[-1 - k].signature for k in range(4)] == [(), (2,), (1,), (1, 2)]
    with pytest.raises(IndexError):
        points[4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: landscape.critical_points(o, (3, 2, 2)), "`widths`: got"),
        (lambda o: landscape.critical_points(o, (2, 0, 2)), "every width is an int of at least 1"),
        (lambda o: landscape.critical_points(o, (2, 1, 2), max_rank=2), "`max_rank`: got 2; .* 0 to 1"),
        (lambda o: landscape.critical_points(o, (2, 1, 2), max_rank=-1), "`max_rank`: got -1"),
        (lambda o: landscape.critical_points(o, (2, 2, 2)).at([3]), "`signature`: .* the modes 1 to 2"),
        (lambda o: landscape.critical_points(o, (2, 2, 2)).at([1, 1]), "each learned mode once"),
        (lambda o: landscape.critical_points(o, (2, 1, 2)).at([1, 2]), "hold at most 1"),
        (lambda o: landscape.critical_points(lambda W: W.sum(), (2, 2)), "`objective`"),
        (lambda o: landscape.graph(problem(np.arange(1, 14)), (13, 13, 13)), "8192 signatures"),
        (lambda o: landscape.graph(problem(np.arange(1, 101))), r"about 10\^30 signatures"),
    ],
)
def test_bad_input_is_answered_by_one_line(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call(problem([2.0, 1.0]))
    assert "\n" not in str(raised.value)


def test_the_graph_is_the_hasse_diagram():
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3, dl.MEAN)
    hasse = landscape.graph(objective, (4, 2, 3))
    nodes = set(hasse)
    assert nodes == set(all_subsets((1, 2, 3), 2))
    assert set(hasse.edges) == {(a, b) for a in nodes for b in nodes if set(a) < set(b) and len(b) == len(a) + 1}
    for above, below, data in hasse.edges(data=True):
        assert set(below) - set(above) == {data["mode"]}
        assert hasse.nodes[above]["value"] - hasse.nodes[below]["value"] == pytest.approx(data["drop"], rel=1e-14)
        np.testing.assert_allclose(
            landscape.arc(objective, above, below, [0.25]).loss,
            hasse.nodes[above]["value"] - data["drop"] * (1 - 0.75**2),
            rtol=1e-14,
        )
    for point in landscape.critical_points(objective, (4, 2, 3)):
        assert hasse.nodes[point.signature]["inertia"] == point.inertia
        assert hasse.nodes[point.signature]["kinds"] == point.kinds
    assert "kinds" not in landscape.graph(objective).nodes[()]
