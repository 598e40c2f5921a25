"""Records under kill -9 and on a full disk, at every kind of moment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_records import dataset, litter, same

from deeplinear import records

# Every operation that changes the disk is an audit event. A child is killed at the k-th of them, or its disk is full
# from the k-th on, or it is killed at the k-th of the two renames that replace a record.
KINDS = {"kill": range(1, 300, 16), "full": range(1, 300, 16), "step": range(1, 4)}
CHILD = """
import errno, os, resource, signal, sys
from deeplinear import records
sys.path.insert(0, {tests!r})
from test_records import dataset
import zarr.core.sync, numcodecs  # before counting, imports write byte code

def run(path, k, kind):
    count = 0
    def hook(event, arguments):
        nonlocal count
        changes = event in ("os.mkdir", "os.rename", "os.rmdir", "os.remove") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if changes:
            step = event == "os.rename" and os.path.basename(arguments[1]).endswith(("run", ".old"))
            count += kind != "step" or step
            if count == k and kind != "full":
                os.kill(os.getpid(), signal.SIGKILL)
            if count >= k and kind == "full" and event in ("os.mkdir", "open"):
                raise OSError(errno.ENOSPC, "No space left on device")
    sys.addaudithook(hook)
    records.save(dataset(2.0), path, overwrite=True)

for kind, ks in {kinds}.items():
    for k in ks:
        path = f"{folder}/{{kind}}{{k}}/run"
        child = os.fork()
        if child == 0:
            try:
                run(path, k, kind)
            except OSError as error:
                os._exit(3 if error.errno == errno.ENOSPC else 4)
            except BaseException:
                import traceback; traceback.print_exc()
                os._exit(5)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        print(kind, k, status, flush=True)
        if status == 0:
            break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_or_out_of_space_at_any_moment(tmp_path):
    records.save(dataset(1.0), tmp_path / "old")
    for kind, ks in KINDS.items():
        for k in ks:
            shutil.copytree(tmp_path / "old", tmp_path / f"{kind}{k}" / "run")
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(tmp_path), kinds=KINDS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outcomes = {kind: [] for kind in KINDS}
    for line in done.stdout.splitlines():
        kind, k, status = line.split()
        outcomes[kind].append(int(status))
        folder = tmp_path / f"{kind}{k}"
        if (folder / "run").exists():
            loaded = records.load(folder / "run")
        else:  # killed between the two renames
            assert (kind, k) == ("step", "2") or kind == "kill"
            with pytest.raises(ValueError, match=r"a replacement was interrupted, the previous record is '.*\.old'$"):
                records.load(folder / "run")
            loaded = records.load(next(folder.glob(".run.*.old")))
        same(loaded, dataset(1.0 if loaded.loss[0] == 1.0 else 2.0))
        if int(status) == 0:
            same(loaded, dataset(2.0))
        if kind == "full" or int(status) == 0:
            assert litter(folder) == []
    assert outcomes["kill"][-1] == 0 and set(outcomes["kill"][:-1]) == {9} and len(outcomes["kill"]) > 5
    assert outcomes["step"] == [9, 9, 0] and not (tmp_path / "step2" / "run").exists()
    assert outcomes["full"][-1] == 0 and {status >> 8 for status in outcomes["full"][:-1]} == {3}, done.stderr
