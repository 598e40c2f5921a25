"""Tasks: samples with names and moments, from the literature or from a file."""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

import numpy as np

from deeplinear import loading
from deeplinear._checks import check_whole
from deeplinear.data import Moments, check_samples
from deeplinear.experiment import Experiment
from deeplinear.tables import Choice

MAX_ITEMS = 4096
"""Leaves of the largest `hierarchy`: its one-hot items and its features are dense matrices."""
MAX_LEVELS = 64
"""More than any tree of so many leaves has."""


@dataclass(frozen=True, eq=False)
class Task:
    """Something to learn: samples in rows, their moments, and names for what they mean.

    >>> semantic()
    Task('semantic', samples=4, inputs=4, outputs=7)
    """

    name: str
    X: np.ndarray = field(repr=False)
    """Inputs, shape (n, d_x); a memory map if the file was one."""
    Y: np.ndarray = field(repr=False)
    """Outputs, shape (n, d_y)."""
    moments: Moments = field(repr=False)
    """What a linear network sees; for `semantic` and `hierarchy` as published, not as sample means."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    item_names: tuple[str, ...] = ()
    """Names of the samples; empty where they have none."""
    description: str = ""
    """What it is and whom to thank."""
    teacher: np.ndarray | None = field(default=None, repr=False)
    """The matrix behind the outputs, shape (d_y, d_x), where it is known."""
    remarks: tuple[str, ...] = field(default=(), repr=False)
    """What a reader should know of how the samples were read: what was set aside, left out, taken for something."""

    def __repr__(self) -> str:
        (n, d_x), d_y = self.X.shape, self.Y.shape[1]
        return f"Task({self.name!r}, samples={n}, inputs={d_x}, outputs={d_y})"


def semantic() -> Task:
    r"""Four living things and seven properties: the semantic task of Saxe et al.

    Inputs are one-hot items. As in the papers $\Sigma_{xx} = I$ and $\Sigma_{yx} = Y^T / 4$ with singular values
    $\sqrt 7/4, \sqrt 3/4, 1/4, 1/4$: living, animal or plant, which animal, which plant. The mean over the four samples
    would be `Moments.of(task.X, task.Y)` with $\Sigma_{xx} = I/4$: the same modes, learned on another time scale.

    >>> task = semantic()
    >>> dict(zip(task.item_names, task.Y[:, task.output_names.index("fly")].tolist()))
    {'canary': 1.0, 'salmon': 0.0, 'oak': 0.0, 'rose': 0.0}
    >>> np.linalg.svd(task.moments.sigma_yx)[1].round(6).tolist()
    [0.661438, 0.433013, 0.25, 0.25]

    Source: Saxe, McClelland and Ganguli (2014), arXiv:1312.6120; (2019), arXiv:1810.10531.
    """
    properties = {
        "grow": (1, 1, 1, 1),
        "move": (1, 1, 0, 0),
        "roots": (0, 0, 1, 1),
        "fly": (1, 0, 0, 0),
        "swim": (0, 1, 0, 0),
        "leaves": (0, 0, 1, 0),
        "petals": (0, 0, 0, 1),
    }
    return _one_hot_items(
        "semantic",
        np.array(list(properties.values()), dtype=float).T,
        ("canary", "salmon", "oak", "rose"),
        tuple(properties),
        "4 living things and 7 properties, one-hot inputs (Saxe et al. 2014, 2019)",
    )


def hierarchy(levels: int = 4, branching: int = 2) -> Task:
    r"""A complete tree: items are its leaves, features its nodes, and a leaf has the features of all nodes above it.

    Inputs are one-hot items, moments as in `semantic`: $\Sigma_{xx} = I$, $\Sigma_{yx} = Y^T/n$. With $b$ branches and
    $L$ levels $Y^T$ has the singular values $\sqrt{(b^{L-k} - 1)/(b - 1)}$, once for $k = 0$ and $b^k - b^{k-1}$ times
    for $k = 1, \dots, L - 1$: broad distinctions are learned first. Raises `ValueError` for fewer than 2 levels or
    branches and for more than `MAX_ITEMS` items.

    >>> task = hierarchy()
    >>> task
    Task('hierarchy', samples=8, inputs=8, outputs=15)
    >>> (np.linalg.svd(task.Y)[1] ** 2).round(12).tolist()
    [15.0, 7.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0]

    Source: Saxe, McClelland and Ganguli (2019), arXiv:1810.10531, "hierarchical structure".
    """
    for name, value, most in (("levels", levels, MAX_LEVELS), ("branching", branching, MAX_ITEMS)):
        if check_whole(name, value, most=most) < 2:
            raise ValueError(f"`{name}`: got {value}; a tree needs at least 2")
    items = branching ** (levels - 1)
    if items > MAX_ITEMS:
        raise ValueError(f"`levels`, `branching`: give {items} items; at most {MAX_ITEMS} fit")
    # a node of level k stands above items / b^k neighbouring leaves
    features = [np.kron(np.eye(branching**k), np.ones(items // branching**k)) for k in range(levels)]
    return _one_hot_items(
        "hierarchy",
        np.concatenate(features).T,
        tuple(f"item {i + 1}" for i in range(items)),
        tuple(f"level {k + 1} node {i + 1}" for k in range(levels) for i in range(branching**k)),
        f"{items} leaves of a tree with {levels} levels and {branching} branches, one-hot inputs (Saxe et al. 2019)",
    )


def digits() -> Task:
    """Handwritten digits: 1797 images of 8 x 8 cells in [0, 1], and ten outputs of which one is 1.

    Moments are sample means; pixel counts 0 to 16 are divided by 16.

    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits (test set), UCI Machine Learning
    Repository, doi 10.24432/C50P49, CC BY 4.0; changed in that pixel counts are stored as unsigned 8-bit integers.

    >>> digits()
    Task('digits', samples=1797, inputs=64, outputs=10)
    """
    with (resources.files("deeplinear") / "_data" / "digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        X, Y = archive["pixels"] / 16.0, np.eye(10)[archive["labels"]]
    return Task(
        "digits",
        X,
        Y,
        Moments.of(X, Y),
        input_names=tuple(f"row {i} column {j}" for i in range(1, 9) for j in range(1, 9)),
        output_names=tuple(str(digit) for digit in range(10)),
        description="1797 handwritten digits of 8 x 8 pixels: E. Alpaydin and C. Kaynak (1998), Optical Recognition of "
        "Handwritten Digits, UCI Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0",
    )


def teacher_student(
    widths: Sequence[int],
    singular_values: Any,
    noise: float = 0.0,
    samples: int = 1000,
    seed: int = 0,
) -> Task:
    r"""Gaussian inputs and the noisy outputs of a linear teacher, $y = U \mathrm{diag}(s) V^T x + \sigma \epsilon$.

    `widths` are those of the student; the teacher maps `widths[0]` inputs to `widths[-1]` outputs with Haar-distributed
    U and V and the given singular values s (the others are zero). x and $\epsilon$ are standard normal, $\sigma$ is
    `noise`; inputs are not whitened, moments are sample means. `task.teacher` is $U \mathrm{diag}(s) V^T$. Raises
    `ValueError` for widths, singular values, noise, samples and seeds that cannot be.

    >>> task = teacher_student((5, 4, 3), (2.0, 1.0), noise=0.1, samples=50, seed=7)
    >>> task, np.linalg.svd(task.teacher)[1].round(12).tolist()
    (Task('teacher_student', samples=50, inputs=5, outputs=3), [2.0, 1.0, 0.0])
    """
    widths, s = tuple(widths), np.asarray(singular_values, dtype=float)
    if len(widths) < 2 or min(check_whole("widths", width) for width in widths) < 1:
        raise ValueError(f"`widths`: got {widths}; give at least (d_x, d_y), all positive")
    d_x, d_y = widths[0], widths[-1]
    if s.ndim != 1 or len(s) > min(d_x, d_y) or not np.all(np.isfinite(s) & (s >= 0)):
        raise ValueError(
            f"`singular_values`: got {singular_values}; give at most {min(d_x, d_y)} numbers, finite and at least 0"
        )
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"`noise`: got {noise}; a standard deviation is finite and at least 0")
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0)):
        check_whole(name, value, least)
    rng = np.random.default_rng(seed)
    U, V = _haar_frame(rng, d_y, len(s)), _haar_frame(rng, d_x, len(s))
    teacher = (U * s) @ V.T
    X = rng.standard_normal((samples, d_x))
    Y = X @ teacher.T + noise * rng.standard_normal((samples, d_y))
    return Task(
        "teacher_student",
        X,
        Y,
        Moments.of(X, Y),
        input_names=tuple(f"x{i + 1}" for i in range(d_x)),
        output_names=tuple(f"y{i + 1}" for i in range(d_y)),
        description=f"{samples} Gaussian samples, linear teacher with singular values {s.tolist()}, noise {noise:g}",
        teacher=teacher,
    )


def load(
    path: Any,
    target: Any = None,
    *,
    inputs: Any = None,
    drop: Any = None,
    missing: Literal["refuse", "drop"] = "refuse",
    classes: Any = None,
) -> Task:
    """A task from a file; rows are samples, columns without names are counted from 1 (`x1`, `y1`).

    - `.npz` with arrays `x` and `y` (or `X` and `Y`); a vector y is one output.
    - `.npy`: the inputs, with the outputs as a pair, `("x.npy", "y.npy")` or `"x.npy,y.npy"`, or as `target="y.npy"`.
      Both stay memory maps, moments are taken in slices: larger than memory is fine.
    - `.csv`, `.tsv` with a header (commas, semicolons, tabs, bars or blanks; UTF-8, UTF-16 or cp1252) and `.parquet`
      (needs pyarrow, extra `table`). `target` names the output columns, `"a,b"` or `("a", "b")`; `inputs` the inputs,
      else all others but those in `drop`. A target of texts becomes one column of zeros and ones per class, such as
      `species=setosa`; classes written as numbers stay numbers unless they are named in `classes`. true and false are 1
      and 0. Names of rows (a first column that has no name, counts the rows or names each of them, an index that pandas
      saved) are set aside. `missing="drop"` leaves rows with missing values out.

    Moments are sample means, nothing is centred; `task.remarks` says what was set aside or taken for something. Raises
    `ValueError` in one line that names the file, the line and the column for missing values, text among numbers,
    infinity, numbers that 64 bits would change, uneven rows, unknown columns and damaged files.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "plants.csv")
    ...     _ = file.write_text("petal,sepal,species\\n1.4,5.1,setosa\\n4.7,7.0,versicolor\\nNA,6.3,virginica\\n")
    ...     task = load(file, target="species", missing="drop")
    >>> task.output_names, task.remarks
    (('species=setosa', 'species=versicolor'), ('1 of 3 rows have missing values and were left out',))
    """
    samples = loading.read(path, Choice(target, inputs, drop, missing, classes))
    try:
        X, Y = check_samples(samples.X, samples.Y)
        moments = Moments.of(X, Y)
    except ValueError as error:
        raise ValueError(f"{error} (in {str(path)!r})") from None
    # a name that is no text must not spoil titles
    place = os.fsencode(str(path)).decode("utf-8", "replace")
    first = str(path if isinstance(path, str | os.PathLike) else path[0])
    name = os.path.basename(os.fsencode(first).decode("utf-8", "replace"))
    outputs = f", outputs {target}" if target is not None else ""
    return Task(
        f"./{name}" if name.startswith("-") else name,
        X,
        Y,
        moments,
        samples.input_names,
        samples.output_names,
        description=f"file {place}{outputs}",
        remarks=samples.remarks,
    )


TASKS: dict[str, Callable[[], Task]] = {"semantic": semantic, "hierarchy": hierarchy, "digits": digits}
"""Tasks that need no arguments, by the names that `resolve` and the command line know."""


def resolve(data: Any, target: Any = None, **columns: Any) -> Task:
    """The task of that name (`semantic`, `hierarchy`, `digits`), or else of that file, `load`ed with all arguments.

    Raises `ValueError` for anything else, and for a `target` (or `inputs`, ...) that a named task has no use for.

    >>> resolve("digits").output_names[:3]
    ('0', '1', '2')
    """
    if isinstance(data, str) and data in TASKS:
        for name, value in {"target": target, **columns}.items():
            if value != Choice._field_defaults.get(name):
                raise ValueError(f"`{name}`: got {value!r}, but the task {data!r} has its own outputs; leave it out")
        return TASKS[data]()
    if isinstance(data, str | os.PathLike) and not os.path.exists(data) and "," not in str(data):
        near = difflib.get_close_matches(str(data), TASKS, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"`data`: got {str(data)!r}; {guess}give a task ({', '.join(TASKS)}) or a file, no such file exists"
        )
    return load(data, target, **columns)


def of(experiment: Experiment) -> Task:
    """The task that an experiment names.

    >>> of(Experiment(data="semantic"))
    Task('semantic', samples=4, inputs=4, outputs=7)
    """
    chosen = {name: getattr(experiment, name) for name in Choice._fields}
    return resolve(experiment.data, **chosen)


def _one_hot_items(
    name: str, Y: np.ndarray, items: tuple[str, ...], features: tuple[str, ...], description: str
) -> Task:
    moments = Moments.given(Y.T / len(Y))
    return Task(name, np.eye(len(Y)), Y, moments, items, features, items, description)


def _haar_frame(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Haar-distributed orthonormal columns; QR alone is not Haar, the signs of R's diagonal have to be taken out."""
    Q, R = np.linalg.qr(rng.standard_normal((rows, columns)))
    return Q * np.where(np.diagonal(R) < 0, -1.0, 1.0)
