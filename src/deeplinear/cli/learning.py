"""`deeplinear learn`: train a network, report what it learned when."""

import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .output import (
    Flag,
    OptionalFlag,
    free_folder,
    simulated,
    to_json,
    use_compilation_cache,
    write_results,
)


def learn(
    data: str | None = None,
    /,
    *,
    target: str | None = None,
    hidden: str | None = None,
    start: str | None = None,
    scale: float | None = None,
    seed: int | None = None,
    loss: str | None = None,
    bias: OptionalFlag = None,
    skip: str | None = None,
    center: OptionalFlag = None,
    whiten: OptionalFlag = None,
    rtol: float | None = None,
    tolerance: float | None = None,
    time: float | None = None,
    max_steps: int | None = None,
    experiment: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,
    out: Path | None = None,
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
) -> None:
    """Train a deep linear network on a data set and report what it learned when, with theory beside simulation.

    Args:
        data: a task (digits, semantic, hierarchy) or a file (.csv, .tsv, .npz, .parquet, x.npy,y.npy); default digits
        target: columns of a table to predict, separated by commas; text becomes one-hot classes
        hidden: widths of the hidden layers, separated by commas; default 32,32
        start: gaussian, orthogonal, xavier, kaiming, balanced or decoupled
        scale: size of the start: standard deviation of weights, or strength of every mode for decoupled; default 1e-3
        seed: seed of the start; default 0
        loss: half-mean, mean, half-sum, sum or entry-mean; only rescales time
        bias: give every layer a bias, zero at the start
        skip: identity skips source:target past layers, separated by commas, such as 1:3; layer 0 is the input
        center: subtract the means of inputs and outputs
        whiten: make the inputs' second moment the identity
        rtol: relative error of the path that is aimed at; default 1e-6
        tolerance: excess loss, relative to the start, at which the run ends
        time: time limit
        max_steps: step limit
        experiment: a TOML file with these settings; options on the command line win over it
        set: one more setting as key=value, wins over everything; may be repeated
        out: folder for the report, the record and the settings; default runs/NAME-1, -2, ...
        overwrite: replace that folder if it exists
        json: print one JSON object and nothing else
        quiet: print nothing
    """
    given = {name: value for name, value in locals().items() if name in SETTINGS and value is not None}
    from ..experiment import Experiment

    chosen = Experiment.read(experiment) if experiment else Experiment()
    chosen = Experiment(**{**chosen.model_dump(), **given}).with_settings(set or [])
    folder = free_folder(out, chosen.data, overwrite)
    use_compilation_cache()
    dataset = simulated(chosen, show=not (json or quiet))
    report, record = write_results(dataset, chosen, folder, overwrite)
    if json:
        print(to_json(summary(dataset, report, record)))
    elif not quiet:
        _print_table(dataset, report)


ENDING = ("kind", "loss", "excess", "unexplained", "predicted_loss", "time", "message")
SHOWN = 20  # modes in the table of the terminal
SETTINGS = (
    "data",
    "target",
    "hidden",
    "start",
    "scale",
    "seed",
    "loss",
    "bias",
    "skip",
    "center",
    "whiten",
    "rtol",
    "tolerance",
    "time",
    "max_steps",
)


def summary(data: Any, report: Path, record: Path) -> dict[str, Any]:
    """What `--json` prints: modes, ending, statistics, theory, and where the record and the report are."""
    columns = ("data_singular_values", "half_time", "half_time_predicted")
    names = ("singular_value", "half_time", "half_time_predicted")
    final = data["mode_strengths"].values[-1]
    modes = [
        {
            "mode": a + 1,
            **{name: float(data[column].values[a]) for name, column in zip(names, columns, strict=True)},
            "strength": float(u),
        }
        for a, u in enumerate(final)
    ]
    theory = data.attrs["theory"]
    return {
        "modes": modes,
        "ending": {name: data.attrs["ending"][name] for name in ENDING},
        "statistics": data.attrs["statistics"],
        "theory": {name: theory[name] for name in ("name", "exact", "gap", "obstruction", "violations")},
        "record": str(record),
        "report": str(report),
    }


def _off(violation: float) -> str:
    """By how much an assumption fails, in words."""
    return "does not apply" if math.isinf(violation) else f"off by {violation:.2g}"


def _print_table(data: Any, report: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..plots.learned import Modes, in_groups
    from ..plots.words import ranges

    table, modes = Table(title=data.attrs["title"], title_justify="left"), Modes.of(data)
    for heading in ("mode", "singular value", "share", "predicted half-time", "half-time", "strength", "of"):
        table.add_column(heading, justify="right")
    digits = lambda form: lambda x: "-" if math.isnan(x) else "never" if math.isinf(x) else format(x, form)
    shown = [group for group in modes.groups if group[0] < SHOWN]
    columns = [
        [ranges(modes.listed[k] for k in group) for group in shown],
        in_groups(shown, modes.present, digits(".6g")),
        [digits(".1%")(float(modes.shares[group].sum())) for group in shown],
    ]
    columns += [in_groups(shown, x, digits(".5g")) for x in (modes.predicted, modes.halves, modes.final, modes.targets)]
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    console, ending, theory = Console(), data.attrs["ending"], data.attrs["theory"]
    console.print(table)
    left = len(modes.listed) - sum(group.size for group in shown)
    if left:
        console.print(f"... and {left} more modes, all in the record")
    if theory["obstruction"]:
        console.print(f"Obstruction: the exact flow misses the smallest loss, for {theory['obstruction']}")
    console.print(
        f"Ending: {ending['kind']} at t = {ending['time']:.6g}, loss {ending['loss']:.6g} ({ending['message']})"
    )
    for violation in theory["violations"] if theory["name"] is None else ():
        console.print(f"No theory: {violation['theorem']}: {violation['assumption']}; {_off(violation['violation'])}")
    if theory["name"]:
        console.print(f"Theory: {theory['name']}, {theory['formula']}")
    if theory["gap"] is not None:
        console.print(
            f"Exact: {theory['source']}; the simulated end-to-end matrix departs from it by at most {theory['gap']:.1e}"
        )
    for warning in data.attrs["warnings"]:
        console.print(f"Note: {warning}")
    print(f"Report: {report}")
