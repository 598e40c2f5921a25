"""The main job: data in, learning dynamics of a deep linear network out, with theory beside simulation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from . import init, landscape
from ._arguments import check_rates
from ._arrays import classes
from ._checks import Check
from ._dataset import Dataset, with_atlas
from .conventions import HALF_MEAN, LOSS_SCALES, LossScale
from .data import Moments
from .experiment import Experiment
from .flows.solve import gradient_flow
from .measuring import default_readings, measure
from .network import Network
from .objectives import SquaredError
from .plots.learned import NOTHING, Modes, groups_of
from .plots.reading import surprises
from .predict import Prediction, evaluated, learning_times
from .tasks import Task

HELD = (  # what a dataset says of masks
    "{words}: held weights do not move; modes and spectra are those of the whole chain, its constant and copied "
    "units included, and theory, conservation laws and critical points of networks without a mask are not drawn"
)
SQUARES = 150
"""Numbers of up to this many digits have squares within float64."""
SAMPLES = "samples"
"""What arrays are called as data."""
DIAGONAL = 1e-9
"""Share of a block of equal modes that is off its diagonal, up to which the modes move alone."""
ATLAS = 512
"""Inputs and outputs up to which a run lists the critical points around its path, which takes two factorisations."""


def learn(
    X: Any,
    Y: Any = None,
    *,
    hidden: int | Sequence[int] = (32, 32),
    init: str = "gaussian",
    scale: float = 1e-3,
    seed: int = 0,
    loss: LossScale | str = HALF_MEAN,
    bias: bool = False,
    skip: Sequence[tuple[int, int]] | str = (),
    rates: Any = None,
    center: bool = False,
    whiten: bool = False,
    rtol: float = 1e-6,
    tolerance: float = 1e-6,
    time: float | None = None,
    max_steps: int | None = None,
    progress: bool | Callable[[Any], None] = False,
) -> Dataset:
    r"""Learning dynamics of a deep linear network on samples in rows: the gradient flow with theory beside it.

    X (n, d_x) and Y (n, d_y), or a `tasks.Task` or `Moments` in the place of X. Y may be texts (n,): classes, one
    output of zeros and ones for each, in alphabetical order. The network has widths (d_x, *hidden,
    d_y) and starts from `init`: "gaussian", "orthogonal", "balanced" (of size `scale`), "decoupled" (every mode at
    strength `scale`), "xavier" or "kaiming". `bias` gives every layer a bias, zero at the start, and `skip` = [(source,
    target), ...] adds identity skips (`Network.with_biases`, `Network.with_skip`): the network of the dataset then has
    their units, and theory, which speaks of networks whose weights all learn, is left out. `rates` $\eta$: learning
    rates, one per layer or one for all (None: 1), $\dot W_l = -\eta_l \, \partial L / \partial W_l$. `center` subtracts
    the means, `whiten` makes sigma_xx the identity on its range; neither is done unasked. `tolerance`, `time`,
    `max_steps`, `rtol`, `progress`: see `gradient_flow`.

    The dataset holds loss, mode strengths (both also by theory where an exact solution applies), spectra, conservation
    and alignment over time; per mode the singular value, the share of explained variance, the target, the half-time
    simulated and predicted; in its attributes the ending, the theory with its source, its gap to the simulation or its
    violated assumptions, warnings, versions and the configuration; in `data.atlas` the critical points around the run,
    a dataset of its own (`landscape.atlas`). `data.to_netcdf` stores it all, `deeplinear.report` makes a page of it.
    Raises `ValueError` for bad data and settings.

    >>> import deeplinear as dl
    >>> data = learn(dl.tasks.semantic(), hidden=16, init="decoupled")
    >>> data["half_time"].values.round(2).tolist()
    [4.91, 7.01, 11.03, 11.03]

    Source: Saxe, McClelland and Ganguli (2014, 2019).
    """
    settings: dict[str, Any] = {} if max_steps is None else {"max_steps": max_steps}
    experiment = Experiment(
        data=X.name if isinstance(X, Task) else SAMPLES,
        hidden=hidden,
        start=init,
        scale=scale,
        seed=seed,
        loss=str(loss),
        bias=bias,
        skip=skip if isinstance(skip, str) else ",".join(":".join(map(str, pair)) for pair in skip) or None,
        rates=rates,
        center=center,
        whiten=whiten,
        rtol=rtol,
        tolerance=tolerance,
        time=time,
        **settings,
    )
    texts = None if Y is None else classes("Y", Y)
    if texts is None:
        return run(experiment, X if isinstance(X, Task) and Y is None else Moments.of(X, Y), progress)
    names, numbers = texts
    listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    remark = (
        f"Y holds {len(names)} classes ({listed}): outputs are columns of zeros and ones, one a class, in this order"
    )
    return run(experiment, Moments.of(X, np.eye(len(names))[numbers]), progress, remarks=[remark])


def run(
    experiment: Experiment,
    moments: Moments | Task,
    progress: bool | Callable[[Any], None] = False,
    max_rank: int | None = None,
    *,
    remarks: Sequence[str] = (),
) -> Dataset:
    """The dataset of one experiment on given moments or a task; `learn` and the command line both end here.

    `max_rank`: list no critical point of a larger rank. `remarks`: what a reader should know of how the data were read.
    """
    rates = check_rates(experiment.layer_rates, len(experiment.hidden) + 1)
    if isinstance(moments, Task):
        remarks, moments = [*remarks, *moments.remarks], moments.moments
    objective, widths, more = problem(experiment, moments)
    remarks = [*remarks, *more]
    start, mask = starting_network(experiment, objective, widths), None
    if experiment.bias or experiment.skip:
        objective, start, mask = wired(experiment, moments, start)
    prediction = learning_times(objective, start, rates=rates) if mask is None else _no_theory(objective, mask)
    trajectory = gradient_flow(
        objective,
        start,
        mask=mask,
        rates=rates,
        rtol=experiment.rtol,
        tolerance=experiment.tolerance,
        max_time=experiment.time,
        max_steps=experiment.max_steps,
        progress=progress,
    )
    readings = default_readings(trajectory, rates)
    if mask is not None:
        readings.pop("imbalance_drift", None)  # masks break what the flow conserves
        remarks.append(HELD.format(words=_words(experiment)))
    data = measure(trajectory, **readings)
    exact = None if prediction.solution is None else evaluated(prediction.solution, trajectory.ts)
    W = np.asarray(trajectory.end_to_end)
    data["mode_strengths"] = data["mode_strengths"].copy(data=in_spans(data["mode_strengths"].values, W, objective))
    curves = None if prediction.strengths is None else prediction.strengths(data["time"].values)
    if curves is not None and exact is not None:
        curves = in_spans(curves, exact[0], objective)
    data = data.assign(_per_mode(data, objective, start, prediction, None if exact is None else curves))
    if mask is None and len(widths) > 2 and max(widths[0], widths[-1]) <= ATLAS and np.any(objective.sigma_xx):
        found = landscape.atlas(objective, widths, max_rank, trajectory)
        data = with_atlas(data, found.drop_attrs(deep=False)).assign_attrs(found.attrs)
    gap = None
    if curves is not None:
        label = {"long_name": f"mode strengths by theory: {prediction.name}", "units": "1"}
        data["theory_mode_strengths"] = (("time", "mode"), curves, label)
    if exact is not None:
        data["theory_loss"] = ("time", exact[1], {"long_name": f"loss by theory: {prediction.name}", "units": "1"})
        gap = largest_gap(W, exact[0])
    data.attrs |= _attributes(experiment, widths, prediction, gap, remarks + _remarks(data, start.widths, objective))
    return data


def wired(experiment: Experiment, moments: Moments, start: Network) -> tuple[SquaredError, Network, Network | None]:
    """Objective, network and mask with the biases and skips of an experiment; no mask where all entries learn.

    >>> experiment = Experiment(hidden=(3,), bias=True, skip="0:2")
    >>> moments = Moments.of([[1.0], [2.0], [4.0]], [[1.0], [0.0], [1.0]])
    >>> objective, network, mask = wired(experiment, moments, Network([[[1.0], [0.0], [1.0]], [[1.0, 2.0, 3.0]]]))
    >>> network.widths, network.end_to_end.tolist()
    ((2, 5, 1), [[0.0, 5.0]])
    """
    moments, _ = _prepared(experiment, moments)
    network, mask = start, None
    for source, target in experiment.skips:
        try:
            network, mask = network.with_skip(source, target, mask=mask)
        except ValueError as error:
            raise ValueError(f"`skip`: {source}:{target} does not fit; {str(error).partition(': ')[2]}") from None
    if experiment.bias:
        if moments.mean_x is None:
            raise ValueError("`bias`: these data are known by moments without means; biases need samples")
        network, mask = network.with_biases(mask=mask)
        moments = moments.with_constant()
    whole = mask is not None and all(bool(m.all()) for m in mask.weights)
    return SquaredError.from_data(moments, LOSS_SCALES[experiment.loss]), network, None if whole else mask


def problem(experiment: Experiment, moments: Moments) -> tuple[SquaredError, tuple[int, ...], list[str]]:
    """What an experiment descends on given moments, with which widths, and what a reader should know of the data.

    >>> problem(Experiment(hidden=(5,), whiten=True), Moments.given([[1.0, 0.0]], [[4.0, 0.0], [0.0, 1.0]]))[1]
    (2, 5, 1)
    """
    moments, remarks = _prepared(experiment, moments)
    objective = SquaredError.from_data(moments, LOSS_SCALES[experiment.loss])
    return objective, (moments.d_x, *experiment.hidden, moments.d_y), remarks


def _prepared(experiment: Experiment, moments: Moments) -> tuple[Moments, list[str]]:
    """Moments centred and whitened as asked for, and remarks."""
    remarks = moments.remarks()
    if experiment.center:
        moments = moments.centered()
    if experiment.whiten:
        d_x = moments.d_x
        moments, _ = moments.whitened()
        remarks.append(f"inputs were whitened: {moments.d_x} principal directions of {d_x} inputs carry variance")
    return moments, remarks


def _no_theory(objective: SquaredError, mask: Network) -> Prediction:
    """What is predicted of a network with held weights: nothing."""
    held = sum(int(jnp.sum(~m)) for m in mask.weights) / sum(m.size for m in mask.weights)
    check = Check("all closed forms", "every weight learns (no skips, no biases above layer 1)", held, 0.0)
    return Prediction(None, "", np.full(objective.modes.s.shape, np.nan), None, (check,))


def _words(experiment: Experiment) -> str:
    """Biases and skips, as titles say them."""
    parts = ["biases"] * experiment.bias + [f"skip {source} → {target}" for source, target in experiment.skips]
    return ", ".join(parts)


def largest_gap(W: np.ndarray, exact: np.ndarray) -> float:
    """Largest distance of two runs of matrices (time, out, in) over time, relative to the second's largest norm.

    Times at which the second is NaN are left out.

    >>> largest_gap(np.array([[[0.0]], [[1.9]]]), np.array([[[0.0]], [[2.0]]])).__round__(12)
    0.05
    """
    size = np.nanmax(np.linalg.norm(exact, axis=(1, 2)))
    return float(np.nanmax(np.linalg.norm(W - exact, axis=(1, 2))) / max(size, 1e-300))


def starting_network(experiment: Experiment, objective: SquaredError, widths: tuple[int, ...]) -> Network:
    """The start that an experiment names."""
    seed, scale = experiment.seed, experiment.scale
    makers = {
        "gaussian": lambda: init.gaussian(seed, widths, scale),
        "orthogonal": lambda: init.orthogonal(seed, widths, scale),
        "xavier": lambda: init.xavier(seed, widths),
        "kaiming": lambda: init.kaiming(seed, widths),
        "balanced": lambda: init.balanced(seed, widths, scale=scale),
        "decoupled": lambda: init.decoupled(seed, objective, widths, scale),
    }
    start = makers[experiment.start]()
    _check_start(scale, start, np.asarray(objective.sigma_xx))
    return start


def _check_start(scale: float, start: Network, sigma_xx: np.ndarray) -> None:
    r"""`ValueError` where the square of the gradient, $\|\Sigma_{xx}\| \prod_l \|W_l\|^2 / \|W_j\|$, leaves float64."""
    digits = lambda M: np.log10(max(float(np.abs(np.asarray(M)).max(initial=0.0)), 5e-324))
    sizes = [digits(W) + 0.5 * np.log10(W.size) for W in start.weights]
    if not 2 * sum(sizes) - min(sizes) + digits(sigma_xx) < SQUARES:
        raise ValueError(
            f"`scale`: got {scale:g}; the square of the gradient at this start is beyond float64; take a smaller one"
        )


def first_crossings(times: np.ndarray, curves: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Time at which each column of `curves` (time, mode) first reaches its level, by linear interpolation; NaN: never.

    >>> first_crossings(np.array([0.0, 1.0, 2.0]), np.array([[0.0], [2.0], [4.0]]), np.array([3.0])).tolist()
    [1.5]
    """
    crossings = np.full(levels.shape, np.nan)
    for a, level in enumerate(levels):
        above = np.flatnonzero(curves[:, a] >= level) if level > 0 else np.flatnonzero(curves[:, a] <= level)
        if level == 0 or above.size == 0:
            continue
        i = above[0]
        if i == 0:
            crossings[a] = times[0]
            continue
        low, high = curves[i - 1, a], curves[i, a]
        crossings[a] = times[i - 1] + (times[i] - times[i - 1]) * (level - low) / (high - low)
    return crossings


