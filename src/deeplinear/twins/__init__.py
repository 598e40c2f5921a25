"""Networks with an activation beside linear ones: how far linear theory carries."""

from .comparing import twin as twin
from .following import nonlinear_flow as nonlinear_flow
from .nonlinear import ACTIVATIONS as ACTIVATIONS
from .nonlinear import forward as forward
from .nonlinear import hidden_activities as hidden_activities
