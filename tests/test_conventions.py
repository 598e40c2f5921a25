"""Loss scales against the formulas that their names promise."""

import numpy as np
import pytest

import deeplinear as dl
from deeplinear.conventions import LOSS_SCALES

N, D_Y = 7, 3
RESIDUALS = np.random.default_rng(0).standard_normal((N, D_Y))  # y_i - W x_i
LOSSES = {
    "half-mean": 0.5 * np.mean(np.sum(RESIDUALS**2, axis=1)),
    "mean": np.mean(np.sum(RESIDUALS**2, axis=1)),
    "half-sum": 0.5 * np.sum(RESIDUALS**2),
    "sum": np.sum(RESIDUALS**2),
    "entry-mean": np.mean(RESIDUALS**2),  # torch.nn.MSELoss
}


@pytest.mark.parametrize("name", LOSSES)
def test_factor_relates_every_scale_to_the_half_mean(name):
    factor = LOSS_SCALES[name].factor(count=N, d_y=D_Y)
    np.testing.assert_allclose(factor * LOSSES["half-mean"], LOSSES[name], rtol=1e-15)


def test_every_scale_is_exported_and_found_by_its_name():
    exported = {scale.name: scale for scale in vars(dl.conventions).values() if isinstance(scale, dl.LossScale)}
    assert exported == LOSS_SCALES
    assert set(LOSSES) == set(LOSS_SCALES)
    assert all(str(scale) == name for name, scale in LOSS_SCALES.items())
    assert tuple(LOSS_SCALES.values()) == (dl.HALF_MEAN, dl.MEAN, dl.HALF_SUM, dl.SUM, dl.ENTRY_MEAN)


@pytest.mark.parametrize("scale", [dl.HALF_SUM, dl.SUM])
def test_sums_need_a_sample_count(scale):
    with pytest.raises(ValueError, match=r"^`count`: the loss scale '.*sum' needs the number of samples"):
        scale.factor()


@pytest.mark.parametrize("scale", [dl.HALF_MEAN, dl.MEAN, dl.ENTRY_MEAN])
def test_means_need_none(scale):
    assert scale.factor(d_y=4) == scale.factor(count=100, d_y=4)
