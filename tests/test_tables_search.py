"""Searches: damaged files give the numbers of an independent reading or one line; tables come back as written."""

import csv
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplinear import loading
from deeplinear.data import check_samples
from deeplinear.tables import Choice

pa = pytest.importorskip("pyarrow")
import pandas as pd  # noqa: E402
from pyarrow import parquet  # noqa: E402

SEPARATORS = ",;\t|"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def load(path, target=None, missing="refuse"):
    """What `tasks.load` reads, before moments are taken."""
    samples = loading.read(path, Choice(target, missing=missing))
    X, Y = check_samples(samples.X, samples.Y)
    return samples._replace(X=X, Y=Y)


def plain_files() -> dict[str, bytes]:
    """Whole files of every kind, to be damaged: texts with quotes, names, classes; arrays; Parquet as it is usual."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 3)).round(3), rng.integers(0, 3, 9)
    names = ["petal", "sepal width", "x"]
    frame = pd.DataFrame(X, columns=names)
    texts = frame.assign(**{"y": [f"kind {i}" for i in y]})
    found = {
        "numbers.csv": frame.assign(y=y).to_csv(index=False),
        "classes.csv": texts.to_csv(index=False),
        "index.csv": texts.to_csv(),
        "quotes.csv": texts.to_csv(index=False, quoting=csv.QUOTE_ALL),
        "semicolons.csv": texts.to_csv(index=False, sep=";", decimal=","),
        "tabs.tsv": frame.assign(y=y).to_csv(index=False, sep="\t", lineterminator="\r\n"),
        "marked.csv": "\ufeff" + texts.to_csv(index=False),
    }
    files = {name: text.encode() for name, text in found.items()}
    files["utf16.csv"] = found["classes.csv"].encode("utf-16")
    for name, options in {"plain": {"compression": "none"}, "snappy": {}, "old": {"version": "1.0"}}.items():
        parquet.write_table(pa.Table.from_pandas(texts), stream := io.BytesIO(), **options)
        files[f"{name}.parquet"] = stream.getvalue()
    for name, save in {"stored": np.savez, "packed": np.savez_compressed}.items():
        save(stream := io.BytesIO(), x=X, y=y)
        files[f"{name}.npz"] = stream.getvalue()
    np.save(stream := io.BytesIO(), X)
    files["array.npy"] = stream.getvalue()
    return files


FILES = plain_files()
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "insert", "delete", "copy", "cut"]), st.integers(0, 2**16), st.integers(0, 255)
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, changes) -> bytes:
    content = bytearray(content)
    for kind, place, byte in changes:
        at = place % (len(content) + 1)
        if kind == "insert":
            content[at:at] = bytes([byte])
        elif kind == "copy":  # a stretch written twice
            content[at:at] = content[at : at + 1 + byte % 40]
        elif kind == "delete":
            del content[at : at + 1 + byte % 8]
        elif kind == "cut":
            content = content[: max(at, len(content) // 2)] if byte < 128 else content[at // 2 :]
        elif at < len(content):
            content[at] = byte if kind == "set" else content[at] ^ (1 << byte % 8)
    return bytes(content)


def strict_text(content: bytes, names: set[str]) -> dict[str, list[str]]:
    """Cells of the columns of these names, by another way than the library's."""
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    for separator in f"{SEPARATORS} ":
        if separator == " ":
            text = "\n".join(" ".join(line.split(" ")).strip() for line in text.splitlines())
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator == " "))
        rows = [[cell.strip() for cell in row] for row in rows]
        rows = [row for row in rows if row not in ([], [""])]
        header, rows = [" ".join(name.split()) for name in rows[0]], rows[1:]
        if names <= set(header):
            break
    shift = len(rows[0]) - len(header)
    assert shift in (0, 1) and {len(row) for row in rows} == {len(header) + shift}
    return {name: [row[header.index(name) + shift] for row in rows] for name in names}


def check_columns(task, cells: dict[str, list]) -> None:
    """Every number of the task against cells that were read otherwise."""
    number = lambda cell: float(str(cell).replace(",", ".").lower().replace("true", "1").replace("false", "0"))
    for j, name in enumerate(task.input_names):
        np.testing.assert_array_equal(task.X[:, j], [number(cell) for cell in cells[name]])
    if len(task.output_names) == 1 and "=" not in task.output_names[0]:
        np.testing.assert_array_equal(task.Y[:, 0], [number(cell) for cell in cells["y"]])
    else:
        found = [task.output_names[i].removeprefix("y=") for i in task.Y.argmax(axis=1)]
        assert found == [str(cell).strip() for cell in cells["y"]]
        np.testing.assert_array_equal(task.Y.sum(axis=1), 1)


