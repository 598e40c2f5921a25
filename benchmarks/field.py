r"""The best right-hand side that a numpy user could write: flat vector in and out, thin side first, no allocation.

With $S_j = W_h \cdots W_{j+1}$ (d_y, d_j) and $R_j = (\Sigma - W) W_1^T \cdots W_{j-1}^T$ (d_y, d_{j-1}) the flow is
$\dot W_j = S_j^T R_j$. All problems here have d_y <= d_x, so these products are the thin ones, and $W = S_0$ comes with
them: 3 (h - 1) products an evaluation.
"""

import numpy as np

from .problems import Problem


class Field:
    """Velocity, its Jacobian and its product with a vector, of one problem; not thread-safe (it owns its buffers)."""

    def __init__(self, problem: Problem):
        self.sigma = problem.sigma
        self.shapes = problem.shapes
        self.depth = len(self.shapes)
        self.offsets = np.concatenate([[0], np.cumsum([rows * columns for rows, columns in self.shapes])])
        d_y, widths = problem.widths[-1], problem.widths
        self._y, self._velocity, self._direction, self._product = (np.empty(problem.size) for _ in range(4))
        self._weights, self._slopes = self.layers(self._y), self.layers(self._velocity)
        self._directions, self._products = self.layers(self._direction), self.layers(self._product)
        # lefts[j] = S_j for j = 0..h-1; S_{h-1} is W_h itself; rights[j - 1] = R_j for j = 1..h
        self._lefts = [np.empty((d_y, widths[j])) for j in range(self.depth - 1)] + [self._weights[-1]]
        self._rights = [np.empty((d_y, widths[j])) for j in range(self.depth - 1)] + [self._slopes[-1]]
        self._d_lefts = [np.empty((d_y, widths[j])) for j in range(self.depth - 1)] + [self._directions[-1]]
        self._d_rights = [np.empty((d_y, widths[j])) for j in range(self.depth - 1)] + [self._products[-1]]
        self._jacobian = np.empty((problem.size, problem.size)) if problem.size <= 2000 else None

    def layers(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views of the layers of (..., N), each (..., d_l, d_{l-1})."""
        return [
            flat[..., a:b].reshape(*flat.shape[:-1], *shape)
            for a, b, shape in zip(self.offsets, self.offsets[1:], self.shapes, strict=False)
        ]

    def flat(self, weights: tuple[np.ndarray, ...]) -> np.ndarray:
        """The layers as one new vector (N,)."""
        return np.concatenate([W.ravel() for W in weights])

    def update(self, y: np.ndarray) -> np.ndarray:
        """Velocity at y (N,) in the field's own buffer, which the next call overwrites."""
        self._y[:] = y
        weights, lefts, rights = self._weights, self._lefts, self._rights
        for j in range(self.depth - 2, -1, -1):
            np.dot(lefts[j + 1], weights[j], out=lefts[j])
        np.subtract(self.sigma, lefts[0], out=rights[0])
        for j in range(self.depth - 1):
            np.dot(rights[j], weights[j].T, out=rights[j + 1])
            np.dot(lefts[j + 1].T, rights[j], out=self._slopes[j])
        return self._velocity

    def __call__(self, t: float, y: np.ndarray) -> np.ndarray:
        return self.update(y).copy()  # integrators keep what they are given

    def jacobian_product(self, v: np.ndarray) -> np.ndarray:
        """Jacobian at the last y of `update` times v (N,), in the field's own buffer."""
        self._direction[:] = v
        weights, lefts, rights = self._weights, self._lefts, self._rights
        d_weights, d_lefts, d_rights = self._directions, self._d_lefts, self._d_rights
        for j in range(self.depth - 2, -1, -1):
            np.dot(d_lefts[j + 1], weights[j], out=d_lefts[j])
            d_lefts[j] += lefts[j + 1] @ d_weights[j]
        np.negative(d_lefts[0], out=d_rights[0])
        for j in range(self.depth - 1):
            np.dot(d_rights[j], weights[j].T, out=d_rights[j + 1])
            d_rights[j + 1] += rights[j] @ d_weights[j].T
            np.dot(d_lefts[j + 1].T, rights[j], out=self._products[j])
            self._products[j] += lefts[j + 1].T @ d_rights[j]
        return self._product

    def jacobian(self, t: float, y: np.ndarray) -> np.ndarray:
        r"""Minus the Hessian (N, N), symmetric, in the field's own buffer.

        Block (j, k) for j <= k, rows (a, b) of W_j and columns (d, c) of W_k, with $A_j = W_{j-1} \cdots W_1$:
        $-(S_j^T S_k)_{ad} (A_j A_k^T)_{bc} + (W_{k-1} \cdots W_{j+1})_{ca} (S_k^T R_j)_{db}$, the second for j < k.
        """
        assert self._jacobian is not None, "the dense Jacobian is for at most 2000 weights"
        self.update(y)
        weights, rights, offsets = self._weights, self._rights, self.offsets
        lefts = [*self._lefts[1:], np.eye(self.sigma.shape[0])]  # S_1 .. S_h
        below = [np.eye(self.sigma.shape[1])]  # A_1 .. A_h
        for W in weights[:-1]:
            below.append(W @ below[-1])
        for j in range(self.depth):
            between = None  # W_{k-1} .. W_{j+1}
            for k in range(j, self.depth):
                outer, inner = lefts[j].T @ lefts[k], below[j] @ below[k].T
                block = -outer[:, None, :, None] * inner[None, :, None, :]
                if k > j:
                    between = np.eye(self.shapes[j][0]) if between is None else weights[k - 1] @ between
                    mixed = lefts[k].T @ rights[j]
                    block += between.T[:, None, None, :] * mixed.T[None, :, :, None]
                rows, columns = slice(offsets[j], offsets[j + 1]), slice(offsets[k], offsets[k + 1])
                block = block.reshape(offsets[j + 1] - offsets[j], offsets[k + 1] - offsets[k])
                self._jacobian[rows, columns] = block
                if k > j:
                    self._jacobian[columns, rows] = block.T
        return self._jacobian
