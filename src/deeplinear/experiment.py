"""The description of one learning run: validated, written as TOML or as a command, with a stable hash."""

import difflib
import hashlib
import json
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ._checks import check_file, shown

Start = Literal["gaussian", "orthogonal", "xavier", "kaiming", "balanced", "decoupled"]
Loss = Literal["half-mean", "mean", "half-sum", "sum", "entry-mean"]
Missing = Literal["refuse", "drop"]
Width = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]

WANTED = {
    "data": "give a task or a file as text, not empty and not beginning with '-'",
    "target": "give names of columns as text, with commas between them",
    "inputs": "give names of columns as text, with commas between them",
    "drop": "give names of columns as text, with commas between them",
    "missing": "give one of refuse, drop",
    "classes": "give names of columns as text, with commas between them",
    "hidden": "every width must be a positive integer",
    "start": "give one of gaussian, orthogonal, xavier, kaiming, balanced, decoupled",
    "scale": "it must be a finite number above 0",
    "seed": "it must be an integer from 0 to 2^63 - 1",
    "loss": "give one of half-mean, mean, half-sum, sum, entry-mean",
    "bias": "give true or false",
    "skip": "give pairs of layers source:target as text, with commas between them, such as 1:3 or 0:2,1:3",
    "rates": "every rate must be a finite number above 0, one per layer or one for all",
    "center": "give true or false",
    "whiten": "give true or false",
    "rtol": "it must be a number from 1e-13 to below 0.1",
    "tolerance": "it must be a number above 1e-14 and below 1",
    "time": "it must be a finite number above 0; leave it out for no limit",
    "max_steps": "it must be an integer of at least 1",
}
"""What every setting must be, as error messages say it."""

LATER = ("bias", "skip", "rates", "inputs", "drop", "missing", "classes")
"""Settings that the first digests did not know."""


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
"""A number as rates are written."""
TEXTS = ("data", "target", "inputs", "drop", "classes", "hidden", "skip", "rates")
"""Settings that are texts whatever they look like; `Experiment` reads those of `hidden` and `rates` itself."""


