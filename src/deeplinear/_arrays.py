"""The one door for arrays: whatever people keep numbers in becomes a plain array of numbers, or one clear error.

Numbers are widened to float64 and brought into the machine's byte order; what cannot be read as a whole (masked
entries, complex numbers, fields, texts, sparse matrices) is refused, never read in part. Everything is numpy here. An
array that JAX traces has a shape and no numbers: it passes with its shape checked.
"""

import operator
import sys
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from ._checks import shown

WHOLE = 2**53
"""Whole numbers beyond this may have no float64 of their own."""
MANY = 1000
"""More different texts than this are no classes."""
LARGEST = 1e75
"""Samples and targets up to here: squares of their second moments stay within float64."""
LISTS = (list, tuple)
PLAIN = (bool, int, float)
UNTRACED = (np.ndarray, np.generic, int, float, str, type(None))


def traced(*values: Any) -> bool:
    """Whether JAX is tracing any of these: shapes can be checked then, numbers cannot."""
    jax = sys.modules.get("jax")
    if jax is None:
        return False
    trees = []
    for value in values:
        if isinstance(value, jax.Array):
            if isinstance(value, jax.core.Tracer):
                return True
        elif not isinstance(value, UNTRACED) and not hasattr(value, "__next__"):
            trees.append(value)
    try:
        return bool(trees) and any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))
    except (TypeError, ValueError):  # a mapping whose keys have no order is no tree
        return False


def readable(name: str, value: Any, part: str = "") -> np.ndarray:
    """An array of real numbers or booleans of any type, not copied where it is one already; memory maps stay maps.

    `part` is what the message says after the argument's name ("layer 2 "). Raises `ValueError` for everything that is
    no array of real numbers as a whole. Whether they are finite is not looked at.

    >>> readable("X", [[1, 2], [3, 4]]).dtype.kind
    'i'
    """
    say = lambda text: ValueError(f"`{name}`: {part}{text}")
    try:
        array = _opened(say, value)
        array = array if isinstance(array, np.memmap) else np.asarray(array)
    except _Refused as refused:
        raise refused.error from None
    except ValueError:
        raise say("has rows of different lengths; every row needs the same columns") from None
    except Exception as problem:  # a library's own array that is on another device, deleted, a quantity with units
        line = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise say(f"cannot be read as an array ({line}); give an array of real numbers") from None
    if array.dtype.kind == "O":
        return _numbers_of_objects(say, array)
    if array.dtype.fields:
        fields = ", ".join(array.dtype.names or ())
        raise say(f"has the fields {fields} in every entry; give a plain array, one number an entry") from None
    small = array.dtype.kind == "V" and np.can_cast(array.dtype, np.float64)  # bfloat16 and its relatives
    if array.dtype.kind not in "biuf" and not small:
        kind = {"U": "text", "S": "text", "T": "text", "M": "dates", "m": "durations"}.get(array.dtype.kind)
        what = f"has {kind} in its entries" if kind else f"has entries of type {array.dtype}"
        raise say(f"{what}; give real numbers")
    return array


def floats(
    name: str,
    value: Any,
    ndim: int | tuple[int, ...] | None = None,
    axes: str = "",
    *,
    part: str = "",
    instead: str = "give finite numbers",
    before: int = 0,
    finite: bool = True,
    empty: bool = False,
    largest: float = np.inf,
) -> Any:
    """`value` as float64 in the machine's byte order, finite, with `ndim` axes (None: any), none of them `empty`.

    `axes` says them in words, "(n, d_x)". `instead` is the advice for NaN and infinity, `before` how many rows came
    before (of a stream), `largest` the largest modulus. Arrays that JAX traces become JAX's floats with their shape
    checked. Raises `ValueError` that names the place of what is wrong.

    >>> floats("X", [[1, 2]], 2, "(n, d_x)").tolist()
    [[1.0, 2.0]]
    >>> floats("X", [[1.0, float("nan")]], 2, "(n, d_x)")
    Traceback (most recent call last):
    ...
    ValueError: `X`: has nan at row 1, column 2; give finite numbers
    """
    say = lambda text: ValueError(f"`{name}`: {part}{text}")
    is_traced = traced(value)
    array = sys.modules["jax"].numpy.asarray(value, dtype=float) if is_traced else readable(name, value, part)
    wanted = (ndim,) if isinstance(ndim, int) else ndim
    if (wanted is not None and array.ndim not in wanted) or (0 in array.shape and not empty):
        raise say(f"has shape {array.shape}; give an array {axes or 'of numbers'}, with no empty axis")
    if is_traced:
        return array
    wide = wide_floats(array, say, before)
    if finite and not np.isfinite(wide).all():
        at = tuple(np.argwhere(~np.isfinite(wide))[0])
        raise say(f"has {wide[at]}{place(at, before)}; {instead}")
    if largest < np.inf and not (np.abs(wide) <= largest).all():
        at = tuple(np.argwhere(~(np.abs(wide) <= largest))[0])
        raise say(f"has {wide[at]:g}{place(at, before)}, beyond {largest:g}: squares would leave float64; rescale it")
    return wide


