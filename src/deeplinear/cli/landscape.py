"""`deeplinear atlas`: the critical points of a landscape, and which of them a run comes near to."""

from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from .options import Flag, OptionalWhole, Whole, chosen, takes_settings
from .output import console, printable, results_folder, simulated, to_json, use_compilation_cache, write_results


@takes_settings("target", "inputs", "drop", "missing", "classes", "hidden", "scale", "seed", "loss", "center", "whiten")
def atlas(
    data: str | None = None,
    /,
    *,
    max_rank: OptionalWhole = None,
    signature: str | None = None,
    rows: Whole = 12,
    table: Flag = False,
    out: Path | None = None,
    overwrite: Flag = False,
    json: Flag = False,
    **settings: Any,
) -> None:
    """List the critical points of a loss landscape, and draw the path of a run from a small start among them.

    Args:
        data: a task (digits, semantic, hierarchy) or a file, as in learn; default digits
        max_rank: list no critical point with more learned modes
        signature: tell of the one with these learned modes alone, such as 1,3 (or none), and run nothing
        rows: how many of the lowest and of the highest to print
        table: print the table alone; no run, nothing is written
        out: folder for atlas.svg, the report, the record and the settings; default runs/NAME-1, -2, ...
        overwrite: replace that folder if it exists
        json: print one JSON object and nothing else
    """
    if rows < 1:
        raise ValueError(f"`rows`: got {rows}; it must be at least 1")
    asked = chosen(data, settings)
    runs = not (table or signature is not None)
    if out is not None and not runs:
        raise ValueError("`--out`: with --table or --signature nothing is written; leave one of them out")
    if asked.bias or asked.skip:
        raise ValueError("`experiment`: has biases or skips; the atlas is of networks whose weights all learn")
    use_compilation_cache()
    with results_folder(out, asked.data, overwrite) if runs else nullcontext() as folder:
        points = _points(asked, max_rank)
        listed = _listed(points, rows) if signature is None else [points.at(_modes(signature))]
        found: dict[str, Any] = {"widths": list(points.widths), "count": points.count, "points": [*map(_entry, listed)]}
        if folder is not None:
            dataset = simulated(asked, show=not json, max_rank=max_rank)
            dataset.attrs["command"] = _command(asked, max_rank)
            report, record = write_results(dataset, asked, folder, overwrite, figures=_figures(dataset))
            found |= {"path": _path(dataset), "report": str(report), "record": str(record)}
    if json:
        print(to_json(found))
    else:
        _print_table(asked.data, points, found)


def _points(experiment: Any, max_rank: int | None) -> Any:
    from .. import landscape, learning, tasks

    task = tasks.of(experiment)
    objective, widths, _ = learning.problem(experiment, task.moments)
    return landscape.critical_points(objective, widths, max_rank)


def _command(experiment: Any, max_rank: int | None) -> str:
    """The shell command that makes the same folder again."""
    command = experiment.command().replace("deeplinear learn", "deeplinear atlas", 1)
    return command if max_rank is None else f"{command} --max-rank {max_rank}"


def _listed(points: Any, rows: int) -> list[Any]:
    """All, or the lowest and the highest; lowest first."""
    if points.count <= 2 * rows:
        return list(points)
    return [*islice(points, rows), *[*islice(reversed(points), rows)][::-1]]


def _modes(signature: str) -> tuple[int, ...]:
    parts = [] if signature == "none" else [part.strip() for part in signature.split(",")]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        raise ValueError(f"`signature`: got {wrong[0]!r}; give numbers of modes with commas between them, or none")
    return tuple(int(part) for part in parts)


def _entry(point: Any) -> dict[str, Any]:
    return {
        "signature": list(point.signature),
        "value": point.value,
        "rank": point.rank,
        "kind": point.kind,
        "kinds": list(point.kinds),
        "inertia": list(point.inertia),
        "unstable_arcs": point.unstable_arcs,
        "stable_arcs": point.stable_arcs,
    }


def _figures(dataset: Any) -> tuple[str, ...]:
    from .._dataset import together

    return ("atlas",) if "critical_value" in together(dataset) else ()


def _path(dataset: Any) -> list[dict[str, Any]]:
    """The critical points that the run comes near to, one after another."""
    from .._dataset import together

    dataset = together(dataset)
    if "visit_point" not in dataset:
        return []
    names = dataset["critical_signature"].values
    visits = zip(dataset["visit_point"].values, dataset["visit_time"].values, strict=True)
    read = lambda text: [int(k) for k in text.split(",")] if text else []
    return [{"signature": read(str(names[point - 1])), "time": float(time)} for point, time in visits]


def _print_table(name: str, points: Any, found: dict[str, Any]) -> None:
    from rich.table import Table

    entries, count = found["points"], _readable(found["count"])
    table = Table(
        title=f"{printable(name)}: {' → '.join(map(str, points.widths))}, {count} critical values", title_justify="left"
    )
    for heading in ("learned modes", "loss", "rank", "kind", "n-", "n0", "n+"):
        words = heading in ("learned modes", "kind")
        table.add_column(heading, justify="left" if words else "right", overflow="fold")
    for k, entry in enumerate(entries):
        if 2 * k == len(entries) < found["count"]:
            table.add_section()
        signs = map(str, entry["inertia"])
        table.add_row(_name(entry["signature"]), f"{entry['value']:.6g}", str(entry["rank"]), _kinds(entry), *signs)
    terminal = console()
    terminal.print(table)
    terminal.print("n-, n0, n+: eigenvalues of the Hessian below, at and above zero, at the canonical representative")
    if len(entries) == 1:
        up, down = (_readable(entries[0][name]) for name in ("stable_arcs", "unstable_arcs"))
        terminal.print(f"Arcs to lower critical points: {down}; from higher ones: {up}")
    if found.get("path"):
        steps = (f"{_name(visit['signature'])} (t = {visit['time']:.5g})" for visit in found["path"])
        terminal.print(f"Path of the run: {' → '.join(steps)}")
    if "report" in found:
        print(f"Report: {found['report']}")


def _name(signature: list[int]) -> str:
    from ..plots.words import ranges

    return ranges(signature) if signature else "none"


def _kinds(entry: dict[str, Any]) -> str:
    """The kind of the canonical representative, and what else networks of the same product can be."""
    other = [kind.removesuffix(" saddle") for kind in entry["kinds"][1:]]
    return ", or ".join([entry["kind"], *other])


def _readable(count: int) -> str:
    return str(count) if count < 10**9 else f"about 10^{len(str(count)) - 1}"
