"""Segments of a flow in compiled form: one network, or the members of an ensemble one after another."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..network import Network
from ..running.compiling import as_suits, in_one_kernel, jitted
from ..running.packing import Layout, layout_of, packed, traced_packed
from . import stepping
from .stepping import Limits, Method, Problem, Progress


def advance(method: Method, problem: Problem, progress: Progress, limits: Limits, budget: Any):
    """`stepping.advance`, compiled once per method and shape in the form that suits it."""
    state = method, problem, progress, limits, budget
    return as_suits(problem.objective, progress.network, lambda: _one_kernel(*state), lambda: _plain(*state))


def advance_members(method: Method, each: Problem, shared: Problem, *state: Any):
    """`advance` of every member of an ensemble: `state` with a leading axis, see `over_members`."""
    members = method, each, shared, *state
    return as_suits(shared.objective, state[0].network, lambda: _as_kernels(*members), lambda: _members_plain(*members))


def over_members(f: Callable) -> Callable:
    """f(method, problem, *state) -> F(method, each, shared, *state), for states with a leading axis of members.

    `each` is the part of the problem that has that axis too (None: nothing has), `shared` the rest. On the CPU the
    members follow one another, for in lockstep all would wait for the slowest at every loop; elsewhere they go side by
    side.
    """

    return jitted(partial(_members, f), 3)


def _members(f: Callable, method: Any, each: Problem | None, shared: Problem, *state: Any):
    one = lambda member: f(method, shared if each is None else eqx.combine(member[0], shared), *member[1:])
    return jax.lax.map(one, (each, *state)) if one_by_one() else jax.vmap(one)((each, *state))


def one_by_one() -> bool:
    """Whether members follow one another."""
    return jax.default_backend() == "cpu"


begin = jitted(stepping.begin)
"""`stepping.begin`, compiled once per method and shape."""
_plain = jitted(stepping.advance)


def _kernel(known: tuple[Method, Layout], problem: Problem, numbers: Any):
    """One kernel from and to packed numbers."""
    method, layout = known
    progress, *outputs = in_one_kernel(stepping.advance, method, problem, *layout.unpack(numbers))
    return traced_packed(progress), *outputs


_kernels = over_members(_kernel)
_members_plain = over_members(stepping.advance)


def _as_kernels(method: Method, each: Problem, shared: Problem, *state: Any):
    """Members one after another, each as one kernel."""
    layout, after = layout_of(state, 1), layout_of(state[0], 1)
    numbers, *outputs = _kernels((method, layout), each, shared, packed(state, 1))
    return after.unpack(np.asarray(numbers)), *outputs


def _one_kernel(method: Method, problem: Problem, *state: Any):
    """The program of ensembles with two places, the second idle.

    A loop of length one would be unrolled, and so would one whose second place is known to the compiler: both round
    otherwise. Hence the places are put together and taken apart on the host.
    """
    numbers = packed(state)
    two = np.stack([numbers, np.zeros_like(numbers)])
    both = _kernels((method, layout_of(state)), None, problem, two)
    numbers, *outputs = jax.tree.map(lambda x: np.asarray(x)[0], both)
    return layout_of(state[0]).unpack(numbers), *outputs


def text_of_one_kernel(method: Method, problem: Problem, network: Network) -> str:
    """What XLA made of the tagged form, for whoever wants to see whether the tag is honoured."""
    progress = begin(method, problem, network, np.asarray(1e-6))
    numbers: list[Any] = [np.full(stepping.BUFFER, np.inf), *(np.asarray(1.0),) * 7]
    form: Any = eqx.filter_jit(_kernel)
    state = progress, Limits(*numbers), np.asarray(1)
    layout = layout_of(state)
    lowered = form.lower((method, layout), problem, packed(state))
    return lowered.compile().compiled.as_text()
