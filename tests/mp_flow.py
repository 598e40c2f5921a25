"""Two-layer balanced flows by their closed form, read literally, in as many digits as the exponentials eat."""

import mpmath as mp
import numpy as np


def riccati(W1, W2, sigma_yx, lam, t, c=1.0, decay=0.0, digits=40):
    """Q Q^T(t) as an mpmath matrix: e^{Ft} Q0 [I + c Q0^T int e^{2Fs} Q0]^{-1} Q0^T e^{Ft}.

    F is diagonalised with mpmath too (`eigsy`), and `digits` are kept beyond those that cancel.
    """
    S = np.asarray(sigma_yx, dtype=float)
    d_y, d_x = S.shape
    scale = (abs(c * lam) / 2 + np.linalg.norm(S, 2) + decay) * t
    with mp.workdps(digits + int(2 * scale / np.log(10)) + 10):
        F = mp.zeros(d_x + d_y)
        half, t, c, gamma = (mp.mpf(float(x)) for x in (lam, t, c, decay))
        half = c * half / 2
        for i in range(d_x):
            F[i, i] = -half - gamma
            for a in range(d_y):
                F[i, d_x + a] = F[d_x + a, i] = mp.mpf(S[a, i])
        for a in range(d_y):
            F[d_x + a, d_x + a] = half - gamma
        l, P = mp.eigsy(F)
        Q0 = mp.matrix(np.concatenate([np.asarray(W1).T, np.asarray(W2)]).tolist())
        B = P.T * Q0
        grown, weighted = B.copy(), B.copy()
        for i in range(B.rows):
            tiny = abs(l[i]) * t < mp.mpf(10) ** (-mp.mp.dps // 2)
            integral = t if tiny else mp.expm1(2 * l[i] * t) / (2 * l[i])
            for k in range(B.cols):
                grown[i, k] *= mp.exp(l[i] * t)
                weighted[i, k] *= c * integral
        M = mp.eye(B.cols) + B.T * weighted
        H = P * grown
        return H * (M**-1) * H.T


def as_array(M):
    return np.array(M.tolist(), dtype=float)


def haar(rng, rows, columns):
    Q, R = np.linalg.qr(rng.standard_normal((rows, columns)))
    return Q * np.sign(np.diagonal(R))[None, :]


def balanced_start(rng, widths, lam, scale):
    """W1, W2 with W2^T W2 - W1 W1^T = lam I; numpy's, so that no test of the solution rests on `init`."""
    d_x, d_1, d_y = widths
    if lam < 0:
        W1, W2 = balanced_start(rng, (d_y, d_1, d_x), -lam, scale)
        return W2.T, W1.T
    if lam == 0:
        rank = min(widths)
        s = scale * np.sort(0.2 + rng.random(rank))[::-1]
        hidden = haar(rng, d_1, rank)
        return (hidden * s[None, :]) @ haar(rng, d_x, rank).T, (haar(rng, d_y, rank) * s[None, :]) @ hidden.T
    W1 = scale * rng.standard_normal((d_1, d_x))
    U, s, _ = np.linalg.svd(W1)
    s = np.concatenate([s, np.zeros(d_1)])[:d_1]
    return W1, (haar(rng, d_y, d_1) * np.sqrt(lam + s**2)[None, :]) @ U.T
