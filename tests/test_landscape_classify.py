"""Classification of critical points against dense Hessians in numpy, mpmath and complex steps."""

import time
from functools import cache
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscape_oracle import chain, flat, gradient, hessian, inertia, scale_of_gradient

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear.conventions import LOSS_SCALES
from deeplinear.landscape import classify, inertia_of_signature, network_on_fibre, parameters
from deeplinear.landscape.forms import Quadratic
from deeplinear.landscape.target import Target

GENERATORS = ("canonical", "two zero", "tightened", "cyclic")
SHAPES = ((3, 3), (5, 3), (2, 4), (4, 4), (1, 3), (4, 1))
SPECTRA = ((3.0, 2.0, 1.0, 0.5), (2.0, 2.0, 1.0, 1.0), (3.0, 1.0, 1.0, 0.0), (1.5, 1.5, 1.5, 0.7))


def arrays(network):
    return [np.asarray(W) for W in network.weights]


def frame(rng, size):
    return np.linalg.qr(rng.standard_normal((size, size)))[0]


@cache
def problem(shape, spectrum, inputs, scale=dl.HALF_MEAN):
    """A squared error with given singular values in whitened inputs; inputs "white", "correlated" or "singular"."""
    (d_x, d_y), rng = shape, np.random.default_rng(sum(shape))
    if inputs == "white":
        return SquaredError.from_singular_values(spectrum[: min(shape)], d_x, d_y, scale)
    seen = d_x - 1 if inputs == "singular" and d_x > 1 else d_x
    root = frame(rng, d_x)[:, :seen] * np.linspace(1.4, 0.6, seen)
    sigma = np.zeros((d_y, seen))
    np.fill_diagonal(sigma, spectrum)
    sigma_yx = frame(rng, d_y) @ sigma @ frame(rng, seen).T @ root.T
    return SquaredError.from_moments(sigma_yx, root @ root.T, scale=scale, count=7)


def critical_points(count, seed, scale=dl.HALF_MEAN):
    """Objective, signature, widths, network, generator; the largest modes more often than chance would have them."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        objective = problem(
            SHAPES[rng.integers(len(SHAPES))],
            SPECTRA[rng.integers(len(SPECTRA))],
            ("white", "correlated", "singular")[rng.integers(3)],
            scale,
        )
        target = Target.of(objective)
        d_y, d_x = objective.optimum.shape
        widths = (d_x, *rng.integers(1, 6, rng.integers(1, 5)).tolist(), d_y)
        r = int(rng.integers(target.max_rank(widths) + 1))
        S = tuple(range(1, r + 1)) if rng.random() < 0.5 else tuple(rng.permutation(target.rank)[:r] + 1)
        generator = GENERATORS[rng.integers(len(GENERATORS))]
        if generator == "tightened" and len(widths) < 4:
            generator = "two zero"
        key, basis = int(rng.integers(2**31)), ("canonical", "orthogonal", "general")[rng.integers(3)]
        network = network_on_fibre(
            objective, [int(k) for k in S], key, widths, generator=generator, basis=basis, condition=4.0
        )
        yield objective, S, widths, network, generator


def check(objective, S, widths, network, generator):
    """One point against brute force: gradient, kind, inertia and certificate."""
    weights = arrays(network)
    size = scale_of_gradient(objective, weights)
    assert np.linalg.norm(gradient(objective, weights)) <= 1e-12 * size
    H = hessian(objective, weights)
    truth, (zero, other) = inertia(H, 1e-3 * float(objective.factor))
    assert zero < 1e-11 and other > 1e-7, "the brute-force inertia itself is not clear"
    found = classify(objective, network)
    lowest = smallest_loss(objective, widths)
    off = chain(weights, widths[0]) - np.asarray(objective.optimum)
    loss = float(objective.minimum + objective.factor / 2 * np.sum(off @ np.asarray(objective.sigma_xx) * off))
    kind = "strict saddle" if truth[0] else "non-strict saddle" if loss > lowest + 1e-8 else "global minimum"
    assert found.kind == kind, (widths, S, generator)
    assert found.inertia == truth, (widths, S, generator)
    assert not found.ambiguous, found.message
    assert found.rank == len(S)
    assert found.loss == pytest.approx(loss, rel=1e-12, abs=1e-14)
    assert (found.certificate is not None) == (kind == "strict saddle")
    if found.certificate is not None:
        V = flat(found.certificate.direction.weights)
        assert found.certificate.value < 0
        assert pytest.approx(found.certificate.value, rel=1e-10) == V @ H @ V
        assert np.linalg.norm(V) == pytest.approx(1.0, rel=1e-12)
    if generator == "canonical":
        assert inertia_of_signature(Target.of(objective), widths, [int(k) for k in S]) == truth
    return kind


def smallest_loss(objective, widths):
    """Of all maps of rank at most min(widths), by numpy's SVD of the targets in whitened inputs."""
    values, Q = np.linalg.eigh(np.asarray(objective.sigma_xx))
    kept = values > 1e-10
    s = np.linalg.svd(np.asarray(objective.sigma_yx) @ Q[:, kept] / np.sqrt(values[kept]), compute_uv=False)
    return float(objective.minimum) + float(objective.factor) / 2 * float(np.sum(s[min(widths) :] ** 2))


