"""diffusers' own UNet2DModel is the oracle: what it computes, the model that is read from its folder computes."""

import json
import os
import shutil

import diffusers
import pytest
import torch
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from published_diffusers import DDPM, PUBLISHED, SMALL, network_of, plain, recipe, write
from safetensors.torch import load_file, save_file
from torch import nn

from scorefield.checkpoint import load_model, save_model
from scorefield.convert.diffusers import read_diffusers, write_diffusers
from scorefield.convert.diffusers_names import exported, group_counts, weight_names
from scorefield.convert.diffusers_recipe import recipe_of
from scorefield.convert.diffusers_schema import SCHEDULERS, UNet2D, parse
from scorefield.convert.public import is_public, load_public
from scorefield.convert.weights import ConversionError
from scorefield.noise import Noise
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build
from scorefield.samplers import DDIM, Ancestral, run

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", params=SMALL)
def folder(request, tmp_path_factory):
    """A folder that diffusers wrote, with its network."""
    config, scheduler = SMALL[request.param]
    network = network_of(config)
    return write(tmp_path_factory.mktemp("model"), network, scheduler), network


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One folder, to be copied."""
    return write(tmp_path_factory.mktemp("small"), network_of(plain(8, [32, 64], 1)), DDPM)


def close(ours, theirs, tolerance):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < tolerance


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_same_weights_and_groups(name):
    """Without weights, at full size: names, shapes and groups of normalizations."""
    config, scheduler, parameters = PUBLISHED[name]
    with torch.device("meta"):
        theirs = diffusers.UNet2DModel(**{key: value for key, value in config.items() if key[0] != "_"})
    unet = parse(UNet2D, config, name)
    recipe = recipe_of(unet, parse(SCHEDULERS[scheduler["_class_name"]], scheduler, name), name)
    with torch.device("meta"):
        ours = build(recipe).network
    named = {name: value.shape for name, value in exported(ours).items()}
    assert named == {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert parameters in (None, sum(shape.numel() for shape in named.values()))
    layers, modules = dict(theirs.named_modules()), dict(ours.named_modules())
    for our, their in weight_names(ours).items():
        if our.endswith(".weight") and isinstance(modules[our[:-7]], nn.GroupNorm):
            count = layers[their[:-7]].num_groups
            assert (modules[our[:-7]].num_groups, group_counts(unet, ours)[our[:-7]][1]) == (count, count), our


def test_published_recipes():
    config, scheduler, _ = PUBLISHED["ncsnpp-ffhq-1024"]
    recipe = recipe_of(parse(UNet2D, config, ""), parse(SCHEDULERS["ScoreSdeVeScheduler"], scheduler, ""), "")
    assert recipe.data.shape == (3, 1024, 1024)
    assert (recipe.data.shift, recipe.data.scale, recipe.model.centered) == ((0.0,), (1.0,), False)
    assert (recipe.sde.name, recipe.sde.sigma_min, recipe.sde.sigma_max) == ("ve", 0.01, 1348.0)
    assert (recipe.model.multipliers, recipe.model.attention) == ((1, 2, 4, 8, 16, 32, 32, 32), (16,))
    assert (recipe.sampling.corrector, recipe.sampling.snr, recipe.sampling.steps) == ("langevin", 0.15, 1999)
    config, scheduler, _ = PUBLISHED["ddpm-cifar10-32"]
    recipe = recipe_of(parse(UNet2D, config, ""), parse(SCHEDULERS["DDPMScheduler"], scheduler, ""), "")
    assert (recipe.data.shift, recipe.data.scale, recipe.model.centered) == ((0.5,), (0.5,), True)
    assert (recipe.sde.name, recipe.sde.steps, recipe.sde.beta_min, recipe.sde.beta_max) == ("ddpm", 1000, 0.1, 20.0)
    assert (recipe.model.time_label, recipe.model.parameterization) == ("ascending_index", "noise")
    assert (recipe.model.decoder_attention, recipe.sampling.steps) == ("every", 999)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("ncsnpp-church-256", "ve/church_ncsnpp_continuous"),
        ("ncsnpp-ffhq-1024", "ve/ffhq_ncsnpp_continuous"),
        ("ddpm-cifar10-32", "vp/ddpm/cifar10"),
        ("ddpm-bedroom-256", "vp/ddpm/bedroom"),
    ],
)
def test_published_networks_are_those_of_the_presets(name, preset):
    """But for the decoder's attention and the dropout of DDPM, where the two publications differ."""
    config, scheduler, _ = PUBLISHED[name]
    recipe = recipe_of(parse(UNet2D, config, ""), parse(SCHEDULERS[scheduler["_class_name"]], scheduler, ""), "")
    other = load_recipe(preset)
    differing = {"decoder_attention", "dropout"} if recipe.sde.name == "ddpm" else set()
    assert recipe.model.model_dump(exclude=differing) == other.model.model_dump(exclude=differing)
    assert recipe.sampling.steps == other.sampling.steps
    assert (recipe.data.shape, recipe.data.shift, recipe.data.scale) == (
        other.data.shape,
        other.data.shift,
        other.data.scale,
    )