@pytest.mark.search
@given(st.sampled_from(sorted(FILES)), edits)
def test_damaged_files_give_the_numbers_that_they_hold_or_one_line(folder, name, changes):
    content = damaged(FILES[name], changes)
    file = folder / name
    file.write_bytes(content)
    path, target = ((file, file), None) if name.endswith(".npy") else (file, None if name.endswith(".npz") else "y")
    try:
        task = load(path, target)
    except ValueError as error:
        assert type(error) is ValueError and str(error).startswith("`") and "\n" not in str(error)
        return
    if name.endswith(".npy"):
        read = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        np.testing.assert_array_equal(task.X, read.reshape(len(task.X), -1))
    elif name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.lower(): member for member in archive.namelist()}
            read = [np.lib.format.read_array(io.BytesIO(archive.read(members[m]))) for m in ("x.npy", "y.npy")]
        np.testing.assert_array_equal(task.X, read[0])
        np.testing.assert_array_equal(task.Y[:, 0], read[1].reshape(-1))
    elif name.endswith(".parquet"):
        check_columns(task, parquet.read_table(io.BytesIO(content)).to_pydict())
    else:
        outputs = {"y"}
        check_columns(task, strict_text(content, set(task.input_names) | outputs))


letters = st.characters(codec="cp1252", exclude_categories=["C"], exclude_characters=";,|\"'")
words = st.text(letters, min_size=1, max_size=6).map(lambda text: "k" + " ".join(text.split())).map(str.strip)
values = st.one_of(
    st.floats(-1e100, 1e100, allow_subnormal=False),
    st.integers(-(2**53), 2**53).map(float),
    st.sampled_from([0.0, 1.0, -0.0]),
)
tables = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=4),
        st.lists(words, min_size=n, max_size=n) | st.lists(values, min_size=n, max_size=n),
        st.lists(st.sampled_from([False] * 7 + [True]), min_size=n, max_size=n),
    )
)
names_of_columns = st.lists(words, min_size=6, max_size=6, unique=True)
dialects = st.fixed_dictionaries(
    {
        "sep": st.sampled_from(SEPARATORS),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        "index": st.booleans(),
        "na_rep": st.sampled_from(["", "NA", "?", "NaN", "null", "--"]),
        "decimal": st.sampled_from([".", ","]),
    }
)


def is_utf8(content: bytes) -> bool:
    try:
        return not content.isascii() and bool(content.decode())
    except UnicodeDecodeError:
        return False


@pytest.mark.search
@given(
    tables, dialects, st.sampled_from(["csv", "tsv", "parquet"]), st.lists(words, min_size=6, max_size=6, unique=True)
)
def test_tables_come_back_as_they_were_written(folder, table, dialect, suffix, names):
    columns, y, missing = table
    frame = pd.DataFrame({name: column for name, column in zip(names, columns, strict=False)})
    frame.insert(0, "first", np.linspace(0.5, 2.5, len(y)))  # no names of rows
    frame["y"] = pd.Series(y, dtype=object if isinstance(y[0], str) else float)
    expected = frame.copy()
    if not all(missing):
        frame.loc[missing, frame.columns[1]] = np.nan
        expected = frame[~np.array(missing)]
    file = folder / f"t.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(file, index=dialect["index"])
    else:
        if dialect["sep"] == ",":
            dialect["decimal"] = "."
        frame.to_csv(file, **dialect)
        if dialect["encoding"] == "cp1252" and is_utf8(file.read_bytes()):  # the same bytes in both: nobody can tell
            return
    task = load(file, target="y", missing="drop")
    assert task.input_names == tuple(expected.columns[:-1])
    np.testing.assert_array_equal(task.X, expected.iloc[:, :-1].to_numpy(float))
    if isinstance(y[0], str):
        assert [task.output_names[i] for i in task.Y.argmax(axis=1)] == [f"y={text}" for text in expected["y"]]
    else:
        np.testing.assert_array_equal(task.Y[:, 0], expected["y"].to_numpy(float))
    left_out = sum(missing) if not all(missing) else 0
    assert any(remark.startswith(f"{left_out} of ") for remark in task.remarks) == (left_out > 0)
