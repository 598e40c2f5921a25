"""One file to a published result."""
