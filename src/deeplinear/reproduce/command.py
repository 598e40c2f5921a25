"""`deeplinear reproduce`: list, run, check and draw published results. Help never waits for JAX."""

import json as json_format
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import App, Parameter

from . import registry
from .checks import Checked

app = App(
    name="reproduce",
    help="Reproduce published results: simulation beside theory, checks, figures.",
    help_format="plaintext",
    result_action="return_value",
)

Flag = Annotated[bool, Parameter(negative="")]
PRINT_DPI = 300
CHECKS, RECORD = "checks.json", "data.zarr"


class CheckFailed(Exception):
    """A check does not hold."""


@app.command(name="list")
def list_results(*, json: Flag = False) -> None:
    """List the results that there are.

    Args:
        json: print one JSON object and nothing else
    """
    titles = {name: registry.title(name) for name in registry.names()}
    if json:
        print(json_format.dumps(titles))
        return
    for name, title in titles.items():
        print(f"{name:28}{title}")


@app.default
def run(name: str, /, *, out: Path | None = None, json: Flag = False) -> None:
    """Run one result with its published settings; write figure and dataset; print its checks.

    Args:
        name: one of the results that `list` names
        out: folder for figure.png, figure.svg, data.zarr and checks.json; default reproduced/NAME
        json: print one JSON object and nothing else
    """
    _finish([_reproduced(name, out or Path("reproduced") / name)], json)


@app.command
def check(name: str, /, *, quick: Flag = False, json: Flag = False) -> None:
    """Run one result and print its checks; nothing is written.

    Args:
        name: one of the results that `list` names
        quick: the small settings of the test suite, where the published ones take long
        json: print one JSON object and nothing else
    """
    result = registry.load(name)
    _finish([_checked(name, result, result.QUICK if quick else result.SETTINGS)[1]], json)


@app.command(name="all")
def run_all(*, out: Path = Path("reproduced"), json: Flag = False) -> None:
    """Run every result; write figures and datasets; print all checks.

    Args:
        out: folder, with one folder for each result
        json: print one JSON object and nothing else
    """
    _finish([_reproduced(name, out / name) for name in registry.names()], json)


def _checked(name: str, result: ModuleType, settings: Any) -> tuple[Any, dict[str, Any]]:
    """The dataset of a result, and what is reported of it."""
    started = time.perf_counter()
    data = result.run(settings)
    checks = result.check(data)
    seconds = time.perf_counter() - started
    return data, {"name": name, "seconds": round(seconds, 2), "checks": [_entry(check) for check in checks]}


def _entry(check: Checked) -> dict[str, Any]:
    return {**check._asdict(), "holds": check.holds}


def _reproduced(name: str, folder: Path) -> dict[str, Any]:
    """Runs, checks and writes one result, into a folder that is tried first and appears whole or not at all."""
    import matplotlib as mpl

    from .. import _files, records

    ours = lambda folder: records.foreign_to_results(folder, CHECKS, RECORD, (CHECKS, "figure.svg", "figure.png"))
    result = registry.load(name)
    with _files.claimed([folder], True, ours, "--out"):
        data, report = _checked(name, result, result.SETTINGS)
        figure = result.figure(data)
        report["folder"] = str(folder)
        with _files.atomic_folder(folder, True, ours) as partial:
            with mpl.rc_context({"svg.hashsalt": name}):  # the same bytes each time
                figure.savefig(partial / "figure.svg", metadata={"Date": None})
            figure.savefig(partial / "figure.png", dpi=PRINT_DPI)
            records.save(data, partial / RECORD)
            (partial / CHECKS).write_text(json_format.dumps(report, indent=2), encoding="utf-8")
    return report


def _finish(reports: list[dict[str, Any]], json: bool) -> None:
    """Prints the reports; raises `CheckFailed` if anything does not hold."""
    failed = [
        f"{report['name']}: {check['name']}" for report in reports for check in report["checks"] if not check["holds"]
    ]
    if json:
        print(json_format.dumps({"results": reports, "holds": not failed}))
    else:
        for report in reports:
            _print_table(report)
    if failed:
        raise CheckFailed(f"{len(failed)} checks do not hold: {'; '.join(failed)}")


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report['name']} ({report['seconds']:.1f} s)", title_justify="left")
    table.add_column("check", overflow="fold")
    for heading in ("value", "bound", "holds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for check in report["checks"]:
        held = "yes" if check["holds"] else "NO"
        table.add_row(check["name"], f"{check['value']:.3g}", f"{check['sense']} {check['bound']:g}", held)
    Console().print(table)
    if "folder" in report:
        print(f"Figure and data: {report['folder']}")
