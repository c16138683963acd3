import json

import numpy as np

from scorefield.data import open_data


def test_decode_returns_what_was_encoded(cli, here):
    told = json.loads(
        cli("encode", "grey", "--resize", "--check", "--json", data="example:mnist", n=3, out="z.npz", tol=1e-4).out
    )
    assert np.load("z.npz")["latents"].shape == (3, 1, 8, 8)
    assert cli("decode", "grey", data="z.npz", out="x.npz", tol=1e-4, batch_size=2).status == 0
    arrays = np.load("x.npz")
    x = open_data("example:mnist", channels=1, size=8, resize=True).tensor()[:3].numpy() / 255
    gap = np.abs(arrays["samples"] - x).max()
    assert gap < 1e-3
    assert abs(told["max_error"] - gap) < 1e-5
    assert told["nfe"] > 6  # one step of the solver
    assert told["rms_error"] <= told["max_error"]
    assert "seed" not in arrays


def test_what_is_no_latent_code_is_refused(cli, here):
    np.save("images.npy", np.zeros((2, 1, 8, 8), np.uint8))
    np.save("vectors.npy", np.zeros((2, 5), np.float32))
    assert "8-bit data given" in cli("decode", "grey", data="images.npy", out="x.png").error
    assert "expected (batch, 1, 8, 8)" in cli("decode", "grey", data="vectors.npy", out="x.png").error
    assert ".npz" in cli("encode", "grey", "--resize", data="example:mnist", out="z.png").error
