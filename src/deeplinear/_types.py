"""Names for the arrays that everything else passes around."""

from typing import Any

import numpy as np
from jaxtyping import Float, PRNGKeyArray

Array = Any
"""numpy's, JAX's, or one that JAX traces."""
Matrix = Float[Any, "out in"]
Scalar = Float[Any, ""]
Key = PRNGKeyArray | int | np.integer
"""A jax key or an int; `deeplinear.init` turns an int into a key."""
