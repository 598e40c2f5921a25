"""Tables of text and Parquet: one set of rules, what is set aside, what is refused and where."""

import csv
import io
import os
import sys

import numpy as np
import pytest

from deeplinear.tables import columns, source
from deeplinear.tasks import load

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

IRIS = "petal,sepal,species\n1.4,5.1,setosa\n4.7,7.0,versicolor\n6.0,6.3,virginica\n1.3,5.0,setosa\n"


def written(folder, text, name="t.csv", encoding="utf-8"):
    (folder / name).write_text(text, encoding=encoding, newline="")
    return folder / name


def both(folder, text, **arguments):
    """The task of a table as text and as Parquet of strings, which must be the same."""
    rows = list(csv.reader(io.StringIO(text)))
    strings = pa.table([list(cells) for cells in zip(*rows[1:], strict=True)], names=rows[0])
    parquet.write_table(strings, folder / "t.parquet")
    tasks = [load(written(folder, text), **arguments), load(folder / "t.parquet", **arguments)]
    np.testing.assert_array_equal(tasks[0].X, tasks[1].X)
    np.testing.assert_array_equal(tasks[0].Y, tasks[1].Y)
    assert tasks[0].output_names == tasks[1].output_names and tasks[0].remarks == tasks[1].remarks
    return tasks[0]


def refused(folder, text, message, name="t.csv", **arguments):
    with pytest.raises(ValueError, match=message) as caught:
        load(written(folder, text, name), **{"target": "y", **arguments})
    assert "\n" not in str(caught.value)


def test_classes_become_columns(tmp_path):
    task = both(tmp_path, IRIS, target="species")
    assert task.input_names == ("petal", "sepal") and task.remarks == ()
    assert task.output_names == ("species=setosa", "species=versicolor", "species=virginica")
    np.testing.assert_array_equal(task.X, [[1.4, 5.1], [4.7, 7.0], [6.0, 6.3], [1.3, 5.0]])
    np.testing.assert_array_equal(task.Y, np.eye(3)[[0, 1, 2, 0]])
    assert task.moments.count == 4


@pytest.mark.parametrize("target", ["sepal,species", ("sepal", "species"), "sepal , species"])
def test_targets_of_both_kinds_in_the_order_asked_for(tmp_path, target):
    task = both(tmp_path, IRIS, target=target)
    assert task.output_names[:2] == ("sepal", "species=setosa") and task.input_names == ("petal",)
    np.testing.assert_array_equal(task.Y[:, 0], [5.1, 7.0, 6.3, 5.0])


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n\r\n\r\n",
        "a,b\r1,2\r3,4",
        '"a","b"\n"1","2"\n\n" 3 ", 4',
        "a, b\n+1.0,2e0\n3,.4e1\n   \n",
        'a, "b"\n1, "2"\n3, "4"\n',
        "a;b\n1;2\n3;4\n",
        "a\tb\n1\t2\n3\t4\n",
        "a|b\n1|2.\n3|4\n",
        "a,b,\n1,2,\n3,4,\n",
        "a b\n1 2\n3 4\n",
        ' a   "b" \n 1    2  \n3 4\n',
        '"a" "b"\n1 2\n3 4\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-8-sig"])
def test_dialects_and_encodings(tmp_path, text, encoding):
    if text[0] == "\ufeff" and encoding != "utf-8":
        text = text[1:]
    task = load(written(tmp_path, text, encoding=encoding), target="b")
    np.testing.assert_array_equal(task.X, [[1], [3]])
    np.testing.assert_array_equal(task.Y, [[2], [4]])
    assert (task.input_names, task.output_names) == (("a",), ("b",))


