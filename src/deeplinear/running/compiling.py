"""How compiled loops are made: small networks as one kernel, all others as calls of matrix products.

XLA runs a loop on the CPU operation by operation, and each one costs about as much to start as multiplying two 6 x 6
matrices costs to do. Two changes of form take that away for small networks: products become fused sums
(`_linalg.fused_products`), and the tag `xla_cpu_small_call` asks XLA to compile the tagged function, loops and all,
into one piece of machine code. An evaluation of the field of 11-6-6-6-6-4 then takes 0.25 microseconds instead of 5.

The tag is internal to XLA. Where it is not honoured the program runs as any other, slower; where XLA cannot compile the
tagged program ("not implemented", for instance a scatter) the plain form is used, and so it is for an objective that
says `one_kernel = False` of itself, because it is more work than the network or takes long to compile. Values agree to
rounding in every case; a test measures that the tag still does its work.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from .._linalg import fused_products
from ..network import Network

WIDEST, DEEPEST = 12, 6  # up to which one kernel is faster; deeper ones take too long to compile
# Eigen's threads cost more than they bring at the widths of these networks: 2.3 times faster without
OPTIONS: dict[str, Any] = {"compiler_options": {"xla_cpu_multi_thread_eigen": False}}


def is_small(network: Network) -> bool:
    """Whether one kernel is the faster form."""
    return max(network.widths) <= WIDEST and network.depth <= DEEPEST and jax.default_backend() == "cpu"


def as_suits(objective: Any, network: Network, kernel: Callable, plain: Callable) -> Any:
    """One kernel for small networks, unless the objective does not want it or XLA refuses."""
    if is_small(network) and getattr(objective, "one_kernel", True) and not refused:
        try:
            return kernel()
        except jax.errors.JaxRuntimeError as error:
            if "implemented" not in str(error).lower():  # "not implemented", "UNIMPLEMENTED"
                raise
            refused.append(str(error))
    return plain()


def in_one_kernel(f: Callable, *arguments: Any) -> Any:
    """f of arguments, inside `jax.jit`, as one piece of machine code; what is no array in them is compiled in."""
    leaves, structure = jax.tree.flatten(arguments)
    dynamic = [leaf if isinstance(leaf, jax.Array) else None for leaf in leaves]

    def whole(dynamic):
        filled = [leaf if array is None else array for leaf, array in zip(leaves, dynamic, strict=True)]
        with fused_products():
            return f(*jax.tree.unflatten(structure, filled))

    with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
        return jax.jit(whole, inline=False)(dynamic)


def jitted(f: Callable, mixed: int = 2) -> Callable:
    """f compiled; its first `mixed` arguments may hold what is no array, and it is compiled once for each such thing.

    Does what `equinox.filter_jit` does in a tenth of its time per call, which a flow of a small network would notice.
    """

    @partial(jax.jit, static_argnums=(0, 1), **OPTIONS)
    def compiled(structure: Any, fixed: tuple, arrays: list, *state: Any):
        numbers = iter(arrays)
        leaves = [next(numbers) if leaf is None else leaf for leaf in fixed]
        return f(*jax.tree.unflatten(structure, leaves), *state)

    def call(*arguments: Any):
        leaves, structure = jax.tree.flatten(arguments[:mixed])
        fixed = tuple(None if isinstance(leaf, jax.Array) else leaf for leaf in leaves)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        return compiled(structure, fixed, arrays, *arguments[mixed:])

    return call


refused: list[str] = []
"""What XLA said when it could not compile the tagged form; then it is not asked again."""
