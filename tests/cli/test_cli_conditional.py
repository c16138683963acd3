import json
from pathlib import Path

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
    assert (told["method"], told["nfe"]) == ("mmps", 4)
    assert 8 < told["nfe_backward"] <= 16


@pytest.mark.parametrize(("method", "steps"), [("mmps", 1), ("ddrm", 12), ("repaint", 1)])
def test_a_budget_pays_for_steps(cli, here, method, steps):
    given = {"data": "example:mnist", "out": "a.npz", "hole": "0.5", "images": 1}
    told = json.loads(cli("inpaint", "grey", "--resize", "--json", "-n", "2", budget=13, method=method, **given).out)
    assert told["steps"] == steps
    assert 13 - 5 < told["nfe"] + told["nfe_backward"] <= 13


def test_any_sampler_walks_the_steps(cli, here):
    given = {"data": "example:mnist", "hole": "0.5", "images": 1, "n": 2, "steps": 4}
    for name, options in (("own", {}), ("pc", {"sampler": "pc", "snr": 0.3}), ("heun", {"sampler": "heun"})):
        assert cli("inpaint", "grey", "--resize", out=f"{name}.npz", **given, **options).status == 0
    own, pc, heun = (np.load(f"{name}.npz")["samples"] for name in ("own", "pc", "heun"))
    assert np.abs(own - heun).max() > 1e-4
    assert np.abs(own - pc).max() > 1e-2


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
        given = {"data": f"{data}.npy", "out": f"{data}.npz", "method": "ddrm"}
        assert cli("colorize", "colour", **given, **QUICK).status == 0
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
    for blur in (-1.0, 9.0):
        refused = cli("deblur", "grey", "--resize", blur=blur, **where)
        assert f"--blur {blur:g} of images of 8 by 8: give a positive number up to the side" in refused.error
    sharp = cli("deblur", "grey", "--resize", "--degrade", blur=2.0, std=0, **where, **QUICK)
    assert "without noise by a Blur whose singular values fall to" in sharp.error
    refused = cli("superres", "grey", "--resize", "--degrade", method="dps", std=0, **where, **QUICK)
    assert "measurement without noise: give std" in refused.error


def test_any_linear_function_is_solved(cli, here):
    """A matrix and Python give the same samples, and a picture shows what fits the measurements."""
    matrix = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    np.save("matrix.npy", matrix)
    Path("function.py").write_text(
        "import numpy as np, torch\nmatrix = torch.from_numpy(np.load('matrix.npy'))\n"
        "def operator(x):\n    return x.flatten(1) @ matrix.T\n"
    )
    np.save("measured.npy", digits().reshape(3, 64) @ matrix.T)
    options = {"std": 0.5, "n": 2, "steps": 5}
    told = json.loads(
        cli("solve", "grey", "--json", operator="matrix.npy", data="measured.npy", out="a.npz", **options).out
    )
    assert (told["images"], told["n"], told["file"]) == (3, 2, "matrix.npy")
    again = {"operator": "function.py", "data": "measured.npy", "out": "b.npz"}
    assert cli("solve", "grey", **again, **options).status == 0
    samples = np.load("a.npz")["samples"]
    assert np.abs(np.load("b.npz")["samples"] - samples).max() < 1e-3
    assert samples.std() > 0.1
    degraded = {"operator": "function.py", "data": "example:mnist", "images": 3, "out": "c.png"}
    assert cli("solve", "grey", "--resize", "--degrade", **degraded, **options).status == 0
    picture = np.asarray(Image.open("c.png"))
    assert picture.shape == (3 * 10 + 2, 5 * 10 + 2)
    shown = picture[2:10, 2:10].reshape(64) / 255 - 0.5  # the image nearest to grey that fits
    expected = np.linalg.pinv(matrix) @ (matrix @ (digits()[0].reshape(64) - 0.5))
    inside = np.abs(expected) < 0.5
    assert np.abs(shown - expected)[inside].max() < 0.01


def test_data_of_any_kind_are_solved(cli, here):
    np.save("sum.npy", np.ones((1, 2), np.float32))
    np.save("measured.npy", np.array([[1.0], [2.0]], np.float32))
    where = {"operator": "sum.npy", "data": "measured.npy", "out": "a.npz", "std": 0, "n": 3, "steps": 5}
    assert cli("solve", "vectors", **where).status == 0
    sums = np.load("a.npz")["samples"].sum(1)
    assert np.abs(sums - np.repeat([1.0, 2.0], 3)).max() < 1e-5


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "", "no operator; expected a matrix (.npy, .npz) or Python"),
        ("missing.py", None, "no such file; check the name"),
        ("empty.py", "", "defines no `operator`"),
        ("broken.py", "operator = 1 / 0", "does not run (ZeroDivisionError: division by zero)"),
        ("fails.py", "def operator(x): return x.nothing", "`operator` fails on data of shape (2, 1, 8, 8)"),
        ("square.py", "def operator(x): return x ** 2", "`operator` is not linear"),
        ("shift.py", "def operator(x): return x + 1", "`operator` is not linear"),
        ("whole.py", "def operator(x): return x.sum()[None]", "expected their batch to be the first axis"),
        ("fourier.py", "import torch\noperator = torch.fft.fft2", "makes complex numbers"),
        ("exits.py", "raise SystemExit(0)", "does not run (SystemExit: 0)"),
        ("whole.py", "def operator(x): return x.sum(-1).long() * 0", "makes int64 of floats, expected floats"),
        ("detached.py", "def operator(x): return x.detach().sum(-1)", "the adjoint of `operator` fails"),
        (
            "wrong.py",
            "import scorefield as sf\nclass P:\n  def A(self, x): return x.sum(-1)\n"
            "  def A_adjoint(self, y): return y[..., None].expand(*y.shape, 8) * 2\noperator = sf.Physics(P())",
            "is not that of what it makes",
        ),
        (
            "good.py",
            "def operator(x): return x[:, :, :2]",
            "measurements of shape (1, 28, 28) given, expected (1, 2, 8)",
        ),
    ],
)
def test_an_operator_that_is_none_is_one_line(cli, here, file, text, message):
    if text is not None:
        Path(file).write_text(text)
    error = cli("solve", "grey", operator=file, data="example:mnist", out="a.png").error
    assert file in error or file == "good.py"
    assert message in error


def test_a_matrix_has_a_column_for_each_number(cli, here):
    np.save("matrix.npy", np.ones((2, 3), np.float32))
    error = cli("solve", "grey", operator="matrix.npy", data="example:mnist", out="a.png").error
    assert "of shape (2, 3) given, expected a matrix of floats with a column for each of the 64 numbers" in error


def test_options_that_do_not_go_together_are_one_line(cli, here):
    where = {"data": "example:mnist", "hole": "0.5", "out": "a.png"}
    for options, message in (
        ({"budget": 30, "steps": 5}, "--budget 30 with --steps 5: leave out one"),
        ({"budget": 30, "sampler": "heun"}, "--budget 30 with --sampler heun: leave out one"),
        ({"corrector": "langevin"}, "without a --sampler"),
        ({"budget": 4}, "budget=4 with method 'mmps', whose one step needs 10: give more"),
        ({"method": "dps"}, "measurement without noise"),
        ({"method": "ddrm", "sampler": "heun", "steps": 3}, "a sampler with method 'ddrm'"),
    ):
        assert message in cli("inpaint", "grey", "--resize", **where, **options).error
