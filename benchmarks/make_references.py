"""Computes the stored references again and checks them by a second method: `python -m benchmarks.make_references P1`.

Dormand and Prince's 8(5,3) in numpy at rtol 1e-13, stopping at every output time (its dense output has lower order).
Checks: Radau IIA with the analytic Jacobian at 1e-11 for small networks, else the same method at 1e-10. P3 is solved
in the coordinates of P3r, which is exact. P1x takes minutes and P1xx half an hour.
"""

import sys
import time

from .machine import use_one_core


def main(names: list[str]) -> None:
    """Computes, checks and stores the named problems (none named: all)."""
    use_one_core()
    from . import problems, references

    for name in names or problems.BUILDERS:
        problem = problems.first_members(problems.build(name), references.MEMBERS_STORED)
        started = time.process_time()
        W = solve_all(problem)
        seconds = time.process_time() - started
        reference = references.reference_of(W)
        difference, method = cross_check(problem, reference)
        path = reference.save(name)
        print(
            f"{name}: {seconds:.0f} s, largest relative difference to {method}: {difference:.1e}, "
            f"stored {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )


def solve_all(problem, rtol: float = 1e-13):
    """End-to-end matrices (member, time, d_y, d_x) by DOP853."""
    import numpy as np

    from . import problems

    if problem.name != "P3":
        return np.stack([_dop853(problem, start, rtol) for start in problem.starts])
    return solve_all(problems.reduced(problem, "P3r"), rtol) @ problems.seen_inputs(problem).T


def _dop853(problem, start, rtol: float):
    import numpy as np
    from scipy.integrate import DOP853

    from .field import Field
    from .references import end_to_end

    field = Field(problem)
    y = np.empty((problem.outputs, problem.size))
    solver = DOP853(field, 0.0, field.flat(start), problem.ts[0], rtol=rtol, atol=1e-3 * rtol)
    for i, t in enumerate(problem.ts):
        solver.t_bound, solver.status = t, "running"  # keeps the step size from one output to the next
        while solver.status == "running":
            message = solver.step()
        if solver.status == "failed":
            raise RuntimeError(f"{problem.name} at t = {solver.t:g}: {message}")
        y[i] = solver.y
    return end_to_end(field.layers(y))


def cross_check(problem, reference) -> tuple[float, str]:
    """Largest relative difference to a second solution, and how that was made."""
    import numpy as np

    from . import contenders_scipy, problems, references

    if problem.size > contenders_scipy.LARGEST_DENSE:
        return reference.error(solve_all(problem, 1e-10)), "DOP853 at 1e-10"
    few = problems.first_members(problem, 3)
    layers = contenders_scipy.radau(few)(1e-11)
    return reference.error(np.stack([references.end_to_end(stacks) for stacks in layers])), "Radau at 1e-11"


if __name__ == "__main__":
    main(sys.argv[1:])
