"""Every critical value of a landscape: which modes are learned there, and what kind of point that is."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from .._arguments import checks_arguments
from .._arrays import position
from .._checks import check_whole
from .._types import Key
from ..network import Network
from .inertia import Inertia, inertia_of_signature
from .representatives import network_of
from .signatures import check_signature
from .subsets import as_integers, cheapest_subsets
from .target import Target

GLOBAL, STRICT, NON_STRICT = "global minimum", "strict saddle", "non-strict saddle"
SAME = 64 * float(np.finfo(float).eps)
"""Singular values closer than this share of the largest differ by rounding, and so do their critical values."""


@dataclass(frozen=True)
class CriticalPoint:
    r"""The critical points at which the end-to-end matrix has learned the modes S and no other: $W = S \Sigma$.

    >>> from deeplinear import SquaredError
    >>> point = critical_points(SquaredError.from_singular_values([3.0, 2.0], 2, 2), (2, 2, 2, 2)).at([1])
    >>> point.value, point.rank, point.kind, tuple(point.inertia)
    (2.0, 1, 'non-strict saddle', (0, 9, 3))
    >>> point.unstable_arcs, point.stable_arcs
    (1, 1)
    """

    signature: tuple[int, ...]
    """S: the learned modes, numbered from 1, largest singular value first."""
    widths: tuple[int, ...]
    target: Target = field(repr=False, compare=False)

    @property
    def value(self) -> float:
        r"""Loss: $L_{\min} + \frac{c}{2} \sum_{i \notin S} \sigma_i^2$."""
        return self.target.value(self.signature)

    @property
    def rank(self) -> int:
        """Rank of the end-to-end matrix: the number of learned modes."""
        return len(self.signature)

    @property
    def kind(self) -> str:
        """What the canonical representative is: "global minimum", "strict saddle" or "non-strict saddle"."""
        return self.kinds[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that networks with this end-to-end matrix can be, that of the canonical representative first.

        At depth 3 and more both sorts of saddles stand above the best matrix of a lower rank: strict where enough of
        the weights that the product does not see are nonzero. Source: Achour, Malgouyres and Gerchinovitz (2024).
        """
        largest = self.target.max_rank(self.widths)
        groups = self.target.groups
        learned = np.sort(groups[np.array(self.signature, dtype=int) - 1])
        if not np.array_equal(learned, groups[: self.rank]):
            return (STRICT,)
        if self.rank == largest:
            return (GLOBAL,)
        return (STRICT,) if len(self.widths) == 3 else (NON_STRICT, STRICT)

    @property
    def inertia(self) -> Inertia:
        """Numbers of negative, zero and positive eigenvalues of the canonical representative's Hessian."""
        return inertia_of_signature(self.target, self.widths, self.signature)

    @property
    def unstable_arcs(self) -> int:
        r"""Signatures that contain this one, to which the loss falls along an arc: $2^{\mathrm{rank} - |S|} - 1$.

        Fewer behind a bottleneck, which no more than its width of modes passes. Source: Altafini, theorem 24.3.
        """
        more = self.target.max_rank(self.widths) - self.rank
        return _count(self.target.rank - self.rank, more) - 1

    @property
    def stable_arcs(self) -> int:
        r"""Signatures within this one, from which the loss falls to it along an arc: $2^{|S|} - 1$."""
        return 2**self.rank - 1

    def network(
        self,
        key: Key,
        widths: Sequence[int] | None = None,
        *,
        Z: Sequence[Any] | None = None,
        tightened: bool | None = None,
        generator: Literal["canonical", "two zero", "tightened", "cyclic"] = "canonical",
        basis: Literal["canonical", "orthogonal", "general"] = "orthogonal",
        condition: float = 10.0,
    ) -> Network:
        """A network at this critical value, of these widths or of others: see `landscape.network_on_fibre`.

        `tightened` chooses the generator: True three zero blocks (every pivot tightened), False only two; None leaves
        it to `generator`.

        >>> from deeplinear import SquaredError
        >>> points = critical_points(SquaredError.from_singular_values([3.0, 2.0], 2, 2), (2, 4, 4, 2))
        >>> points.at([1]).network(0, tightened=True).end_to_end.round(12).tolist()
        [[3.0, 0.0], [0.0, 0.0]]
        """
        widths = self.widths if widths is None else widths
        if tightened is not None:
            generator = "tightened" if tightened else "two zero"
        choices = {"generator": generator, "basis": basis, "condition": condition}
        return network_of(self.target, self.signature, key, widths, Z=Z, **choices)


