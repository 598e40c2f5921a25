r"""A critical point's own coordinates: what carries the learned modes, and the blocks Z beside it.

With $E_l = W_{1:l} \Sigma^T U_S \Sigma_S^{-2}$ (d_l, r) and $F_l = U_S^T W_{l+1:h}$ (r, d_l), $F_l E_l = I$ at a
critical point; columns $N_l$ span the null space of $F_l$, and $M_l N_l = I$, $M_l E_l = 0$. Then $P_l = [E_l, N_l]$,
$P_l^{-1} = [F_l; M_l]$ and $Z_l = M_l W_l N_{l-1}$, with zeros in the columns S of $Z_1$.
"""

from typing import NamedTuple

import numpy as np

from .forms import Weights, partial_products, product
from .structure import assemble, change_basis
from .target import Target


class Frame(NamedTuple):
    """A network near a critical point of signature S, taken apart; indices from 0."""

    target: Target
    rotation: np.ndarray | None
    """Orthogonal (d_y, d_y), turning only equal singular values; None: none are equal."""
    strengths: np.ndarray
    """Strength of every mode as a share of its value, after the rotation: 0 or 1 at a critical point."""
    S: np.ndarray
    Q: np.ndarray
    """Outputs that are not learned."""
    R: np.ndarray
    """Inputs that are not learned."""
    E: list[np.ndarray]
    F: list[np.ndarray]
    N: list[np.ndarray]
    M: list[np.ndarray]
    Z: list[np.ndarray]
    """Blocks Z_1 .. Z_h; of Z_1 the columns R alone."""
    scales: np.ndarray
    """Size of every layer against which its block Z counts as zero."""

    @classmethod
    def of(cls, target: Target, weights: Weights) -> "Frame":
        """Takes apart weights in the target's coordinates."""
        rotation, strengths = _rotation(target, product(weights))
        weights = _turn(rotation, weights)
        S = np.flatnonzero(strengths > 0.5)
        Q = np.setdiff1d(np.arange(target.d_y), S)
        R = np.setdiff1d(np.arange(target.d_x), S)
        below, above = partial_products(weights)
        overlap = np.linalg.pinv((below[-1][:, S] / target.sigma[S])[S])  # F_l E_l, the same in every layer
        E = [P[:, S] / target.sigma[S] @ overlap for P in below]
        F = [P[S] for P in above]
        N = [np.eye(target.d_x)[:, R], *(_null(f) for f in F[1:-1]), np.eye(target.d_y)[:, Q]]
        M = [N[0].T, *(n.T - (n.T @ e) @ f for n, e, f in zip(N[1:-1], E[1:-1], F[1:-1], strict=True)), N[-1].T]
        Z = [M[l + 1] @ W @ N[l] for l, W in enumerate(weights)]
        return cls(target, rotation, strengths, S, Q, R, E, F, N, M, Z, layer_sizes(target, weights))

    @property
    def signature(self) -> tuple[int, ...]:
        """Modes from 1; of equal singular values the first ones."""
        return tuple(int(k) + 1 for k in self.S)

    @property
    def rest(self) -> np.ndarray:
        r"""$\Sigma_Q$, shape (d_y - r, d_x - r)."""
        return self.target.matrix[np.ix_(self.Q, self.R)]

    @property
    def changes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """P_l = [E_l, N_l] and its inverse [F_l; M_l], for every hidden layer."""
        parts = zip(self.E[1:-1], self.N[1:-1], self.F[1:-1], self.M[1:-1], strict=True)
        return [(np.hstack([E, N]), np.vstack([F, M])) for E, N, F, M in parts]

    def blocks(self, Z: Weights) -> list[np.ndarray]:
        """Blocks as in the survey's (33): Z_1 with a column, zero, for every learned input."""
        return [Z[0] @ self.M[0], *Z[1:]]

    def critical_point(self, Z: Weights) -> list[np.ndarray]:
        """The critical point with these blocks, if their products vanish, in the target's coordinates."""
        widths = [self.M[0].shape[1], *(E.shape[0] for E in self.E[1:])]
        weights = assemble(self.target, widths, self.signature, self.blocks(Z))
        return self.turn_back(change_basis(weights, self.changes))

    def turn_back(self, weights: Weights) -> list[np.ndarray]:
        """Weights or directions in the target's own coordinates."""
        return _turn(None if self.rotation is None else self.rotation.T, weights)


def _rotation(target: Target, W: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Turns equal modes so that each is learned wholly or not at all, and the share that each is learned."""
    strengths = np.zeros(target.d_y)
    live = np.arange(target.rank)
    strengths[live] = W[live, live] / target.sigma[live]
    groups = target.groups[: target.rank]
    sizes = np.bincount(groups, minlength=1)
    if sizes.max(initial=0) <= 1:
        return None, strengths
    rotation = np.eye(target.d_y)
    for group in np.flatnonzero(sizes > 1):
        at = np.flatnonzero(groups == group)
        block = W[np.ix_(at, at)] / target.sigma[at]
        shares, vectors = np.linalg.eigh((block + block.T) / 2)
        strengths[at], rotation[np.ix_(at, at)] = shares[::-1], vectors[:, ::-1].T
    return rotation, strengths


def _turn(rotation: np.ndarray | None, weights: Weights) -> list[np.ndarray]:
    """Outputs turned by the rotation, and inputs along with them."""
    moved = list(weights)
    if rotation is not None:
        d_x = moved[0].shape[1]
        inputs, shared = np.eye(d_x), min(d_x, rotation.shape[0])
        inputs[:shared, :shared] = rotation[:shared, :shared]
        moved[0] = moved[0] @ inputs.T
        moved[-1] = rotation @ moved[-1]
    return moved


def _null(F: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the null space of a matrix of full row rank."""
    return np.eye(F.shape[1]) if not F.shape[0] else np.linalg.svd(F)[2][F.shape[0] :].T


def layer_sizes(target: Target, weights: Weights) -> np.ndarray:
    """Norms of the layers; where nothing is learned a layer may be zero, and the data give the scale.

    Where something is, every layer carries it, and only its own norm is a scale that no change of basis spoils.
    """
    norms = np.array([np.linalg.norm(W, 2) for W in weights])
    if not target.rank:
        return np.maximum(norms, 1.0)
    learned = np.linalg.norm(product(weights), 2) > 0.5 * target.sigma[target.rank - 1]
    return norms if learned else np.maximum(norms, target.sigma[0] ** (1 / len(weights)))
