"""Gradient flows: vector fields, integrators, endings."""

from .fields import velocity as velocity
from .solve import gradient_flow as gradient_flow
