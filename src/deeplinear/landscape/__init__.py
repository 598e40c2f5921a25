"""The loss landscape: critical points, what they are, and how they hang together."""

from .arcs import arc as arc
from .certificate import Certificate as Certificate
from .classifying import Classification as Classification
from .classifying import classify as classify
from .critical import critical_points as critical_points
from .extraction import Parameters as Parameters
from .extraction import parameters as parameters
from .fibres import balanced_representative as balanced_representative
from .fibres import change_basis as change_basis
from .fibres import fibre_dimension as fibre_dimension
from .fibres import partial_ranks as partial_ranks
from .fibres import quotient as quotient
from .fibres import same_fiber as same_fiber
from .fibres import same_orbit as same_orbit
from .hasse import graph as graph
from .inertia import Inertia as Inertia
from .inertia import inertia_of_signature as inertia_of_signature
from .neighbourhood import critical_set as critical_set
from .passing import saddle_path as saddle_path
from .pivots import Pivot as Pivot
from .representatives import network_on_fibre as network_on_fibre
from .table import atlas as atlas
