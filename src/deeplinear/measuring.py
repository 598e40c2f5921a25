"""A trajectory and diagnostics, read into one labelled dataset."""

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from . import _memory, diagnostics, records
from ._dataset import Dataset
from .conventions import TIME_UNIT
from .network import Network
from .objectives import SquaredError
from .sequences import TaskSequence
from .trajectory import Trajectory


def measure(trajectory: Trajectory, **readings: Callable[[Network], Any]) -> Dataset:
    """Every diagnostic at every time of a trajectory, as an `xarray.Dataset` with named dimensions.

    `readings` maps names to functions of one `Network` (JAX code), for instance those of `deeplinear.diagnostics`; none
    named: loss, excess loss, mode strengths (where the trajectory knows its objective), singular values of the product
    and of every layer, drift of the imbalance, alignment. Of a sequence of tasks: `task_losses`, the loss on every one
    of them, and the attribute `task_starts`. Dimensions: time, mode, rank, layer, index, junction, task, numbered
    from 1; an ensemble's first dimension is member, numbered from 0 as in `trajectory.member`. A function
    without labels gets dimensions named after itself. Attributes: widths, loss scale, unit
    of time, ending, statistics, versions. Raises `ValueError` for a reading that is not a function.

    >>> import deeplinear as dl
    >>> objective = dl.SquaredError.from_moments([[1.0]])
    >>> trajectory = dl.gradient_flow(objective, dl.Network([[[0.1]], [[0.1]]]), ts=[0.0, 1.0])
    >>> measure(trajectory, squared=lambda network: network.end_to_end**2)["squared"].dims
    ('time', 'squared_1', 'squared_2')
    """
    readings = readings or default_readings(trajectory)
    kept = trajectory.kept.weights
    _memory.check("trajectory", "reading all its networks", 8 * sum(W.size for W in kept), "measure fewer times")
    leading = ("time",) if trajectory.kept.weights[0].ndim == 3 else ("member", "time")
    variables = {}
    for name, reading in readings.items():
        if not callable(reading):
            raise ValueError(f"`{name}`: got a {type(reading).__name__}; give a function of one Network")
        values = np.asarray(_mapped(trajectory.kept, trajectory.reduction, reading))
        labels = getattr(reading, "labels", None)
        dims = labels.dims if labels else tuple(f"{name}_{axis}" for axis in range(1, values.ndim - len(leading) + 1))
        attributes = {"long_name": labels.long_name, "units": labels.units} if labels else {}
        variables[name] = ((*leading, *dims), values, attributes)
    sizes = {dim: n for dims, values, _ in variables.values() for dim, n in zip(dims, values.shape, strict=True)}
    coordinates = {dim: np.arange(dim != "member", n + (dim != "member")) for dim, n in sizes.items() if dim != "time"}
    coordinates["time"] = ("time", np.asarray(trajectory.ts), {"long_name": "time", "units": TIME_UNIT})
    return Dataset(variables, coordinates, _attributes(trajectory))


def default_readings(trajectory: Trajectory, rates: Any = None) -> dict[str, Callable[[Network], Any]]:
    """What `measure` reads when nothing is named; `rates` of the layers say which imbalance is conserved."""
    objective, start = trajectory.objective, trajectory[0]
    readings: dict[str, Callable[[Network], Any]] = {}
    if isinstance(objective, TaskSequence):
        readings["task_losses"] = diagnostics.task_losses(objective.objectives)
    elif objective is not None:
        readings["loss"] = diagnostics.loss(objective)
    if isinstance(objective, SquaredError):
        readings["excess_loss"] = diagnostics.excess_loss(objective, start.max_rank)
        readings["mode_strengths"] = diagnostics.mode_strengths(objective)
    readings["singular_values"] = diagnostics.singular_values
    readings["layer_singular_values"] = diagnostics.layer_singular_values
    if start.depth > 1 and trajectory.ts.ndim == start.weights[0].ndim - 1:
        readings["imbalance_drift"] = diagnostics.imbalance_drift(start, rates)  # of one start
    if start.depth > 1:
        readings["alignment"] = diagnostics.alignment
    return readings


@eqx.filter_jit  # compiled once per shape, for readings that carry their arrays as `jax.tree_util.Partial` does
def _mapped(kept: Network, reduction: Any, reading: Callable[[Network], Any]) -> Any:
    times = jnp.zeros(kept.weights[0].shape[-3])
    return Trajectory(times, kept, reduction=reduction).map(reading)


def _attributes(trajectory: Trajectory) -> dict[str, Any]:
    attributes: dict[str, Any] = {"widths": list(trajectory[0].widths), "time_unit": TIME_UNIT}
    if isinstance(trajectory.objective, TaskSequence):
        attributes["task_starts"] = trajectory.objective.starts.tolist()
    scale = getattr(trajectory.objective, "scale", None)
    if scale is not None:
        attributes |= {"loss_scale": scale.name, "loss_formula": scale.formula}
    for name in ("ending", "statistics"):
        value = getattr(trajectory, name)
        if value is not None:
            attributes[name] = _plain(value)
    return attributes | {"versions": records.provenance()}


def _plain(value: Any) -> Any:
    """A frozen dataclass as what JSON knows."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in vars(value).items()} if is_dataclass(value) else value
