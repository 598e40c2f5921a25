"""The loss landscape: critical points, what they are, and how they hang together."""

from .certificate import Certificate as Certificate
from .classifying import Classification as Classification
from .classifying import classify as classify
from .extraction import Parameters as Parameters
from .extraction import parameters as parameters
from .inertia import Inertia as Inertia
from .inertia import inertia_of_signature as inertia_of_signature
from .pivots import Pivot as Pivot
from .representatives import network_on_fibre as network_on_fibre
