"""Curvature of the loss along a run."""

from collections.abc import Callable
from typing import Any

from jax.tree_util import Partial

from .. import curvature
from .._types import Scalar
from ..network import Network
from .labels import labelled


def sharpness(objective: Any) -> Callable[[Network], Scalar]:
    r"""Largest eigenvalue of the Hessian of the loss in all weights; gradient descent is stable below $2 / \eta$.

    See `curvature.sharpness`, and `curvature.edge_of_stability` for the comparison with a learning rate.

    >>> from deeplinear import SquaredError
    >>> float(sharpness(SquaredError.from_moments([[4.0]]))(Network([[[2.0]], [[2.0]]])).round(9))
    8.0

    Source: Cohen et al. (2021), ICLR.
    """
    return labelled((), "largest eigenvalue of the Hessian")(Partial(curvature.sharpness, objective))
