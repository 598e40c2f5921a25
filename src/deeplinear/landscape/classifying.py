"""What a network is in the loss landscape: minimum, strict or non-strict saddle, or not critical, with the evidence."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from .._arguments import checks_arguments
from ..network import Network
from ._pivots import Pivot, pivots_of
from .certificate import Certificate, certificate_of
from .counting import dense_inertia, lanczos_inertia
from .doors import host_weights
from .extraction import learned_by_group
from .forms import Quadratic, Weights, lifted, reduced, squared_norm
from .frame import Frame
from .inertia import Inertia, with_rest
from .quiver import RANK_TOLERANCE, Ranks, composites, intervals, ranks, signs_of_rest
from .settling import Nearest, nearest_critical, normal_form, relative_gradient
from .signatures import pairs
from .target import EQUAL, Target

CLEAR = 100.0
"""Factor by which singular values must stay away from the rank tolerance for a decision to be clear."""
NEAR = 0.05
"""Relative gradient up to which a critical point nearby is looked for."""

Kind = Literal["not critical", "global minimum", "strict saddle", "non-strict saddle"]


@dataclass(frozen=True)
class Classification:
    """What a network is, and why.

    >>> from deeplinear import SquaredError
    >>> found = classify(SquaredError.from_singular_values([1.0], 1, 1), Network([[[0.0]], [[0.0]], [[0.0]]]))
    >>> print(f"{found.kind}: {found.message}")
    non-strict saddle: no mode is learned, fewer than possible, and every pivot is tightened
    """

    kind: Kind
    message: str
    """One sentence: the reason, and what is uncertain about it."""
    loss: float
    gradient_norm: float
    """Norm of the gradient with respect to all weights, in the loss's scale."""
    relative_gradient: float
    """The same without units, what `tolerance` is held against."""
    signature: tuple[int, ...] | None
    """Learned modes, from 1 (of equal ones the first); None where the network is not critical."""
    rank: int | None
    """Number of learned modes: the rank of the end-to-end matrix in whitened inputs."""
    groups: tuple[tuple[tuple[int, ...], int], ...] | None
    """For every group of equal singular values: its modes, and how many of them are learned."""
    pivots: tuple[Pivot, ...]
    """Pairs of layers with their ranks; empty where the network is not critical."""
    certificate: Certificate | None
    """A direction of negative curvature; None where there is none."""
    inertia: Inertia | None
    """Numbers of negative, zero and positive eigenvalues of the Hessian; None where the network is not critical."""
    nearest: Network | None
    """A critical point nearby: what was classified; for a network that is not critical None if none was found."""
    distance: float | None
    """Its distance, Frobenius norm over all weights."""
    tolerance: float
    """Relative gradient up to which a network counts as critical."""
    rank_tolerance: float
    """Singular values of normalised products up to which they count as zero."""
    margin: float
    """Factor by which the closest singular value, of the network itself or of the critical point next to it, stays away
    from `rank_tolerance`; inf without any decision."""
    ambiguous: bool
    """Whether a decision about ranks, modes or the critical point itself is not clear; `message` says which."""


