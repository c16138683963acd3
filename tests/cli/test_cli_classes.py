"""Classes on the command line: a classifier beside a model, its labels, and what is said where there is none."""

import json
from pathlib import Path

import numpy as np

TRAIN = ("train-classifier", "grey", "--data", "example:mnist", "--resize", "model.channels=8", "model.multipliers=[1]")


def test_a_classifier_beside_a_model_is_found(cli, here):
    names = ",".join("abcdefghij")
    told = json.loads(cli(*TRAIN, "--json", steps=2, batch_size=8, names=names, test="example:mnist").out)
    assert (told["out"], told["steps"], set(told["accuracy"])) == ("grey/classifier", 2, set(told["cross_entropy"]))
    assert cli("sample", "grey", out="plain.npz", n=2, steps=3).status == 0
    assert cli("sample", "grey", out="d.npz", n=2, steps=3, label="d", guidance_scale=50).status == 0
    assert cli("sample", "grey", out="3.npz", n=2, steps=3, label="3", guidance_scale=50).status == 0
    plain, d, three = (np.load(f"{name}.npz")["samples"] for name in ("plain", "d", "3"))
    assert np.array_equal(d, three)
    assert not np.array_equal(plain, d)
    assert "label q, expected 0 to 9 or one of a, b" in cli("sample", "grey", out="a.npz", label="q").error
    told = json.loads(
        cli("likelihood", "grey", "--resize", "--json", data="example:mnist", n=2, label="3", tol=0.5).out
    )
    assert told["nfe_backward"] > 0


def test_a_classifier_elsewhere_is_named(cli, here):
    assert cli(*TRAIN, out="run", steps=2, batch_size=8).status == 0
    assert "no classifier lies beside it" in cli("sample", "grey", out="a.npz", label="3").error
    assert cli("sample", "grey", out="folder", n=2, steps=3, label="3", classifier="run").status == 0
    assert "label" in cli("sample", "grey", out="folder", n=2, steps=3, label="4", classifier="run").error
    assert '"label": "3"' in Path("folder/sampling.json").read_text()


def test_mistakes_are_one_line(cli, here):
    for options, words in (
        ({"guidance_scale": 2}, "--guidance-scale 2.0 without --label"),
        ({"guidance_interval": "1,2"}, "--guidance-interval 1,2 without --label"),
        ({"label": "3", "guidance_interval": "1"}, "expected two ratios LOW,HIGH"),
        ({"label": "3", "guidance_interval": "2,1"}, "expected two ratios"),
        ({"label": "3", "classifier": "colour"}, "colour"),
        ({"label": "3", "classifier": "nowhere"}, "no classifier nowhere"),
    ):
        assert words in cli("sample", "grey", out="a.npz", **options).error
    np.save("plain.npy", np.zeros((4, 8, 8, 1), np.uint8))
    assert "no class labels" in cli("train-classifier", "grey", data="plain.npy", out="run").error
    assert "give --out" in cli("train-classifier", "mnist", data="example:mnist").error
    assert not Path("run").exists()


def test_bundled_models_know_their_classes():
    import torch

    import scorefield as sf

    photographs = sf.load("cifar10", device="cpu")
    assert photographs.classifier is not None
    assert photographs.classifier.names[8] == "ship"
    x, t = torch.randn(1, 3, 32, 32), torch.tensor(0.3)
    assert torch.equal(photographs.given(label="ship").score(x, t), photographs.given(label=8).score(x, t))
    assert sf.load("mnist", device="cpu").classifier.classes == 10
