r"""From a network to one with the same end-to-end matrix and given conserved quantities, by changes of hidden bases.

A change $W_l \leftarrow e^{X_l} W_l e^{-X_{l-1}}$ with symmetric $X_l$ keeps the product and, to first order, changes
$C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$ by $-(K X)_l$ with

$$ (K X)_l = X_l (A_l + B_l) + (A_l + B_l) X_l - 2 W_l X_{l-1} W_l^T - 2 W_{l+1}^T X_{l+1} W_{l+1}, $$

$A_l = W_l W_l^T$, $B_l = W_{l+1}^T W_{l+1}$. K is symmetric, and $\langle X, K X \rangle = 2 \sum_l \|X_l W_l - W_l
X_{l-1}\|^2$: positive definite unless some symmetric change leaves the weights alone. Newton's method therefore always
has a direction that brings C nearer.

Networks with one product and bounded C are bounded: where C is bounded a large layer makes all layers large and nearly
aligned, and so the product. If all hidden widths equal the rank of the product, K is positive definite everywhere, and
by the degree of the map from changes of basis (positive definite ones) to C, which is 1 or -1 as the balanced
network shows, every C is attained, and Newton's method can come to rest nowhere else.
"""

from itertools import pairwise
from typing import Any

import numpy as np

Layers = list[np.ndarray]
FAR = 1e-12  # relative distance from the given C_l beyond which a network is not returned
NEAR = 2e-15  # relative distance at which there is nothing left to gain
STEPS = 100
LARGEST = 1.0  # norm of one change of basis X: beyond it the first order says nothing
SMALLEST = 1e-6  # a fraction of Newton's step that brings C no nearer ends the search
GAIN = 0.5  # a distance that NEAR steps do not halve near the end has met rounding
SLOW = 0.999  # a step that leaves this much of the distance is the last: the way ends at a boundary
SYSTEM = (1e-2, 1e-10)  # relative residual of the linear systems: far from the solution, and the finest
SWEEPS = 500  # of conjugate gradients; a nearly singular system is not worth more


def size_of(product: np.ndarray, imbalances: Layers) -> float:
    """Size of weights with this product and these C_l: the largest of |product|^{1/h} and |C_l|^{1/2}."""
    depth = len(imbalances) + 1
    sizes = [np.linalg.norm(product, 2) ** (1 / depth), *(np.linalg.norm(C, 2) ** 0.5 for C in imbalances)]
    return float(max(sizes))


def on_level(weights: Layers, targets: Layers, size: float) -> tuple[Layers, float]:
    """Weights with the same product and C_l nearer to `targets`, and their distance relative to size^2."""
    residuals = _residuals(weights, targets)
    distance = _norm(residuals)
    for _ in range(STEPS):
        if distance <= NEAR * size**2 or not any(W.any() for W in weights):
            break
        X = _newton_direction(weights, residuals, max(SYSTEM[1], min(SYSTEM[0], distance / size**2)))
        fraction = min(1.0, LARGEST / max(_norm(X), 1e-300))
        if not np.isfinite(_norm(X)):  # K is singular along the residual: no change of basis brings C nearer
            break
        while True:
            moved = _changed(weights, [fraction * Xl for Xl in X])
            left = _residuals(moved, targets)
            if _norm(left) < distance or fraction < SMALLEST:
                break
            fraction /= 2
        if not _norm(left) < distance:
            break
        stuck = _norm(left) > (GAIN if distance <= FAR * size**2 else SLOW) * distance
        weights, residuals, distance = moved, left, _norm(left)
        if stuck:
            break
    return weights, distance / size**2


def stretched(rng: np.random.Generator, weights: Layers, condition: float) -> Layers:
    """The network in random hidden bases, symmetric changes of condition number at most `condition`."""
    X = []
    for W in weights[:-1]:
        Z = rng.standard_normal((len(W), len(W)))
        Q = np.linalg.qr(Z)[0]
        X.append(Q @ (rng.uniform(-0.5, 0.5, len(W))[:, None] * np.log(condition) * Q.T))
    return _changed(weights, X)


def _residuals(weights: Layers, targets: Layers) -> Layers:
    """C_l minus what it should be."""
    return [V.T @ V - W @ W.T - C for W, V, C in zip(weights, weights[1:], targets, strict=False)]


def _changed(weights: Layers, X: Layers) -> Layers:
    """e^{X_l} W_l e^{-X_{l-1}} for symmetric X."""
    spectra = [np.linalg.eigh(Xl) for Xl in X]
    forth = [(Q * np.exp(x)[None, :]) @ Q.T for x, Q in spectra]
    back = [(Q * np.exp(-x)[None, :]) @ Q.T for x, Q in spectra]
    forth, back = [*forth, np.eye(len(weights[-1]))], [np.eye(weights[0].shape[1]), *back]
    return [G @ W @ H for G, W, H in zip(forth, weights, back, strict=True)]


def _newton_direction(weights: Layers, residuals: Layers, rtol: float) -> Layers:
    """X with K X = residuals, by conjugate gradients; the diagonal blocks of K, inverted exactly, precondition."""
    sizes = [len(R) for R in residuals]
    ends = np.cumsum([d * d for d in sizes])
    split = lambda x: [part.reshape(d, d) for part, d in zip(np.split(x, ends[:-1]), sizes, strict=True)]
    join = lambda X: np.concatenate([((Xl + Xl.T) / 2).ravel() for Xl in X])
    sums = [V.T @ V + W @ W.T for W, V in pairwise(weights)]
    spectra = [np.linalg.eigh(S) for S in sums]
    floor = 1e-14 * max(s.max(initial=0.0) for s, _ in spectra)

    def apply(x):
        X = [None, *split(x), None]
        image = []
        for l, S in enumerate(sums, start=1):
            Y = X[l] @ S + S @ X[l]
            if X[l - 1] is not None:
                Y = Y - 2 * weights[l - 1] @ X[l - 1] @ weights[l - 1].T
            if X[l + 1] is not None:
                Y = Y - 2 * weights[l].T @ X[l + 1] @ weights[l]
            image.append(Y)
        return join(image)

    def precondition(x):
        image = []
        for R, (s, Q) in zip(split(x), spectra, strict=True):
            image.append(Q @ (Q.T @ R @ Q / np.maximum(s[:, None] + s[None, :], floor)) @ Q.T)
        return join(image)

    from scipy.sparse.linalg import LinearOperator, cg  # a quarter of a second that Gaussian starts need not wait

    shape = (ends[-1], ends[-1])
    linear: Any = LinearOperator  # its annotations hide the arguments that it takes
    operator = linear(shape, matvec=apply, dtype=float)
    inverse = linear(shape, matvec=precondition, dtype=float)
    with np.errstate(all="ignore"):
        x, _ = cg(operator, join(residuals), rtol=rtol, maxiter=SWEEPS, M=inverse)
    return split(x)


def _norm(X: Layers) -> float:
    return float(np.linalg.norm([np.linalg.norm(Xl) for Xl in X]))
