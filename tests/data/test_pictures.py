import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.data import DataError, filmstrip, grid, open_data, save_image, save_samples, to_uint8


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_level_survives():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels), levels)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(to_uint8(levels.to(dtype) / 255), levels)
    assert to_uint8(torch.tensor([1.49, 1.51, -3, 300]) / 255).tolist() == [1, 2, 0, 255]
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        to_uint8(torch.tensor([0.0, torch.nan]))


def test_grid_puts_images_in_rows():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 3) + 1
    picture = grid(images, padding=1)
    assert picture.shape == (1 + 2 * 3, 1 + 3 * 4, 1)
    assert picture[1, 1::4, 0].tolist() == [1, 2, 3]
    assert picture[4, 1::4, 0].tolist() == [4, 5, 0]
    assert not picture[0].any()
    assert not picture[:, -1].any()
    assert grid(images, columns=5, padding=0)[0, :, 0].tolist() == [k for k in range(1, 6) for _ in range(3)]
    assert grid(images, columns=99, padding=0).shape == (2, 15, 1)
    for bad in (images[:0], images.expand(5, 2, 2, 3)):
        with pytest.raises(DataError, match="1 or 3 channels"):
            grid(bad)
    with pytest.raises(DataError, match="columns 0"):
        grid(images, columns=0)


def test_filmstrip_has_a_row_per_sample():
    frames = [torch.tensor([10 * t, 10 * t + 1], dtype=torch.uint8).reshape(2, 1, 1, 1) for t in range(3)]
    assert filmstrip(frames, padding=0)[..., 0].tolist() == [[0, 10, 20], [1, 11, 21]]
    with pytest.raises(DataError, match="no frames"):
        filmstrip([])
    with pytest.raises(DataError, match="one shape"):
        filmstrip([torch.zeros(1, 1, 2, 2), torch.zeros(2, 1, 2, 2)])


@pytest.mark.parametrize("channels", [1, 3])
def test_written_images_are_read_back(tmp_path, channels):
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    save_image(tmp_path / "a.png", image)
    save_image(tmp_path / "b.png", image.permute(1, 2, 0).numpy())
    save_image(tmp_path / "c.png", image.float() / 255)
    for name in "abc":
        assert torch.equal(open_data(tmp_path / f"{name}.png").tensor()[0], image)
    with pytest.raises(DataError, match=r"ends in \.png"):
        save_image(tmp_path / "a.jpg", image)


def test_forms_of_samples(tmp_path):
    x = torch.rand(4, 3, 8, 8)
    save_samples(tmp_path / "a.png", x, 7, [4, 5, 6, 7])
    assert Image.open(tmp_path / "a.png").size == (22, 22)

    save_samples(tmp_path / "a.npz", x, 7, [4, 5, 6, 7])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["indices", "samples", "seed"]
        assert np.array_equal(arrays["samples"], x)
        assert (arrays["seed"], arrays["indices"].tolist()) == (7, [4, 5, 6, 7])

    save_samples(tmp_path / "a.npy", x, 7, [4, 5, 6, 7])
    assert np.array_equal(np.load(tmp_path / "a.npy"), x)

    save_samples(tmp_path / "a", x, 7, [4, 5, 6, 7])
    assert names(tmp_path / "a") == [f"{k:08d}.png" for k in (4, 5, 6, 7)]
    assert torch.equal(open_data(tmp_path / "a").tensor(), to_uint8(x))
    assert names(tmp_path) == ["a", "a.npy", "a.npz", "a.png"]


@pytest.mark.parametrize("shape", [(2,), (4, 16), (5, 8, 8), (1, 3, 4, 5)])
def test_what_is_no_image_goes_to_arrays_only(tmp_path, shape):
    x = torch.randn(3, *shape)
    for name in ("a.png", "a"):
        with pytest.raises(DataError, match=r"no images.*\.npz or \.npy"):
            save_samples(tmp_path / name, x, 0, range(3))
    save_samples(tmp_path / "a.npz", x, 0, range(3))
    save_samples(tmp_path / "a.npy", x, 0, range(3))
    assert torch.equal(open_data(tmp_path / "a.npy").tensor(), x)


def test_what_cannot_be_written_is_refused(tmp_path):
    x = torch.zeros(2, 1, 4, 4)
    with pytest.raises(DataError, match=r"cannot write \.jpg"):
        save_samples(tmp_path / "a.jpg", x, 0, [0, 1])
    with pytest.raises(DataError, match="1 indices for 2"):
        save_samples(tmp_path / "a.png", x, 0, [0])
    with pytest.raises(DataError, match="twice"):
        save_samples(tmp_path / "a", x, 0, [0, 0])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        save_samples(tmp_path / "full", x, 0, [0, 1])
    assert names(tmp_path) == ["full"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name in ("a.png", "a.npz", "a.npy", "a"):
        with pytest.raises(OSError, match="No space"):
            save_samples(tmp_path / name, torch.zeros(2, 1, 4, 4), 0, [0, 1])
    assert names(tmp_path) == []