def in_spans(strengths: np.ndarray, W: np.ndarray, objective: SquaredError) -> np.ndarray:
    """Strengths (time, mode) with those of equal singular values replaced by strengths of their span, largest first.

    Which modes (u, v) within such a span are meant is nobody's choice; the eigenvalues of the symmetric part of U^T W V
    depend on the span alone. Spans in which W (time, d_y, d_x) is diagonal already stay as they are.

    >>> objective = SquaredError.from_singular_values([1.0, 1.0], 2, 2)
    >>> in_spans(np.zeros((1, 2)), np.array([[[0.0, 0.5], [0.5, 0.0]]]), objective).round(12).tolist()
    [[0.5, -0.5]]
    """
    U, s, V = (np.asarray(part) for part in objective.modes)
    found = strengths.copy()
    for group in groups_of(s):
        if group.size == 1 or s[group[0]] <= NOTHING * s[0]:
            continue
        B = U[:, group].T @ W @ V[:, group]
        known = np.isfinite(B).all(axis=(1, 2))
        off_diagonal = B[known] * (1 - np.eye(group.size))
        if np.abs(off_diagonal).max(initial=0.0) > DIAGONAL * np.abs(B[known]).max(initial=0.0):
            found[np.ix_(known, group)] = np.linalg.eigvalsh((B + B.mT)[known] / 2)[:, ::-1]
    return found