def test_western_letters_are_read_with_a_remark_and_noise_is_refused(tmp_path):
    task = load(written(tmp_path, "größe,y\n1,2\n3,4\n", encoding="cp1252"), target="y")
    assert task.input_names == ("größe",) and "cp1252" in task.remarks[0]
    (tmp_path / "t.csv").write_bytes(b"a,y\n\x81,2\n")
    with pytest.raises(ValueError, match=r"^`path`: 't.csv' is neither UTF-8 nor UTF-16 text; save it as UTF-8$"):
        load(tmp_path / "t.csv", target="y")
    refused(tmp_path, "a,y\n\0,2\n", r"^`path`: 't.csv' holds zero bytes and is no table of text; save it as UTF-8$")


def test_decimal_commas(tmp_path):
    task = load(written(tmp_path, "a;y\n1,5;2\n1,234;,5\n-3;4,25e1\n"), target="y")
    np.testing.assert_array_equal(task.X[:, 0], [1.5, 1.234, -3])
    np.testing.assert_array_equal(task.Y[:, 0], [2, 0.5, 42.5])
    assert task.remarks == ("commas in numbers (1,5) were read as decimal commas",)
    refused(tmp_path, "a;y\n1,5;2\n3.5;4\n", r"^`path`: 't.csv' holds '1,5', and other numbers have a decimal point; ")
    refused(tmp_path, "a;y\n1,500;2\n3;4\n", r"^`path`: 't.csv' holds '1,500', and the comma may stand between thous")
    refused(tmp_path, 'a,y\n"1,5",2\n', r"line 2, column 'a': '1,5' is text; inputs must be numbers")


def test_tabs_and_a_name_with_a_comma(tmp_path):
    assert load(written(tmp_path, "a\tb,c\n1\t2\n", "t.tsv"), target="b,c").output_names == ("b,c",)
    refused(tmp_path, "a;y|z\n1;2|3\n", r"^`path`: 't.csv' may be separated by semicolons or by bars; separate its col")
    refused(tmp_path, "y\n1\n", r"^`path`: 't.csv' has one column, 'y'; its columns must be separated by commas, ")


MISSING = ["", "?", ".", "-", "--", "None", "<NA>", "#N/A", "#DIV/0!", "missing", "NA", "n/a", "NaN", "null", "N.A."]


@pytest.mark.parametrize("marker", MISSING)
def test_missing_cells_are_refused_with_their_place_or_left_out(tmp_path, marker):
    for text, column, line in (
        (f"x,z,y\n1,5,a\n2,{marker},b\n3,7,a\n9,7,a\n", "z", 3),
        (f"x,z,y\n1,5,a\n5,6,{marker}\n3,7,a\n9,7,a\n", "y", 3),
        (f"x,z,y\n{marker},5,1\n2,6,2\n1,7,3\n9,7,4\n", "x", 2),
    ):
        with pytest.raises(
            ValueError,
            match=rf"^`path`: 't.csv', line {line}, column '{column}': the value is missing \('.*'\); fill it",
        ):
            load(written(tmp_path, text), target="y")
        task = both(tmp_path, text, target="y", missing="drop")
        assert task.moments.count == 3 and "1 of 4 rows have missing values and were left out" in task.remarks
        assert not any(marker in name for name in task.output_names if marker)


def test_missing_values_of_parquet(tmp_path):
    table = {"x": [0.5, None, 3.0], "z": [1.0, 2.0, float("nan")], "y": pa.array(["a", "b", "a"]).dictionary_encode()}
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    task = load(tmp_path / "t.parquet", target="y", missing="drop")
    np.testing.assert_array_equal(task.X, [[0.5, 1]])
    assert task.output_names == ("y=a",)
    with pytest.raises(ValueError, match=r"^`path`: 't.parquet', row 3, column 'z': the value is missing \(''\)"):
        load(tmp_path / "t.parquet", target="y", inputs="z")


