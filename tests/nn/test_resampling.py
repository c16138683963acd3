import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch.nn.functional import conv2d

from scorefield.nn.resampling import BOX, ConvDownsample, ConvUpsample, Downsample, Upsample

FILTERS = [BOX, (1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 4.0, 8.0), (1.0, 3.0, 5.0, 4.0, 2.0, 1.0)]


def filtered(x: np.ndarray, taps, up: int, down: int, before: int) -> np.ndarray:
    """The filter applied along both image axes, by scipy; outputs from ``before`` on."""
    kernel = np.array(taps) / sum(taps) * up
    for axis in (2, 3):
        size = x.shape[axis] * up // down
        full = upfirdn(kernel, x, up=up, axis=axis)
        x = np.take(full, before + down * np.arange(size), axis=axis)
    return x


def line_filter(x: torch.Tensor, taps, gain: float, before: int, sizes: tuple[int, int]) -> torch.Tensor:
    """The filter applied along both image axes; ``sizes`` outputs from ``before`` on."""
    image = x.numpy()
    for axis, size in zip((2, 3), sizes, strict=True):
        full = upfirdn(np.array(taps) / sum(taps) * gain, image, axis=axis)
        image = np.take(full, before + np.arange(size), axis=axis)
    return torch.tensor(image)


@pytest.mark.parametrize("taps", FILTERS, ids=str)
def test_down_is_a_filter_and_every_second_pixel(taps) -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    expected = filtered(x.numpy(), taps, up=1, down=2, before=len(taps) // 2)
    assert np.allclose(Downsample(3, taps).double()(x), expected, atol=1e-6)


@pytest.mark.parametrize("taps", FILTERS, ids=str)
def test_up_is_zeros_between_pixels_and_a_filter(taps) -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    expected = filtered(x.numpy(), taps, up=2, down=1, before=len(taps) // 2 - 1)
    assert np.allclose(Upsample(3, taps).double()(x), expected, atol=1e-6)


@pytest.mark.parametrize("taps", FILTERS, ids=str)
def test_constants_stay_constant_and_down_is_the_adjoint_of_up(taps) -> None:
    small, large = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 8, 8)
    ones = torch.ones(1, 1, 16, 16)
    assert torch.allclose(Downsample(1, taps)(ones)[..., 2:-2, 2:-2], torch.ones(()), atol=1e-6)
    assert torch.allclose(Upsample(1, taps)(ones)[..., 4:-4, 4:-4].mean(), torch.ones(()), atol=1e-6)
    left = (Upsample(2, taps)(small) * large).sum()
    right = 4 * (small * Downsample(2, taps[::-1])(large)).sum()
    assert torch.allclose(left, right, rtol=1e-4, atol=1e-4)


def test_convolutions_that_change_the_resolution_without_a_filter() -> None:
    x = torch.randn(2, 3, 8, 6)
    down, up = ConvDownsample(3, 5, None), ConvUpsample(3, 5, None)
    torch.nn.init.normal_(up.conv.bias)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1))
    assert torch.allclose(up(x), conv2d(repeated, up.conv.weight, up.conv.bias, padding=1))
    assert torch.allclose(down(x), conv2d(padded, down.conv.weight, down.conv.bias, stride=2))


@pytest.mark.parametrize("taps", FILTERS[1:], ids=str)
@torch.no_grad()
def test_filtered_convolutions_that_change_the_resolution(taps) -> None:
    """Down: the filter, then the convolution. Up: zeros between the pixels, the convolution, then the filter."""
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    down, up = ConvDownsample(3, 5, taps).double(), ConvUpsample(3, 5, taps).double()
    torch.nn.init.normal_(up.conv.bias)
    half = len(taps) // 2
    smooth = line_filter(x, taps, 1.0, half - 1, (9, 7))
    assert torch.allclose(down(x), conv2d(smooth, down.conv.weight, down.conv.bias, stride=2), atol=1e-6)
    spread = torch.zeros(2, 3, 17, 13, dtype=torch.float64)
    spread[:, :, 1::2, 1::2] = x
    convolved = conv2d(spread, up.conv.weight, padding=1)
    expected = line_filter(convolved, taps, 2.0, half, (16, 12)) + up.conv.bias[:, None, None]
    assert torch.allclose(up(x), expected, atol=1e-6)


def test_only_even_filters() -> None:
    for taps in ((1.0, 2.0, 1.0), (), (1.0, -1.0)):
        with pytest.raises(ValueError, match="even number of taps"):
            Downsample(1, taps)
