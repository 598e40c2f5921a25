"""Second derivatives of the loss with respect to all weights: forms, operators, extreme eigenpairs, ranks."""

from .balanced import balanced_hessian_spectrum as balanced_hessian_spectrum
from .dense import gauss_newton as gauss_newton
from .dense import hessian as hessian
from .extremes import Eigenpairs as Eigenpairs
from .extremes import Extremes as Extremes
from .extremes import extreme_eigenvalues as extreme_eigenvalues
from .extremes import lowest_eigenvalue as lowest_eigenvalue
from .forms import Variations as Variations
from .forms import loss as loss
from .forms import quadratic_form as quadratic_form
from .forms import variations as variations
from .operators import Operator as Operator
from .operators import gauss_newton_operator as gauss_newton_operator
from .operators import hessian_operator as hessian_operator
from .operators import hvp as hvp
from .ranks import HessianRanks as HessianRanks
from .ranks import hessian_ranks as hessian_ranks
from .ranks import rank_at_minimum as rank_at_minimum
from .stability import Stability as Stability
from .stability import edge_of_stability as edge_of_stability
from .stability import sharpness as sharpness
