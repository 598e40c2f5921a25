"""Files and folders that appear whole or not at all, replace only what is ours, and are read as plain files alone."""

import glob
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Ours = Callable[[Path], str | None]
"""Says of an existing folder what in it is not ours, by its path inside; None where all of it may be replaced."""
SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that file managers leave in every folder; nothing is lost with them."""
DEEPEST = Path("record.zarr", "theory_mode_strengths", "c", "1000", "1000", "1000")
"""As long as the names below a folder of results get: a path too long for the system shows before anything runs."""
PROBE_BYTES = 2**16


def check_name(path: str | os.PathLike, argument: str = "path") -> Path:
    """An absolute path; `ValueError` where the name is empty, or no text that could be printed and stored.

    >>> check_name("a/../b").name
    'b'
    """
    text = os.fspath(path)
    if not text or any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"`{argument}`: got {text!r}; give a name in plain text (no zero bytes, no broken UTF-8)")
    return Path(os.path.abspath(text))


def only_empty(folder: Path) -> str | None:
    """The first entry of a folder; None where it is empty.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     only_empty(Path(folder))
    """
    return next((name for name in sorted(os.listdir(folder)) if name not in SYSTEM), None)


def check_free(path: Path, overwrite: bool, ours: Ours = only_empty, argument: str = "path") -> None:
    """Raise `ValueError` unless `atomic_folder` may write to `path`: free, or a real folder with nothing but ours.

    >>> check_free(Path("a/folder/that/is/not/there"), overwrite=False)
    """
    path = check_name(path, argument)
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ValueError(f"`{argument}`: {str(path)!r} exists already; choose another path or allow to overwrite it")
    if path.is_symlink() or not path.is_dir():
        kind = "is a link" if path.is_symlink() else "is no folder"
        raise ValueError(f"`{argument}`: {str(path)!r} {kind}, so it is not replaced; choose another path")
    if path in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"`{argument}`: {str(path)!r} is or holds the working directory; choose another path")
    stranger = ours(path)
    if stranger is not None:
        raise ValueError(
            f"`{argument}`: {str(path)!r} holds {stranger!r}, which was not written here, so nothing in it is "
            "replaced; move that away or choose another path"
        )


@contextmanager
def atomic_folder(path: str | os.PathLike, overwrite: bool = False, ours: Ours = only_empty) -> Iterator[Path]:
    """A new folder beside `path` to write into; it becomes `path` when the block ends and vanishes if it raises.

    Everything in it is synced to the disk before the rename. With `overwrite` a folder of which `ours` says that
    nothing in it is foreign steps aside first, and comes back if the rename fails. A process killed inside the block
    leaves `path` untouched and a hidden `.NAME.*.partial` that nothing reads.

    Raises `ValueError` if `path` exists without `overwrite`, holds anything foreign, is a link or a file, or holds the
    working directory.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_folder(f"{parent}/out") as folder:
    ...         _ = (folder / "run.json").write_text("{}")
    ...     [str(file.relative_to(parent).as_posix()) for file in Path(parent).rglob("*.json")]
    ['out/run.json']
    """
    path = check_name(path)
    check_free(path, overwrite, ours)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, aside = beside(path, "partial"), beside(path, "old")

    def clean() -> None:
        if os.path.lexists(aside) and not os.path.lexists(path):
            os.rename(aside, path)
        for folder in (partial, aside):
            shutil.rmtree(folder, ignore_errors=True)

    with _cleaned(clean):
        partial.mkdir()
        yield partial
        _sync(partial)
        check_free(path, overwrite, ours)  # once more: another process may have been faster
        # an empty folder is replaced in one step, so that a claim is never free for a moment
        if os.path.lexists(path) and (os.name != "posix" or os.listdir(path)):
            os.rename(path, aside)
        os.rename(partial, path)
        _sync_entry(path.parent)


_UNFINISHED: list[Callable[[], None]] = []


@contextmanager
def _cleaned(clean: Callable[[], None]) -> Iterator[None]:
    """Calls `clean` when the block ends, whatever ends it, `give_up` included."""
    _UNFINISHED.append(clean)
    try:
        yield
    finally:
        clean()
        _UNFINISHED.remove(clean)


def give_up() -> None:
    """Removes everything that is not finished; for a process that ends without leaving its blocks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, suppress(FileNotFoundError):
    ...     with atomic_folder(f"{folder}/out") as partial:
    ...         give_up()
    ...         os.listdir(folder)
    []
    """
    for clean in reversed(_UNFINISHED):
        with suppress(OSError):
            clean()


@contextmanager
def claimed(candidates: Iterable[Path], overwrite: bool, ours: Ours, argument: str = "path") -> Iterator[Path]:
    """The first of the candidates that is free, kept for this process as an empty folder until the block ends.

    Making a folder is atomic, so two processes never hold the same one. It has been tried before the block begins: a
    small file was written, synced and deleted as deep as results go. What is still empty afterwards is removed again,
    and so are the parents that were made for it. With `overwrite` the first candidate may exist: a folder of `ours`.

    Raises `ValueError` where no candidate is free and where the disk refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with claimed([Path(parent, "run-1")], False, only_empty) as folder:
    ...         folder.is_dir(), folder.name
    ...     os.listdir(parent)
    (True, 'run-1')
    []
    """
    made: list[Path] = []

    def clean() -> None:
        for folder in reversed(made):
            with suppress(OSError):  # not empty: it has results, or another process uses it
                folder.rmdir()

    with _cleaned(clean):
        candidate = path = Path()
        try:
            for candidate in candidates:
                path = check_name(candidate, argument)
                _make_parents(path.parent, made)
                made.append(path)
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    made.pop()
            else:
                check_free(path, overwrite, ours, argument)
            _probe(path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ValueError(f"`{argument}`: {str(path)!r} cannot be written ({reason}); choose another path") from None
        yield candidate


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        made.append(new)
        try:
            new.mkdir()
        except FileExistsError:
            made.pop()


def _probe(path: Path) -> None:
    """Write and delete what `atomic_folder` will write, in small."""
    partial = beside(path, "partial")
    with _cleaned(lambda: shutil.rmtree(partial, ignore_errors=True)):
        file = partial / DEEPEST
        file.parent.mkdir(parents=True)
        with file.open("wb") as stream:
            stream.write(b"\0" * PROBE_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileNotFoundError):
            os.stat(path / DEEPEST)  # its own name may be longer than that of the partial folder


@contextmanager
def atomic_file(path: str | os.PathLike, argument: str = "path") -> Iterator[Path]:
    """A new file beside `path` to write; it replaces `path` when the block ends, synced, and vanishes if it raises.

    A link is followed: the file that it points to is replaced. Raises `ValueError` where the folder does not exist and
    where `path` is something else than a plain file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(f"{folder}/run.txt") as file:
    ...         _ = file.write_text("1")
    ...     os.listdir(folder)
    ['run.txt']
    """
    target = Path(os.path.realpath(check_name(path, argument)))
    if not target.parent.is_dir():
        raise ValueError(f"`{argument}` is in a folder that does not exist: {target.parent}; create it first")
    if target.is_dir():
        raise ValueError(f"`{argument}` is a folder: {target}; name a file in it")
    if target.exists() and not target.is_file():
        raise ValueError(f"`{argument}`: {target} is no plain file; give another name")
    partial = beside(target, f"partial{target.suffix[:20]}")
    with _cleaned(lambda: partial.unlink(missing_ok=True)):
        yield partial
        _sync_entry(partial)
        os.replace(partial, target)


def read_plain(path: Path, most: int | None = None) -> bytes:
    """The bytes of a plain file of at most `most` bytes; `OSError` for anything else (pipes, devices, folders).

    >>> read_plain(Path(os.devnull))
    Traceback (most recent call last):
    ...
    OSError: is no plain file
    """
    # a pipe without a writer blocks whoever opens it, unless told not to
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("is no plain file")
        if most is not None and status.st_size > most:
            raise OSError(f"has {status.st_size} bytes, more than the {most} expected")
        return stream.read(status.st_size)


def beside(path: Path, ending: str) -> Path:
    """A hidden name in the same folder that nobody else has; short, whatever the length of the name itself."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:12]}.{ending}")


def forget_partial(path: Path) -> None:
    """Deletes what processes that were killed while they wrote the file `path` have left beside it."""
    path = Path(os.path.realpath(path))
    for left in path.parent.glob(f".{glob.escape(path.name[:40])}.{'[0-9a-f]' * 12}.partial*"):
        with suppress(OSError):
            left.unlink()


def set_aside(path: Path) -> list[str]:
    """What an interrupted replacement of `path` has left, oldest name first."""
    return sorted(map(str, path.parent.glob(f".{glob.escape(path.name[:40])}.*.old")))


def _sync(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for file in files:
            _sync_entry(Path(parent, file))
        _sync_entry(Path(parent))


def _sync_entry(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
