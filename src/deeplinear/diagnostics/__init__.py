"""Functions that read one network, or make such a function from an objective."""

from .alignment import alignment as alignment
from .balance import imbalance as imbalance
from .balance import imbalance_drift as imbalance_drift
from .labels import labelled as labelled
from .spectrum import excess_loss as excess_loss
from .spectrum import layer_singular_values as layer_singular_values
from .spectrum import loss as loss
from .spectrum import mode_strengths as mode_strengths
from .spectrum import singular_values as singular_values