def wide_floats(array: np.ndarray, say: Callable[[str], ValueError], before: int = 0) -> np.ndarray:
    """An array of real numbers as float64; `ValueError` for whole numbers that float64 cannot hold."""
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite, and is refused as that
        wide = np.asarray(array, dtype=np.float64)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and np.abs(wide).max(initial=0) >= WHOLE:
        rounded = np.array([int(a) != int(b) for a, b in zip(wide.flat, array.flat, strict=True)]).reshape(array.shape)
        if rounded.any():
            at = tuple(np.argwhere(rounded)[0])
            raise say(f"has {array[at]}{place(at, before)}, which float64 rounds; subtract an offset first")
    return wide


def real_matrix(name: str, value: Any, part: str = "") -> Any:
    """A finite matrix that keeps its type where that is bool, float32 or float64, and is float64 otherwise.

    For weights and masks of a network. What JAX holds or traces stays JAX's.
    """
    say = lambda text: ValueError(f"`{name}`: {part}{text}")
    jax = sys.modules.get("jax")
    is_traced = traced(value)
    if is_traced:
        array = sys.modules["jax"].numpy.asarray(value)
        if array.dtype.kind not in "biuf" and not np.can_cast(array.dtype, np.float64):
            raise say(f"has entries of type {array.dtype}; give real numbers")
    else:
        array = readable(name, value, part)
    if array.ndim != 2 or 0 in array.shape:
        raise say(f"has shape {array.shape}; give a matrix, with no empty axis")
    kept = array.dtype.newbyteorder("=") in (np.bool_, np.float32, np.float64)
    if is_traced:
        return array if kept else array.astype(float)
    array = array.astype(array.dtype.newbyteorder("="), copy=False) if kept else wide_floats(array, say)
    if not np.isfinite(array).all():
        at = tuple(np.argwhere(~np.isfinite(array))[0])
        raise say(f"has {array[at]}{place(at)}; give finite numbers")
    return value if jax is not None and isinstance(value, jax.Array) and kept else array


def number(
    name: str, value: Any, wanted: str, *, low: float | None = None, above: float | None = None, finite: bool = True
) -> Any:
    """One `finite` number (else: one that is not NaN) as a float, at least `low` or above `above`.

    `wanted` says what to give. What JAX traces passes if it is one number.

    >>> number("weight_decay", [0.1, 0.2], "a finite number of at least 0", low=0.0)
    Traceback (most recent call last):
    ...
    ValueError: `weight_decay`: got [0.1, 0.2]; give a finite number of at least 0
    """
    if traced(value):
        if np.ndim(value) == 0:
            return value
    elif not isinstance(value, str | bytes | bool | np.bool_ | complex | np.complexfloating):
        try:
            found = floats(name, value, 0, finite=finite)
        except ValueError:
            pass
        else:
            if not np.isnan(found) and (low is None or found >= low) and (above is None or found > above):
                return float(found)
    raise ValueError(f"`{name}`: got {shown(value)}; give {wanted}")


def booleans(name: str, value: Any, ndim: int | None = None, axes: str = "") -> np.ndarray:
    """An array of booleans; 0 and 1 do not count as such, for they may be meant as places.

    >>> booleans("mask", [[True, False]], 2).tolist()
    [[True, False]]
    """
    array = readable(name, value)
    if array.dtype != bool or (ndim is not None and array.ndim != ndim) or 0 in array.shape:
        raise ValueError(
            f"`{name}`: has shape {array.shape} and type {array.dtype}; give an array of booleans{axes and ' ' + axes}"
        )
    return array


