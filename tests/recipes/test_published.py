"""The presets of the 39 published configurations: every setting, every size, and that each of them trains."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from published import PARAMETERS, configurations

from scorefield.checkpoint import load_model, save_model
from scorefield.convert.reference_config import recipe_from_config
from scorefield.data import open_data
from scorefield.recipes import Recipe, describe, load_recipe, preset_names
from scorefield.recipes.build import build, build_sampler
from scorefield.samplers import Ancestral, CorrectorOnly, EulerMaruyama, Langevin, PredictorCorrector, ReverseDiffusion
from scorefield.training import train

PUBLISHED = dict(configurations())
OWN = {"cifar10", "mnist", "table"}


def settings(recipe: Recipe) -> dict[str, object]:
    return {f"{section}.{key}": value for section, keys in recipe.model_dump().items() for key, value in keys.items()}


def test_there_are_39() -> None:
    assert len(PUBLISHED) == 39
    assert PUBLISHED.keys() == PARAMETERS.keys() == set(preset_names()) - OWN


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_setting_is_the_published_one(name: str) -> None:
    """But for the images: what happens to them before the model sees them is no setting there."""
    ours, theirs = settings(load_recipe(name)), settings(recipe_from_config(PUBLISHED[name]))
    images = {"data.name", "data.crop", "data.resize"}
    assert {key: value for key, value in ours.items() if key not in images} == {
        key: value for key, value in theirs.items() if key not in images
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_network_has_the_published_size(name: str) -> None:
    """62,758,915, 61,804,419, 107,587,075, 65,574,549 and 35,218,947 were published; the others are ours, computed."""
    with torch.device("meta"):
        model = build(load_recipe(name))
    count = sum(weight.numel() for weight in model.network.state_dict().values())
    assert count == PARAMETERS[name]
    assert f" {count / 1e6:.1f}M" in describe(name)


def test_no_two_presets_are_the_same() -> None:
    texts = {str(settings(load_recipe(name))) for name in preset_names()}
    assert len(texts) == len(preset_names())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("ve/cifar10_ddpm", ("CIFAR-10", "none", "none")),
        ("ve/celeba_ncsnpp", ("CelebA", 140, "bilinear")),
        ("ve/ncsn/celeba_124", ("CelebA", 140, "bilinear")),
        ("ve/bedroom_ncsnpp_continuous", ("LSUN bedroom", "square", "bicubic")),
        ("vp/ddpm/church", ("LSUN church_outdoor", "square", "bicubic")),
        ("ve/ncsnv2/bedroom", ("LSUN bedroom", "none", "bilinear")),
        ("ve/ffhq_256_ncsnpp_continuous", ("FFHQ", "none", "box")),
        ("vp/ddpm/celebahq", ("CelebA-HQ", "none", "box")),
        ("ve/ffhq_ncsnpp_continuous", ("FFHQ", "none", "none")),
    ],
)
def test_images_are_prepared_as_published(name: str, data: tuple[object, ...]) -> None:
    recipe = load_recipe(name)
    assert (recipe.data.name, recipe.data.crop, recipe.data.resize) == data


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("ve/cifar10_ncsnpp", PredictorCorrector(ReverseDiffusion(), Langevin(0.16, 1, "norm"))),
        ("vp/cifar10_ddpmpp", Ancestral()),
        ("subvp/cifar10_ddpm_continuous", EulerMaruyama()),
        ("ve/ncsn/celeba", CorrectorOnly(Langevin(0.316, 100, "sigma"))),
        ("ve/ncsnv2/bedroom", CorrectorOnly(Langevin(0.095, 3, "sigma"))),
    ],
)
def test_samplers(name: str, sampler: object) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = build(recipe)
    assert build_sampler(recipe, model.sde)[0] == sampler


@pytest.mark.parametrize("name", [name for name in PUBLISHED if PUBLISHED[name]["training.continuous"] is False])
def test_a_discrete_sampler_walks_the_rows_of_its_table(name: str) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = build(recipe)
    times = build_sampler(recipe, model.sde)[1]
    rows = torch.arange(PUBLISHED[name]["model.num_scales"], dtype=torch.float64).flip(0)
    torch.testing.assert_close(model.sde.row(times), rows, rtol=0, atol=1e-6)
    labels = rows if recipe.sde.name == "ddpm" else rows.flip(0)
    torch.testing.assert_close(model.time_label(model.sde, times), labels, rtol=0, atol=1e-6)


SHRINK = ["training.steps=1", "training.batch_size=2", "training.warmup=0", "data.crop=none", "sampling.steps=2"]
SHRINK += ["sampling.corrector_steps=1", "model.channels=8"]
SMALLER = ["model.blocks=1", "model.multipliers=[1,2]", "model.attention=[8]", "data.shape=[3,16,16]"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_trains_a_step_and_comes_back(name: str, tmp_path: Path) -> None:
    smaller = SMALLER if load_recipe(name).model.network == "unet" else ["data.shape=[3,32,32]"]
    recipe = load_recipe(name, [*SHRINK, *smaller])
    shape = recipe.data.shape
    source = open_data(np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8))
    torch.manual_seed(0)
    before = build(recipe)
    trained = train(recipe, source, device="cpu")
    assert trained.finished
    save_model(trained.model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.recipe == recipe
    weights = loaded.network.state_dict()
    assert weights.keys() == before.network.state_dict().keys()
    for key, weight in trained.model.network.state_dict().items():
        assert torch.equal(weight, weights[key])
    x, t = torch.rand(2, *shape), torch.tensor(0.5)
    with torch.no_grad():
        assert torch.isfinite(loaded.score(x, t)).all()


def test_raw_celeba_is_trained_on_as_it_is(tmp_path: Path) -> None:
    """JPEG files of 178 × 218 pixels in a folder, from the command line."""
    from PIL import Image

    from scorefield.cli import main

    generator = np.random.default_rng(0)
    (tmp_path / "celeba").mkdir()
    for i in range(2):
        pixels = generator.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "celeba" / f"{i:06d}.jpg")
    changes = ["model.channels=8", "model.blocks=1", "training.steps=1", "training.batch_size=2", "training.warmup=0"]
    run = os.fspath(tmp_path / "run")
    command = ["train", "ve/celeba_ncsnpp", *changes, "--data", os.fspath(tmp_path / "celeba"), "--out", run]
    assert main([*command, "training.snapshot_every=1", "--device", "cpu"]) == 0
    model, snapshot = load_model(run), load_model(tmp_path / "run" / "snapshots" / "000000001")
    assert model.space.shape == (3, 64, 64)
    for key, weight in snapshot.network.state_dict().items():
        assert torch.equal(weight, model.network.state_dict()[key])
