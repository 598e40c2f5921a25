"""Published results: simulation beside theory, the gap between them, and numbers to hold both against.

A result is one file of `results/`: its docstring says what it is and where it was published, `Settings` holds the
parameters, `run(settings)` makes a dataset of simulation and theory, `figure(data)` draws it and `check(data)` lists
what must hold. To add one, add a file.
"""

from .checks import Checked as Checked
from .registry import load as load
from .registry import names as names
from .registry import title as title
