"""How a segment is compiled: small networks as one kernel, all others as calls of matrix products.

XLA runs a loop on the CPU operation by operation, and each one costs about as much to start as multiplying two 6 x 6
matrices costs to do. Two changes of form take that away for small networks: products become fused sums
(`_linalg.fused_products`), and the tag `xla_cpu_small_call` asks XLA to compile the tagged function, loops and all,
into one piece of machine code. An evaluation of the field of 11-6-6-6-6-4 then takes 0.25 microseconds instead of 5.

The tag is internal to XLA. Where it is not honoured the program runs as any other, slower; where XLA cannot compile the
tagged program ("not implemented") the plain form is used. Values agree to rounding in every case; a test measures
that the tag still does its work.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
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
    if not is_small(progress.network) or _refused:
        return _plain(method, problem, progress, limits, budget)
    # two places, the second idle: a loop of length one would be unrolled, and round otherwise than an ensemble's
    nothing, shared = eqx.partition(problem, jax.tree.map(lambda _: False, problem))
    state = _beside_one_that_stays((progress, limits, budget))
    return _first(advance_members(method, nothing, shared, *state))


def advance_members(method: Method, each: Problem, shared: Problem, *state: Any):
    """`advance` of every member of an ensemble: `state` with a leading axis, see `over_members`."""
    if is_small(state[0].network) and not _refused:
        try:
            return _members_as_kernels(method, each, shared, *state)
        except jax.errors.JaxRuntimeError as error:
            if "not implemented" not in str(error).lower():
                raise
            _refused.append(str(error))
    return _members_plain(method, each, shared, *state)


def over_members(f: Callable) -> Callable:
    """f(method, problem, *state) -> F(method, each, shared, *state), for states with a leading axis of members.

    `each` is the part of the problem that has that axis too, `shared` the rest. On the CPU the members follow one
    another, for in lockstep all would wait for the slowest at every loop; elsewhere they go side by side.
    """

    @eqx.filter_jit(**OPTIONS)
    def members(method: Method, each: Problem, shared: Problem, *state: Any):
        one = lambda member: f(method, eqx.combine(member[0], shared), *member[1:])
        return jax.lax.map(one, (each, *state)) if one_by_one() else jax.vmap(one)((each, *state))

    return members


def one_by_one() -> bool:
    """Whether members follow one another."""
    return jax.default_backend() == "cpu"


_refused: list[str] = []
"""What XLA said when it could not compile the tagged form; then it is not asked again."""

begin = eqx.filter_jit(stepping.begin, **OPTIONS)
"""`stepping.begin`, compiled once per method and shape."""
_plain = eqx.filter_jit(stepping.advance, **OPTIONS)


def _kernel(method: Method, problem: Problem, progress: Progress, limits: Limits, budget: Any):
    dynamic, static = eqx.partition((problem, progress, limits, budget), eqx.is_array)

    def whole(dynamic):
        with fused_products():
            return stepping.advance(method, *eqx.combine(dynamic, static))

    with set_xla_metadata(xla_cpu_small_call="true", inlineable="false"):
        return jax.jit(whole, inline=False)(dynamic)


@eqx.filter_jit
def _beside_one_that_stays(state: Any) -> Any:
    return jax.tree.map(lambda x: jnp.stack([x, jnp.zeros_like(x)]), state)


@eqx.filter_jit
def _first(state: Any) -> Any:
    return jax.tree.map(lambda x: x[0], state)


_members_as_kernels = over_members(_kernel)
_members_plain = over_members(stepping.advance)


def text_of_one_kernel(method: Method, problem: Problem, network: Network) -> str:
    """What XLA made of the tagged form, for whoever wants to see whether the tag is honoured."""
    progress = begin(method, problem, network, np.asarray(1e-6))
    numbers: list[Any] = [np.full(stepping.BUFFER, np.inf), *(np.asarray(1.0),) * 6]
    form: Any = eqx.filter_jit(_kernel)
    lowered = form.lower(method, problem, progress, Limits(*numbers), np.asarray(1))
    return lowered.compile().compiled.as_text()
