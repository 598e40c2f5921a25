import csv
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplinear import tables
from deeplinear.data import Moments
from deeplinear.tasks import load

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

IRIS = "petal,sepal,species\n1.4,5.1,setosa\n4.7,7.0,versicolor\n6.0,6.3,virginica\n1.3,5.0,setosa\n"


def written(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / name


def test_classes_become_columns(tmp_path):
    task = load(written(tmp_path, "iris.csv", IRIS), target="species")
    assert task.input_names == ("petal", "sepal")
    assert task.output_names == ("species=setosa", "species=versicolor", "species=virginica")
    np.testing.assert_array_equal(task.X, [[1.4, 5.1], [4.7, 7.0], [6.0, 6.3], [1.3, 5.0]])
    np.testing.assert_array_equal(task.Y, np.eye(3)[[0, 1, 2, 0]])
    assert task.name == "iris.csv" and task.moments.count == 4


@pytest.mark.parametrize("target", ["sepal,species", ("sepal", "species"), "sepal , species"])
def test_targets_of_both_kinds_in_the_order_asked_for(tmp_path, target):
    task = load(written(tmp_path, "iris.csv", IRIS), target=target)
    assert task.output_names[:2] == ("sepal", "species=setosa") and task.input_names == ("petal",)
    np.testing.assert_array_equal(task.Y[:, 0], [5.1, 7.0, 6.3, 5.0])


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n\r\n\r\n",
        '"a","b"\n"1","2"\n\n" 3 ", 4',
        "a, b\n+1.0,2e0\n3,.4e1\n   \n",
    ],
)
def test_dialects_of_csv(tmp_path, text):
    task = load(written(tmp_path, "t.csv", text), target="b")
    np.testing.assert_array_equal(task.X, [[1], [3]])
    np.testing.assert_array_equal(task.Y, [[2], [4]])


def test_tabs_and_a_name_with_a_comma_and_pandas_numbers_as_names(tmp_path):
    assert load(written(tmp_path, "t.tsv", "a\tb,c\n1\t2\n"), target="b,c").output_names == ("b,c",)
    assert load(written(tmp_path, "t.csv", "0,1\n5,6\n"), target="1").input_names == ("0",)


