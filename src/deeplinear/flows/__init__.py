"""Gradient flows: vector fields, integrators, endings."""

from ..running.fields import velocity as velocity
from .solve import gradient_flow as gradient_flow
