import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplinear import _files, records


def dataset(value=1.0):
    return xr.Dataset(
        {
            "loss": ("time", [value, 0.5, np.nan], {"long_name": "loss", "units": "seconds"}),
            "widths": ("layer", np.array([3, 4], np.uint8)),
            "label": ("layer", np.array(["a", "bcé"])),
            "done": ((), True),
            "start": ((), "gaussian"),
            "empty": ("nothing", np.zeros(0)),
            "spectrum": ("layer", np.array([1 + 2j, -0.0])),
            "zeros": ("time", np.array([-0.0, -0.0, -0.0])),
        },
        {
            "time": ("time", [0.0, 1.0, 2.0], {"units": "days since 2001-01-01"}),
            "layer": ["in", "out"],
            "d": ("time", [1, 2, 3]),
        },
        {"title": "a run", "ending": {"kind": "saddle", "signature": [1, 3], "time": None}, "flag": True},
    )


def same(a, b):
    """Equal to the last bit, with types, attributes and the order of variables."""
    assert a.identical(b) and list(a.data_vars) == list(b.data_vars) and list(a.coords) == list(b.coords)
    for name, variable in a.variables.items():
        assert b[name].dtype == variable.dtype
        if variable.dtype.kind != "U":
            assert b[name].values.tobytes() == variable.values.tobytes()
    assert a.indexes.keys() == b.indexes.keys()


