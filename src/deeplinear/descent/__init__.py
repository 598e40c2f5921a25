"""Gradient descent: finite steps, mini-batches, momentum, schedules and optimisers."""

from .solve import gradient_descent as gradient_descent
