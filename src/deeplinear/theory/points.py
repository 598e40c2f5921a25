"""Critical points of a question's own objective and widths, made from their parameters."""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..landscape.critical import CriticalPoints
from ..landscape.generators import GENERATORS
from ..landscape.representatives import BASES
from ..landscape.settling import relative_gradient
from ..landscape.signatures import pairs
from ..landscape.structure import assemble, change_basis
from .question import Layers, Question, product

CRITICAL = 1e-10
"""Relative gradient up to which the network that is asked about counts as critical."""
MOST, FEW, LARGE = 6, 4, 10_000
"""Signatures that are looked at, and how many in networks of more than `LARGE` weights."""
CONDITION = 3.0
"""Condition number of the changes of basis of one layer: rounding grows with its h-th power."""


@dataclass(frozen=True, eq=False)
class Point:
    r"""A critical point $P (A_1 + Z) P^{-1}$ as the survey's (32) and (33) write it."""

    signature: tuple[int, ...]
    plain: Layers
    """Layers of A_1 + Z."""
    blocks: Layers
    """Z_1, ..., Z_h."""
    bases: tuple[tuple[np.ndarray, np.ndarray], ...]
    """P_1, ..., P_{h-1}, each with its inverse."""
    weights: Layers
    generator: str

    @property
    def rank(self) -> int:
        return len(self.signature)

    @property
    def name(self) -> str:
        """Signature and generator, for notes."""
        return f"S = {{{', '.join(map(str, self.signature))}}}, {self.generator} Z"

    def conjugate(self, V: Layers) -> Layers:
        """P V P^{-1}."""
        return change_basis(V, self.bases)

    def conjugate_back(self, V: Layers) -> Layers:
        """P^{-1} V P."""
        return change_basis(V, [(inverse, P) for P, inverse in self.bases])


def make_point(question: Question, signature: tuple[int, ...], generator: str = "canonical") -> Point:
    """The critical point of this signature, with blocks Z drawn by a generator of the landscape, in random bases."""
    rng, target, widths = question.rng(), question.target, question.widths
    blocks = GENERATORS[generator](rng, target, widths, signature)
    plain = assemble(target, widths, signature, blocks)
    bases = tuple(BASES["general"](rng, d, CONDITION) for d in widths[1:-1])
    return Point(signature, plain, blocks, bases, change_basis(plain, bases), generator)


def generators(question: Question) -> tuple[str, ...]:
    """The ways to draw Z that networks of this depth have."""
    return ("canonical", "two zero", "cyclic", "tightened")[: {1: 1, 2: 3}.get(question.depth, 4)]


def signatures(question: Question) -> list[tuple[int, ...]]:
    """Some signatures: the lowest, the highest, the best of middle rank, one that misses the first mode."""
    target, widths = question.target, question.network.widths
    largest = target.max_rank(widths)
    points = CriticalPoints(target, widths, largest)
    if points.count <= most(question):
        return [point.signature for point in points]
    found = [points[0].signature, tuple(range(1, largest // 2 + 1)), tuple(range(2, largest // 2 + 2))]
    found += [points[-1].signature, *(point.signature for point in islice(points, 1, MOST))]
    return list(dict.fromkeys(found))[: most(question)]


def made(question: Question) -> list[Point]:
    """Critical points of every signature and generator."""
    return [make_point(question, S, generator) for S in signatures(question) for generator in generators(question)]


def of_interest(question: Question) -> list[Layers]:
    """Weights of the made points, and of the network itself where it is critical."""
    own = [question.weights] if is_critical(question, question.weights) else []
    return [*own, *(point.weights for point in made(question))]


def is_critical(question: Question, weights: Layers) -> bool:
    """Whether the gradient is zero to rounding."""
    return relative_gradient(question.target, weights) <= CRITICAL


def is_top(question: Question, signature: tuple[int, ...]) -> bool:
    """Whether no mode that is left is larger than a learned one."""
    return pairs(question.target, signature)[0] == 0


def largest_rank(question: Question) -> int:
    """Number of modes that widths and data allow to learn."""
    return question.target.max_rank(question.network.widths)


def most(question: Question) -> int:
    """Number of signatures to look at."""
    return MOST if sum(W.size for W in question.weights) <= LARGE else FEW


def learned(question: Question, weights: Layers) -> tuple[int, ...]:
    """Modes that stand beyond half of their final strength, from 1."""
    sigma = question.target.sigma[: question.target.rank]
    strengths = np.diagonal(product(weights))[: question.target.rank] / sigma
    return tuple(int(k) + 1 for k in np.flatnonzero(strengths > 0.5))
