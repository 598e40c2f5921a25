"""Figures draw what the dataset holds, legibly, and never import JAX."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import synthetic
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deeplinear import plots
from deeplinear.plots import labels, style, words

FIGURES = {
    plots.modes: "mode_strengths",
    plots.layer_spectra: "layer_singular_values",
    plots.imbalance: "imbalance_drift",
    plots.alignment: "alignment",
    plots.data_spectrum: "data_singular_values",
}


def drawn(ax: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.lines}


def test_modes_draws_simulation_and_theory_unchanged():
    data = synthetic.run()
    lines = drawn(plots.modes(data))
    assert len(lines) == 8
    for k in range(4):
        np.testing.assert_array_equal(lines[f"mode {k + 1}"], data.mode_strengths[:, k])
        np.testing.assert_array_equal(lines[f"theory, mode {k + 1}"], data.theory_mode_strengths[:, k])


def test_theory_is_not_drawn_where_it_says_nothing():
    data = synthetic.run()
    data["theory_mode_strengths"][:, 1] = np.nan
    assert "theory, mode 2" not in drawn(plots.modes(data))
    alone = plots.modes(data.drop_vars("theory_mode_strengths"))
    assert set(drawn(alone)) == {f"mode {k}" for k in range(1, 5)}
    assert alone.get_legend() is None


def test_loss_draws_both_losses_on_a_logarithmic_axis():
    data = synthetic.run()
    ax = plots.loss(data)
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(drawn(ax)["loss"], data.loss)
    np.testing.assert_array_equal(drawn(ax)["excess_loss"], data.excess_loss)
    assert set(drawn(plots.loss(data.drop_vars("loss")))) == {"excess_loss"}


def test_layer_spectra_leaves_out_padding():
    data = synthetic.run()
    data["layer_singular_values"][:, 1, 3] = np.nan
    lines = drawn(plots.layer_spectra(data))
    assert len(lines) == 7
    np.testing.assert_array_equal(lines["layer 2, 3"], data.layer_singular_values[:, 1, 2])


def test_imbalance_shows_rounding_and_tolerance():
    data = synthetic.run()
    ax = plots.imbalance(data)
    np.testing.assert_array_equal(drawn(ax)["layers 1–2"], data.imbalance_drift[:, 0])
    low, high = ax.get_ylim()
    assert low < np.finfo(float).eps < data.attrs["rtol"] < high
    assert {"rounding", "rtol", "layers 1–2"} == {text.get_text() for text in ax.texts}


def test_alignment_draws_every_mode_and_junction():
    data = synthetic.run()
    twice = xr.concat([data.alignment, 0.5 * data.alignment], "junction").assign_coords(junction=[1, 2])
    wider = data.drop_dims("junction").assign(alignment=twice)
    lines = drawn(plots.alignment(wider))
    assert len(lines) == 8
    np.testing.assert_array_equal(lines["pair 3, junction 2"], 0.5 * data.alignment[:, 0, 2])


def test_data_spectrum_draws_bars_with_their_shares():
    data = synthetic.run()
    ax = plots.data_spectrum(data)
    np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], data.data_singular_values)
    assert [text.get_text() for text in ax.texts] == ["58%", "25%", "8.3%", "8.3%"]


def test_overview_is_modes_and_loss():
    figure = plots.overview(synthetic.run())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Strength of each mode", "Loss"]


@pytest.mark.parametrize("draw", [*FIGURES, plots.loss])
def test_figures_draw_on_given_axes_and_leave_settings_alone(draw):
    before = dict(mpl.rcParams)
    ax = Figure().add_subplot()
    assert draw(synthetic.run(), ax) is ax
    assert isinstance(draw(synthetic.run()), Axes)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("draw", "name"), FIGURES.items())
def test_a_missing_variable_is_named(draw, name):
    with pytest.raises(ValueError, match=f"^`data` has no variable '{name}'.*$") as caught:
        draw(synthetic.run().drop_vars(name))
    assert "\n" not in str(caught.value)


def test_a_missing_loss_and_several_runs_are_refused():
    data = synthetic.run()
    with pytest.raises(ValueError, match="'loss' nor 'excess_loss'"):
        plots.loss(data.drop_vars(["loss", "excess_loss"]))
    with pytest.raises(ValueError, match=r"'mode_strengths' has dimensions .*seed.*select a single run"):
        plots.modes(xr.concat([data, data], "seed", data_vars="all"))


def test_any_order_of_dimensions_and_missing_coordinates_do():
    data = synthetic.run()
    turned = data[["mode_strengths"]].transpose("mode", "time").drop_vars("mode")
    np.testing.assert_array_equal(drawn(plots.modes(turned))["mode 4"], data.mode_strengths[:, 3])


def test_zeros_do_not_break_logarithmic_axes():
    data = synthetic.run()
    data["excess_loss"][-50:] = 0.0
    np.testing.assert_array_equal(drawn(plots.loss(data))["excess_loss"], data.excess_loss)
    data["imbalance_drift"][:] = 0.0
    ax = plots.imbalance(data)
    assert ax.get_yscale() == "linear"
    assert [text.get_text() for text in ax.texts] == ["exactly zero throughout"]
    assert [text.get_text() for text in plots.loss(data * 0.0).texts] == ["exactly zero throughout"]
    assert [text.get_text() for text in plots.loss(data * -1.0).texts] == ["no positive value"]


def test_time_axis_is_logarithmic_only_where_transitions_are_squeezed():
    first = synthetic.half_time(np.array([0.661438]), 1e-3).item()
    edge = first / style.SQUEEZED
    assert plots.modes(synthetic.run(last=0.99 * edge)).get_xscale() == "linear"
    squeezed = plots.modes(synthetic.run(last=1.01 * edge, points=2000))
    assert squeezed.get_xscale() == "log"
    assert squeezed.get_xlim() == pytest.approx((first / 10 * (1 + 1e-4), 1.01 * edge))


def test_a_single_time_can_be_drawn():
    data = synthetic.run().isel(time=[0])
    for draw in [*FIGURES, plots.loss]:
        figure = Figure()
        draw(data, figure.add_subplot())
        assert plots.svg(figure, "one moment").startswith("<svg")


def test_many_modes_take_six_colours_and_one_common_label():
    ax = plots.modes(synthetic.run(1 / np.arange(1, 65)))
    simulated = [line for line in ax.lines if str(line.get_label()).startswith("mode")]
    assert len(simulated) == 64
    assert [line.get_color() for line in simulated[:6]] == list(style.LIGHT)
    assert {line.get_color() for line in simulated[6:]} == {style.GREY}
    assert "modes 7–64" in {text.get_text() for text in ax.texts}


@pytest.mark.parametrize("singular_values", [synthetic.DEGENERATE, np.linspace(1, 0.2, 10), 1 / np.arange(1, 65)])
@pytest.mark.parametrize("draw", [plots.modes, plots.alignment, plots.layer_spectra])
def test_labels_do_not_overlap(draw, singular_values):
    ax = draw(synthetic.run(singular_values))
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) >= 2
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.x1 <= ax.figure.bbox.x1 for box in boxes)


@given(hnp.arrays(float, st.integers(1, 7), elements=st.floats(0, 1)).map(np.sort), st.floats(0.01, 0.1))
def test_spread_labels_keep_order_distance_and_stay_inside(heights, spacing):
    placed = labels._spread(heights, spacing)
    assert np.all(np.diff(placed) >= spacing - 1e-12)
    assert placed.min() >= -1e-12 and placed.max() <= 1 + 1e-12
    if np.all(np.diff(heights) >= spacing):
        np.testing.assert_allclose(placed, heights, atol=1e-12)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("lines", "page", "sign"), [(style.LIGHT, "#ffffff", 1), (style.DARK, "#14161a", -1)])
def test_palettes_are_ordered_by_lightness_and_stand_out(lines, page, sign):
    lights = [luminance(colour) for colour in lines]
    assert np.all(sign * np.diff(lights) > 0)
    for light in [*lights, luminance(style.GREY)]:
        low, high = sorted([light, luminance(page)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_light_text_takes_the_palette_for_dark_pages():
    with mpl.rc_context({"text.color": "white"}):
        assert plots.modes(synthetic.run()).lines[0].get_color() == style.DARK[0]


def test_svg_is_repeatable_transparent_and_themed():
    texts = [plots.svg(plots.overview(synthetic.run()), 'modes & "loss"') for _ in range(2)]
    assert texts[0] == texts[1]
    root = ElementTree.fromstring(texts[0])  # well-formed
    assert root.get("aria-label") == 'modes & "loss"'
    assert "#000000" not in texts[0] and "#ffffff" not in texts[0].split("</style>")[1]
    assert f"stroke: var(--line-1, {style.LIGHT[0]})" in texts[0]
    assert "prefers-color-scheme: dark" in texts[0]
    assert "date" not in texts[0].lower()


def test_words():
    assert words.number(0.043301, 3) == "0.0433"
    assert words.number(99999.9) == "1.00·10⁵"  # rounds up into the next power
    assert words.number(9.996) == "10.0"
    assert words.number(None) == words.number(np.inf) == words.ABSENT
    assert words.percent("x") == words.ABSENT
    assert words.numbered("mode", [9, 1, 2, 3, 5]) == "modes 1–3, 5, 9"


def in_a_fresh_interpreter(code: str) -> str:
    """What the code prints where nothing else has been imported and no annotation is checked."""
    environment = {**os.environ, "PYTHONPATH": str(Path(plots.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_drawing_does_not_import_jax_or_pyplot():
    heavy = ("jax", "equinox", "matplotlib.pyplot")
    code = f"import sys, deeplinear.plots as plots; plots.report; print([m for m in {heavy} if m in sys.modules])"
    assert in_a_fresh_interpreter(code) == "[]"


@pytest.mark.parametrize("call", ["plots.modes({})", "plots.report({}, 'report.html')"])
def test_other_types_are_refused_in_one_line(call):
    code = f"import deeplinear.plots as plots\ntry: {call}\nexcept ValueError as error: print(error)"
    assert in_a_fresh_interpreter(code) == "`data` must be an xarray.Dataset as made by `learn`, got dict"
