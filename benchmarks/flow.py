"""Time to a given trajectory error of gradient flows: `python -m benchmarks.flow --problem P1,P2 --json times.json`.

One process on one pinned core with one thread. Every contender first looks for its own tolerance: the coarsest of half
decades whose trajectory error, the largest relative Frobenius error of the end-to-end matrix over the output times, is
at most the target. Then all are timed at these settings, warm, taking turns; the table shows medians of CPU seconds.
Differences below a quarter are noise on a shared machine.
"""

import argparse
import json
from pathlib import Path

from . import machine

DEFAULT_PROBLEMS = "P1,P1s,P2,P3r,P4,P5,P6"
QUICK = {"problem": "P2", "error": "1e-4", "repeats": 1, "limit": 5.0}


def main(arguments: list[str] | None = None) -> None:
    """Parses, races, prints tables and writes the JSON file."""
    core = machine.use_one_core()
    options = _parse(arguments)  # imports numpy, hence after it
    from rich.console import Console

    from . import problems, race

    output, progress = Console(), Console(stderr=True)
    if not output.is_terminal:
        output.width = 120  # into a file without cuts
    results = machine.facts(core) | {"repeats": options.repeats, "limit_seconds": options.limit, "problems": {}}
    for name in options.problem:
        problem = problems.build(name)
        problem = problems.first_members(problem, options.members)
        with progress.status(name) as status:
            result = race.race(
                problem, options.contender, options.error, options.repeats, options.limit, say=status.update
            )
        results["problems"][name] = result
        output.print(_table(name, result))
        for skipped in result["skipped"]:
            where = f" at {skipped['target']:g}" if "target" in skipped else ""
            output.print(f"  skipped {skipped['contender']}{where}: {skipped['reason']}", highlight=False)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from . import contenders, problems

    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument(
        "--problem", help=f"comma-separated, of {', '.join(problems.BUILDERS)}; default {DEFAULT_PROBLEMS}"
    )
    parser.add_argument("--error", help="comma-separated target errors; default 1e-4,1e-6")
    parser.add_argument("--contender", help=f"comma-separated, besides {contenders.OURS}; default all")
    parser.add_argument("--repeats", type=int, help="rounds of timing; default 5")
    parser.add_argument("--limit", type=float, help="CPU seconds that a call may take; default 60")
    parser.add_argument("--members", type=int, default=50, help="starts of the ensemble P7, at most 1000; default 50")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument("--quick", action="store_true", help="P2 at 1e-4, one round, at most 5 CPU seconds a call")
    options = parser.parse_args(arguments)
    defaults = {"problem": DEFAULT_PROBLEMS, "error": "1e-4,1e-6", "repeats": 5, "limit": 60.0}
    for name, value in (defaults | (QUICK if options.quick else {})).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if min(options.repeats, options.members) < 1 or options.limit <= 0:
        parser.error("--repeats and --members are at least 1, --limit is above 0")
    try:
        options.problem = [problems.check_name(name) for name in options.problem.split(",")]
        options.error = [float(error) for error in options.error.split(",")]
        named = options.contender.split(",") if options.contender else list(contenders.CONTENDERS)
        options.contender = [contenders.OURS, *(contenders.check_name(n) for n in named if n != contenders.OURS)]
    except ValueError as problem:
        parser.error(str(problem))
    return options


def _table(name: str, result: dict):
    from rich import box
    from rich.table import Table

    widths = "-".join(map(str, result["widths"]))
    members = f", {result['members']} starts" if result["members"] > 1 else ""
    title = f"{name}: {widths}, T = {result['horizon']:g}{members}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("wanted", justify="right", no_wrap=True)
    table.add_column("contender", no_wrap=True)
    for heading in ("achieved", "tolerance", "CPU ms", "wall ms", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            f"{row['target']:g}",
            row["contender"],
            f"{row['error']:.1e}",
            f"{row['tolerance']:.1e}",
            f"{row['cpu_ms']:.3g}",
            f"{row['wall_ms']:.3g}",
            "-" if row["ratio"] is None else f"{row['ratio']:.3g}x",
        )
    return table


if __name__ == "__main__":
    main()