numbers = st.floats(-1e100, 1e100)  # squares must fit, moments are taken
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)
classes = texts.filter(lambda text: tables._number(text) is None and text.lower() not in tables.MISSING)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(numbers, numbers, classes), min_size=1, max_size=12), st.sampled_from([1, 3, 4096]))
def test_what_csv_and_parquet_hold_is_what_comes_back(tmp_path, monkeypatch, rows, block):
    monkeypatch.setattr(tables, "BLOCK_ROWS", block)
    stream = io.StringIO()
    csv.writer(stream).writerows([["x", "y", "class"], *rows])
    x, y, labels = map(list, zip(*rows, strict=True))
    parquet.write_table(pa.table({"x": x, "y": y, "class": labels}), tmp_path / "t.parquet")
    written(tmp_path, "t.csv", stream.getvalue())
    for task in (load(tmp_path / name, target=["y", "class"]) for name in ("t.csv", "t.parquet")):
        np.testing.assert_array_equal(task.X[:, 0], x)
        np.testing.assert_array_equal(task.Y[:, 0], y)
        assert [task.output_names[1 + i] for i in task.Y[:, 1:].argmax(axis=1)] == [f"class={text}" for text in labels]
        np.testing.assert_array_equal(task.Y[:, 1:].sum(axis=1), 1)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n3,\n", "b", r"^`path`: 't.csv', line 3, column 'b': the value is missing \(''\); fill it"),
        ("a,b\n1,2\n\nNA,4\n", "b", r"^`path`: 't.csv', line 4, column 'a': the value is missing \('NA'\)"),
        ("a,b\n1,2\n3,x\n", "a", r"^`path`: 't.csv', line 3, column 'b': 'x' is text; inputs must be numbers"),
        ("a,b\n1,1_0\n", "a", r"^`path`: 't.csv', line 2, column 'b': '1_0' is text; "),
        ("a,b\n1,nan\n", "a", r"^`path`: 't.csv', line 2, column 'b': 'nan' is not finite; fill it or remove the row$"),
        ("a,b\n1,-inf\n", "b", r"^`path`: 't.csv', line 2, column 'b': '-inf' is not finite"),
        ("a,b\n1,1e999\n", "b", r"line 2, column 'b': '1e999' is not finite"),
        ("a,b\n1,2\n3,4,5\n", "b", r"^`path`: 't.csv', line 3: has 3 cells, but the header has 2$"),
        ('a,b\n"1\n\n",2\n3\n', "b", r"^`path`: 't.csv', line 5: has 1 cells, but the header has 2$"),
        ("a,b,a\n1,2,3\n", "b", r"^`path`: 't.csv' has two columns named 'a'; rename one$"),
        (",b\n0,2\n", "b", r"^`path`: column 1 of 't.csv' has no name; name it \(or write without an index\)$"),
        ("a,b\n1,2\n", "c", r"^`target`: 't.csv' has no column 'c'; its columns are a, b$"),
        ("a,b\n1,2\n", None, r"^`target`: 't.csv' has the columns a, b; name the outputs, as in target='b'$"),
        ("a,b\n1,2\n", "", r"^`target`: 't.csv' has the columns a, b; name the outputs"),
        ("a,b\n1,2\n", "a,b", r"^`target`: takes every column of 't.csv' \(a, b\); leave at least one as input$"),
        ("", "b", r"^`path`: 't.csv' is empty; it needs a header and rows$"),
        ("\n \n", "b", r"^`path`: 't.csv' is empty; "),
        ("a,b\n", "b", r"^`path`: 't.csv' has a header and no rows; add samples$"),
        ("a;b\n1;2\n", "b", r"^`path`: 't.csv' has one column, 'a;b'; its columns must be separated by commas$"),
        (
            "1.5,2\n3,4\n",
            "2",
            r"^`path`: 't.csv' begins with numbers \(1.5, ...\); its first line must name the columns$",
        ),
        (
            "a,b\n1,2\n1,x\n",
            "b",
            r"^`path`: 't.csv', line 3, column 'b': the target mixes numbers and texts \('x'\); make",
        ),
        ('a,b\n1,2\n"1,2\n', "b", r"^`path`: 't.csv', line 3: unexpected end of data; check the quotes around there$"),
    ],
)
def test_bad_tables_are_named_to_the_cell(tmp_path, text, target, message):
    with pytest.raises(ValueError, match=message):
        load(written(tmp_path, "t.csv", text), target=target)


def test_long_lists_of_columns_are_cut(tmp_path):
    file = written(tmp_path, "t.csv", ",".join(f"c{i}" for i in range(40)) + "\n" + ",".join("1" * 40) + "\n")
    with pytest.raises(ValueError, match=r"columns c0, .*, c11, ... \(40 in all\); name the outputs"):
        load(file)


def test_names_of_items_are_not_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_CATEGORIES", 2)
    message = r"^`target`: column 'species' of 'iris.{}' has more than 2 different texts; these are names, not classes"
    with pytest.raises(ValueError, match=message.format("csv")):
        load(written(tmp_path, "iris.csv", IRIS), target="species")
    parquet.write_table(pa.table({"x": [1, 2, 3], "species": ["a", "b", "c"]}), tmp_path / "iris.parquet")
    with pytest.raises(ValueError, match=message.format("parquet")):
        load(tmp_path / "iris.parquet", target="species")


