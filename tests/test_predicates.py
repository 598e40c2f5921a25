"""Special networks recognised, with margins, and what the survey assumes of the data; against brute force."""

import time
from itertools import combinations, pairwise, product

import hypothesis.strategies as st
import numpy as np
import pytest
from brute import frame, slopes
from hypothesis import given

import deeplinear as dl
from deeplinear import Network, SquaredError, predicates
from deeplinear.data import Moments, NormalForm
from deeplinear.predicates.paths import closest_paths
from deeplinear.predicates.sums import closest_sums

WIDTHS = st.lists(st.integers(1, 6), min_size=2, max_size=6).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)
KINDS = {
    "generic": lambda rng, n: rng.standard_normal(n),
    "equal": lambda rng, n: np.ones(n),
    "few values": lambda rng, n: rng.choice([2.0, 1.0, -1.0, 0.0], n),
    "zero": lambda rng, n: np.zeros(n),
}


def diagonals(rng, widths, values):
    """Rectangular diagonal layers."""
    layers = []
    for below, above in pairwise(widths):
        D, n = np.zeros((above, below)), min(above, below)
        D[np.arange(n), np.arange(n)] = values(rng, n)
        layers.append(D)
    return layers


def turned(rng, layers, outer=None):
    """The layers between Haar frames, or given ones at both ends."""
    widths = [layers[0].shape[1], *(W.shape[0] for W in layers)]
    R = [frame(rng, d, d) for d in widths]
    if outer is not None:
        R[0], R[-1] = outer
    return [above @ W @ below.T for W, (below, above) in zip(layers, pairwise(R), strict=True)]


# --- aligned -----------------------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS, st.sampled_from(sorted(KINDS)))
def test_layers_diagonal_between_common_frames_are_aligned(widths, seed, kind):
    rng = np.random.default_rng(seed)
    assert closest_paths(turned(rng, diagonals(rng, widths, KINDS[kind])), 1e-9) <= 1e-11


@given(WIDTHS, SEEDS)
def test_graded_layers_are_aligned_to_the_tolerance(widths, seed):
    # a path that one layer all but forgets, and another sees well, is known to the root of rounding alone
    rng = np.random.default_rng(seed)
    graded = diagonals(rng, widths, lambda rng, n: 10.0 ** rng.uniform(-6, 0, n))
    assert closest_paths(turned(rng, graded), 1e-9) <= 1e-9


def loops_commute(layers):
    """Truth for few layers: all closed walks through a layer are matrices that commute (Gram words up to length 6)."""
    edges = {(l, l + 1): W for l, W in enumerate(layers)} | {(l + 1, l): W.T for l, W in enumerate(layers)}
    for start in range(len(layers) + 1):
        walks, loops = [(start, np.eye((layers[0].shape[1], *map(len, layers))[start]))], []
        for _ in range(6):
            walks = [(b, edges[a, b] @ M) for a, M in walks for b in (a - 1, a + 1) if (a, b) in edges]
            loops += [M for end, M in walks if end == start]
        size = max((np.linalg.norm(M) for M in loops), default=0.0) ** 2
        for F, G in combinations(loops, 2):
            if np.linalg.norm(F @ G - G @ F) > 1e-9 * size:
                return False
    return True


@given(st.integers(1, 3), SEEDS)
def test_aligned_is_that_all_loops_through_a_layer_commute(depth, seed):
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 4, depth + 1)
    options = [
        lambda a, b: diagonals(rng, (a, b), KINDS["few values"])[0],
        lambda a, b: rng.choice([-1.0, 0.0, 1.0], (b, a)),
        lambda a, b: np.eye(b, a),
    ]
    layers = turned(rng, [options[rng.integers(3)](a, b) for a, b in pairwise(widths)])
    assert (closest_paths(layers, 1e-9) <= 1e-9) == loops_commute(layers)


def test_neighbours_that_fit_in_pairs_need_not_be_aligned():
    rng = np.random.default_rng(0)
    first, last = frame(rng, 3, 3) @ np.diag([3.0, 2.0, 1.0]), np.diag([3.0, 2.0, 1.0]) @ frame(rng, 3, 3)
    for middle in (np.eye(3), frame(rng, 3, 3)):  # an isometry fits every neighbour
        assert predicates.aligned(Network([first, middle])).holds
        assert predicates.aligned(Network([middle, last])).holds
        assert not predicates.aligned(Network([first, middle, last])).holds
    fitting = Network([first, np.eye(3), last @ np.linalg.inv(last) @ first.T])
    assert predicates.aligned(fitting).holds


