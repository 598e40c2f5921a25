"""The conventions that papers disagree on, as values: the scale of the loss and what it does to time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LossScale:
    r"""A scale of the squared error $L = c \, \frac{1}{2n} \sum_i \|y_i - W x_i\|^2$.

    $c$ is `factor(count, d_y)`. A scale changes no trajectory, only the time at which its points are reached: time $t$
    under this scale is time $c t$ under `HALF_MEAN`, the canonical flow $\dot W = \Sigma_{yx} - W \Sigma_{xx}$.

    >>> MEAN.factor(count=100, d_y=3)
    2.0
    >>> HALF_SUM.factor(count=100, d_y=3)
    100.0
    """

    name: str
    """The scale's name, as it is written into every dataset and accepted on the command line."""
    formula: str
    """The loss in plain text."""
    multiple: float
    """What multiplies the sum, times 2."""
    over: str
    """What the sum is divided by: `"samples"`, `"entries"` or `"nothing"`."""

    def factor(self, count: int | None = None, d_y: int = 1) -> float:
        """Loss of this scale divided by the loss of `HALF_MEAN`, for `count` samples of `d_y` outputs.

        Raises `ValueError` where the scale needs the number of samples and `count` is None.
        """
        if self.over == "samples":
            return self.multiple
        if self.over == "entries":
            return self.multiple / d_y
        if count is None:
            raise ValueError(
                f"`count`: the loss scale {self.name!r} needs the number of samples, and these moments do not carry "
                "it; give `count`, or use a mean scale such as HALF_MEAN"
            )
        return self.multiple * count

    def __str__(self) -> str:
        return self.name


HALF_MEAN = LossScale("half-mean", "1/(2n) sum ||y - Wx||^2", 1.0, "samples")
MEAN = LossScale("mean", "1/n sum ||y - Wx||^2", 2.0, "samples")
HALF_SUM = LossScale("half-sum", "1/2 sum ||y - Wx||^2", 1.0, "nothing")
SUM = LossScale("sum", "sum ||y - Wx||^2", 2.0, "nothing")
ENTRY_MEAN = LossScale("entry-mean", "1/(n d_y) sum ||y - Wx||^2", 2.0, "entries")

LOSS_SCALES = {scale.name: scale for scale in (HALF_MEAN, MEAN, HALF_SUM, SUM, ENTRY_MEAN)}
"""Every scale by its name."""

TIME_UNIT = "gradient-flow time; one gradient-descent step of size eta is eta"
"""Unit of every time axis."""