@pytest.mark.usefixtures("without_annotations")
def test_every_row_missing(tmp_path):
    refused(tmp_path, "x,y\nNA,1\n2,\n", r"^`path`: every row of 't.csv' has a missing value; leave", missing="drop")
    refused(tmp_path, "x,y\n1,1\n", r"^`missing`: got 'ignore'; give refuse or drop$", missing="ignore")


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (",a,y\n7,5,2\n1,3,4\n", "column 1 has no name and was taken for names of the rows: set aside"),
        ("Unnamed: 0,a,y\n0,5,2\n1,3,4\n", "column 'Unnamed: 0' has no name and was taken for names of the rows"),
        ("id,a,y\n1,5,2\n2,3,4\n3,1,1\n", "column 'id' counts the rows, 1 to 3: set aside"),
        ("id,a,y\n0,5,2\n1,3,4\n2,1,1\n", "column 'id' counts the rows, 0 to 2: set aside"),
        ("car,a,y\nFiat,5,2\nOpel,3,4\n", "column 'car' names the rows: set aside (name the inputs to keep it)"),
        ("a,y\nFiat,5,2\nOpel,3,4\n", "column 1 has no name and was taken for names of the rows: set aside"),
        ("a,y\n1,5,2\n2,3,4\n3,1,1\n", "column 1 has no name and was taken for names of the rows: set aside"),
        ("__index_level_0__,a,y\n10,5,2\n17,3,4\n", "column '__index_level_0__' is the index of a pandas table"),
        ("a,,y\n5,,2\n3,NA,4\n", "column 2 has no name and no values: set aside"),
    ],
)
def test_names_of_rows_are_set_aside_with_a_remark(tmp_path, text, remark):
    task = load(written(tmp_path, text), target="y")
    assert task.input_names == ("a",) and any(said.startswith(remark) for said in task.remarks)
    np.testing.assert_array_equal(task.X[:2, 0], [5, 3])
    np.testing.assert_array_equal(task.Y[:2, 0], [2, 4])


def test_a_first_column_that_is_data_stays(tmp_path):
    for text in ("x,y\n1,2\n2,4\n3,6\n", "x,z,y\n1,5,2\n2,3,4\n4,1,1\n", "x,z,y\ntrue,5,2\nfalse,1,3\n"):
        task = load(written(tmp_path, text), target="y")
        assert task.input_names[0] == "x"
    task = load(written(tmp_path, "t,z,y\n1,5,2\n2,3,4\n3,1,1\n"), target="y", inputs="t,z")
    assert task.input_names == ("t", "z") and task.remarks == ()
    refused(
        tmp_path, "n,a,y\nA,5,2\nA,3,4\n", r"line 2, column 'n': 'A' is text; inputs must be numbers \(drop='n', or"
    )
    refused(tmp_path, "n,a,y\nA,5,2\n7,3,4\n", r"line 2, column 'n': 'A' is text; inputs must be numbers")
    refused(tmp_path, "a,,y\n5,7,2\n", r"^`path`: 't.csv', line 2: '7' is in a column that has no name; name it in")


def test_rows_longer_than_the_header_are_never_shifted_without_a_word(tmp_path):
    refused(tmp_path, "a,y\n1.5,5,2\n2,3,4\n", r"^`path`: 't.csv': its rows have 3 cells, but the header has 2$")
    refused(tmp_path, "a,y\n1.5,5,2\n2,3,4\n", r"its rows have 3 cells", inputs="a")
    refused(tmp_path, "a,y\n1,2,\n2,4,\n3,4,\n", r"^`path`: 't.csv', line 2: has 3 cells, but the header has 2$")
    refused(tmp_path, "a,y\n1,2\n3,4,5\n", r"^`path`: 't.csv', line 3: has 3 cells, but the header has 2$")