def test_alignment_ignores_order_and_signs_of_singular_values():
    layers = [np.diag([1.0, -3.0, 2.0]), np.diag([0.0, 1.0, 5.0]), np.diag([7.0, 1.0, -1.0])]
    assert predicates.aligned(Network(layers)).violation <= 1e-15
    assert predicates.aligned(Network(turned(np.random.default_rng(1), layers))).violation <= 1e-14
    assert predicates.aligned(Network([np.ones((3, 2))])).holds  # one layer always is


@pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-7])
def test_violation_of_alignment_measures_the_distance(noise):
    rng = np.random.default_rng(2)
    layers = turned(rng, [np.diag([3.0, 2.0, 1.0])[:, : 3 - k] for k in (1, 0)] + [np.diag([1.0, 3.0, 2.0])])
    moved = [W + noise * rng.standard_normal(W.shape) for W in layers]
    assert 0.03 * noise < predicates.aligned(Network(moved)).violation < 10 * noise


def test_balanced_networks_are_aligned_and_rotations_keep_it():
    network = dl.init.balanced(0, (4, 5, 5, 3), scale=0.7)
    assert predicates.balanced(network, tolerance=1e-14).holds
    assert predicates.aligned(network, tolerance=1e-12).holds
    P = dl.blockshift.random_rotation(1, network.widths)
    rotated = (P @ dl.blockshift.adjacency(network) @ P.T).network
    assert predicates.aligned(rotated, tolerance=1e-12).holds
    assert not predicates.aligned(dl.init.gaussian(0, (4, 5, 5, 3), 0.7)).holds


def test_a_wide_network_is_decided_quickly():
    from deeplinear._linalg import one_thread

    rng = np.random.default_rng(0)
    with one_thread():
        start = time.process_time()
        assert predicates.aligned(Network(turned(rng, diagonals(rng, (100,) * 6, KINDS["generic"])))).holds
        assert time.process_time() - start < 2.0


# --- decoupled, diagonal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (3, 4, 5, 4), (4, 6, 3, 5, 2)])
@pytest.mark.parametrize("kind", ["generic", "equal", "few values"])
def test_decoupled_is_aligned_with_the_datas_modes(widths, kind):
    rng = np.random.default_rng(3)
    outer = frame(rng, widths[0], widths[0]), frame(rng, widths[-1], widths[-1])
    s = np.arange(min(widths[0], widths[-1]), 0, -1.0)
    Sigma = outer[1][:, : s.size] * s @ outer[0][:, : s.size].T
    layers = diagonals(rng, widths, KINDS[kind])
    network = Network(turned(rng, layers, outer))
    assert predicates.decoupled(SquaredError.from_moments(Sigma), network).holds
    # inputs that share the modes
    variances = np.arange(1.0, widths[0] + 1)
    shared = SquaredError.from_moments(Sigma, outer[0] * variances @ outer[0].T)
    assert predicates.decoupled(shared, network).holds
    # the same layers between other frames are aligned all the same
    other = Network(turned(rng, layers))
    assert predicates.aligned(other).holds
    if kind == "generic":
        check = predicates.decoupled(SquaredError.from_moments(Sigma), other)
        assert not check.holds and "not diagonal" in check.note


def test_inputs_that_do_not_share_the_modes_couple_them():
    objective = SquaredError.from_moments([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.3], [0.3, 1.0]])
    check = predicates.decoupled(objective, Network([[[0.1, 0.0], [0.0, 0.2]]] * 2))
    assert not check.holds and check.note == "the data's modes are not eigenvectors of sigma_xx"


def test_block_shift_diagonal():
    network = Network([np.diag([1.0, -2.0, 0.0])[:, :2], np.diag([0.0, 3.0, 1.0])])
    assert predicates.block_shift_diagonal(network).violation == 0.0
    off = Network([np.diag([3.0, 0.0]), [[3.0, 4.0], [0.0, 0.0]]])
    assert predicates.block_shift_diagonal(off).violation == pytest.approx(0.8, rel=1e-15)
    # diagonal is a special case of decoupled
    assert predicates.decoupled(SquaredError.from_singular_values([2.0, 1.0], 2, 3), network).holds


# --- balance -----------------------------------------------------------------------------------------------------


