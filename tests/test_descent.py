"""Gradient descent against loops in numpy, closed forms, exact identities and the flow."""

import _thread
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from brute import slopes
from problems import WHITE, WIDTHS, correlated, quartic, random_network
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_descent, gradient_flow, init
from deeplinear.descent import drive, stepping
from deeplinear.descent.noise import NoisyLabels, SampledError
from deeplinear.exact import balance_drift, descent_mode_factors, descent_regression, escape_steps, stability_limit
from deeplinear.running import compiling

START = random_network(WIDTHS)
CORRELATED = correlated()
ETA = 0.02


def by_hand(objective, network, eta, steps, change=lambda G, W, k: G):
    """Networks after 0, 1, ... steps in numpy, W_l -= eta change(gradient, W_l, k) with the gradients of before."""
    layers = [np.asarray(W) for W in network.weights]
    c, S, X = float(objective.factor), np.asarray(objective.sigma_yx), np.asarray(objective.sigma_xx)
    path = [layers]
    for k in range(steps):
        G = [-c * D for D in slopes(layers, S, X)]
        moves = change(G, layers, k)
        layers = [W - eta * D for W, D in zip(layers, moves, strict=True)]
        path.append(layers)
    return path


def same(trajectory, path, rtol=1e-13):
    """Whether a trajectory goes through these networks, relative to the largest weight."""
    for W, layers in zip(trajectory.networks.weights, zip(*path, strict=True), strict=True):
        expected = np.stack(layers)
        np.testing.assert_allclose(W, expected, rtol=0, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize("objective", [WHITE, CORRELATED, correlated(scale=dl.SUM)], ids=["white", "correlated", "sum"])
@pytest.mark.parametrize("form", ["one kernel", "plain"])
def test_against_a_loop_in_numpy(objective, form, monkeypatch):
    if form == "plain":
        monkeypatch.setattr(compiling, "refused", ["as if XLA could not"])
    eta = ETA / float(objective.factor)
    trajectory = gradient_descent(objective, START, eta, 60, save_every=7)
    path = by_hand(objective, START, eta, 60)
    same(trajectory, [*path[::7], path[60]])
    np.testing.assert_allclose(trajectory.ts, eta * np.array([*range(0, 60, 7), 60]), rtol=1e-15)
    assert trajectory.ending.kind == "steps" and trajectory.statistics.steps == 60
    assert trajectory.ending.loss == pytest.approx(float(objective(trajectory.end_to_end[-1])), rel=1e-12)


def test_two_scalar_weights_by_hand():
    # L = (1 - ab)^2 / 2: both move by what the other one was before
    path = [(0.5, 0.8)]
    for _ in range(6):
        a, b = path[-1]
        path.append((a + 0.1 * b * (1 - a * b), b + 0.1 * a * (1 - a * b)))
    start = Network([[[0.5]], [[0.8]]])
    trajectory = gradient_descent(SquaredError.from_moments([[1.0]]), start, 0.1, 6, save_at=[0, 2, 6])
    ends = np.stack([np.ravel(W) for W in trajectory.networks.weights], axis=1)
    np.testing.assert_allclose(ends, [path[0], path[2], path[6]], rtol=1e-14)


def test_any_objective_descends():
    gradient = jax.grad(lambda net: quartic(net.end_to_end))
    network = START
    for _ in range(20):
        network = jax.tree.map(lambda W, G: W - 0.01 * G, network, gradient(network))
    trajectory = gradient_descent(quartic, START, 0.01, 20)
    assert trajectory.ending.excess is None and len(trajectory) == 21
    for W, V in zip(trajectory[-1].weights, network.weights, strict=True):
        np.testing.assert_allclose(W, V, rtol=0, atol=1e-14)


def test_one_layer_has_a_closed_form():
    start = random_network((4, 3), scale=1.0)
    ks = np.array([0, 1, 5, 400, 3000])
    eta = 0.9 / float(np.linalg.eigvalsh(np.asarray(CORRELATED.sigma_xx))[-1])
    trajectory = gradient_descent(CORRELATED, start, eta, 3000, save_at=ks)
    exact = descent_regression(CORRELATED, start, eta, ks)
    np.testing.assert_allclose(trajectory.end_to_end, exact.end_to_end, rtol=0, atol=2e-14)
    np.testing.assert_allclose(trajectory.ts, exact.ts, rtol=1e-15)
    assert trajectory.ending.kind == "global minimum"


def test_identities_of_scalar_modes():
    """MATH of one mode: c -> c (1 - eta^2 e^2) and its kin, step by step."""
    for xi in ([0.7, -0.4], [0.6, 1.1, -0.9, 0.5]):
        s, eta, start = 1.3, 0.2, Network([[[x]] for x in xi])
        trajectory = gradient_descent(SquaredError.from_moments([[s]]), start, eta, 25, save_every=1)
        path = np.stack([np.ravel(W) for W in trajectory.networks.weights], axis=1)
        for before, after in pairwise(path):
            factors = descent_mode_factors(before, s, eta)
            gaps = lambda at: at[:, None] ** 2 - at[None, :] ** 2
            np.testing.assert_allclose(gaps(after), factors * gaps(before), rtol=0, atol=4e-15)
        if len(xi) == 2:
            e = s - path[:-1].prod(axis=1)
            np.testing.assert_allclose(path[1:].sum(axis=1), path[:-1].sum(axis=1) * (1 + eta * e), rtol=1e-13)


def test_escape_takes_as_many_steps_as_theory_allows():
    u0, u1, s, eta = 1e-8, 0.7, 2.0, 0.05
    start = Network([[[u0**0.5]], [[u0**0.5]]])
    trajectory = gradient_descent(SquaredError.from_moments([[s]]), start, eta, 300, save_every=1)
    low, high = escape_steps(u1, u0, s, eta)
    assert low <= int(np.argmax(trajectory.end_to_end[:, 0, 0] >= u1)) <= high


def test_balance_drifts_by_its_exact_identity():
    trajectory = gradient_descent(CORRELATED, START, 0.05, 40, save_every=1)
    C = trajectory.map(dl.diagnostics.imbalance)
    for k in range(40):
        for l, drift in enumerate(balance_drift(CORRELATED, trajectory[k], 0.05)):
            np.testing.assert_allclose(C[l][k + 1] - C[l][k], drift, rtol=0, atol=1e-14)


def fitted_slope(rates, errors):
    return np.polyfit(np.log(rates), np.log(errors), 1)[0]


def test_descent_tends_to_the_flow_with_slope_one_and_to_the_modified_flow_with_slope_two():
    T, counts = 4.0, np.array([100, 200, 400, 800])
    flat, unravel = jax.flatten_util.ravel_pytree(START)
    loss = lambda w: CORRELATED(unravel(w).end_to_end)
    descended = [gradient_descent(CORRELATED, START, T / n, int(n)).end_to_end[-1] for n in counts]
    flow = gradient_flow(CORRELATED, START, [T], rtol=1e-12).end_to_end[-1]
    first = [float(jnp.linalg.norm(W - flow)) for W in descended]

    @jax.jit
    def field(w, eta):
        return -jax.grad(lambda w: loss(w) + eta / 4 * jnp.sum(jax.grad(loss)(w) ** 2))(w)

    second = []
    for n, W in zip(counts, descended, strict=True):
        path = solve_ivp(
            lambda t, w, eta=T / n: np.asarray(field(w, eta)), (0, T), flat, "DOP853", rtol=1e-12, atol=1e-14
        )
        second.append(float(jnp.linalg.norm(W - unravel(jnp.asarray(path.y[:, -1])).end_to_end)))
    print(first, second)
    assert abs(fitted_slope(T / counts, first) - 1) < 0.02
    assert abs(fitted_slope(T / counts, second) - 2) < 0.02


def test_momentum_and_decay_against_loops():
    memory = []

    def heavy(G, W, k):
        if not memory or k == 0:
            memory[:] = [np.zeros_like(g) for g in G]
        memory[:] = [0.9 * m + g + 0.1 * w for m, g, w in zip(memory, G, W, strict=True)]
        return memory

    def nesterov(G, W, k):
        moved = heavy(G, W, k)
        return [g + 0.1 * w + 0.9 * m for g, w, m in zip(G, W, moved, strict=True)]

    for change, options in ((heavy, {}), (nesterov, {"nesterov": True})):
        path = by_hand(CORRELATED, START, ETA, 50, change)
        trajectory = gradient_descent(
            CORRELATED, START, ETA, 50, momentum=0.9, weight_decay=0.1, save_every=1, **options
        )
        same(trajectory, path)
    assert "Nesterov momentum 0.9" in trajectory.statistics.solver


def test_schedules_set_steps_and_times():
    schedule = optax.exponential_decay(0.05, 10, 0.5)
    rates = [0.05 * 0.5 ** (k / 10) for k in range(30)]
    path = by_hand(WHITE, START, 1.0, 30, lambda G, W, k: [rates[k] * g for g in G])
    trajectory = gradient_descent(WHITE, START, schedule, 30, save_every=1)
    same(trajectory, path)
    np.testing.assert_allclose(trajectory.ts, np.cumsum([0.0, *rates]), rtol=1e-13)


def adam_by_hand(eta):
    state = {}

    def change(G, W, k):
        if k == 0:
            state.update(m=[0 * g for g in G], v=[0 * g for g in G])
        state["m"] = [0.9 * m + 0.1 * g for m, g in zip(state["m"], G, strict=True)]
        state["v"] = [0.999 * v + 0.001 * g**2 for v, g in zip(state["v"], G, strict=True)]
        corrected = zip(state["m"], state["v"], strict=True)
        return [eta * m / (1 - 0.9 ** (k + 1)) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8) for m, v in corrected]

    return change