def litter(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_round_trip_of_everything_that_can_be_stored(tmp_path):
    assert records.save(dataset(), tmp_path / "deep" / "run.zarr") == tmp_path / "deep" / "run.zarr"
    same(records.load(tmp_path / "deep" / "run.zarr"), dataset())
    assert litter(tmp_path / "deep") == []
    with xr.open_zarr(tmp_path / "deep" / "run.zarr", consolidated=False, decode_times=False) as plain:
        np.testing.assert_array_equal(plain.loss, dataset().loss)


storable = st.sampled_from(
    ["bool", "int8", "uint64", "float16", "float32", "float64", "complex64", "complex128", ">f8", ">i4"]
)
arrays = hnp.arrays(storable, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays, st.lists(words, max_size=3), st.dictionaries(words, json_values, max_size=3))
def test_round_trip_of_drawn_datasets(tmp_path, monkeypatch, array, texts, attrs):
    monkeypatch.setattr(_files, "_sync", lambda folder: None)  # the disk's patience is tested elsewhere
    dims = [f"axis{i}" for i in range(array.ndim)]
    data = xr.Dataset(
        {"values": (dims, array), "texts": ("text", np.array(texts, dtype=np.str_))}, attrs={"nested": attrs}
    )
    records.save(data, tmp_path / "run.zarr", overwrite=True)
    loaded = records.load(tmp_path / "run.zarr")
    assert loaded.attrs == data.attrs
    assert loaded["values"].values.astype(array.dtype).tobytes() == array.tobytes()
    assert loaded["texts"].values.tolist() == data["texts"].values.tolist()
    assert records.content_hash(loaded) == records.content_hash(data)


def test_attributes_become_json(tmp_path):
    data = xr.Dataset(
        {"x": ("n", [1.0], {"range": np.array([0, 1])})},
        attrs={
            "widths": (np.int64(4), 3),
            "rate": np.float32(0.5),
            "nan": float("nan"),
            "inf": {"deep": [np.inf, 1.0]},
            "flag": np.True_,
            "path": Path("a"),
        },
    )
    records.save(data, tmp_path / "run.zarr")
    loaded = records.load(tmp_path / "run.zarr")
    plain = {"widths": [4, 3], "rate": 0.5, "nan": None, "inf": {"deep": [None, 1.0]}, "flag": True, "path": "a"}
    assert loaded.attrs == plain and loaded.x.attrs == {"range": [0, 1]}
    assert isinstance(data.attrs["widths"], tuple), "the caller's dataset stays as it was"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            xr.Dataset({"x": ("n", np.array([{}]))}),
            r"^`data`: variable 'x' has type object; convert it to text or to num",
        ),
        (xr.Dataset({"x": ("n", np.array(["2020"], "M8[ns]"))}), r"^`data`: variable 'x' has type datetime64\[ns\]; "),
        (xr.Dataset({"x": ("n", np.ones(1, np.longdouble))}), r"^`data`: variable 'x' has type float128; "),
        (
            xr.Dataset({3: ("n", [1.0])}),
            r"^`data`: has a variable named 3; use plain text without slashes or a leading",
        ),
        (xr.Dataset({"a/b": ("n", [1.0])}), r"^`data`: has a variable named 'a/b'; "),
        (xr.Dataset({"x": ("n", ["a", "\udcff"])}), r"^`data`: variable 'x' has text that is no UTF-8 \(surrogates"),
        (xr.Dataset({"..": ("n", [1.0])}), r"^`data`: has a variable named '..'; "),
        (
            xr.Dataset(attrs={"a": {"b": [object()]}}),
            r"^`attrs.a.b\[0\]`: is of type object; use text, numbers, lists an",
        ),
        (xr.Dataset(attrs={"a": {1: 2}}), r"^`attrs.a`: has the key 1; keys of attributes must be text$"),
        (xr.Dataset({"x": ("n", [1.0], {"f": print})}), r"^`x.attrs.f`: is of type builtin_function_or_method; "),
        (
            xr.Dataset({"x": ("n", [1.0], {"coordinates": "y"})}),
            r"^`data`: does not read back as it was written; rename",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        records.save(data, tmp_path / "run.zarr")
    assert list(tmp_path.iterdir()) == []


def test_hash_sees_content_and_nothing_else():
    reference = records.content_hash(dataset())
    assert records.content_hash(dataset()) == reference
    swapped = dataset()[list(dataset().data_vars)[::-1]]
    assert records.content_hash(swapped) == reference
    big_endian = dataset()
    big_endian["loss"] = big_endian.loss.astype(">f8").assign_attrs(big_endian.loss.attrs)
    assert records.content_hash(big_endian) == reference
    changes = [
        lambda data: data.assign_attrs(flag=False),
        lambda data: data.assign(loss=data.loss.copy(data=[1.0, 0.5, 0.0])),
        lambda data: data.assign(zeros=data.zeros.copy(data=np.zeros(3))),
        lambda data: data.assign(widths=data.widths.astype(np.int64)),
        lambda data: data.assign(label=data.label.copy(data=np.array(["ab", "cé"]))),
        lambda data: data.rename(loss="Loss"),
        lambda data: data.rename_dims(nothing="void"),
        lambda data: data.reset_coords("d"),
        lambda data: data.assign(loss=data.loss.assign_attrs(units="s")),
        lambda data: data.drop_vars("empty"),
    ]
    hashes = [records.content_hash(change(dataset())) for change in changes]
    assert len({reference, *hashes}) == len(changes) + 1


def test_existing_paths_are_kept_unless_told(tmp_path):
    path = tmp_path / "run.zarr"
    records.save(dataset(1.0), path)
    with pytest.raises(
        ValueError, match=r"^`path`: '.*run.zarr' exists already; choose another path or allow to overwr"
    ):
        records.save(dataset(2.0), path)
    same(records.load(path), dataset(1.0))
    records.save(dataset(2.0), path, overwrite=True)
    same(records.load(path), dataset(2.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"]


def test_nothing_foreign_is_replaced(tmp_path, monkeypatch):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter").write_text("1")
    with pytest.raises(ValueError, match=r"^`path`: '.*thesis' holds 'chapter', which was not written here, so noth"):
        records.save(dataset(), thesis, overwrite=True)
    with monkeypatch.context() as patch:
        patch.chdir(thesis)
        for path in (".", "..", "/"):
            with (
                pytest.raises(
                    ValueError, match=r"^`path`: '.*' is or holds the working directory; choose another path$"
                ),
                records.atomic_folder(path, overwrite=True),
            ):
                pass
    assert (thesis / "chapter").read_text() == "1" and litter(tmp_path) == []


def zarr_of_others(path):
    shutil.rmtree(path)
    dataset().drop_vars(["label", "layer", "start"]).drop_attrs().to_zarr(path, consolidated=False, zarr_format=3)


def link_in_place_of(name):
    def damage(path):
        shutil.move(path / name, path.parent / "elsewhere")
        (path / name).symlink_to(path.parent / "elsewhere")

    return damage


def link_to_itself(path):
    shutil.move(path, path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "thesis.tex").write_text("x"), "holds 'thesis.tex', which was not written here"),
        (lambda path: (path / "loss" / "c" / "notes").write_text("x"), "holds 'loss/c/notes'"),
        (lambda path: ((path / "deep").mkdir(), (path / "deep" / "x").touch()), "holds 'deep/x'"),
        (lambda path: (path / "link").symlink_to(path.parent), "holds 'link'"),
        (lambda path: os.mkfifo(path / "pipe"), "holds 'pipe'"),
        (link_in_place_of("loss"), "holds 'loss'"),
        (link_in_place_of("loss/c/0"), "holds 'loss/c/0'"),
        (lambda path: forget_hash(path), "holds '"),
        (lambda path: (path / "zarr.json").write_text("{"), "holds '"),
        (zarr_of_others, "holds '"),
        (link_to_itself, "is a link, so it is not replaced"),
        (lambda path: (shutil.rmtree(path), path.write_text("x")), "is no folder, so it is not replaced"),
    ],
)
def test_a_record_with_anything_foreign_is_not_replaced(tmp_path, change, message):
    path = tmp_path / "run"
    records.save(dataset(1.0), path)
    change(path)
    files = lambda: sorted((str(file), file.lstat().st_size) for file in tmp_path.rglob("*"))
    before = files()
    with pytest.raises(ValueError, match=f"^`path`: '.*run' {message}") as caught:
        records.save(dataset(2.0), path, overwrite=True)
    assert "\n" not in str(caught.value) and files() == before


