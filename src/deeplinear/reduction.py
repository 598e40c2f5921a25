"""Exact reductions: a smaller problem whose gradient flow is the original one seen in other coordinates, and back."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._arguments import check_fit
from ._invariant import Edge, extended, invariant_spans
from ._linalg import chain, rank_tolerance
from ._trees import value
from ._types import Array
from .network import Network
from .objectives import SquaredError

WORTHWHILE = 0.9
"""A problem that keeps more than this share of its weights is left as it is."""
RANK_TOLERANCE = 1e-13
"""Parts of sigma_yx and of W(0) as small as this against the whole count as zero: they move nothing in finite time."""


@value()
class Reduction:
    r"""A smaller problem with the same flow, and the way back: $W_l(t) = W_l(0) + P_l (W'_l(t) - W'_l(0)) P_{l-1}^T$.

    `objective` and `network` are the smaller problem W', with the same loss scale, the same clock and, at every time,
    the same loss and excess loss. P_l (d_l, d'_l) has orthonormal columns. Made by `reduce`.

    >>> from deeplinear import init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], d_x=30, d_y=20)
    >>> reduction = reduce(objective, init.gaussian(0, (30, 100, 20), scale=0.1))
    >>> reduction
    Reduction(30 -> 100 -> 20 to 30 -> 50 -> 20)
    >>> reduction.lift(reduction.network).widths
    (30, 100, 20)
    """

    objective: SquaredError
    """The loss of the smaller problem."""
    network: Network
    """The start of the smaller problem."""
    _start: Network
    _start_end_to_end: Array | None  # None where nothing is reduced
    _bases: tuple[Array | None, ...]  # P_0 .. P_h, shapes (d_l, d'_l); None: the identity
    _unseen: Array | None  # P_1^T W_1(0) on inputs that never occur, shape (d'_1, d_x); None: no effect on W

    @property
    def widths_before(self) -> tuple[int, ...]:
        """Widths of the original network.

        >>> reduce(SquaredError.from_moments([[1.0]]), Network([[[2.0]], [[1.0]]])).widths_before
        (1, 1, 1)
        """
        return self._start.widths

    @property
    def widths_after(self) -> tuple[int, ...]:
        """Widths of the smaller network.

        >>> reduce(SquaredError.from_moments([[1.0]]), Network([[[2.0]] * 5, [[1.0] * 5]])).widths_after
        (1, 1, 1)
        """
        return self.network.widths

    @property
    def size(self) -> int:
        """Number of weights of the original network.

        >>> reduce(SquaredError.from_moments([[1.0]]), Network([[[2.0]] * 5, [[1.0] * 5]])).size
        10
        """
        return _weights_of(self.widths_before)

    @property
    def is_trivial(self) -> bool:
        """Whether nothing was worth reducing; `objective` and `network` are then the original ones.

        >>> reduce(SquaredError.from_moments([[1.0]]), Network([[[2.0]], [[1.0]]])).is_trivial
        True
        """
        return all(P is None for P in self._bases)

    def lift(self, reduced: Network) -> Network:
        """The original network at the time of `reduced`, a network on the smaller problem's flow.

        `jax.vmap(reduction.lift)` serves a trajectory, whose weights have a leading time axis. Raises `ValueError`
        for other widths.

        >>> reduction = reduce(SquaredError.from_moments([[1.0]]), Network([[[2.0]] * 5, [[1.0] * 5]]))
        >>> reduction.lift(reduction.network).weights[1].tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0]]
        """
        self._check(reduced.widths, self.widths_after)
        if self.is_trivial:
            return reduced
        layers = zip(self._start.weights, reduced.weights, self.network.weights, pairwise(self._bases), strict=True)
        return Network([_moved(W_0, W - start, above, below) for W_0, W, start, (below, above) in layers])

    def lift_end_to_end(self, reduced: Network | Array | np.ndarray) -> Array:
        """W (d_y, d_x) of the original network, without forming its hidden layers.

        `reduced` is a network on the smaller problem's flow or its end-to-end matrix. The matrix is not enough where
        sigma_xx is singular and W_1(0) answers to inputs that never occur: no loss sees W on them, but it moves with
        the layers above. Raises `ValueError` then, and for other shapes.

        >>> reduction = reduce(SquaredError.from_moments([[1.0]]), Network([[[2.0]] * 5, [[1.0] * 5]]))
        >>> round(float(reduction.lift_end_to_end(reduction.network)[0, 0]), 12)
        10.0
        """
        ends = (self.widths_after[0], self.widths_after[-1])
        if isinstance(reduced, Network):
            self._check(reduced.widths, self.widths_after)
            W = reduced.end_to_end
        else:
            W = jnp.asarray(reduced, dtype=float)
            self._check(W.shape[::-1], ends)
            if self._unseen is not None:
                raise ValueError(
                    "`reduced`: W on inputs that never occur does not follow from the smaller end-to-end matrix; "
                    "give the smaller network"
                )
        if self._start_end_to_end is None:
            return W
        lifted = _moved(self._start_end_to_end, W - self.network.end_to_end, self._bases[-1], self._bases[0])
        if self._unseen is not None and isinstance(reduced, Network):
            above = chain(reduced.weights[1:]) - chain(self.network.weights[1:])
            lifted = _moved(lifted, above @ self._unseen, self._bases[-1], None)
        return lifted

    def _check(self, widths: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if tuple(widths) != expected:
            raise ValueError(f"`reduced`: has widths {tuple(widths)}; the smaller problem has {expected}")

    def __repr__(self) -> str:
        if not all(isinstance(W, jax.Array) for W in (*self._start.weights, *self.network.weights)):
            return "Reduction(...)"  # a pytree in the middle of a transformation
        before, after = (" -> ".join(map(str, widths)) for widths in (self.widths_before, self.widths_after))
        return f"Reduction({before}, nothing to gain)" if self.is_trivial else f"Reduction({before} to {after})"


def reduce(objective: SquaredError, network: Network) -> Reduction:
    r"""The smallest problem found whose gradient flow is exactly the original one in other coordinates.

    Looks for subspaces, one per layer, that $W_l(0)$, $W_l(0)^T$, $\Sigma_{xx}$ map into each other and that hold the
    rows and columns of $\Sigma_{yx}$ and $W(0) \Sigma_{xx}$. On their complements the residual $\Sigma_{yx} - W
    \Sigma_{xx}$ vanishes, so that every slope $W_{l+1:h}^T (\Sigma_{yx} - W \Sigma_{xx}) W_{1:l-1}^T$ stays inside them
    and the rest of every $W_l$ stands still. Hence a hidden layer needs at most $d_{l-1} + d_{l+1}$ neurons, outputs
    rank(sigma_yx) + d_{h-1}; inputs rank(sigma_xx), and in every eigenspace of sigma_xx (whitened: there is one) at
    most rank(sigma_yx) + d_1. Aligned starts, and orthogonal ones between layers of one width, shrink to at most
    rank(sigma_yx) + min(d_x, d_y) in every hidden layer.

    Holds for the flow of this loss and for full-batch gradient descent, not with a mask or weight decay. No width
    falls below the rank that the data and the widths allow, so the smallest loss in reach stays the same. Directions
    are dropped at rounding level only. A problem that would keep more than 90% of its weights is returned as it is.
    Raises `ValueError` for an objective that is no `SquaredError` and for a network of other widths.

    >>> from deeplinear import init
    >>> objective = SquaredError.from_singular_values([3.0, 2.0, 1.0], d_x=64, d_y=10)
    >>> reduce(objective, init.gaussian(0, (64, 32, 32, 10), 1e-3)).widths_after
    (35, 32, 32, 10)
    >>> reduce(objective, init.orthogonal(0, (64, 32, 32, 10), 1e-3)).widths_after
    (16, 13, 13, 10)

    Source: the reduction of wide two-layer networks in Tu, Aranguri and Jacot (2024), carried to any depth and ends.
    """
    _check_problem(objective, network)
    network = jax.tree.map(lambda W: W if W.dtype == float else W.astype(float), network)
    weights = [np.asarray(W) for W in network.weights]  # NumPy's products of tall matrices are faster than JAX's
    W = np.linalg.multi_dot(weights[::-1]) if len(weights) > 1 else weights[0]
    inputs, spans = _input_parts(objective), None
    if inputs:
        layers, enough = network.depth, WORTHWHILE * _weights_of(network.widths)
        too_large = lambda d: _weights_of((sum(d[layers:]), *d[:layers])) > enough
        spans = invariant_spans(*_quiver(objective, weights, inputs), too_large)
    if spans is None:
        return Reduction(objective, network, network, None, (None,) * (network.depth + 1), None)
    return _reduced(objective, network, W, inputs, spans)


def reachable_rank(objective: SquaredError, network: Network) -> int:
    r"""Largest rank that the flow from `network` can ever give to the end-to-end matrix.

    The least dimension of the subspaces that `reduce` looks for, in any layer. At most the smallest width; less where
    the start is zero, lacks rank, or leaves neurons without input and output. Assumes no mask; raises as `reduce` does.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> reachable_rank(objective, Network([[[1.0, 0.0]] * 3, [[1.0] * 3] * 2]))
    1
    """
    _check_problem(objective, network)
    weights = [np.asarray(W, dtype=float) for W in network.weights]
    inputs = _input_parts(objective)
    if not inputs:
        return 0
    edges, bases, floors = _quiver(objective, weights, inputs)
    spans = invariant_spans(edges, bases, [0] * len(floors), lambda dimensions: False)
    h = len(weights)
    return min(sum(P.shape[1] for P in spans[h:]), *(P.shape[1] for P in spans[:h])) if spans else 0


class _Inputs(NamedTuple):
    """Eigenspace of sigma_xx, or all its simple eigenvectors together, which are kept whole."""

    frame: np.ndarray | None  # (d_x, m); None: all inputs
    eigenvalues: np.ndarray | None  # (m,); None: whitened
    whole: bool

    def restrict(self, M: np.ndarray) -> np.ndarray:
        return M if self.frame is None else M @ self.frame


def _input_parts(objective: SquaredError) -> list[_Inputs]:
    """The range of sigma_xx, cut into its eigenspaces; eigenvalues closer than rounding are one."""
    if objective.whitened:
        return [_Inputs(None, None, False)]
    eigenvalues, E = (np.asarray(part) for part in objective.input_spectrum)
    first = int(np.count_nonzero(eigenvalues == 0))
    simple, parts = [], []
    while first < len(E):
        width = rank_tolerance(len(E)) * eigenvalues[first if objective.graded else -1]
        last = int(np.searchsorted(eigenvalues, eigenvalues[first] + width, side="right"))
        if last - first == 1:
            simple.append(first)
        else:
            mean = np.full(last - first, eigenvalues[first:last].mean())
            parts.append(_Inputs(E[:, first:last], mean, False))
        first = last
    if simple:
        frame = None if len(simple) == len(E) else E[:, simple]
        parts.append(_Inputs(frame, eigenvalues[simple], True))
    return parts


def _quiver(objective: SquaredError, weights: list[np.ndarray], inputs: list[_Inputs]):
    """Edges, first directions and least dimensions of the nodes: layers 1..h at 0..h-1, then the parts of the inputs.

    Besides the layers, sigma_yx is an edge; and its and W's rows or columns, the fewer, are where all begins. What maps
    into what does not depend on sizes: every matrix is taken at size one.
    """
    h, sigma_yx, weights = len(weights), _at_size_one(np.asarray(objective.sigma_yx)), list(map(_at_size_one, weights))
    W = _at_size_one(np.linalg.multi_dot(weights[::-1]) if h > 1 else weights[0])
    noise = lambda M: RANK_TOLERANCE * float(np.linalg.norm(M))
    edges = [Edge(l - 1, l, weights[l], 0.0) for l in range(1, h)]
    bases = [np.zeros((len(M), 0)) for M in weights]
    s = np.linalg.svd(sigma_yx, compute_uv=False)
    reachable = min(*W.shape, *map(len, weights), int(np.sum(s > RANK_TOLERANCE * s[0])))
    floors = [max(reachable, 1)] * (h - 1) + [1]
    for node, part in enumerate(inputs, start=h):
        edges.append(Edge(node, 0, part.restrict(weights[0]), 0.0))
        edges.append(Edge(node, h - 1, part.restrict(sigma_yx), noise(sigma_yx)))
        size = edges[-1].matrix.shape[1]
        bases.append(np.eye(size) if part.whole else np.zeros((size, 0)))
        floors.append(size if part.whole else int(node == h))
        for M in (sigma_yx, W):
            seen, end = part.restrict(M), node
            if len(M) > M.shape[1]:
                seen, end = seen.T, h - 1
            bases[end] = extended(bases[end], seen.T, np.full(len(seen), noise(M)))
    return edges, bases, floors


def _at_size_one(M: np.ndarray) -> np.ndarray:
    """M in units of the power of 2 next to its largest entry, which rounds nothing."""
    largest = np.abs(M).max(initial=0.0)
    return np.ldexp(M, -int(np.frexp(largest)[1])) if 0 < largest < np.inf else M


def _reduced(
    objective: SquaredError, network: Network, W: np.ndarray, inputs: list[_Inputs], spans: list[np.ndarray]
) -> Reduction:
    """The problem in the coordinates of `spans`."""
    h = network.depth
    at_inputs = [P if part.frame is None else part.frame @ P for part, P in zip(inputs, spans[h:], strict=True)]
    frames = [at_inputs[0] if len(at_inputs) == 1 else np.hstack(at_inputs), *spans[:h]]
    bases = [None if P.shape[0] == P.shape[1] else P for P in frames]
    weights = [_seen(M, above, below) for M, (below, above) in zip(network.weights, pairwise(bases), strict=True)]
    root_xx, unseen = objective.root_xx, None
    sigma_xx = None if objective.graded else objective.sigma_xx
    if objective.whitened:
        sigma_xx = root_xx = None
    elif bases[0] is not None:
        eigenvalues = [np.asarray(part.eigenvalues)[: P.shape[1]] for part, P in zip(inputs, spans[h:], strict=True)]
        variances = np.concatenate(eigenvalues)
        sigma_xx, root_xx = None if objective.graded else np.diag(variances), np.diag(np.sqrt(variances))
        unseen = _unseen(np.asarray(network.weights[0]), inputs, bases[1]) if h > 1 else None
    # not recomputed from the moments: outputs that were dropped still count, and no digit is lost to a bad condition
    optimum = _seen(objective.optimum, bases[-1], bases[0])
    known = objective.factor, sigma_xx, root_xx, objective.scale, objective.variation
    smaller = SquaredError(optimum, objective.minimum, *known)
    on_device = lambda M: None if M is None else jnp.asarray(M)
    return Reduction(
        smaller, Network(weights), network, jnp.asarray(W), tuple(map(on_device, bases)), on_device(unseen)
    )


def _unseen(W_1: np.ndarray, inputs: list[_Inputs], above: np.ndarray | None) -> np.ndarray | None:
    """The part of above^T W_1 on inputs that never occur; None if it is zero."""
    frame = np.hstack([part.restrict(np.eye(W_1.shape[1])) for part in inputs])
    if frame.shape[1] == len(frame):
        return None
    response = _seen(W_1, above, None)
    response = response - (response @ frame) @ frame.T
    return response if np.linalg.norm(response) > RANK_TOLERANCE * np.linalg.norm(W_1) else None


def _seen(M: Any, above: np.ndarray | None, below: np.ndarray | None) -> np.ndarray:
    """above^T M below."""
    M = np.asarray(M) if above is None else above.T @ np.asarray(M)
    return M if below is None else M @ below


def _moved(start: Array, change: Array, above: Array | None, below: Array | None) -> Array:
    """start + above change below^T."""
    change = change if below is None else change @ below.T
    return start + (change if above is None else above @ change)


def _weights_of(widths: Iterable[int]) -> int:
    return sum(rows * columns for columns, rows in pairwise(widths))


def _check_problem(objective: Any, network: Any) -> None:
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: got {objective!r}; only a SquaredError is known to reduce exactly")
    check_fit(objective, network)