def test_adam_of_optax_equals_a_loop():
    path = by_hand(CORRELATED, START, 1.0, 40, adam_by_hand(0.01))
    made = gradient_descent(CORRELATED, START, 0.01, 40, optimizer=optax.adam, save_every=1)
    given = gradient_descent(CORRELATED, START, None, 40, optimizer=optax.adam(0.01), save_every=1)
    for trajectory in (made, given):
        same(trajectory, path, rtol=1e-11)
    np.testing.assert_allclose(made.ts, 0.01 * np.arange(41), rtol=1e-14)
    np.testing.assert_array_equal(given.ts, np.arange(41.0))
    sgd = gradient_descent(CORRELATED, START, ETA, 40, optimizer=lambda rate: optax.sgd(rate, 0.9))
    own = gradient_descent(CORRELATED, START, ETA, 40, momentum=0.9)
    np.testing.assert_allclose(sgd.end_to_end, own.end_to_end, rtol=0, atol=1e-14)


def test_masked_entries_stay_and_the_rest_descends():
    rng = np.random.default_rng(3)
    mask = Network([rng.random(W.shape) < 0.6 for W in START.weights])
    held = [np.asarray(m) for m in mask.weights]
    path = by_hand(CORRELATED, START, ETA, 30, lambda G, W, k: [g * m for g, m in zip(G, held, strict=True)])
    trajectory = gradient_descent(CORRELATED, START, ETA, 30, mask=mask, save_every=1)
    same(trajectory, path)
    decayed = gradient_descent(
        CORRELATED, START, 0.01, 30, mask=mask, optimizer=lambda rate: optax.adamw(rate, weight_decay=0.1)
    )
    for m, W, W0 in zip(held, decayed[-1].weights, START.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(W)[~m], np.asarray(W0)[~m])
        assert (np.asarray(W)[m] != np.asarray(W0)[m]).all()


