"""Every kind of bad input ends in one line on stderr and exit status 2; what was there before stays."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import SMALL

import scorefield as sf
from scorefield.data import files


def full_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "grey", "--out", "a.png", "--stpes", "5"], ["--stpes", "--steps", "scorefield sample --help"]),
        (["smaple", "grey"], ["smaple", "Did you mean 'sample'", "scorefield --help"]),
        (["sample", "grey"], ["Missing option '--out'"]),
        (["sample"], ["Missing"]),
        (["sample", "grey", "--out", "a.png", "--sampler", "euler"], ["'euler'", "'euler-maruyama'"]),
        (["sample", "grey", "--out", "a.png", "--n", "many"], ["--n", "integer", "'many' given"]),
        (["sample", "grey", "--out", "a.png", "--n", "0"], ["--n", "greater than or equal to 1", "0' given"]),
        (["sample", "grey", "--out", "a.png", "--seed", "-1"], ["--seed", "greater than or equal to 0"]),
        (["sample", "grey", "--out", "a.png", "--device", "gpu"], ["'gpu'", "give cpu or auto"]),
        (["sample", "grey", "--out", "a.png", "--device", "meta"], ["'meta'", "give cpu or auto"]),
        (["sample", "grey", "--out", "a.png", "--device", "cuda:99"], ["'cuda:99'", "give cpu or auto"]),
        (["sample", "nowhere", "--out", "a.png"], ["no model nowhere", "checkpoint folder"]),
        (["sample", "grey", "--out", "a.gif"], [".gif", ".png"]),
        (["sample", "grey", "--out", "grey"], ["grey", "choose another name"]),
        (["sample", "grey", "--out", "file/a.png"], ["file is not a folder"]),
        (["likelihood", "grey", "--data", "nowhere"], ["nowhere", "torchvision:NAME"]),
        (["likelihood", "grey", "--data", "colour.png"], ["RGB of height 8", "grey of height 8", "--resize"]),
        (["likelihood", "grey", "--data", "example:mnist"], ["height 28", "height 8", "--resize"]),
        (["likelihood", "grey", "--data", "cut.png"], ["cut.png", "not a readable image"]),
        (["likelihood", "grey", "--data", "grey.npz", "--tol", "0"], ["tolerance 0.0", "positive"]),
        (["encode", "vectors", "--data", "three.npy", "--out", "z.npz"], ["(0, 3)", "(batch, 2)"]),
        (["encode", "grey", "--data", "nan.npy", "--out", "z.npz"], ["nan.npy", "NaN"]),
        (["info", "cut"], ["weights.safetensors", "damaged"]),
        (["info", "half"], ["model.json", "damaged"]),
        (["sample", "other", "--out", "a.png"], ["weights.safetensors"]),
        (["recipes", "mnits"], ["did you mean mnist?"]),
        (["recipes", "mnist", "model.chanels=4"], ["model.chanels", "did you mean channels?"]),
    ],
)
def test_bad_input_is_one_line(cli, here, arguments, words):
    Image.new("RGB", (8, 8)).save("colour.png")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(noise).save("whole.png")
    Path("cut.png").write_bytes(Path("whole.png").read_bytes()[:60])
    np.savez("grey.npz", images=noise[None, None])
    np.save("nan.npy", np.full((2, 1, 8, 8), np.nan, np.float32))
    np.save("three.npy", np.zeros((2, 3), np.float32))
    Path("file").touch()
    Path("grey").rename("g")
    for name, damaged, content in (
        ("cut", "weights.safetensors", Path("g/weights.safetensors").read_bytes()[:500]),
        ("half", "model.json", Path("g/model.json").read_bytes()[:100]),
        ("other", "weights.safetensors", Path("colour/weights.safetensors").read_bytes()),
    ):
        Path(name).mkdir()
        for part in ("weights.safetensors", "model.json"):
            (Path(name) / part).write_bytes(content if part == damaged else (Path("g") / part).read_bytes())
    Path("g").rename("grey")
    before = sorted(here.rglob("*"))

    error = cli(*arguments).error
    for word in words:
        assert word in error
    assert sorted(here.rglob("*")) == before


def test_a_full_disk_leaves_what_was_there(cli, here, monkeypatch):
    for name in ("a.png", "a.npz"):
        Path(name).write_text("old")
    monkeypatch.setattr(files.os, "fsync", full_disk)
    for name in ("a.png", "a.npz", "new"):
        error = cli("sample", "grey", out=name, n=2, steps=2).error
        assert name in error
        assert "No space left on device; free some space" in error
    assert Path("a.png").read_text() == Path("a.npz").read_text() == "old"
    assert not Path("new").exists()
    assert not list(here.glob(".scorefield-*"))


def test_a_disk_that_fills_in_training_leaves_the_last_checkpoint(cli, here, monkeypatch):
    assert cli(*SMALL, steps=1, batch_size=4).status == 0
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full_disk)
        assert "No space left" in cli(*SMALL, steps=3, batch_size=4).error
    assert cli("sample", "run", out="a.npz", n=1, steps=1).status == 0
    assert cli(*SMALL, steps=3, batch_size=4).status == 0


@pytest.mark.parametrize("error", [KeyError("alpha"), ValueError("from elsewhere"), TypeError("x"), RuntimeError("y")])
def test_a_bug_keeps_its_traceback(cli, here, monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(sf, "load", broken)
    with pytest.raises(type(error)):
        cli("sample", "grey", out="a.png")


def test_a_wrong_call_in_our_own_code_is_a_bug(cli, here, monkeypatch):
    monkeypatch.setattr(sf, "load", lambda: None)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        cli("sample", "grey", out="a.png")


def test_a_reader_that_has_seen_enough_is_no_error(here):
    command = f"{sys.executable} -c 'from scorefield.cli import main; exit(main())' recipes mnist | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "data:\n"
