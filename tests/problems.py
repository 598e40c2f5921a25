"""Small problems that the tests of the flow share; few shapes, for every shape costs a compilation."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np

import deeplinear as dl
from deeplinear import Network, SquaredError

WIDTHS = (4, 5, 3)
TIMES = np.linspace(0.0, 12.0, 9)
WHITE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)


def correlated(widths=WIDTHS, scale=dl.HALF_MEAN):
    """A problem with correlated inputs and 7 samples per input."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((7 * widths[0], widths[0])) @ np.diag(np.linspace(1.2, 0.7, widths[0]))
    return SquaredError.of(X, X @ rng.standard_normal((widths[0], widths[-1])) + 0.1, scale)


def random_network(widths, seed=0, scale=0.5):
    """Independent normal weights; numpy's, so that no test of the flow rests on `init`."""
    rng = np.random.default_rng(seed)
    return Network([scale * rng.standard_normal((b, a)) for a, b in pairwise(widths)])


def quartic(W):
    """An objective without closed forms."""
    return jnp.sum((W - 0.3) ** 4) + jnp.sum(jnp.cos(W))
