"""How a segment is compiled: small networks as one kernel, all others as calls of matrix products.

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

import equinox as eqx
import jax
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

from .._linalg import fused_products
from ..network import Network
from . import stepping
from .stepping import Limits, Method, Problem, Progress

WIDEST, DEEPEST = 12, 6  # up to which one kernel is faster; deeper ones take too long to compile
# Eigen's threads cost more than they bring at the widths of these networks: 2.3 times faster without
OPTIONS: dict[str, Any] = {"compiler_options": {"xla_cpu_multi_thread_eigen": False}}


def is_small(network: Network) -> bool:
    """Whether one kernel is the faster form."""
    return max(network.widths) <= WIDEST and network.depth <= DEEPEST and jax.default_backend() == "cpu"


def advance(method: Method, problem: Problem, progress: Progress, limits: Limits, budget: Any):
    """`stepping.advance`, compiled once per method and shape in the form that suits it."""
    state = method, problem, progress, limits, budget
    return _as_suits(problem, progress.network, lambda: _one_kernel(*state), lambda: _plain(*state))


def advance_members(method: Method, each: Problem, shared: Problem, *state: Any):
    """`advance` of every member of an ensemble: `state` with a leading axis, see `over_members`."""
    members = method, each, shared, *state
    return _as_suits(shared, state[0].network, lambda: _members_as_kernels(*members), lambda: _members_plain(*members))


def _as_suits(problem: Problem, network: Network, kernel: Callable, plain: Callable) -> Any:
    """One kernel for small networks, unless the objective does not want it or XLA refuses."""
    if is_small(network) and getattr(problem.objective, "one_kernel", True) and not _refused:
        try:
            return kernel()
        except jax.errors.JaxRuntimeError as error:
            if "implemented" not in str(error).lower():  # "not implemented", "UNIMPLEMENTED"
                raise
            _refused.append(str(error))
    return plain()


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
        fixed = tuple(None if eqx.is_array(leaf) else leaf for leaf in leaves)
        arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
        return compiled(structure, fixed, arrays, *arguments[mixed:])

    return call


def over_members(f: Callable) -> Callable:
    """f(method, problem, *state) -> F(method, each, shared, *state), for states with a leading axis of members.

    `each` is the part of the problem that has that axis too, `shared` the rest. On the CPU the members follow one
    another, for in lockstep all would wait for the slowest at every loop; elsewhere they go side by side.
    """

    return jitted(partial(_members, f), 3)


def _members(f: Callable, method: Method, each: Problem, shared: Problem, *state: Any):
    one = lambda member: f(method, eqx.combine(member[0], shared), *member[1:])
    return jax.lax.map(one, (each, *state)) if one_by_one() else jax.vmap(one)((each, *state))


def one_by_one() -> bool:
    """Whether members follow one another."""
    return jax.default_backend() == "cpu"


_refused: list[str] = []
"""What XLA said when it could not compile the tagged form; then it is not asked again."""

begin = jitted(stepping.begin)
"""`stepping.begin`, compiled once per method and shape."""
_plain = jitted(stepping.advance)


def _kernel(method: Method, problem: Problem, progress: Progress, limits: Limits, budget: Any):
    dynamic, static = eqx.partition((problem, progress, limits, budget), eqx.is_array)

    def whole(dynamic):
        with fused_products():
            return stepping.advance(method, *eqx.combine(dynamic, static))

    with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
        return jax.jit(whole, inline=False)(dynamic)


def _one_kernel(method: Method, problem: Problem, *state: Any):
    """The program of ensembles with two places, the second idle.

    A loop of length one would be unrolled, and so would one whose second place is known to the compiler: both round
    otherwise. Hence the places are put together and taken apart on the host.
    """
    nothing, shared = eqx.partition(problem, False)
    two = jax.tree.map(_beside_zeros, state)
    return jax.tree.map(lambda x: np.asarray(x)[0], _members_as_kernels(method, nothing, shared, *two))


def _beside_zeros(x: Any) -> np.ndarray:
    x = np.asarray(x)
    two = np.zeros((2, *x.shape), x.dtype)
    two[0] = x
    return two


_members_as_kernels = over_members(_kernel)
_members_plain = over_members(stepping.advance)


def text_of_one_kernel(method: Method, problem: Problem, network: Network) -> str:
    """What XLA made of the tagged form, for whoever wants to see whether the tag is honoured."""
    progress = begin(method, problem, network, np.asarray(1e-6))
    numbers: list[Any] = [np.full(stepping.BUFFER, np.inf), *(np.asarray(1.0),) * 7]
    form: Any = eqx.filter_jit(_kernel)
    lowered = form.lower(method, problem, progress, Limits(*numbers), np.asarray(1))
    return lowered.compile().compiled.as_text()
