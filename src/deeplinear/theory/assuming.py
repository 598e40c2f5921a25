"""The survey's assumptions in its own coordinates, with how far they fail."""

from collections.abc import Iterable

from ..predicates import generic_spectrum
from .question import Question
from .statement import Finding, does_not_apply


def several_layers(question: Question, least: int = 2) -> Finding | None:
    """A finding where the network has fewer layers than a statement needs."""
    if question.depth >= least:
        return None
    return does_not_apply(f"needs {least} layers or more", float(least - question.depth))


def no_bottleneck(question: Question) -> Finding | None:
    r"""A finding where Sigma has not the full rank min(d_x, d_y), or a hidden layer is narrower than that.

    Assumption 1, without its order $d_x \ge d_y$: no statement here that needs the one needs the other.
    """
    full = min(question.sigma.shape)
    if (missing := full - question.target.rank) > 0:
        return does_not_apply("assumption 1: Sigma has full rank", float(missing))
    if (narrow := full - min(question.widths)) > 0:
        return does_not_apply("assumption 1: no hidden layer is narrower than the modes", float(narrow))
    return None


def generic(question: Question) -> Finding | None:
    """A finding where assumption 2 fails: singular values nonzero and distinct, and sums of their squares distinct."""
    failed = [check for check in generic_spectrum(question.objective) if not check.holds]
    return does_not_apply(f"assumption 2: {failed[0].assumption}", failed[0].violation) if failed else None


def first(*findings: Finding | None) -> Finding | None:
    """The first assumption that fails."""
    return next((finding for finding in findings if finding is not None), None)


def worst(residuals: Iterable[float]) -> float:
    """The largest residual; NaN if any is."""
    found = list(residuals)
    return float("nan") if any(value != value for value in found) else max(found, default=0.0)