class Experiment(BaseModel):
    """One run of `learn`, from the data to the end of training. Wrong settings raise a `ValueError` of one line.

    >>> experiment = Experiment(data="semantic", hidden=(16,), seed=3)
    >>> experiment.command()
    'deeplinear learn semantic --hidden 16 --seed 3'
    >>> Experiment(hidden=(32, 0))
    Traceback (most recent call last):
    ...
    ValueError: `hidden`: got 0; every width must be a positive integer
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    data: str = Field(
        "digits", min_length=1, pattern=r"^[^-]", description="task (semantic, hierarchy, digits) or file"
    )
    target: str | None = Field(
        None, min_length=1, description="columns of a table to predict, separated by commas; text becomes classes"
    )
    inputs: str | None = Field(
        None, min_length=1, description="columns of a table to predict from, separated by commas; default all others"
    )
    drop: str | None = Field(None, min_length=1, description="columns of a table to leave out, separated by commas")
    missing: Missing = Field(
        "refuse", description="rows of a table with missing values: refuse, or drop to leave them out"
    )
    classes: str | None = Field(
        None, min_length=1, description="targets whose numbers are labels of classes, separated by commas"
    )
    hidden: tuple[Width, ...] = Field(
        (32, 32), description="widths of the hidden layers, separated by commas; may be empty"
    )
    start: Start = Field("gaussian", description="gaussian, orthogonal, xavier, kaiming, balanced or decoupled")
    scale: float = Field(
        1e-3,
        gt=0,
        description="size of the start: standard deviation of weights, or strength of every mode for decoupled",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the start")
    loss: Loss = Field(
        "half-mean", description="half-mean, mean, half-sum, sum or entry-mean; it only sets the unit of time"
    )
    bias: bool = Field(False, description="give every layer a bias, zero at the start")
    skip: str | None = Field(
        None,
        pattern=r"^[0-9]{1,6}:[0-9]{1,6}(,[0-9]{1,6}:[0-9]{1,6})*$",
        description="identity skips source:target past layers, separated by commas, such as 1:3; layer 0 is the input",
    )
    rates: tuple[Rate, ...] | None = Field(
        None,
        min_length=1,
        description="learning rates of the layers, first layer first, separated by commas, or one for all; default 1",
    )
    center: bool = Field(False, description="subtract the means of inputs and outputs")
    whiten: bool = Field(False, description="make the inputs' second moment the identity")
    rtol: float = Field(1e-6, ge=1e-13, lt=1e-1, description="relative error of the path that is aimed at")
    tolerance: float = Field(
        1e-6, gt=1e-14, lt=1, description="excess loss, relative to the start, at which the run ends"
    )
    time: float | None = Field(None, gt=0, description="time limit")
    max_steps: int = Field(10_000, ge=1, lt=2**63, description="step limit")

    def __init__(self, /, **settings: Any) -> None:
        _check_names(settings)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ValueError(_one_line(error)) from None

    @field_validator("hidden", mode="before")
    @classmethod
    def _widths(cls, value: Any) -> Any:
        """One width, a list, or text such as "32,32" or "[32, 32]"."""
        whole = lambda part: int(part) if part.isascii() and part.isdecimal() and len(part) < 4000 else part
        return cls._several(value, whole)

    @field_validator("rates", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        """One rate, a list, or text such as "1,0.1" or "[1, 0.1]"."""
        return cls._several(value, lambda part: float(part) if NUMBER.fullmatch(part) else part)

    @classmethod
    def _several(cls, value: Any, read: Callable[[str], Any]) -> Any:
        """A tuple of one number, of a list, or of what `read` makes of the parts of a text."""
        if isinstance(value, str):
            text = value.strip()
            if text[:1] + text[-1:] in ("()", "[]"):
                text = text[1:-1].strip()
            return tuple(read(part.strip()) for part in text.removesuffix(",").split(",")) if text else ()
        if isinstance(value, int | float):
            return (value,)
        return tuple(map(cls._python_number, value)) if isinstance(value, Sequence) else value

    @field_validator("*", mode="before")
    @classmethod
    def _python_number(cls, value: Any) -> Any:
        """Scalars and arrays of numpy as numbers and lists; pydantic runs the validator that is written last first."""
        return value.tolist() if hasattr(value, "tolist") else value

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Experiment":
        """The experiment in a TOML file (`seed = 3`, one setting per line); settings left out keep their defaults."""
        if not os.path.exists(path):
            raise ValueError(f"`path`: there is no experiment file {str(path)!r}")
        file = check_file("path", path)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"`path`: {str(path)!r} cannot be read ({str(error).splitlines()[0]})") from None
        try:
            settings = tomllib.loads(text)
        except Exception as error:  # also what Python says of too many digits and of too deep nesting
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"`path`: {file.name!r} is not valid TOML ({reason}); write lines such as seed = 3"
            ) from None
        try:
            return cls(**settings)
        except ValueError as error:
            raise ValueError(f"{error} (in {file.name!r})") from None

    def with_settings(self, settings: Sequence[str]) -> "Experiment":
        """This experiment with some settings changed, each given as "key=value".

        Values are read as TOML, or as text where they are none; `hidden=32,32` works, and no value (`time=`) restores
        the default.

        >>> Experiment().with_settings(["hidden=8,8", "rtol=1e-8", "time="]).command()
        'deeplinear learn digits --hidden 8,8 --rtol 1e-08'
        """
        changed = self.model_dump()
        for setting in settings:
            key, equals, text = setting.partition("=")
            key = key.strip().replace("-", "_")
            if not equals or not key:
                raise ValueError(f"`settings`: got {setting!r}; write key=value, such as seed=3")
            _check_names([key])
            changed[key] = _value(key, text.strip())
        return type(self)(**changed)

    def with_options(self, options: Mapping[str, str | bool]) -> "Experiment":
        """This experiment with the settings of options on the command line, texts as they were written.

        >>> Experiment().with_options({"hidden": "8,8", "bias": True}).command()
        'deeplinear learn digits --hidden 8,8 --bias'
        """
        read = lambda key, value: value if value in ("", True, False) or key in TEXTS else _value(key, value)
        return type(self)(**self.model_dump() | {key: read(key, value) for key, value in options.items()})

    @property
    def skips(self) -> tuple[tuple[int, int], ...]:
        """The skips as pairs of layers.

        >>> Experiment(skip="0:2,1:3").skips
        ((0, 2), (1, 3))
        """
        pairs = [pair.split(":") for pair in self.skip.split(",")] if self.skip else []
        return tuple((int(source), int(target)) for source, target in pairs)

    @property
    def layer_rates(self) -> float | tuple[float, ...] | None:
        """The learning rates as functions of this library take them: one for all layers, one per layer, or None.

        >>> Experiment(rates="0.5").layer_rates, Experiment(rates="1,0.1,1").layer_rates
        (0.5, (1.0, 0.1, 1.0))
        """
        return self.rates[0] if self.rates is not None and len(self.rates) == 1 else self.rates

    def toml(self) -> str:
        """TOML text that `read` turns into the same experiment; settings that are None are left out.

        >>> print(Experiment(hidden=(8,)).toml().splitlines()[2])
        hidden = [8]
        """
        return "".join(f"{key} = {_toml_value(value)}\n" for key, value in self if value is not None)

    def command(self) -> str:
        """The shell command of this run, with the options that are not defaults; `hidden=()` is an empty option."""
        words = ["deeplinear", "learn", self.data]
        for key, value in self:
            if key == "data" or value == type(self).model_fields[key].default:
                continue
            option = "--" + key.replace("_", "-")
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [option] if value is True else [f"{option}={text}"] if text.startswith("-") else [option, text]
        return shlex.join(words)

    def digest(self) -> str:
        """12 hex digits of the SHA-256 of all settings as canonical JSON: the same on every machine and in every run.

        Settings that came later count only where they are not defaults, so that older digests stay what they were.

        >>> Experiment().digest() == Experiment(seed=0).digest() != Experiment(seed=1).digest()
        True
        """
        settings = self.model_dump(mode="json")
        settings = {k: v for k, v in settings.items() if k not in LATER or v != type(self).model_fields[k].default}
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _check_names(names: Any) -> None:
    for name in names:
        if name not in Experiment.model_fields:
            near = difflib.get_close_matches(str(name), Experiment.model_fields, n=1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"`{name}`: is no setting; {guess}known are {', '.join(Experiment.model_fields)}")


def _one_line(error: ValidationError) -> str:
    """The first complaint, in the words of this library."""
    first = error.errors(include_url=False)[0]  # of several widths the one that is wrong
    name, came = str(first["loc"][0]), shown(first["input"])
    near = difflib.get_close_matches(came.strip("'"), WANTED[name].split(" of ")[-1].split(", "), n=1)
    guess = f"did you mean {near[0]!r}? " if near and first["type"] == "literal_error" else ""
    return f"`{name}`: got {came}; {guess}{WANTED[name]}"


def _value(key: str, text: str) -> Any:
    """A value from the command line: TOML, else text; texts that look like something else (target=2019) stay texts."""
    field = Experiment.model_fields[key]
    if not text:
        return field.default
    try:
        parsed = tomllib.loads(f"value = {text}")
    except Exception:  # no TOML, too many digits, too deep nesting
        return text
    value = parsed["value"] if parsed.keys() == {"value"} else text
    return text if key in TEXTS and not isinstance(value, str) else value


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
