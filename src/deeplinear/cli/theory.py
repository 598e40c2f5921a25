"""`deeplinear verify`: every statement of theory, measured on a network, its run and critical points of its loss."""

import math
from typing import Any

from .options import Flag, chosen, takes_settings
from .output import console, printable, to_json, use_compilation_cache

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
    "center",
    "whiten",
    "time",
)


class StatementFailed(Exception):
    """A statement that applies does not hold."""


@takes_settings(*SETTINGS)
def verify(
    data: str | None = None,
    /,
    *,
    only: str | None = None,
    json: Flag = False,
    **settings: Any,
) -> None:
    """Hold every proposition of the theory against a network, a run from it, and critical points of its loss.

    Exit code 1 if a statement that applies does not hold.

    Args:
        data: a task (digits, semantic, hierarchy) or a file, as in learn; default digits
        only: keys of statements, separated by commas, such as 6,13; default all
        json: print one JSON object and nothing else
    """
    experiment = chosen(data, settings)
    use_compilation_cache()
    results, widths = _verified(experiment, only)
    if json:
        print(to_json({"results": [_entry(row) for row in results]}))
    else:
        _print_table(f"{experiment.data}: {' → '.join(map(str, widths))}", results)
    failed = [row["name"] for row in results if row["applies"] and not row["holds"]]
    if failed:
        raise StatementFailed(f"{len(failed)} statements do not hold: {', '.join(failed)}")


def _verified(experiment: Any, only: str | None) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of `theory.verify` along a gradient flow from the start of the experiment."""
    from .. import learning, tasks, theory
    from ..flows import gradient_flow

    theory.check_keys(only)
    task = tasks.of(experiment)
    objective, widths, _ = learning.problem(experiment, task.moments)
    network = learning.starting_network(experiment, objective, widths)
    trajectory = gradient_flow(
        objective,
        network,
        rtol=experiment.rtol,
        tolerance=experiment.tolerance,
        max_time=experiment.time,
        max_steps=experiment.max_steps,
        progress=False,
    )
    found = theory.verify(objective, network, trajectory, only, experiment.seed)
    names = ("name", "source", "applies", "holds", "residual", "tolerance", "note")
    columns = {"key": found["statement"].values.tolist(), **{name: found[name].values.tolist() for name in names}}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return rows, found.attrs["widths"]


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: `holds` is null where the statement does not apply."""
    return {**{name: value for name, value in row.items() if name != "key"}, "holds": _held(row)}


def _held(row: dict[str, Any]) -> bool | None:
    return row["holds"] if row["applies"] else None


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(
        title=printable(title),
        title_justify="left",
        caption="-: does not apply here",
        caption_justify="left",
        expand=True,
    )
    for heading in ("key", "name", "holds", "residual", "tolerance", "note"):
        right, wide = heading in ("residual", "tolerance"), {"name": 2, "note": 3}.get(heading)
        table.add_column(heading, justify="right" if right else "left", no_wrap=wide is None, ratio=wide)
    number = lambda value: "-" if math.isnan(value) else f"{value:.2g}"
    for row in rows:
        held = {None: "-", True: "yes", False: "NO"}[_held(row)]
        figures = number(row["residual"]), number(row["tolerance"])
        table.add_row(row["key"], row["name"], held, *figures, row["note"])
    console().print(table)
    applying = sum(row["applies"] for row in rows)
    holding = sum(bool(_held(row)) for row in rows)
    print(f"{len(rows)} statements: {applying} apply here, {holding} hold")
