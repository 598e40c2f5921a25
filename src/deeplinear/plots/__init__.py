"""Figures of a run and its report; numpy, xarray, matplotlib and jinja2 only, never JAX."""

from .arcs import arc_losses as arc_losses
from .critical import inertia_bars as inertia_bars
from .dynamics import alignment as alignment
from .dynamics import data_spectrum as data_spectrum
from .dynamics import imbalance as imbalance
from .dynamics import layer_spectra as layer_spectra
from .dynamics import loss as loss
from .dynamics import modes as modes
from .dynamics import overview as overview
from .landscape import atlas as atlas
from .layers import layers_together as layers_together
from .layers import loss_bounds as loss_bounds
from .layers import misalignment as misalignment
from .layers import weight_norm as weight_norm
from .matrices import similarity as similarity
from .phase import phase_plane as phase_plane
from .phase import phase_space as phase_space
from .report import report as report
from .svg import svg as svg