def _per_mode(
    data: xr.Dataset, objective: SquaredError, start: Network, prediction: Prediction, curves: np.ndarray | None
) -> dict[str, Any]:
    """What is known of every mode besides its curve; `curves` (time, mode): exact strengths at the data's times."""
    U, s, V = objective.modes
    best = objective.optimum_at_rank(start.max_rank)
    targets = np.asarray(jnp.sum(U * (best @ V), axis=0))
    targets = in_spans(targets[None], np.asarray(best)[None], objective)[0]
    targets = np.where(np.abs(targets) > 1e-12 * np.abs(targets).max(initial=0.0), targets, 0.0)
    explained = np.array(jnp.sum((U.T @ objective.optimum @ objective.root_xx) ** 2, axis=1))
    half = first_crossings(data["time"].values, data["mode_strengths"].values, targets / 2)
    predicted = prediction.half_times.copy()
    for group in groups_of(np.asarray(s)):
        explained[group] = explained[group].mean()
        if curves is not None and not np.allclose(predicted[group], predicted[group[0]], rtol=1e-9, atol=0.0):
            predicted[group] = first_crossings(data["time"].values, curves, targets / 2)[group]
    units = data["time"].attrs["units"]
    return {
        "data_singular_values": ("mode", np.asarray(s), {"long_name": "singular values of sigma_yx", "units": "1"}),
        "variance_share": (
            "mode",
            explained / max(explained.sum(), 1e-300),
            {"long_name": "share of the explained variance", "units": "1"},
        ),
        "mode_targets": ("mode", targets, {"long_name": "final strength in theory, u_a^T W* v_a", "units": "1"}),
        "half_time": ("mode", half, {"long_name": "time at half of the final strength", "units": units}),
        "half_time_predicted": (
            "mode",
            predicted,
            {"long_name": "predicted time at half of the final strength", "units": units},
        ),
    }


