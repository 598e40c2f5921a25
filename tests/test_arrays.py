"""The door for arrays: real numbers are read as float64, everything else is refused in one line."""

from decimal import Decimal
from fractions import Fraction

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from deeplinear._arrays import booleans, floats, number, real_matrix

M = np.array([[1.5, -2.0, 0.25], [4.0, 8.0, -0.5]])  # exact in every type below


class Tensor:
    """What a torch tensor offers: numpy knows no bfloat16, and gradients keep it from becoming an array."""

    def __init__(self, array, small=False):
        self.array, self.small = np.asarray(array), small

    def detach(self):
        return self

    def cpu(self):
        return self

    def double(self):
        return Tensor(self.array.astype(float))

    def numpy(self):
        if self.small:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


READ = {
    "lists": M.tolist(),
    "tuples of rows": tuple(map(tuple, M)),
    "list of arrays": list(M),
    "big-endian": M.astype(">f8"),
    "list of big-endian": list(M.astype(">f4")),
    "half": M.astype(np.float16),
    "bfloat16": M.astype(ml_dtypes.bfloat16),
    "bfloat16 of JAX": jnp.asarray(M, jnp.bfloat16),
    "list of bfloat16": list(M.astype(ml_dtypes.bfloat16)),
    "float8": M.astype(ml_dtypes.float8_e4m3fn),
    "long double": M.astype(np.longdouble),
    "column by column": np.asfortranarray(M),
    "backwards": M[::-1, ::-1].copy()[::-1, ::-1],
    "every other": np.repeat(M, 2, axis=1)[:, ::2],
    "read only": np.broadcast_to(M, M.shape),
    "matrix": np.asmatrix(M),
    "masked without masked entries": np.ma.masked_array(M, mask=False),
    "objects": M.astype(object),
    "decimals": [[Decimal(str(x)) for x in row] for row in M],
    "fractions": [[Fraction(x) for x in row] for row in M],
    "frame": pd.DataFrame(M),
    "nullable frame": pd.DataFrame(M).astype("Float64"),
    "tensor": Tensor(M),
    "list of tensors": [Tensor(row) for row in M],
    "tensor of bfloat16": Tensor(M, small=True),
    "JAX": jnp.asarray(M),
}


@pytest.mark.parametrize("value", READ.values(), ids=READ)
def test_everything_that_holds_real_numbers_is_read_as_float64(value):
    for array in (floats("X", value, 2), np.asarray(real_matrix("weights", value))):
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, M)
    assert floats("X", value, 2).dtype == np.float64


def test_whole_numbers_and_booleans_become_floats():
    for value in ([[1, 0]], np.array([[1, 0]], ">i2"), [[True, False]], np.array([[True, 0]], object)):
        array = floats("X", value, 2)
        assert array.dtype == np.float64 and array.tolist() == [[1.0, 0.0]]
    assert floats("X", [[2**60, -(2**53)]]).tolist() == [[2.0**60, -(2.0**53)]]


def test_weights_keep_single_precision_and_masks_stay_booleans():
    for dtype in ("<f4", ">f4"):
        assert real_matrix("weights", M.astype(dtype)).dtype == np.float32
    assert real_matrix("mask", [[True, False]]).dtype == bool


