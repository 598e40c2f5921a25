"""The estimator against scikit-learn's own checks, least squares and the flow; networks to and from PyTorch."""

import pickle
import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone, is_regressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import deeplinear as dl
from deeplinear import DeepLinearRegressor


def own_checks(estimator):
    """scikit-learn's checks of a regressor, by name."""
    with warnings.catch_warnings():  # it has to work without scikit-learn, so it does not inherit from it
        warnings.filterwarnings("ignore", "Estimator DeepLinearRegressor does not inherit", UserWarning)
        return {check.func.__name__: (model, check) for model, check in estimator_checks_generator(estimator)}


SHALLOW, DEEP = (own_checks(DeepLinearRegressor(hidden, scale=0.1)) for hidden in ((), (4,)))
TRAINING = ("check_regressors_train", "check_estimators_pickle", "check_fit_idempotent", "check_regressor_multioutput")


@pytest.mark.parametrize("name", SHALLOW)
def test_scikit_learns_own_checks(name):
    model, check = SHALLOW[name]
    check(model)


@pytest.mark.parametrize(
    "name", [name if name in TRAINING else pytest.param(name, marks=pytest.mark.slow) for name in DEEP]
)
def test_scikit_learns_own_checks_of_a_deep_one(name):  # every shape is compiled anew
    model, check = DEEP[name]
    check(model)


def test_there_are_checks_of_regressors_among_them():
    assert len(SHALLOW) > 40 and set(TRAINING) <= set(SHALLOW)


def samples(seed=0, n=40, outputs=2):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3)) * [1.0, 2.0, 0.5] + [3.0, -1.0, 0.2]
    return X, X @ rng.standard_normal((3, outputs)) + 5 + 0.3 * rng.standard_normal((n, outputs))


@pytest.mark.parametrize("center", [True, False])
def test_the_end_of_training_is_least_squares(center):
    X, y = samples()
    model = DeepLinearRegressor((4, 4), scale=0.1, center=center, tolerance=1e-13, rtol=1e-9).fit(X, y)
    truth = LinearRegression(fit_intercept=center).fit(X, y)
    objective = dl.SquaredError.from_data(dl.Moments.of(X, y).centered() if center else dl.Moments.of(X, y))
    softest = np.linalg.eigvalsh(objective.sigma_xx)[0]  # along it, excess = softest / 2 error^2
    bound = np.sqrt(2 / softest * 1e-13 * float(objective.excess(jnp.zeros((2, 3)))))
    np.testing.assert_allclose(model.coef_, truth.coef_, rtol=0, atol=bound)
    np.testing.assert_allclose(model.intercept_, truth.intercept_, rtol=0, atol=bound * np.linalg.norm(X.mean(axis=0)))
    assert model.score(X, y) == pytest.approx(r2_score(y, model.predict(X)), rel=1e-13)
    weights = np.random.default_rng(1).uniform(size=len(X))
    assert model.score(X, y, weights) == pytest.approx(r2_score(y, model.predict(X), sample_weight=weights), rel=1e-12)
    assert model.network_.widths == (3, 4, 4, 2) and model.ending_.kind == "global minimum"


def test_stopped_early_it_is_the_flow_at_that_time():
    X, y = samples()
    model = DeepLinearRegressor((4,), scale=0.1, time=0.4).fit(X, y)
    objective = dl.SquaredError.of(X - X.mean(axis=0), y - y.mean(axis=0))
    start = dl.init.gaussian(0, (3, 4, 2), 0.1)
    flow = dl.gradient_flow(objective, start, ts=[0.0, 0.4], rtol=1e-9)
    np.testing.assert_allclose(model.coef_, flow.end_to_end[-1], rtol=1e-5)
    assert np.abs(model.coef_ - np.asarray(objective.optimum)).max() > 0.1


