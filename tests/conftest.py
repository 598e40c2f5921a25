"""Settings for every test: 64 bits, no silent broadcasting or promotion, compiled programs kept between runs."""

import fcntl
import os
import subprocess
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "jax_enable_x64": "1",
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_compilation_cache_dir": str(user_cache_path("deeplinear") / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": "0",
    # programs of diffrax call back to the host in order to raise, and such are not kept
    "eqx_on_error": "nan",
    "jax_persistent_cache_min_entry_size_bytes": "0",
    # JAX waits for ever where batched factorisations fill its pool of two threads on a busy machine: run in this one,
    # and let the pool be larger
    "jax_cpu_enable_async_dispatch": "0",
    "nproc": "8",
    # compiles up to four times faster; `make test-slow` runs the code that users run
    "xla_flags": "--xla_backend_optimization_level=0",
}
for name, value in SETTINGS.items():  # before JAX is imported, and for the processes that tests start
    os.environ.setdefault(name.upper(), value)

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# a new shape is compiled for seconds: few examples for `make test`, more for `make test-slow`, many for `make search`
for profile, examples in {"quick": 8, "thorough": 60, "search": 10_000}.items():
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        derandomize=True,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("quick")


MAPS = 20_000
"""Memory regions of the process from which compiled programs are let go; Linux allows 65,530, LLVM crashes beyond."""


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Every compiled program holds some memory regions: the whole suite in one process would run out of them."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()


@pytest.fixture
def without_annotations():
    """The library as users have it: annotations are not checked, so that its own checks see every argument."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def engine_library():
    """The compiled engine, built from the sources as they are, by one process at a time."""
    try:
        with (ROOT / "Makefile").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(["make", "engine"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        pytest.fail("the engine's tests build it with `make engine`, and there is no `make` here")
    if done.returncode:
        pytest.fail(f"`make engine` failed:\n{done.stderr[-2000:]}")


@pytest.fixture(params=("baseline", "v3", "v4"))  # library.LEVELS, which is imported after the hooks of jaxtyping
def level(request, monkeypatch):
    """Every instruction set that this processor has, one after another."""
    from deeplinear.dynamics import library

    monkeypatch.setenv(library.FORCED, request.param)
    library.load.cache_clear()
    try:
        library.load()
    except ImportError as error:
        assert "cannot run" in str(error), error
        pytest.skip(str(error))
    yield request.param
    library.load.cache_clear()
