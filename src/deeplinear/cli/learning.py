"""`deeplinear learn`: train a network, report what it learned when."""

import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .options import Flag, chosen, takes_settings
from .output import console, printable, results_folder, simulated, to_json, use_compilation_cache, write_results

ENDING = ("kind", "loss", "excess", "unexplained", "predicted_loss", "time", "message")
SHOWN = 20  # modes in the table of the terminal
SETTINGS = (
    "target",
    "inputs",
    "drop",
    "missing",
    "classes",
    "hidden",
    "start",
    "scale",
    "seed",
    "loss",
    "bias",
    "skip",
    "rates",
    "center",
    "whiten",
    "rtol",
    "tolerance",
    "time",
    "max_steps",
)


@takes_settings(*SETTINGS)
def learn(
    data: str | None = None,
    /,
    *,
    experiment: Path | None = None,
    set: Annotated[list[str] | None, Parameter(negative="")] = None,
    out: Path | None = None,
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
    **settings: Any,
) -> None:
    """Train a deep linear network on a data set and report what it learned when, with theory beside simulation.

    Args:
        data: a task (digits, semantic, hierarchy) or a file (.csv, .tsv, .npz, .parquet, x.npy,y.npy); default digits
        experiment: a TOML file with these settings; options on the command line win over it
        set: one more setting as key=value, wins over everything; may be repeated
        out: folder for the report, the record and the settings; default runs/NAME-1, -2, ...
        overwrite: replace that folder if it exists
        json: print one JSON object and nothing else
        quiet: print nothing
    """
    from ..experiment import Experiment

    experiment_read = Experiment.read(experiment) if experiment else None
    asked = chosen(data, settings, experiment_read).with_settings(set or [])
    use_compilation_cache()
    with results_folder(out, asked.data, overwrite) as folder:
        dataset = simulated(asked, show=not (json or quiet))
        report, record = write_results(dataset, asked, folder, overwrite)
    if json:
        print(to_json(summary(dataset, report, record)))
    elif not quiet:
        _print_table(dataset, report)


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
    from rich.table import Table

    from ..plots.learned import Modes, in_groups
    from ..plots.words import ranges

    table, modes = Table(title=printable(data.attrs["title"]), title_justify="left"), Modes.of(data)
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
    terminal, ending, theory = console(), data.attrs["ending"], data.attrs["theory"]
    terminal.print(table)
    left = len(modes.listed) - sum(group.size for group in shown)
    if left:
        terminal.print(f"... and {left} more modes, all in the record")
    if theory["obstruction"]:
        terminal.print(f"Obstruction: the exact flow misses the smallest loss, for {theory['obstruction']}")
    terminal.print(
        f"Ending: {ending['kind']} at t = {ending['time']:.6g}, loss {ending['loss']:.6g} ({ending['message']})"
    )
    for violation in theory["violations"] if theory["name"] is None else ():
        terminal.print(f"No theory: {violation['theorem']}: {violation['assumption']}; {_off(violation['violation'])}")
    if theory["name"]:
        terminal.print(f"Theory: {theory['name']}, {theory['formula']}")
    if theory["gap"] is not None:
        terminal.print(
            f"Exact: {theory['source']}; the simulated end-to-end matrix departs from it by at most {theory['gap']:.1e}"
        )
    for warning in data.attrs["warnings"]:
        terminal.print(f"Note: {warning}")
    print(f"Report: {report}")