def test_divergence_keeps_the_last_finite_network_and_names_the_stable_rate():
    start = init.balanced(0, (3, 4, 4, 3), product=np.diag([3.0, 2.0, 1.0]) * 1.01)
    objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 3)
    limit = stability_limit(objective, 3)
    trajectory = gradient_descent(objective, start, 40 * limit, 5000)
    ending, last = trajectory.ending, trajectory[-1]
    assert ending.kind == "diverged" and np.isfinite(ending.loss) and 0 < trajectory.statistics.steps < 5000
    assert all(np.isfinite(W).all() for W in last.weights)
    assert float(trajectory.ts[-1]) == pytest.approx(40 * limit * trajectory.statistics.steps, rel=1e-14)
    path = by_hand(objective, start, 40 * limit, trajectory.statistics.steps + 1)
    sizes = [sum(np.abs(W).sum() for W in layers) for layers in path[-2:]]
    assert sizes[0] <= stepping.LARGEST ** (1 / 3) < sizes[1]
    # at the start, beyond the minimum, it is a little sharper
    assert 0.97 * limit < ending.stable_rate < limit
    assert f"below {limit:.3g} at a balanced minimum" in ending.message
    stable = gradient_descent(objective, start, 0.95 * ending.stable_rate, 5000)
    assert stable.ending.kind == "global minimum" and stable.ending.stable_rate is None


