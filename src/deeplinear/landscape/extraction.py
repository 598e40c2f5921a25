"""From the weights of a critical point to its parameters: signature, changes of basis, blocks Z."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._arguments import checks_arguments
from ..network import Network
from .doors import host_weights
from .forms import lifted, reduced
from .frame import Frame


@dataclass(frozen=True)
class Parameters:
    """A critical point as $W_l = P_l (A_l + Z_l) P_{l-1}^{-1}$, in the coordinates in which Sigma is diagonal.

    Of repeated singular values the modes are turned so that each is learned or not: the signature names the first ones
    of a group, and `projector` says which combination of them is meant.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([3.0, 2.0], 2, 2)
    >>> found = parameters(objective, Network([[[3.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 5.0]]]))
    >>> found.signature, float(abs(found.blocks[1][0, 0])), found.network().end_to_end.tolist()
    ((1,), 5.0, [[3.0, 0.0], [0.0, 0.0]])
    """

    signature: tuple[int, ...]
    """Learned modes, from 1."""
    groups: tuple[tuple[tuple[int, ...], int], ...]
    """For every group of equal singular values above 0: its modes, and how many of them are learned."""
    projector: np.ndarray
    """Pi with W = Pi W*, in the data's outputs, shape (d_y, d_y)."""
    bases: tuple[np.ndarray, ...]
    """P_1 .. P_{h-1}, the changes of basis of the hidden layers."""
    blocks: tuple[np.ndarray, ...]
    """Z_1 .. Z_h; rounding errors where a block is zero."""
    strengths: np.ndarray
    """Strength of every mode as a share of its value: 0 or 1 up to the distance from a critical point, shape (d_y,)."""
    frame: Frame

    def network(self) -> Network:
        """The critical point again, in the data's coordinates; W_1 is zero along null directions of sigma_xx."""
        frame = self.frame
        return Network(lifted(frame.target, frame.critical_point([self.blocks[0] @ frame.N[0], *self.blocks[1:]])))


@checks_arguments
def parameters(objective: Any, network: Network) -> Parameters:
    r"""Signature, changes of basis and blocks Z of a critical point, from its weights.

    With $E_l = W_{1:l} \Sigma^T U_S \Sigma_S^{-2}$ and $F_l = U_S^T W_{l+1:h}$ (so $F_l E_l = I$), $P_l = [E_l, N_l]$
    with $N_l$ an orthonormal basis of the null space of $F_l$; then the columns S of $Z_1$ are zero. A network that is
    not critical gives the parameters of what its end-to-end matrix is closest to, mode by mode. Raises `ValueError` for
    an objective other than `SquaredError` and widths that do not fit it.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([3.0, 2.0], 2, 2)
    >>> parameters(objective, Network([[[0.0, 4.0]], [[0.0], [0.5]]])).signature
    (2,)

    Source: Altafini, eqs. (32) and (33); the extraction is ours.
    """
    target, weights = host_weights(objective, network)
    frame = Frame.of(target, reduced(target, weights))
    return Parameters(
        frame.signature,
        learned_by_group(frame),
        _projector(frame),
        tuple(P for P, _ in frame.changes),
        tuple(frame.blocks(frame.Z)),
        frame.strengths,
        frame,
    )


def learned_by_group(frame: Frame) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Modes of every group of equal singular values, and how many of them are learned."""
    target = frame.target
    groups = target.groups[: target.rank]
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return tuple((tuple(int(k) + 1 for k in modes), int(np.isin(modes, frame.S).sum())) for modes in members)


def _projector(frame: Frame) -> np.ndarray:
    rows = np.eye(frame.target.d_y) if frame.rotation is None else frame.rotation
    outputs = rows[frame.S] @ frame.target.form.output_map
    return outputs.T @ outputs
