"""Searches: whatever form an array comes in, the answer is that of the plain float64 array, or a refusal.

No case compiles a shape: moments are numpy's, objectives of samples are looked at by their arrays.
"""

from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplinear import Moments, Network
from deeplinear._arrays import floats
from deeplinear._layer_order import in_given_order, in_natural_order, natural_order

DTYPES = ["<f8", ">f8", "<f4", ">f4", "<f2", ">f2", "<i2", ">i2", "u1", "i1", "<i4", ">i8", "?", "g", "O", "<c16", "U8"]
SMALL = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
FORMS = [
    "as is",
    "list",
    "rows",
    "matrix",
    "masked",
    "unmasked",
    "frame",
    "nullable",
    "decimals",
    "fractions",
    "record",
]


class Subclass(np.ndarray):
    pass


def laid_out(array, how):
    """The same entries in another place in memory."""
    if how == "columns":
        return np.asfortranarray(array)
    if how == "backwards":
        return array[::-1, ::-1].copy()[::-1, ::-1]
    if how == "strided":
        return np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3]
    if how == "read only":
        array.setflags(write=False)
    if how == "unaligned" and array.dtype.kind not in "OV":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        raw[...] = array
        return raw
    return array.view(Subclass) if how == "subclass" else array


def formed(array, form, mask):
    """The array in the hands of another library, and whether it still holds every number."""
    whole = array.dtype.kind not in "cU"
    if form == "list":
        return array.tolist(), whole
    if form == "rows":
        return list(array), whole
    if form == "matrix":
        return np.asmatrix(array), whole
    if form in ("masked", "unmasked"):
        mask = mask & (form == "masked")
        return np.ma.masked_array(array, mask=mask), whole and not mask.any()
    if form in ("frame", "nullable") and array.dtype.kind in "biufO" and array.dtype.isnative and array.dtype != "g":
        frame = pd.DataFrame(array)
        if form == "nullable" and array.dtype.kind in "iu":
            frame = frame.astype("Int64").mask(mask)
            return frame, whole and not mask.any()
        return frame, whole
    if form in ("decimals", "fractions") and whole:
        kind = Decimal if form == "decimals" else Fraction
        return [[kind(float(x)) for x in row] for row in array], True
    if form == "record":
        return np.rec.fromarrays(list(array.T.astype(float, copy=False)) if whole else [np.zeros(len(array))]), False
    return array, whole


@st.composite
def cases(draw):
    """An array in some form, and its entries as exact float64; None where it must be refused."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    entries = draw(st.lists(st.integers(0, 7), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    plain = np.array(entries, dtype=float).reshape(shape)
    dtype = draw(st.sampled_from([*DTYPES, *SMALL]))
    if np.dtype(dtype).kind == "b":
        plain = (plain > 3).astype(float)
    array = plain.astype(dtype)
    array = laid_out(
        array, draw(st.sampled_from(["", "columns", "backwards", "strided", "read only", "unaligned", "subclass"]))
    )
    mask = np.array(draw(st.lists(st.booleans(), min_size=plain.size, max_size=plain.size))).reshape(shape)
    value, whole = formed(array, draw(st.sampled_from(FORMS)), mask)
    return value, plain if whole else None


@pytest.mark.search
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@settings(print_blob=True)
@given(cases(), cases())
def test_arrays_of_any_form_are_read_whole_or_refused(inputs, other):
    value, plain = inputs
    if plain is None:
        for read in (
            lambda: floats("X", value),
            lambda: Moments.of(value, np.ones(4)[: len(value)]),
            lambda: Network([value]),
        ):
            with pytest.raises(ValueError) as caught:
                read()
            assert "\n" not in str(caught.value) and str(caught.value).startswith("`")
        return
    array = floats("X", value, 2)
    assert array.dtype == np.float64 and array.dtype.isnative
    np.testing.assert_array_equal(array, plain)
    Y = other[0] if other[1] is not None and len(other[1]) == len(plain) else plain[:, :1]
    targets = other[1] if Y is other[0] else plain[:, :1]
    moments = Moments.of(value, Y)
    n = len(plain)
    np.testing.assert_allclose(moments.sigma_xx, plain.T @ plain / n, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(moments.sigma_yx, targets.T @ plain / n, rtol=1e-13, atol=1e-13)


WORDS = ["enc", "dec", "W", "layer", "block", "net", "weight", "h"]


def components(draw):
    """One name: words, numbers and both between dots and slashes."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        word = draw(st.sampled_from([*WORDS, ""]))
        number = draw(st.one_of(st.just(""), st.integers(0, 12).map(str)))
        parts.append(word + draw(st.sampled_from(["", "_"])) * bool(word and number) + number or "x")
    return draw(st.sampled_from([".", "/"])).join(parts)


@st.composite
def names(draw):
    """Names of layers, often alike but for their numbers, in the order of the layers."""
    count = draw(st.integers(1, 5))
    if draw(st.booleans()):
        head, tail = draw(st.sampled_from(WORDS)), draw(st.sampled_from(["", ".weight", "/kernel2", "_w"]))
        numbers = draw(st.lists(st.integers(0, 120), min_size=count, max_size=count, unique=True))
        return [f"{head}{number}{tail}" for number in numbers]
    found = [components(draw) for _ in range(count)]
    return list(dict.fromkeys(found))


def numbers_of(name):
    found, digits = [], ""
    for letter in name + ".":
        if letter in "0123456789":
            digits += letter
        elif digits:
            found, digits = [*found, int(digits)], ""
    return found


@pytest.mark.search
@settings(print_blob=True)
@given(names(), st.randoms(use_true_random=False))
def test_layers_keep_the_given_order_and_files_are_read_by_number(given_names, random):
    layers = {name: np.full((2, 2), float(i)) for i, name in enumerate(given_names)}
    try:
        assert list(in_given_order(layers)) == given_names
    except ValueError as refused:  # sorted by somebody's library, as W1, W10, W2
        assert "alphabetical" in str(refused) and given_names == sorted(given_names)
        assert sorted(given_names, key=numbers_of) != given_names
    stored = dict(random.sample(list(layers.items()), len(layers)))
    order = natural_order(list(stored))
    assert order == natural_order(given_names)  # whatever the file's own order
    if order is None:
        with pytest.raises(ValueError, match=r"^`path`: f\.npz names its layers"):
            in_natural_order("f.npz", stored)
        return
    read = in_natural_order("f.npz", stored)
    assert list(read) == order and all(read[name] is layers[name] for name in order)
    assert [numbers_of(name) for name in order] == sorted(numbers_of(name) for name in order)
    assert len({tuple(numbers_of(name)) for name in order}) == len(order)
