"""Benchmarks of deeplinear against the solvers that people use today; `python -m benchmarks.flow --help`."""
