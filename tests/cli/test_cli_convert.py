"""Public checkpoints on the command line."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from parity import COMMITTED
from published_edm import EDMPrecond, dumps
from safetensors.torch import load_file

import scorefield as sf
from scorefield.checkpoint import read_checkpoint
from scorefield.recipes import load_recipe, to_yaml
from scorefield.recipes.build import build


@pytest.fixture
def public(here):
    """A published .pth with its configuration, and a network pickle of EDM."""
    for name in ("checkpoint.pth", "config.json"):
        shutil.copy(COMMITTED / "ve_cifar10_ncsnpp_continuous" / name, here / name)
    torch.manual_seed(0)
    network = EDMPrecond(8, 1, model_channels=8, channel_mult=[1], num_blocks=1, attn_resolutions=[])
    (here / "edm.pkl").write_bytes(dumps({"ema": network}))
    return here


def output(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model.denoise(torch.randn(1, *model.space.shape, generator=generator), torch.tensor(0.5))


@pytest.mark.parametrize("raw", [False, True])
def test_a_converted_pth_is_the_model(cli, public, raw):
    outcome = cli("convert", "checkpoint.pth", "ours", *["--raw"] * raw, config="config.json")
    assert outcome.status == 0
    assert "ours: 48,755 parameters of checkpoint.pth" in outcome.out
    theirs = sf.load("checkpoint.pth", config="config.json", ema=not raw, device="cpu")
    ours = sf.load("ours", device="cpu")
    assert torch.equal(output(ours), output(theirs))
    assert ours.recipe == theirs.recipe
    assert read_checkpoint("ours").metadata == {"source": "checkpoint.pth"}


def test_a_recipe_in_yaml_does_too(cli, public):
    model = sf.load("checkpoint.pth", config="config.json", device="cpu")
    Path("mine.yaml").write_text(to_yaml(model.recipe))
    assert cli("convert", "checkpoint.pth", "ours", recipe="mine.yaml").status == 0
    assert torch.equal(output(sf.load("ours", device="cpu")), output(model))


def test_what_was_noted_may_have_any_name(cli, public):
    noted = {"dtype": "bfloat16", "folder": 1, "model": [2]}
    path = Path("grey/model.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "metadata": noted}))
    assert cli("convert", "grey", "copy").status == 0
    assert read_checkpoint("copy").metadata == {**noted, "source": "grey"}


def test_half_precision(cli, public):
    told = json.loads(cli("convert", "edm.pkl", "half", "--json", dtype="bfloat16").out)
    assert (told["out"], told["source"], told["dtype"], told["sde"]) == ("half", "edm.pkl", "bfloat16", "edm")
    stored = load_file("half/weights.safetensors")
    assert {value.dtype for name, value in stored.items() if "frequencies" not in name} == {torch.bfloat16}


def test_to_diffusers_and_back(cli, public):
    small = ["data.shape=[3,8,8]", "model.channels=32", "model.multipliers=[1]", "model.blocks=1", "model.attention=[]"]
    model = build(load_recipe("vp/ddpm/cifar10", [*small, "model.decoder_attention=every"])).eval()
    model.save_pretrained("mine")
    assert cli("convert", "mine", "theirs", to="diffusers").status == 0
    assert Path("theirs/unet/diffusion_pytorch_model.safetensors").is_file()
    assert cli("convert", "theirs", "again").status == 0
    assert torch.equal(output(sf.load("again", device="cpu")), output(sf.load("mine", device="cpu")))
    assert "one kind of weights" in cli("convert", "theirs", "raw", "--raw").error


def test_what_diffusers_cannot_express_is_told(cli, public):
    assert "cannot be expressed" in cli("convert", "edm.pkl", "theirs", to="diffusers").error
    assert not Path("theirs").exists()


def test_a_pickle_of_edm_is_a_model_for_all_commands(cli, public):
    assert cli("sample", "edm.pkl", n=2, steps=2, out="samples.npz").status == 0
    told = json.loads(cli("info", "edm.pkl", "--json").out)
    assert told["recipe"]["sde"]["name"] == "edm"
    assert told["folder"] == "edm.pkl"
    assert list(told["recipe"]) == ["data", "sde", "model", "sampling"]
    assert told["parameters"] == sum(p.numel() for p in sf.load("edm.pkl", device="cpu").network.parameters())


def test_a_training_that_is_not_known_is_not_shown(cli, public):
    assert cli("convert", "edm.pkl", "ours").status == 0
    for name in ("edm.pkl", "ours"):
        rows = {line.split()[0]: line for line in cli("info", name).out.splitlines()}
        assert rows["training"].split() == ["training", "unknown"]
        assert "evaluation" not in rows
    assert "training     steps" in cli("info", "grey").out


@pytest.mark.parametrize("command", ["sample", "info", "encode"])
def test_a_pth_alone_tells_the_command_that_helps(cli, public, command):
    options = {"sample": {"out": "samples.npz"}, "encode": {"data": "x.npy", "out": "z.npz"}, "info": {}}
    message = cli(command, "checkpoint.pth", **options[command]).error
    assert "checkpoint.pth holds weights only" in message
    assert "scorefield convert checkpoint.pth checkpoint --recipe ve/cifar10_ncsnpp_continuous" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint.pth", "out"], "neither a recipe nor a configuration"),
        (
            ["checkpoint.pth", "out", "--recipe", "mnist", "--config", "config.json"],
            "both a recipe and a configuration",
        ),
        (["checkpoint.pth", "out", "--recipe", "mnist"], "does not fit the network of its recipe; missing: "),
        (["checkpoint.pth", "out", "--recipe", "mnits"], "did you mean mnist"),
        (["checkpoint.pth", "out", "--config", "absent.json"], "absent.json: No such file"),
        (["checkpoint.pth", "out", "--config", "checkpoint.pth"], "is not JSON"),
        (["checkpoint.pth", "grey", "--config", "config.json"], "grey is there already: give the name of a new folder"),
        (["absent.pth", "out"], "absent.pth"),
        (["absent.pth", "out", "--recipe", "mnist"], "absent.pth"),
        (["edm.pkl", "out", "--recipe", "mnist"], "says itself what it is"),
        (["edm.pkl", "out", "--raw"], "averaged weights only"),
        (["edm.pkl", "out", "--raw"], "(--raw)"),
        (["grey", "out", "--raw"], "ema=False was given; leave it (--raw) out"),
        (["nowhere", "out", "--recipe", "mnist"], "no model nowhere: it is not there"),
        (["nowhere", "out", "--config", "config.json"], "no model nowhere: it is not there"),
        (["config.json", "out"], "is no checkpoint that can be read"),
        (["edm.pkl", "out", "--to", "diffusers", "--dtype", "float16"], "leave out --dtype"),
        (["edm.pkl", "out", "--dtype", "float64"], "float64"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_and_write_nothing(cli, public, arguments, message):
    assert message in cli("convert", *arguments).error
    assert not Path("out").exists()


class Trap:
    def __reduce__(self):
        return os.system, ("touch canary",)


def test_a_file_that_would_run_code_is_refused(cli, public):
    Path("trap.pkl").write_bytes(pickle.dumps({"ema": Trap()}))
    torch.save({"model": Trap()}, "trap.pth")
    assert "posix.system" in cli("convert", "trap.pkl", "out").error
    assert "posix.system" in cli("convert", "trap.pth", "out", config="config.json").error
    assert "posix.system" in cli("sample", "trap.pkl", out="samples.npz").error
    assert not Path("canary").exists()