def test_networks_are_equal(folder):
    """At all noise levels, read from diffusers' folder, and read back by diffusers from ours."""
    path, theirs = folder
    model = read_diffusers(path)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    x = torch.randn(2, *model.space.shape, generator=torch.Generator().manual_seed(1))
    fourier = theirs.config.time_embedding_type == "fourier"
    for level in ([0.01, 0.3, 7.0, 1348.0], [0.0, 1.0, 500.0, 999.0])[not fourier]:
        c = torch.full((2,), level)
        ours = model.network(x, c.log()) / level if fourier else model.network(x, c)
        close(ours, theirs(x, c).sample, 1e-5)


def test_views_are_what_the_scheduler_means(folder):
    """The score at a time, in float64, from the noise levels that diffusers uses."""
    path, theirs = folder
    model = read_diffusers(path).double()
    theirs = theirs.double()
    x = torch.randn(2, *model.space.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kind = json.loads((path / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
    for row in (0, 1, 500, 999):
        t = torch.tensor((row + 1) / 1000, dtype=torch.float64)
        if kind == "ScoreSdeVeScheduler":
            sigma = 0.01 * (1348 / 0.01) ** t
            close(model.score(x, t), theirs(x, sigma.expand(2)).sample, 1e-9)
            continue
        if kind == "ScoreSdeVpScheduler":
            sigma = torch.sqrt(1 - torch.exp(-0.5 * t**2 * 19.9 - t * 0.1))
            noise = theirs(x, 999 * t.expand(2)).sample
        else:
            betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)
            sigma = torch.sqrt(1 - torch.cumprod(1 - betas, 0)[row])
            noise = theirs(x, row).sample
        close(model.score(x, t), -noise / sigma, 1e-5)
        close(model.denoise(x, t), (x - sigma * noise) / torch.sqrt(1 - sigma**2), 1e-5)
    theirs.float()


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_prediction_types(small, tmp_path, kind):
    network = diffusers.UNet2DModel.from_pretrained(small / "unet").eval()
    write(tmp_path, network, {**DDPM, "prediction_type": kind})
    model = read_diffusers(tmp_path)
    scheduler = diffusers.DDPMScheduler(prediction_type=kind, clip_sample=False)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = scheduler.step(network(x, 600).sample, 600, x).pred_original_sample
    close(model.denoise(x, torch.tensor(0.601)), expected, 1e-4)


def test_written_folders_are_diffusers_own(folder, tmp_path):
    path, theirs = folder
    write_diffusers(read_diffusers(path), tmp_path / "out")
    again = diffusers.UNet2DModel.from_pretrained(tmp_path / "out", subfolder="unet").eval()
    x, c = torch.randn(2, 3, theirs.config.sample_size, theirs.config.sample_size), torch.full((2,), 3.0)
    with torch.no_grad():
        assert torch.equal(again(x, c).sample, theirs(x, c).sample)
    given = json.loads((path / "scheduler" / "scheduler_config.json").read_text())
    kind = (
        ScoreSdeVpScheduler
        if given["_class_name"] == "ScoreSdeVpScheduler"
        else getattr(diffusers, given["_class_name"])
    )
    scheduler = kind.from_pretrained(tmp_path / "out", subfolder="scheduler")
    ignored = {"_class_name", "_diffusers_version", "clip_sample", "variance_type"}
    for key, value in given.items():
        assert key in ignored or scheduler.config[key] == pytest.approx(value), key
    if kind is not ScoreSdeVpScheduler:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
        assert type(pipeline.scheduler) is kind
    assert read_diffusers(tmp_path / "out").recipe == read_diffusers(path).recipe


def test_our_own_format_keeps_the_model(small, tmp_path):
    model = read_diffusers(small)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor(0.5)
    assert again.recipe == model.recipe
    assert torch.equal(again.score(x, t), model.score(x, t))


def old_names(weights):
    """The attention weights' names before diffusers 0.15."""
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
    return weights


def test_old_layout_pickled_with_old_names(small, tmp_path):
    """Configuration, weights and scheduler side by side, a .bin, the attention of the first versions."""
    shutil.copy(small / "unet" / "config.json", tmp_path)
    shutil.copy(small / "scheduler" / "scheduler_config.json", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["down_block_types"] = [f"UNetRes{name}" for name in config["down_block_types"]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = old_names(load_file(small / "unet" / WEIGHTS))
    assert any(".proj_attn." in name for name in weights)
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    expected = read_diffusers(small).network.state_dict()
    found = read_diffusers(tmp_path).network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_half_precision_becomes_float32(small, tmp_path):
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    weights = {name: value.half() for name, value in load_file(small / "unet" / WEIGHTS).items()}
    (tmp_path / "unet" / WEIGHTS).unlink()
    save_file(weights, tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    network = read_diffusers(tmp_path).network
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert torch.equal(network.conv_in.weight, weights["conv_in.weight"].float())


def test_hub_cache(small, tmp_path):
    """models--ORG--NAME with blobs, refs and snapshots of symbolic links."""
    repository = tmp_path / "models--google--ddpm"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    for commit in ("abc", "def"):
        for number, file in enumerate(path for path in sorted(small.rglob("*")) if path.is_file()):
            blob = repository / "blobs" / str(number)
            blob.write_bytes(file.read_bytes())
            link = repository / "snapshots" / commit / file.relative_to(small)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    expected = read_diffusers(small).network.state_dict()
    for path in (repository, repository / "snapshots" / "def"):
        assert is_public(path)
        found = read_diffusers(path).network.state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    for outside in ("../../elsewhere", str(small), ".."):
        (repository / "refs" / "main").write_text(outside)
        with pytest.raises(ConversionError, match="no single commit"):
            read_diffusers(repository)
    (repository / "refs" / "main").unlink()
    with pytest.raises(ConversionError, match="no single commit"):
        read_diffusers(repository)


def test_what_is_a_diffusers_folder(small, tmp_path):
    assert is_public(small)
    assert is_public(small / "unet")
    assert not is_public(tmp_path)
    save_model(read_diffusers(small), tmp_path / "own")
    assert not is_public(tmp_path / "own")
    assert load_public(small).recipe == load_public(small / "unet").recipe == read_diffusers(small).recipe


def test_a_recipe_of_ours_becomes_a_diffusers_model(tmp_path):
    model = build(recipe())
    write_diffusers(model, tmp_path / "out")
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "out", subfolder="unet").eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        close(model.eval().network(x, torch.full((2,), 7.0)), theirs(x, 7).sample, 1e-5)


class Given(Noise):
    """Noise that was drawn before."""

    drawn: torch.Tensor

    def normal(self, shape, dtype=torch.float32):
        return self.drawn


def test_a_step_is_that_of_ddpm(small):
    """The mean and the variance of Ho et al. (2020), with the same noise, and the last step to the data."""
    network, model = diffusers.UNet2DModel.from_pretrained(small / "unet").eval(), read_diffusers(small)
    scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type="fixed_small")
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for row in (999, 500, 2, 0):
        with torch.no_grad():
            generator = torch.Generator().manual_seed(row)
            theirs = scheduler.step(network(x, row).sample, row, x, generator=generator).prev_sample
        noise = Given(0, range(2), torch.device("cpu"))
        noise.drawn = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(row))
        t, s = torch.tensor((row + 1) / 1000), torch.tensor(row / 1000)
        ours = model.denoise(x, t) if row == 0 else Ancestral().step(model, x, t, s, noise, [])
        close(ours, theirs, 1e-4)


def test_ddim_is_the_probability_flow(small):
    """All of a deterministic sampling, on the rows that diffusers takes."""
    network, model = diffusers.UNet2DModel.from_pretrained(small / "unet").eval(), read_diffusers(small)
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(20)
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x = start
    with torch.no_grad():
        for row in scheduler.timesteps:
            x = scheduler.step(network(x, row).sample, row, x).prev_sample
    grid = (scheduler.timesteps.double() + 1) / 1000
    noise = Noise(0, range(2), torch.device("cpu"))
    close(run(DDIM(), model, start, grid, noise=noise), x, 1e-3)