@dataclass(frozen=True)
class CriticalPoints:
    """All critical points of a landscape by their signatures, from the lowest value up; `reversed` from the highest.

    Nothing is enumerated before it is asked for: `points[0]`, `points[-1]`, `itertools.islice(points, 1000)`.
    """

    target: Target = field(repr=False)
    widths: tuple[int, ...]
    max_rank: int
    """Largest number of learned modes that is listed."""

    @property
    def count(self) -> int:
        r"""How many signatures there are: $\sum_{k \le K} \binom{\mathrm{rank}}{k}$."""
        return len(self._sizes) if self._one_layer else _count(self.target.rank, self.max_rank)

    def __iter__(self) -> Iterator[CriticalPoint]:
        return self._points(cheapest_subsets([-gain for gain in self._gains], self._sizes[::-1]))

    def __reversed__(self) -> Iterator[CriticalPoint]:
        rank = self.target.rank
        found = cheapest_subsets(self._gains[::-1], self._sizes)
        return self._points(tuple(rank - 1 - k for k in reversed(subset)) for subset in found)

    def __len__(self) -> int:
        """`count`; `OverflowError` beyond what Python calls a length."""
        return self.count

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, k: Any) -> Any:
        """The k-th from below, from 0, or a tuple of those in a slice; from above for a negative k.

        Raises `IndexError` where there are fewer.
        """
        place = position(k, self.count, "critical values")
        wanted = range(self.count)[place] if isinstance(place, slice) else range(place, place + 1)
        if not wanted:
            return ()
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        from_below = high < self.count - low
        found = islice(self, low, high + 1) if from_below else islice(reversed(self), self.count - 1 - high, None)
        points = dict(zip(range(low, high + 1) if from_below else range(high, low - 1, -1), found, strict=False))
        return tuple(points[i] for i in wanted) if isinstance(place, slice) else points[place]

    def at(self, signature: Iterable[int]) -> CriticalPoint:
        """The critical point with these learned modes; raises `ValueError` where there is none."""
        return CriticalPoint(check_signature(self.target, self.widths, tuple(signature)), self.widths, self.target)

    @property
    def _one_layer(self) -> bool:
        return len(self.widths) == 2

    @property
    def _sizes(self) -> range:
        """Numbers of modes that critical points learn: one layer has no saddles."""
        return range(self.target.rank if self._one_layer else 0, self.max_rank + 1)

    @property
    def _gains(self) -> list[int]:
        """What learning each mode takes off the loss, up to a common factor, largest first."""
        sigma = self.target.sigma[: self.target.rank].copy()
        for k in range(1, sigma.size):
            if sigma[k - 1] - sigma[k] <= SAME * sigma[0]:
                sigma[k] = sigma[k - 1]
        return as_integers(sigma**2)

    def _points(self, subsets: Iterable[tuple[int, ...]]) -> Iterator[CriticalPoint]:
        for subset in subsets:
            yield CriticalPoint(tuple(k + 1 for k in subset), self.widths, self.target)


@checks_arguments
def critical_points(objective: Any, widths: Iterable[int], max_rank: int | None = None) -> CriticalPoints:
    r"""Every critical value of squared error for a network of given widths, with what lives there, lowest first.

    The end-to-end matrix of a critical point is $S \Sigma$ in whitened inputs, with $\Sigma$ diagonal and S a set of at
    most min(widths) modes of positive singular value, and its loss is $L_{\min} + \frac{c}{2} \sum_{i \notin S}
    \sigma_i^2$. Any `SquaredError`, any widths (d_x, ..., d_y), equal and zero singular values; `max_rank`: list no
    signature of more modes. The answer is lazy: the first thousand of $2^{1000}$ come in milliseconds. Where singular
    values repeat, signatures that exchange equal ones belong to one connected set. Raises `ValueError` for other
    objectives, widths that do not fit the data and a rank above the bottleneck.

    >>> from deeplinear import SquaredError
    >>> points = critical_points(SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 3), (3, 2, 3))
    >>> [(point.signature, point.value, point.kind) for point in points][:2]
    [((1, 2), 0.5, 'global minimum'), ((1, 3), 2.0, 'strict saddle')]
    >>> points.count, points[-1].signature, points.at([3]).inertia.negative
    (7, (), 4)

    Source: Altafini, proposition 14; Achour, Malgouyres and Gerchinovitz (2024) for the kinds.
    """
    target, widths = Target.of(objective), tuple(check_whole("widths", width) for width in widths)
    target.check_widths(widths)
    most = target.max_rank(widths)
    if max_rank is not None and not 0 <= check_whole("max_rank", max_rank) <= most:
        raise ValueError(
            f"`max_rank`: got {max_rank}; the widths {widths} and the data's {target.rank} modes allow ranks "
            f"0 to {most}"
        )
    return CriticalPoints(target, widths, most if max_rank is None else max_rank)


def without_bottleneck(target: Target) -> tuple[int, ...]:
    """Widths of a network that can learn every set of modes.

    >>> from deeplinear import SquaredError
    >>> without_bottleneck(Target.of(SquaredError.from_singular_values([1.0], 2, 3)))
    (2, 5, 3)
    """
    d_x = target.form.input_map.shape[0]
    return d_x, d_x + target.d_y, target.d_y


def _count(n: int, largest: int) -> int:
    """Subsets of n things with at most `largest` elements."""
    return 2**n if largest >= n else sum(math.comb(n, k) for k in range(largest + 1))
