"""deeplinear: the instrument for studying deep linear neural networks.

Every public name is listed in the stub beside this file (`__init__.pyi`) and is imported when it is first used, so
that reading records, drawing figures and `deeplinear --help` never wait for JAX.
"""

import os as _os
import sys as _sys

import lazy_loader as _lazy

__version__ = "0.1.0"

# Theory wants 64 bits: rounding of 32-bit weights hides conservation laws and decides on which side of a saddle a
# trajectory leaves. Who sets JAX_ENABLE_X64 keeps the say.
if "JAX_ENABLE_X64" not in _os.environ:
    _os.environ["JAX_ENABLE_X64"] = "1"
    if "jax" in _sys.modules:
        _sys.modules["jax"].config.update("jax_enable_x64", True)

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
