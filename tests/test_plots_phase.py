"""Phase portraits, arcs and bars of critical points: they draw what the dataset holds, and refuse what it lacks."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from deeplinear import plots
from deeplinear.plots import phase

PATH = np.array([[[0.1, 0.2, 0.3], [1.0, 1.1, 0.9]], [[-1.0, 1.0, 2.0], [0.0, 0.0, 1.5]]])


def portrait():
    surface = np.full((1, 2, 2, 3), np.nan)
    surface[0, 0] = [[1.0, 1.0, 1.0], [2.0, 1.0, 0.5]]
    return xr.Dataset(
        {
            "path": (("run", "time", "weight"), PATH),
            "at_saddle": ("run", [False, True]),
            "minima": (("sheet", "point", "weight"), [[[1.0, 1.0, 0.0], [2.0, 0.5, 0.0]]]),
            "saddles": (("saddle", "weight"), [[0.0, 0.0, 0.0]]),
            "surface": (("sheet", "row", "column", "weight"), surface),
            "saddle_lines": (("line", "point", "weight"), [[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]),
        },
        {"weight": [1, 2, 3]},
    )


def arcs():
    return xr.Dataset(
        {
            "loss": (("arc", "alpha"), [[2.0, 1.0, 0.0], [1.0, 0.4, 1.2]]),
            "kind": ("arc", ["decreasing", "interior minimum"]),
            "lowest_alpha": ("arc", [1.0, 0.45]),
            "lowest_loss": ("arc", [0.0, 0.39]),
            "learned": ("arc", [0, 1]),
        },
        {"alpha": [0.0, 0.5, 1.0]},
        {"modes": 2},
    )


@pytest.mark.parametrize("weights", [(1, 2), (3, 1)])
def test_the_plane_shows_runs_ends_minima_and_saddles(weights):
    ax = plots.phase_plane(portrait(), weights=weights, limit=2.0)
    x, y = (k - 1 for k in weights)
    for line, run in zip(ax.lines, PATH, strict=False):
        np.testing.assert_array_equal(line.get_xydata(), run[:, [x, y]])
    np.testing.assert_array_equal(np.asarray(ax.collections[0].get_offsets()), PATH[:, -1][:, [x, y]])
    assert [line.get_color() for line in ax.lines[:4]] == [phase.PATH, phase.SADDLE, phase.MINIMUM, phase.SADDLE]
    assert ax.get_xlabel() == f"$w_{weights[0]}$" and ax.get_xlim() == (-2.0, 2.0)


def test_space_shows_runs_surface_and_lines():
    ax = plots.phase_space(portrait(), limit=2.5)
    assert len(ax.lines) == 3 and ax.get_zlabel() == "$w_3$" and ax.get_xlim() == (-2.5, 2.5)
    np.testing.assert_array_equal(np.stack(ax.lines[1].get_data_3d(), -1), PATH[0])
    assert len(ax.collections) == 2  # the surface and the ends


def test_arcs_of_one_kind_with_their_minima():
    ax = plots.arc_losses(arcs())
    assert [line.get_ydata().tolist() for line in ax.lines] == [[2.0, 1.0, 0.0], [1.0, 0.4, 1.2]]
    np.testing.assert_array_equal(np.asarray(ax.collections[0].get_offsets()), [[0.45, 0.39]])
    assert len(plots.arc_losses(arcs(), kind="decreasing").lines) == 1
    with pytest.raises(ValueError, match="`kind`: no arc is 'rising'"):
        plots.arc_losses(arcs(), kind="rising")


def test_bars_of_inertia():
    data = xr.Dataset(
        {
            "inertia": (("point", "sign"), [[0, 3, 5], [2, 4, 2]]),
            "counted": (("point", "sign"), [[0, 3, 5], [1, 5, 2]]),
            "value": ("point", [0.0, 2.5]),
            "kind": ("point", ["global minimum", "strict saddle"]),
            "signature": ("point", ["{1, 2}", "{}"]),
        }
    )
    ax = plots.inertia_bars(data)
    assert [bar.get_width() for bar in ax.patches] == [0, 2, 3, 4, 5, 2]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0, 1], [3, 6]]
    labels = ax.get_yticklabels()
    assert [label.get_text() for label in labels] == ["{1, 2}  0", "{}  2.5"]
    assert labels[0].get_color() != labels[1].get_color()


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (plots.phase_plane, "path"),
        (plots.phase_space, "path"),
        (plots.arc_losses, "loss"),
        (plots.inertia_bars, "inertia"),
    ],
)
def test_what_is_missing_is_named(draw, name):
    with pytest.raises(ValueError, match=f"`data` has no variable '{name}'"):
        draw(xr.Dataset())


def test_unknown_weights_are_refused_and_given_axes_are_used():
    with pytest.raises(ValueError, match="`weights`: there is no weight 4"):
        plots.phase_plane(portrait(), weights=(1, 4))
    ax = Figure().add_subplot()
    assert plots.phase_plane(portrait(), ax) is ax
