"""Objectives: functions of the end-to-end matrix, with closed forms where mathematics has them.

Any JAX function W (d_y, d_x) -> scalar is an objective. A class adds what it knows: `gradient(W)`,
`hessian_vector(W, V)`, `shape`, and, where the smallest loss is known, `minimum` and `excess`.
"""

from .classification import CrossEntropy as CrossEntropy
from .classification import Logistic as Logistic
from .completion import MatrixCompletion as MatrixCompletion
from .derivatives import gradient_of as gradient_of
from .derivatives import hessian_vector as hessian_vector
from .derivatives import knows_minimum as knows_minimum
from .nuclear import minimum_nuclear_norm as minimum_nuclear_norm
from .robust import Huber as Huber
from .sensing import MatrixSensing as MatrixSensing
from .squared import SquaredError as SquaredError