def test_not_text_and_a_file_that_changes(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_bytes(b"a,b\n\xff,2\n")
    with pytest.raises(
        ValueError, match=r"^`path`: 't.csv' is not UTF-8 text \(invalid start byte\); save it as UTF-8$"
    ):
        load(tmp_path / "t.csv", target="b")
    file = written(tmp_path, "t.csv", "a,b\n1,2\n3,4\n")
    for other in ("a,b\n1,2\n", "a,b\n1,2\n3,4\n5,6\n"):
        scanned = tables.SCANS[".csv"](file, "b")
        other_file = written(tmp_path, "other.csv", other)
        blocks = lambda other_file=other_file: tables.SCANS[".csv"](other_file, "b").blocks()
        with pytest.raises(ValueError, match=r"^`path`: 't.csv' changed while it was read; try again$"):
            tables.collect(file, scanned._replace(blocks=blocks))


def test_parquet_of_every_kind(tmp_path):
    table = pa.table(
        {
            "a.b": pa.array([1, 2, 3], pa.int32()),
            "flag": [True, False, True],
            "half": pa.array([0.5, 1.5, 2.5], pa.float32()),
            "money": pa.array([1, 2, 3]).cast(pa.decimal128(21, 1)),
            "code": pa.array([7, 8, 7]).dictionary_encode(),
            "label": pa.array(["x", "y", "x"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    task = load(tmp_path / "t.parquet", target="label")
    assert task.input_names == ("a.b", "flag", "half", "money", "code") and task.output_names == ("label=x", "label=y")
    np.testing.assert_array_equal(task.X, [[1, 1, 0.5, 1, 7], [2, 0, 1.5, 2, 8], [3, 1, 2.5, 3, 7]])
    np.testing.assert_array_equal(task.Y, [[1, 0], [0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0, None], "y": [1, 2]}, r"^`path`: 't.parquet', column 'x', row 2: the value is missing; fill it"),
        ({"x": [1, 2], "y": ["a", None]}, r"^`path`: 't.parquet', column 'y', row 2: the value is missing"),
        ({"x": [1.0, float("nan")], "y": [1, 2]}, r"column 'x', row 2: nan is not finite"),
        ({"x": ["u", "v"], "y": [1, 2]}, r"^`path`: 't.parquet', column 'x': holds text; inputs must be numbers"),
        ({"x": [[1], [2]], "y": [1, 2]}, r"column 'x': holds list<.*>; convert it to numbers, or to text in a target$"),
        ({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}, r"'t.parquet' has columns and no rows"),
        ({"x": [1], "z": [1]}, r"^`target`: 't.parquet' has no column 'y'; its columns are x, z$"),
    ],
)
def test_bad_parquet(tmp_path, monkeypatch, columns, message):
    monkeypatch.setattr(tables, "BLOCK_ROWS", 1)
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "t.parquet", target="y")


def test_damaged_parquet_and_no_pyarrow(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"x": np.arange(1000.0), "y": np.arange(1000.0)}), tmp_path / "t.parquet")
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4:60] = os.urandom(56)
    (tmp_path / "bad.parquet").write_bytes(content)
    (tmp_path / "cut.parquet").write_bytes(content[:100])
    for name in ("bad.parquet", "cut.parquet"):
        with pytest.raises(ValueError, match=rf"^`path`: '{name}' cannot be read as parquet \(.+\)$"):
            load(tmp_path / name, target="y")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"^`path`: reading 't.parquet' needs pyarrow; install deeplinear\[table\]$"):
        load(tmp_path / "t.parquet", target="y")


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y")])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_])
def test_npz(tmp_path, names, dtype):
    X, y = np.array([[0, 1], [1, 1], [1, 0]], dtype), np.array([0, 1, 1])
    np.savez(tmp_path / "t.npz", **dict(zip(names, (X, y), strict=True)))
    task = load(tmp_path / "t.npz")
    np.testing.assert_array_equal(task.X, X)
    np.testing.assert_array_equal(task.Y, y[:, None])
    assert task.X.dtype == float and task.input_names == ("x1", "x2") and task.output_names == ("y1",)