def test_momentum_widens_the_range_of_stable_rates():
    objective, start = SquaredError.from_moments([[2.0]]), random_network((1, 1), scale=1.0)
    for options, limit in (({}, 2.0), ({"momentum": 0.5}, 3.0), ({"momentum": 0.5, "nesterov": True}, 1.5)):
        beyond = gradient_descent(objective, start, 1.05 * limit, 20_000, **options)
        assert beyond.ending.kind == "diverged" and beyond.ending.stable_rate == pytest.approx(limit, rel=1e-12)
        assert gradient_descent(objective, start, 0.95 * limit, 2000, **options).ending.kind == "global minimum"


def test_endings():
    zero = jax.tree.map(lambda W: 0 * W, START)
    still = gradient_descent(WHITE, zero, ETA, 10)
    assert still.ending.kind == "critical point" or still.ending.kind == "saddle"
    assert still.ending.kind == "saddle" and still.ending.escape_rate == pytest.approx(3.0, rel=1e-9)
    assert gradient_descent(WHITE, zero, ETA, 10, weight_decay=0.1).ending.kind == "critical point"
    learned = gradient_descent(WHITE, START, 0.1, 3000)
    assert learned.ending.kind == "global minimum" and learned.ending.signature == (1, 2, 3)


SAMPLES = np.random.default_rng(7)
X = SAMPLES.standard_normal((23, 4)) @ np.diag([1.5, 1.0, 0.8, 0.5])
Y = X @ SAMPLES.standard_normal((4, 3)) + 0.3 * SAMPLES.standard_normal((23, 3))
SAMPLED = SquaredError.of(X, Y, dl.MEAN)


def batch_gradient(rows):
    """Change of a step by these samples alone, for `by_hand`: its own gradients are of all of them."""
    sub = SquaredError.of(X[rows], Y[rows], dl.MEAN)
    return lambda layers: [-2 * D for D in slopes(layers, np.asarray(sub.sigma_yx), np.asarray(sub.sigma_xx))]


def test_a_batch_of_everything_is_the_whole_objective():
    whole = gradient_descent(SAMPLED, START, ETA, 40)
    batches = gradient_descent(SAMPLED, START, ETA, 40, samples=(X, Y), batch_size=23, key=0)
    np.testing.assert_allclose(batches.end_to_end, whole.end_to_end, rtol=0, atol=1e-13)


def test_batches_are_epochs_of_different_samples():
    """Every step is one of a batch of 5; the four batches of an epoch share no sample."""
    trajectory = gradient_descent(SAMPLED, START, ETA, 8, samples=(X, Y), batch_size=5, key=3, save_every=1)
    key, layers = jax.random.fold_in(jax.random.key(3), 0), [np.asarray(W) for W in START.weights]
    path, seen = [layers], []
    for k in range(8):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, k // 4), 23))
        rows = order[5 * (k % 4) : 5 * (k % 4) + 5]
        seen.append(set(rows.tolist()))
        layers = [W - ETA * G for W, G in zip(layers, batch_gradient(rows)(layers), strict=True)]
        path.append(layers)
    same(trajectory, path)
    assert len(set.union(*seen[:4])) == 20 and seen[0] != seen[4]


def test_draws_follow_from_the_key_alone():
    run = lambda key, **options: gradient_descent(
        SAMPLED, START, ETA, 50, samples=(X, Y), batch_size=4, key=key, label_noise=0.1, **options
    )
    first, again, other = run(1), run(jax.random.key(1), save_every=17), run(2)
    np.testing.assert_array_equal(first.end_to_end[-1], again.end_to_end[-1])
    assert float(jnp.abs(first.end_to_end[-1] - other.end_to_end[-1]).max()) > 1e-4


