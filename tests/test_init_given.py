"""Starts with a given product and given conserved quantities: their identities, their laws, and what cannot be had."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplinear import Network, diagnostics, init

sides = st.integers(1, 5)
seeds = st.integers(0, 2**20)


def errors(network, product, imbalances):
    """Errors of the product and of every C_l, relative to powers of the largest layer."""
    weights = [np.asarray(W) for W in network.weights]
    size = max(np.linalg.norm(W, 2) for W in weights) or 1.0
    made = weights[0]
    for W in weights[1:]:
        made = W @ made
    found = [np.linalg.norm(made - product) / size ** len(weights)]
    for below, above, C in zip(weights, weights[1:], imbalances, strict=False):
        found.append(np.linalg.norm(above.T @ above - below @ below.T - C) / size**2)
    return max(found)


def gaussian_weights(rng, widths, scale=1.0):
    return [scale * rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False)]


def product_of(weights):
    return np.linalg.multi_dot([*weights[::-1], np.eye(weights[0].shape[1])])


def conserved(weights):
    return [above.T @ above - below @ below.T for below, above in pairwise(weights)]


# lambda_balanced ------------------------------------------------------------------------------------------------------


@given(sides, sides, sides, st.floats(-60, 60), st.floats(1e-4, 3), seeds)
def test_lambda_balance_wherever_it_is_feasible(d_x, d_1, d_y, lam, scale, seed):
    if (lam > 0 and d_1 > d_y) or (lam < 0 and d_1 > d_x):
        side = "outputs" if lam > 0 else "inputs"
        with pytest.raises(ValueError, match=rf"^`lam`: .* the hidden width {d_1} forbids with . {side}"):
            init.lambda_balanced(seed, (d_x, d_1, d_y), lam, scale)
        return
    network = init.lambda_balanced(seed, (d_x, d_1, d_y), lam, scale)
    assert network.widths == (d_x, d_1, d_y)
    W1, W2 = (np.asarray(W) for W in network.weights)
    size = max(np.linalg.norm(W1), np.linalg.norm(W2))
    assert np.linalg.norm(W2.T @ W2 - W1 @ W1.T - lam * np.eye(d_1)) <= 1e-14 * size**2
    assert np.linalg.matrix_rank(W1 if lam >= 0 else W2) == min(d_x, d_1, d_y)


@pytest.mark.slow
def test_lambda_balanced_starts_are_continuous_in_lambda_and_mapped():
    lams = jnp.linspace(-2.0, 2.0, 9)
    networks = jax.jit(jax.vmap(lambda lam: init.lambda_balanced(0, (3, 2, 4), lam, 0.5)))(lams)
    for k, lam in list(enumerate(lams))[::4]:
        one = init.lambda_balanced(0, (3, 2, 4), float(lam), 0.5)
        for stack, W in zip(networks.weights, one.weights, strict=True):
            np.testing.assert_allclose(stack[k], W, rtol=0, atol=1e-14)
    wide = jax.vmap(lambda lam, scale: init.lambda_balanced(0, (2, 3, 4), lam, scale))(
        jnp.array([1.0, 5.0]), jnp.ones(2)
    )
    C = jax.vmap(lambda network: diagnostics.imbalance(network)[0])(wide)
    np.testing.assert_allclose(C, np.multiply.outer([1.0, 5.0], np.eye(3)), rtol=0, atol=1e-13)
    many = jax.vmap(lambda key: init.lambda_balanced(key, (2, 3, 4), 1.0, 1.0))(jax.random.split(jax.random.key(0), 3))
    assert many.weights[0].shape == (3, 3, 2)


def test_lambda_balanced_starts_have_derivatives():
    slope = jax.jacfwd(lambda lam: init.lambda_balanced(0, (2, 3, 4), lam, 0.5).weights)(2.0)
    assert all(bool(jnp.isfinite(W).all()) for W in slope)
    flat = jax.jacfwd(lambda lam: init.lambda_balanced(0, (2, 3, 4), lam, 0.5).weights)(0.0)
    assert all(bool(jnp.isfinite(W).all()) for W in flat)


@pytest.mark.parametrize(("widths", "lam"), [((2, 3, 4), -1.0), ((4, 3, 2), 1.0)])
def test_a_traced_lambda_of_the_wrong_sign_is_not_passed_over(widths, lam):
    start = jax.jit(lambda lam: init.lambda_balanced(0, widths, lam, 1.0))
    try:
        network = start(lam)
    except Exception as problem:  # what `equinox.error_if` raises is a JAX error; tests turn it into NaN
        assert "`lam`: is" in str(problem)
    else:
        assert any(bool(jnp.isnan(W).any()) for W in network.weights)


@pytest.mark.parametrize("lam", [-1.5, 0.0, 1.5])
def test_lambda_balanced_starts_are_haar(lam):
    count = 8000
    keys = jax.random.split(jax.random.key(3), count)
    networks = jax.vmap(lambda key: init.lambda_balanced(key, (2, 2, 2), lam, 1.0))(keys)
    W = np.asarray(jax.vmap(lambda network: network.end_to_end)(networks))
    error = 4 / count**0.5
    assert abs(np.sign(np.linalg.det(W)).mean()) < error  # both components of the orthogonal groups, equally often
    for layer in [*networks.weights, W]:
        layer = np.asarray(layer)
        spread = layer.std()
        assert np.abs(layer.mean(axis=0)).max() < error * spread
        # invariant under rotations from either side: second moments are those of uncorrelated entries of one size
        flat = layer.reshape(count, -1) / spread
        kurtosis = (flat**4).mean(axis=0).max()
        np.testing.assert_allclose(flat.T @ flat / count, np.eye(4), rtol=0, atol=error * kurtosis**0.5)


def test_lambda_zero_has_the_law_of_balanced():
    keys = jax.random.split(jax.random.key(0), 4000)
    squares = lambda start: np.sort(
        np.asarray(jax.jit(lambda keys: jax.lax.map(lambda key: jnp.sum(start(key).weights[0] ** 2), keys))(keys))
    )
    ours = squares(lambda key: init.lambda_balanced(key, (4, 6, 3), 0.0, 0.7))
    theirs = squares(lambda key: init.balanced(key, (4, 6, 3), scale=0.7))
    both = np.concatenate([ours, theirs])
    distance = np.abs(np.searchsorted(ours, both, "right") - np.searchsorted(theirs, both, "right")).max() / 4000
    assert distance < 1.95 * (2 / 4000) ** 0.5  # Kolmogorov and Smirnov, one in a thousand


# from_product ---------------------------------------------------------------------------------------------------------


@given(st.lists(sides, min_size=2, max_size=5), st.floats(1, 1e3), seeds)
def test_products_are_reproduced_at_any_depth(widths, condition, seed):
    rng = np.random.default_rng(seed)
    rank = min(widths)
    product = rng.standard_normal((widths[-1], rank)) @ rng.standard_normal((rank, widths[0]))
    network = init.from_product(seed, widths, product, condition)
    assert network.widths == tuple(widths)
    np.testing.assert_allclose(
        network.end_to_end, product, rtol=0, atol=2e-15 * condition * len(widths) * np.linalg.norm(product)
    )


def test_products_in_new_bases_are_unbalanced_by_choice():
    product = np.random.default_rng(0).standard_normal((3, 3))
    turned = init.from_product(0, (3, 5, 4, 3), product, condition=1.0)
    assert max(np.linalg.norm(C) for C in diagnostics.imbalance(turned)) < 1e-14
    bent = init.from_product(0, (3, 5, 4, 3), product)
    assert min(np.linalg.norm(C) for C in diagnostics.imbalance(bent)) > 0.1
    np.testing.assert_allclose(bent.end_to_end, product, rtol=0, atol=1e-13)
    # with hidden widths equal to the rank, W_1 = G_1 W_1^b shows the condition number of G_1
    eye = init.from_product(0, (30, 30, 30), np.eye(30), condition=100.0)
    for W in eye.weights:
        assert 50 < np.linalg.cond(W) <= 100 * (1 + 1e-12)


def test_products_are_traced_and_mapped():
    rng = np.random.default_rng(0)
    products = rng.standard_normal((4, 2, 3))
    networks = jax.jit(jax.vmap(lambda key, product: init.from_product(key, (3, 4, 2), product)))(
        jax.random.split(jax.random.key(0), 4), products
    )
    made = jax.vmap(lambda network: network.end_to_end)(networks)
    np.testing.assert_allclose(made, products, rtol=0, atol=1e-13)


# from_imbalance -------------------------------------------------------------------------------------------------------


@given(sides, sides, sides, st.data())
def test_two_layers_exist_exactly_where_the_conditions_hold(d_x, d_1, d_y, data):
    # any signature, any rank of the product: feasible if and only if the counts allow it
    plus, minus = data.draw(st.integers(0, d_1)), data.draw(st.integers(0, d_1))
    minus, rank = min(minus, d_1 - plus), data.draw(st.integers(0, min(d_x, d_y)))
    rng = np.random.default_rng(data.draw(seeds))
    c = np.concatenate([rng.uniform(0.1, 3, plus), -rng.uniform(0.1, 3, minus), np.zeros(d_1 - plus - minus)])
    Q = np.linalg.qr(rng.standard_normal((d_1, d_1)))[0]
    C = (Q * c) @ Q.T
    C = (C + C.T) / 2
    product = rng.standard_normal((d_y, rank)) @ rng.standard_normal((rank, d_x))
    if plus <= d_y and minus <= d_x and rank <= d_1:
        assert errors(init.from_imbalance(0, product, [C]), product, [C]) < 1e-13
    else:
        with pytest.raises(ValueError, match=r"^`imbalances`: C_1 has|^`product`: has rank above"):
            init.from_imbalance(0, product, [C])


SHAPES = [(3, 3, 3, 3), (2, 3, 3, 2), (3, 2, 2, 3), (4, 3, 2, 5), (3, 5, 4, 3), (2, 3, 4, 3, 2), (3, 3, 3, 3, 3)]


def test_the_conserved_quantities_of_networks_are_met_at_any_depth(capsys):
    worst = {}
    for widths in [(3, 2, 3), (3, 5, 3), (2, 7, 2), (1, 1, 1), *SHAPES]:
        rng = np.random.default_rng(sum(widths))
        for k in range(4):
            weights = gaussian_weights(rng, widths)
            other = weights if k % 2 else gaussian_weights(rng, widths)
            product, C = product_of(other), conserved(weights)
            network = init.from_imbalance(k, product, C)
            worst[widths] = max(worst.get(widths, 0.0), errors(network, product, C))
            if max(widths) > 1:  # two numbers have two solutions, of which one may be the network itself
                assert max(np.linalg.norm(W - V) for W, V in zip(network.weights, weights, strict=True)) > 1e-3
    with capsys.disabled():
        print("\nworst relative error of product and conserved quantities:")
        for widths, error in worst.items():
            print(f"  {widths}: {error:.1e}")
    assert max(worst.values()) < 1e-13


@pytest.mark.parametrize("widths", [(3, 3, 3, 3), (4, 3, 3, 5), (3, 2, 2, 2, 3)])
def test_hidden_widths_equal_to_the_rank_allow_everything(widths):
    rng = np.random.default_rng(5)
    for k in range(4):
        product = product_of(gaussian_weights(rng, (widths[0], widths[1], widths[-1])))
        Z = [10.0 ** rng.uniform(-2, 2) * rng.standard_normal((d, d)) for d in widths[1:-1]]
        C = [(M + M.T) / 2 for M in Z]
        assert errors(init.from_imbalance(k, product, C), product, C) < 1e-13


@pytest.mark.parametrize(
    ("product", "lams", "widths"),
    [
        (np.eye(3), [0.0, 0.0], (3, 10, 6, 3)),  # balanced, wide
        (np.ones((4, 3)), [1.0, 0.0], (3, 3, 3, 4)),  # W_1 must have the rank of the product, W_2 and W_3 all
        (np.zeros((4, 3)), [1.0, 0.0], (3, 3, 3, 4)),  # W_1 must be zero
        (np.diag([2.0, 1.0, 0.1]), [1.0, -2.0], (3, 3, 3, 3)),
        (np.ones((2, 2)), [-1.0, 5.0], (2, 1, 1, 2)),
        (np.diag([2.0, 1.0]), [50.0], (2, 2, 2)),
    ],
)
def test_numbers_stand_for_multiples_of_the_identity(product, lams, widths):
    C = [lam * np.eye(d) for lam, d in zip(lams, widths[1:-1], strict=True)]
    for key in range(3):
        network = init.from_imbalance(key, product, lams, widths)
        assert network.widths == widths
        assert errors(network, product, C) < 1e-13


def test_keys_give_different_networks():
    C, product = [np.diag([2.0, 1.0, -1.0])], np.diag([1.0, 2.0, 3.0])
    one, again, other = (init.from_imbalance(key, product, C) for key in (0, 0, 1))
    assert all(jnp.array_equal(W, V) for W, V in zip(one.weights, again.weights, strict=True))
    assert all(float(jnp.abs(W - V).max()) > 1e-3 for W, V in zip(one.weights, other.weights, strict=True))
    # not only the aligned ones: W_1 W_1^T need not commute with C
    A = np.asarray(one.weights[0] @ one.weights[0].T)
    assert np.linalg.norm(A @ C[0] - C[0] @ A) > 1e-2


def test_networks_without_hidden_layers_or_weights():
    assert init.from_imbalance(0, [[1.0, 2.0]], []).widths == (2, 1)
    zero = init.from_imbalance(0, np.zeros((2, 2)), [0.0], (2, 3, 2))
    assert zero.widths == (2, 3, 2) and all(not W.any() for W in zero.weights)
    assert isinstance(zero, Network)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: init.lambda_balanced(0, (3, 2), 1.0, 1.0),
            r"^`widths`: got \(3, 2\); lambda-balance is of two layers",
        ),
        (
            lambda: init.lambda_balanced(0, (3, 4, 2), 1.0, 1.0),
            r"^`lam`: 1.0 is above 0, which the hidden width 4 forbids with 2 outputs: .* at most 2, or lam = 0",
        ),
        (
            lambda: init.lambda_balanced(0, (2, 4, 5), -1.0, 1.0),
            r"^`lam`: -1.0 is below 0, which the hidden width 4 forbids with 2 inputs: .* at most 2, or lam = 0",
        ),
        (lambda: init.lambda_balanced(0, (2, 2, 2), np.inf, 1.0), r"^`lam`: got inf; give one finite number"),
        (
            lambda: init.lambda_balanced(0, (2, 2, 2), np.ones(2), 1.0),
            r"^`lam`: got array\(\[1., 1.\]\); give one finite number",
        ),
        (lambda: init.lambda_balanced(0, (2, 2, 2), 1.0, 0.0), r"^`scale`: got 0.0"),
        (
            lambda: init.from_product(0, (2, 2), np.eye(2), condition=0.5),
            r"^`condition`: got 0.5; give a condition number",
        ),
        (lambda: init.from_product(0, (2, 1, 2), np.eye(2)), r"^`product`: has rank above 1"),
        (lambda: init.from_product(0, (2, 2), np.eye(3)), r"^`product`: has shape \(3, 3\)"),
        (lambda: init.from_imbalance(0, np.eye(2), [1.0]), r"^`widths`: numbers in `imbalances` do not tell"),
        (lambda: init.from_imbalance(0, np.ones(2), []), r"^`product`: has shape \(2,\); give an array \(d_y, d_x\)"),
        (lambda: init.from_imbalance(0, np.eye(2), [1.0], (2, 2, 2, 2)), r"^`imbalances`: got 1; .* have 2 hidden"),
        (lambda: init.from_imbalance(0, np.eye(2), [np.eye(3)], (2, 2, 2)), r"^`imbalances`: C_1 has shape \(3, 3\)"),
        (lambda: init.from_imbalance(0, np.eye(2), [[[0, 1], [2, 0]]]), r"^`imbalances`: C_1 is not symmetric"),
        (lambda: init.from_imbalance(0, np.eye(2), [[[np.nan]]]), r"^`imbalances`: C_1 has nan at row 1, column 1"),
        (lambda: init.from_imbalance(0, np.eye(2), [[[1.0]]]), r"^`product`: has rank above 1"),
        (
            lambda: init.from_imbalance(0, np.eye(2), [np.eye(3)]),
            r"^`imbalances`: C_1 has 3 positive eigenvalues, but W_2\^T W_2 has rank at most 2, the width of layer 2",
        ),
        (
            lambda: init.from_imbalance(0, np.ones((4, 2)), [-np.eye(3)]),
            r"^`imbalances`: C_1 has 3 negative eigenvalues, but W_1 W_1\^T has rank at most 2, the width of layer 0",
        ),
        (  # W_2^T W_2 = I on the kernel of W_1^T, yet W_2 W_2^T >= 5 I
            lambda: init.from_imbalance(0, np.ones((3, 2)), [1.0, -5.0], (2, 3, 3, 3)),
            r"^`imbalances`: no network of widths \(2, 3, 3, 3\) .* was found; 100 random starts came as close as",
        ),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_what_cannot_be_had_gets_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
