"""The floors of the house, read from the imports; the size of its rooms; an example on every public name."""

import ast
import importlib
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import deeplinear

ROOT = Path(deeplinear.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = {
    0: {"_checks", "_arrays", "_second_moment"},
    1: {
        "_layer_order",
        "_types",
        "_linalg",
        "_trees",
        "dynamics",
        "_dataset",
        "_files",
        "_invariant",
        "_memory",
        "_remarks",
        "_whitening",
        "_wiring",
        "conventions",
        "records",
        "experiment",
        "plots",
    },
    2: {"network", "data"},
    3: {
        "_arguments",
        "objectives",
        "tasks",
        "loading",
        "tables",
        "init",
        "trajectory",
        "blockshift",
        "biased",
        "frames",
        "predicates",
        "curvature",
        "decayed_modes",
        "masks",
        "layer_rates",
        "reduction",
        "obstructions",
        "sequences",
        "running",
    },
    4: {"flows", "descent", "exact", "diagnostics", "landscape"},
    5: {"predict", "measuring", "theory", "generalisation"},
    6: {"learning"},
    7: {"reproduce", "estimator", "twins"},
    8: {"cli"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MIXED_FLOORS = (0, 1, 3)  # where one file may stand on another
WITHOUT_JAX = {"plots", "records", "experiment", "_checks", "_dataset", "_files", "_memory"}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 700, 60
GROUPS = (
    "biased",
    "blockshift",
    "conventions",
    "curvature",
    "data",
    "generalisation",
    "init",
    "masks",
    "predicates",
    "records",
    "tasks",
)  # modules that are a public name themselves
ROOMS = ("descent", "diagnostics", "exact", "flows", "landscape", "plots", "theory", "twins")


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def room_of(file: Path) -> str:
    """The file's name in the package, or the folder that it is in."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> set[str]:
    """Absolute names of everything that a file imports anywhere, `from a import b` as a.b."""
    package = ["deeplinear", *file.relative_to(ROOT).parts[:-1]]
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def rooms_used(file: Path) -> set[str]:
    """The rooms of the package that a file imports from, its own left out; "" stands for the package itself."""
    parts = [name.split(".") for name in imported_modules(file) if name.split(".")[0] == "deeplinear"]
    own = room_of(file)
    used = {part[1] if len(part) > 1 and part[1] in FLOOR_OF else "" for part in parts}
    return used - {own}


MODULES = [file for file in FILES if room_of(file) != "__init__"]
names = lambda file: str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", MODULES, ids=names)
def test_imports_only_from_lower_floors(file):
    own = room_of(file)
    assert own in FLOOR_OF, f"{own} has no floor: give it one in this test"
    for used in rooms_used(file) - {""}:
        lower = FLOOR_OF[used] < FLOOR_OF[own]
        beside = FLOOR_OF[used] == FLOOR_OF[own] and FLOOR_OF[own] in MIXED_FLOORS
        assert lower or beside, f"{names(file)} imports {used}"


def test_only_the_top_floor_imports_the_table_of_contents():
    # the names of `deeplinear` itself lead everywhere; its version is all that a file may take from it
    for file in MODULES:
        from_package = {n for n in imported_modules(file) if n.split(".")[0] == "deeplinear" and len(n.split(".")) <= 2}
        from_package = {n for n in from_package if n.removeprefix("deeplinear.") not in FLOOR_OF}
        assert from_package <= {"deeplinear.__version__"}, names(file)


def test_no_circles():
    graph = {room: set() for room in FLOOR_OF}
    for file in MODULES:
        graph[room_of(file)] |= rooms_used(file) - {""}
    while graph:
        free = {room for room, used in graph.items() if not used & graph.keys()}
        assert free, f"a circle among {sorted(graph)}"
        graph = {room: used for room, used in graph.items() if room not in free}


def test_the_reader_of_imports_sees_what_it_should():
    # without this, a mistake above would let everything pass
    assert "objectives" in rooms_used(ROOT / "init" / "plain.py")
    assert {"curvature", "network", "trajectory"} <= rooms_used(ROOT / "flows" / "endings.py")
    assert {"data", "loading"} <= rooms_used(ROOT / "tasks.py")


@pytest.mark.parametrize("file", [file for file in MODULES if room_of(file) in WITHOUT_JAX], ids=names)
def test_reading_and_drawing_never_import_jax(file):
    heavy = {"jax", "jaxlib", "equinox", "jaxtyping"}
    assert not heavy & {name.split(".")[0] for name in imported_modules(file)}
    assert rooms_used(file) <= WITHOUT_JAX | {""}


def test_reading_and_drawing_leave_jax_alone_at_run_time():
    code = (
        "import sys, deeplinear, deeplinear.records, deeplinear.plots, deeplinear.experiment\n"
        "assert deeplinear.plots.report and deeplinear.__version__ and 'SquaredError' in dir(deeplinear)\n"
        "assert 'jax' not in sys.modules, sorted(m for m in sys.modules if m.startswith('jax'))[:3]\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_importing_turns_on_64_bits_unless_the_user_has_said_otherwise():
    code = "import deeplinear, jax.numpy as jnp; print(jnp.zeros(1).dtype)"
    for setting, dtype in ((None, "float64"), ("0", "float32")):
        environment = {"PATH": "", "PYTHONPATH": str(ROOT.parent)} | ({"JAX_ENABLE_X64": setting} if setting else {})
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
        )
        assert done.stdout.strip() == dtype, done.stderr


@pytest.mark.parametrize("file", FILES, ids=names)
def test_files_and_functions_stay_small(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
            assert node.end_lineno - node.lineno + 1 - docstring <= MAX_FUNCTION_LINES, f"{names(file)}: {node.name}"


def public_names() -> dict[str, object]:
    """Every function and class that has an address of at most two words, by that address."""
    found = {name: getattr(deeplinear, name) for name in deeplinear.__all__}
    for group in (*GROUPS, *ROOMS):
        module = importlib.import_module(f"deeplinear.{group}")
        for name, value in vars(module).items():
            own = getattr(value, "__module__", "").startswith(f"deeplinear.{group}")
            if own and not name.startswith("_"):
                found[f"{group}.{name}"] = value
    return {address: value for address, value in found.items() if inspect.isfunction(value) or inspect.isclass(value)}


def is_record(value: object) -> bool:
    """Whether a class only holds fields; what makes such values carries the example."""
    public = (
        [member for name, member in vars(value).items() if not name.startswith("_")] if inspect.isclass(value) else []
    )
    return inspect.isclass(value) and not any(
        inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod) for member in public
    )


@pytest.mark.parametrize("address", sorted(public_names()))
def test_public_names_carry_an_example(address):
    value = public_names()[address]
    assert inspect.getdoc(value), "has no docstring"
    assert is_record(value) or ">>>" in inspect.getdoc(value), "has no example"


def test_only_plain_values_go_without_an_example():
    without = {address for address, value in public_names().items() if ">>>" not in (inspect.getdoc(value) or "")}
    assert without == {"Ending", "Modes", "Statistics", "data.Modes"}
