"""Values that JAX sees through: frozen dataclasses whose fields are the branches of a tree."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

import jax

C = TypeVar("C", bound=type)
V = TypeVar("V")


@dataclass_transform(frozen_default=True, eq_default=False)
def value(*static: str, init: bool = True) -> Callable[[C], C]:
    """A class decorator: frozen instances, compared by identity; all fields but the `static` ones are branches.

    `init`: whether the constructor is made from the fields; one of the class's own sets them by `set_fields`, and trees
    are put together again without it, for their leaves may be anything then.

    >>> @value("unit")
    ... class Length:
    ...     number: float
    ...     unit: str
    >>> jax.tree.map(lambda x: 2 * x, Length(1.0, "m")).number
    2.0
    """

    def register(cls: C) -> C:
        made = dataclass(frozen=True, eq=False, repr=cls.__repr__ is object.__repr__, init=init)(cls)
        names = [field.name for field in fields(made)]  # pyright: ignore[reportArgumentType]
        branches = tuple(name for name in names if name not in static)
        keys = tuple(jax.tree_util.GetAttrKey(name) for name in branches)
        rest = tuple(name for name in names if name in static)

        def flatten(instance: Any) -> tuple[tuple, tuple]:
            return tuple(getattr(instance, name) for name in branches), tuple(getattr(instance, name) for name in rest)

        def flatten_with_keys(instance: Any) -> tuple[tuple, tuple]:
            leaves, others = flatten(instance)
            return tuple(zip(keys, leaves, strict=True)), others

        def unflatten(others: Any, leaves: Any) -> Any:
            instance = object.__new__(made)
            set_fields(instance, **dict(zip(branches, leaves, strict=True)), **dict(zip(rest, others, strict=True)))
            return instance

        jax.tree_util.register_pytree_with_keys(made, flatten_with_keys, unflatten, flatten)
        return made

    return register


def set_fields(instance: Any, **values: Any) -> None:
    """Gives an instance under construction its fields."""
    for name, field in values.items():
        object.__setattr__(instance, name, field)


def replaced(instance: V, **values: Any) -> V:
    """The same value with other fields, put together without its constructor."""
    made = object.__new__(type(instance))
    set_fields(made, **{field.name: getattr(instance, field.name) for field in fields(instance)} | values)  # pyright: ignore[reportArgumentType]
    return made


def remembered(instance: Any, key: Any, make: Callable[[], V]) -> V:
    """`make()`, computed once for a value that does not change; other values of its tree do not know it."""
    memory = vars(instance).setdefault("_remembered", {})
    if key not in memory:
        memory[key] = make()
    return memory[key]
