"""Small networks and extensions (sections 6 and 7 of the survey)."""

from itertools import pairwise

import numpy as np

from ...exact import half_time, mode_strength, unbalanced_pair
from ..measures import slope, square_loss
from ..question import Layers, Question, product, relative, velocity
from ..statement import Finding, does_not_apply, statement

ROUNDING = "rounding of a few products"
LATE = 60.0
"""Times the rate of the slowest mode of (62): e^-60 is below rounding."""


def printed_norm(question: Question) -> Finding:
    """How much the norm of the end-to-end matrix rises and falls, on a decoupled path whose loss falls."""
    path = [product(weights) for _, weights in question.path] if question.same_flow else []
    norms = np.array([np.linalg.norm(W) for W in path])
    if norms.size < 3:
        values = question.singular_values[: min(question.widths)]
        if np.sum(values > 0) < 2 or question.depth < 2:
            return does_not_apply("needs two modes and two layers")
        # the second mode starts too large and falls at once, the first one starts small and rises late
        ts = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 300)]) / (question.depth * float(values[1]))
        starts = np.array([1e-2 * values[0], 2 * values[1]])
        norms = np.linalg.norm(mode_strength(ts, starts, values[:2], question.depth), axis=1)
    steps = np.diff(norms)
    up, down = steps[steps > 0].sum(), -steps[steps < 0].sum()
    return Finding(float(min(up, down) / max(up + down, 1e-300)), 1e-3, "a monotone norm moves in one direction")


@statement(
    "6.1.norm",
    name="Norm of the end-to-end matrix",
    source="Altafini, section 6.1",
    words="The loss never rises along the flow; the norm of the end-to-end matrix may fall and rise again.",
    latex=r"\dot{\mathcal L} = -\|\dot A\|_F^2 \le 0, \quad \tfrac{d}{dt} \tfrac12 \|A^h\|_F^2 = \langle W_{1:h},"
    r" \dot W_{1:h} \rangle \text{ of any sign}",
    erratum="Printed: the norm of A^h is monotone because the loss is.",
    as_printed=printed_norm,
)
def loss_is_monotone(question: Question) -> Finding:
    """The derivative of the loss along the velocity, by its definition; the largest rise along a trajectory."""
    W, speed = question.weights, question.velocity
    end = sum((product([*W[:j], V, *W[j + 1 :]]) for j, V in enumerate(speed)), np.zeros_like(question.sigma))
    falls = float(np.sum(question.residual * end))
    off = relative(falls - sum(float(np.sum(V**2)) for V in speed), falls)
    if question.path and question.same_flow:
        losses = np.array([np.sum((question.sigma - product(weights)) ** 2) / 2 for _, weights in question.path])
        rise = float(np.diff(losses, prepend=losses[0]).max()) / max(float(losses[0]), 1e-300)
        if rise > 1e-6:
            return Finding(rise, 1e-6, "an integrator's error", "the loss rises along the trajectory")
    return Finding(off, 1e-9, "rounding where terms cancel")


def printed_equilibrium(question: Question) -> Finding:
    """(64) as the limit of every start."""
    return _equilibria(question, both=False)


def printed_order(question: Question) -> Finding:
    """Half-times of two modes that start equal and below both values, the weaker one past its half."""
    h, (strong, weak) = question.depth, (2.0, 1.0)
    first, second = (float(half_time(0.9, sigma, h)) for sigma in (strong, weak))
    return Finding(max(first - second, 0.0) / max(first, 1e-300), 1e-12, "rounding of a time", "sigma 2, 1 from 0.9")


@statement(
    "5.4.order",
    name="Order of balanced modes",
    source="Altafini, section 5.4",
    words="Of two balanced modes with the same start the stronger one is ahead at all times.",
    latex=r"z_j(0) = z_k(0), \; \sigma_j > \sigma_k \Rightarrow z_j(t) > z_k(t) 	ext{ for all } t > 0",
    assumptions="0-balanced, decoupled, equal positive start",
    erratum="Printed as discovery of sigma_j before sigma_k for every start below sigma_k^(1/h); the order of the times"
    " at which modes are half learned follows for small starts alone.",
    as_printed=printed_order,
)
def order_of_modes(question: Question) -> Finding:
    """Exact strengths of all modes from one start, at times from early to late."""
    values = np.unique(question.singular_values[question.singular_values > 0])
    if values.size < 2:
        return does_not_apply("needs two different singular values")
    start = 0.5 * values[0]
    ts = np.geomspace(1e-2, 1e2, 30) / (question.depth * values[-1] ** (2 - 2 / question.depth))
    strengths = mode_strength(ts, start, values, question.depth)
    behind = strengths[:, :-1] - strengths[:, 1:]
    return Finding(max(float((behind / strengths[:, 1:]).max()), 0.0), 1e-13, "rounding of a strength")


