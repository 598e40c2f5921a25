"""Gradient flows integrated layer by layer with numpy and scipy alone, the truth of tests of exact solutions."""

import mpmath as mp
import numpy as np
from scipy.integrate import solve_ivp


def slopes(layers, sigma_yx, sigma_xx, decay=0.0):
    """W_{l+1:h}^T (sigma_yx - W sigma_xx) W_{1:l-1}^T - decay W_l, written out."""
    below = [np.eye(layers[0].shape[1])]
    for W in layers:
        below.append(W @ below[-1])
    residual, above, out = sigma_yx - below[-1] @ sigma_xx, np.eye(layers[-1].shape[0]), []
    for W, P in zip(layers[::-1], below[-2::-1], strict=True):
        out.append(above.T @ residual @ P.T - decay * W)
        above = above @ W
    return out[::-1]


def flow(objective, network, ts, decay=0.0, rtol=3e-14, atol=1e-16, max_step=0.02):
    """Weights at every time, a list of lists; steps at the edge of stability would leave errors of 1e-12."""
    layers = [np.asarray(W) for W in network.weights]
    factor = float(objective.factor)
    sigma_yx, sigma_xx = factor * np.asarray(objective.sigma_yx), factor * np.asarray(objective.sigma_xx)
    cuts = np.cumsum([W.size for W in layers])[:-1]
    split = lambda y: [part.reshape(W.shape) for part, W in zip(np.split(y, cuts), layers, strict=True)]
    field = lambda t, y: np.concatenate([d.ravel() for d in slopes(split(y), sigma_yx, sigma_xx, decay)])
    y, t, found = np.concatenate([W.ravel() for W in layers]), 0.0, []
    for end in ts:
        if end > t:
            y, t = solve_ivp(field, (t, end), y, "DOP853", rtol=rtol, atol=atol, max_step=max_step).y[:, -1], end
        found.append(split(y))
    return found


def product(layers):
    W = layers[0]
    for above in layers[1:]:
        W = above @ W
    return W


def weight_error(objective, network, trajectory):
    """Largest difference of any weight of a trajectory from the brute flow."""
    truth = flow(objective, network, np.asarray(trajectory.ts))
    return max(
        float(np.abs(W - np.asarray(kept[i])).max())
        for i, layers in enumerate(truth)
        for W, kept in zip(layers, trajectory.networks.weights, strict=True)
    )


def frame(rng, rows, columns):
    """Orthonormal columns, Haar distributed."""
    Q, R = np.linalg.qr(rng.standard_normal((rows, columns)))
    return Q * np.sign(np.diagonal(R))


def mp_matrix(M):
    return mp.matrix(np.asarray(M, dtype=float).tolist())
