"""Every theorem's assumptions broken one by one, the order of choice, and near misses held against the flow."""

from itertools import pairwise

import numpy as np
import pytest
from problems import correlated, random_network

from deeplinear import Network, SquaredError, exact, gradient_flow, init

WHITE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)
COLOURED = correlated()


def failing(objective, network, theorem):
    table = exact.applicable(objective, network)
    assert theorem not in table.theorems
    return [c.assumption.split(",")[0] for c in table if c.theorem == theorem and not c.holds]


def scaled(network, l, factor):
    return Network([factor * W if k == l else W for k, W in enumerate(network.weights)])


@pytest.mark.parametrize(
    ("objective", "network", "theorem", "assumption"),
    [
        (WHITE, init.gaussian(0, (4, 5, 3), 0.1), "regression", "the network has one layer"),
        (
            COLOURED,
            init.decoupled(0, COLOURED, (4, 5, 3), 0.1),
            "decoupled modes",
            "every mode of the data is an eigenvector of sigma_xx",
        ),
        (WHITE, init.gaussian(0, (4, 3), 0.1), "decoupled modes", "the end-to-end matrix is diagonal in the modes"),
        (WHITE, init.balanced(0, (4, 5, 5, 3), scale=0.1), "two-layer Riccati", "the network has two layers"),
        (COLOURED, init.balanced(0, (4, 5, 3), scale=0.1), "two-layer Riccati", "sigma_xx is a multiple of the ident"),
        (WHITE, scaled(init.balanced(0, (4, 5, 3), scale=0.1), 0, 1.5), "two-layer Riccati", "the start is lambda-ba"),
        (WHITE, scaled(init.balanced(0, (4, 5, 5, 3), scale=0.1), 1, 1.5), "end-to-end flow", "neighbouring layers"),
    ],
)
def test_a_broken_assumption_is_named(objective, network, theorem, assumption):
    broken = failing(objective, network, theorem)
    assert any(found.startswith(assumption) for found in broken), broken


def test_layers_that_are_not_diagonal_are_named_alone():
    # W(0) = 0 is diagonal in every basis, and the layers are not
    network = Network([np.diag([1.0, 2.0, 0.0, 0.0])[[0, 1, 2, 2]], np.zeros((3, 4))])
    turned = Network([network.weights[0] @ np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0], W_2()])
    assert failing(WHITE, turned, "decoupled modes") == ["every layer is diagonal between common orthonormal frames"]


def W_2():
    """Reads only the neurons that the start's first layer leaves at zero."""
    return np.array([[0.0, 0.0, 1.0, -1.0], [0.0, 0.0, 0.5, -0.5], [0.0, 0.0, 0.0, 0.0]])


def test_all_violations_are_listed_at_once():
    network = random_network((4, 5, 3), scale=1.0)
    with pytest.raises(exact.NotExact) as caught:
        exact.solve(COLOURED, network)
    error = caught.value
    assert {check.theorem for check in error.checks} == {theorem.name for theorem in exact.THEOREMS}
    assert all(check.violation > check.tolerance for check in error.checks)
    assert all(check.assumption in str(error) for check in error.checks)
    assert set(error.checks) == {check for check in exact.applicable(COLOURED, network) if not check.holds}
    assert error.near_misses == () and "\n" not in str(error)
    with pytest.raises(exact.NotExact):  # nothing near enough to offer
        exact.solve(COLOURED, network, approximate=True)


@pytest.mark.parametrize(
    ("objective", "network", "theorems"),
    [
        (WHITE, init.decoupled(0, WHITE, (4, 3), 0.1), ("regression", "decoupled modes", "end-to-end flow")),
        (
            WHITE,
            init.decoupled(0, WHITE, (4, 5, 3), 0.1),
            ("decoupled modes", "two-layer Riccati", "end-to-end flow"),
        ),
        (WHITE, init.balanced(0, (4, 5, 3), scale=0.1), ("two-layer Riccati", "end-to-end flow")),
        (COLOURED, init.balanced(0, (4, 5, 3), scale=0.1), ("end-to-end flow",)),
    ],
)
def test_the_most_explicit_theorem_is_taken_and_all_agree_with_the_flow(objective, network, theorems):
    table = exact.applicable(objective, network)
    assert table.theorems == theorems
    solution = exact.solve(objective, network)
    assert solution.checks[0].theorem == theorems[0] and all(check.holds for check in solution.checks)
    ts = np.linspace(0.0, 4.0, 5)
    flow = gradient_flow(objective, network, ts, rtol=1e-10)
    for theorem in exact.THEOREMS:
        if theorem.name in theorems:
            found, _ = theorem.attempt(objective, network)
            np.testing.assert_allclose(found(ts).end_to_end, flow.end_to_end, atol=1e-8)
            for W, simulated in zip(found.trajectory(ts).networks.weights, flow.networks.weights, strict=True):
                np.testing.assert_allclose(W, simulated, atol=1e-7)