with_mask = np.ma.masked_array(M, mask=[[0, 0, 0], [0, 1, 0]])
REFUSED = {
    "masked": (with_mask, "has a masked entry at row 2, column 2; fill it with .filled(value), or leave its row out"),
    "a masked row": (
        list(with_mask),
        "has a masked entry at place 2; fill it with .filled(value), or leave its row out",
    ),
    "the masked constant": ([[1.0, np.ma.masked]], "has a masked entry; fill it with .filled(value), or leave its row"),
    "complex": (M + 0j, "has entries of type complex128; give real numbers"),
    "complex objects": ([[1.0, Decimal(1), 1j]], "has 1j (complex) at row 1, column 3; give real numbers"),
    "fields": (
        np.array([(1.0, 2)], [("a", float), ("b", int)]),
        "has the fields a, b in every entry; give a plain arr",
    ),
    "texts": ([["1.0", "2.0"]], "has the text '1.0'; give real numbers"),
    "array of texts": (np.array([["1.0", "2.0"]]), "has text in its entries; give real numbers"),
    "text among objects": (np.array([[1.0, "a"]], object), "has 'a' (str) at row 1, column 2; give real numbers"),
    "bytes": (np.array([[b"1"]]), "has text in its entries; give real numbers"),
    "dates": (np.array([["2020-01-01"]], "M8[D]"), "has dates in its entries; give real numbers"),
    "durations": (np.array([[1]], "m8[s]"), "has durations in its entries; give real numbers"),
    "raw": (np.zeros((1, 1), "V3"), "has entries of type |V3; give real numbers"),
    "NaN": ([[1.0], [np.nan]], "has nan at row 2, column 1; give finite numbers"),
    "infinity of a long double": (np.array([[np.longdouble("1e400")]]), "has inf at row 1, column 1; give finite numb"),
    "huge decimal": ([[Decimal("1e400")]], "has inf at row 1, column 1; give finite numbers"),
    "huge whole number": ([[10**400]], "which float64 cannot hold"),
    "rounded whole number": (
        [[1, 2**53 + 1]],
        "has 9007199254740993 at row 1, column 2, which float64 rounds; subtract",
    ),
    "rounded object": ([[2**80 + 1]], "at row 1, column 1, which float64 rounds; subtract an offset first"),
    "None": ([[1.0, None]], "has a missing value at row 1, column 2; give real numbers"),
    "NA": (
        pd.DataFrame({"a": [1, 2]}, dtype="Int64").where([[True], [False]]),
        "has nan at row 2, column 1; give finite numbers",
    ),
    "NA of pandas": (np.array([[1, pd.NA]], object), "has a missing value at row 1, column 2; give real numbers"),
    "sparse": (scipy.sparse.csr_matrix(M), "is a sparse matrix (csr_matrix); give it with .toarray()"),
    "sparse array": (scipy.sparse.coo_array(M), "is a sparse matrix (coo_array); give it with .toarray()"),
    "ragged": ([[1.0], [1.0, 2.0]], "has rows of different lengths; every row needs the same columns"),
    "mapping": ({"a": [1.0]}, "got {'a': [1.0]}; give an array of real numbers"),
    "generator": ((x for x in M), "got <generator"),
    "nothing": (None, "has a missing value; give real numbers"),
    "a type": (float, "has <class 'float'> (type); give real numbers"),
    "text": ("1.0", "has the text '1.0'; give real numbers"),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused_in_one_line_with_its_place(value, message):
    for door in (floats, real_matrix):
        with pytest.raises(ValueError) as caught:
            door("X", value)
        assert str(caught.value).startswith("`X`: ") and "\n" not in str(caught.value)
        assert message in str(caught.value)


def test_shapes_are_checked_and_named():
    for value, ndim in ((1.0, 1), ([1.0], 2), (np.zeros((2, 0)), 2), ([], 1), (M, 3)):
        with pytest.raises(ValueError, match=r"^`X`: has shape .*; give an array \(n, d\), with no empty axis$"):
            floats("X", value, ndim, "(n, d)")


def test_one_number_where_one_belongs():
    for value in (0.5, np.float32(0.5), np.array(0.5), jnp.array(0.5), Fraction(1, 2), Decimal("0.5")):
        assert number("scale", value, "a number", above=0.0) == 0.5
    for value in ([0.1, 0.2], [0.5], np.ones(1), "0.5", None, True, np.nan, np.inf, 1j, -1.0, 0.0, {}, 10**400):
        with pytest.raises(ValueError, match=r"^`scale`: got .*; give a finite number above 0$") as caught:
            number("scale", value, "a finite number above 0", above=0.0)
        assert "\n" not in str(caught.value)


def test_booleans_are_not_numbers():
    assert booleans("mask", np.ma.masked_array([[True]], mask=False)).tolist() == [[True]]
    for value in ([[1, 0]], [[1.0]], [True], [["True"]], np.ma.masked_array([[True]], mask=True)):
        with pytest.raises(ValueError, match=r"^`mask`: "):
            booleans("mask", value, 2, "(d_y, d_x)")