def classes(name: str, labels: Any) -> tuple[tuple[str, ...], np.ndarray] | None:
    """The sorted classes of labels that are texts, and the number (n,) of each label from 0; None for no texts.

    Raises `ValueError` for a missing label and for texts among other things.

    >>> classes("labels", ["oak", "rose", "oak"])
    (('oak', 'rose'), array([0, 1, 0]))
    >>> classes("labels", [0, 1]) is None
    True
    """
    if getattr(getattr(labels, "dtype", None), "kind", "O") not in "UTO" or traced(labels):
        return None
    if hasattr(labels, "detach") or isinstance(labels, np.ma.MaskedArray | str):
        return None
    try:
        array = np.asarray(labels, dtype=object)
    except Exception:  # no array at all: the door for numbers says why
        return None
    if not any(isinstance(item, str) for item in array.flat):
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"`{name}`: has texts in an array of shape {array.shape}; give one label a sample, (n,)")
    for i, item in enumerate(array):
        if not isinstance(item, str) or not item:
            raise ValueError(f"`{name}`: has {shown(item, 30)}{place((i,))} among texts; give every sample a label")
    found, numbers = np.unique(array.astype(str), return_inverse=True)
    if len(found) > MANY:
        raise ValueError(f"`{name}`: has {len(found)} different texts, which are names of samples, not classes")
    return tuple(found.tolist()), numbers


def place(at: tuple, before: int = 0) -> str:
    """Where an entry is, in words; rows and columns are counted from 1, after `before` rows that came earlier.

    >>> place((0, 1)), place((4,)), place(())
    (' at row 1, column 2', ' at place 5', '')
    """
    numbers = [int(i) + 1 for i in at]
    numbers[:1] = [n + before for n in numbers[:1]]
    if len(numbers) == 2:
        return f" at row {numbers[0]}, column {numbers[1]}"
    return f" at place {numbers[0] if len(numbers) == 1 else tuple(numbers)}" if numbers else ""


def position(index: Any, length: int, what: str) -> Any:
    """An index as Python's sequences take it: a slice as it is, a whole number from 0; what JAX traces as it is.

    Raises `IndexError` beyond the ends and `TypeError` for anything else.

    >>> position(-1, 3, "times"), position(slice(1, 3), 3, "times")
    (2, slice(1, 3, None))
    """
    if isinstance(index, slice) or traced(index):
        return index
    try:
        i = operator.index(index)
    except TypeError:
        raise TypeError(f"{what} are numbered by whole numbers and slices of them; got [{shown(index)}]") from None
    if not -length <= i < length:
        raise IndexError(f"there are {length} {what}; got [{i}]")
    return i % length


class _Refused(Exception):
    """Carries the error of a part through the readers of the whole."""

    def __init__(self, error: ValueError):
        self.error = error


def _opened(say: Callable[[str], ValueError], value: Any) -> Any:
    """What is inside of lists, tensors and masked arrays, so that numpy loses nothing of it."""
    if isinstance(value, LISTS):
        return [item if type(item) in PLAIN else _opened(say, item) for item in value]
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        if value.dtype.fields is None and mask.any():
            where = place(tuple(np.argwhere(mask)[0]))
            raise _Refused(say(f"has a masked entry{where}; fill it with .filled(value), or leave its row out"))
        return value.data
    if hasattr(value, "detach"):  # a tensor of torch; numpy knows no bfloat16
        tensor = value.detach().cpu()
        try:
            return tensor.numpy()
        except TypeError:
            return tensor.double().numpy()
    if hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise _Refused(say(f"is a sparse matrix ({type(value).__name__}); give it with .toarray()"))
    if isinstance(value, str | bytes):
        raise _Refused(say(f"has the text {shown(value, 30)}; give real numbers"))
    if isinstance(value, dict | set | frozenset) or hasattr(value, "__next__"):
        raise _Refused(say(f"got {shown(value)}; give an array of real numbers"))
    return value


def _numbers_of_objects(say: Callable[[str], ValueError], array: np.ndarray) -> np.ndarray:
    """Floats of an array of Python's numbers; `ValueError` with the place of anything else."""
    result = np.empty(array.shape)
    for at, item in np.ndenumerate(array):
        item = item.item() if isinstance(item, np.ndarray) and item.ndim == 0 else item
        if not isinstance(item, Real | Decimal | np.bool_):
            missing = item is None or type(item).__name__ in ("NAType", "NaTType")
            what = "a missing value" if missing else f"{shown(item, 30)} ({type(item).__name__})"
            raise say(f"has {what}{place(at)}; give real numbers")
        try:
            result[at] = float(item)
        except (OverflowError, ValueError):
            raise say(f"has {shown(item, 30)}{place(at)}, which float64 cannot hold") from None
        if isinstance(item, int) and int(result[at]) != item:
            raise say(f"has {shown(item, 30)}{place(at)}, which float64 rounds; subtract an offset first")
    return result
