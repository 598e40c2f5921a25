"""Names for the arrays that everything else passes around."""

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Matrix = Float[Array, "out in"]
Scalar = Float[Array, ""]
Key = PRNGKeyArray | int | np.integer
"""A jax key or an int; `deeplinear.init` turns an int into a key."""
