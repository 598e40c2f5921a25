"""The report is one whole, safe, repeatable page that says what the dataset says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import synthetic
import xarray as xr

from deeplinear import plots
from deeplinear.plots import reading


class Page(HTMLParser):
    """Tags with their attributes, and the visible text, of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [found for _, attrs in self.tags if (found := attrs.get(attribute)) is not None]


def written(data: xr.Dataset, folder: Path) -> str:
    return plots.report(data, folder / "report.html").read_text(encoding="utf-8")


def without_theory() -> xr.Dataset:
    data = synthetic.run([1.0, 0.5, 0.1]).drop_vars("theory_mode_strengths")
    data["half_time"][2] = np.nan
    data["half_time_predicted"][1:] = np.nan
    failing = {"theorem": "two layers", "assumption": "white inputs", "violation": 0.3123, "tolerance": 1e-6}
    data.attrs["theory"] = {
        "name": None,
        "formula": None,
        "violations": [
            {**failing, "holds": False},
            {**failing, "theorem": "one layer", "assumption": "depth 1", "holds": True},
        ],
    }
    data.attrs["warnings"] = ["give it more time"]
    return data


def test_report_tells_the_run(tmp_path):
    page = Page(written(synthetic.run(), tmp_path))
    assert "All 4 modes were learned, strongest first." in page.text
    assert "The predicted learning times hold to within 0.01%." in page.text
    assert "The run ended at a global minimum, at t = 23.4, with a loss 3.2·10⁻¹³ above" in page.text
    assert "Modes 3, 4 share a singular value" in page.text
    assert "two-layer balanced: Fukumizu (1998), Theorem 3" in page.text
    assert "deeplinear learn hierarchy --hidden 16" in page.text
    assert '"init": "balanced"' in page.text
    first = synthetic.half_time(np.array([0.661438]), 1e-3).item()
    assert f"t = {first:.2f}" in page.text


def test_report_says_why_no_theory_applies(tmp_path):
    page = Page(written(without_theory(), tmp_path))
    assert "2 of 3 modes were learned, strongest first; mode 3 was not." in page.text
    assert "No closed form applies to this run." in page.text
    assert "two layers" in page.text and "white inputs" in page.text and "0.312" in page.text
    assert "depth 1" not in page.text  # an assumption that holds
    assert "give it more time" in page.text
    assert "nan" not in page.text.lower()


def test_table_of_modes_folds_beyond_twelve(tmp_path):
    few, many = (Page(written(synthetic.run(1 / np.arange(1, m + 1)), tmp_path)) for m in (12, 64))
    assert "more modes" not in few.text
    assert "52 more modes" in many.text
    assert sum(tag == "th" and attrs.get("scope") == "row" for tag, attrs in many.tags) == 64


def test_rows_hold_the_numbers_of_the_dataset():
    data = synthetic.run()
    first, row = reading.mode_rows(reading.Modes.of(data))[1]
    half = float(data.half_time_predicted[1])
    assert row[:7] == ["2", "0.433", "25%", f"{half:.2f}", f"{half * (1 + 1e-4):.2f}", "+0.01%", "0.433"]
    assert first == 1


def test_report_asks_no_host_and_runs_no_script(tmp_path):
    text = written(synthetic.run(), tmp_path)
    page = Page(text)
    assert "http" not in text and "//" not in text and "@import" not in text
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(value.startswith("#") for value in page.values("href") + page.values("src"))
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_ids_are_unique_and_every_reference_is_met(tmp_path):
    text = written(synthetic.run(), tmp_path)
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > 0
    assert set(page.values("href")) | set(re.findall(r"url\((#[^)]*)\)", text)) <= {f"#{name}" for name in ids}


def test_figures_are_described(tmp_path):
    page = Page(written(synthetic.run(), tmp_path))
    images = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(images) == 6
    assert len({attrs["aria-label"] for attrs in images}) == 6


def test_report_is_repeatable_whatever_the_settings(tmp_path):
    first = written(synthetic.run(), tmp_path)
    with mpl.rc_context({"text.color": "white", "font.size": 20, "axes.facecolor": "black", "lines.linewidth": 7}):
        assert written(synthetic.run(), tmp_path) == first


