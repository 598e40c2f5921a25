"""Ranks of the Hessian, at a random point and at minima."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from .._arguments import checks_arguments


class HessianRanks(NamedTuple):
    """Ranks of the two parts of the Hessian and of their sum, and the number of weights.

    >>> hessian_ranks((3, 4, 2)).total
    18
    """

    outer_product: int
    """Of the Gauss-Newton part."""
    functional: int
    """Of the part with the gradient of the loss."""
    total: int
    weights: int


@checks_arguments
def hessian_ranks(widths: Sequence[int], input_rank: int | None = None) -> HessianRanks:
    r"""Ranks of the squared error's Hessian at a random point (with probability one).

    With $r$ the rank of $\Sigma_{xx}$ (`input_rank`; None: d_x), $K = d_y$, $q = \min(r, d_1, \dots, d_y)$,
    $s = \min(r, K)$, M the number of hidden units and h layers:

    $$ q (r + K - q), \qquad 2 q M + 2 q s - h q^2, \qquad 2 q M + q (r + K) - h q^2 $$

    for the outer product (Gauss-Newton) part, the functional part and the whole; without hidden layer $r K$, 0, $r K$.
    Assumes squared error whose residual has full rank s, as at random weights with a random target. Raises
    `ValueError` for fewer than two widths, empty layers, and an input rank that is not between 1 and d_x.

    >>> hessian_ranks((25, 5, 10, 10))
    HessianRanks(outer_product=150, functional=175, total=250, weights=275)

    Source: Singh, Bachmann and Hofmann (2021), NeurIPS 34, theorems 3 and 5 and corollary 6, upper bounds there; that
    they are reached is an observation, here too (tests compare them with dense Hessians).
    """
    d_x, K, h = widths[0], widths[-1], len(widths) - 1
    r = d_x if input_rank is None else input_rank
    if not 1 <= r <= d_x:
        raise ValueError(f"`input_rank`: got {r}; the rank of sigma_xx is 1 to {d_x}")
    weights = sum(below * above for below, above in pairwise(widths))
    if h == 1:
        return HessianRanks(r * K, 0, r * K, weights)
    q, s, M = min(r, *widths[1:]), min(r, K), sum(widths[1:-1])
    functional, total = 2 * q * (M + s) - h * q**2, 2 * q * M + q * (r + K) - h * q**2
    return HessianRanks(q * (r + K - q), functional, total, weights)


@checks_arguments
def rank_at_minimum(widths: Sequence[int], target_rank: int, input_rank: int | None = None) -> int:
    r"""Rank of the squared error's Hessian at every global minimum of a network.

    $m (r + d_y - m)$ with $m = \min(d_1, \dots, d_{h-1}, \text{rank of the target})$ the rank of the
    end-to-end matrix and $r$ the rank of $\Sigma_{xx}$ (`input_rank`; None: d_x), if no width is below the rank of the
    target or the singular values around the bottleneck differ. Where no width is below $\min(r, d_y)$ and the target
    has a smaller rank, the Hessian's rank depends on the minimum: this is the smallest. Raises `ValueError` for a
    target rank above min(r, d_y).

    >>> rank_at_minimum((4, 2, 3), target_rank=3)
    10

    Source: Singh, Bachmann and Hofmann (2021), theorem 3, at zero residual; Trager, Kohn and Bruna (2020) for the
    determinantal variety, whose dimension it is.
    """
    r = widths[0] if input_rank is None else input_rank
    if not 1 <= r <= widths[0]:
        raise ValueError(f"`input_rank`: got {r}; the rank of sigma_xx is 1 to {widths[0]}")
    if not 0 <= target_rank <= min(r, widths[-1]):
        raise ValueError(f"`target_rank`: got {target_rank}; these widths allow 0 to {min(r, widths[-1])}")
    if len(widths) == 2:
        return r * widths[-1]
    m = min(target_rank, *widths)
    return m * (r + widths[-1] - m)
