import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SMALL

from scorefield.checkpoint import load_model


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_model(Path(folder)).network.state_dict()


def test_a_run_is_a_model_and_goes_on_by_itself(cli, here):
    first = json.loads(cli(*SMALL, "--json", steps=2, batch_size=4, seed=3).out)
    assert (first["steps"], first["finished"], first["images_seen"]) == (2, True, 8)
    assert cli("sample", "run", out="a.npz", n=2, steps=2).status == 0
    assert json.loads(cli(*SMALL, "--json", steps=4, batch_size=4, seed=3).out)["steps"] == 4
    whole = [argument.replace("run", "whole") for argument in SMALL]
    assert cli(*whole, steps=4, batch_size=4, seed=3).status == 0
    for name, weight in weights("whole").items():
        assert torch.equal(weight, weights("run")[name]), name


def test_what_would_spoil_a_run_is_refused(cli, here):
    cli(*SMALL, steps=1, batch_size=4)
    assert "--no-resume" not in cli(*SMALL, steps=2, batch_size=8).error
    assert "training.batch_size = 4, now 8" in cli(*SMALL, steps=2, batch_size=8).error
    assert "holds a training" in cli(*SMALL, "--no-resume", steps=2, batch_size=4).error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.chanels=8", "did you mean channels?"),
        ("model.channels=many", "model.channels"),
        ("channels=8", "expected section.key=value"),
        ("sde.name=vq", "sde.name"),
        ("training.lr=.nan", "training.lr"),
        ("data.shape=[3,8,8]", "set data.shape"),
    ],
)
def test_an_impossible_change_says_what_is_possible(cli, here, change, words):
    arguments = [argument for argument in SMALL if argument != "--resize"]
    assert words in cli(*arguments, change).error
    assert not Path("run").exists()


def test_vectors_from_an_array(cli, here):
    np.save("points.npy", np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32))
    small = ("model.width=8", "model.depth=1")
    assert cli("train", "table", *small, data="points.npy", out="run", steps=2, batch_size=8).status == 0
    assert cli("sample", "run", out="a.npy", n=3, steps=2).status == 0
    assert np.load("a.npy").shape == (3, 2)
    assert ".npz or .npy" in cli("sample", "run", out="a.png").error


def test_a_loss_that_is_not_finite_ends_the_training_in_one_line(cli, here):
    cli(*SMALL, steps=1, batch_size=4)
    kept = {path: path.read_bytes() for path in Path("run").rglob("*.safetensors")}
    model = [argument.replace("run", "bad") for argument in SMALL]
    error = cli(*model, "training.lr=1e30", "training.warmup=0", "training.clip=0", steps=9, batch_size=4).error
    assert "not finite" in error
    assert "training.lr" in error
    assert {path: path.read_bytes() for path in Path("run").rglob("*.safetensors")} == kept
