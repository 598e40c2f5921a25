"""torchdiffeq on the same thin-side field, written in torch."""

import numpy as np
import torch
import torchdiffeq

from .contenders_scipy import ATOL_SHARE, Layers, Run
from .problems import Problem


def dopri5(problem: Problem) -> Run:
    """Dormand and Prince's 5(4) on a flat float64 vector, without gradients."""
    torch.set_num_threads(1)
    shapes, sizes = problem.shapes, [rows * columns for rows, columns in problem.shapes]
    sigma = torch.from_numpy(problem.sigma)
    ts = torch.from_numpy(np.concatenate([[0.0], problem.ts]))

    def layers(y: torch.Tensor) -> list[torch.Tensor]:
        return [part.view(*y.shape[:-1], *shape) for part, shape in zip(y.split(sizes, -1), shapes, strict=True)]

    def velocity(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weights = layers(y)
        lefts = [weights[-1]]
        for W in weights[-2::-1]:
            lefts.append(lefts[-1] @ W)
        right, slopes = sigma - lefts.pop(), []
        for W in weights[:-1]:
            slopes.append((lefts.pop().T @ right).reshape(-1))
            right = right @ W.T
        return torch.cat([*slopes, right.reshape(-1)])

    def solve(start: tuple[np.ndarray, ...], tolerance: float) -> Layers:
        y = torch.from_numpy(np.concatenate([W.ravel() for W in start]))
        with torch.no_grad():
            try:
                path = torchdiffeq.odeint(velocity, y, ts, rtol=tolerance, atol=ATOL_SHARE * tolerance, method="dopri5")
            except AssertionError as failure:  # its way to say that the step size underflowed
                raise ArithmeticError(str(failure)) from None
        return [layer.contiguous().numpy() for layer in layers(path[1:])]

    return lambda tolerance: [solve(start, tolerance) for start in problem.starts]
