"""Networks with a given end-to-end matrix, from which the search for given conserved quantities starts."""

from itertools import pairwise

import numpy as np

from .level import Layers


def aligned_pair(
    rng: np.random.Generator, product: np.ndarray, c: np.ndarray, E: np.ndarray
) -> tuple[Layers, np.ndarray]:
    r"""Two layers with a given product whose $W_2^T W_2 - W_1 W_1^T$ is diagonal, in closed form, and the hidden frame.

    `c`, `E` are eigenvalues (zero exactly or clearly not) and eigenvectors of the wanted C, with at most d_y of them
    positive and d_x negative, and `product` = U diag(s) V^T has rank at most len(c). Returned are $(W_1, W_2)$ in the
    coordinates of a frame F, orthonormal combinations of columns of E: $(F W_1, W_2 F^T)$ have the wanted C.

    A singular triple (u, s, v) sits on one hidden direction of eigenvalue c, with $W_1 = \sqrt a \, e v^T$, $W_2 =
    \sqrt b \, u e^T$, $ab = s^2$, $b - a = c$; or on two of signs $c_+ > 0 > -c_-$, with coefficients
    $\sqrt{c_+} \sinh\theta, \sqrt{c_-} \cosh\theta$ in $W_1$ and $\sqrt{c_+} \cosh\theta, \sqrt{c_-} \sinh\theta$ in
    $W_2$, $\sinh 2\theta = 2 s / (c_+ + c_-)$. Eigenvalues left over take output directions (positive) or input
    directions (negative) that the product does not use. As many as these conditions allow always fit.
    """
    d_y, d_x = product.shape
    U, s, Vt = np.linalg.svd(product)
    rank = min(int(np.sum(s > 4 * max(d_x, d_y) * np.finfo(float).eps * max(s[0], 1e-300))), len(c))
    E = _rotated(rng, c, E)
    order = [int(i) for i in rng.permutation(len(c))]
    plus, minus = [i for i in order if c[i] > 0], [i for i in order if c[i] < 0]
    # eigenvalues for which no direction free of the product is left sit on its modes
    first, second = max(0, len(plus) + rank - d_y), max(0, len(minus) + rank - d_x)
    pairs = max(0, first + second - rank)
    on_modes = [[i] for i in plus[pairs:first] + minus[pairs:second]]
    on_modes += [list(pair) for pair in zip(plus[:pairs], minus[:pairs], strict=True)]
    rest = [i for i in order if c[i] == 0 or i in plus[first:] or i in minus[second:]]
    on_modes += [[i] for i in rest[: rank - len(on_modes)]]
    W1, W2 = np.zeros((len(c), d_x)), np.zeros((d_y, len(c)))
    for k, hosts in zip(rng.permutation(rank), on_modes, strict=True):
        for i, into, out in _coefficients(c, hosts, float(s[k])):
            W1[i], W2[:, i] = into * Vt[k], out * U[:, k]
    free_out = U[:, rank:] @ random_orthogonal(rng, d_y - rank)
    free_in = Vt[rank:].T @ random_orthogonal(rng, d_x - rank)
    taken = {i for hosts in on_modes for i in hosts}
    for k, i in enumerate(i for i in plus if i not in taken):
        W2[:, i] = c[i] ** 0.5 * free_out[:, k]
    for k, i in enumerate(i for i in minus if i not in taken):
        W1[i] = (-c[i]) ** 0.5 * free_in[:, k]
    used = [i for i in range(len(c)) if i in taken or c[i] != 0]
    return [W1[used], W2[:, used]], E[:, used]


def random_chain(
    rng: np.random.Generator,
    modes: tuple[np.ndarray, np.ndarray, np.ndarray],
    rank: int,
    hidden: list[int],
    size: float,
    full: bool,
) -> Layers:
    """Layers of the given hidden widths whose product is the first `rank` modes (U, s, V).

    Balanced on the modes; beside them random layers of a product that is zero, of full rank where that lets them
    (`full`), or of random ranks.
    """
    from scipy.linalg import block_diag  # a quarter of a second that Gaussian starts need not wait

    U, s, V = modes
    depth, z = len(hidden) + 1, s[:rank] ** (1 / (len(hidden) + 1))
    outside = [V.shape[0] - rank, *(d - rank for d in hidden), U.shape[0] - rank]
    beside = [size * rng.standard_normal((above, below)) for below, above in pairwise(outside)]
    if not full:
        beside = [Z @ _random_projector(rng, Z.shape[1]) for Z in beside]
    reached, cut = np.eye(outside[0]), int(rng.integers(0, depth))
    for Z in beside[:cut]:
        reached = Z @ reached
    if reached.size:
        beside[cut] = beside[cut] - beside[cut] @ reached @ np.linalg.pinv(reached, rcond=1e-10)
    layers = [block_diag(np.diag(z), Z) for Z in beside]
    complement = lambda F: np.linalg.svd(F)[0][:, rank:]
    first = np.hstack([V[:, :rank], complement(V[:, :rank])])
    last = np.hstack([U[:, :rank], complement(U[:, :rank])])
    turns = [first, *(random_orthogonal(rng, d) for d in hidden), last]
    return [above @ W @ below.T for below, W, above in zip(turns, layers, turns[1:], strict=False)]


def random_orthogonal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Haar-distributed orthogonal matrix (n, n)."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return Q * np.where(np.diagonal(R) < 0, -1.0, 1.0)[None, :]


def _random_projector(rng: np.random.Generator, n: int) -> np.ndarray:
    """Projector onto a random subspace of random dimension."""
    Q = random_orthogonal(rng, n)[:, : rng.integers(0, n + 1)]
    return Q @ Q.T


def _rotated(rng: np.random.Generator, c: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Eigenvectors with a Haar rotation within every cluster of equal eigenvalues (in ascending order)."""
    edges = np.flatnonzero(np.diff(c) > 1e-13 * np.abs(c).max(initial=0)) + 1
    return np.hstack([block @ random_orthogonal(rng, block.shape[1]) for block in np.split(E, edges, axis=1)])


def _coefficients(c: np.ndarray, hosts: list[int], s: float) -> list[tuple[int, float, float]]:
    """For every hidden direction under a mode of strength s: its number, its entry in W_1, its entry in W_2."""
    if len(hosts) == 2:
        (i, j), (p, m) = hosts, np.abs(c[hosts])
        angle = np.arcsinh(2 * s / (p + m)) / 2
        rise, fall = np.cosh(angle), np.sinh(angle)
        return [(i, p**0.5 * fall, p**0.5 * rise), (j, m**0.5 * rise, m**0.5 * fall)]
    i = hosts[0]
    larger = (abs(c[i]) + np.hypot(c[i], 2 * s)) / 2  # the smaller of a, b would cancel: it is s^2 / larger
    large, small = larger**0.5, s / larger**0.5
    return [(i, small, large) if c[i] > 0 else (i, large, small)]