@given(WIDTHS, SEEDS)
def test_deltas_and_lambdas_by_brute_force(widths, seed):
    rng = np.random.default_rng(seed)
    layers = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    network = Network(layers)
    C = [layers[l + 1].T @ layers[l + 1] - layers[l] @ layers[l].T for l in range(len(layers) - 1)]
    delta = max((np.sqrt(np.sum(c**2)) for c in C), default=0.0)
    assert predicates.smallest_delta(network) == pytest.approx(delta, rel=1e-14)
    assert predicates.delta_balanced(network, delta * (1 + 1e-12)).holds
    assert not C or not predicates.delta_balanced(network, delta * (1 - 1e-12)).holds
    for c, lam in zip(C, predicates.best_lambdas(network), strict=True):
        residual = lambda l, c=c: np.sum((c - l * np.eye(len(c))) ** 2)
        step = 1e-3 * np.linalg.norm(c)
        assert residual(lam) <= min(residual(lam - step), residual(lam + step))
    size = max(np.linalg.norm(W, 2) for W in layers) ** 2
    assert predicates.balanced(network).violation == pytest.approx(
        max((np.abs(np.linalg.eigvalsh(c)).max() for c in C), default=0.0) / size, rel=1e-12
    )


@pytest.mark.parametrize("lam", [-2.0, 0.0, 1.5])
def test_lambda_balanced_starts_are_recognised(lam):
    widths = (4, 3, 5)
    network = dl.init.lambda_balanced(0, widths, lam=lam, scale=0.5)
    check = predicates.lambda_balanced(network, tolerance=1e-13)
    assert check.holds and predicates.best_lambdas(network)[0] == pytest.approx(lam, abs=1e-13)
    assert predicates.lambda_balanced(network, lam=lam, tolerance=1e-13).holds
    assert not predicates.lambda_balanced(network, lam=lam + 0.1).holds
    assert predicates.balanced(network, tolerance=1e-13).holds == (lam == 0.0)
    assert not predicates.lambda_balanced(dl.init.gaussian(0, widths, 0.5)).holds


def test_one_layer_is_balanced_and_delta_is_a_bound():
    one = Network([[[2.0, 1.0]]])
    assert predicates.balanced(one).holds and predicates.lambda_balanced(one).holds
    assert predicates.smallest_delta(one) == 0.0 and predicates.best_lambdas(one) == ()
    with pytest.raises(ValueError, match="`delta`: got -1"):
        predicates.delta_balanced(one, -1.0)


# --- tightened ---------------------------------------------------------------------------------------------------


def critical_point(rng, sigma, widths, rank, zero_blocks):
    """A = P (A_1 + Z) P^-1 of (32), (33) with the `rank` strongest modes learned; at least two blocks of Z are zero."""
    h, d_y = len(widths) - 1, widths[-1]
    Z = [rng.standard_normal((b - rank, a - rank)) for a, b in pairwise(widths)]
    Z[0] = np.hstack([np.zeros((widths[1] - rank, rank)), Z[0]])
    for l in zero_blocks:
        Z[l] = np.zeros_like(Z[l])
    layers = []
    for l, (below, above) in enumerate(pairwise(widths)):
        W = np.zeros((above, below))
        W[:rank, :rank] = np.diag(sigma[:rank]) if l == 0 else np.eye(rank)
        if l == 0:
            W[rank:] = Z[0]
        else:
            W[rank:, rank:] = Z[l]
        layers.append(W)
    P = [np.eye(widths[0]), *(np.eye(d) + 0.3 * rng.standard_normal((d, d)) for d in widths[1:-1]), np.eye(d_y)]
    return [P[l + 1] @ layers[l] @ np.linalg.inv(P[l]) for l in range(h)]


def hessian(layers, sigma_yx, sigma_xx):
    """Dense, column by column, by a complex step through the gradient."""
    shapes = [W.shape for W in layers]
    cuts = np.cumsum([W.size for W in layers])
    x = np.concatenate([W.ravel() for W in layers])
    columns = []
    for k in range(x.size):
        moved = x.astype(complex)
        moved[k] += 1e-30j
        parts = [part.reshape(shape) for part, shape in zip(np.split(moved, cuts[:-1]), shapes, strict=True)]
        columns.append(-np.concatenate([slope.ravel() for slope in slopes(parts, sigma_yx, sigma_xx)]).imag / 1e-30)
    return np.array(columns)


