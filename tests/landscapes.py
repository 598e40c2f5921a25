"""Problems for the tests of the landscape."""

import brute
import numpy as np

from deeplinear import SquaredError


def problem(s, d_x=None, d_y=None):
    s = sorted(s, reverse=True)
    return SquaredError.from_singular_values(s, d_x or len(s), d_y or len(s))


def data_of(s, d_x, d_y, seed):
    """A problem with these singular values in whitened inputs, turned, with correlated inputs."""
    rng = np.random.default_rng(seed)
    root = brute.frame(rng, d_x, d_x) @ np.diag(np.linspace(0.6, 1.7, d_x)) @ brute.frame(rng, d_x, d_x).T
    core = np.zeros((d_y, d_x))
    np.fill_diagonal(core, s)
    whitened = brute.frame(rng, d_y, d_y) @ core @ brute.frame(rng, d_x, d_x).T
    covariance = root @ root.T
    values, Q = np.linalg.eigh(covariance)
    return SquaredError.from_moments(whitened @ (Q * np.sqrt(values)).T, covariance)
