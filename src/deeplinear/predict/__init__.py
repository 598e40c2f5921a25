"""When every mode will be learned, predicted from the start."""

from .choice import learning_times as learning_times
from .crossings import evaluated as evaluated
from .prediction import Prediction as Prediction
