"""diffusers' own UNet2DModel is the oracle: what it computes, the model that is read from its folder computes."""

import json
import os
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from published_diffusers import DDPM, PUBLISHED, SMALL, plain, skipping
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
from scorefield.recipes import load_recipe, parse_recipe
from scorefield.recipes.build import build
from scorefield.samplers import Ancestral, run

WEIGHTS = "diffusion_pytorch_model.safetensors"


def network_of(config):
    """A network with random weights everywhere, norms and biases too."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**{key: value for key, value in config.items() if key[0] != "_"})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 and name != "time_proj.weight":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def write(folder, network, scheduler):
    network.save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


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


NOT_HERE = [
    ({"act_fn": "mish"}, "act_fn = 'mish' cannot be expressed; possible: 'silu' or 'swish'"),
    ({"norm_eps": 1e-5}, "norm_eps = 1e-05 cannot be expressed; possible: 1e-06"),
    ({"freq_shift": 0}, "freq_shift = 0.0 cannot be expressed; possible: 1"),
    ({"flip_sin_to_cos": True}, "flip_sin_to_cos = True cannot be expressed; possible: false"),
    ({"downsample_padding": 1}, "downsample_padding = 1 cannot be expressed; possible: 0"),
    ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift = 'scale_shift' .* possible: 'default'"),
    ({"mid_block_type": None}, "mid_block_type = None .* possible: 'UNetMidBlock2D'"),
    ({"mid_block_scale_factor": 1.41421356237}, "mid_block_scale_factor = 1.41421356237 .* possible: 1"),
    ({"add_attention": False}, "add_attention = False .* possible: True"),
    ({"num_class_embeds": 10}, "num_class_embeds = 10 cannot be expressed"),
    ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep' cannot be expressed"),
    ({"out_channels": 6}, "out_channels = 6 cannot be expressed; possible: 3"),
    ({"time_embedding_type": "learned"}, "time_embedding_type = 'learned' .* possible: 'positional' or 'fourier'"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier' .* possible: 'fourier' with ScoreSdeVe"),
    ({"time_embedding_dim": 64}, "time_embedding_dim = 64 .* possible: null or 128"),
    ({"block_out_channels": [32, 48]}, r"block_out_channels = \(32, 48\) .* multiples of the first, 32"),
    ({"down_block_types": ["DownBlock2D"]}, "down_block_types = .* one for each of the 2 block_out_channels"),
    ({"down_block_types": ["DownBlock2D", "KDownBlock2D"]}, "down_block_types = .*KDownBlock2D.* cannot be expressed"),
    ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "all with Skip in their names, or none"),
    ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "attention at the same levels"),
    ({"norm_num_groups": None}, "norm_num_groups = None"),
    ({"norm_num_groups": 8}, "norm_num_groups = 8 makes 8 groups of 32 channels, 8 groups of 64 channels"),
    ({"attention_head_dim": 48}, "head_channels=48 does not divide the 64 channels"),
    ({"sample_size": "large"}, "sample_size = 'large'"),
    ({"sample_size": None}, "sample_size = None"),
    ({"sample_size": 9}, "size=9 cannot be halved"),
    ({"dropout": float("nan")}, "dropout = nan"),
    ({"rotary": True}, "unknown key rotary = True"),
    ({"_class_name": "UNet2DConditionModel"}, "describes a UNet2DConditionModel; only a UNet2DModel can be read"),
]


@pytest.mark.parametrize(("change", "message"), NOT_HERE, ids=lambda value: str(value)[:40])
def test_networks_that_cannot_be_expressed(small, tmp_path, change, message):
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ConversionError, match=message) as error:
        read_diffusers(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "scaled_linear"}, "beta_schedule = 'scaled_linear' .* possible: 'linear'"),
        ({"trained_betas": [0.1]}, "trained_betas"),
        ({"prediction_type": "flow"}, "prediction_type = 'flow' .* 'epsilon', 'sample' or 'v_prediction'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True"),
        ({"beta_end": 2.0}, "each beta"),
        ({"_class_name": "KarrasVeScheduler"}, "describes a KarrasVeScheduler, possible: DDPMScheduler"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "time_embedding_type = 'positional' .* 'fourier' with ScoreSdeVe"),
    ],
)
def test_schedulers_that_cannot_be_expressed(small, tmp_path, change, message):
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({**DDPM, **change}))
    with pytest.raises(ConversionError, match=message):
        read_diffusers(tmp_path)


def test_groups_of_small_skipping_networks_cannot_be_expressed():
    """diffusers has 32 groups in these attention blocks, whatever their channels."""
    config = parse(UNet2D, skipping(16, [32, 64], 1, 1), "config.json")
    with pytest.raises(ConversionError, match=r"norm_num_groups = None makes .*32 groups of 64 channels"):
        recipe_of(config, SCHEDULERS["ScoreSdeVeScheduler"](), "config.json")


def damage(path, kind):
    unet, scheduler = path / "unet", path / "scheduler" / "scheduler_config.json"
    weights = load_file(unet / WEIGHTS)
    match kind:
        case "no scheduler":
            scheduler.unlink()
        case "scheduler is not JSON":
            scheduler.write_text("{")
        case "scheduler is a list":
            scheduler.write_text("[]")
        case "no configuration":
            (unet / "config.json").unlink()
        case "no weights":
            (unet / WEIGHTS).unlink()
        case "truncated":
            (unet / WEIGHTS).write_bytes((unet / WEIGHTS).read_bytes()[:1000])
        case "missing":
            save_file({k: v for k, v in weights.items() if k != "mid_block.resnets.1.conv2.bias"}, unet / WEIGHTS)
        case "left over":
            save_file({**weights, "class_embedding.weight": torch.zeros(1)}, unet / WEIGHTS)
        case "shape":
            save_file({**weights, "conv_out.bias": torch.zeros(4)}, unet / WEIGHTS)
        case "pickled list":
            (unet / WEIGHTS).unlink()
            torch.save([torch.zeros(1)], unet / "diffusion_pytorch_model.bin")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no scheduler", "has no scheduler_config.json.*; add it"),
        ("scheduler is not JSON", "not JSON"),
        ("scheduler is a list", "holds list"),
        ("no configuration", "no unet/config.json and no config.json"),
        ("no weights", "has no diffusion_pytorch_model.safetensors"),
        ("truncated", "damaged or not safetensors"),
        ("missing", r"missing: middle\.block2\.conv2\.bias"),
        ("left over", r"left over: class_embedding\.weight"),
        ("shape", r"of another shape: head\.conv\.bias \(4,\) instead of \(3,\)"),
        ("pickled list", "something else than weights by name"),
    ],
)
def test_damaged_folders(small, tmp_path, kind, message):
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    damage(tmp_path, kind)
    with pytest.raises(ConversionError, match=message):
        read_diffusers(tmp_path)


class Payload:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(small, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(small, folder)
    weights = load_file(folder / "unet" / WEIGHTS)
    (folder / "unet" / WEIGHTS).unlink()
    torch.save({**weights, "payload": Payload(tmp_path / "ran")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ConversionError, match=r"diffusion_pytorch_model\.bin"):
        read_diffusers(folder)
    assert not (tmp_path / "ran").exists()


def recipe(**sections):
    """A recipe that diffusers can express, but for what is given."""
    base = {
        "data": {"shape": [3, 16, 16]},
        "sde": {"name": "ddpm"},
        "model": {
            "channels": 32,
            "multipliers": [1, 2],
            "blocks": 1,
            "attention": [8],
            "decoder_attention": "every",
            "residual": "ddpm",
            "rescale": False,
            "group_channels": 1,
            "time_label": "ascending_index",
        },
    }
    for name, section in sections.items():
        base[name] = {**base[name], **section} if section.get("name") is None else section
    return parse_recipe(base, "test")


def test_a_recipe_of_ours_becomes_a_diffusers_model(tmp_path):
    model = build(recipe())
    write_diffusers(model, tmp_path / "out")
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "out", subfolder="unet").eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        close(model.eval().network(x, torch.full((2,), 7.0)), theirs(x, 7).sample, 1e-5)


NOT_THERE = [
    ({"model": {"network": "mlp"}}, "model.network = 'mlp'"),
    ({"data": {"shape": [3, 16]}, "model": {"attention": [8]}}, r"data.shape = \[3, 16\]"),
    ({"data": {"classes": 3}}, "data.classes = 3 .* possible: 0"),
    ({"data": {"shift": [0.0], "scale": [1.0]}}, r"data = .*shift \[0.0\].* possible: shift 0.5 and scale 0.5"),
    ({"sde": {"name": "subvp"}, "model": {"time_label": "continuous"}}, "sde.name = 'subvp'"),
    ({"sde": {"name": "ve"}, "model": {"time_label": "log_sigma"}}, "model.embedding = 'positional'"),
    ({"model": {"time_label": "continuous"}}, "model.time_label = 'continuous' .* possible: 'ascending_index'"),
    ({"model": {"parameterization": "score"}}, "model.parameterization = 'score'"),
    ({"model": {"residual": "biggan"}}, "model.resample = 'box' .* possible: 'fir'"),
    ({"model": {"resample": "fir"}}, "model.resample = 'fir' .* possible: 'box'"),
    ({"model": {"resample_with_conv": False}}, "model.resample_with_conv = False"),
    ({"model": {"rescale": True}}, "model.rescale = True .* possible: False"),
    ({"model": {"progressive": "residual"}}, "model.progressive = 'residual' .* possible: 'none'"),
    ({"model": {"decoder_attention": "last"}}, "model.decoder_attention = 'last' .* possible: 'every'"),
    ({"model": {"nonlinearity": "elu"}}, "model.nonlinearity = 'elu' .* possible: 'silu'"),
    ({"model": {"multipliers": [2, 2]}}, r"model.multipliers = \[2, 2\]"),
    ({"model": {"blocks": [1, 2]}}, "model.blocks"),
    ({"model": {"embedding": "none"}}, "model.embedding = 'none'"),
    ({"model": {"embedding": "fourier"}}, "model.embedding = 'fourier' .* possible: 'positional'"),
    ({"model": {"group_channels": 4}}, "model.group_channels"),
]


@pytest.mark.parametrize(("change", "message"), NOT_THERE, ids=lambda value: str(value)[:50])
def test_models_that_diffusers_cannot_express(tmp_path, change, message):
    if change.get("model", {}).get("network") == "mlp":
        model = build(parse_recipe({"data": {"shape": [2]}, "model": {"network": "mlp"}}, "test"))
    else:
        model = build(recipe(**change))
    with pytest.raises(ConversionError, match=f"{message}.*|{message}"):
        write_diffusers(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    model = build(recipe())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scorefield.convert.diffusers.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_diffusers(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_diffusers(model, tmp_path / "out")
    with pytest.raises(FileExistsError):
        write_diffusers(model, tmp_path / "out")


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
        ours = model.denoise(x, t) if row == 0 else Ancestral().step(model, x, t, s, noise)
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
    close(run(Ancestral(probability_flow=True), model, start, grid, noise=noise), x, 1e-3)
