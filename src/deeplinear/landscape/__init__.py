"""The loss landscape: critical points, what they are, and how they hang together."""

from .arcs import arc as arc
from .critical import critical_points as critical_points
from .graph import graph as graph