def test_label_noise_from_moments_has_the_law_of_noisy_labels():
    """Covariance of the gradient over many draws against c^2 sigma^2 Sigma_xx / n; equal in law to noise on labels."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    whole = jax.vmap(lambda key: NoisyLabels.drawn(SAMPLED, key, 0.5, 23).noise)(keys)
    kept = SampledError(jnp.asarray(X), jnp.asarray(Y), SAMPLED.factor)
    W = START.end_to_end
    labels = jax.vmap(lambda key: kept.gradient(W) - kept.with_noise(key, 0.5).gradient(W))(keys)
    expected = (2 * 0.5) ** 2 / 23 * np.asarray(SAMPLED.sigma_xx)
    for noise in (whole, labels):
        rows = np.asarray(noise).reshape(-1, 4)
        np.testing.assert_allclose(rows.T @ rows / len(rows), expected, rtol=0, atol=0.03 * np.abs(expected).max())
        assert np.abs(rows.mean(axis=0)).max() < 0.005


def test_label_noise_moves_a_minimum_and_no_noise_does_not():
    minimum = init.balanced(0, WIDTHS, product=np.asarray(SAMPLED.optimum))
    still = gradient_descent(SAMPLED, minimum, ETA, 50)
    noisy = gradient_descent(SAMPLED, minimum, ETA, 50, samples=(X, Y), label_noise=0.5, key=0)
    assert float(jnp.abs(still.end_to_end - SAMPLED.optimum[None]).max()) < 1e-13
    assert float(jnp.abs(noisy.end_to_end[-1] - SAMPLED.optimum).max()) > 1e-3


class Kept:
    """An objective that keeps its samples: mean of |y - Wx|^4."""

    def __init__(self, X, Y):
        self.X, self.Y, self.count = jnp.asarray(X), jnp.asarray(Y), len(X)

    def batch(self, rows):
        part = Kept.__new__(Kept)
        part.X, part.Y, part.count = self.X[rows], self.Y[rows], rows.shape[0]
        return part

    def __call__(self, W):
        return jnp.mean(jnp.sum((self.Y - self.X @ W.T) ** 2, axis=1) ** 2)


def test_batches_of_an_objective_that_keeps_its_samples():
    objective = Kept(X, Y)
    trajectory = gradient_descent(objective, START, 1e-3, 3, batch_size=6, key=5, save_every=1)
    order = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 0), 23)
    network = START
    for k in range(3):
        loss = lambda net, rows=order[6 * k : 6 * k + 6]: objective.batch(rows)(net.end_to_end)
        network = jax.tree.map(lambda W, G: W - 1e-3 * G, network, jax.grad(loss)(network))
    np.testing.assert_allclose(trajectory.end_to_end[-1], network.end_to_end, rtol=0, atol=1e-13)


def test_a_wide_network_descends_in_its_smaller_problem():
    objective, start = SquaredError.from_singular_values([3.0, 1.0], 40, 2), random_network((40, 6, 2), scale=0.1)
    smaller = gradient_descent(objective, start, ETA, 200, momentum=0.5)
    whole = gradient_descent(objective, start, ETA, 200, momentum=0.5, reduce=False)
    assert smaller.statistics.widths[0] < 40 == whole.statistics.widths[0]
    for W, V in zip(smaller.networks.weights, whole.networks.weights, strict=True):
        np.testing.assert_allclose(W, V, rtol=0, atol=1e-13)


def test_segments_change_nothing(monkeypatch):
    whole = gradient_descent(CORRELATED, START, ETA, 500, save_every=3)
    monkeypatch.setattr(drive, "BUFFER", 4)
    monkeypatch.setattr(drive, "next_budget", lambda *_: 5)
    monkeypatch.setattr(drive, "MOST_STEPS", 7)
    reports = []
    parts = gradient_descent(CORRELATED, START, ETA, 500, save_every=3, progress=reports.append)
    np.testing.assert_allclose(parts.ts, whole.ts, rtol=1e-15)
    np.testing.assert_allclose(parts.end_to_end, whole.end_to_end, rtol=0, atol=1e-14)
    assert len(reports) > 50 and reports[-1].steps == 500 and "500 steps" in reports[-1].line


def test_ctrl_c_returns_what_there_is():
    after_the_first_report = lambda report: _thread.interrupt_main()
    trajectory = gradient_descent(WHITE, START, 1e-9, 10**12, save_every=10**6, progress=after_the_first_report)
    assert trajectory.ending.kind == "interrupted" and 0 < trajectory.statistics.steps < 10**12
    assert len(trajectory) == trajectory.statistics.steps // 10**6 + 2
    assert float(trajectory.ts[-1]) == pytest.approx(1e-9 * trajectory.statistics.steps, rel=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "`learning_rate`: got 0.0"),
        ({"learning_rate": np.nan}, "`learning_rate`: got nan"),
        ({"learning_rate": None}, "`learning_rate`: got None"),
        ({"learning_rate": lambda k: jnp.ones(2)}, "`learning_rate`: the schedule gives"),
        ({"optimizer": optax.adam(0.1)}, "`learning_rate`: the optimizer has one of its own"),
        ({"optimizer": "adam"}, "`optimizer`: got 'adam'"),
        ({"steps": 0}, "`steps`: got 0"),
        ({"steps": 2.5}, "`steps`: got 2.5"),
        ({"momentum": 1.0}, "`momentum`: got 1.0"),
        ({"nesterov": True}, "`nesterov`: needs `momentum`"),
        ({"momentum": 0.5, "optimizer": optax.adam}, "`momentum`: an optimizer keeps its own"),
        ({"weight_decay": -1.0}, "`weight_decay`: got -1.0"),
        ({"save_every": 0}, "`save_every`: got 0"),
        ({"save_every": 2, "save_at": [1]}, "`save_every`, `save_at`"),
        ({"save_at": [3, 2]}, "`save_at`: give a list of increasing whole numbers"),
        ({"save_at": [0, 11]}, "`save_at`: give a list"),
        ({"mask": Network([np.ones((2, 2), bool)])}, "`mask`: must be a Network of booleans"),
        ({"batch_size": 4, "key": 0}, "`batch_size`: the objective keeps no samples"),
        ({"label_noise": 0.1, "key": 0}, "`label_noise`: the objective keeps no samples"),
        ({"label_noise": -0.1}, "`label_noise`: got -0.1"),
        ({"samples": (X, Y), "batch_size": 24, "key": 0}, "`batch_size`: got 24, but the data are 23 samples"),
        ({"samples": (X, Y), "batch_size": 0, "key": 0}, "`batch_size`: got 0"),
        ({"samples": (X, Y), "batch_size": 4}, "`key`: batches and noise are drawn"),
        ({"samples": (X - 1, Y), "batch_size": 4, "key": 0}, "`samples`: have another sigma_xx"),
        ({"samples": (X, 2 * Y), "batch_size": 4, "key": 0}, "`samples`: have another sigma_yx"),
        ({"samples": X, "batch_size": 4, "key": 0}, "`samples`: give a pair"),
        ({"objective": quartic, "samples": (X, Y)}, "`samples`: belong to a SquaredError"),
        ({"objective": Kept(X, Y), "label_noise": 0.1, "key": 0}, "`label_noise`: is noise of squared error"),
        ({"network": random_network((3, 2))}, "`network`: maps 3 inputs to 2 outputs"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_bad_settings_are_refused_in_one_line(arguments, message):
    call = {"objective": SAMPLED, "network": START, "learning_rate": ETA, "steps": 10} | arguments
    with pytest.raises(ValueError) as refusal:
        gradient_descent(**call)
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


def test_descent_as_jax_code():
    """Compiled, batched and differentiated: equal to runs from the host and to finite differences."""
    host = gradient_descent(CORRELATED, START, ETA, 30, save_every=7)
    traced = jax.jit(lambda eta, net: gradient_descent(CORRELATED, net, eta, 30, save_every=7))(ETA, START)
    assert traced.ending is None
    np.testing.assert_allclose(traced.ts, host.ts, rtol=1e-14)
    np.testing.assert_allclose(traced.end_to_end, host.end_to_end, rtol=0, atol=1e-14)
    last = lambda eta: CORRELATED(gradient_descent(CORRELATED, START, eta, 30, momentum=0.5).end_to_end[-1])
    rates = jnp.array([0.01, 0.02, 0.03])
    losses, derivatives = jax.jit(jax.vmap(jax.value_and_grad(last)))(rates)
    np.testing.assert_allclose(losses, [float(last(float(eta))) for eta in rates], rtol=1e-12)
    h = 3e-5
    change = lambda eta, h: float(last(eta + h)) - float(last(eta - h))
    differences = [(8 * change(float(eta), h) - change(float(eta), 2 * h)) / (12 * h) for eta in rates]
    np.testing.assert_allclose(derivatives, differences, rtol=1e-9)


def test_many_keys_at_once():
    run = lambda key: gradient_descent(SAMPLED, START, ETA, 12, samples=(X, Y), batch_size=5, key=key, label_noise=0.1)
    keys = jax.random.split(jax.random.key(3), 3)
    batch = jax.vmap(lambda key: run(key).end_to_end)(keys)
    for key, matrices in zip(keys, batch, strict=True):
        np.testing.assert_allclose(matrices, run(key).end_to_end, rtol=0, atol=1e-13)