def test_npy_pairs_stay_on_the_disk(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(1000, 3)).astype(np.float32), rng.normal(size=(1000, 2))
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, X)
    np.save(y, Y)
    monkeypatch.setattr("deeplinear.data.CHUNK_BYTES", 4096)
    expected = Moments.of(X, Y)
    for task in (load((x, y)), load(f"{x},{y}"), load(x, target=str(y))):
        assert isinstance(task.X, np.memmap) and isinstance(task.Y, np.memmap)
        np.testing.assert_allclose(task.moments.sigma_yx, Y.T @ X / 1000, atol=1e-15)
        np.testing.assert_array_equal(task.moments.sigma_xx, expected.sigma_xx)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.eye(2)}, r"^`path`: 't.npz' holds a; it must hold the arrays x \(n, d_x\) and y \(n, d_y\)$"),
        ({}, r"^`path`: 't.npz' holds nothing; "),
        (
            {"x": np.eye(2), "y": np.ones(3)},
            r"^`Y`: has 3 rows, but X has 2; every sample needs both \(in '.*t.npz'\)$",
        ),
        ({"x": np.ones(2), "y": np.ones(2)}, r"^`X`: has shape \(2,\); samples are rows"),
        (
            {"x": np.ones((0, 2)), "y": np.ones(0)},
            r"^`X`, `Y`: have shapes \(0, 2\) and \(0, 1\); there must be a sample",
        ),
        ({"x": np.eye(2) * 1j, "y": np.ones(2)}, r"^`X`: has entries of type complex128; give real numbers"),
        ({"x": np.array([["a"]]), "y": np.ones(1)}, r"^`X`: has entries of type <U1; give real numbers"),
        (
            {"x": np.array([[1.0], [np.nan]]), "y": np.ones(2)},
            r"^`X`: has nan at row 2, column 1; .* \(in '.*t.npz'\)$",
        ),
        ({"x": np.eye(2), "y": np.array([1.0, np.inf])}, r"^`Y`: has inf at row 2, column 1; "),
        ({"x": np.array([[Evil()]]), "y": np.ones(1)}, r"^`path`: array x of 't.npz' cannot be read \(Object arrays"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "t.npz")


def test_damaged_arrays_are_never_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez_compressed("whole.npz", x=np.random.default_rng(0).normal(size=(50, 50)), y=np.ones(50))
    content = bytearray(Path("whole.npz").read_bytes())
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    content[500:600] = bytes(100)
    Path("bad.npz").write_bytes(content)
    for name in ("evil.npy", "evil.npz"):
        Path(name).write_bytes(pickle.dumps(Evil()))
    Path("empty.npy").touch()
    np.save("plain.npy", np.eye(2))
    os.rename("plain.npy", "plain.npz")
    for name in ("cut.npz", "bad.npz", "evil.npz"):
        with pytest.raises(ValueError, match=rf"^`path`: (array x of )?'{name}' cannot be read .*\(.+\)$"):
            load(name)
    for name in ("evil.npy", "empty.npy"):
        with pytest.raises(ValueError, match=rf"^`path`: '{name}' cannot be read as NumPy numbers \(.+\)$"):
            load((name, name))
    with pytest.raises(ValueError, match=r"^`path`: 'plain.npz' is in truth a .npy file; rename it$"):
        load("plain.npz")
    assert not os.path.exists("unpickled")


@pytest.mark.parametrize(
    ("path", "target", "message"),
    [
        ("no.csv", "y", r"^`path`: 'no.csv' is not there$"),
        ("x.npy,no.npy", None, r"^`path`: 'no.npy' is not there$"),
        ("x.txt", None, r"^`path`: 'x.txt' has suffix '.txt'; give .npz, .npy, .csv, .tsv, .parquet$"),
        ("x.npy", None, r"^`path`: got 'x.npy'; give the inputs and the outputs, as in 'x.npy,y.npy'$"),
        (("x.npy", "x.npy"), "y", r"^`path`: got 'x.npy'; give the inputs and the outputs"),
        (("x.txt", "x.npy"), None, r"^`path`: got 2 files; only .npy files come in pairs \(inputs, outputs\)$"),
        ((), None, r"^`path`: got an empty sequence; give one file, or two .npy files$"),
        ("x.npz", "y", r"^`target`: got 'y', but 'x.npz' has no columns; it holds the arrays x and y itself$"),
        ("a" * 5000, None, r"^`path`: 'a+' is not there$"),
    ],
)
def test_paths_that_cannot_be_read(tmp_path, monkeypatch, path, target, message):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.eye(2))
    np.savez("x.npz", x=np.eye(2), y=np.eye(2))
    Path("x.txt").touch()
    with pytest.raises(ValueError, match=message):
        load(path, target)
