"""Units, quantization, shapes."""

import math

import pytest
import torch

from scorefield.space import DataSpace


def test_images_round_trip():
    space = DataSpace.images((3, 2, 2))
    x = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(space.to_data(space.to_model(x)), x)
    assert (
        space.to_model(torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)[:, :1].expand(1, 3, 2, 2)).min()
        == -1
    )


def test_channels_have_units_of_their_own():
    space = DataSpace((2, 3), shift=(1.0, -2.0), scale=(0.5, 4.0))
    model = torch.ones(1, 2, 3)
    assert space.to_data(model)[0, :, 0].tolist() == [1.5, 2.0]
    torch.testing.assert_close(space.to_model(space.to_data(model)), model)
    assert space.log_scale == pytest.approx(3 * (math.log(0.5) + math.log(4)))


def test_integers_are_levels():
    space = DataSpace.images((1, 1, 2), low=0.0, high=1.0)
    k = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)
    assert space.to_model(k).flatten().tolist() == [0.0, 1.0]
    y = space.dequantize(k, torch.full((1, 1, 1, 2), 0.5))
    torch.testing.assert_close(y.flatten(), torch.tensor([0.5 / 256, 255.5 / 256]))


def test_errors_name_given_and_expected():
    space = DataSpace.images((3, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 2, 2\), expected \(batch, 3, 2, 2\)"):
        space.to_model(torch.zeros(1, 1, 2, 2))
    with pytest.raises(TypeError, match=r"int64, expected uint8 or floating point"):
        space.to_model(torch.zeros(1, 3, 2, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"float32, expected integer levels"):
        space.dequantize(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"2 values of scale, expected 1 or one per channel \(3\)"):
        DataSpace((3,), scale=(1.0, 2.0))
    with pytest.raises(ValueError, match="expected positive"):
        DataSpace((3,), scale=(0.0,))
