"""Help is quick, complete, and its examples run."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity import COMMITTED
from PIL import Image
from published_edm import EDMPrecond, dumps

from scorefield.cli.examples import EXAMPLES

COMMANDS = [name for name in EXAMPLES if name != "scorefield"]
LESS = {
    "train": ["--steps", "2", "--batch-size", "4", "model.channels=8", "model.multipliers=[1,2]", "model.attention=[]"],
    "sample": ["--steps", "2"],
    "calibrate": ["--budgets", "3", "--samples", "2", "--trials", "1"],
    "likelihood": ["--tol", "0.5"],
    "encode": ["--tol", "0.5"],
    "decode": ["--tol", "0.5"],
    "inpaint": ["--steps", "2"],
    "colorize": ["--steps", "2"],
    "superres": ["--steps", "2"],
    "deblur": ["--steps", "2"],
    "solve": ["--steps", "2"],
}


def test_neither_import_nor_help_imports_what_is_slow():
    code = f"""
import contextlib, io, json, sys
import scorefield
from scorefield.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for arguments in (["--help"], [], ["--version"], ["smaple"], *([name, "--help"] for name in {COMMANDS})):
        main(arguments)
heavy = ("torch", "torchvision", "numpy", "PIL", "accelerate", "safetensors", "scorefield.api", "scorefield.data")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_its_examples(cli, here, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = cli(name, "--help").out
    for example in EXAMPLES[name]:
        assert f"$ {example}" in shown
        assert example.split()[1] == name
    assert 2 <= len(EXAMPLES[name]) <= 3


@pytest.mark.usefixtures("bundled")
def test_examples_run(cli, here):
    Path("grey").rename("model")
    Path("grey").mkdir()
    Path("runs").mkdir()
    Path("colour").rename("runs/colour")
    mask = Image.new("L", (28, 28), 255)
    mask.paste(0, (5, 5, 15, 15))
    mask.save("mask.png")
    for i in range(3):
        Image.new("L", (8, 8), 80 * i).save(f"grey/{i}.png")
    for folder, size in (("small", 2), ("blurred", 8)):
        Path(folder).mkdir()
        Image.new("RGB", (size, size), (200, 90, 30)).save(f"{folder}/0.png")
    for name in ("checkpoint.pth", "config.json"):
        shutil.copy(COMMITTED / "ve_cifar10_ncsnpp_continuous" / name, name)
    network = EDMPrecond(16, 3, model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])
    Path("edm-cifar10-32x32-uncond-vp.pkl").write_bytes(dumps({"ema": network}))
    np.save("matrix.npy", np.random.default_rng(0).normal(size=(9, 784)).astype(np.float32))
    Path("projections.py").write_text("def operator(x): return x.sum(-1)")
    np.save("measured.npy", np.ones((2, 1, 28), np.float32))
    np.save("points.npy", np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))
    for example in (example for name, examples in EXAMPLES.items() if name != "demo" for example in examples):
        words = shlex.split(example.partition(" > ")[0])[1:]
        less = LESS.get(words[0], [])
        if "table" in words:
            less = less[:4]
        if "ode" in words:
            less = ["--tol", "0.5"]
        if "--budget" in words:
            less = ["--budget", "10" if words[0] == "solve" else "11"]
        outcome = cli(*words, *less)
        assert (outcome.status, example) == (0, example), outcome.err