def test_the_index_that_pandas_saves_is_set_aside(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [5.0, 3.0], "y": [2.0, 4.0]}, index=[10, 17])
    frame.to_parquet(tmp_path / "t.parquet")
    task = load(tmp_path / "t.parquet", target="y")
    assert task.input_names == ("a",)
    assert task.remarks == (
        "column '__index_level_0__' is the index of a pandas table: set aside (name the inputs to keep it)",
    )
    frame.rename_axis("when").to_parquet(tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet", target="y").input_names == ("a",)


def test_truth_values_are_one_and_zero_in_every_format(tmp_path):
    text = "x,z,y\nTrue,5,false\nFALSE,3,true\ntrue,1,True\n"
    task = both(tmp_path, text, target="y")
    np.testing.assert_array_equal(task.X[:, 0], [1, 0, 1])
    np.testing.assert_array_equal(task.Y[:, 0], [0, 1, 1])
    assert task.remarks == ("true and false were read as 1 and 0 in 'x', 'y'",)
    table = pa.table({"x": [True, False, True], "z": [5, 3, 1], "y": [False, True, True]})
    parquet.write_table(table, tmp_path / "t.parquet")
    again = load(tmp_path / "t.parquet", target="y")
    np.testing.assert_array_equal(again.X, task.X)
    np.testing.assert_array_equal(again.Y, task.Y)
    assert again.remarks == task.remarks
    assert both(tmp_path, "x,y\n1,true\n2,false\n4,maybe\n", target="y").output_names[0] == "y=false"
    refused(tmp_path, "x,y\ntrue,1\n2,3\n", r"line 3, column 'x': the column mixes numbers and texts \('true'\)")


def test_whole_numbers_as_labels(tmp_path):
    text = "x,y\n5,0\n3,10\n1,2\n7,2\n"
    task = both(tmp_path, text, target="y")
    np.testing.assert_array_equal(task.Y[:, 0], [0, 10, 2, 2])
    assert (
        "target 'y' holds the whole numbers 0, 2, 10 and is learned as numbers; if they are labels" in task.remarks[0]
    )
    task = both(tmp_path, text, target="y", classes="y")
    assert task.output_names == ("y=0", "y=2", "y=10") and task.remarks == ()
    np.testing.assert_array_equal(task.Y, np.eye(3)[[0, 2, 1, 1]])
    parquet.write_table(pa.table({"x": [5.0, 3.0, 1.0], "y": [0.0, 1.5, 2.0]}), tmp_path / "f.parquet")
    assert load(tmp_path / "f.parquet", target="y", classes=["y"]).output_names == ("y=0", "y=1.5", "y=2")
    assert both(tmp_path, "x,y\n5,01\n3,1.0\n1,b\n", target="y", classes="y").output_names == ("y=1", "y=b")
    assert load(written(tmp_path, "x,y\n5,0.5\n3,1\n1,1\n"), target="y").remarks == ()
    refused(tmp_path, text, r"^`classes`: 'x' is no target; only targets may be classes$", classes="x")


@pytest.mark.parametrize(
    "cell", ["12%", "5 kg", "1 000", "1,000", "$5", "1_000", "0x10", "2020-01-31", "12:30", "１２", "−5"]
)
def test_numbers_in_other_forms_are_refused(tmp_path, cell):
    shown = cell.replace("$", r"\$")
    refused(
        tmp_path, f'x,y\n"{cell}",1\n5,2\n', rf"^`path`: 't.csv', line 2, column 'x': '{shown}' is text; inputs must be"
    )
    text = f'x,y\n1,"{cell}"\n5,"{cell}"\n'
    refused(
        tmp_path, text, rf"^`path`: 't.csv', line 2, column 'y': '{shown}' is a number or a date in a form that is not"
    )
    assert both(tmp_path, text, target="y", classes="y").output_names == (f"y={cell}",)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("9007199254740993", "is a whole number beyond 2\\^53, which 64 bits would round"),
        ("-123456789012345678901234567890", "is a whole number beyond 2\\^53"),
        ("inf", "is not finite"),
        ("-Infinity", "is not finite"),
        ("1e999", "is not finite in 64 bits"),
        ("1e-400", "is too small for 64 bits"),
    ],
)
def test_numbers_that_64_bits_would_change_are_refused(tmp_path, cell, reason):
    for text, column in ((f"x,z,y\n4,{cell},1\n5,2,2\n", "z"), (f"x,z,y\n4,1,{cell}\n5,2,2\n", "y")):
        refused(
            tmp_path, text, rf"^`path`: 't.csv', line 2, column '{column}': '{cell[:40]}' {reason}.*; correct it or rem"
        )
        refused(tmp_path, text, rf"'{cell[:40]}' {reason}", missing="drop")
    task = load(written(tmp_path, f"id,z,y\nA{cell},1,1\nB,2,2\n"), target="y")
    assert task.input_names == ("z",)