@pytest.mark.parametrize("widths", [(3, 3, 2), (4, 3, 3, 2), (3, 3, 4, 3, 3), (4, 3, 3, 3, 3, 2)])
def test_saddles_with_the_strongest_modes_are_strict_unless_tightened(widths):
    rng = np.random.default_rng(sum(widths))
    d_x, d_y, h = widths[0], widths[-1], len(widths) - 1
    kinds = set()
    for _ in range(16 if h < 5 else 8):
        sigma = np.sort(rng.uniform(0.5, 3.0, d_y))[::-1]
        rank = int(rng.integers(0, d_y))
        zero_blocks = rng.permutation(h)[: rng.integers(2, h + 1)]
        # data that are not in normal form: the landscape is the same
        root = np.eye(d_x) + 0.2 * rng.standard_normal((d_x, d_x))
        sigma_yx = frame(rng, d_y, d_y) @ np.eye(d_y, d_x) * np.pad(sigma, (0, d_x - d_y)) @ frame(rng, d_x, d_x).T
        moments = Moments.given(sigma_yx @ root, root.T @ root)
        form = NormalForm.of(moments)
        layers = critical_point(rng, np.diagonal(form.sigma), widths, rank, zero_blocks)
        network = form.lift(Network(layers))
        objective = SquaredError.from_moments(moments.sigma_yx, moments.sigma_xx)
        lifted = [np.asarray(W) for W in network.weights]
        assert max(np.abs(slope).max() for slope in slopes(lifted, moments.sigma_yx, moments.sigma_xx)) < 1e-12
        values = np.linalg.eigvalsh(hessian(lifted, moments.sigma_yx, moments.sigma_xx))
        strict = values[0] < -1e-7 * values[-1]
        assert strict or values[0] > -1e-13 * max(values[-1], 1.0)
        check = predicates.tightened(objective, network)
        assert check.holds == (not strict)
        assert check.note.startswith(f"rank {rank}, gradient ")
        kinds.add(strict)
        zeros = len(set(zero_blocks.tolist()))
        assert check.holds or zeros < 3  # three blocks of rank r suffice
    assert kinds == ({True} if h == 2 else {True, False})  # two layers: every saddle is strict


def test_the_near_diagonal_representative_is_tightened_from_three_layers_on():
    # the survey calls A_1 of (32) always tightened
    sigma, rng = np.array([2.0, 1.0]), np.random.default_rng(0)
    objective = SquaredError.from_singular_values(sigma, 2, 2)
    for h in (2, 3, 4):
        layers = critical_point(rng, sigma, (2,) * (h + 1), 1, range(h))
        check = predicates.tightened(objective, Network(layers))
        assert check.holds == (h > 2)
        assert check.violation == pytest.approx(0.5 if h == 2 else 0.0, abs=1e-14)
        lowest = np.linalg.eigvalsh(hessian(layers, np.diag(sigma), np.eye(2)))[0]
        assert (lowest < -1e-3) == (h == 2) and lowest < 1e-12


def test_pivots_count_pairs_of_layers_and_refuse_what_does_not_fit(without_annotations):
    objective = SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    network = dl.init.gaussian(0, (3, 4, 5, 2), 1.0)
    assert [(p.i, p.j) for p in predicates.pivots(objective, network)] == [(2, 1), (3, 1), (3, 2)]
    assert predicates.tightened(objective, Network([np.zeros((2, 3))])).note.endswith("one layer has no pivot")
    with pytest.raises(ValueError, match="`network`: maps 2 inputs to 2 outputs, but the objective has 3 and 2"):
        predicates.pivots(objective, Network([np.zeros((2, 2))]))
    with pytest.raises(
        ValueError, match="`objective`: is a function; signatures and certificates exist for squared error only"
    ):
        predicates.tightened(lambda W: 0.0, network)


# --- what is assumed of the data ---------------------------------------------------------------------------------


def brute_closest(values):
    """Smallest difference of the sums of two different subsets."""
    sums = sorted(
        sum(v for v, bit in zip(values, bits, strict=True) if bit) for bits in product((0, 1), repeat=len(values))
    )
    return min(b - a for a, b in pairwise(sums))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=9))
def test_closest_sums_of_integers(values):
    found = closest_sums(np.array(values, dtype=float))
    total = sum(values)
    assert found.gap == (brute_closest(values) / total if total else 0.0)
    assert not set(found.first) & set(found.second) and found.first + found.second
    difference = sum(values[i] for i in found.first) - sum(values[i] for i in found.second)
    assert abs(difference) == brute_closest(values)
    assert found.exhaustive


