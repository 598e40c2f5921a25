"""A deep linear network as a scikit-learn estimator; scikit-learn itself is not needed, and never imported unasked."""

import inspect
import sys
import warnings
from typing import Any

import numpy as np

from ._arrays import floats
from .data import Moments
from .experiment import Experiment
from .flows.solve import gradient_flow
from .learning import problem, starting_network


class DeepLinearRegressor:
    r"""Linear regression by the gradient flow of a deep linear network $x \mapsto W_h \cdots W_1 x$, as an estimator.

    What it learns is linear, `coef_` = $W_h \cdots W_1$; which of the maps that fit, and in which order, is decided by
    depth, start and the time at which training stops. Follows scikit-learn's conventions (and passes its checks of
    estimators), so that it goes into pipelines, grid searches and cross-validation.

    - `hidden`: widths of the hidden layers; (): plain least squares by gradient flow.
    - `init`, `scale`, `seed`, `rtol`, `tolerance`, `max_steps`: as in `learn`, whose defaults they share.
    - `center`: whether the means of inputs and outputs are subtracted first; `intercept_` then puts them back.
    - `time`: when to stop training; None: at the minimum. The loss is half-mean squared error.

    After `fit`: `coef_` (d_x,) or (d_y, d_x), `intercept_` a number or (d_y,), `n_features_in_`, `feature_names_in_`
    (for a table whose columns have names), `network_` (the `Network`) and `ending_` (why the flow stopped).

    >>> X = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0]]
    >>> model = DeepLinearRegressor(hidden=(4,), tolerance=1e-12).fit(X, [4.0, 2.0, 5.0, 6.0])
    >>> model.coef_.round(4).tolist(), round(model.intercept_, 4), round(model.score(X, [4.0, 2.0, 5.0, 6.0]), 6)
    ([1.0, 3.0], 1.0, 1.0)
    """

    def __init__(  # scikit-learn wants any setting to be taken here and judged by `fit`
        self,
        hidden: Any = (32, 32),
        *,
        init: Any = "gaussian",
        scale: Any = 1e-3,
        seed: Any = 0,
        center: Any = True,
        time: Any = None,
        rtol: Any = 1e-6,
        tolerance: Any = 1e-6,
        max_steps: Any = 10_000,
    ):
        self.hidden, self.init, self.scale, self.seed, self.center = hidden, init, scale, seed, center
        self.time, self.rtol, self.tolerance, self.max_steps = time, rtol, tolerance, max_steps

    def fit(self, X: Any, y: Any) -> "DeepLinearRegressor":
        """Trains on samples in rows, X (n, d_x) and y (n,) or (n, d_y), and returns itself.

        Warns where training stopped before it reached the minimum or `time`. Raises `ValueError` for bad data and
        settings.
        """
        names, X, y = _names(X), _inputs(X), _targets(y)
        settings = self.get_params()
        experiment = Experiment(start=settings.pop("init"), **settings)
        objective, widths, _ = problem(experiment, moments := Moments.of(X, y))
        trajectory = gradient_flow(
            objective,
            starting_network(experiment, objective, widths),
            rtol=experiment.rtol,
            tolerance=experiment.tolerance,
            max_time=experiment.time,
            max_steps=experiment.max_steps,
        )
        self.ending_, self.network_, self.n_features_in_ = trajectory.ending, trajectory[-1], X.shape[1]
        if self.ending_.kind not in ("global minimum", "time"):
            warnings.warn(f"training did not converge: {self.ending_.message}", RuntimeWarning, stacklevel=2)
        vars(self).pop("feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = names
        coef = np.asarray(self.network_.end_to_end)
        shift = (
            np.asarray(moments.mean_y) - coef @ np.asarray(moments.mean_x) if experiment.center else np.zeros(len(coef))
        )
        self.coef_, self.intercept_ = (coef[0], float(shift[0])) if y.ndim == 1 else (coef, shift)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions `X @ coef_.T + intercept_`, shape (n,) or (n, d_y); raises `ValueError` before `fit`."""
        if not hasattr(self, "coef_"):
            raise _not_fitted()(f"`X`: this {type(self).__name__} has learned nothing yet; call `fit` first")
        names, X = _names(X), _inputs(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"`X`: X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        known = getattr(self, "feature_names_in_", None)
        if names is not None and known is not None and not np.array_equal(names, known):
            raise ValueError("`X`: The feature names should match those that were passed during fit, in their order")
        return X @ self.coef_.T + self.intercept_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        r"""Coefficient of determination $R^2 = 1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2$, averaged over outputs.

        An output that does not vary counts as 1 where it is met exactly and as 0 otherwise.
        """
        y, predicted = _targets(y), self.predict(X)
        if y.shape != predicted.shape:
            raise ValueError(f"`y`: has shape {y.shape}, but predictions have shape {predicted.shape}")
        y, predicted = y.reshape(len(y), -1), predicted.reshape(len(y), -1)
        weights = np.ones(len(y)) if sample_weight is None else floats("sample_weight", sample_weight, 1, "(n,)")
        missed = weights @ (y - predicted) ** 2
        spread = weights @ (y - weights @ y / weights.sum()) ** 2
        shares = np.where(spread > 0, missed / np.where(spread > 0, spread, 1.0), missed > 0)
        return float(np.mean(1 - shares))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name; `deep` is there for scikit-learn and changes nothing."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> "DeepLinearRegressor":
        """Changes settings by name and returns itself; raises `ValueError` for a name that there is not."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"`{name}`: is no setting of {type(self).__name__}; give one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of every estimator: this is a regressor of one or many outputs, on dense numbers."""
        from sklearn.utils import RegressorTags, Tags, TargetTags  # only scikit-learn calls this

        targets = TargetTags(required=True, multi_output=True)
        return Tags(estimator_type="regressor", target_tags=targets, regressor_tags=RegressorTags())

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = (
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"


def _not_fitted() -> type[ValueError]:
    """scikit-learn's own error, which its tools look for, where scikit-learn is in use."""
    exceptions = sys.modules.get("sklearn.exceptions")
    return ValueError if exceptions is None else exceptions.NotFittedError


def _names(X: Any) -> np.ndarray | None:
    """Names of the columns of a table, if all are texts."""
    columns = list(getattr(X, "columns", ()))
    return np.array(columns, dtype=object) if columns and all(isinstance(name, str) for name in columns) else None


def _inputs(X: Any) -> np.ndarray:
    """X as finite numbers (n, d_x), else a `ValueError` that says what scikit-learn's tools wait for, in one line."""
    if hasattr(X, "tocsr"):
        raise ValueError("`X`: is a sparse matrix; give a dense array, such as X.toarray()")
    X = _real("X", X)
    if X.ndim == 1:
        raise ValueError(
            f"`X`: has shape {X.shape}, samples are rows. Reshape your data: X.reshape(-1, 1) for one input"
        )
    if X.ndim == 2 and X.shape[1] == 0:
        raise ValueError(f"`X`: has 0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
    return X


def _targets(y: Any) -> np.ndarray:
    if y is None:
        raise ValueError("`y`: requires y to be passed, but the target y is None")
    return _real("y", y)


def _real(name: str, values: Any) -> np.ndarray:
    # a mask is refused as everywhere; scikit-learn's tools wait for its own errors for the rest
    array = floats(name, values, empty=True) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError(f"`{name}`: Complex data not supported; give real numbers")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}`: has entries that are NaN or infinite (inf); give finite numbers")
    return array
