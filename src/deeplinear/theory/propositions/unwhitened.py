"""Two-layer learning dynamics with any input correlations (the encyclopedia entry that starts from MSE)."""

import numpy as np

from ..measures import slope
from ..question import Question, product, relative
from ..statement import Finding, does_not_apply, statement

SOURCE = "Two-layer learning dynamics under mean squared error (loss without the factor 1/2)"
ROUNDING = "rounding where terms of the gradient cancel"
DIRECTIONS = 3


@statement(
    "000.1",
    name="Velocity of the second layer",
    source=f"{SOURCE}, first derivation",
    words="The second layer moves along the error's correlation with the hidden layer.",
    latex=r"-\frac{\partial L}{\partial W_{32}} = 2 (\Sigma_{31} - W_{32} W_{21} \Sigma_{11}) W_{21}^\top",
    assumptions="L is the mean of |y - W_32 W_21 x|^2",
    erratum="A line of the derivation lacks brackets around the difference, and samples their index; the result is"
    " right.",
)
def second_layer(question: Question) -> Finding:
    """Against derivatives of the loss along random directions, in the data's own coordinates."""
    W21, W32, xx, yx = _parts(question)
    return _compare(question, 1, 2 * (yx - W32 @ W21 @ xx) @ W21.T)


def printed_first_layer(question: Question) -> Finding:
    """With Sigma_32, the correlation of outputs and hidden layer, in the place of W_32."""
    W21, W32, xx, yx = _parts(question)
    return _compare(question, 0, 2 * (yx @ W21.T).T @ (yx - W32 @ W21 @ xx))


@statement(
    "000.2",
    name="Velocity of the first layer",
    source=f"{SOURCE}, second derivation",
    words="The first layer moves along the error's correlation with the inputs, carried back through the second.",
    latex=r"-\frac{\partial L}{\partial W_{21}} = 2 W_{32}^\top (\Sigma_{31} - W_{32} W_{21} \Sigma_{11})",
    assumptions="L is the mean of |y - W_32 W_21 x|^2",
    erratum="Printed with Sigma_32^T in the place of W_32^T.",
    as_printed=printed_first_layer,
)
def first_layer(question: Question) -> Finding:
    """Against derivatives of the loss along random directions, in the data's own coordinates."""
    W21, W32, xx, yx = _parts(question)
    return _compare(question, 0, 2 * W32.T @ (yx - W32 @ W21 @ xx))


@statement(
    "000.3",
    name="Degree of loss and gradient",
    source=f"{SOURCE}, last paragraph",
    words="The loss is of fourth degree in the weights of two layers, the gradient of third.",
    latex=r"\Delta^5 L(s W) = 0, \quad \Delta^4 \nabla L(s W) = 0",
    assumptions="two layers",
)
def degrees(question: Question) -> Finding:
    """Finite differences along a line through the weights."""
    W21, W32, xx, yx = _parts(question)
    V21, V32 = (question.rng().standard_normal(W.shape) for W in (W21, W32))
    losses, gradients = [], []
    for s in range(6):
        X, Y = W21 + s * V21, W32 + s * V32
        losses.append(_loss(X, Y, xx, yx))
        gradients.append(Y.T @ (yx - Y @ X @ xx))
    fifth = np.array([-1, 5, -10, 10, -5, 1])
    fourth = np.array([1, -4, 6, -4, 1])
    high = abs(fifth @ np.array(losses)) / np.abs(fifth * np.array(losses)).sum()
    rest = sum(c * G for c, G in zip(fourth, gradients, strict=False))
    return Finding(max(float(high), relative(rest, gradients)), 1e-11, "rounding of differences of high order")


def two_layers(question: Question) -> tuple[np.ndarray, np.ndarray]:
    """W_21 and W_32 in the data's coordinates: W_1 and the product of the rest (the identity for one layer)."""
    weights = [np.asarray(W, dtype=float) for W in question.network.weights]
    return weights[0], product(weights[1:]) if len(weights) > 1 else np.eye(len(weights[0]))


def _parts(question: Question) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    W21, W32 = two_layers(question)
    return W21, W32, np.asarray(question.objective.sigma_xx), np.asarray(question.objective.sigma_yx)


def _loss(W21: np.ndarray, W32: np.ndarray, xx: np.ndarray, yx: np.ndarray):
    """The mean of |y - W_32 W_21 x|^2 up to a constant."""
    W = W32 @ W21
    return np.sum(W @ xx * W) - 2 * np.sum(yx * W)


def _compare(question: Question, layer: int, velocity: np.ndarray) -> Finding:
    """The derivative of -L along random directions of one layer, by steps along i, against <velocity, direction>."""
    *layers, xx, yx = _parts(question)
    if not np.any(layers[0]) and not np.any(layers[1]):
        return does_not_apply("all weights are zero, nothing moves")
    if velocity.shape != layers[layer].shape:
        return Finding(1.0, 0.0, "shapes agree or they do not", "the formula's shape is not that of the layer")
    rng, worst = question.rng(), 0.0
    size = np.linalg.norm(layers[1 - layer]) * (np.linalg.norm(yx) + np.linalg.norm(layers[1] @ layers[0] @ xx))
    for _ in range(DIRECTIONS):
        V = [rng.standard_normal(W.shape) if l == layer else np.zeros_like(W) for l, W in enumerate(layers)]
        rise = slope(lambda weights: _loss(weights[0], weights[1], xx, yx), layers, V)
        gap = abs(rise + float(np.sum(velocity * V[layer])))
        worst = max(
            worst, gap / max(float(np.linalg.norm(V[layer]) * np.linalg.norm(velocity)), 1e-6 * float(size), 1e-300)
        )
    note = "" if question.depth == 2 else "the layers of this network taken together as two"
    return Finding(worst, 1e-9, ROUNDING, note)