def test_two_hundred_critical_points_are_what_their_hessians_say():
    kinds = [check(*point) for point in critical_points(200, seed=0)]
    assert {kind: kinds.count(kind) for kind in set(kinds)}.keys() == {
        "global minimum",
        "strict saddle",
        "non-strict saddle",
    }
    assert min(kinds.count(kind) for kind in set(kinds)) >= 15


@pytest.mark.slow
def test_three_thousand_critical_points_are_what_their_hessians_say():
    kinds = [check(*point) for point in critical_points(3000, seed=1)]
    assert min(kinds.count(kind) for kind in set(kinds)) >= 300


def test_the_brute_force_hessian_is_the_derivative_of_the_gradient():
    rng = np.random.default_rng(0)
    objective = problem((5, 3), SPECTRA[0], "correlated", dl.MEAN)
    weights = [rng.standard_normal((b, a)) for a, b in pairwise((5, 4, 3, 3))]
    V = [rng.standard_normal(W.shape) for W in weights]
    step = 1e-30
    slope = gradient(objective, [W + 1j * step * v for W, v in zip(weights, V, strict=True)]).imag / step
    H = hessian(objective, weights)
    np.testing.assert_allclose(H @ flat(V), slope, rtol=1e-12, atol=1e-12)
    loss = Quadratic.of(objective)
    np.testing.assert_allclose(loss.hessian(weights), H, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(flat(loss.times(weights, V)), slope, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(flat(loss.gradient(weights)), gradient(objective, weights), rtol=1e-12, atol=1e-12)
    assert loss.form(weights, V) == pytest.approx(flat(V) @ slope, rel=1e-12)


def mp_second_derivative(objective, weights, V):
    """d^2 L / d e^2 at 0 in 80 digits: the polynomial in e by a central difference whose error is 1e-40."""
    with mp.workdps(80):
        matrix = lambda M: mp.matrix(np.asarray(M, dtype=float).tolist())
        S, M, c = matrix(objective.sigma_xx), matrix(objective.sigma_yx), mp.mpf(float(objective.factor))
        trace = lambda A: mp.fsum(A[i, i] for i in range(A.rows))

        def loss(e):
            W = matrix(weights[0]) + e * matrix(V[0])
            for layer, v in zip(weights[1:], V[1:], strict=True):
                W = (matrix(layer) + e * matrix(v)) * W
            return c * (trace(W * S * W.T) / 2 - trace(M * W.T))

        e = mp.mpf(10) ** -20
        return float((loss(e) - 2 * loss(0) + loss(-e)) / e**2)


def test_certificates_agree_with_mpmath():
    held = 0
    for objective, _, _, network, _ in critical_points(40, seed=5, scale=dl.MEAN):
        found = classify(objective, network)
        if found.certificate is not None:
            weights, V = arrays(network), arrays(found.certificate.direction)
            truth = mp_second_derivative(objective, weights, V)
            assert found.certificate.value == pytest.approx(truth, rel=1e-10)
            held += 1
    assert held >= 10


def test_exchanging_two_modes_costs_what_the_survey_says():
    # one unit wide: the plane of the exchange holds the lowest eigenvalue
    objective = SquaredError.from_singular_values([3.0, 2.0], 2, 2)
    network = network_on_fibre(objective, (2,), 0, (2, 1, 2), basis="canonical")
    found = classify(objective, network)
    lowest = np.linalg.eigvalsh(hessian(objective, arrays(network)))[0]
    assert found.certificate.value == pytest.approx(lowest, rel=1e-12)
    assert "larger" in found.message


def test_parameters_make_the_network_again():
    for objective, S, _, network, _ in critical_points(60, seed=2):
        found = parameters(objective, network)
        assert len(found.signature) == len(S)
        groups = Target.of(objective).groups
        assert sorted(groups[k - 1] for k in found.signature) == sorted(groups[k - 1] for k in S)
        assert sum(count for _, count in found.groups) == len(S)
        for W, again in zip(arrays(network), arrays(found.network()), strict=True):
            np.testing.assert_allclose(again, W, rtol=0, atol=1e-12 * max(1.0, np.abs(W).max()))
        optimum = np.asarray(objective.optimum)
        np.testing.assert_allclose(
            found.projector @ optimum, chain(arrays(network), network.widths[0]), rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(found.projector @ found.projector, found.projector, rtol=0, atol=1e-12)


def test_parameters_find_the_blocks_and_the_bases():
    objective, widths = problem((4, 4), SPECTRA[0], "white"), (4, 5, 6, 4)
    rng = np.random.default_rng(3)
    Z = [np.zeros((3, 4)), rng.standard_normal((4, 3)), np.zeros((2, 4))]
    network = network_on_fibre(objective, (1, 3), 1, widths, Z=Z)
    found = parameters(objective, network)
    assert found.signature == (1, 3)
    # orthogonal changes of basis leave the singular values of the blocks alone
    for block, wanted in zip(found.blocks, Z, strict=True):
        assert block.shape == wanted.shape
        s = np.linalg.svd(wanted, compute_uv=False)
        np.testing.assert_allclose(np.linalg.svd(block, compute_uv=False), s, rtol=0, atol=1e-13)
    assert [P.shape for P in found.bases] == [(5, 5), (6, 6)]


def test_the_canonical_form_is_the_surveys():
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)
    rng = np.random.default_rng(0)
    Z = [np.zeros((2, 4)), rng.standard_normal((3, 2)), np.zeros((1, 3))]
    W1, W2, W3 = arrays(network_on_fibre(objective, (1, 3), 0, (4, 4, 5, 3), Z=Z, basis="canonical"))
    np.testing.assert_allclose(W1[:2], [[3, 0, 0, 0], [0, 0, 1, 0]], atol=1e-14)
    np.testing.assert_allclose(W2[:2, :2], np.eye(2), atol=1e-14)
    np.testing.assert_allclose(W2[2:, 2:], Z[1], atol=1e-14)
    np.testing.assert_allclose(W3, [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], atol=1e-14)


def test_a_mixture_of_equal_modes_is_a_projector():
    objective, angle = SquaredError.from_singular_values([2.0, 2.0, 1.0], 3, 3), 0.3
    u = np.array([np.cos(angle), np.sin(angle), 0.0])
    network = Network([2.0 * u[None, :], np.array([[1.0]]), u[:, None]])
    found = classify(objective, network)
    assert found.kind == "global minimum" and found.signature == (1,)
    assert found.groups == (((1, 2), 1), ((3,), 0))
    np.testing.assert_allclose(parameters(objective, network).projector, np.outer(u, u), atol=1e-14)
    assert found.inertia == inertia(hessian(objective, arrays(network)), 1e-3)[0]


def test_a_change_of_basis_and_the_scale_of_the_loss_change_nothing():
    rng = np.random.default_rng(4)
    decided = lambda report: [pivot[:5] for pivot in report.pivots]  # what rounding leaves of a zero is no decision
    summary = lambda report: (report.kind, report.signature, report.inertia, decided(report), report.ambiguous)
    for objective, _, _, network, _ in critical_points(20, seed=6):
        expected = summary(classify(objective, network))
        moved = arrays(network)
        for l, d in enumerate(network.widths[1:-1]):
            P = frame(rng, d) @ np.diag(np.linspace(0.3, 3.0, d)) @ frame(rng, d)
            moved[l], moved[l + 1] = P @ moved[l], moved[l + 1] @ np.linalg.inv(P)
        assert summary(classify(objective, Network(moved))) == expected
        for scale in LOSS_SCALES.values():
            scaled = SquaredError.from_moments(objective.sigma_yx, objective.sigma_xx, scale=scale, count=11)
            assert summary(classify(scaled, network)) == expected


def test_layers_of_very_different_sizes_are_the_same_point():
    objective = problem((4, 4), SPECTRA[0], "white")
    network = network_on_fibre(objective, (1, 2), 3, (4, 5, 5, 5, 4), generator="two zero")
    weights = arrays(network)
    lopsided = Network([1e5 * weights[0], weights[1] / 1e6, weights[2], 10 * weights[3]])
    assert classify(objective, lopsided).inertia == classify(objective, network).inertia


@pytest.mark.parametrize("how", ("dense", "lanczos"))
def test_inertia_by_numbers_agrees_with_the_formula(how):
    for objective, _, _, network, _ in critical_points(20, seed=8):
        assert classify(objective, network, inertia=how).inertia == classify(objective, network).inertia


def test_lanczos_counts_what_is_too_large_for_a_matrix():
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 30, 3)
    network = network_on_fibre(objective, (2,), 0, (30, 40, 40, 3), generator="two zero", basis="general")
    assert sum(W.size for W in network.weights) > 2000
    assert classify(objective, network, inertia="lanczos").inertia == classify(objective, network).inertia


@pytest.mark.parametrize("generator", GENERATORS)
def test_beside_a_critical_point_the_point_is_found(generator):
    rng, objective = np.random.default_rng(9), problem((4, 4), SPECTRA[0], "correlated")
    for S in ((1, 2), (2,)):
        network = network_on_fibre(objective, S, 5, (4, 5, 6, 5, 4), generator=generator)
        V = [rng.standard_normal(W.shape) for W in network.weights]
        for size in (1e-7, 1e-3):
            step = size / np.linalg.norm(flat(V))
            near = Network([np.asarray(W) + step * v for W, v in zip(network.weights, V, strict=True)])
            found = classify(objective, near)
            assert found.kind == "not critical" and found.signature is None and found.inertia is None
            assert found.nearest is not None and found.distance <= 3 * size
            weights = arrays(found.nearest)
            moved = [a - np.asarray(b) for a, b in zip(weights, near.weights, strict=True)]
            assert np.linalg.norm(flat(moved)) == pytest.approx(found.distance, rel=1e-6)
            assert np.linalg.norm(gradient(objective, weights)) <= 1e-11 * scale_of_gradient(objective, weights)
            assert classify(objective, found.nearest).signature == S


def test_a_wider_tolerance_calls_the_point_nearby():
    objective = problem((3, 3), SPECTRA[0], "white")
    network = network_on_fibre(objective, (1,), 0, (3, 4, 4, 3))
    near = Network([np.asarray(W) + 1e-5 for W in network.weights])
    found = classify(objective, near, tol=1e-3)
    assert found.signature == (1,) and found.ambiguous and "away" in found.message
    assert classify(objective, near).gradient_norm == pytest.approx(
        np.linalg.norm(gradient(objective, arrays(near))), rel=1e-12
    )


def test_a_random_network_is_not_critical():
    objective = problem((4, 4), SPECTRA[0], "white")
    found = classify(objective, dl.init.gaussian(0, (4, 5, 4), 0.7))
    assert found.kind == "not critical" and found.certificate is None and found.pivots == ()
    assert "exceeds `tol`" in found.message


def test_a_rank_near_the_tolerance_is_called_ambiguous():
    objective, widths = problem((4, 4), SPECTRA[0], "white"), (4, 5, 5, 4)
    make = lambda size: network_on_fibre(
        objective, (1,), 1, widths, Z=[np.zeros((4, 4)), size * np.eye(4), np.zeros((3, 4))]
    )
    assert classify(objective, make(1.0)).kind == "strict saddle" and not classify(objective, make(1.0)).ambiguous
    found = classify(objective, make(1e-7))
    assert found.ambiguous and "rank_tolerance" in found.message and found.margin < 100
    assert classify(objective, make(0.0)).kind == "non-strict saddle"


def test_nearly_equal_singular_values_are_called_ambiguous():
    objective = SquaredError.from_singular_values([2.0 + 2e-8, 2.0, 1.0], 3, 3)
    assert classify(objective, network_on_fibre(objective, (2,), 0, (3, 3, 3, 3))).ambiguous


def test_one_layer_has_one_critical_value():
    objective = problem((2, 4), SPECTRA[0], "correlated")
    found = classify(objective, Network([objective.optimum]))
    assert found.kind == "global minimum" and found.inertia == (0, 0, 8) and found.pivots == ()
    assert classify(objective, Network([np.zeros((4, 2))])).kind == "not critical"
    with pytest.raises(ValueError, match=r"`signature`: got \(1,\); a single layer is critical only"):
        network_on_fibre(objective, (1,), 0, (2, 4))


def test_where_nothing_can_be_learned_zero_is_the_minimum():
    objective = SquaredError.from_moments(np.zeros((2, 3)))
    found = classify(objective, Network([np.zeros((2, 3)), np.zeros((2, 2))]))
    assert found.kind == "global minimum" and found.signature == () and found.inertia == (0, 10, 0)
    found = classify(objective, Network([np.zeros((2, 3)), np.eye(2)]))
    assert found.kind == "global minimum" and found.inertia == (0, 4, 6)


def test_modes_that_rounding_may_have_made_are_called_ambiguous():
    rng = np.random.default_rng(11)
    root = frame(rng, 5) * np.logspace(0, -4, 5)
    sigma = np.diag([2.0, 1.0, 1e-9, 0.0])[:, :3] @ np.eye(3, 5)  # within what the inputs' condition makes of rounding
    objective = SquaredError.from_moments(frame(rng, 4) @ sigma @ frame(rng, 5) @ root.T, root @ root.T)
    assert Target.of(objective).rank > 2
    found = classify(objective, network_on_fibre(objective, (1, 2), 0, (5, 4, 6, 4), generator="tightened"))
    assert found.ambiguous and "may be rounding" in found.message


def test_two_layers_have_no_non_strict_saddle():
    objective = problem((3, 3), SPECTRA[0], "white")
    for r in (0, 1, 2):
        found = classify(objective, network_on_fibre(objective, range(1, r + 1), r, (3, 4, 3)))
        assert found.kind == "strict saddle" and not found.pivots[0].tightened


def test_two_hundred_weights_take_less_than_fifty_milliseconds():
    objective = problem((4, 4), SPECTRA[0], "correlated")
    network = network_on_fibre(objective, (1, 2), 0, (4, 8, 8, 6, 4), generator="cyclic")
    assert sum(W.size for W in network.weights) >= 160
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        classify(objective, network)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


def test_bad_input_is_named(without_annotations):
    objective = problem((3, 3), SPECTRA[0], "white")
    network = network_on_fibre(objective, (1,), 0, (3, 3, 3))
    for call, message in (
        (lambda: classify(lambda W: W.sum(), network), "`objective`: is a function; .*curvature.extreme_eigenvalues"),
        (
            lambda: classify(objective, dl.init.gaussian(0, (3, 2, 4), 1.0)),
            r"`network`: maps 3 inputs to 4 outputs",
        ),
        (lambda: parameters(objective, dl.init.gaussian(0, (4, 2, 3), 1.0)), r"maps 4 inputs to 3 outputs"),
        (lambda: classify(objective, "network"), "`network`: got 'network'; give a Network, or a list"),
        (lambda: classify(objective, network, tol=0.0), "`tol`: got 0.0"),
        (lambda: classify(objective, network, rank_tolerance=2.0), "`rank_tolerance`: got 2.0"),
        (lambda: classify(objective, network, inertia="none"), "`inertia`: got 'none'"),
        (
            lambda: network_on_fibre(objective, (4,), 0, (3, 3, 3)),
            r"`signature`: got \(4,\); the data have the modes 1",
        ),
        (lambda: network_on_fibre(objective, (1, 1), 0, (3, 3, 3)), "`signature`: .* once"),
        (lambda: network_on_fibre(objective, (1, 2), 0, (3, 1, 3)), "`signature`: got 2 modes"),
        (lambda: network_on_fibre(objective, (1,), 0, (3, 3, 2)), "`widths`: got"),
        (lambda: network_on_fibre(objective, (1,), 0, (3, 3, 3), generator="magic"), "`generator`: got 'magic'"),
        (lambda: network_on_fibre(objective, (1,), 0, (3, 3, 3), generator="tightened"), "'tightened' needs 3 layers"),
        (lambda: network_on_fibre(objective, (1,), 0, (3, 3, 3), basis="magic"), "`basis`: got 'magic'"),
        (lambda: network_on_fibre(objective, (1,), 0, (3, 3, 3), condition=0.5), "`condition`: got 0.5"),
        (lambda: network_on_fibre(objective, (1,), 0, (3, 3, 3), Z=[np.eye(2)]), "`Z`: has blocks of shapes"),
        (
            lambda: network_on_fibre(objective, (1,), 0, (3, 3, 3), Z=[np.ones((2, 3)), np.ones((2, 2))]),
            "`Z`: the product around block 1",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_weights_that_are_not_finite_are_named():
    objective = problem((3, 3), SPECTRA[0], "white")
    network = network_on_fibre(objective, (1,), 0, (3, 3, 3))
    broken = dl.network.Network.__new__(Network)
    object.__setattr__(broken, "weights", (network.weights[0], network.weights[1] * np.nan))
    with pytest.raises(ValueError, match="`network`: layer 2 has entries that are NaN"):
        classify(objective, broken)


def test_dense_inertia_refuses_what_is_too_large():
    objective = SquaredError.from_singular_values([1.0], 40, 40)
    network = Network([np.zeros((40, 40)), np.zeros((40, 40))])
    with pytest.raises(ValueError, match="'dense' forms the Hessian of 3200 weights"):
        classify(objective, network, inertia="dense")


# pivots near the tolerance --------------------------------------------------------------------------------------------


def near_tightened(seed, size, shapes=((3, 4, 4, 3), (3, 4, 4, 4, 3))):
    """A critical point with one block of Z that is not zero, of the given size in units of its layer."""
    rng = np.random.default_rng(seed)
    widths, r = shapes[int(rng.integers(len(shapes)))], int(rng.integers(0, 3))
    sigma = np.sort(rng.uniform(1.0, 3.0, 3))[::-1]
    objective, h = SquaredError.from_singular_values(sigma, 3, 3), len(widths) - 1
    Z = [np.zeros((b - r, a - r if l else a)) for l, (a, b) in enumerate(pairwise(widths))]
    k = int(rng.integers(1, h - 1)) if h > 3 else 1
    Z[k] = rng.standard_normal(Z[k].shape)
    Z[k] *= size / np.linalg.norm(Z[k], 2)
    return objective, network_on_fibre(objective, tuple(range(1, r + 1)), seed, widths, Z=Z, basis="canonical")


@pytest.mark.search
@given(st.integers(0, 2**32 - 1), st.floats(-12.0, -4.0))
def test_search_both_doors_decide_alike_on_pivots(seed, exponent):
    objective, network = near_tightened(seed, 10**exponent)
    found, check = classify(objective, network), dl.predicates.tightened(objective, network)
    assert found.kind in ("strict saddle", "non-strict saddle")
    assert check.holds == all(pivot.tightened for pivot in found.pivots) == (found.kind == "non-strict saddle")
    assert [p[:5] for p in dl.predicates.pivots(objective, network)] == [p[:5] for p in found.pivots]
    apart = max(10**exponent / 1e-8, 1e-8 / 10**exponent)
    assert found.margin <= 10 * apart  # products with one block have its size, in units of layers of size 1 to 3
    assert found.ambiguous or found.margin >= 100


def test_a_block_below_the_tolerance_is_no_clear_zero():
    objective, network = near_tightened(3, 5e-9, ((3, 4, 4, 3),))
    found, check = classify(objective, network), dl.predicates.tightened(objective, network)
    assert found.kind == "non-strict saddle" and check.holds
    assert found.ambiguous and 1 < found.margin < 10 and 1 < check.margin < 10