@statement(
    "eq64",
    name="Equilibria of one hidden node",
    source="Altafini, (62) to (64)",
    words="Every level of the conserved quantity has two minima, and the sign of w_1 + w_2 decides between them.",
    latex=r"w(t) \to \mathrm{sign}(w_1(0) + w_2(0)) \Big( w_1^*, \frac{\sigma}{w_1^*} \Big), \quad (w_1^*)^2 ="
    r" \tfrac12 \big( c + \sqrt{c^2 + 4 \sigma^2} \big), \quad c = w_1^2 - w_2^2",
    assumptions="d_x = d_1 = d_y = 1, w_1 + w_2 not 0",
    erratum="(64) prints the positive one alone, and c > 0 and c < 0 as the two basins; w_1 = -w_2 separates the"
    " basins.",
    as_printed=printed_equilibrium,
)
def equilibria_of_a_pair(question: Question) -> Finding:
    """The exact flow of (62) for the first singular value, from starts of both signs."""
    return _equilibria(question, both=True)


def printed_decrease(question: Question) -> Finding:
    """The loss's derivative where c_1 and c_2 are not zero but c_1 + c_2 is: printed to be negative."""
    sigma = float(question.singular_values[0]) or 1.0
    layers = [np.array([[w]]) for w in (0.0, 5**0.5 / 2, 0.0)]
    rate = sum(float(np.sum(V**2)) for V in velocity(np.array([[sigma]]), layers))
    return Finding(0.0 if rate > 0 else 1.0, 0.0, "the derivative is negative or it is not", "w = (0, 1.118, 0)")


@statement(
    "eq65",
    name="Decrease of the loss for two hidden nodes",
    source="Altafini, (65), section 6.2.2",
    words="The loss of three weights in series decreases strictly where no two of their squares are equal.",
    latex=r"\dot{\mathcal L} = -2 (w_2^2 w_3^2 + w_1^2 w_3^2 + w_1^2 w_2^2) \mathcal L < 0 \text{ if } c_1, c_2,"
    r" c_1 + c_2 \ne 0",
    assumptions="d_x = d_1 = d_2 = d_y = 1, loss not 0",
    erratum="Printed for c_1, c_2 not 0; at (0, 1.118, 0) both are not, and nothing moves.",
    as_printed=printed_decrease,
)
def decrease_of_a_triple(question: Question) -> Finding:
    """At random weights, and with one weight zero, the most that different squares allow."""
    rng, sigma, worst = question.rng(), float(question.singular_values[0]) or 1.0, 0.0
    for case in range(8):
        w = rng.standard_normal(3)
        w[: case % 2] = 0.0
        measured = sum(float(V[0, 0] ** 2) for V in velocity(np.array([[sigma]]), [x.reshape(1, 1) for x in w]))
        formula = (w[1] ** 2 * w[2] ** 2 + w[0] ** 2 * w[2] ** 2 + w[0] ** 2 * w[1] ** 2) * (sigma - np.prod(w)) ** 2
        worst = max(worst, relative(measured - formula, formula), 0.0 if formula > 0 else 1.0)
    return Finding(worst, 1e-12, ROUNDING)


def printed_dimension(question: Question) -> Finding:
    """Whether the three conserved quantities are independent where w_1 w_4 = w_2 w_3."""
    rank = _independent(np.array([1.0, 2.0, 0.5, 1.0]))
    return Finding((3 - rank) / 3, 0.0, "a whole number", "w = (1, 2, 1/2, 1)")


