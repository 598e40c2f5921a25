"""Arrays from files: what is read, what is refused in one line, and that nothing is unpickled."""

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deeplinear.data import Moments
from deeplinear.tasks import load, resolve


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
        ({"a": np.eye(2)}, r"^`path`: 't.npz' holds 'a'; it must hold the arrays x \(n, d_x\) and y \(n, d_y\)$"),
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
        ({"x": np.array([["a"]]), "y": np.ones(1)}, r"^`X`: has text in its entries; give real numbers"),
        (
            {"x": np.array([[1.0], [np.nan]]), "y": np.ones(2)},
            r"^`X`: has nan at row 2, column 1; .* \(in '.*t.npz'\)$",
        ),
        ({"x": np.eye(2), "y": np.array([1.0, np.inf])}, r"^`Y`: has inf at row 2, column 1; "),
        ({"x": np.array([[Evil()]]), "y": np.ones(1)}, r"^`path`: 't.npz' cannot be read \(Object arrays"),
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
        with pytest.raises(ValueError, match=rf"^`path`: '{name}' cannot be read \(.+\); it may be damaged$"):
            load(name)
    for name in ("evil.npy", "empty.npy"):
        with pytest.raises(ValueError, match=rf"^`path`: '{name}' cannot be read \(.+\); it may be damaged$"):
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
        (
            "t.csv.gz",
            "y",
            r"^`path`: 't.csv.gz' has suffix '.gz'; unpack it and give .npz, .npy, .csv, ",
        ),
        ("x.npy", None, r"^`path`: got 'x.npy'; give the inputs and the outputs, as in 'x.npy,y.npy'$"),
        (("x.npy", "x.npy"), "y", r"^`path`: got 'x.npy'; give the inputs and the outputs"),
        (("x.txt", "x.npy"), None, r"^`path`: got 2 files; only .npy files come in pairs \(inputs, outputs\)$"),
        ((), None, r"^`path`: got an empty sequence; give one file, or two .npy files$"),
        ("x.npz", "y", r"^`target`: got 'y', but 'x.npz' has no columns; it holds the arrays x and y themselves$"),
        ("a" * 5000, None, r"^`path`: 'a+' is not there$"),
        ("a\0.npz", None, r"^`path`: 'a\\x00.npz' is not there$"),
        (3, None, r"^`path`: got 3; give a path, or a pair of paths$"),
        (".", None, r"^`path`: '.' is a folder, not a file$"),
        ("pipe.csv", "y", r"^`path`: 'pipe.csv' is a device or pipe, not a file$"),
        ("/dev/zero", "y", r"^`path`: '/dev/zero' is a device or pipe, not a file$"),
        ("gone.csv", "y", r"^`path`: 'gone.csv' is not there$"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_paths_that_cannot_be_read(tmp_path, monkeypatch, path, target, message):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.eye(2))
    np.savez("x.npz", x=np.eye(2), y=np.eye(2))
    Path("x.txt").touch()
    Path("t.csv.gz").touch()
    os.mkfifo("pipe.csv")
    os.symlink("nowhere.csv", "gone.csv")
    with pytest.raises(ValueError, match=message):
        load(path, target)


def test_what_may_not_be_read_or_is_gone(tmp_path, monkeypatch):
    file = tmp_path / "secret.csv"
    file.write_text("x,y\n1,2\n")

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(
        ValueError, match=r"^`path`: 'secret.csv' cannot be read \(\[Errno 13\] Permission denied: .*\)"
    ):
        load(file, target="y")


def npy(shape, data=b"", version=b"\x01\x00", header=None):
    header = header or f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy((2, 2), b"1234"),
        npy((10**9, 1)),  # 8 GB declared
        npy((10**18, 10**18)),
        npy((-1, 2)),
        npy((2, 2), header="{'descr': '<f8', 'shape': (2, "),
        npy((2, 2), header="{'descr': '<f8' 'shape'"),
        npy((2, 2), header="(" * 5000),
        npy((2, 2), header="{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }"),
        npy((2, 2), version=b"\x09\x00"),
        b"PK\x03\x04" + bytes(30),
    ],
    ids=range(12),
)
def test_damaged_arrays_get_one_line(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", npy((1,), bytes(8)))
    for path in ((tmp_path / "x.npy", tmp_path / "x.npy"), tmp_path / "t.npz"):
        with pytest.raises(ValueError, match=r"^`path`: .*'(x.npy|t.npz)'") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_archives_with_odd_members(tmp_path):
    file = tmp_path / "t.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", b"text")
        archive.writestr("y", b"text")
    with pytest.raises(ValueError, match=r"^`path`: x of 't.npz' is no array; save it with numpy.savez$"):
        load(file)
    np.savez(file, x=np.eye(2), y=np.ones(2))
    content = bytearray(file.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag "encrypted" of every member
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + at] |= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"^`path`: 't.npz' cannot be read \(.*encrypted.*\)"):
        load(file)


def test_bombs_and_wide_arrays_are_refused_before_they_are_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "t.npz", x=np.ones((3, 4)), y=np.ones(3))
    monkeypatch.setattr("deeplinear._memory.MIB", 0)
    monkeypatch.setattr("deeplinear._memory.available", lambda: 10)
    with pytest.raises(ValueError, match=r"^`path`: the array x of 't.npz' takes .* of memory, but"):
        load(tmp_path / "t.npz")
    monkeypatch.undo()
    wide = np.lib.format.open_memmap(tmp_path / "wide.npy", "w+", shape=(2, 10**6))
    wide[:] = 1.0
    np.save(tmp_path / "y.npy", np.ones(2))
    with pytest.raises(ValueError, match=r"^`path`: the second moment of 1000000 inputs takes"):
        load((tmp_path / "wide.npy", tmp_path / "y.npy"))


@pytest.mark.parametrize(("name", "value"), [("inputs", "a"), ("drop", "a"), ("classes", "y"), ("missing", "drop")])
def test_arrays_have_no_columns(tmp_path, name, value):
    np.savez(tmp_path / "t.npz", x=np.eye(2), y=np.eye(2))
    with pytest.raises(ValueError, match=rf"^`{name}`: got '{value}', but 't.npz' has no columns; it holds the arrays"):
        load(tmp_path / "t.npz", **{name: value})
    with pytest.raises(ValueError, match=rf"^`{name}`: got '{value}', but the task 'digits' has its own outputs"):
        resolve("digits", **{name: value})


def test_names_of_files_that_are_no_text_or_look_like_options(tmp_path):
    np.savez(tmp_path / "-x.npz", x=np.eye(2), y=np.eye(2))
    assert load(tmp_path / "-x.npz").name == "./-x.npz"
    try:
        (tmp_path / "caf\udce9.npz").write_bytes((tmp_path / "-x.npz").read_bytes())
    except OSError:
        pytest.skip("this system has no such names")
    assert load(tmp_path / "caf\udce9.npz").name == "caf\ufffd.npz"