def _remarks(data: xr.Dataset, widths: tuple[int, ...], objective: SquaredError) -> list[str]:
    """What a reader should know of the run: what there is to learn, room for it, theory that missed, how it ended."""
    remarks, ending, modes = [], data.attrs["ending"], Modes.of(data)
    count = int(np.sum(modes.there)) if np.any(modes.singular_values > 0) else 0
    if count == 0:
        idle = "zero" if not np.any(objective.sigma_xx) else "uncorrelated with the outputs"
        remarks.append(f"the inputs are {idle}: there is nothing to learn")
    narrowest = min(widths[1:-1], default=count)
    if narrowest < count:
        whole = np.count_nonzero(modes.possible) <= narrowest  # else the best map of that rank mixes all modes
        told = f"{count - narrowest} of {count} modes are never learned" if whole else f"rank {narrowest} of {count}"
        remarks.append(f"the narrowest hidden layer has {narrowest} units: {told}")
    remarks += surprises(modes)
    kind = ending["kind"]
    if kind in ("saddle", "left the flow"):
        remarks.append(f"the run did not end at a minimum ({kind}): {ending['message']}")
    elif kind != "global minimum":
        remarks.append(f"the run did not converge ({kind}): {ending['message']}")
    return remarks


def _call(experiment: Experiment) -> str:
    """The call of `learn` on arrays X and Y that repeats a run."""
    settings, usual = experiment.model_dump(mode="json"), Experiment().model_dump(mode="json")
    names = {"start": "init"}
    changed = {name: value for name, value in settings.items() if value != usual[name] and name not in ("data", "skip")}
    parts = [f"{names.get(name, name)}={value!r}" for name, value in changed.items()]
    if experiment.skips:
        parts.append(f"skip={list(experiment.skips)!r}")
    return f"deeplinear.learn({', '.join(['X', 'Y', *parts])})"


