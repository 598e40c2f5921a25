"""Names for the arrays that everything else passes around."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Matrix = Float[Array, "out in"]
Vector = Float[Array, " mode"]
Scalar = Float[Array, ""]
Times = Float[Array, " time"]
Key = PRNGKeyArray | int | np.integer
"""A jax key or an int; `deeplinear.init` turns an int into a key."""
Objective = Callable[[Matrix], Scalar]
"""Any JAX function of the end-to-end matrix; `deeplinear.SquaredError` is the one with closed forms."""
