"""Random damage to records and checkpoints: what comes back is what was saved, or one line that says what is wrong."""

import hashlib
import io
import json
import os
import random
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from problems import TIMES, WHITE, WIDTHS, random_network
from test_records import same

from deeplinear import gradient_flow, records

SECONDS = 5.0  # a case takes milliseconds; whatever reads a pipe or a device takes for ever
NUMBERS = (0, -1, 1, 2, 3, 10**6, 10**9, 10**12, 2**63, 10**40, 1.5, -0.0, 1e400)
WORDS = ("", "a", "../../x", "/dev/zero", "loss", "float32", "string", "bytes", "\ud800", "\0", "default", "é" * 300)
NAMES = (
    "../outside",
    "/etc/passwd",
    "/dev/zero",
    "a/../../outside",
    "./loss/c/0",
    "loss//c/0",
    "pipe",
    "loss\\c\\0",
    "",
)


def small():
    return xr.Dataset(
        {
            "loss": ("time", [1.0, 0.5, -0.0, np.nan], {"units": "1"}),
            "label": ("layer", np.array(["a", "bcé"])),
            "count": ((), np.int64(7)),
        },
        {"time": [0.0, 1.0, 2.0, 4.0]},
        {"ending": {"kind": "saddle", "signature": [1, 3]}, "flag": True},
    )


class Copy:
    """A record or file that is damaged and mended again and again."""

    def __init__(self, root, files):
        self.root, self.files = root, files

    def mend(self):
        """Everything as it was, with as few writes as that takes."""
        for folder, folders, files in os.walk(self.root):
            for name in [*files, *(name for name in folders if Path(folder, name).is_symlink())]:
                entry = Path(folder, name)
                plain = entry.is_file() and not entry.is_symlink()
                known = self.files.get(str(entry.relative_to(self.root)))
                if not plain or known is None or entry.stat().st_size > 10**6 or entry.read_bytes() != known:
                    entry.unlink()
        for name, content in self.files.items():
            file = self.root / name
            if file.is_dir():
                shutil.rmtree(file)
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)