def _attributes(
    experiment: Experiment, widths: tuple[int, ...], prediction: Prediction, gap: float | None, remarks: list[str]
) -> dict[str, Any]:
    settings, words = experiment.model_dump(mode="json"), _words(experiment)
    named = experiment.data != SAMPLES  # arrays have no name that the command line could find them by
    start = f"{experiment.start} start" + (
        "" if experiment.start in ("xavier", "kaiming") else f" of scale {experiment.scale:g}"
    )
    paces = f"rates {', '.join(f'{rate:g}' for rate in experiment.rates)}" if experiment.rates else ""
    checks = (
        prediction.checks
        if prediction.name is None
        else tuple(c for c in prediction.checks if c.theorem == prediction.name)
    )
    return {
        "title": f"{experiment.data}: {' → '.join(map(str, widths))}, {', '.join(filter(None, [words, start, paces]))}",
        "data": experiment.data,
        "start": experiment.start,
        "scale": experiment.scale,
        "seed": experiment.seed,
        "rtol": experiment.rtol,
        "tolerance": experiment.tolerance,
        "centered": experiment.center,
        "whitened": experiment.whiten,
        "theory": {
            "name": prediction.name,
            "formula": prediction.formula,
            "source": prediction.source,
            "exact": prediction.exact,
            "gap": gap,
            "obstruction": None if prediction.obstruction is None else prediction.obstruction.reason,
            "violations": [{**check._asdict(), "holds": check.holds} for check in checks if not check.holds],
        },
        "warnings": remarks,
        "experiment": settings,
        "command": experiment.command() if named else _call(experiment),
    }
