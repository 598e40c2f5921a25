"""Markdown tables of what the benchmarks wrote: `python -m benchmarks.page flow.json evaluation.json`."""

import json
import sys
from pathlib import Path


def main(paths: list[str]) -> None:
    """Prints the tables of every file."""
    for path in paths:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        facts = {key: value for key, value in results.items() if key not in ("problems", "evaluations")}
        print("\n".join(f"- {key}: {value}" for key, value in facts.items()), end="\n\n")
        if "problems" in results:
            print(flow(results["problems"]), end="\n\n")
        if "evaluations" in results:
            print(evaluations(results["evaluations"]), end="\n\n")


def flow(found: dict) -> str:
    """Problems down, contenders across: our milliseconds, then how many times as long the others take."""
    lines = []
    targets = sorted({row["target"] for result in found.values() for row in result["rows"]}, reverse=True)
    names = list(dict.fromkeys(row["contender"] for result in found.values() for row in result["rows"]))
    names = ["deeplinear", *sorted(name for name in names if name != "deeplinear")]
    for target in targets:
        lines += [f"Trajectory error {target:g}:", "", f"| problem | deeplinear, CPU ms | {' | '.join(names[1:])} |"]
        lines.append("|---|" + "---|" * len(names))
        for problem, result in found.items():
            rows = {row["contender"]: row for row in result["rows"] if row["target"] == target}
            ours = rows.get("deeplinear")
            cells = [f"{ours['cpu_ms']:.3g}" if ours else "-"]
            cells += [f"{rows[name]['ratio']:.3g}x" if name in rows and ours else "-" for name in names[1:]]
            lines.append(f"| {problem} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def evaluations(rows: list[dict]) -> str:
    """One line a network."""
    lines = [
        "| problem | widths | microseconds | GFlop/s | bound | microseconds of the bound | ratio |",
        "|---|" + "---|" * 6,
    ]
    for row in rows:
        numbers = [f"{row[key]:.3g}" for key in ("microseconds", "gigaflops")]
        bound = [row["bound"], f"{row['bound_microseconds']:.3g}", f"{row['ratio']:.3g}x"]
        lines.append(f"| {' | '.join([row['problem'], row['widths'], *numbers, *bound])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
