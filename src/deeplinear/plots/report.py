"""One run as one self-contained web page that asks no other host for anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib.style
import xarray as xr
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._dataset import together
from .._files import atomic_file
from . import dynamics, landscape, reading
from .style import BOX, SIZE
from .svg import FONTS, css, inline_svg, swatch

SHOWN_ROWS = 12  # more modes than this are folded away
TITLE = "A run of a deep linear network"
COLUMNS = (
    "mode",
    "singular value",
    "share of variance",
    "half-time predicted",
    "half-time simulated",
    "difference",
    "final strength",
    "target",
)

# a figure is drawn where one of its variables is in the dataset
_FIGURES: tuple[tuple[Callable[..., Axes], tuple[str, ...], str], ...] = (
    (
        dynamics.modes,
        ("mode_strengths",),
        "How much of each mode of the data the network has learned at each time; ticks at the right are the targets.",
    ),
    (
        dynamics.loss,
        ("loss", "excess_loss"),
        "The loss, and its excess over the smallest loss that this architecture can reach.",
    ),
    (
        dynamics.data_spectrum,
        ("data_singular_values",),
        "What there is to learn: the singular values of the data and the share of the explained variance of each.",
    ),
    (
        dynamics.layer_spectra,
        ("layer_singular_values",),
        "The singular values of every weight matrix; the layers of a balanced network share theirs.",
    ),
    (
        dynamics.alignment,
        ("alignment",),
        "How well neighbouring layers line up, mode by mode; at 1 a mode passes from layer to layer without mixing.",
    ),
    (
        dynamics.imbalance,
        ("imbalance_drift",),
        "How far the quantities that an exact flow conserves have moved: small where the run follows the flow.",
    ),
    (
        landscape.atlas,
        ("critical_value",),
        "Critical points of the loss by the modes that are learned there, lines between those that differ by one, and "
        "the way of this run; times are those from which a point is the nearest.",
    ),
)


def report(data: xr.Dataset, path: str | PathLike[str]) -> Path:
    """Write one self-contained HTML page about a run and return its path.

    The page says what was learned when, lists the modes, draws the figures, names the theory or what keeps it from
    applying, and ends with how to reproduce the run. It follows the reader's light or dark setting, needs no network,
    and is the same, byte for byte, for the same dataset. What the dataset lacks is left out. The file appears whole or
    not at all. Raises ValueError where the folder does not exist or the dataset has nothing to draw.

    >>> import tempfile, xarray as xr
    >>> run = xr.Dataset({"loss": ("time", [1.0, 0.1])}, {"time": [0.0, 1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report(run, folder + "/report.html").name
    'report.html'
    """
    with atomic_file(path) as partial:
        # a lone surrogate, as in a file name that is no UTF-8, is no text: the page shows a question mark
        partial.write_text(_page(data), encoding="utf-8", errors="replace", newline="\n")
    return Path(path)


def _page(data: xr.Dataset) -> str:
    """The HTML text of the report."""
    if not isinstance(data, xr.Dataset):
        raise ValueError(f"`data` must be an xarray.Dataset as made by `learn`, got {type(data).__name__}")
    drawn, lacking = _figures(together(data))
    modes = reading.Modes.of(data)
    rows = [(Markup(swatch(k)), row) for k, row in reading.mode_rows(modes)]
    theory = reading.attribute(data, "theory")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("deeplinear.plots").joinpath("report.html.jinja").read_text(encoding="utf-8")
    template = environment.from_string(source)
    return template.render(
        title=str(data.attrs.get("title") or TITLE),
        facts=_facts(data),
        summary=reading.summary(data),
        milestones=reading.milestones(modes),
        milestones_after=reading.milestones_after(data),
        columns=COLUMNS,
        rows=rows[:SHOWN_ROWS],
        folded=rows[SHOWN_ROWS:],
        figures=drawn,
        lacking=lacking,
        theory={key: str(theory.get(key) or "") for key in ("name", "formula", "source")}
        | {"gap": reading.number(theory["gap"]) if isinstance(theory.get("gap"), float) else ""}
        if theory
        else None,
        violations=reading.violations(data),
        warnings=[str(warning) for warning in reading.entries(data, "warnings")],
        ending=reading.facts(reading.attribute(data, "ending")),
        statistics=reading.facts(reading.attribute(data, "statistics")),
        command=str(data.attrs.get("command") or ""),
        experiment=_json(data.attrs.get("experiment")),
        versions=reading.plain(reading.attribute(data, "versions")),
        theme=Markup(css(":root")),
        fonts=Markup(FONTS),
    )


def _figures(data: xr.Dataset) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures that the dataset allows, as SVG with captions, and the variables that the others would need."""
    drawn, lacking = [], []
    for draw, needs, caption in _FIGURES:
        if not any(name in data and data[name].size for name in needs):  # one layer has no junctions, for instance
            lacking.extend(needs)
            continue
        with matplotlib.style.context("default"):  # the reader's page, not the writer's settings, decides the colours
            figure = Figure(figsize=SIZE)
            ax = draw(data, figure.add_axes(BOX))
            text = inline_svg(figure, f"{ax.get_title(loc='left')}. {caption}", draw.__name__)
        drawn.append({"svg": Markup(text), "caption": caption})
    if not drawn:
        raise ValueError(f"`data` has nothing to report; expected at least one of the variables {', '.join(lacking)}")
    return drawn, lacking


def _facts(data: xr.Dataset) -> list[tuple[str, str]]:
    """The line under the title: what was run."""
    attrs = data.attrs
    told = [(name, reading.plain(attrs[name])) for name in ("data", "start", "scale", "seed") if name in attrs]
    if "widths" in attrs:
        told.insert(1, ("widths", " → ".join(str(width) for width in reading.entries(data, "widths"))))
    if "loss_scale" in attrs:
        formula = f", {attrs['loss_formula']}" if "loss_formula" in attrs else ""
        told.append(("loss", f"{attrs['loss_scale']}{formula}"))
    inputs = [word for word in ("centered", "whitened") if attrs.get(word) is True]
    return [*told, ("inputs", " and ".join(inputs))] if inputs else told


def _json(value: Any) -> str:
    """The configuration as indented JSON, empty where there is none."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str) if value else ""
