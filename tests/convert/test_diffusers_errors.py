"""What cannot be read from diffusers or written for it is refused in one line that names it; nothing is half done."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from published_diffusers import DDPM, network_of, plain, recipe, skipping, write
from safetensors.torch import load_file, save_file

from scorefield.convert.diffusers import read_diffusers, write_diffusers
from scorefield.convert.diffusers_recipe import recipe_of
from scorefield.convert.diffusers_schema import SCHEDULERS, UNet2D, parse
from scorefield.convert.weights import ConversionError
from scorefield.recipes import parse_recipe
from scorefield.recipes.build import build

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder that diffusers wrote, to be copied."""
    return write(tmp_path_factory.mktemp("small"), network_of(plain(8, [32, 64], 1)), DDPM)


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
    ({"block_out_channels": [2**40, 2**41]}, "a network unet of these sizes cannot be made"),
    ({"block_out_channels": [2**63, 2**64]}, "a network unet of these sizes cannot be made"),
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
        case "numbered":
            (unet / WEIGHTS).unlink()
            torch.save(dict(enumerate(weights.values())), unet / "diffusion_pytorch_model.bin")


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
        ("numbered", "something else than weights by name"),
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