@checks_arguments
def classify(
    objective: Any,
    network: Network,
    tol: float = 1e-10,
    *,
    rank_tolerance: float = RANK_TOLERANCE,
    inertia: Literal["formula", "dense", "lanczos"] = "formula",
) -> Classification:
    r"""What a network is in the landscape of a squared error: minimum, strict or non-strict saddle, or not critical.

    At a critical point $W = \Pi W^*$ with a projector onto learned modes S, r = |S|. It is a global minimum if S are
    the largest modes and as many as widths and data allow; else a strict saddle if S are not the largest ones or a
    pivot (i, j) is not tightened, $\mathrm{rank}(W_{i-1} \cdots W_{j+1}) > r$ and $\mathrm{rank}(W_{j-1} \cdots W_1
    \Sigma_{yx}^T W_h \cdots W_{i+1}) > r$; else a non-strict saddle, whose Hessian has no negative eigenvalue. A strict
    saddle comes with a direction of negative curvature, its form computed anew from the moments; the inertia follows
    from ranks alone.

    `tol`: relative gradient (`Classification.relative_gradient`) up to which a network counts as critical; what is then
    classified is the critical point next to it, `nearest`, found by damped Gauss-Newton steps on the gradient or by
    setting small parts of the blocks Z to zero, whichever ends closer. `rank_tolerance`: in units of the layers' norms.
    `inertia`: "formula", "dense" (eigenvalues of the Hessian, at most 2000 weights) or "lanczos" (block Lanczos, for
    any). Any scale of the loss, sigma_xx (singular too), widths, and singular values (repeated or zero too). Raises
    `ValueError` for an objective other than `SquaredError`, widths that do not fit, entries that are not finite.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([3.0, 2.0], 2, 2)
    >>> found = classify(objective, Network([[[0.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]]))
    >>> found.kind, found.signature, found.inertia
    ('strict saddle', (2,), Inertia(negative=2, zero=3, positive=3))
    >>> found.certificate.value < 0
    True

    Source: Achour, Malgouyres and Gerchinovitz (2024), JMLR 25(242), theorem 7; Altafini, propositions 18, 21 and 23,
    corrected; the inertia is ours.
    """
    target, weights = host_weights(objective, network)
    _check_settings(tol, rank_tolerance, inertia)
    loss = Quadratic.of(objective)
    here = reduced(target, weights)
    relative = relative_gradient(target, here)
    found = nearest_critical(target, here, rank_tolerance) if relative <= max(NEAR, tol) else None
    point = weights if found is None else _in_data(target, weights, found.weights)
    distance = None if found is None else squared_norm([W - P for W, P in zip(weights, point, strict=True)]) ** 0.5
    evidence = _Evidence.of(target, reduced(target, point), here, rank_tolerance) if relative <= tol else None
    verdict = _not_critical(relative, tol, distance) if evidence is None else _verdict(evidence)
    certificate = None
    if evidence is not None and verdict.kind == "strict saddle":
        certificate = certificate_of(evidence.frame, evidence.products, evidence.pivots, loss, weights, rank_tolerance)
    doubts = [] if evidence is None else _doubts(evidence, verdict, found, certificate, rank_tolerance)
    return Classification(
        kind=verdict.kind,
        message=verdict.reason + ("; ambiguous: " + "; ".join(doubts) if doubts else ""),
        loss=target.minimum + target.factor * normal_form(target).excess(here),
        gradient_norm=squared_norm(loss.gradient(weights)) ** 0.5,
        relative_gradient=relative,
        signature=None if evidence is None else evidence.frame.signature,
        rank=None if evidence is None else evidence.frame.S.size,
        groups=None if evidence is None else learned_by_group(evidence.frame),
        pivots=() if evidence is None else evidence.pivots,
        certificate=certificate,
        inertia=None if evidence is None else _inertia(evidence, loss, point, inertia, rank_tolerance),
        nearest=None if found is None else Network(point),
        distance=distance,
        tolerance=float(tol),
        rank_tolerance=float(rank_tolerance),
        margin=np.inf if evidence is None else evidence.margin(rank_tolerance),
        ambiguous=bool(doubts),
    )


class _Evidence(NamedTuple):
    """What decides on the kind of a critical point."""

    frame: Frame
    products: list[list[np.ndarray]]
    ranks: Ranks
    given: Ranks
    """The ranks of the network itself, whose small parts the critical point next to it may lack."""
    pivots: tuple[Pivot, ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, target: Target, weights: Weights, here: Weights, rank_tolerance: float) -> "_Evidence":
        """Of a critical point and the network `here` that it was found from."""
        frame = Frame.of(target, weights)
        products = composites(frame)
        found = ranks(products, rank_tolerance)
        given = ranks(composites(Frame.of(target, here)), rank_tolerance)
        widths = (target.form.input_map.shape[0], *(W.shape[0] for W in weights))
        return cls(frame, products, found, given, pivots_of(found, frame.S.size), widths)

    def margin(self, tolerance: float) -> float:
        """Factor by which every singular value, of the critical point or of the network, stays away."""
        sides = [(found.kept / tolerance, found.dropped / tolerance) for found in (self.ranks, self.given)]
        return min(min(kept, 1 / dropped if dropped else np.inf) for kept, dropped in sides)


class _Verdict(NamedTuple):
    kind: Kind
    reason: str


def _not_critical(relative: float, tol: float, distance: float | None) -> _Verdict:
    near = "no critical point was found nearby" if distance is None else f"a critical point is {distance:.3g} away"
    return _Verdict("not critical", f"the relative gradient {relative:.3g} exceeds `tol` = {tol:.3g}; {near}")


