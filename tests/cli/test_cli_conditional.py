import json

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.data import open_data

QUICK = {"images": 3, "n": 2, "steps": 3}


def digits(channels=1):
    return open_data("example:mnist", channels=channels, size=8, resize=True).tensor()[:3].numpy() / 255


def test_inpainting_keeps_what_is_known(cli, here):
    told = json.loads(
        cli("inpaint", "grey", "--resize", "--json", data="example:mnist", hole="2,0,3,8", out="a.npz", **QUICK).out
    )
    samples = np.load("a.npz")["samples"].reshape(3, 2, 1, 8, 8)
    known = np.ones((8, 8), bool)
    known[:, 2:5] = False
    assert np.abs((samples - digits()[:, None])[..., known]).max() < 1e-6
    assert np.abs((samples - digits()[:, None])[..., ~known]).max() > 0.1
    assert told["missing"] == pytest.approx(3 / 8)
    assert told["nfe"] == 4


def test_a_picture_shows_the_hole_in_grey_and_the_samples_beside_it(cli, here):
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save("mask.png")
    assert cli("inpaint", "grey", "--resize", data="example:mnist", known="mask.png", out="a.png", **QUICK).status == 0
    picture = np.asarray(Image.open("a.png"))
    assert picture.shape == (3 * 10 + 2, 5 * 10 + 2)
    shown = picture[2:10, 2:10]
    assert (shown[4:] == 128).all()
    assert np.array_equal(shown[:4], np.rint(digits()[0, 0, :4] * 255))
    assert np.array_equal(picture[2:6, 12:20], shown[:4])


def test_colours_have_the_grey_that_they_were_given(cli, here):
    outcome = cli("colorize", "colour", "--resize", data="example:mnist", out="a.npz", **QUICK)
    assert outcome.status == 0
    samples = np.load("a.npz")["samples"].reshape(3, 2, 3, 8, 8)
    inside = (samples.min(2) > 0) & (samples.max(2) < 1)
    assert inside.sum() > 50
    assert np.abs(samples.mean(2) - digits())[inside].max() < 1e-5


def test_of_colour_images_the_mean_over_channels_is_taken(cli, here):
    colours = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)
    np.save("colours.npy", colours)
    np.save("grey.npy", (colours / 255).mean(1, keepdims=True).astype(np.float32))
    for data in ("colours", "grey"):
        assert cli("colorize", "colour", data=f"{data}.npy", out=f"{data}.npz", **QUICK).status == 0
    assert np.allclose(np.load("colours.npz")["samples"], np.load("grey.npz")["samples"], atol=1e-5)


def test_one_hole_is_needed_and_must_fit(cli, here):
    where = {"data": "example:mnist", "out": "a.png"}
    assert "neither --known nor --hole" in cli("inpaint", "grey", "--resize", **where).error
    assert "both" in cli("inpaint", "grey", "--resize", hole="0.5", known="m.png", **where).error
    assert "not inside the image" in cli("inpaint", "grey", "--resize", hole="5,5,9,9", **where).error
    assert "m.png" in cli("inpaint", "grey", "--resize", known="m.png", **where).error
    assert "not images" in cli("inpaint", "vectors", hole="0.5", data="example:mnist", out="a.npz").error
    assert "colour images" in cli("colorize", "grey", data="example:mnist", out="a.npz").error


def test_large_images_have_the_averages_that_they_were_given(cli, here):
    small = digits().reshape(3, 1, 4, 2, 4, 2).mean((3, 5)).astype(np.float32)
    np.save("small.npy", small)
    options = {"factor": 2, "std": 0, "method": "ddrm"}
    told = json.loads(cli("superres", "grey", "--json", data="small.npy", out="a.npz", **options, **QUICK).out)
    samples = np.load("a.npz")["samples"].reshape(3, 2, 1, 8, 8)
    averages = samples.reshape(3, 2, 1, 4, 2, 4, 2).mean((4, 6))
    inside = np.abs(samples - 0.5).reshape(3, 2, 1, 4, 2, 4, 2).max((4, 6)) < 0.5
    assert inside.sum() > 10
    assert np.abs(averages - small[:, None])[inside].max() < 1e-5
    assert (told["method"], told["factor"], told["nfe"]) == ("ddrm", 2, 4)
    outcome = cli("superres", "grey", "--resize", "--degrade", data="example:mnist", out="b.npz", **options, **QUICK)
    assert outcome.status == 0
    assert np.abs(np.load("b.npz")["samples"] - samples.reshape(6, 1, 8, 8)).max() < 0.02  # of integers, resized


def test_sharp_images_are_the_data_when_blurred_again(cli, here):
    import scorefield as sf

    options = {"blur": 0.7, "std": 0.001, "method": "ddrm"}
    assert (
        cli("deblur", "grey", "--resize", "--degrade", data="example:mnist", out="a.npz", **options, **QUICK).status
        == 0
    )
    assert (
        cli("deblur", "grey", "--resize", "--degrade", data="example:mnist", out="a.png", **options, **QUICK).status
        == 0
    )
    assert np.asarray(Image.open("a.png")).shape == (3 * 10 + 2, 5 * 10 + 2)
    blurred = sf.Blur.gaussian(0.7).apply(torch.from_numpy(digits()))
    found = torch.from_numpy(np.load("a.npz")["samples"].reshape(3, 2, 1, 8, 8))
    again = sf.Blur.gaussian(0.7).apply(found)
    assert float((again - blurred[:, None]).abs().mean()) < 0.05
    assert float((found - torch.from_numpy(digits())[:, None]).abs().mean()) > 0.005


def test_what_cannot_be_restored_is_one_line(cli, here):
    where = {"data": "example:mnist", "out": "a.npz"}
    assert "--factor 3 with images of 8 by 8: give a divisor" in cli("superres", "grey", factor=3, **where).error
    assert "expected a model of images" in cli("superres", "vectors", **where).error
    assert (
        "blur of -1.0 pixels, expected a positive number" in cli("deblur", "grey", "--resize", blur=-1.0, **where).error
    )
    refused = cli("superres", "grey", "--resize", "--degrade", method="dps", std=0, **where, **QUICK)
    assert "measurement without noise: give std" in refused.error