def test_hostile_text_is_escaped(tmp_path):
    evil = '<script>alert("x")</script>'
    data = without_theory()
    data.attrs |= {name: evil for name in ("title", "data", "start", "loss_formula", "command")}
    data.attrs["warnings"] = [evil]
    data.attrs["ending"] = {"kind": evil, evil: evil}
    data.attrs["experiment"] = {evil: evil}
    data.attrs["theory"]["violations"][0]["assumption"] = evil
    data.attrs["versions"] = {evil: evil}
    text = written(data, tmp_path)
    assert "<script" not in text
    assert Page(text).text.count("<script>") >= 10


def test_a_bare_dataset_does(tmp_path):
    bare = synthetic.run([1.0])[["loss"]].drop_attrs()
    page = Page(written(bare, tmp_path))
    assert "A run of a deep linear network" in page.text
    assert "nothing to summarise" in page.text
    assert "Not drawn, since the dataset has no values of mode_strengths" in page.text
    strengths = Page(written(synthetic.run()[["mode_strengths"]].drop_attrs(), tmp_path))
    assert "does not record when each mode was learned" in strengths.text


def test_summary_of_unusual_runs():
    data = synthetic.run([1.0, 0.5])
    nothing = data.assign(half_time=("mode", [np.nan, np.nan]))
    assert reading.summary(nothing)[0] == "None of the 2 modes was learned within the run."
    assert "A learning time was predicted for modes 1, 2 but not seen in the run." in reading.summary(nothing)
    narrow = nothing.assign(half_time=("mode", [3.0, np.nan]), mode_targets=("mode", [1.0, 0.0]))
    assert reading.summary(narrow)[:2] == [
        "The only mode was learned.",
        "The network has no room for mode 2 (target 0).",
    ]
    turned = data.assign(half_time=("mode", [5.0, 3.0]))
    assert reading.summary(turned)[0].endswith("but not in the order of their singular values.")
    assert "worst: mode 2" in " ".join(reading.summary(turned))
    equal = synthetic.run([1.0, 0.5, 0.5]).assign(half_time=("mode", [3.0, 9.0, 7.0]))
    assert reading.summary(equal)[0] == "All 3 modes were learned, strongest first."
    empty = nothing.assign(mode_targets=("mode", [0.0, 0.0]))
    assert reading.summary(empty)[0] == "The targets of all modes are zero, so there was nothing to learn."


def told(data: xr.Dataset) -> str:
    return " ".join(reading.summary(data))


def test_a_rank_is_no_number_of_modes():
    """A bottleneck on inputs that are not white: every mode has a target in the best map of that rank."""
    data = synthetic.run(1 / np.arange(1, 11))
    data.attrs |= {"widths": [64, 4, 10]}
    data.attrs["ending"] |= {"unexplained": 1.04e-4}
    assert reading.summary(data)[0] == (
        "The map has rank 4 of 10, which the narrowest layer leaves, and mixes all modes; "
        "1.0·10⁻⁴ of what the best map of that rank explains was missing at the end."
    )
    assert "All 10 modes" not in told(data)


def test_what_the_data_lack_is_not_the_networks_fault():
    """Centred one-hot classes: three outputs of rank two."""
    data = synthetic.run([1.0, 0.5, 0.1]).assign(
        mode_targets=("mode", [1.0, 0.5, 0.0]), data_singular_values=("mode", [1.0, 0.5, 1e-17])
    )
    data["half_time"][2] = data["half_time_predicted"][2] = np.nan
    assert reading.summary(data)[0] == "Both modes were learned, strongest first."
    assert "The data have rank 2: there is no mode 3." in told(data) and "no room" not in told(data)
    assert reading.mode_rows(reading.Modes.of(data))[2][1][1] == "0"


def test_an_obstruction_comes_first(tmp_path):
    data = synthetic.run()
    data["half_time_predicted"][3] = np.inf
    data.attrs["theory"] |= {"obstruction": "the sign of det W(0) is kept"}
    data.attrs["ending"] |= {"kind": "left the flow", "predicted_loss": 0.125}
    summary = reading.summary(data)
    assert summary[0].startswith(
        "The start keeps the flow from the smallest loss: it ends at a saddle at a loss of 0.125"
    )
    assert "By theory mode 4 is never learned." in summary and "100%" not in told(data)
    assert "led away from the exact flow" in told(data)
    text = written(data, tmp_path)
    assert text.index("All 4 modes were learned") < text.index('class="milestones"')


