"""Images of other sizes: what is cut off, and the numbers of the antialiased filters."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.data import DataError, open_data
from scorefield.data.preprocess import preprocess


def triangle(u):
    return np.clip(1 - np.abs(u), 0, None)


def keys(u):
    """Keys 1981, eq. 15, a = -1/2."""
    u = np.abs(u)
    near, far = 1.5 * u**3 - 2.5 * u**2 + 1, -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2
    return np.where(u < 1, near, np.where(u < 2, far, 0))


def resampling(before, after, kernel):
    """The matrix of a filter that is stretched by the ratio of the sizes, its rows sums of 1."""
    ratio = before / after
    centres = (np.arange(after) + 0.5) * ratio - 0.5
    matrix = kernel((np.arange(before) - centres[:, None]) / max(ratio, 1))
    return matrix / matrix.sum(1, keepdims=True)


def pixels(height, width, channels=3):
    values = np.random.default_rng(0).integers(0, 256, (channels, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


@pytest.mark.parametrize(("resize", "kernel"), [("bilinear", triangle), ("bicubic", keys)])
@pytest.mark.parametrize(("before", "after"), [(140, 64), (37, 16), (10, 17)])
def test_filters_are_the_kernels_stretched_by_the_ratio(resize, kernel, before, after):
    x = pixels(before, before)
    matrix = resampling(before, after, kernel)
    exact = (matrix @ x.double().numpy() @ matrix.T).clip(0, 255)
    ours = preprocess(x, (after, after), "none", resize, "x").numpy()
    assert ours.dtype == np.uint8
    sure = np.abs(exact % 1 - 0.5) > 1e-3
    assert sure.mean() > 0.95
    assert np.array_equal(ours[sure], np.round(exact)[sure])
    assert np.abs(ours - exact).max() <= 0.501


def test_two_pixels_of_four_by_hand():
    """Half the size: each pixel has the weights 3, 3, 1 of 7, cut off at the border."""
    row = torch.tensor([[[0, 0, 70, 7]]], dtype=torch.uint8).expand(1, 4, 4)
    assert preprocess(row, (2, 2), "none", "bilinear", "x")[0].tolist() == [[10, 33], [10, 33]]


def test_box_is_the_mean_of_whole_pixels():
    x = pixels(1024, 1024, 1)
    exact = x.double().reshape(1, 256, 4, 256, 4).mean((2, 4))
    assert torch.equal(preprocess(x, (256, 256), "none", "box", "x"), exact.round().to(torch.uint8))


def test_faces_are_the_140_pixels_in_the_middle():
    """CelebA's images are 218 pixels high and 178 wide: rows 39 to 178 and columns 19 to 158."""
    x = torch.zeros(3, 218, 178, dtype=torch.uint8)
    x[:, 39:179, 19:159] = 255
    face = preprocess(x, (64, 64), 140, "bilinear", "x")
    assert face.shape == (3, 64, 64)
    assert face.unique().tolist() == [255]
    for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        moved = preprocess(x.roll((dy, dx), (1, 2)), (64, 64), 140, "bilinear", "x")
        assert moved.min() < 255
    noise = pixels(218, 178)
    inner = preprocess(noise[:, 39:179, 19:159], (64, 64), "none", "bilinear", "x")
    assert torch.equal(preprocess(noise, (64, 64), 140, "bilinear", "x"), inner)


@pytest.mark.parametrize(("height", "width"), [(256, 341), (300, 256), (257, 512)])
def test_the_largest_square_is_cropped_before_it_is_resized(height, width):
    x, side = pixels(height, width), min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = x[:, top : top + side, left : left + side]
    assert torch.equal(
        preprocess(x, (64, 64), "square", "bicubic", "x"), preprocess(square, (64, 64), "none", "bicubic", "x")
    )


def test_without_a_crop_the_shorter_side_fits_and_the_rest_is_cut_off():
    """256 × 341 becomes 128 × 170, half of 341 rounded to even, of which columns 21 to 148 stay."""
    x = pixels(256, 341, 1)
    rows, columns = resampling(256, 128, triangle), resampling(341, 170, triangle)
    exact = (rows @ x.double().numpy() @ columns.T)[..., 21:149]
    assert np.abs(preprocess(x, (128, 128), "none", "bilinear", "x").numpy() - exact).max() <= 0.501


def test_an_image_of_the_right_size_is_left_alone():
    x = pixels(64, 64)
    for crop in ("none", "square", 140):
        assert torch.equal(preprocess(x, (64, 64), crop, "bilinear", "x"), x)


def test_a_crop_alone_resizes_nothing():
    x = pixels(20, 30)
    assert torch.equal(preprocess(x, (16, 16), 16, "none", "x"), x[:, 2:18, 7:23])
    assert preprocess(x, (16, 16), "square", "none", "x").shape == (3, 20, 20)


def test_an_image_smaller_than_its_crop_is_refused():
    with pytest.raises(DataError, match=r"small\.png: height 100, width 178 given, at least 140 by 140") as caught:
        preprocess(pixels(100, 178), (64, 64), 140, "bilinear", "small.png")
    assert "\n" not in str(caught.value)


def test_every_kind_of_source_is_prepared(tmp_path):
    x = pixels(40, 52)
    picture = x.permute(1, 2, 0).numpy()
    Image.fromarray(picture).save(tmp_path / "a.png")
    expected = preprocess(x, (16, 16), "square", "bicubic", "x")
    for spec in (tmp_path / "a.png", tmp_path, picture[None], x[None]):
        source = open_data(spec, channels=3, size=16, crop="square", filter="bicubic")
        assert source.shape == (3, 16, 16)
        assert torch.equal(source.item(0), expected)
    both = open_data(tmp_path, channels=1, size=16, crop="square", filter="bicubic", resize=True)
    assert both.shape == (1, 16, 16)
    assert math.isclose(both.item(0).double().mean(), expected.double().mean(), rel_tol=0.1)
    with pytest.raises(DataError, match="RGB of height 40, width 40 given, images of height 16"):
        open_data(tmp_path, size=16, crop="square")
    with pytest.raises(DataError, match="need the size"):
        open_data(tmp_path, crop="square")
