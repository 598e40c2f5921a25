"""The integrators that JAX compiles, for what the compiled engine does not know: other losses, and projection."""

from .automatic import Automatic
from .compiled_ensemble import CompiledEnsemble as CompiledEnsemble
from .dopri8 import Dopri8
from .drive import Run as Run
from .drive import begin as begin
from .rosenbrock import Rosenbrock
from .stabilised import Stabilised

SOLVERS = {
    "auto": Automatic(),
    "rock4": Stabilised(),
    "rodas4": Rosenbrock(),
    "bdf": Rosenbrock(),
    "dopri8": Dopri8(),
}
"""The methods by the names of `gradient_flow`."""
