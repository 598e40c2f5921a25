"""Networks whose layers fit together: aligned, decoupled, diagonal."""

import numpy as np

from .._arguments import checks_arguments
from .._checks import TOLERANCE, Check
from ..frames import shared_frames
from ..network import Network
from ..objectives import SquaredError
from .paths import closest_paths


@checks_arguments
def aligned(network: Network, *, tolerance: float = TOLERANCE) -> Check:
    r"""Whether $V_{i+1}^T U_i = I$ for some SVDs $W_i = U_i \Lambda_i V_i^T$: layers diagonal between common frames.

    Singular values may come in any order, and vectors of equal ones are chosen to fit all layers. Violation: the part
    of a layer outside the diagonal in the best frames found, relative to the layer, the worst layer. Small means
    aligned for certain; singular values closer than about 1e-8 to each other may hide an alignment.

    >>> aligned(Network([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]]])).holds
    True
    >>> aligned(Network([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 1.0], [0.0, 1.0]]])).holds
    False

    Source: Altafini, section 5.
    """
    layers = [np.asarray(W) for W in network.weights]
    off = closest_paths(layers, tolerance)
    return Check("aligned", "V_{i+1}^T U_i = I for all i", off, tolerance)


@checks_arguments
def decoupled(objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE) -> Check:
    r"""Whether the layers are aligned with each other and with the modes of the data: $U_h = U$, $V_1 = V$.

    The modes then move independently. What no mode reaches may be anything, for it never moves; diagonal entries may be
    negative. Violation: of the inputs' modes, the end-to-end matrix or a layer, relative, whichever is worst.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> decoupled(objective, Network([[[0.1, 0.0], [0.0, -0.2]]] * 3)).holds
    True

    Source: Altafini, section 5 and proposition 32, for data that are not in normal form.
    """
    layers = [np.asarray(W) for W in network.weights]
    frames = shared_frames(objective, layers)
    parts = {
        "the data's modes are not eigenvectors of sigma_xx": frames.off_inputs,
        "the end-to-end matrix is not diagonal in the data's modes": frames.off_end_to_end,
        "a layer is not diagonal between the modes' directions": frames.off_layers,
    }
    worst = max(parts, key=lambda part: parts[part])
    statement = "U_h and V_1 are the data's modes, and V_{i+1}^T U_i = I on them"
    return Check("decoupled", statement, parts[worst], tolerance, note=worst if parts[worst] > tolerance else "")


@checks_arguments
def block_shift_diagonal(network: Network, *, tolerance: float = TOLERANCE) -> Check:
    r"""Whether every $W_i$ is diagonal: violation $\max_i \|\mathrm{offdiag}(W_i)\|_F / \|W_i\|_F$.

    >>> block_shift_diagonal(Network([[[3.0, 4.0]]])).violation
    0.8

    Source: Altafini, section 5.
    """
    off = 0.0
    for W in map(np.asarray, network.weights):
        rest = W * (1.0 - np.eye(*W.shape))
        off = max(off, float(np.linalg.norm(rest)) / max(float(np.linalg.norm(W)), 1e-300))
    return Check("block-shift diagonal", "W_i is diagonal for all i", off, tolerance)
