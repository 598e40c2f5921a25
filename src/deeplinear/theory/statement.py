"""A statement of theory as a value: what it says, what it assumes, and the function that measures it."""

from collections.abc import Callable
from dataclasses import dataclass

from .question import Question


@dataclass(frozen=True)
class Finding:
    """What a statement came to on one problem.

    >>> Finding(1e-16, 1e-12, "rounding of one product").holds, does_not_apply("the network is not aligned", 0.3).holds
    (True, None)
    """

    residual: float | None
    """How far off: relative error of an identity, relative violation of an inequality; None where it does not apply."""
    tolerance: float | None
    reason: str = ""
    """Why the tolerance is what it is."""
    note: str = ""
    """What a reader should know: a rate, an index, how an assumption fails and by how much."""
    applies: bool = True

    @property
    def holds(self) -> bool | None:
        """Whether the residual is within the tolerance (NaN never is); None where the statement does not apply."""
        if not self.applies or self.residual is None or self.tolerance is None:
            return None
        return bool(self.residual <= self.tolerance)


def does_not_apply(assumption: str, violation: float | None = None) -> Finding:
    """A finding for a problem that fails an assumption, with how far off it is."""
    note = assumption if violation is None else f"{assumption} (off by {violation:.3g})"
    return Finding(None, None, note=note, applies=False)


@dataclass(frozen=True)
class Statement:
    """A proposition, lemma or theorem that can be run: `statement(question)` is a `Finding`.

    >>> from deeplinear import theory
    >>> [each.name for each in theory.statements() if each.key == "6"]
    ['Proposition 6']
    """

    key: str
    """Short name for `only`: "6", "lemma37", "000.1"."""
    name: str
    source: str
    """Paper, number, equation."""
    words: str
    latex: str
    assumptions: str
    measure: Callable[[Question], Finding]
    erratum: str = ""
    """What is printed and what is right, where they differ."""
    as_printed: Callable[[Question], Finding] | None = None
    """The printed formula where it is wrong in a way that numbers show."""

    def __call__(self, question: Question) -> Finding:
        return self.measure(question)


def statement(
    key: str,
    *,
    name: str,
    source: str,
    words: str,
    latex: str,
    assumptions: str = "none",
    erratum: str = "",
    as_printed: Callable[[Question], Finding] | None = None,
) -> Callable[[Callable[[Question], Finding]], Statement]:
    """Makes the decorated function of a `Question` a `Statement`; a module of `propositions/` needs no more."""

    def of(measure: Callable[[Question], Finding]) -> Statement:
        return Statement(key, name, source, words, latex, assumptions, measure, erratum, as_printed)

    return of