def test_what_systems_leave_in_a_folder_is_replaced(tmp_path):
    records.save(dataset(1.0), tmp_path / "run")
    (tmp_path / "run" / "loss" / ".DS_Store").touch()
    records.save(dataset(2.0), tmp_path / "run", overwrite=True)
    same(records.load(tmp_path / "run"), dataset(2.0))


def test_a_folder_appears_at_the_end_and_replaces_an_empty_one(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with records.atomic_folder(tmp_path / name, overwrite=True) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "x").write_text(name)
            assert folder.parent == tmp_path and not (tmp_path / name / "sub").exists()
        assert (tmp_path / name / "sub" / "x").read_text() == name
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(ValueError, match="so it is not replaced"), _files.atomic_folder(tmp_path / name, True):
            pass
    assert litter(tmp_path) == []


def test_a_faster_process_wins(tmp_path):
    with (
        pytest.raises(ValueError, match=r"^`path`: '.*run' exists already"),
        records.atomic_folder(tmp_path / "run") as folder,
    ):
        (folder / "mine").touch()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "theirs").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["theirs"] and litter(tmp_path) == []


@pytest.mark.parametrize(
    "stop", [RuntimeError("boom"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_exceptions_leave_nothing_behind(tmp_path, stop):
    records.save(dataset(), tmp_path / "run")
    replacing = records.atomic_folder(tmp_path / "run", overwrite=True, ours=records.foreign)
    with pytest.raises(type(stop)), replacing as folder:
        (folder / "half").write_text("x")
        raise stop
    same(records.load(tmp_path / "run"), dataset())
    assert litter(tmp_path) == []


@pytest.mark.parametrize("function", ["fsync", "rename"])
@pytest.mark.parametrize("which", range(2))
def test_full_disk_at_the_end_restores_the_old_record(tmp_path, monkeypatch, function, which):
    records.save(dataset(1.0), tmp_path / "run")
    calls = []
    original = getattr(os, function)

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == which + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(os, function, failing)
    with pytest.raises(OSError, match="No space left on device"):
        records.save(dataset(2.0), tmp_path / "run", overwrite=True)
    same(records.load(tmp_path / "run"), dataset(1.0))
    assert litter(tmp_path) == []


def damage_chunk(path):
    chunk = path / "loss" / "c" / "0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)


def change_attribute(path):
    group = path / "zarr.json"
    group.write_text(group.read_text().replace("saddle", "minimum"))


def wrong_node(path):
    group = path / "zarr.json"
    group.write_text(group.read_text().replace('"node_type": "group"', '"node_type": "graph"'))


def link_to_zero(name):
    return lambda path: ((path / name).unlink(), (path / name).symlink_to("/dev/zero"))


def pipe(name):
    return lambda path: ((path / name).unlink(), os.mkfifo(path / name))


def sparse(name, size):
    return lambda path: os.truncate(path / name, size)


def sealed(more=None, **changes):
    """A seal with other entries, or with more names of files."""

    def change(path):
        group = json.loads((path / "zarr.json").read_text())
        seal = group["attributes"][records.SEAL]
        seal |= changes
        if more is not None:
            seal["files"] |= more
        (path / "zarr.json").write_text(json.dumps(group))

    return change


def declared(name, shape, chunk=None):
    """An array that says another shape of itself, its hash made right."""

    def change(path):
        file, key = path / name / "zarr.json", f"{name}/zarr.json"
        array = json.loads(file.read_text())
        array["shape"] = shape
        if chunk is not None:
            array["chunk_grid"]["configuration"]["chunk_shape"] = chunk
        file.write_text(json.dumps(array))
        content = file.read_bytes()
        seal = json.loads((path / "zarr.json").read_text())["attributes"][records.SEAL]
        files = seal["files"] | {key: hashlib.sha256(content).hexdigest()}
        sealed(files=files, bytes=seal["bytes"] | {key: len(content)})(path)

    return change


FILES = r"is damaged: its files do not match their hashes; restore it or run again$"


def forget_hash(path):
    group = json.loads((path / "zarr.json").read_text())
    del group["attributes"][records.SEAL]
    (path / "zarr.json").write_text(json.dumps(group))


def future_format(path):
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"][records.SEAL]["format"] = 2
    (path / "zarr.json").write_text(json.dumps(group))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_chunk, FILES),
        (lambda path: (path / "loss" / "c" / "0").unlink(), FILES),
        (lambda path: (path / "loss" / "c" / "0").write_bytes(b""), FILES),
        (lambda path: (path / "loss" / "zarr.json").write_text("{"), FILES),
        (lambda path: shutil.rmtree(path / "loss"), FILES),
        (
            lambda path: (path / "zarr.json").write_text("{"),
            r"is damaged: its zarr.json is not JSON; restore it or run",
        ),
        (
            lambda path: (path / "zarr.json").write_text("[]"),
            r"has no content hash; open other zarr folders with xarray",
        ),
        (link_to_zero("zarr.json"), r"is not a record"),
        (link_to_zero("loss/c/0"), r"is damaged: its 'loss/c/0' is a link; restore it or run again$"),
        (link_in_place_of("loss"), r"is damaged: its 'loss/c/0' is a link; restore it or run again$"),
        (link_in_place_of("loss/c/0"), r"is damaged: its 'loss/c/0' is a link; restore it or run again$"),
        (pipe("zarr.json"), r"is not a record"),
        (pipe("loss/c/0"), FILES),
        (sealed(files={}), r"is damaged: it has no hash of 'loss'; restore it or run again$"),
        (sealed(files=[]), r"is damaged: its list of hashes is none; restore"),
        (sealed(files=None), r"is damaged: its list of hashes is none; restore"),
        (sealed(files="loss"), r"is damaged: its list of hashes is none; restore"),
        (sealed(order=[1]), r"is damaged: its list of hashes is none; restore"),
        (sealed(sha256=None), r"is damaged: its list of hashes is none; restore"),
        (sealed(more={"../outside": "0"}), r"is damaged: it names a file that is not inside it, '../outside'; restore"),
        (sealed(more={"/dev/zero": "0"}), r"is damaged: it names a file that is not inside it, '/dev/zero'; restore"),
        (sealed(more={"a/../../b": "0"}), r"is damaged: it names a file that is not inside it"),
        (sealed(more={"a\0": "0"}), r"is damaged: it names a file that is not inside it"),
        (sealed(more={"\ud800": "0"}), FILES),
        (sealed(format={"a": [2] * 99}), r"has record format \{'a': \[2, .{30,60}\.\.\., but this version reads 1"),
        (sparse("loss/c/0", 10**13), FILES),
        (lambda path: (sparse("loss/c/0", 10**13)(path), sealed(bytes=None)(path)), r"takes 10 TB of memory, but"),
        (declared("loss", shape=[10**12]), r"is damaged: its arrays are not as large as they say; restore"),
        (declared("loss", shape=[10**12], chunk=[10**12]), r"is damaged: its arrays are not as large as they say"),
        (declared("label", shape=[10**14], chunk=[10**14]), r"is damaged: its arrays are not as large as they say"),
        (declared("loss", shape=["3"]), r"is damaged: its arrays are not as large as they say; restore"),
        (lambda path: (path / "zarr.json").write_text("[" * 10**6), r"is damaged: its zarr.json is not JSON; restore"),
        (lambda path: (path / "zarr.json").write_text("9" * 5000), r"is damaged: its zarr.json is not JSON; restore"),
        (lambda path: (path / "zarr.json").write_bytes(b"\xff{}"), r"is damaged: its zarr.json is not JSON; restore"),
        (wrong_node, r"is damaged: .+; restore it or run again$"),
        (change_attribute, r"is damaged: its content does not match its hash; restore it or run again$"),
        (forget_hash, r"has no content hash; open other zarr folders with xarray.open_zarr$"),
        (future_format, r"has record format 2, but this version reads 1; update deeplinear$"),
        (
            lambda path: (path / "zarr.json").unlink(),
            r"is not a record \(a folder with a zarr.json\); give one that `save`",
        ),
        (shutil.rmtree, r"^`path`: there is no record '.*run'$"),
        (lambda path: (shutil.rmtree(path), path.write_text("x")), r"is not a record \(a folder with a zarr.json\)"),
    ],
)
def test_damaged_records_are_refused_in_one_line(tmp_path, damage, message):
    records.save(dataset(), tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(ValueError, match=message) as caught:
        records.load(tmp_path / "run")
    assert str(caught.value).startswith("`path`: ") and "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path, data):
    original = tmp_path / "run"
    if not original.exists():
        records.save(dataset(), original)
    files = sorted(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    content = bytearray((original / file).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    shutil.rmtree(tmp_path / "bad", ignore_errors=True)
    shutil.copytree(original, tmp_path / "bad")
    (tmp_path / "bad" / file).write_bytes(content)
    try:
        loaded = records.load(tmp_path / "bad")
    except ValueError:
        return
    same(loaded, dataset())  # a bit without meaning, such as one in the name of an unused option


def test_records_of_earlier_versions_say_no_sizes(tmp_path):
    records.save(dataset(), tmp_path / "run")
    group = json.loads((tmp_path / "run" / "zarr.json").read_text())
    del group["attributes"][records.SEAL]["bytes"]
    (tmp_path / "run" / "zarr.json").write_text(json.dumps(group))
    same(records.load(tmp_path / "run"), dataset())
    records.save(dataset(2.0), tmp_path / "run", overwrite=True)
    (tmp_path / "link").symlink_to("run")
    same(records.load(tmp_path / "link"), dataset(2.0))  # a link that the reader gives is his own


def test_files_that_others_leave_in_the_folder_do_no_harm(tmp_path):
    records.save(dataset(), tmp_path / "run")
    (tmp_path / "run" / "loss" / ".DS_Store").touch()
    same(records.load(tmp_path / "run"), dataset())


def test_provenance_names_versions_without_importing(monkeypatch):
    versions = records.provenance()
    assert versions["numpy"] == np.__version__ and versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(versions) == {"python", *records.PACKAGES}
    monkeypatch.setattr(records, "PACKAGES", ("no-such-package",))
    assert records.provenance()["no-such-package"] == "not installed"
