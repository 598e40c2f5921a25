"""The executable survey: every proposition as a function that a researcher runs on his own network."""

from .statement import Finding as Finding
from .statement import Statement as Statement
from .verifying import check_keys as check_keys
from .verifying import statements as statements
from .verifying import verify as verify
