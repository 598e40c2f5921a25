"""Closed forms: what can be solved is solved."""

from .assumptions import Check as Check
from .assumptions import NotExact as NotExact
from .lambda_balanced import TwoLayer as TwoLayer
from .lambda_balanced import TwoLayerState as TwoLayerState
from .lambda_balanced import two_layer as two_layer
from .modes import half_time as half_time
from .modes import mode_strength as mode_strength
from .modes import mode_time as mode_time
