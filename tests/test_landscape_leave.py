"""Steps off strict saddles, chains from the origin, other blocks Z on the same fibre."""

import jax
import jax.flatten_util
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear.landscape import chain, classify, leave, network_on_fibre, parameters, same_fiber, with_blocks

FOUR = SquaredError.from_singular_values([4.0, 3.0, 2.0, 1.0], 4, 4)


def gradient_norm(objective, network):
    return float(np.linalg.norm(jax.flatten_util.ravel_pytree(jax.grad(lambda n: objective(n.end_to_end))(network))[0]))


@pytest.mark.parametrize("widths", [(4, 5, 4), (4, 3, 5, 4)])
@pytest.mark.parametrize("signature", [(2,), (1, 3), (2, 3, 4)])
def test_a_step_off_a_strict_saddle_goes_down_as_far_as_its_line_does(widths, signature):
    if len(signature) > min(widths):
        signature = signature[1:]
    saddle = network_on_fibre(FOUR, signature, 1, widths, generator="two zero", basis="general", condition=3.0)
    down = leave(FOUR, saddle)
    value = float(FOUR(saddle.end_to_end))
    assert down.drop > 1e-3 and down.loss == pytest.approx(value - down.drop, rel=1e-12)
    assert float(FOUR(down.network.end_to_end)) == pytest.approx(down.loss, rel=1e-12)
    along = lambda e: float(np.sum((np.diag([4.0, 3.0, 2.0, 1.0]) - _product(saddle, down.direction, e)) ** 2) / 2)
    reach = 4 * abs(down.step)
    brute = min(along(e) for e in np.linspace(-reach, reach, 4001))
    assert down.loss <= brute + 1e-12 and along(down.step) == pytest.approx(down.loss, rel=1e-11)
    # the curvature at the saddle is the certificate's
    e = 1e-3
    second = (along(e) + along(-e) - 2 * value) / e**2
    assert second == pytest.approx(classify(FOUR, saddle).certificate.value, rel=1e-3, abs=1e-5)


def _product(network, direction, e):
    product = np.eye(network.widths[0])
    for W, V in zip(network.weights, direction.weights, strict=True):
        product = (np.asarray(W) + e * np.asarray(V)) @ product
    return product


def test_leaving_again_and_again_ends_below_every_saddle():
    # correlated inputs and another scale of the loss
    rng = np.random.default_rng(3)
    X = rng.standard_normal((30, 3)) @ np.diag([1.5, 1.0, 0.6])
    objective = SquaredError.of(X, X @ rng.standard_normal((3, 2)), dl.MEAN)
    saddle = network_on_fibre(objective, (), 0, (3, 3, 2))
    down = leave(objective, saddle)
    assert 0 < down.drop <= float(objective(saddle.end_to_end)) - float(objective.minimum) + 1e-12
    assert down.loss == pytest.approx(float(objective(down.network.end_to_end)), rel=1e-12)
    with pytest.raises(ValueError, match="not critical; follow the gradient"):
        leave(objective, Network([np.ones((3, 3)), np.ones((2, 3))]))


@pytest.mark.parametrize(
    ("signature", "widths", "message"),
    [
        ((1, 2, 3, 4), (4, 5, 4), "global minimum; nothing is lower"),
        ((1, 2), (4, 2, 4), "global minimum"),
        ((1,), (4, 5, 5, 4), "non-strict saddle, from which no direction"),
        ((), (4, 5, 5, 4), "non-strict saddle"),
    ],
)
def test_where_no_direction_leads_down_it_says_so(signature, widths, message):
    with pytest.raises(ValueError, match=f"`network`: is no strict saddle but a {message}"):
        leave(FOUR, network_on_fibre(FOUR, signature, 0, widths))


@pytest.mark.parametrize("widths", [(4, 5, 4), pytest.param((4, 3, 4, 4), marks=pytest.mark.slow)])
def test_the_chain_from_the_origin_learns_mode_after_mode(widths):
    objective = SquaredError.from_singular_values([4.0, 2.5, 1.0], 4, 4)
    links = chain(objective, widths, 3, dl.gradient_flow, size=3e-2)
    assert links.complete and links.signatures == ((), (1,), (1, 2), (1, 2, 3))
    for visit in links.visits:
        assert gradient_norm(objective, visit.saddle) < 1e-11
        assert visit.value == float(np.sum(np.delete([4.0, 2.5, 1.0], [k - 1 for k in visit.signature]) ** 2) / 2)


def test_a_chain_that_does_not_get_down_is_not_complete():
    still = lambda objective, network: dl.gradient_flow(objective, network, ts=[0.0, 1e-3])
    links = chain(FOUR, (4, 5, 4), 0, still)
    assert links.signatures == ((),) and not links.complete
    with pytest.raises(ValueError, match="`widths`: got"):
        chain(FOUR, (4, 4), 0, dl.gradient_flow)


def test_other_blocks_on_the_same_fibre():
    network = network_on_fibre(FOUR, (1, 2), 5, (4, 4, 5, 4), basis="general", condition=4.0)
    Z = [np.zeros_like(block) for block in parameters(FOUR, network).blocks]
    assert [block.shape for block in Z] == [(2, 4), (3, 2), (2, 3)]
    Z[1] = np.random.default_rng(0).standard_normal(Z[1].shape)
    moved = with_blocks(FOUR, network, Z)
    assert same_fiber(network, moved) and gradient_norm(FOUR, moved) < 1e-12
    assert classify(FOUR, network).kind == "non-strict saddle" and classify(FOUR, moved).kind == "strict saddle"
    again = parameters(FOUR, moved).blocks
    np.testing.assert_allclose(np.linalg.svd(again[1])[1] > 1e-9, [True, True])
    back = with_blocks(FOUR, moved, [np.zeros_like(block) for block in Z])
    for V, W in zip(back.weights, network.weights, strict=True):
        np.testing.assert_allclose(V, W, atol=1e-12)
    with pytest.raises(ValueError, match="`Z`: these blocks make no critical point"):
        with_blocks(FOUR, network, [np.zeros((2, 4)), np.ones((3, 2)), np.ones((2, 3))])
    with pytest.raises(ValueError, match="`Z`: got shapes"):
        with_blocks(FOUR, network, Z[1:])
    with pytest.raises(ValueError, match="`Z`: block 1 has entries at learned modes"):
        with_blocks(FOUR, network, [np.eye(2, 4), *Z[1:]])