def test_equal_modes_are_one_span():
    data = synthetic.run([1.0, 0.5, 0.5, 0.2, 0.2]).assign(half_time=("mode", [3.0, 9.0, 7.0, 20.0, 25.0]))
    modes = reading.Modes.of(data)
    assert [index for index, _ in reading.mode_rows(modes)] == [0, 1, 3]
    assert [row[0] for _, row in reading.mode_rows(modes)] == ["1", "2, 3", "4, 5"]
    assert reading.mode_rows(modes)[1][1][4] == "7.00 to 9.00"
    assert [when for when, _ in reading.milestones(modes)] == ["t = 3.00", "t = 7.00 to 9.00", "t = 20.0 to 25.0"]
    assert "modes 2, 3 (one span)" in reading.milestones(modes)[1][1]
    assert "Modes 2, 3; modes 4, 5 share a singular value each" in told(data)


def test_predictions_that_miss_are_said():
    """Half-times of whitened digits: predicted 591 and 640, measured 657 and 600, in the other order."""
    data = synthetic.run([1.0, 0.9, 0.8]).assign(
        half_time=("mode", [500.0, 657.0, 600.0]), half_time_predicted=("mode", [500.0, 591.0, 640.0])
    )
    assert "are off by up to 11% (worst: mode 2)" in told(data)
    assert reading.surprises(reading.Modes.of(data)) == [
        "mode 2 was predicted to be half learned at t = 591, and was at t = 657, 11% later",
        "modes 2, 3 were learned in another order than predicted",
    ]
    assert reading.surprises(reading.Modes.of(synthetic.run())) == []


def test_numbers_are_a_persons():
    data = without_theory()
    data.attrs["theory"]["violations"][0]["violation"] = float("inf")
    assert reading.violations(data)[0][2] == "does not apply"
    close = synthetic.run()
    close["half_time"] = close["half_time_predicted"] * (1 + 2e-8)
    assert "hold to within 0.01%." in told(close)
    assert reading.mode_rows(reading.Modes.of(close))[0][1][5] == "<0.01%"


def test_report_refuses_bad_paths_and_empty_datasets(tmp_path):
    data = synthetic.run()
    with pytest.raises(ValueError, match=r"^`path` is in a folder that does not exist: .*; create it first$"):
        plots.report(data, tmp_path / "missing" / "report.html")
    with pytest.raises(ValueError, match=r"^`path` is a folder"):
        plots.report(data, tmp_path)
    with pytest.raises(ValueError, match=r"^`data` has nothing to report; expected .*mode_strengths"):
        plots.report(xr.Dataset(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="disk full"):
        plots.report(synthetic.run(), target)
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]
    monkeypatch.undo()
    assert plots.report(synthetic.run(), str(target)) == target
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data.isel(layer=[0], junction=[]), id="one layer"),
        pytest.param(lambda data: data.isel(mode=[]), id="no modes"),
        pytest.param(lambda data: data.isel(time=[0]), id="one time"),
        pytest.param(lambda data: data * np.nan, id="all unknown"),
        pytest.param(lambda data: data * 0.0, id="all zero"),
        pytest.param(lambda data: data * 1e-300, id="underflowing"),
        pytest.param(lambda data: data.assign(loss=data.loss.where(data.time < 5, np.inf)), id="diverged"),
        pytest.param(lambda data: data.assign_coords(mode=list("abcd")), id="named modes"),
        pytest.param(
            lambda data: data.assign_attrs(warnings="one", widths=3, rtol="?", theory="?"), id="odd attributes"
        ),
    ],
)
def test_unusual_datasets_give_a_report(change, tmp_path):
    page = Page(written(change(synthetic.run()), tmp_path))
    assert "Loss" in page.text
    assert not re.search(r"\b(nan|NaN|inf)\b", page.text)


def test_an_empty_variable_is_named():
    with pytest.raises(ValueError, match=r"^`data` variable 'alignment' is empty, .*'junction': 0"):
        plots.alignment(synthetic.run().isel(junction=[]))
