"""Yes or no with a margin: the special networks of the survey, and what it assumes of the data."""

from .balance import balanced as balanced
from .balance import best_lambdas as best_lambdas
from .balance import delta_balanced as delta_balanced
from .balance import lambda_balanced as lambda_balanced
from .balance import smallest_delta as smallest_delta
from .critical import Pivot as Pivot
from .critical import pivots as pivots
from .critical import tightened as tightened
from .data import full_rank_and_wide as full_rank_and_wide
from .data import generic_spectrum as generic_spectrum
from .shape import aligned as aligned
from .shape import block_shift_diagonal as block_shift_diagonal
from .shape import decoupled as decoupled
