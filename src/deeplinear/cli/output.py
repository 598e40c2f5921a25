"""What the commands share: settings in, a folder of results out."""

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

SETTINGS_FILE, RECORD, REPORT = "experiment.toml", "record.zarr", "report.html"
FILES = (SETTINGS_FILE, REPORT, "atlas.svg")
"""Besides the record, what a folder of results holds; --overwrite replaces no folder with anything else in it."""


def simulated(experiment: Any, show: bool, max_rank: int | None = None) -> Any:
    """The dataset of an experiment; `max_rank`: see `learning.run`."""
    from .. import learning, tasks

    return learning.run(experiment, tasks.of(experiment), progress=show and sys.stderr.isatty(), max_rank=max_rank)


def results_folder(out: Path | None, data: str, overwrite: bool) -> AbstractContextManager[Path]:
    """Where to write: tried and claimed before anything runs, removed again where nothing was written.

    Without `out` the first of runs/NAME-1, runs/NAME-2, ... that no other process has.
    """
    from .. import _files

    if out is None:
        return _files.claimed(_numbered(Path("runs", Path(data.split(",")[0]).stem)), False, _files.only_empty, "--out")
    if not overwrite and os.path.lexists(_files.check_name(out, "--out")):
        raise ValueError(f"`--out`: {out} exists; choose another folder or say --overwrite")
    return _files.claimed([out], overwrite, foreign, "--out")


def _numbered(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}-{number}") for number in count(1))


def foreign(folder: Path) -> str | None:
    """The first entry of a folder that no command writes; None where it is empty or holds results alone."""
    from .. import records

    return records.foreign_to_results(folder, SETTINGS_FILE, RECORD, FILES)


def write_results(
    data: Any, experiment: Any, folder: Path, overwrite: bool, figures: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Report, record, settings and figures of `plots`, in a folder that appears whole or not at all.

    `folder` is a claimed one. Should somebody else have filled it meanwhile, the next free name is taken.
    """
    from .. import _files, plots, records

    ours = foreign if overwrite else _files.only_empty
    if os.path.isdir(folder) and ours(folder) is not None:
        folder = next(other for other in _numbered(folder) if not os.path.lexists(other))
    with _files.atomic_folder(folder, overwrite=True, ours=ours) as partial:
        records.save(data, partial / RECORD)
        plots.report(data, partial / REPORT)
        (partial / SETTINGS_FILE).write_text(experiment.toml(), encoding="utf-8")
        for name in figures:
            ax = getattr(plots, name)(data)
            text = plots.svg(ax.figure, ax.get_title(loc="left"))
            (partial / f"{name}.svg").write_text(text, encoding="utf-8")
    return folder / REPORT, folder / RECORD


def console() -> Any:
    """A terminal that prints names as they are: no markup, no emoji."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def printable(text: str) -> str:
    """A text without the control characters that names of files may have and that terminals obey.

    >>> printable("a\\x1b[31m.csv")
    'a�[31m.csv'
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def to_json(value: Any) -> str:
    """JSON in which what is not finite is null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(value))


def use_compilation_cache() -> None:
    """Lets JAX keep compiled programs in the user's cache folder, so that only the first run of a shape compiles."""
    from platformdirs import user_cache_path

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(user_cache_path("deeplinear") / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")
