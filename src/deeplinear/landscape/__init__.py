"""The loss landscape: critical points, what they are, and how they hang together."""