def test_whole_numbers_up_to_2_to_the_53_are_exact(tmp_path):
    task = both(tmp_path, "x,z,y\n4,9007199254740992,1\n5,-9007199254740992,2\n", target="y")
    assert task.X[:, 1].tolist() == [2**53, -(2**53)]
    parquet.write_table(pa.table({"x": [4, 2**53 + 1], "y": [1.0, 2.0]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"row 2, column 'x': 9007199254740993 is a whole number beyond 2\^53"):
        load(tmp_path / "t.parquet", target="y")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1960,1961,1962\n1.5,2,3\n2,3,4\n", ("1960", "1961")),
        ("country,1960,1961,1962\nA,1.5,2,3\nB,2,3,4\n", ("1960", "1961")),
        ("dose,1,2,3\n7.5,1.5,2,3\n8,2,3,4\n", ("dose", "1", "2")),
        ("0,1\n5,6\n", ("0",)),
        ("150,4,a,b\n5.5,3.5,1,0\n4.5,3,2,1\n", ("150", "4", "a")),
        ("10,20,30,40,50,60\n.1,.5,.7,.2,.3,.4\n.3,.5,.7,.2,.3,.4\n", ("10", "20", "30", "40", "50")),
    ],
)
def test_numbers_that_are_names(tmp_path, text, names):
    target = text.splitlines()[0].split(",")[-1]
    task = load(written(tmp_path, text), target=target)
    assert task.input_names == names and task.output_names == (target,)


@pytest.mark.parametrize(
    "text",
    [
        "1.5,2\n3,4\n",
        "1,2,3\n4,5,6\n",
        "5.1,3.5,1.4,setosa\n4.9,3,1.4,setosa\n",
        "1,5,red\n2,6,blue\n",
        "red,1990\nblue,1985\n",
        "1960,1961\n1970,1971\n",
    ],
)
def test_files_without_a_header_are_refused(tmp_path, text):
    target = text.splitlines()[0].split(",")[-1]
    refused(
        tmp_path,
        text,
        r"^`path`: 't.csv' begins with data \(.*\); its first line must name the columns$",
        target=target,
    )


