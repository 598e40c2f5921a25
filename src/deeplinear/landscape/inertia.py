"""Signs of the Hessian's eigenvalues at a critical point, by formula."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from .._arguments import checks_arguments
from .signatures import check_signature, pairs
from .target import Target


class Inertia(NamedTuple):
    """Numbers of negative, zero and positive eigenvalues of the Hessian with respect to all weights.

    >>> Inertia(negative=1, zero=2, positive=3).negative
    1
    """

    negative: int
    zero: int
    positive: int


@checks_arguments
def inertia_of_signature(target: Target, widths: Sequence[int], signature: Sequence[int]) -> Inertia:
    r"""Inertia of the Hessian at the critical points of signature S with $Z = 0$: the canonical one and its orbit.

    With r = |S|, Q the other modes, $\mathrm{inv} = \#\{(i, j) \in Q \times S : \sigma_i > \sigma_j\}$ and eq those
    of equal singular values: $n_- = \mathrm{inv} + k$, $n_+ = r (d_x + d_y - r) - \mathrm{inv} - \mathrm{eq} + k$,
    with $k = (\mathrm{rank} \Sigma - r)(d_1 - r)$ for two layers and 0 for more; one layer has $n_+ = d_x d_y$. Here
    $d_x$ is the rank of sigma_xx; all other directions are zeros. Raises `ValueError` for signatures that are not
    critical points of these widths.

    >>> from deeplinear import SquaredError
    >>> inertia_of_signature(Target.of(SquaredError.from_singular_values([3.0, 2.0], 2, 2)), (2, 2, 2), (2,))
    Inertia(negative=2, zero=3, positive=3)

    Source: derived here from Achour, Malgouyres and Gerchinovitz (2024), JMLR 25(242), theorem 7; held against dense
    Hessians in the tests.
    """
    S = check_signature(target, widths, signature)
    h, r = len(widths) - 1, len(S)
    hidden = (target.rank - r) * (widths[1] - r) if h == 2 else 0
    single = (target.d_y - r) * (target.d_x - r) if h == 1 else 0
    return with_rest(target, widths, S, hidden, hidden + single)


def with_rest(
    target: Target, widths: Sequence[int], signature: tuple[int, ...], negative: int, positive: int
) -> Inertia:
    """Inertia from what the modes of the signature contribute, and what the rest (the blocks Z) does."""
    r, (inverted, equal) = len(signature), pairs(target, signature)
    n_minus = inverted + negative
    n_plus = r * (target.d_x + target.d_y - r) - inverted - equal + positive
    return Inertia(n_minus, sum(a * b for a, b in pairwise(widths)) - n_minus - n_plus, n_plus)