def damage_bytes(content, rng):
    """The bytes cut, filled up, flipped, repeated or replaced."""
    kind, at = rng.randrange(7), rng.randrange(len(content) + 1)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content + rng.randbytes(rng.randrange(1, 200))
    if kind == 2:
        return rng.randbytes(rng.randrange(200))
    if kind == 3:
        return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:]
    if kind == 4:
        return b"[" * 100_000 if rng.random() < 0.5 else b'{"a":' * 50_000
    flipped = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 10)) if content else 0):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def random_json(rng, depth=0):
    kind = rng.randrange(6 if depth < 3 else 4)
    if kind < 3:
        return rng.choice((*NUMBERS, None, True, False))
    if kind == 3:
        return rng.choice(WORDS)
    inner = [random_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return inner if kind == 4 else {rng.choice((*WORDS, *NAMES)): value for value in inner}


def edit_json(text, rng):
    """JSON with one value, at a random place, changed, left out or added."""
    tree = json.loads(text)
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        if rng.random() < 0.25:
            del node[key]
        elif rng.random() < 0.2 and isinstance(node, dict):
            node[rng.choice((*WORDS, *NAMES))] = node.pop(key)
        else:
            node[key] = random_json(rng)
        break
    if rng.random() < 0.05:
        text = json.dumps(tree).replace("3", "9" * 5000, 1)
        return text.encode()
    return json.dumps(tree).encode()


def replace_entry(root, name, rng):
    """A file replaced by a link, a pipe, a folder, a sparse giant or nothing."""
    entry, outside = root / name, root.parent / "outside"
    kind = rng.randrange(7)
    if kind == 0:
        entry.unlink()
    elif kind == 1:
        os.replace(entry, outside)
        entry.symlink_to(outside)
    elif kind == 2:
        entry.unlink()
        entry.symlink_to(rng.choice(("/dev/zero", "/dev/null", entry.name, "/", "nowhere", "..")))
    elif kind == 3:
        entry.unlink()
        os.mkfifo(entry)
    elif kind == 4:
        entry.unlink()
        entry.mkdir()
    elif kind == 5:
        with entry.open("r+b") as stream:
            stream.truncate(rng.choice((10**8, 10**13)))
    elif entry.parent != root:
        away = Path(tempfile.mkdtemp(dir=root.parent)) / "away"  # earlier damage may have left anything under one name
        os.replace(entry.parent, away)
        entry.parent.symlink_to(away)


def is_plain(file):
    """Whether a file can be read here: no link, no pipe, no sparse giant."""
    return file.is_file() and not file.is_symlink() and file.stat().st_size < 10**6


def seal_again(root, rng):
    """Hashes and sizes of the files as they are now: only what is inside them can still be wrong."""
    group = root / "zarr.json"
    try:
        tree = json.loads(group.read_bytes() if is_plain(group) else b"")
        seal = tree["attributes"][records.SEAL]
        for name in seal["files"]:
            content = (root / name).read_bytes() if is_plain(root / name) else b""
            seal["files"][name] = hashlib.sha256(content).hexdigest()
            seal["bytes"][name] = len(content)
        if rng.random() < 0.3:
            del seal["bytes"]
        group.write_text(json.dumps(tree))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass


def damage_record(copy, rng):
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files = sorted(name for name in copy.files if (copy.root / name).is_file())
        name = rng.choice(files) if files and rng.random() < 0.6 else "zarr.json"
        file = copy.root / name
        if not is_plain(file):
            continue
        kind, content = rng.random(), file.read_bytes()
        if kind < 0.35:
            file.write_bytes(damage_bytes(content, rng))
        elif kind < 0.75 and name.endswith(".json"):
            try:
                file.write_bytes(edit_json(content, rng))
            except (ValueError, TypeError, RecursionError, KeyError):
                continue
        elif kind < 0.85 and len(files) > 1:
            other = copy.root / rng.choice(files)
            if is_plain(other):
                file.write_bytes(other.read_bytes())
        else:
            replace_entry(copy.root, name, rng)
    if rng.random() < 0.6:
        seal_again(copy.root, rng)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    root = tmp_path_factory.mktemp("records") / "run"
    records.save(small(), root)
    return Copy(root, {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()})


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.search
@given(st.integers(0, 2**64 - 1))
def test_a_damaged_record_is_itself_or_refused_in_one_line(record, seed):
    record.mend()
    damage_record(record, random.Random(seed))
    began = time.monotonic()
    try:
        loaded = records.load(record.root)
    except ValueError as error:
        assert str(error).startswith("`path`: ") and "\n" not in str(error) and len(str(error)) < 600, error
    else:
        same(loaded, small())
    assert time.monotonic() - began < SECONDS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints") / "run"
    root.mkdir()
    network = random_network(WIDTHS)
    trajectory = gradient_flow(WHITE, network, TIMES, checkpoint=root / "run.npz")
    copy = Copy(root, {"run.npz": (root / "run.npz").read_bytes()})
    return copy, network, trajectory


def rewritten(content, rng):
    """The archive with one array changed, left out, added, compressed or declared larger; all checksums right."""
    members = dict(np.load(io.BytesIO(content)).items())
    name, kind = rng.choice(sorted(members)), rng.randrange(6)
    array = members[name]
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = rng.choice((np.zeros(3), np.array("x"), np.array(["2"]), array.astype(str), array[None]))
    elif kind == 2 and array.dtype.kind in "fi" and array.size:
        array = array.copy()
        array.flat[rng.randrange(array.size)] = rng.choice((0, 1, -1, 7))
        members[name] = array
    elif kind == 3:
        members[rng.choice(("more", "../x", "W9", "state99"))] = np.zeros(2)
    elif kind == 4:
        members[name] = array.astype(rng.choice(("f4", "f8", "i4", "c16", "U5"))) if array.dtype.kind != "U" else array
    stream = io.BytesIO()
    save = np.savez_compressed if rng.random() < 0.2 else np.savez
    save(stream, **members)
    if kind != 5:
        return stream.getvalue()
    declared = io.BytesIO()  # headers that say more than there is
    with zipfile.ZipFile(declared, "w") as archive:
        for key, value in members.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, np.asarray(value))
            text = file.getvalue()
            if key == name:
                text = text.replace(b"'shape': (", b"'shape': (99999999999, ", 1)
            archive.writestr(f"{key}.npy", text)
    return declared.getvalue()


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.search
@given(st.integers(0, 2**64 - 1))
def test_a_damaged_checkpoint_is_itself_or_refused_in_one_line(checkpoint, seed):
    copy, network, trajectory = checkpoint
    rng, file = random.Random(seed), copy.root / "run.npz"
    copy.mend()
    kind, content = rng.random(), file.read_bytes()
    if kind < 0.5:
        file.write_bytes(damage_bytes(content, rng))
    elif kind < 0.85:
        file.write_bytes(rewritten(content, rng))
    else:
        replace_entry(copy.root, "run.npz", rng)
    there, began = os.path.lexists(file), time.monotonic()
    try:
        found = gradient_flow(WHITE, network, TIMES, checkpoint=file)
    except ValueError as error:
        text = str(error)
        assert (
            there and text.startswith("`checkpoint`: ") and "run.npz" in text and "\n" not in text and len(text) < 600
        )
    else:
        np.testing.assert_array_equal(found.ts, trajectory.ts)
        for one, other in zip(found.networks.weights, trajectory.networks.weights, strict=True):
            np.testing.assert_array_equal(one, other)
        assert found.ending == trajectory.ending
    assert time.monotonic() - began < SECONDS
