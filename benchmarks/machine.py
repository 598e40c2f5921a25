"""One core for everyone, and the facts about the machine that a number is worthless without."""

import datetime
import os
import platform
from importlib import metadata

PACKAGES = (
    "deeplinear",
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "equinox",
    "diffrax",
    "optax",
    "scikit-sundae",
    "torch",
    "torchdiffeq",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def use_one_core() -> int | None:
    """Holds this process to one thread and one core; returns the core (None: the system cannot pin).

    Call it before numpy, JAX or torch are imported: they read the environment once.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_X64"] = "1"
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))  # core 0 serves most interrupts
    os.sched_setaffinity(0, {core})
    return core


def facts(core: int | None) -> dict:
    """Date, machine and versions, ready for JSON."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "pinned_to_core": core,
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
