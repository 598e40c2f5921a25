"""A linear network and its nonlinear twin, trained from one start on the same data, in one dataset."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from .. import records
from .._arguments import checks_arguments
from .._arrays import floats
from .._dataset import Dataset
from .._types import Array
from ..conventions import HALF_MEAN, TIME_UNIT, LossScale
from ..flows.solve import gradient_flow
from ..learning import first_crossings
from ..network import Network
from ..objectives import SquaredError
from ..predict import learning_times
from .following import nonlinear_flow
from .nonlinear import ACTIVATIONS, SampleLoss, called, forward, hidden_activities, resolved

KERNEL_ROWS = 128
"""Rows of the tangent kernels that are compared: probes times outputs."""
NETWORKS = ("linear", "twin")


@checks_arguments
def twin(
    network: Network,
    X: Any,
    Y: Any,
    activation: str | Callable = "relu",
    ts: Any = None,
    *,
    loss: LossScale = HALF_MEAN,
    rtol: float = 1e-6,
    probes: Any = None,
    max_steps: int = 100_000,
) -> xr.Dataset:
    r"""The linear network and its nonlinear twin from one start on one set of samples: how far linear theory carries.

    Both follow the gradient flow of the same loss in the same time; the twin has `activation` after every hidden layer
    (`forward`). X (n, d_x), Y (n, d_y); `ts` as in `gradient_flow`, None: as long as the linear network learns.

    Over time, with a dimension `network` of "linear" and "twin":

    - `loss`, and `mode_strengths`: $u_a^T \hat W v_a$ for the data's modes, with $\hat W$ the response of a network,
      the linear map that is nearest to it on the data, $\hat W = F^T (X^+)^T$ for outputs F (n, d_y);
    - `linear_share`: share of the mean square of the twin's outputs that its response explains, at most 1;
    - `distance`: rms distance of the outputs of the two, relative to the rms of the targets;
    - `representation_alignment` (layer): cosine between their similarity matrices $H H^T$ of every hidden layer;
    - `kernel_alignment`: cosine between their tangent kernels on the `probes`, samples in rows (None: about
      `KERNEL_ROWS` / d_y rows of X, evenly spread); `kernel_movement`: how far each moved from its start, relative.

    Per mode: `half_time` of both, when half of the data's target is first reached (NaN: never), and
    `half_time_predicted` by linear theory (`learning_times`). Cosines with zero are NaN. Attributes: activation, both
    endings, widths, loss scale, versions. Raises `ValueError` as `gradient_flow` and `nonlinear_flow` do.

    >>> import deeplinear as dl
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((20, 3))
    >>> data = twin(dl.init.gaussian(0, (3, 4, 1), 0.1), X, X[:, :1], "tanh", ts=[0.0, 1.0, 5.0])
    >>> data["loss"].dims, data["mode_strengths"].sizes["network"], bool(data["linear_share"][-1] > 0.9)
    (('network', 'time'), 2, True)

    Source: Saxe, McClelland and Ganguli (2014), section 4, on linear and nonlinear networks; the measures are ours.
    """
    phi = resolved(activation)
    objective = SquaredError.of(X, Y, loss)
    linear = gradient_flow(objective, network, ts, rtol=rtol)
    curved = nonlinear_flow(network, X, Y, phi, linear.ts, loss=loss, rtol=rtol, max_steps=max_steps)
    at = np.asarray(linear.ts)
    reached = min(len(at), int(np.searchsorted(at, float(curved.ts[-1]), side="right")))
    X, Y = (jnp.asarray(floats(name, array)) for name, array in (("X", X), ("Y", Y)))
    Y = Y.reshape(len(X), -1)
    few = _spread(X, KERNEL_ROWS // Y.shape[1]) if probes is None else floats("probes", probes, 2, "(n, d_x)")
    probes = jnp.asarray(few)
    first, second = (jax.tree.map(lambda W: W[:reached], run.networks) for run in (linear, curved))
    factor = jnp.asarray(loss.factor(len(X), Y.shape[1]))
    measure = SampleLoss(X, Y, factor, phi)
    read = _readings(network, first, second, measure, jnp.linalg.pinv(X), tuple(objective.modes), probes)
    data = Dataset(
        {name: (dims, np.asarray(read[name]), {"long_name": label}) for name, (dims, label) in LABELS.items()},
        {"time": ("time", at[:reached], {"long_name": "time", "units": TIME_UNIT}), "network": list(NETWORKS)},
    ).transpose("network", "time", ...)
    data = data.assign_coords(mode=np.arange(1, data.sizes["mode"] + 1), layer=np.arange(1, network.depth))
    attributes = {"widths": list(network.widths), "activation": called(activation), "probes": len(probes)}
    attributes |= {"loss_scale": loss.name, "time_unit": TIME_UNIT, "versions": records.provenance()}
    data.attrs |= attributes | {
        f"ending_{name}": run.ending.message for name, run in zip(NETWORKS, (linear, curved), strict=True)
    }
    return data.assign(_per_mode(data, objective, network))


LABELS = {
    "loss": (("time", "network"), "loss"),
    "mode_strengths": (("time", "network", "mode"), "strength of the data's mode in the response, u_a^T W v_a"),
    "linear_share": (("time",), "share of the twin's outputs that is linear in the inputs"),
    "distance": (("time",), "distance of the outputs of the two, relative to the targets"),
    "representation_alignment": (("time", "layer"), "cosine between the similarities of hidden layers"),
    "kernel_alignment": (("time",), "cosine between the tangent kernels"),
    "kernel_movement": (("time", "network"), "distance of the tangent kernel from its start, relative"),
}


@eqx.filter_jit
def _readings(
    start: Network, linear: Network, curved: Network, measure: SampleLoss, inverse: Array, modes: tuple, probes: Array
) -> dict[str, Array]:
    """Everything that is compared, time after time; `inverse` is X^+."""
    identity, phi = ACTIVATIONS["identity"], measure.activation
    U, _, V = modes
    first = [_kernel(start, probes, f) for f in (identity, phi)]

    def read(pair: tuple[Network, Network]) -> dict[str, Array]:
        both = list(zip(pair, (identity, phi), strict=True))
        outputs = [forward(network, measure.X, f) for network, f in both]
        responses = [(inverse @ F).T for F in outputs]
        layers = zip(*(hidden_activities(network, measure.X, f) for network, f in both), strict=True)
        kernels = [_kernel(network, probes, f) for network, f in both]
        moved = [jnp.linalg.norm(K - K0) / jnp.linalg.norm(K0) for K, K0 in zip(kernels, first, strict=True)]
        bent = jnp.sum((outputs[1] - measure.X @ responses[1].T) ** 2)
        aligned = [
            _cosine(jnp.sum((H.T @ G) ** 2), jnp.sum((H.T @ H) ** 2), jnp.sum((G.T @ G) ** 2)) for H, G in layers
        ]
        return {
            "loss": measure.factor / (2 * len(measure.X)) * jnp.stack([jnp.sum((F - measure.Y) ** 2) for F in outputs]),
            "mode_strengths": jnp.stack([jnp.sum(U * (W @ V), axis=0) for W in responses]),
            "linear_share": 1 - bent / jnp.sum(outputs[1] ** 2),
            "distance": jnp.linalg.norm(outputs[1] - outputs[0]) / jnp.linalg.norm(measure.Y),
            "representation_alignment": jnp.array(aligned),
            "kernel_alignment": _cosine(jnp.sum(kernels[0] * kernels[1]), *(jnp.sum(K**2) for K in kernels)),
            "kernel_movement": jnp.stack(moved),
        }

    return jax.lax.map(read, (linear, curved))


def _cosine(inner: Array, square: Array, other: Array) -> Array:
    return inner / jnp.sqrt(square * other)


def _kernel(network: Network, probes: Array, activation: Callable) -> Array:
    """The tangent kernel of all outputs on all probes, (m d_y, m d_y)."""
    jacobian = jax.jacrev(lambda network: forward(network, probes, activation).ravel())(network)
    rows = jnp.concatenate([J.reshape(len(J), -1) for J in jacobian.weights], axis=1)
    return rows @ rows.T


def _spread(X: Array, count: int) -> Array:
    """About `count` rows, evenly spread, at least one."""
    return X[np.unique(np.linspace(0, len(X) - 1, max(1, min(count, len(X)))).astype(int))]


def _per_mode(data: xr.Dataset, objective: SquaredError, network: Network) -> dict[str, Any]:
    """What the data ask of every mode, and when each network has half of it."""
    U, s, V = objective.modes
    targets = np.asarray(jnp.sum(U * (objective.optimum @ V), axis=0))
    times, strengths = data["time"].values, data["mode_strengths"].values
    halves = np.stack([first_crossings(times, curves, targets / 2) for curves in strengths])
    units = {"units": TIME_UNIT}
    return {
        "data_singular_values": ("mode", np.asarray(s), {"long_name": "singular values of sigma_yx"}),
        "mode_targets": ("mode", targets, {"long_name": "strength of the mode in the best linear map"}),
        "half_time": (("network", "mode"), halves, {"long_name": "time at half of the target", **units}),
        "half_time_predicted": (
            "mode",
            np.asarray(learning_times(objective, network).half_times),
            {"long_name": "time at half of the target by linear theory", **units},
        ),
    }
