"""Sentences on second moments of inputs: what float64 cannot tell of them, and what to do."""

import numpy as np

from ._second_moment import EPS, SecondMoment

FAR = 1e7
"""Mean, in units of the standard deviation, beyond which an input has lost half of float64's digits to its mean."""
ALIKE = 1e-9
"""Smallest eigenvalue of the inputs' correlations below which a least-squares fit has lost half of float64's digits."""


def remarks_on(
    count: int | None,
    mean: np.ndarray | None,
    covariance: np.ndarray,
    varying: np.ndarray | None,
    moment: SecondMoment,
) -> list[str]:
    """What to know of inputs with this mean and covariance, whose varying ones are marked; None: means are unknown."""
    remarks, d = [], len(covariance)
    if count is not None and count < d:
        remarks.append(f"fewer samples ({count}) than inputs ({d})")
    deviations = np.sqrt(np.diagonal(covariance).clip(min=0))
    if mean is not None and varying is not None:
        remarks += _constant(~varying) + _far(np.abs(mean), deviations, varying)
    if moment.rank < d:
        remarks.append(
            f"sigma_xx is singular (rank {moment.rank} of {d}): weights along its null space never change the loss, "
            "and the solution is not unique"
        )
    if moment.intercept:
        told = {
            "hidden": "is constant as far as float64 can tell, and serves as intercept",
            "doubtful": "may be constant, but float64 cannot tell it from rounding, and it counts as nothing",
        }[moment.intercept]
        remarks.append(f"a combination of inputs {told}; a column of ones, or subtracted means, make it clear")
    if moment.correlated <= ALIKE:
        at = deviations > 0 if varying is None else varying & (deviations > 0)
        remarks.append(_alike(covariance, deviations, np.flatnonzero(at), moment.correlated))
    return remarks


def _constant(constants: np.ndarray) -> list[str]:
    at = np.flatnonzero(constants)
    return [f"{_counted(at, 'constant input column')} ({_listed(at)})"] if at.size else []


def _far(size: np.ndarray, deviations: np.ndarray, varying: np.ndarray) -> list[str]:
    """Inputs that lose digits to their means."""
    far = np.flatnonzero(varying & (size > FAR * deviations))
    if not far.size:
        return []
    worst = far[np.argmax(size[far] / deviations[far])]
    return [
        f"{_counted(far, 'input column')} ({_listed(far)}) with a mean far above the spread (column {worst + 1}: "
        f"{size[worst] / deviations[worst]:.2g} times): digits are lost; subtract the means first"
    ]


def _alike(covariance: np.ndarray, deviations: np.ndarray, at: np.ndarray, smallest: float) -> str:
    """Inputs that are almost combinations of each other."""
    values, vectors = np.linalg.eigh(covariance[np.ix_(at, at)] / deviations[at] / deviations[at, None])
    involved = at[np.abs(vectors[:, np.argmin(np.abs(values - smallest))]) > 0.1]
    digits = max(int(-np.log10(EPS * len(at) / smallest)), 0)
    return (
        f"{_counted(involved, 'input column')} ({_listed(involved)}) that are combinations of each other to within "
        f"{np.sqrt(smallest):.1g} of their spread: the best loss is known to about {digits} digits; drop one, or give "
        "their difference instead"
    )


def _counted(columns: np.ndarray, what: str) -> str:
    return f"{columns.size} {what}{'s'[: columns.size > 1]}"


def _listed(columns: np.ndarray) -> str:
    """Numbers of columns from 1, six at most."""
    return ", ".join(str(i + 1) for i in columns[:6]) + (", ..." if columns.size > 6 else "")
