"""Arguments that people give in another form than the one in the signature: taken, or refused in one line."""

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