@statement(
    "eq66",
    name="Conserved quantities of one hidden layer of two nodes",
    source="Altafini, (66), section 6.2.3",
    words="The three conserved quantities are independent exactly where the two layers are not parallel, and the"
    " flow is"
    " orthogonal to them.",
    latex=r"\dim \Delta_\pi(w) = 3 \iff w_1 w_4 \ne w_2 w_3; \quad \dot{\mathcal L} = -2 |w|^2 \mathcal L",
    assumptions="d_x = d_y = 1, d_1 = 2, w not 0",
    erratum="Printed as dimension 3 at every w.",
    as_printed=printed_dimension,
)
def conserved_by_two_nodes(question: Question) -> Finding:
    """Rank of the differentials at random and at parallel weights; the flow along them; the loss."""
    rng, sigma, worst = question.rng(), float(question.singular_values[0]) or 1.0, 0.0
    for case in range(6):
        w = rng.standard_normal(4)
        w[2:] = w[2:] if case % 2 else w[:2] * w[2]
        speed = np.concatenate([V.ravel() for V in velocity(np.array([[sigma]]), _pair_of_nodes(w))])
        loss = (sigma - w[0] * w[2] - w[1] * w[3]) ** 2 / 2
        worst = max(
            worst,
            float(abs(_independent(w) - (3 if case % 2 else 2))),
            relative(_differentials(w) @ speed, np.linalg.norm(w) * np.linalg.norm(speed)),
            relative(speed @ speed - 2 * (w @ w) * loss, speed @ speed),
        )
    return Finding(worst, 1e-12, ROUNDING)


def printed_step(question: Question) -> Finding:
    """A - eta (velocity), the printed step."""
    return _step(question, -1.0)


@statement(
    "eq67",
    name="Gradient descent",
    source="Altafini, (67)",
    words="A step of gradient descent along the velocity lowers the loss, and changes the imbalance in second order"
    " alone.",
    latex=r"A(k+1) = A(k) + \eta \sum_j (A^{h-j})^\top (E - A^h) (A^{j-1})^\top, \quad C_i(k+1) - C_i(k) = \eta^2"
    r" (\dot W_i \dot W_i^\top - \dot W_{i+1}^\top \dot W_{i+1})",
    erratum="Printed with - eta before the sum, which ascends.",
    as_printed=printed_step,
)
def gradient_descent(question: Question) -> Finding:
    """The slope of the loss along the step, relative to -|velocity|^2; what a finite step changes in C."""
    return _step(question, 1.0)


def printed_skip(question: Question) -> Finding:
    """The printed extension, whose product skips one layer less."""
    return _skip(question, _printed_extension)


@statement(
    "7.skip",
    name="Skip connections",
    source="Altafini, section 7",
    words="A connection from layer k to layer k + j is a network with d_k more nodes in each layer between, whose"
    " flow is"
    " right where the new weights are held fixed.",
    latex=r"\tilde W_{k+1} = \begin{bmatrix} W_{k+1} \\ I \end{bmatrix}, \; \tilde W_{k+i} = \mathrm{diag}(W_{k+i}, I),"
    r" \; \tilde W_{k+j} = \begin{bmatrix} W_{k+j} & I \end{bmatrix}: \quad W_{1:h} + W_{k+j+1:h} W_{1:k}",
    assumptions="d_k = d_{k+j}, j >= 2",
    erratum="Printed with [W I] at k + j - 1, which gives W_{1:h} + W_{k+j:h} W_{1:k}.",
    as_printed=printed_skip,
)
def skip_connection(question: Question) -> Finding:
    """On random layers between this problem's inputs and outputs."""
    return _skip(question, _extension)