def test_pipelines_searches_clones_and_pickles():
    X, y = samples(outputs=1)
    pipeline = make_pipeline(StandardScaler(), DeepLinearRegressor((4,), scale=0.1))
    search = GridSearchCV(pipeline, {"deeplinearregressor__time": [0.01, 20.0]}, cv=2).fit(X, y[:, 0])
    assert search.best_params_ == {"deeplinearregressor__time": 20.0} and is_regressor(search)
    model = clone(search.best_estimator_[-1])
    assert not hasattr(model, "coef_") and repr(model) == "DeepLinearRegressor(hidden=(4,), scale=0.1, time=20.0)"
    fitted = search.best_estimator_[-1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))


def test_names_of_columns_are_kept_and_held_against_later_ones():
    pandas = pytest.importorskip("pandas")
    X, y = samples(outputs=1)
    table = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = DeepLinearRegressor((4,), scale=0.1).fit(table, y[:, 0])
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(model.predict(table), model.predict(X), rtol=1e-13)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[["b", "a", "c"]])
    assert not hasattr(model.fit(X, y), "feature_names_in_")


def test_bad_input_is_one_line():
    X, y = samples()
    for bad, message in (
        (dict(hidden=(0,)), "`hidden`"),
        (dict(init="zeros"), "`start`"),
        (dict(scale=-1.0), "`scale`"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            DeepLinearRegressor(**bad).fit(X, y)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="`depth`: is no setting"):
        DeepLinearRegressor().set_params(depth=3)
    with pytest.raises(ValueError, match="`y`: has shape"):
        DeepLinearRegressor((4,), scale=0.1).fit(X, y).score(X, y[:, 0])
    with pytest.warns(RuntimeWarning, match="did not converge"):
        DeepLinearRegressor((4,), scale=0.1, max_steps=2).fit(X, y)


def test_scikit_learn_is_never_imported_unasked():
    code = (
        "import sys, deeplinear as dl\n"
        "model = dl.DeepLinearRegressor((2,), scale=0.5)\n"
        "try:\n    model.predict([[1.0]])\nexcept ValueError as error:\n    assert 'call `fit` first' in str(error)\n"
        "assert not [name for name in sys.modules if name.startswith('sklearn')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_networks_go_to_torch_and_back():
    torch = pytest.importorskip("torch")
    network = dl.init.gaussian(0, (3, 5, 2), 1.0)
    before = torch.get_rng_state()
    module = network.to_torch()
    assert torch.equal(torch.get_rng_state(), before)
    again = dl.Network.from_torch(module)
    assert all(np.array_equal(a, b) for a, b in zip(network.weights, again.weights, strict=True))
    X = np.random.default_rng(0).standard_normal((4, 3))
    outputs = module(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(outputs, X @ np.asarray(network.end_to_end).T, rtol=1e-13)
    with torch.no_grad():
        module[0].weight.zero_()  # a copy: the network is a value
    assert float(jnp.abs(network.weights[0]).max()) > 0
    single = dl.Network([W.astype(jnp.float32) for W in network.weights]).to_torch()
    assert single[0].weight.dtype == torch.float32
    path = dl.gradient_flow(dl.SquaredError.from_moments(np.ones((2, 3))), network, ts=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"`network`: is .*trajectory"):
        path.networks.to_torch()


def test_without_torch_the_answer_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="needs the package torch; pip install torch"):
        dl.Network([[[1.0]]]).to_torch()


def test_safetensors_there_and_back(tmp_path):
    network = dl.init.gaussian(0, (3, 5, 2), 1.0)
    again = dl.Network.load(network.save(tmp_path / "net.safetensors"))
    assert all(np.array_equal(a, b) for a, b in zip(network.weights, again.weights, strict=True))
    torch_file = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    torch_file.save_file(network.to_torch().state_dict(), tmp_path / "module.safetensors")
    read = dl.Network.load(tmp_path / "module.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(network.weights, read.weights, strict=True))
    module = torch.nn.Sequential(torch.nn.Linear(3, 5, bias=False), torch.nn.Linear(5, 2, bias=False)).double()
    state = torch_file.load_file(network.save(tmp_path / "net.safetensors"))
    module.load_state_dict({"0.weight": state["W1"], "1.weight": state["W2"]})
    assert np.array_equal(dl.Network.from_torch(module).weights[1], network.weights[1])