def test_inputs_and_columns_to_leave_out_can_be_named(tmp_path):
    file = written(tmp_path, "a,b,text,y\n1,2,u,3\n3,4,v,5\n5,7,w,7\n")
    assert load(file, target="y", inputs="b,a").input_names == ("b", "a")
    np.testing.assert_array_equal(load(file, target="y", inputs=["b", "a"]).X, [[2, 1], [4, 3], [7, 5]])
    assert load(file, target="y", drop="text").input_names == ("a", "b")
    assert load(file, target="y", drop=("text", "a")).input_names == ("b",)
    for arguments, message in (
        ({"drop": "z"}, r"^`drop`: 't.csv' has no column 'z'; its columns are a, b, text, y$"),
        ({"inputs": "a,z"}, r"^`inputs`: 't.csv' has no column 'z'"),
        ({"inputs": "a,y"}, r"^`inputs`: 'y' is a target already; leave it out of one of them$"),
        ({"drop": "y"}, r"^`drop`: 'y' is a target already"),
        ({"inputs": "a", "drop": "a"}, r"^`drop`: 'a' is among the inputs as well; leave it out of one of them$"),
        (
            {"drop": "a,b,text"},
            r"^`target`, `drop`: take every column of 't.csv' \(a, b, text, y\); leave at least one as",
        ),
        ({"target": 3}, r"^`target`: 't.csv' has no column 3; "),
    ):
        with pytest.raises(ValueError, match=message):
            load(file, **{"target": "y", **arguments})


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n3,x\n", "a", r"^`path`: 't.csv', line 3, column 'b': 'x' is text; inputs must be numbers"),
        ('a,b\n"1\n\n",2\n3\n', "b", r"^`path`: 't.csv', line 5: has 1 cells, but the header has 2$"),
        ("a,b,a\n1,2,3\n", "b", r"^`path`: 't.csv' has two columns named 'a'; rename one$"),
        ("a,b\n1,2\n", "c", r"^`target`: 't.csv' has no column 'c'; its columns are a, b$"),
        (
            "a,b\n1,2\n",
            None,
            r"^`target`: 't.csv' has the columns a, b; name the outputs, as in target='b', --target b ",
        ),
        ("a,b\n1,2\n", "", r"^`target`: 't.csv' has the columns a, b; name the outputs"),
        ("a,b\n1,2\n", "a,b", r"^`target`: takes every column of 't.csv' \(a, b\); leave at least one as input$"),
        (",b\n0,2\n", "b", r"^`target`: takes every column of 't.csv' \(b\); leave at least one as input$"),
        ("", "b", r"^`path`: 't.csv' is empty; it needs a header and rows$"),
        ("\n \n", "b", r"^`path`: 't.csv' is empty; "),
        ("a,b\n", "b", r"^`path`: 't.csv' has a header and no rows; add samples$"),
        (
            "a,b\n1,2\n1,x\n",
            "b",
            r"^`path`: 't.csv', line 3, column 'b': the target mixes numbers and texts \('x'\); make",
        ),
        ('a,b\n1,2\n"1,2\n', "b", r"^`path`: 't.csv', line 3: unexpected end of data; check the quotes around there$"),
        (
            "a\x1b[31m,b\n1,2\n",
            "b",
            r"^`path`: 't.csv' has the name 'a\\x1b\[31m', with a control character; rename it$",
        ),
        ("a,b\n1,u\x07\n", "b", r"line 2, column 'b': 'u\\x07' holds a control character; the file may be damaged$"),
    ],
)
def test_bad_tables_are_named_to_the_cell(tmp_path, text, target, message):
    refused(tmp_path, text, message, target=target)


def test_long_lists_of_columns_are_cut(tmp_path):
    file = written(tmp_path, ",".join(f"c{i}" for i in range(40)) + "\n" + ",".join("1" * 40) + "\n")
    with pytest.raises(ValueError, match=r"columns c0, .*, c11, ... \(40 in all\); name the outputs"):
        load(file)


def test_a_table_too_wide_for_the_memory_is_refused_at_once(tmp_path):
    names, row = ",".join(f"c{i}" for i in range(200_000)), ",".join(["0.5"] * 200_000)
    file = written(tmp_path, f"{names}\n{row}\n{row}\n")
    with pytest.raises(ValueError, match=r"^`path`: the second moment of 199999 inputs takes .* of memory, but"):
        load(file, target="c7")
    task = load(file, target="c7", inputs="c8,c9")
    assert task.X.shape == (2, 2)


def test_names_of_items_are_not_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "MAX_CATEGORIES", 2)
    message = r"^`target`: column 'species' of 'iris.{}' has more than 2 different texts; these are names, not classes"
    with pytest.raises(ValueError, match=message.format("csv")):
        load(written(tmp_path, IRIS, "iris.csv"), target="species")
    parquet.write_table(pa.table({"x": [1, 2, 3], "species": ["a", "b", "c"]}), tmp_path / "iris.parquet")
    with pytest.raises(ValueError, match=message.format("parquet")):
        load(tmp_path / "iris.parquet", target="species")


