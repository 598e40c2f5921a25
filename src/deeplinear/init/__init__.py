"""Starts: random, balanced, aligned with the data, and with a given map or given conserved quantities."""

from .conserved import from_imbalance as from_imbalance
from .conserved import lambda_balanced as lambda_balanced
from .plain import balanced as balanced
from .plain import decoupled as decoupled
from .plain import from_product as from_product
from .plain import gaussian as gaussian
from .plain import kaiming as kaiming
from .plain import orthogonal as orthogonal
from .plain import xavier as xavier
