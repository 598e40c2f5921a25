"""Settings of an experiment as options of a command: names and help are those of `Experiment`, declared once."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from ..experiment import Experiment

Flag = Annotated[bool, Parameter(negative="")]


def _whole(kind: Any, tokens: Any) -> int:
    """A whole number as it is written: cyclopts by itself rounds 1.5."""
    text = tokens[0].value
    if not (text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 20):
        raise ValueError(f"got {text!r}; give a whole number")
    return int(text)


Whole = Annotated[int, Parameter(converter=_whole)]
OptionalWhole = Annotated[int | None, Parameter(converter=_whole)]


def takes_settings(*names: str) -> Callable[[Callable], Callable]:
    """Decorates a command with `**settings`: it gets one option for each of these settings, in the place of that.

    Values come as texts, and `Experiment.with_options` reads them, so that 1.5 is never rounded to a whole number.
    """

    def decorated(command: Callable) -> Callable:
        signature = inspect.signature(command)
        given = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [_option(name) for name in names]
        at = sum(p.kind is p.POSITIONAL_ONLY for p in given)
        command.__signature__ = signature.replace(parameters=[*given[:at], *options, *given[at:]])  # type: ignore
        command.__annotations__.update({option.name: option.annotation for option in options})
        return command

    return decorated


def _option(name: str) -> inspect.Parameter:
    field = Experiment.model_fields[name]
    default = "" if field.default is None or field.default is False else f"; default {_written(field.default)}"
    parameter = Parameter(help=f"{field.description}{default}", negative="")
    kind = bool if field.annotation is bool else str
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, parameter]
    )


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def chosen(data: str | None, settings: dict[str, Any], start: Experiment | None = None) -> Experiment:
    """The experiment of the options that were given, over one that was read."""
    given = {name: value for name, value in {"data": data, **settings}.items() if value is not None}
    return (start or Experiment()).with_options(given)
