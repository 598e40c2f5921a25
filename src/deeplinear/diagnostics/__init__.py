"""Functions that read one network, or make such a function from an objective, a start or samples."""

from .alignment import alignment as alignment
from .balance import imbalance as imbalance
from .balance import imbalance_drift as imbalance_drift
from .labels import labelled as labelled
from .laziness import kernel_alignment as kernel_alignment
from .laziness import kernel_distance as kernel_distance
from .laziness import kernel_task_alignment as kernel_task_alignment
from .laziness import weight_movement as weight_movement
from .similarity import rsm_from_factor as rsm_from_factor
from .similarity import rsm_from_gram as rsm_from_gram
from .similarity import rsm_input as rsm_input
from .similarity import rsm_output as rsm_output
from .size import effective_rank as effective_rank
from .size import frobenius as frobenius
from .size import layer_effective_ranks as layer_effective_ranks
from .size import layer_norms as layer_norms
from .size import layer_stable_ranks as layer_stable_ranks
from .size import nuclear_norm as nuclear_norm
from .size import stable_rank as stable_rank
from .spectrum import excess_loss as excess_loss
from .spectrum import layer_singular_values as layer_singular_values
from .spectrum import loss as loss
from .spectrum import mode_strengths as mode_strengths
from .spectrum import singular_values as singular_values
from .tangent import TangentKernel as TangentKernel
from .tangent import ntk as ntk
