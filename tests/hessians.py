"""Hessians of the squared error in numpy, block by block from the product rule: the truth of tests of curvature."""

import numpy as np


def parts(layers, sigma_yx, sigma_xx, factor=1.0):
    """The Gauss-Newton part and the part with the gradient of the loss, both (N, N), weights row by row."""
    layers = [np.asarray(W) for W in layers]
    h, d_y = len(layers), layers[-1].shape[0]
    below = [np.eye(layers[0].shape[1])]
    for W in layers:
        below.append(W @ below[-1])
    above = [np.eye(d_y)]
    for W in layers[::-1]:
        above.append(above[-1] @ W)
    above = above[::-1]  # above[j] = W_h .. W_{j+1}
    gradient = factor * (below[h] @ sigma_xx - sigma_yx)
    offsets = np.cumsum([0] + [W.size for W in layers])
    outer, functional = np.zeros((offsets[-1], offsets[-1])), np.zeros((offsets[-1], offsets[-1]))
    for j in range(h):
        between = np.eye(layers[j].shape[0])  # W_{k-1} .. W_{j+1}
        for k in range(j, h):
            place = slice(offsets[j], offsets[j + 1]), slice(offsets[k], offsets[k + 1])
            size = layers[j].size, layers[k].size
            left, right = above[j + 1].T @ above[k + 1], factor * below[j] @ sigma_xx @ below[k].T
            outer[place] = np.einsum("ac,bd->abcd", left, right).reshape(size)
            outer[place[::-1]] = outer[place].T
            if k > j:
                # dW = .. V_k between V_j ..: the coefficient of (V_j)_ab (V_k)_cd is between_da (above^T G below^T)_cb
                mixed = above[k + 1].T @ gradient @ below[j].T
                functional[place] = np.einsum("da,cb->abcd", between, mixed).reshape(size)
                functional[place[::-1]] = functional[place].T
                between = layers[k] @ between
    return outer, functional


def of(objective, network, weight_decay=0.0):
    """The whole Hessian of a `SquaredError` at a network."""
    moments = np.asarray(objective.sigma_yx), np.asarray(objective.sigma_xx)
    outer, functional = parts(network.weights, *moments, float(objective.factor))
    return outer + functional + weight_decay * np.eye(len(outer))


def flat(network):
    """All weights, layer after layer and row by row."""
    return np.concatenate([np.asarray(W).ravel() for W in network.weights])
