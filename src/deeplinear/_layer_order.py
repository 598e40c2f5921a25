"""The order of layers in mappings, modules and files, and what is wrong where shapes do not chain."""

import copy
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, cast

import numpy as np

from ._arrays import floats
from ._checks import shown

FORWARD = 1e-9
"""Relative; how far a module may be from the product of its layers, both in float64."""


def in_given_order(arrays: Mapping[Any, Any]) -> dict[str, Any]:
    """The matrices of a mapping by name, in its own order; mappings inside are opened, biases must be zero.

    >>> list(in_given_order({"encoder": {"weight": [[1.0]], "bias": [0.0]}, "decoder": {"weight": [[2.0]]}}))
    ['encoder.weight', 'decoder.weight']

    Raises `ValueError` for a bias that is not zero, and for names in alphabetical order where their numbers count
    otherwise (W1, W10, W2): some library has sorted them.
    """
    matrices = {}
    for name, array in _leaves(arrays):
        if _is_bias(name, array):
            if np.any(floats("weights", array, part=f"{name!r} ")):
                raise ValueError(
                    f"`weights`: {name!r} is a bias that is not zero; a deep linear network here is a chain of matrices"
                )
            continue
        matrices[name] = array
    names = list(matrices)
    natural = natural_order(names)
    if natural not in (None, names) and len({_skeleton(name) for name in names}) == 1 and names == sorted(names):
        raise ValueError(
            f"`weights`: come in alphabetical order, {_listed(names)}, but their numbers count otherwise; give them in "
            "the order of the layers, first layer first"
        )
    return matrices


