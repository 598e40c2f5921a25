"""Problems on which the statements of theory are run: shapes, spectra and data of all sorts."""

from itertools import pairwise

import numpy as np
from landscapes import data_of

from deeplinear import Network, SquaredError
from deeplinear.theory.question import Question


def network(widths, seed, scale=0.7):
    rng = np.random.default_rng(seed)
    return Network([scale * rng.standard_normal((b, a)) for a, b in pairwise(widths)])


def question(s, widths, seed=0, white=False, scale=0.7):
    """Singular values s between widths[0] inputs and widths[-1] outputs; correlated inputs unless `white`."""
    d_x, d_y = widths[0], widths[-1]
    values = [*s, *[0.0] * (min(d_x, d_y) - len(s))]
    objective = SquaredError.from_singular_values(values, d_x, d_y) if white else data_of(values, d_x, d_y, seed)
    return Question(objective, network(widths, seed + 1, scale), seed=seed)


PROBLEMS = [
    ((2.0, 1.0), (2, 2)),
    ((3.0, 1.5, 0.5), (4, 3)),
    ((2.0, 1.0), (2, 4)),
    ((2.0,), (1, 1, 1)),
    ((2.0, 1.0), (2, 2, 2)),
    ((3.0, 2.0, 1.0), (3, 4, 3)),
    ((3.0, 2.0, 1.0), (5, 4, 3)),
    ((3.0, 2.0, 2.0), (3, 3, 3)),
    ((3.0, 2.0, 1.0), (3, 2, 3)),
    ((3.0, 1.0), (2, 5, 4)),
    ((2.0, 1.0), (4, 3, 3)),
    ((2.0, 1.0), (2, 3, 2, 2)),
    ((3.0, 2.0, 1.0), (4, 4, 5, 3)),
    ((2.0, 2.0, 1.0), (3, 5, 4, 3)),
    ((3.0, 2.0, 1.0), (3, 4, 2, 3)),
    ((3.0, 2.0), (2, 4, 4, 3)),
    ((3.0, 2.0, 1.0, 0.5), (4, 5, 5, 4)),
    ((1.0, 1.0, 1.0), (3, 3, 3, 3)),
    ((2.0,), (2, 1, 3, 2)),
    ((3.0, 2.0, 1.0), (3, 4, 3, 4, 3)),
    ((3.0, 2.0, 1.0), (5, 3, 4, 4, 3)),
    ((2.0, 1.0), (2, 1, 3, 3, 2)),
    ((2.0, 1.0), (2, 3, 3, 3, 3, 2)),
    ((2.5, 1.5, 1.5), (4, 3, 4, 3, 4, 3)),
    ((3.0, 2.0, 1.0), (3, 3, 3, 2, 3, 3)),
]
"""25 of singular values and widths: depths 1 to 5, bottlenecks, d_x < d_y, repeated and vanishing singular values."""