def _equilibria(question: Question, both: bool) -> Finding:
    rng, sigma, worst = question.rng(), float(question.singular_values[0]) or 1.0, 0.0
    for case in range(6):
        w1, w2 = np.sqrt(sigma) * rng.uniform(0.2, 2.0, 2) * (1, -1)[case % 2] * np.array([1, (1, -1)[case // 3]])
        c = w1**2 - w2**2
        root = np.sqrt(c**2 + 4 * sigma**2)
        first = np.sqrt((c + root) / 2) if c > 0 else np.sqrt(2 * sigma**2 / (root - c))
        side = np.sign(w1 + w2) if both else 1.0
        found = np.array(unbalanced_pair(LATE / root, w1, w2, sigma)).ravel()
        worst = max(worst, relative(found - side * np.array([first, sigma / first]), found))
    return Finding(worst, 1e-12, "rounding; e^-60 of the way is left", "six starts")


def _pair_of_nodes(w: np.ndarray) -> Layers:
    return [w[:2].reshape(2, 1), w[2:].reshape(1, 2)]


def _differentials(w: np.ndarray) -> np.ndarray:
    """d pi_1, d pi_2, d pi_3 at w, (3, 4)."""
    w1, w2, w3, w4 = w
    return np.array([[2 * w1, 0, -2 * w3, 0], [0, 2 * w2, 0, -2 * w4], [w2, w1, -w4, -w3]])


def _independent(w: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(_differentials(w), tol=1e-10 * float(np.linalg.norm(w))))


def _step(question: Question, sign: float) -> Finding:
    speed = sum(float(np.sum(V**2)) for V in question.velocity)
    if speed <= 1e-24 * max(float(np.sum(question.sigma**2)), 1e-300):
        return does_not_apply("the network is at rest, no step moves it")
    loss = lambda weights: square_loss(question.sigma, weights)
    fall = slope(loss, question.weights, [sign * V for V in question.velocity])
    eta = 0.1 / max(1.0, speed**0.5)
    after = [W + sign * eta * V for W, V in zip(question.weights, question.velocity, strict=True)]
    off = 0.0
    for i in range(question.depth - 1):
        V, Y = question.velocity[i], question.velocity[i + 1]
        change = _imbalance(after, i) - _imbalance(question.weights, i) - eta**2 * (V @ V.T - Y.T @ Y)
        size = sum(float(np.sum(W**2)) for W in (after[i], after[i + 1]))
        off = max(off, relative(change, max(size, 1e-300)))
    return Finding(max(abs(fall / speed + 1), off), 1e-9, "rounding where terms of the product cancel")


def _imbalance(weights: Layers, i: int) -> np.ndarray:
    return weights[i] @ weights[i].T - weights[i + 1].T @ weights[i + 1]


def _skip(question: Question, extend) -> Finding:
    rng = question.rng()
    d_x, d_y, d = question.widths[0], question.widths[-1], max(min(question.widths), 2)
    worst, k = 0.0, 1
    for j in (2, 3):
        widths = [d_x, *([d] * (j + 1)), d_y]
        layers = [rng.standard_normal((b, a)) / a**0.5 for a, b in pairwise(widths)]
        wanted = product(layers) + product([*layers[:k], *layers[k + j :]])
        extended = extend(layers, k, j)
        worst = max(worst, relative(product(extended) - wanted, wanted), _masked(layers, extended, k, j))
    return Finding(worst, 1e-12, ROUNDING, "random layers, connections over two and three")


def _masked(layers: Layers, extended: Layers, k: int, j: int) -> float:
    """The flow of the extended layers with the connection held fixed, against the derivative of the loss."""
    rng = np.random.default_rng(k + j)
    directions, target = [rng.standard_normal(W.shape) for W in layers], rng.standard_normal(product(layers).shape)
    speed = velocity(target, extended)
    free = [V[tuple(map(slice, W.shape))] for V, W in zip(speed, layers, strict=False)]
    loss = lambda W: np.sum((target - product(W) - product([*W[:k], *W[k + j :]])) ** 2) / 2
    rise = slope(loss, layers, directions)
    formula = sum(float(np.sum(V * D)) for V, D in zip(free, directions, strict=False))
    return relative(rise + formula, relative(free) * relative(directions))


def _extension(layers: Layers, k: int, j: int) -> Layers:
    """The layers with a connection from layer k to k + j."""
    d = layers[k].shape[1]
    eye = np.eye(d)
    first = np.vstack([layers[k], eye])
    between = [_beside(W, eye) for W in layers[k + 1 : k + j - 1]]
    last = np.hstack([layers[k + j - 1], eye])
    return [*layers[:k], first, *between, last, *layers[k + j :]]


def _printed_extension(layers: Layers, k: int, j: int) -> Layers:
    """The same with [W I] at k + j - 1, and the rest left alone."""
    d = layers[k].shape[1]
    if j == 2:  # [W; I] and [W I] fall on one layer: W + I
        return [*layers[:k], layers[k] + np.eye(d), *layers[k + 1 :]]
    return _extension(layers, k, j - 1)


def _beside(W: np.ndarray, eye: np.ndarray) -> np.ndarray:
    return np.block([[W, np.zeros((len(W), len(eye)))], [np.zeros((len(eye), W.shape[1])), eye]])
