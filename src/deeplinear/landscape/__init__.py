"""The loss landscape: critical points, what they are, and how they hang together."""

from .arcs import arc as arc
from .critical import critical_points as critical_points
from .critical_set import critical_set as critical_set
from .fibres import balanced_representative as balanced_representative
from .fibres import change_basis as change_basis
from .fibres import fibre_dimension as fibre_dimension
from .fibres import partial_ranks as partial_ranks
from .fibres import quotient as quotient
from .fibres import same_fiber as same_fiber
from .fibres import same_orbit as same_orbit
from .graph import graph as graph
from .saddle_path import saddle_path as saddle_path