def _verdict(evidence: _Evidence) -> _Verdict:
    """Theorem 7 of Achour et al."""
    frame, r = evidence.frame, evidence.frame.S.size
    inverted, _ = pairs(frame.target, frame.signature)
    learned = f"modes {', '.join(map(str, frame.signature))} are learned" if r else "no mode is learned"
    if inverted:
        return _Verdict("strict saddle", f"{learned}, and a larger one is left")
    if r == frame.target.max_rank(evidence.widths):
        return _Verdict("global minimum", f"{learned}, all that widths and data allow")
    loose = [pivot for pivot in evidence.pivots if not pivot.tightened]
    if loose:
        return _Verdict("strict saddle", f"{learned}; pivot ({loose[0].i}, {loose[0].j}) is not tightened")
    return _Verdict("non-strict saddle", f"{learned}, fewer than possible, and every pivot is tightened")


def _doubts(
    evidence: _Evidence,
    verdict: _Verdict,
    found: Nearest | None,
    certificate: Certificate | None,
    tolerance: float,
) -> list[str]:
    """What is not clear about a verdict, one sentence each."""
    doubts, frame, n = [], evidence.frame, len(evidence.ranks.table)
    if found is None:
        doubts.append("no exact critical point was found next to it")
    elif found.distance > tolerance * frame.scales.min():
        doubts.append(f"the critical point is {found.distance:.3g} away, beyond `rank_tolerance` = {tolerance:.3g}")
    if evidence.margin(tolerance) < CLEAR:
        doubts.append(f"a singular value is within a factor {CLEAR:g} of `rank_tolerance` = {tolerance:.3g}")
    counts = intervals(evidence.ranks.table)
    if not np.array_equal(evidence.given.table, evidence.ranks.table):
        doubts.append("the network's own products have other ranks than those of the critical point next to it")
    if any(count < 0 for count in counts.values()) or evidence.ranks.table[:, n - 1].any():
        doubts.append("the ranks of the products contradict each other")
    gaps = np.abs(np.subtract.outer(frame.target.sigma[frame.Q], frame.target.sigma[frame.S]))
    gaps = gaps / (frame.target.sigma[0] or 1.0) / EQUAL
    if np.any((gaps > 1 / CLEAR) & (gaps < CLEAR)):
        doubts.append(f"singular values of a learned and another mode differ by about {EQUAL:g} of the largest")
    doubtful = [int(k) + 1 for k in frame.Q if 0 < frame.target.sigma[k] <= _rounding(frame.target)]
    if doubtful:
        doubts.append(f"mode {doubtful[0]}, left, is so small that it may be rounding of badly scaled inputs")
    if verdict.kind == "strict saddle" and certificate is None:
        doubts.append("no direction of negative curvature was found")
    return doubts


def _rounding(target: Target) -> float:
    """Size of singular values that rounding of the moments can make: the condition of sigma_xx multiplies it."""
    form = target.form
    condition = (np.linalg.norm(form.input_map, 2) * np.linalg.norm(form.inverse_input_map, 2)) ** 2
    return float(max(form.sigma.shape) * np.finfo(float).eps * condition * target.sigma[0])


def _inertia(evidence: _Evidence, loss: Quadratic, point: Weights, how: str, tolerance: float) -> Inertia:
    if how != "formula":
        return (dense_inertia if how == "dense" else lanczos_inertia)(loss, point, tolerance)
    frame = evidence.frame
    rest = signs_of_rest(intervals(evidence.ranks.table), len(frame.Z))
    return with_rest(frame.target, evidence.widths, frame.signature, *rest)


def _in_data(target: Target, weights: Weights, point: Weights) -> list[np.ndarray]:
    """A point in the data's coordinates; along null directions of sigma_xx with the weights that were there."""
    moved = lifted(target, point)
    moved[0] = moved[0] + weights[0] - weights[0] @ target.form.input_map @ target.form.inverse_input_map
    return moved


def _check_settings(tol: float, rank_tolerance: float, inertia: str) -> None:
    for name, value in (("tol", tol), ("rank_tolerance", rank_tolerance)):
        if not 0 < value < 1:
            raise ValueError(f"`{name}`: got {value}; give a relative size between 0 and 1")
    if inertia not in ("formula", "dense", "lanczos"):
        raise ValueError(f"`inertia`: got {inertia!r}; choose 'formula', 'dense' or 'lanczos'")
