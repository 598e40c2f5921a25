"""`deeplinear atlas`, its dataset, its figure and its place in the report."""

import itertools
import json
import os

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from landscapes import problem

import deeplinear as dl
from deeplinear import landscape, plots, records
from deeplinear.cli import _exit_code

SIGMA = np.sqrt([7, 3, 1, 1]) / 4


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys, *arguments):
    assert _exit_code([*arguments]) == 0
    return capsys.readouterr().out


def test_the_semantic_task_has_sixteen_critical_values(capsys):
    found = json.loads(printed(capsys, "atlas", "semantic", "--table", "--json"))
    assert found["count"] == 16 and found["widths"] == [4, 32, 32, 7]
    values = {tuple(point["signature"]): point["value"] for point in found["points"]}
    for signature in itertools.chain.from_iterable(itertools.combinations(range(1, 5), k) for k in range(5)):
        left = [k for k in range(1, 5) if k not in signature]
        assert values.pop(signature) == pytest.approx(sum(SIGMA[k - 1] ** 2 for k in left) / 2, abs=1e-14)
    assert not values
    kinds = {tuple(point["signature"]): point["kinds"] for point in found["points"]}
    both = ["non-strict saddle", "strict saddle"]
    best = [(), (1,), (1, 2), (1, 2, 3), (1, 2, 4)]  # modes 3 and 4 are equal
    assert {signature for signature, kind in kinds.items() if kind == both} == set(best)
    assert kinds[1, 2, 3, 4] == ["global minimum"]
    assert sum(kind == ["strict saddle"] for kind in kinds.values()) == 10
    weights = 4 * 32 + 32 * 32 + 32 * 7
    assert all(sum(point["inertia"]) == weights for point in found["points"])


def test_the_table_says_the_same(capsys):
    out = printed(capsys, "atlas", "semantic", "--hidden", "16", "--table")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert len(rows) == 16 and rows[0][:4] == ["1–4", "0", "4", "global minimum"]
    assert rows[-1] == ["none", "0.375", "0", "strict saddle", "64", "48", "64"]
    assert "semantic: 4 → 16 → 7, 16 critical values" in out
    assert not os.listdir()


def test_one_signature_and_its_arcs(capsys):
    out = printed(capsys, "atlas", "semantic", "--signature", "1,3")
    assert "1, 3" in out and "0.125" in out and "Arcs to lower critical points: 3; from higher ones: 3" in out
    found = json.loads(printed(capsys, "atlas", "semantic", "--signature", "none", "--json"))
    assert [point["signature"] for point in found["points"]] == [[]]


def test_the_ends_of_a_long_list(capsys):
    found = json.loads(printed(capsys, "atlas", "digits", "--rows", "3", "--max-rank", "9", "--table", "--json"))
    values = [point["value"] for point in found["points"]]
    assert found["count"] == 1023 and len(values) == 6
    assert values == sorted(values)
    assert found["points"][0]["signature"] == list(range(1, 10)) and found["points"][-1]["signature"] == []


QUICK = ["atlas", "semantic", "--hidden", "5", "--scale", "0.1"]


