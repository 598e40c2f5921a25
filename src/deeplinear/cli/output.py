"""What the commands share: settings in, a folder of results out."""

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETTINGS_FILE = "experiment.toml"
"""By this file a folder of results is known; --overwrite replaces no other folder."""


def simulated(experiment: Any, show: bool, max_rank: int | None = None) -> Any:
    """The dataset of an experiment; `max_rank`: see `learning.run`."""
    from .. import learning, tasks

    return learning.run(experiment, tasks.of(experiment), progress=show and sys.stderr.isatty(), max_rank=max_rank)


def free_folder(out: Path | None, data: str, overwrite: bool) -> Path:
    """Where to write; refused before anything runs if it exists."""
    from .. import records

    if out is None:
        name, number = Path(data.split(",")[0]).stem, 1
        while (folder := Path("runs") / f"{name}-{number}").exists():
            number += 1
        return folder
    if out.exists() and not overwrite:
        raise ValueError(f"`--out`: {out} exists; choose another folder or say --overwrite")
    records.check_free(out, overwrite, known_by=SETTINGS_FILE)
    return out


def write_results(
    data: Any, experiment: Any, folder: Path, overwrite: bool, figures: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Report, record, settings and figures of `plots`, in a folder that appears whole or not at all."""
    from .. import plots, records

    folder.parent.mkdir(parents=True, exist_ok=True)
    with records.atomic_folder(folder, overwrite=overwrite, known_by=SETTINGS_FILE) as partial:
        records.save(data, partial / "record.zarr")
        plots.report(data, partial / "report.html")
        (partial / SETTINGS_FILE).write_text(experiment.toml(), encoding="utf-8")
        for name in figures:
            ax = getattr(plots, name)(data)
            text = plots.svg(ax.figure, ax.get_title(loc="left"))
            (partial / f"{name}.svg").write_text(text, encoding="utf-8")
    return folder / "report.html", folder / "record.zarr"


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
