"""Dense Hessians of the squared error of a linear network in numpy, written out index by index; nothing is compiled."""

from itertools import pairwise

import numpy as np


def numbers(objective):
    """sigma_xx, sigma_yx, c."""
    return np.asarray(objective.sigma_xx), np.asarray(objective.sigma_yx), float(objective.factor)


def chain(matrices, size):
    P = np.eye(size)
    for M in matrices:
        P = M @ P
    return P


def gradient(objective, weights):
    """All derivatives, one vector."""
    S, M, c = numbers(objective)
    d_x, d_y = weights[0].shape[1], weights[-1].shape[0]
    slope = c * (chain(weights, d_x) @ S - M)
    parts = []
    for j, W in enumerate(weights):
        above, below = chain(weights[j + 1 :], W.shape[0]), chain(weights[:j], d_x)
        assert above.shape[0] == d_y
        parts.append((above.T @ slope @ below.T).ravel())
    return np.concatenate(parts)


def scale_of_gradient(objective, weights):
    """Size that the terms of the gradient have before they cancel: norms of its factors, layer by layer."""
    S, M, c = numbers(objective)
    d_x, norm = weights[0].shape[1], np.linalg.norm
    slope = c * (norm(chain(weights, d_x)) * norm(S, 2) + norm(M))
    sizes = [max(norm(W), 1e-3) for W in weights]
    return sum(slope * np.prod(sizes[:j] + sizes[j + 1 :]) for j in range(len(weights)))


def hessian(objective, weights):
    """J^T (I x c S) J + the mixed second derivatives times the slope; rows of matrices one after another."""
    S, M, c = numbers(objective)
    d_x, h = weights[0].shape[1], len(weights)
    slope = c * (chain(weights, d_x) @ S - M)
    ends = np.cumsum([0, *(W.size for W in weights)])
    jacobian = np.concatenate(
        [np.kron(chain(weights[j + 1 :], W.shape[0]), chain(weights[:j], d_x).T) for j, W in enumerate(weights)], axis=1
    )
    H = jacobian.T @ np.kron(np.eye(slope.shape[0]), c * S) @ jacobian
    for i in range(h):
        for j in range(i):
            left = chain(weights[i + 1 :], weights[i].shape[0])  # above i
            middle = chain(weights[j + 1 : i], weights[j].shape[0])
            right = chain(weights[:j], d_x)
            around = right @ slope.T @ left  # (d_{j-1}, d_i)
            # tr(slope^T left V_i middle V_j right) = sum V_i[a, b] middle[b, p] V_j[p, q] around[q, a]
            block = np.einsum("bp,qa->abpq", middle, around).reshape(weights[i].size, weights[j].size)
            H[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] += block
            H[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] += block.T
    return H


def inertia(H, size, tolerance=1e-9):
    """Signs of the eigenvalues, and the gap that makes them certain: largest zero and smallest other one, relative."""
    values = np.linalg.eigvalsh(H)
    size = max(np.abs(values).max(), size)
    small = np.abs(values) <= tolerance * size
    gap = (np.abs(values[small]).max(initial=0.0) / size, np.abs(values[~small]).min(initial=size) / size)
    return (int((values < -tolerance * size).sum()), int(small.sum()), int((values > tolerance * size).sum())), gap


def flat(weights):
    return np.concatenate([np.asarray(W).ravel() for W in weights])


def shapes(widths):
    return [(b, a) for a, b in pairwise(widths)]
