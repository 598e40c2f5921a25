"""Arguments that people give in another form than the one in the signature: taken, or refused in one line."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import deeplinear as dl
from deeplinear import CrossEntropy, MatrixCompletion, SquaredError

pytestmark = pytest.mark.usefixtures("without_annotations")

X = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, -1.0]])
Y = np.array([[1.0], [2.0], [2.5], [0.5]])
SPECIES = ["rose", "oak", "rose", "elm"]


def refuses(message, f, *args, **kwargs):
    """The one line with which a call is refused."""
    with pytest.raises(ValueError, match=message) as caught:
        f(*args, **kwargs)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("`")


def test_tasks_and_moments_stand_in_the_place_of_samples():
    task = dl.tasks.semantic()
    for objective in (SquaredError.of(task), SquaredError.of(task.moments), SquaredError.of(task, scale=dl.MEAN)):
        np.testing.assert_array_equal(objective.sigma_yx, task.Y.T / 4)
    for f in (SquaredError.of, dl.learn):
        refuses(r"^`Y`: got \[\[1\.0\]\], but Task\('semantic'.* has its own outputs; leave it out$", f, task, [[1.0]])
        refuses(r"^`X`: is a pair; give two arguments, X, Y$", f, (X, Y))
        refuses(r"^`Y`: is missing; give X, Y$", f, X)


def test_texts_are_classes_where_they_can_be():
    one_hot = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]  # elm, oak, rose
    for labels in (SPECIES, np.array(SPECIES), np.array(SPECIES, object)[:, None], pd.Series(SPECIES)):
        np.testing.assert_array_equal(CrossEntropy(X, labels).Y, one_hot)
        refuses(r"^`Y`: has the classes elm, oak, rose; give numbers, such as columns of", SquaredError.of, X, labels)
    np.testing.assert_array_equal(CrossEntropy(X, pd.Categorical(SPECIES)).Y, one_hot)
    for f in (CrossEntropy, dl.learn, SquaredError.of):
        refuses(
            r"^`(Y|labels)`: has None at place 2 among texts; give every sample a label", f, X, ["a", None, "b", "a"]
        )
        refuses(r"^`(Y|labels)`: has 1 at place 2 among texts; give every sample a label", f, X, ["a", 1, "b", "a"])
        refuses(r"^`(Y|labels)`: has texts in an array of shape \(2, 2\)", f, X[:2], [["a", "b"], ["b", "a"]])
    refuses(r"^`y`: has the text 'rose'; give real numbers", dl.Logistic, X, SPECIES)
    refuses(r"^`Y`: has 1001 different texts, which are names of samples", dl.learn, X, list(map(str, range(1001))))


def test_learn_takes_classes_as_columns_of_zeros_and_ones():
    settings = {"hidden": (3,), "init": "balanced", "scale": 0.1, "max_steps": 1, "time": 0.1}
    data = dl.learn(X, SPECIES, **settings)
    same = dl.learn(X, np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), **settings)
    np.testing.assert_array_equal(data["loss"], same["loss"])
    assert data.attrs["warnings"][0] == (
        "Y holds 3 classes (elm, oak, rose): outputs are columns of zeros and ones, one a class, in this order"
    )


def test_completion_of_a_whole_matrix_and_a_mask():
    M = np.array([[1.0, np.nan, 2.0], [3.0, 4.0, np.nan]])
    seen = ~np.isnan(M)
    places = MatrixCompletion(M[seen], np.argwhere(seen), (2, 3))
    for objective in (MatrixCompletion(M, seen), MatrixCompletion(M, seen.tolist()), MatrixCompletion.of(M, seen)):
        assert objective.shape == (2, 3)
        W = np.arange(6.0).reshape(2, 3)
        assert float(objective(W)) == float(places(W)) == pytest.approx(np.sum((W - M)[seen] ** 2) / 8, rel=1e-14)
    refuses(r"^`observed`: has shape \(3, 2\), but the matrix has \(2, 3\); give booleans", MatrixCompletion, M, seen.T)
    refuses(r"^`observed`: has shape \(2, 3\), but the matrix has \(2, 4\)", MatrixCompletion, M, seen, (2, 4))
    refuses(r"^`observed`: is False everywhere", MatrixCompletion, M, np.zeros((2, 3), bool))
    refuses(
        r"^`values`: has nan at row 1, column 2, where `observed` is True", MatrixCompletion, M, np.ones((2, 3), bool)
    )
    refuses(r"^`values`: has shape \(4,\); give an array \(d_y, d_x\)", MatrixCompletion, M[seen], seen)
    refuses(r"^`observed`: has nan at row 1, column 2; give whole numbers", MatrixCompletion, [1.0], [[0, np.nan]])


LAYERS = [np.array([[0.5, 0.1], [0.2, 0.4]]), np.array([[0.3, 0.1], [0.1, 0.6]])]
WHITE = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
WITH_OBJECTIVE = {
    "gradient_flow": lambda o, n: dl.gradient_flow(o, n, ts=[0.0, 0.1]),
    "gradient_descent": lambda o, n: dl.gradient_descent(o, n, 0.1, 2),
    "learning_times": lambda o, n: dl.learning_times(o, n),
    "exact.applicable": lambda o, n: dl.exact.applicable(o, n),
    "curvature.hessian": lambda o, n: dl.curvature.hessian(o, n),
    "curvature.sharpness": lambda o, n: dl.curvature.sharpness(o, n),
    "landscape.classify": lambda o, n: dl.landscape.classify(o, n),
    "predicates.pivots": lambda o, n: dl.predicates.pivots(o, n),
    "diagnostics.mode_strengths": lambda o, n: dl.diagnostics.mode_strengths(o)(n),
    "diagnostics.loss": lambda o, n: dl.diagnostics.loss(o)(n),
    "diagnostics.rate_bounds": lambda o, n: dl.diagnostics.rate_bounds(o, n),
    "theory.verify": lambda o, n: dl.theory.verify(o, n, only="6"),
}


@pytest.mark.parametrize("f", WITH_OBJECTIVE.values(), ids=WITH_OBJECTIVE)
def test_networks_that_do_not_fit_are_named_with_the_objective(f):
    wrong = dl.Network([np.ones((4, 3)), np.ones((2, 4))])
    refuses(r"^`(network|start)`: maps 3 inputs to 2 outputs, but the objective has 2 and 2$", f, WHITE, wrong)
    refuses(r"^`(network|start)`: got 'net'; give a Network, or a list of matrices$", f, WHITE, "net")
    refuses(r"^`(network|start)`: layer 1 has rows of different lengths", f, WHITE, [[[1.0], [1.0, 2.0]]])
    f(WHITE, LAYERS)  # a list of matrices is a network


@pytest.mark.parametrize("value", [[0.1, 0.2], np.ones(2), "0.1", None, np.nan, 1j])
def test_one_number_where_one_belongs(value):
    network = dl.Network(LAYERS)
    for name, f in {
        "weight_decay": lambda v: dl.gradient_descent(WHITE, network, 0.1, 2, weight_decay=v),
        "rtol": lambda v: dl.gradient_flow(WHITE, network, ts=[0.0, 0.1], rtol=v),
        "scale": lambda v: dl.init.gaussian(0, (2, 2), v),
        "tolerance": lambda v: dl.exact.solve(WHITE, network, tolerance=v),
        "gamma": lambda v: dl.exact.decayed_fixed_points(1.0, 3, v),
        "delta": lambda v: dl.Huber(X, Y, v),
        "deviation": lambda v: dl.generalisation.spiked_modes([4.0], 10, 10, v),
    }.items():
        refuses(rf"^`{name}`: got .*; give ", f, value)


@pytest.mark.parametrize("value", [[0.1, 0.2, 0.3], np.ones(1), np.ones((2, 1)), "0.1", np.nan, 1j, [0.1, -0.1]])
def test_one_number_or_one_per_layer(value):
    network = dl.Network(LAYERS)
    assert network.depth == 2
    for name in ("weight_decay", "rates"):
        f = lambda v, name=name: dl.gradient_flow(WHITE, network, ts=[0.0, 0.1], **{name: v})
        refuses(rf"^`{name}`: (got|has) .*; give ", f, value)


HOSTILE = {
    "predictions": lambda v: dl.biased.predictions([[v], [2.0]], [0.5, 3.0], [[1.0]]),
    "predictions of X": lambda v: dl.biased.predictions([[1.0], [2.0]], [0.5, 3.0], [[v]]),
    "cost": lambda v: dl.biased.cost([[1.0], [2.0]], [0.5, 3.0], [[1.0]], [v]),
    "exact_errors": lambda v: dl.generalisation.exact_errors([0.0, 1.0], [[v]], [[3.0]], 1.0),
    "exact_errors of noise": lambda v: dl.generalisation.exact_errors([0.0, 1.0], [[2.0]], [[v]], 1.0),
    "optimal_stopping": lambda v: dl.generalisation.optimal_stopping([0.0, 1.0, 2.0], [1.0, v, 2.0]),
    "descent_mode_factors": lambda v: dl.exact.descent_mode_factors([0.5, v], 2.0, 0.1),
    "descent_mode_factors of s": lambda v: dl.exact.descent_mode_factors([0.5, 1.0], v, 0.1),
    "decayed_fixed_points": lambda v: dl.exact.decayed_fixed_points(v, 3, 0.3),
    "rsm_from_gram": lambda v: dl.diagnostics.rsm_from_gram([[1.0]], [[v]]),
    "rsm_from_factor": lambda v: dl.diagnostics.rsm_from_factor([[1.0]], [[v]]),
    "ntk on": lambda v: dl.diagnostics.ntk(dl.Network(LAYERS)).on([[1.0, v]]),
    "velocity": lambda v: dl.exact.end_to_end_velocity([[v]], [[1.0]], 2),
    "unbalanced_pair": lambda v: dl.exact.unbalanced_pair([0.0, 1.0], v, 0.5, 2.0),
    "unbalanced_mode": lambda v: dl.exact.unbalanced_mode([0.0, 1.0], [0.1, 0.2, v], 2.0),
    "from_moments": lambda v: SquaredError.from_moments([[1.0]], [[v]]),
    "MatrixCompletion": lambda v: MatrixCompletion([v], [[0, 0]]),
    "MatrixSensing": lambda v: dl.MatrixSensing([[[1.0]]], [v]),
    "Huber": lambda v: dl.Huber([[1.0]], [[v]]),
    "balanced": lambda v: dl.init.balanced(0, (1, 1, 1), product=[[v]]),
    "twin": lambda v: dl.twins.forward(LAYERS, [[1.0, v]]),
    "mask": lambda v: dl.Network([[[v]]]),
}


@pytest.mark.parametrize("f", HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_finite_is_refused(f):
    for value in (np.nan, np.inf, -np.inf):
        refuses(r"^`[A-Za-z_0-9]+`: ", f, value)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in HOSTILE
        if name
        not in (
            "rsm_from_gram",
            "rsm_from_factor",
            "ntk on",
            "from_moments",
            "balanced",
            "twin",
            "mask",
            "optimal_stopping",
            "decayed_fixed_points",
        )
    ],
)
def test_what_float64_cannot_square_is_refused(name):
    refuses(r"^`[A-Za-z_0-9`, ]+`: ", HOSTILE[name], 1e200)


def test_weights_that_float64_cannot_square_are_refused_where_a_loss_is_asked_for():
    huge = [np.full((2, 2), 1e80), np.full((2, 2), 1e80)]
    refuses(
        r"^`network`: its layers have norms 2e\+80, 2e\+80, whose product float64 cannot square",
        dl.exact.solve,
        WHITE,
        huge,
    )


def test_an_objective_takes_matrices_of_its_own_shape_alone():
    """What broadcasting would stretch is refused; lists are matrices."""
    many, two = [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0], [3.0, 1.0, 0.0]], [0, 1, 1]
    objectives = (
        SquaredError.of(many, [[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]]),
        dl.MatrixCompletion(np.ones((2, 3)), np.ones((2, 3), bool)),
        dl.MatrixSensing(np.ones((4, 2, 3)), np.ones(4)),
        CrossEntropy(many, two),
    )
    for objective in objectives:
        W = np.arange(6.0).reshape(2, 3)
        assert float(objective(W.tolist())) == float(objective(jnp.asarray(W)))
        for wrong in (np.ones(3), np.ones((1, 3)), np.ones((2, 1)), np.ones((5, 2, 3)), 1.0):
            shape = str(np.shape(wrong)).replace("(", r"\(").replace(")", r"\)")
            refuses(rf"^`W`: has shape {shape}; the end-to-end matrix has \(2, 3\)$", objective, wrong)
            refuses(rf"^`W`: has shape {shape}; the end-to-end matrix has \(2, 3\)$", objective.gradient, wrong)
