"""Closed forms: what can be solved is solved."""

from .aligned import decoupled as decoupled
from .assumptions import Check as Check
from .assumptions import NotExact as NotExact
from .decay import decay_thresholds as decay_thresholds
from .decay import decayed_fixed_points as decayed_fixed_points
from .decay import decayed_imbalance as decayed_imbalance
from .decay import decayed_mode_strength as decayed_mode_strength
from .deep import unbalanced_mode as unbalanced_mode
from .end_to_end import balanced as balanced
from .end_to_end import end_to_end_velocity as end_to_end_velocity
from .infinite_depth import infinite_depth_half_time as infinite_depth_half_time
from .infinite_depth import infinite_depth_strength as infinite_depth_strength
from .infinite_depth import infinite_depth_time as infinite_depth_time
from .modes import half_time as half_time
from .modes import mode_strength as mode_strength
from .modes import mode_time as mode_time
from .one_layer import regression as regression
from .pair import unbalanced_pair as unbalanced_pair
from .pair import unbalanced_pair_time as unbalanced_pair_time
from .steps import balance_drift as balance_drift
from .steps import balanced_hessian_spectrum as balanced_hessian_spectrum
from .steps import descent_mode_factors as descent_mode_factors
from .steps import descent_regression as descent_regression
from .steps import escape_steps as escape_steps
from .steps import stability_limit as stability_limit