@given(st.lists(st.floats(0.01, 10.0), min_size=2, max_size=11))
def test_closest_sums_of_reals(values):
    found = closest_sums(np.array(values))
    assert found.gap * sum(values) == pytest.approx(brute_closest(values), abs=1e-14 * sum(values))


def test_all_sums_of_24_numbers_and_a_bound_beyond():
    values = np.sqrt(np.arange(2.0, 60.0))[:24] ** 1.3
    start = time.process_time()
    generic = closest_sums(values)
    assert time.process_time() - start < 4.0
    assert generic.exhaustive and 1e-15 < generic.gap < 1e-10
    planted = np.array([*values[:21], values[0] + values[4], 2.0**0.5, 2.0**0.25])
    planted[21] = values[[1, 3, 6, 8]].sum() - values[[10, 12]].sum()  # a sum of four equals one of three
    assert closest_sums(planted).gap < 1e-15
    many = np.concatenate([values + 5.0, np.linspace(0.1, 1.0, 40) ** 1.7])
    assert not closest_sums(many).exhaustive and "not all 2^64" in closest_sums(many).compared
    many[50] = many[60] + many[55]  # among the small ones, found by comparing pairs
    found = closest_sums(many)
    assert found.gap < 1e-15
    assert sorted((found.first, found.second)) == [(50,), (55, 60)]


def test_assumption_2():
    checks = predicates.generic_spectrum(SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3))
    assert [check.holds for check in checks] == [True, True, True]
    assert checks[0].margin == pytest.approx(1 / 3) and checks[1].margin == pytest.approx(1 / 3)
    assert checks[2].margin == pytest.approx(1 / 14)  # 0, 1, 4, 5, 9, 10, 13, 14
    equal = predicates.generic_spectrum(SquaredError.from_singular_values([3.0, 3.0, 1.0], 4, 3))
    assert [check.violation for check in equal] == [0.0, 1.0, 1.0]
    zero = predicates.generic_spectrum(SquaredError.from_singular_values([3.0], 4, 3))
    assert [check.holds for check in zero] == [False, False, False] and zero[0].violation == 2.0
    fewer_inputs = predicates.generic_spectrum(SquaredError.from_singular_values([3.0, 2.0], 2, 3))
    assert fewer_inputs[0].violation == 1.0
    # singular values are those in whitened inputs
    correlated = SquaredError.from_moments(np.diag([2.0, 8.0]), np.diag([4.0, 16.0]))  # 2 / 2 and 8 / 4
    assert predicates.generic_spectrum(correlated)[1].margin == pytest.approx(0.5)


def test_assumption_1():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    objective = SquaredError.of(X, Y)
    for given_Y in (None, Y):
        assert all(check.holds for check in predicates.full_rank_and_wide(objective, (4, 5, 3), given_Y))
    few = SquaredError.of(X[:2], Y[:2])  # fewer samples than inputs
    assert [check.violation for check in predicates.full_rank_and_wide(few, (4, 5, 3))] == [2.0, 1.0, 0.0]
    narrow = predicates.full_rank_and_wide(objective, (4, 1, 3))
    assert [check.violation for check in narrow] == [0.0, 0.0, 2.0]
    # outputs of full rank that the inputs do not explain: sigma_yx alone cannot show it
    inputs = np.vstack([X, X])
    outputs = np.vstack([Y, -Y])
    outputs[:, 0] = np.concatenate([X[:, 0], X[:, 0]])
    hidden = SquaredError.of(inputs, outputs)
    assert not predicates.full_rank_and_wide(hidden, (4, 5, 3))[1].holds
    assert predicates.full_rank_and_wide(hidden, (4, 5, 3), outputs)[1].holds
    assert not predicates.full_rank_and_wide(objective, (4, 5, 3), Y @ np.diag([1.0, 1.0, 0.0]))[1].holds
    with pytest.raises(ValueError, match="`widths`: got"):
        predicates.full_rank_and_wide(objective, (4, 5, 2))
    with pytest.raises(ValueError, match="`Y`: has shape"):
        predicates.full_rank_and_wide(objective, (4, 5, 3), Y[:, :2])


def test_a_check_is_the_same_value_everywhere():
    assert type(predicates.balanced(Network([[[1.0]]]))) is dl.exact.Check
