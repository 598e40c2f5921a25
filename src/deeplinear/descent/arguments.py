"""What a descent checks at the door: learning rate, outputs, samples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._checks import check_whole
from ..data import Moments, check_samples
from ..init.arguments import check_key
from ..objectives import SquaredError
from .noise import Draws, SampledError

KEPT = 400  # outputs, about, where nobody says how many
SAME = 1e-6  # by how much moments of samples may differ from the objective's, relative to the samples' size


def check_rate(learning_rate: Any) -> Callable | None:
    """The schedule, if the learning rate is one."""
    if callable(learning_rate):
        shape = jax.eval_shape(learning_rate, jnp.zeros((), dtype=int))
        if getattr(shape, "shape", None) != ():
            raise ValueError(f"`learning_rate`: the schedule gives {shape}; give a function of the step to one number")
        return learning_rate
    if isinstance(learning_rate, Tracer):
        return None
    number = np.asarray(np.nan if learning_rate is None else learning_rate)
    if number.shape != () or number.dtype.kind not in "iuf" or not (np.isfinite(number) and number > 0):
        raise ValueError(f"`learning_rate`: got {learning_rate}; give a finite number above 0, or a schedule")
    return None


def check_momentum(momentum: float, nesterov: bool, optimizer: Any) -> None:
    """Momentum from 0 to 1, and not beside an optimizer."""
    if not 0 <= momentum < 1:
        raise ValueError(f"`momentum`: got {momentum}; give a number of at least 0 and below 1")
    if nesterov and not momentum:
        raise ValueError("`nesterov`: needs `momentum` above 0")
    if momentum and optimizer is not None:
        raise ValueError("`momentum`: an optimizer keeps its own; leave one of the two out")


def check_outputs(steps: int, save_every: int | None, save_at: Any) -> np.ndarray:
    """Numbers of steps after which to record, increasing."""
    check_whole("steps", steps, 1)
    if save_at is not None:
        return _check_given(save_at, steps, save_every)
    every = max(1, -(-steps // KEPT)) if save_every is None else save_every
    check_whole("save_every", every, 1)
    return np.append(np.arange(0, steps, every), steps)


def _check_given(save_at: Any, steps: int, save_every: int | None) -> np.ndarray:
    if save_every is not None:
        raise ValueError("`save_every`, `save_at`: give one of them, a distance or the numbers of steps themselves")
    at = np.asarray(save_at)
    whole = at.ndim == 1 and at.size > 0 and at.dtype.kind in "iu"
    if not whole or at[0] < 0 or at[-1] > steps or (np.diff(at) <= 0).any():
        raise ValueError(f"`save_at`: give a list of increasing whole numbers of steps from 0 to {steps}")
    return at.astype(np.int64)


def check_draws(objective: Any, samples: Any, batch_size: int | None, label_noise: float, key: Any) -> Draws | None:
    """What has to be drawn for every step; None for steps of the whole objective without noise."""
    if not (np.isfinite(label_noise) and label_noise >= 0):
        raise ValueError(f"`label_noise`: got {label_noise}; give a finite standard deviation of at least 0")
    kept = _check_samples(objective, samples)
    if batch_size is None and not label_noise:
        return None
    if kept is None:
        what = "`label_noise`" if batch_size is None else "`batch_size`"
        raise ValueError(f"{what}: the objective keeps no samples; give them too, `samples=(X, Y)`")
    if label_noise and not isinstance(kept, SampledError):
        raise ValueError("`label_noise`: is noise of squared error; give `samples=(X, Y)` and a SquaredError, or 0")
    if batch_size is not None:
        _check_batch_size(batch_size, kept.count)
    if key is None:
        raise ValueError("`key`: batches and noise are drawn; give a jax key or an int")
    noise = jnp.asarray(label_noise, dtype=float) if label_noise else None
    return Draws(kept, check_key(key), noise, None if batch_size is None else int(batch_size))


def _check_batch_size(batch_size: Any, count: int) -> None:
    if check_whole("batch_size", batch_size, 1) > count:
        raise ValueError(f"`batch_size`: got {batch_size}, but the data are {count} samples; give at most {count}")


def _check_samples(objective: Any, samples: Any) -> Any:
    """Where batches come from: the objective itself or samples given; None: nowhere."""
    if samples is None:
        return objective if hasattr(objective, "batch") and hasattr(objective, "count") else None
    if not isinstance(objective, SquaredError):
        raise ValueError("`samples`: belong to a SquaredError; other objectives keep their own samples, if any")
    if not isinstance(samples, tuple | list) or len(samples) != 2:
        raise ValueError("`samples`: give a pair (X, Y), samples in rows")
    X, Y = check_samples(*samples)
    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float).reshape(len(X), -1)
    kept = SampledError(jnp.asarray(X), jnp.asarray(Y), objective.factor)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(objective)):
        return kept
    moments = Moments.of(X, Y)
    x, y = (float(np.sqrt(np.mean(np.sum(array**2, axis=1)))) for array in (X, Y))
    for name, M, size in (("sigma_xx", moments.sigma_xx, x * x), ("sigma_yx", moments.sigma_yx, x * y)):
        expected = np.asarray(getattr(objective, name))
        if M.shape != expected.shape or np.linalg.norm(M - expected) > SAME * size:
            raise ValueError(f"`samples`: have another {name} than the objective; give those that it was made of")
    return kept