def test_a_run_is_drawn_and_kept(capsys, here):
    found = json.loads(printed(capsys, *QUICK, "--out", "out", "--json"))
    assert sorted(os.listdir("out")) == ["atlas.svg", "experiment.toml", "record.zarr", "report.html"]
    path = [visit["signature"] for visit in found["path"]]
    assert path[0] == [] and path[-1] == [1, 2, 3, 4] and [1] in path
    assert np.all(np.diff([visit["time"] for visit in found["path"]]) > 0)
    data = records.load("out/record.zarr")
    assert data.attrs["critical_points"] == {"count": 16, "max_rank": 4, "modes": 4}
    assert data.attrs["command"] == "deeplinear atlas semantic --hidden 5 --scale 0.1"
    page = (here / "out/report.html").read_text("utf-8")
    assert "Critical points of the loss" in page and "this run" in page
    assert _exit_code([*QUICK, "--out", "out"]) == 2
    assert "Path of the run: none (t = 0) → 1 (t = " in printed(capsys, *QUICK, "--out", "out", "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atlas", "semantic", "--hidden", "2", "--max-rank", "3"], "`max_rank`: got 3; the widths (4, 2, 7)"),
        (["atlas", "semantic", "--max-rank", "-1"], "`max_rank`: got -1"),
        (["atlas", "semantic", "--signature", "5"], "`signature`: got (5,); the data have the modes 1 to 4"),
        (["atlas", "semantic", "--signature", "0"], "`signature`: got (0,)"),
        (["atlas", "semantic", "--signature", "1,1"], "`signature`"),
        (["atlas", "semantic", "--signature", "1,x"], "`signature`: got 'x'"),
        (["atlas", "semantic", "--hidden", "2", "--signature", "1,2,3"], "hold at most 2"),
        (["atlas", "semantic", "--hidden", "0"], "`hidden`: got 0"),
        (["atlas", "semantic", "--hidden", "3,-1"], "`hidden`"),
        (["atlas", "semantic", "--rows", "0"], "`rows`: got 0"),
        (["atlas", "semantic", "--table", "--out", "x"], "--out"),
        (["atlas", "nothing"], "'nothing'"),
        (["atlas", "--bogus"], "--bogus"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(arguments, message, capsys):
    assert _exit_code(arguments) == 2
    out = capsys.readouterr()
    assert out.out == "" and out.err.count("\n") == 1 and out.err.startswith("deeplinear: ")
    assert message in out.err
    assert not os.listdir()


def trajectory(objective, widths, scale=0.05):
    return dl.gradient_flow(objective, dl.init.gaussian(1, widths, scale))


def test_the_dataset_holds_points_arrows_and_the_path():
    objective, widths = problem([3.0, 2.0, 1.0]), (3, 4, 3)
    run = trajectory(objective, widths)
    data = landscape.atlas(objective, widths, trajectory=run)
    points = list(landscape.critical_points(objective, widths))
    names = [",".join(map(str, point.signature)) for point in points]
    assert data["critical_signature"].values.tolist() == names
    assert data["critical_value"].values.tolist() == [point.value for point in points]
    assert data["critical_inertia"].values.tolist() == [list(point.inertia) for point in points]
    edges = {
        (tuple(points[upper - 1].signature), tuple(points[lower - 1].signature), mode)
        for upper, lower, mode in zip(
            *(data[name].values.tolist() for name in ("arc_from", "arc_to", "arc_mode")), strict=True
        )
    }
    assert edges == {(a, b, mode) for a, b, mode in landscape.graph(objective, widths).edges(data="mode")}
    visited = [points[n - 1].signature for n in data["visit_point"].values]
    path = landscape.saddle_path(run)
    assert visited == [visit.signature for visit in path.visits] == [(), (1,), (1, 2), (1, 2, 3)]
    entries = np.array([visit.entry for visit in path.visits])
    later = np.asarray(run.ts)[np.searchsorted(run.ts, entries)]
    np.testing.assert_array_equal(data["visit_time"].values, later)
    data.attrs["versions"] = {}
    assert records.load(records.save(data, "atlas.zarr")).identical(data)


def test_of_many_critical_points_the_ends_and_the_way_are_listed():
    objective, widths = problem(np.linspace(3.0, 1.0, 60)), (60, 40, 40, 60)
    data = landscape.atlas(objective, widths)
    assert data.attrs["critical_points"]["count"] == str(landscape.critical_points(objective, widths).count)
    assert data.sizes["point"] <= 128 + 33
    assert np.all(np.diff(data["critical_value"]) >= 0)
    names = data["critical_signature"].values.tolist()
    for rank in (0, 1, 20, 32, 40):
        assert ",".join(map(str, range(1, rank + 1))) in names
    assert len(set(names)) == len(names)


def boxes(ax):
    ax.figure.canvas.draw()
    return {text.get_text(): text.get_window_extent() for text in ax.texts}


@pytest.mark.parametrize("s", [[3.0, 2.0, 1.0], [2.0, 1.0, 1.0, 0.99, 0.5], np.linspace(3, 1, 9), [1.0]])
def test_labels_cover_neither_each_other_nor_the_axes(s):
    widths = (len(s), 4, 4, len(s))
    data = landscape.atlas(problem(s), widths)
    ax = plots.atlas(data)
    found = boxes(ax)
    assert found
    for (a, first), (b, second) in itertools.combinations(found.items(), 2):
        assert not first.overlaps(second), (a, b)
    frame = ax.get_window_extent()
    for text, box in found.items():
        assert box.x0 >= frame.x0 and box.y0 >= frame.y0 and box.x1 <= ax.figure.bbox.x1, text
    assert not any(box.overlaps(ax.get_legend().get_window_extent()) for box in found.values())


def test_the_figure_draws_what_the_dataset_holds():
    objective, widths = problem([3.0, 2.0, 1.0]), (3, 4, 3)
    data = landscape.atlas(objective, widths, trajectory=trajectory(objective, widths))
    ax = plots.atlas(data)
    path = ax.lines[0]
    np.testing.assert_allclose(path.get_ydata(), data["critical_value"].values[data["visit_point"].values - 1])
    drawn = np.concatenate([np.asarray(line.get_ydata()) for line in ax.lines[1:]])
    np.testing.assert_array_equal(np.sort(drawn), np.sort(data["critical_value"]))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["strict saddle", "global minimum", "this run"]
    assert len(ax.collections[0].get_segments()) == data.sizes["arc"] == 12
    assert any(text.startswith("1–3 (t = ") for text in boxes(ax))


def test_the_figure_needs_values_and_ranks_alone():
    bare = xr.Dataset({"critical_value": ("point", [0.0, 2.0]), "critical_rank": ("point", [1, 0])})
    assert len(plots.atlas(bare).lines[-1].get_ydata()) == 2
    with pytest.raises(ValueError, match="critical_value"):
        plots.atlas(bare.drop_vars("critical_value"))
    with mpl.rc_context({"text.color": "white"}):
        assert plots.atlas(bare).title.get_text() == ""


def test_a_run_of_learn_has_the_figure_in_its_report():
    data = dl.learn(dl.tasks.semantic(), hidden=5, scale=0.1)
    assert {"critical_value", "visit_point"} <= set(data.atlas)
    assert "point" not in data.dims, "critical points are a dataset of their own"
    page = plots.report(data, "report.html").read_text("utf-8")
    assert page.count('role="img"') == 7 and "Critical points of the loss" in page