def in_natural_order(file: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The matrices of a file by name, in the order of the numbers in their names, for files need not keep an order.

    >>> list(in_natural_order("weights.npz", {"W10": [[1.0]], "W2": [[1.0]]}))
    ['W2', 'W10']

    Raises `ValueError` where the names do not tell the order.
    """
    matrices = {name: array for name, array in arrays.items() if not _is_bias(name, array)}
    names = natural_order(list(matrices))
    if names is None:
        raise ValueError(
            f"`path`: {file} names its layers {_listed(list(matrices))}, which does not tell their order; name them "
            "W1, W2, ..., or give `Network` a list of matrices, first layer first"
        )
    biases = {name: array for name, array in arrays.items() if name not in matrices}
    return {name: arrays[name] for name in names} | biases


def natural_order(names: Sequence[str]) -> list[str] | None:
    """Names in the order of the numbers in them; None where these do not tell it.

    They do where names differ in their numbers alone, and where each has one number and these count up by one.

    >>> natural_order(["b1.fc2", "b1.fc10", "b0.fc3"]), natural_order(["enc0", "dec1"]), natural_order(["enc0", "dec0"])
    (['b0.fc3', 'b1.fc2', 'b1.fc10'], ['enc0', 'dec1'], None)
    """
    if len(names) < 2:
        return list(names)
    numbers = {name: tuple(map(int, re.findall(r"\d+", name))) for name in names}
    ordered = sorted(names, key=numbers.__getitem__)
    values = [numbers[name] for name in ordered]
    if any(above[: len(below)] == below for below, above in pairwise(values)):
        return None  # the same number twice, or a part of another
    alike = len({_skeleton(name) for name in names}) == 1
    counting = all(len(value) == 1 for value in values) and all(b[0] - a[0] == 1 for a, b in pairwise(values))
    return ordered if alike or counting else None


def check_chain(shapes: Sequence[tuple[int, ...]], names: Sequence[str] | None = None) -> None:
    """`ValueError` unless every layer takes what the one below gives, with the order or orientation that would fit."""
    called = [f"layer {l}" for l in range(1, len(shapes) + 1)] if names is None else [repr(name) for name in names]
    misfit = next((l for l, (below, above) in enumerate(pairwise(shapes)) if above[1] != below[0]), None)
    transposed = [shape[::-1] for shape in shapes]
    if misfit is None:
        if names is not None and all(_is_kernel(name) for name in names) and _chains(transposed):
            raise ValueError(
                f"`weights`: {_listed(names)} are kernels, which Flax and Keras keep as (in, out), and their shapes do "
                "not tell; W_l must have shape (d_l, d_{l-1}), so give a list of their transposes, W.T"
            )
        return
    below, above = shapes[misfit], shapes[misfit + 1]
    raise ValueError(
        f"`weights`: {called[misfit]} has {below[0]} rows, but {called[misfit + 1]} has {above[1]} columns (shapes "
        f"{tuple(below)} and {tuple(above)}); W_l must have shape (d_l, d_{{l-1}}){_way_out(shapes, names)}"
    )


def _way_out(shapes: Sequence[tuple[int, ...]], names: Sequence[str] | None) -> str:
    """What would make the shapes chain, as the end of a sentence; empty where nothing simple does."""
    transposed = [shape[::-1] for shape in shapes]
    natural = None if names is None else natural_order(names)
    if names is not None and natural is not None:
        by_name = dict(zip(names, shapes, strict=True))
        if _chains([by_name[name] for name in natural]):
            return f". Their own order is kept, but in the order {_listed(natural)} they fit: give them so"
    if not _chains(transposed):  # then in reverse order neither
        return ""
    if names is not None and all(_is_kernel(name) for name in names):
        return ". Transposed they fit: kernels kept as (in, out) are given as W.T"
    return (
        ". They fit in reverse order, and transposed: give the first layer first, or W.T of what is kept as (in, out)"
    )


def check_module(module: Any) -> None:
    """`ValueError` for a torch module that is no chain of Linear layers, each used once, in the order of registration.

    Containers without a forward pass (ModuleList, ModuleDict) are taken in their order. A forward pass is tried on
    random inputs, in float64 and on a copy: what it does is not seen otherwise.
    """
    for name, layer in module.named_modules():
        if not any(True for _ in layer.children()) and type(layer).__name__ not in ("Linear", "Identity"):
            raise ValueError(
                f"`module_or_state_dict`: layer {name!r} is a {type(layer).__name__}; only Linear layers make "
                "a deep linear network"
            )
    places: dict[int, str] = {}
    for name, tensor in module.state_dict().items():
        where = tensor.data_ptr() if hasattr(tensor, "data_ptr") else id(tensor)
        if where in places:
            raise ValueError(
                f"`module_or_state_dict`: {name!r} is the same tensor as {places[where]!r}; layers that share their "
                "weights learn together, which a Network does not: give a list of matrices if that is meant"
            )
        places[where] = name


def check_forward(module: Any, weights: Sequence[Any]) -> None:
    """`ValueError` for a torch module whose forward pass is not x -> W_h ... W_1 x."""
    torch = sys.modules.get("torch")
    if torch is None or not callable(module):
        return
    double = cast(Any, copy.deepcopy(module)).double().cpu()
    d_x = weights[0].shape[1]
    X = np.random.default_rng(0).standard_normal((2 * d_x, d_x))
    advice = "give a list of matrices, first layer first"
    try:
        with torch.no_grad():
            found = double(torch.from_numpy(X)).numpy()
    except NotImplementedError:  # ModuleList, ModuleDict
        return
    except Exception as problem:
        line = shown(str(problem).splitlines()[0] if str(problem) else type(problem).__name__, 80)
        raise ValueError(
            f"`module_or_state_dict`: its forward pass cannot be tried on samples (n, {d_x}) ({line}), so the "
            f"order of its layers is unknown; {advice}"
        ) from None
    wanted = reduce(lambda Z, W: Z @ np.asarray(W, dtype=float).T, weights, X)
    if found.shape != wanted.shape or np.linalg.norm(found - wanted) > FORWARD * np.linalg.norm(wanted):
        raise ValueError(
            "`module_or_state_dict`: its forward pass is not the product of its layers in the order in which they are "
            f"registered; {advice}"
        )


def _leaves(arrays: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arrays.items():
        whole = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{whole}.")
        else:
            yield whole, value


def _is_bias(name: str, array: Any) -> bool:
    return _ndim(array) == 1 or re.split(r"[./]", name)[-1] == "bias"


def _ndim(array: Any) -> int:
    if hasattr(array, "ndim"):
        return int(array.ndim)
    return 1 + _ndim(array[0]) if isinstance(array, list | tuple) and array else 0


def _is_kernel(name: str) -> bool:
    return re.split(r"[./]", name)[-1].split(":")[0] == "kernel"


def _skeleton(name: str) -> tuple[str, ...]:
    """A name without its numbers."""
    parts = [re.sub(r"\d+", "#", part) for part in re.split(r"[./]", name)]
    return tuple(part for part in parts if part != "#")


def _chains(shapes: Sequence[tuple[int, ...]]) -> bool:
    return all(above[1] == below[0] for below, above in pairwise(shapes))


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
