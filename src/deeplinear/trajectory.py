"""What a run leaves behind: networks at times, how it ended, what it cost."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .network import Network


@dataclass(frozen=True)
class Ending:
    """Why a run stopped and where it stands; a run that stops early says so here and does not raise."""

    kind: str
    """"global minimum", "saddle", "critical point", "time", "steps", "interrupted" or "stalled"."""
    loss: float
    excess: float | None
    """Loss above the smallest loss that these widths can reach; None where that is not known in closed form."""
    time: float
    gradient_norm: float
    """Norm of the gradient with respect to all weights (what moves; masked entries count as zero)."""
    signature: tuple[int, ...] | None
    """The modes, numbered from 1, that stand beyond half of their final strength; None without modes."""
    escape_rate: float | None
    """Rate at which a saddle is left along its steepest direction (minus the lowest Hessian eigenvalue); else None."""
    message: str


@dataclass(frozen=True)
class Statistics:
    """What a run cost."""

    steps: int
    """Accepted steps."""
    evaluations: int | None
    """Evaluations of the vector field; None for an implicit method of diffrax, which does not count them."""
    rejected: int
    """Steps tried and thrown away."""
    solver: str
    seconds: float
    """Wall-clock seconds, compilation included."""


class Trajectory(eqx.Module):
    """Networks along a run: `networks` is one `Network` whose weights carry a leading time axis.

    `trajectory[i]` is the network at `ts[i]`; `trajectory.map(f)` applies a function of one network to all of them.
    In an ensemble a members' axis comes before the time axis, everywhere: weights (member, time, d_l, d_{l-1}),
    `end_to_end` (member, time, d_y, d_x), `map` (member, time, ...). There `trajectory[i]` is the networks of all
    members at `ts[i]`, `trajectory.member(b)` the trajectory of one, and `ending` one `Ending` a member.

    >>> import jax.numpy as jnp
    >>> networks = Network([jnp.ones((1, 1))])
    >>> trajectory = Trajectory(jnp.zeros(1), jax.tree.map(lambda W: W[None], networks))
    >>> trajectory[0], trajectory.end_to_end.shape, trajectory.map(lambda network: network.depth * 2.0).shape
    (Network(1 -> 1: 1 weights, float64), (1, 1, 1), (1,))
    """

    ts: Float[Array, " time"]
    networks: Network
    ending: Any = eqx.field(static=True, default=None)
    """`Ending`, a tuple of them for an ensemble, or None."""
    statistics: Statistics | None = eqx.field(static=True, default=None)
    """What the run cost; for an ensemble, all members together."""
    objective: Any = None
    """What was descended, where it is known; `measure` then knows the loss and the modes by itself."""

    def __len__(self) -> int:
        return self.ts.shape[0]

    def __getitem__(self, index: int) -> Network:
        return jax.tree.map(lambda W: W[..., index, :, :], self.networks)

    def member(self, b: int) -> "Trajectory":
        """The trajectory of member b of an ensemble, without `statistics`; raises `ValueError` if it is no ensemble."""
        if self.networks.weights[0].ndim != 4:
            raise ValueError("`b`: this trajectory is of one network; only an ensemble has members")
        one = lambda tree: jax.tree.map(lambda x: x[b], tree)
        batched = getattr(getattr(self.objective, "optimum", None), "ndim", 2) == 3
        ending = None if self.ending is None else self.ending[b]
        return Trajectory(self.ts, one(self.networks), ending, None, one(self.objective) if batched else self.objective)

    @property
    def end_to_end(self) -> Array:
        """The end-to-end matrix at every time, shape (time, d_y, d_x); (member, time, d_y, d_x) for an ensemble."""
        return self.map(lambda network: network.end_to_end)

    def map(self, f: Callable[[Network], Any]) -> Any:
        """f of every network, stacked along a leading time axis; f must be JAX code."""
        mapped = lambda network: jax.tree.map(jax.numpy.asarray, f(network))
        for _ in self.networks.weights[0].shape[:-2]:
            mapped = jax.vmap(mapped)
        return mapped(self.networks)

    def __repr__(self) -> str:
        if isinstance(self.ending, tuple):
            kinds = Counter(ending.kind for ending in self.ending)
            return f"Trajectory({len(self)} times of {self[0]!r}, {', '.join(f'{n} {k}' for k, n in kinds.items())})"
        last = f", {self.ending.kind} at t = {self.ending.time:.6g}" if self.ending else ""
        return f"Trajectory({len(self)} times of {self[0]!r}{last})" if self.ts.ndim == 1 else "Trajectory(batch)"
