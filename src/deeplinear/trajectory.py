"""What a run leaves behind: networks at times, how it ended, what it cost."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Float

from ._arrays import position
from ._trees import value
from ._types import Array
from .network import Network

AT_ONCE = 2**24
"""Weights of the original widths up to which all times are lifted together."""


@dataclass(frozen=True)
class Ending:
    """Why a run stopped and where it stands; a run that stops early says so here and does not raise."""

    kind: str
    """"global minimum", "saddle", "critical point", "left the flow" (rounding led the run where the exact flow from its
    start never goes), "time", "steps", "interrupted", "stalled" or "diverged"."""
    loss: float
    excess: float | None
    """Loss above the smallest loss that these widths can reach; None where that is not known in closed form."""
    time: float
    gradient_norm: float
    """Norm of the gradient with respect to all weights (what moves; masked entries count as zero)."""
    signature: tuple[int, ...] | None
    """The modes, numbered from 1, that stand beyond half of their final strength; None without modes."""
    escape_rate: float | None
    """Rate at which a saddle is left along its steepest direction (minus the lowest Hessian eigenvalue); else None.
    Not computed for the members of ensembles."""
    message: str
    predicted_loss: float | None = None
    """Loss of the saddle at which the exact flow ends where the start obstructs it (`obstructions.obstruction`); None:
    nothing is known to keep it from the minimum. A descent is not the flow, and has none."""
    stable_rate: float | None = None
    """Learning rate below which a descent that diverged would have been stable; None for everything else."""
    unexplained: float | None = None
    """`excess` as a share of what there is to explain: the loss of the best constant less the smallest loss, where the
    data's means are known, or the excess loss of the zero map where that is less; None where nothing is, or unknown."""


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
    widths: tuple[int, ...] | None = None
    """Widths of the network that was integrated, smaller than the start's after an exact reduction; None: unknown."""
    endings: tuple | None = None
    """How every task of a sequence ended; None for a single task."""


@value("ending", "statistics")
class Trajectory:
    """Networks along a run: `networks` is one `Network` whose weights carry a leading time axis.

    `trajectory[i]` is the network at `ts[i]`, a slice is a trajectory; `trajectory.map(f)` applies a function of one
    network to all of them.
    In an ensemble a members' axis comes before the time axis, everywhere: weights (member, time, d_l, d_{l-1}),
    `end_to_end` (member, time, d_y, d_x), `map` (member, time, ...). There `trajectory[i]` is the networks of all
    members at `ts[i]`, `trajectory.member(b)` the trajectory of one, and `ending` one `Ending` a member.

    After an exact reduction the smaller networks are what is kept, and networks of the original widths are made of them
    on demand: all by `networks`, one by `trajectory[i]`; `end_to_end` never forms a hidden layer.

    >>> import jax.numpy as jnp
    >>> networks = Network([jnp.ones((1, 1))])
    >>> trajectory = Trajectory(jnp.zeros(1), jax.tree.map(lambda W: W[None], networks))
    >>> trajectory[0], trajectory.end_to_end.shape, trajectory.map(lambda network: network.depth * 2.0).shape
    (Network(1 -> 1: 1 weights, float64), (1, 1, 1), (1,))
    """

    ts: Float[Array, " time"]
    kept: Network
    """What is stored: `networks`, or those of the smaller problem."""
    ending: Any = None
    """`Ending`, a tuple of them for an ensemble, or None."""
    statistics: Statistics | None = None
    """What the run cost; for an ensemble, all members together."""
    objective: Any = None
    """What was descended, where it is known; `measure` then knows the loss and the modes by itself."""
    reduction: Any = None
    """The `reduction.Reduction` whose smaller problem was integrated, or None."""

    def __len__(self) -> int:
        """How many times there are."""
        return self.ts.shape[-1]

    def __getitem__(self, index: Any) -> Any:
        """The network at a time, or the `Trajectory` at a slice of them, which has an ending if it has the last time.

        Raises `IndexError` beyond the ends.
        """
        index = position(index, len(self), "times")
        kept = jax.tree.map(lambda W: W[..., index, :, :], self.kept)
        if not isinstance(index, slice):
            return self._lift(kept)
        last = (range(len(self))[index] or [None])[-1] == len(self) - 1
        ending = self.ending if last else None
        return Trajectory(self.ts[..., index], kept, ending, self.statistics, self.objective, self.reduction)

    def __iter__(self) -> Iterator[Network]:
        return (self[i] for i in range(len(self)))

    @property
    def networks(self) -> Network:
        """The networks at all times: weights (time, d_l, d_{l-1})."""
        return self.kept if self.reduction is None else jax.vmap(self.reduction.lift)(self.kept)

    def _lift(self, network: Network) -> Network:
        return network if self.reduction is None else self.reduction.lift(network)

    def member(self, b: int) -> "Trajectory":
        """The trajectory of member b of an ensemble, without `statistics`.

        Raises `ValueError` if it is no ensemble, and `IndexError` where there is no such member.
        """
        if self.kept.weights[0].ndim != 4:
            raise ValueError("`b`: this trajectory is of one network; only an ensemble has members")
        b = position(b, len(self.kept.weights[0]), "members")
        if isinstance(b, slice):
            raise TypeError("members come one by one; got a slice")
        one = lambda tree: jax.tree.map(lambda x: x[b], tree)
        batched = getattr(getattr(self.objective, "optimum", None), "ndim", 2) == 3
        ending = None if self.ending is None else self.ending[b]
        return Trajectory(self.ts, one(self.kept), ending, None, one(self.objective) if batched else self.objective)

    @property
    def end_to_end(self) -> Array:
        """The end-to-end matrix at every time, shape (time, d_y, d_x); (member, time, d_y, d_x) for an ensemble."""
        whole = (lambda network: network.end_to_end) if self.reduction is None else self.reduction.lift_end_to_end
        return self._over(whole, self.kept.weights[0].shape[:-2])

    def map(self, f: Callable[[Network], Any]) -> Any:
        """f of every network, stacked along a leading time axis; f must be JAX code."""
        mapped = lambda network: jax.tree.map(jax.numpy.asarray, f(self._lift(network)))
        if self.reduction is None or self.reduction.size * len(self) <= AT_ONCE:
            return self._over(mapped, self.kept.weights[0].shape[:-2])
        return jax.lax.map(mapped, self.kept)  # one network of the original widths at a time

    def _over(self, f: Callable[[Network], Any], axes: tuple[int, ...]) -> Any:
        for _ in axes:
            f = jax.vmap(f)
        return f(self.kept)

    def __repr__(self) -> str:
        if self.ts.ndim == 1 and not len(self):
            return "Trajectory(0 times)"
        if isinstance(self.ending, tuple):
            kinds = Counter(ending.kind for ending in self.ending)
            return f"Trajectory({len(self)} times of {self[0]!r}, {', '.join(f'{n} {k}' for k, n in kinds.items())})"
        last = f", {self.ending.kind} at t = {self.ending.time:.6g}" if self.ending else ""
        return f"Trajectory({len(self)} times of {self[0]!r}{last})" if self.ts.ndim == 1 else "Trajectory(batch)"