def test_the_tolerance_is_explicit():
    network = scaled(init.balanced(0, (4, 5, 3), scale=0.1), 0, 1 + 1e-6)
    assert exact.applicable(WHITE, network).theorems == ()
    assert exact.applicable(WHITE, network, tolerance=1e-4).theorems == ("two-layer Riccati", "end-to-end flow")
    assert exact.solve(WHITE, network, tolerance=1e-4).checks[-1].tolerance == 1e-4
    with pytest.raises(ValueError, match=r"^`tolerance`: got -1"):
        exact.solve(WHITE, network, tolerance=-1.0)


def test_the_table_has_a_row_for_every_check():
    table = exact.applicable(WHITE, init.balanced(0, (4, 5, 3), scale=0.1))
    lines = str(table).splitlines()
    assert lines[0].split() == ["theorem", "assumption", "violation", "tolerance", "holds"]
    assert len(lines) == len(table) + 1 and repr(table) == str(table)
    column = lines[0].index("violation")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)


def perturbed(spread, seed=0):
    A = np.random.default_rng(seed).standard_normal((4, 4))
    return SquaredError.from_moments(WHITE.sigma_yx, np.eye(4) + spread * (A + A.T) / np.linalg.norm(A + A.T, 2))


NEAR = [(WHITE, init.gaussian(seed, (4, 5, 3), eps)) for seed in (0, 1) for eps in (0.1, 0.01, 0.001)]
NEAR += [(perturbed(spread), init.balanced(0, (4, 5, 3), scale=0.03)) for spread in (1e-1, 1e-2, 1e-4)]
NEAR += [(perturbed(0.02), init.gaussian(2, (4, 5, 3), 0.1))]


@pytest.mark.parametrize(("objective", "network"), NEAR)
def test_the_error_of_near_misses_is_estimated_within_a_factor_of_ten(objective, network):
    # the tolerance keeps the end-to-end flow, which needs no white inputs, from applying
    with pytest.raises(exact.NotExact, match=r"Nearly: two-layer Riccati without .* approximate=True") as caught:
        exact.solve(objective, scaled(network, 0, 1 + 1e-8))
    solution = exact.solve(objective, scaled(network, 0, 1 + 1e-8), approximate=True)
    assert solution.near_miss == caught.value.near_misses[0]
    assert not all(check.holds for check in solution.checks)
    flow = gradient_flow(objective, network, rtol=1e-9)
    W = np.asarray(flow.end_to_end)
    off = np.linalg.norm(W - np.asarray(solution(flow.ts).end_to_end), axis=(1, 2)).max()
    error = off / np.linalg.norm(objective.optimum)
    print(f"error {error:.2e}, estimate {solution.error_estimate:.2e}")
    assert solution.error_estimate / 10 < error < solution.error_estimate * 10


def test_an_approximation_is_never_silent():
    network = init.gaussian(0, (4, 5, 3), 1e-3)
    with pytest.raises(exact.NotExact):
        exact.solve(WHITE, network)
    assert not isinstance(exact.solve(WHITE, init.balanced(0, (4, 5, 3), 0.1), approximate=True), exact.Approximation)
    deep = Network([0.1 * np.ones((b, a)) + 0.01 * np.eye(b, a) for a, b in pairwise((4, 5, 5, 3))])
    with pytest.raises(exact.NotExact) as caught:
        exact.solve(WHITE, deep, approximate=True)
    assert caught.value.near_misses == ()


@pytest.mark.usefixtures("without_annotations")
def test_bad_arguments_get_one_clear_line():
    with pytest.raises(ValueError, match=r"^`objective`: got a function"):
        exact.applicable(lambda W: W.sum(), init.gaussian(0, (4, 5, 3), 1.0))
    with pytest.raises(ValueError, match=r"^`network`: maps 3 inputs"):
        exact.solve(WHITE, init.gaussian(0, (3, 5, 3), 1.0))