@pytest.mark.parametrize("cells", [1, 5, 2**16])
def test_blocks_of_any_size_give_the_same(tmp_path, monkeypatch, cells):
    monkeypatch.setattr("deeplinear.tables.delimited.BLOCK_CELLS", cells)
    monkeypatch.setattr("deeplinear.tables.parquet.BLOCK_CELLS", cells)
    assert source.BLOCK_CELLS == 2**16
    text = "id,flag,x,y\n" + "".join(f"{i},{bool(i % 3)},{i / 7},{'uvw'[i % 2]}\n" for i in range(20)) + "20,,1,u\n"
    task = both(tmp_path, text, target="y", missing="drop")
    np.testing.assert_array_equal(task.X, [[float(bool(i % 3)), i / 7] for i in range(20)])
    np.testing.assert_array_equal(task.Y, np.eye(2)[[i % 2 for i in range(20)]])


def test_parquet_of_every_kind(tmp_path):
    table = pa.table(
        {
            "a.b": pa.array([1, 2, 5], pa.int32()),
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
    np.testing.assert_array_equal(task.X, [[1, 1, 0.5, 1, 7], [2, 0, 1.5, 2, 8], [5, 1, 2.5, 3, 7]])
    np.testing.assert_array_equal(task.Y, [[1, 0], [0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"x": [1.0, None], "y": [1, 2]}, r"^`path`: 't.parquet', row 2, column 'x': the value is missing"),
        ({"x": [1, 2], "y": ["a", None]}, r"^`path`: 't.parquet', row 2, column 'y': the value is missing"),
        (
            {"x": [1.0, float("inf")], "y": [1, 2]},
            r"^`path`: 't.parquet', row 2, column 'x': inf is not finite; correct",
        ),
        (
            {"x": ["u", "v"], "y": [1, 2]},
            r"^`path`: 't.parquet', row 1, column 'x': 'u' is text; inputs must be numbers",
        ),
        ({"x": [[1], [2]], "y": [1, 2]}, r"column 'x': holds list<.*>; leave it out, or convert it to numbers"),
        ({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}, r"'t.parquet' has columns and no rows"),
        ({"x": [1], "z": [1]}, r"^`target`: 't.parquet' has no column 'y'; its columns are x, z$"),
    ],
)
def test_bad_parquet(tmp_path, monkeypatch, table, message):
    monkeypatch.setattr("deeplinear.tables.parquet.BLOCK_CELLS", 1)
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "t.parquet", target="y")


def test_damaged_parquet_and_no_pyarrow(tmp_path, monkeypatch):
    parquet.write_table(pa.table({"x": np.arange(1000.0), "y": np.arange(1000.0)}), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    content = bytearray(whole)
    content[4:60] = os.urandom(56)
    (tmp_path / "bad.parquet").write_bytes(content)
    (tmp_path / "cut.parquet").write_bytes(whole[:100])
    (tmp_path / "name.parquet").write_bytes(whole.replace(b"\x01x", b"\x01\xff"))
    (tmp_path / "text.parquet").write_bytes(b"x,y\n1,2\n")
    (tmp_path / "none.parquet").write_bytes(b"")
    for name in ("bad", "cut", "name", "text", "none"):
        with pytest.raises(
            ValueError, match=rf"^`path`: '{name}.parquet' cannot be read \(.+\); it may be damaged$"
        ) as caught:
            load(tmp_path / f"{name}.parquet", target="y")
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"^`path`: reading 't.parquet' needs pyarrow; install deeplinear\[table\]$"):
        load(tmp_path / "t.parquet", target="y")


def test_remarks_reach_the_dataset(tmp_path):
    import deeplinear as dl

    task = load(written(tmp_path, "id,x,y\n1,5,0.5\n2,3,1.5\n3,1,1\n"), target="y")
    assert any("counts the rows" in warning for warning in dl.learn(task, hidden=2, time=0.1).attrs["warnings"])
