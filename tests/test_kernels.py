"""Tangent kernels against Jacobians by automatic differentiation, and the measures of laziness made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplinear import Network, SquaredError, diagnostics, gradient_flow, init, measure
from deeplinear.diagnostics import TangentKernel, ntk, tangent

EPS = np.finfo(float).eps
sides = st.integers(1, 4)
seeds = st.integers(0, 2**20)


def network_of(widths, seed):
    rng = np.random.default_rng(seed)
    return Network([rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False)])


def brute_force(network, X=None):
    """J J^T with J the Jacobian of all outputs (output-major: the rows of W X^T) by all weights."""
    outputs = lambda net: (net.end_to_end if X is None else net.end_to_end @ jnp.asarray(X).T).ravel()
    jacobian = jax.jacobian(outputs)(network)
    J = np.hstack([np.asarray(block).reshape(block.shape[0], -1) for block in jacobian.weights])
    return J @ J.T


def worst(found, true):
    return float(np.abs(np.asarray(found) - true).max() / np.abs(true).max())


# the kernel -----------------------------------------------------------------------------------------------------------

SHAPES = [(3, 2), (3, 4, 2), (2, 5, 3), (3, 1, 2), (2, 3, 4, 3), (3, 4, 2, 5, 2), (1, 1, 1, 1)]


def test_the_kernel_is_that_of_the_jacobian(capsys):
    errors = {}
    for widths in SHAPES:
        network = network_of(widths, sum(widths))
        X = np.random.default_rng(1).standard_normal((4, widths[0]))
        X[3] = X[0]  # a repeated sample
        for name, K, true in (
            ("maps", ntk(network), brute_force(network)),
            ("samples", ntk(network).on(X), brute_force(network, X)),
        ):
            V = np.random.default_rng(2).standard_normal((widths[-1], K.inputs.shape[-1]))
            spectrum = np.linalg.eigvalsh(true)[::-1]
            errors[widths, name] = max(
                worst(K.full(), true),
                worst(K.matvec(jnp.asarray(V)), (true @ V.ravel()).reshape(V.shape)),
                worst(K.trace, np.trace(true)),
                worst(K.norm, np.linalg.norm(true)),
                worst(K.spectrum(), spectrum),
                worst(K.spectrum(1), spectrum[:1]),
            )
    with capsys.disabled():
        print("\nworst relative error of kernels against jax.jacobian:")
        for (widths, name), error in errors.items():
            print(f"  {widths} on {name}: {error:.1e}")
    assert max(errors.values()) < 20 * EPS


@given(st.lists(sides, min_size=2, max_size=5), st.lists(sides, min_size=0, max_size=3), seeds)
def test_two_kernels_are_compared_as_their_matrices_are(widths, hidden, seed):
    first, second = network_of(widths, seed), network_of([widths[0], *hidden, widths[-1]], seed + 1)
    K, L = ntk(first), ntk(second)
    k, l = brute_force(first), brute_force(second)
    size = np.linalg.norm(k) * np.linalg.norm(l)
    assert abs(float(K.inner(L)) - np.sum(k * l)) < 30 * EPS * size
    assert abs(float(K.alignment(L)) - np.sum(k * l) / size) < 30 * EPS
    assert abs(float(L.inner(K)) - float(K.inner(L))) < 30 * EPS * size
    if len(hidden) == len(widths) - 2:
        scale = np.linalg.norm(k) + np.linalg.norm(l)
        assert abs(float(K.distance(L)) - np.linalg.norm(k - l)) < 30 * EPS * scale
    else:
        with pytest.raises(ValueError, match=r"^`other`: has .* layers, this kernel"):
            K.distance(L)


@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 4, 3, 2)])
def test_small_distances_keep_their_digits(widths):
    network, step = network_of(widths, 0), network_of(widths, 1)
    for size in (1e-3, 1e-6, 1e-9):
        moved = jax.tree.map(lambda W, dW, size=size: W + size * dW, network, step)
        # the same difference with weights exact in the sense of 80 bits, where numpy has them
        exact = exact_kernel(moved) - exact_kernel(network)
        true = float(np.sqrt(np.sum(exact**2)))
        assert abs(float(ntk(moved).distance(ntk(network))) - true) < 20 * EPS / size * true
    assert float(ntk(network).distance(ntk(network))) == 0.0


def exact_kernel(network):
    weights = [np.asarray(W).astype(np.longdouble) for W in network.weights]
    kernel = 0
    for l in range(len(weights)):
        above = np.eye(len(weights[-1]), dtype=np.longdouble)
        below = np.eye(weights[0].shape[1], dtype=np.longdouble)
        for W in weights[:l]:
            below = W @ below
        for W in weights[:l:-1]:
            above = above @ W
        kernel = kernel + np.kron(above @ above.T, below.T @ below)
    return kernel


@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 4, 5, 2)])
def test_the_kernel_does_not_see_rotations_of_hidden_layers(widths):
    network = network_of(widths, 3)
    weights = list(network.weights)
    for l, d in enumerate(widths[1:-1]):
        Q = np.linalg.qr(np.random.default_rng(l).standard_normal((d, d)))[0]
        weights[l], weights[l + 1] = Q @ weights[l], weights[l + 1] @ Q.T
    assert float(ntk(network).distance(ntk(Network(weights))) / ntk(network).norm) < 20 * EPS


def test_the_kernel_drives_the_map():
    network, objective = network_of((3, 4, 5, 2), 0), SquaredError.from_moments(np.arange(6.0).reshape(2, 3))
    gradients = jax.grad(lambda net: objective(net.end_to_end))(network)
    _, velocity = jax.jvp(lambda net: net.end_to_end, (network,), (jax.tree.map(jnp.negative, gradients),))
    assert worst(-ntk(network).matvec(objective.gradient(network.end_to_end)), np.asarray(velocity)) < 20 * EPS


# spectra --------------------------------------------------------------------------------------------------------------


def test_spectra_of_two_layers_are_sums():
    network = network_of((40, 6, 50), 0)  # 2000 eigenvalues, from matrices of 40 and 50
    true = np.add.outer(
        np.linalg.eigvalsh(np.asarray(network.weights[1] @ network.weights[1].T)),
        np.linalg.eigvalsh(np.asarray(network.weights[0].T @ network.weights[0])),
    )
    np.testing.assert_allclose(ntk(network).spectrum(), np.sort(true.ravel())[::-1], rtol=0, atol=20 * EPS * true.max())
    assert ntk(network_of((3, 2), 0)).spectrum().tolist() == [1.0] * 6


def test_the_largest_eigenvalues_of_large_kernels(monkeypatch):
    kernel = ntk(network_of((12, 5, 5, 12), 0))
    true = np.linalg.eigvalsh(np.asarray(kernel.full()))[::-1][:5]
    monkeypatch.setattr(tangent, "DENSE", 100)  # 144 rows are then more than is formed
    np.testing.assert_allclose(kernel.spectrum(5), true, rtol=1e-13)
    np.testing.assert_array_equal(kernel.spectrum(5), kernel.spectrum(5))
    with pytest.raises(ValueError, match=r"^`k`: got None; of 144 eigenvalues ask for fewer than half"):
        kernel.spectrum()
    with pytest.raises(ValueError, match=r"^`spectrum`: Lanczos runs on one kernel outside of jit"):
        jax.jit(lambda kernel: kernel.spectrum(5))(kernel)


# over time ------------------------------------------------------------------------------------------------------------


def two_layer_run():
    rng = np.random.default_rng(0)
    objective = SquaredError.of(rng.standard_normal((20, 3)), rng.standard_normal((20, 2)))
    return objective, gradient_flow(objective, init.gaussian(1, (3, 4, 2), 0.5), ts=[0.0, 0.5, 2.0])


def test_kernels_over_time():
    _, run = two_layer_run()
    kernels = run.map(ntk)
    W1, W2 = run.networks.weights
    gram = lambda M, N: jnp.einsum("tij,tjk->tik", M, N)
    exact = TangentKernel.two_layer(gram(W1.mT, W1), gram(W2, W2.mT))
    assert kernels.full().shape == exact.full().shape == (3, 6, 6)
    for i in range(3):
        true = brute_force(run[i])
        for kernel in (kernels[i], exact[i], jax.tree.map(lambda factor, i=i: factor[i], exact)):
            assert worst(kernel.full(), true) < 20 * EPS
        assert worst(exact.spectrum()[i], np.linalg.eigvalsh(true)[::-1]) < 20 * EPS
        assert worst(exact.on(np.eye(3)[:2]).full()[i], brute_force(run[i], np.eye(3)[:2])) < 20 * EPS
        distance = np.linalg.norm(true - brute_force(run[0]))
        assert abs(float(exact.distance(exact[0])[i]) - distance) < 20 * EPS * np.linalg.norm(true)
        assert abs(float(exact.alignment(exact[0])[i]) - cosine(true, brute_force(run[0]))) < 20 * EPS
        assert worst(exact.trace[i], np.trace(true)) < 20 * EPS
        V = jnp.ones((3, 2, 3))
        assert worst(exact.matvec(V)[i], (true @ np.ones(6)).reshape(2, 3)) < 20 * EPS


def cosine(k, l):
    return np.sum(k * l) / np.linalg.norm(k) / np.linalg.norm(l)


def test_laziness_along_a_run():
    objective, run = two_layer_run()
    start = run[0]
    data = measure(
        run,
        distance=diagnostics.kernel_distance(start),
        alignment=diagnostics.kernel_alignment(start),
        task=diagnostics.kernel_task_alignment(objective),
        movement=diagnostics.weight_movement(start),
    )
    X = np.random.default_rng(0).standard_normal((20, 3))
    y = np.asarray(X @ objective.optimum.T).T.ravel()  # what a linear map can learn of the targets
    first = brute_force(start)
    for i in range(3):
        K, samples = brute_force(run[i]), brute_force(run[i], X)
        assert abs(float(data.distance[i]) - np.linalg.norm(K - first) / np.linalg.norm(first)) < 1e-14
        assert abs(float(data.alignment[i]) - cosine(K, first)) < 1e-14
        assert abs(float(data.task[i]) - y @ samples @ y / np.linalg.norm(samples) / (y @ y)) < 1e-13
        theta, theta0 = (np.concatenate([np.ravel(W) for W in net.weights]) for net in (run[i], start))
        assert abs(float(data.movement[i]) - np.linalg.norm(theta - theta0) / np.linalg.norm(theta0)) < 1e-14
    assert float(data.distance[0]) == 0.0 and float(data.movement[0]) == 0.0
    assert data.distance.attrs["long_name"].startswith("distance of the tangent kernel")


def test_large_starts_are_lazy_and_small_ones_rich():
    objective = SquaredError.from_moments([[1.0, 0.3], [0.0, 0.5]])
    moved = {}
    for lam in (0.0, 10.0, 1000.0):
        start = init.lambda_balanced(0, (2, 2, 2), lam, 0.1)
        run = gradient_flow(objective, start, ts=[0.0, 10.0])
        moved[lam] = float(diagnostics.kernel_distance(start)(run[-1]))
    assert moved[0.0] > 5 and moved[10.0] < 0.2 and moved[1000.0] < 1e-3


def test_measures_of_nothing_are_nan():
    zero = Network([np.zeros((2, 2)), np.zeros((2, 2))])
    other = network_of((2, 2, 2), 0)
    assert np.isnan(diagnostics.kernel_distance(zero)(other))
    assert np.isnan(diagnostics.kernel_alignment(zero)(other))
    assert np.isnan(diagnostics.weight_movement(zero)(other))
    assert np.isnan(diagnostics.kernel_task_alignment(SquaredError.from_moments(np.eye(2)))(zero))


# sizes ----------------------------------------------------------------------------------------------------------------


@given(st.lists(sides, min_size=2, max_size=4), seeds)
def test_sizes_and_ranks(widths, seed):
    network = network_of(widths, seed)
    s = np.linalg.svd(np.asarray(network.end_to_end), compute_uv=False)[: min(widths)]
    layers = [np.linalg.svd(np.asarray(W), compute_uv=False) for W in network.weights]
    entropic = lambda s: np.exp(-np.sum(s / s.sum() * np.log(s / s.sum())))
    stable = lambda s: np.sum(s**2) / s[0] ** 2
    expected = {
        "frobenius": np.linalg.norm(s),
        "nuclear_norm": s.sum(),
        "effective_rank": entropic(s),
        "stable_rank": stable(s),
        "layer_norms": [np.linalg.norm(W) for W in layers],
        "layer_effective_ranks": [entropic(W) for W in layers],
        "layer_stable_ranks": [stable(W) for W in layers],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(diagnostics, name)(network), value, rtol=1e-13, err_msg=name)


def test_ranks_of_known_matrices():
    diagonal = lambda *s: Network([np.diag(s)])
    for name in ("effective_rank", "stable_rank"):
        rank = getattr(diagnostics, name)
        assert float(rank(diagonal(3.0, 3.0, 3.0))) == pytest.approx(3, rel=1e-14)
        assert float(rank(diagonal(3.0, 0.0, 0.0))) == pytest.approx(1, rel=1e-14)
        assert float(rank(diagonal(0.0, 0.0))) == 0.0
        assert np.isfinite(jax.grad(lambda net, rank=rank: rank(net))(diagonal(3.0, 2.0, 1.0)).weights[0]).all()


KERNEL = ntk(network_of((3, 2), 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TangentKernel.two_layer(np.ones((2, 3)), np.eye(2)), r"^`gram_in`: has shape \(2, 3\); give a square"),
        (lambda: TangentKernel.two_layer(np.eye(2), np.ones(2)), r"^`gram_out`: has shape \(2,\); give a square"),
        (lambda: TangentKernel.two_layer(np.ones((5, 2, 2)), np.eye(2)), r"^`gram_in`, `gram_out`: have shapes"),
        (
            lambda: KERNEL.on(np.ones((4, 2))),
            r"^`X`: has shape \(4, 2\); give samples in rows of 3",
        ),
        (
            lambda: KERNEL.on(np.eye(3)).on(np.eye(3)),
            r"^`X`: has shape \(3, 3\); .* kernel on maps",
        ),
        (lambda: KERNEL.spectrum(7), r"^`k`: got 7; this kernel has 6 eigenvalues"),
        (lambda: KERNEL.spectrum(0), r"^`k`: got 0"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_bad_questions_get_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
