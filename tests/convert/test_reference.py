import json
import pickle

import pytest
import torch
from parity import COMMITTED, parity_config, parity_folders

import scorefield as sf
from scorefield.checkpoint import save_model
from scorefield.convert import ConversionError
from scorefield.convert.reference import read_reference
from scorefield.convert.reference_config import read_config, recipe_from_config
from scorefield.convert.reference_file import read_checkpoint
from scorefield.recipes import RecipeError, load_recipe

NAME = "ve_cifar10_ncsnpp_continuous"
CHECKPOINT = COMMITTED / NAME / "checkpoint.pth"
CONFIG = parity_config(COMMITTED / NAME)


def edited(tmp_path, **changes):
    """The checkpoint with entries replaced; None removes one."""
    checkpoint = {"model": read_checkpoint(CHECKPOINT, ema=False), "step": 1, **changes}
    path = tmp_path / "checkpoint.pth"
    torch.save({key: value for key, value in checkpoint.items() if value is not None}, path)
    return path


def says(error):
    """The one line of an error."""
    message = str(error.value)
    assert "\n" not in message
    return message


def test_names_of_both_generations_of_numpy_are_read() -> None:
    for folder in parity_folders():
        assert read_checkpoint(folder / "checkpoint.pth", ema=False)


def test_reading_leaves_no_permissions_behind() -> None:
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(CHECKPOINT)
    assert set(torch.serialization.get_safe_globals()) == before


def test_raw_and_averaged_weights_have_the_same_names_and_shapes() -> None:
    raw, averaged = read_checkpoint(CHECKPOINT, ema=False), read_checkpoint(CHECKPOINT)
    assert list(raw) == list(averaged)
    for name, value in raw.items():
        assert value.shape == averaged[name].shape
        constant = name in ("module.sigmas", "module.all_modules.0.W")
        assert torch.equal(value, averaged[name]) == constant, name


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps({"model": 1}, 2)], ids=["empty", "junk", "pickle"])
def test_another_file_is_refused(tmp_path, content) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"file\.pth") as caught:
        read_checkpoint(tmp_path / "file.pth")
    says(caught)
    with pytest.raises(ConversionError, match=r"file\.pth"):
        sf.load(tmp_path / "file.pth", config=CONFIG)


def test_a_missing_file_says_so(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "absent.pth")


def test_checkpoints_without_what_is_asked_for(tmp_path) -> None:
    with pytest.raises(ConversionError, match="no 'model' entry"):
        read_checkpoint(edited(tmp_path, model=None))
    with pytest.raises(ConversionError, match=r"no averaged weights for 156 trainable ones; read .* ema=False"):
        read_checkpoint(edited(tmp_path))
    with pytest.raises(ConversionError, match="2 averaged weights for 156 trainable ones"):
        read_checkpoint(edited(tmp_path, ema={"shadow_params": [torch.zeros(1)] * 2}))
    with pytest.raises(ConversionError, match=r"another shape for module\.all_modules\.1\.bias, .* and 151 more"):
        read_checkpoint(edited(tmp_path, ema={"shadow_params": [torch.zeros(1)] * 156}))
    assert read_checkpoint(edited(tmp_path), ema=False)


def test_the_model_is_frozen_in_float32_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model = sf.load(CHECKPOINT, config=CONFIG, device="cpu")
    assert torch.equal(torch.rand(3), expected)
    assert not model.training
    assert {(weight.dtype, weight.requires_grad) for weight in model.parameters()} == {(torch.float32, False)}


def output(model):
    with torch.no_grad():
        return model.denoise(torch.linspace(0, 1, 768).reshape(1, 3, 16, 16), torch.tensor(0.3))


def test_a_converted_model_is_saved_and_loaded_as_ours(tmp_path) -> None:
    model = sf.load(str(CHECKPOINT), config=COMMITTED / NAME / "config.json", device="cpu")
    save_model(model, tmp_path / "ours")
    assert torch.equal(output(sf.load(tmp_path / "ours", device="cpu")), output(model))


def test_a_state_dict_alone_holds_one_kind_of_weights(tmp_path) -> None:
    torch.save(read_checkpoint(CHECKPOINT, ema=False), tmp_path / "state.pth")
    raw = output(sf.load(CHECKPOINT, config=CONFIG, ema=False, device="cpu"))
    for ema in (True, False):
        assert torch.equal(output(sf.load(tmp_path / "state.pth", config=CONFIG, ema=ema, device="cpu")), raw)
    bare = {name.removeprefix("module."): value for name, value in read_checkpoint(CHECKPOINT, ema=False).items()}
    torch.save(bare, tmp_path / "state.pth")
    assert torch.equal(output(sf.load(tmp_path / "state.pth", config=CONFIG, device="cpu")), raw)


def test_a_recipe_does_for_a_configuration() -> None:
    smaller = ["data.shape=[3,16,16]", "model.channels=8", "model.multipliers=[1,2]"]
    recipe = load_recipe("ve/cifar10_ncsnpp_continuous", [*smaller, "model.blocks=1", "model.attention=[8]"])
    model = sf.load(CHECKPOINT, recipe=recipe, device="cpu")
    assert model.recipe == recipe
    assert torch.equal(output(model), output(sf.load(CHECKPOINT, config=CONFIG, device="cpu")))


def test_a_recipe_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"missing: .* and \d+ more; left over: module.all_modules"):
        sf.load(CHECKPOINT, recipe="vp/cifar10_ddpmpp_continuous")
    with pytest.raises(RecipeError, match="did you mean ve/cifar10_ncsnpp_continuous"):
        sf.load(CHECKPOINT, recipe="ve/cifar10_ncsnpp_continous")
    with pytest.raises(ConversionError, match="network is mlp; take one of unet, ncsn and ncsnv2"):
        sf.load(CHECKPOINT, recipe="table")


def test_noise_levels_that_differ_from_the_files_are_noticed() -> None:
    with pytest.raises(ConversionError, match=r"other noise levels than the recipe's: sde.sigma_max 90 instead of 50"):
        sf.load(CHECKPOINT, config={**CONFIG, "model.sigma_max": 90})


def test_one_of_recipe_and_configuration_is_needed() -> None:
    with pytest.raises(ConversionError, match="neither a recipe nor a configuration came with it") as caught:
        sf.load(CHECKPOINT)
    assert f"scorefield convert {CHECKPOINT} checkpoint --recipe ve/cifar10_ncsnpp_continuous" in says(caught)
    with pytest.raises(ConversionError, match="both a recipe and a configuration"):
        sf.load(CHECKPOINT, recipe="mnist", config=CONFIG)
    with pytest.raises(ValueError, match="mnist is no public checkpoint, and recipe was given"):
        sf.load("mnist", recipe="mnist")
    with pytest.raises(ValueError, match="ema=False was given"):
        sf.load("mnist", ema=False)


def test_missing_left_over_and_mis_shaped_weights_are_listed(tmp_path) -> None:
    state = read_checkpoint(CHECKPOINT)
    del state["module.all_modules.3.bias"]
    state["module.all_modules.99.weight"] = torch.zeros(1)
    state["module.conv_in.bias"] = torch.zeros(8)
    state["module.all_modules.19.bias"] = torch.zeros(4)
    torch.save(state, tmp_path / "state.pth")
    with pytest.raises(ConversionError) as caught:
        read_reference(tmp_path / "state.pth", config=CONFIG)
    message = says(caught)
    assert str(tmp_path / "state.pth") in message
    assert "missing: conv_in.bias;" in message
    assert "left over: module.all_modules.99.weight, module.conv_in.bias;" in message
    assert "of another shape: head.conv.bias (4,) instead of (3,)" in message


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(8, 3, 3, 3, dtype=torch.int64),
        torch.zeros(8, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(8, 3, 3, 3).to_sparse(),
        torch.zeros(8, 3, 3, 3, device="meta"),
        torch.zeros(1).expand(2**40),
    ],
    ids=lambda value: f"{value.dtype} {value.layout} {value.device}",
)
def test_weights_that_are_no_plain_arrays_are_refused(tmp_path, value) -> None:
    state = {**read_checkpoint(CHECKPOINT), "module.all_modules.3.weight": value}
    torch.save(state, tmp_path / "state.pth")
    with pytest.raises(ConversionError, match=r"of another (kind|shape): conv_in\.weight") as caught:
        read_reference(tmp_path / "state.pth", config=CONFIG)
    says(caught)


@pytest.mark.parametrize("sigmas", [torch.zeros(0), torch.ones(3).to_sparse(), torch.ones(3, device="meta")], ids=str)
def test_noise_levels_that_are_no_numbers_are_refused(tmp_path, sigmas) -> None:
    torch.save({**read_checkpoint(CHECKPOINT), "module.sigmas": sigmas}, tmp_path / "state.pth")
    with pytest.raises(ConversionError, match="sigmas, are no numbers") as caught:
        read_reference(tmp_path / "state.pth", config=CONFIG)
    says(caught)


@pytest.mark.parametrize(
    "changes",
    [{"model.nf": 16}, {"model.num_res_blocks": 2}, {"model.conditional": False}, {"model.fir": False}],
    ids=str,
)
def test_another_configuration_is_noticed_where_the_weights_can_tell(changes) -> None:
    with pytest.raises(ConversionError, match="does not fit the network of its recipe"):
        read_reference(CHECKPOINT, config={**CONFIG, **changes})


def nested(flat):
    tree = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree


def test_configurations_flat_nested_and_in_files(tmp_path) -> None:
    assert read_config(CONFIG) == read_config(nested(CONFIG)) == CONFIG
    for content in (CONFIG, nested(CONFIG), {"config": CONFIG, "note": ""}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert read_config(tmp_path / "config.json") == CONFIG


NESTED = '{"a":' * 500 + "1" + "}" * 500


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "holds list, expected settings"), (NESTED, "nested more than ten deep, at a.a.")],
    ids=["cut", "list", "nested"],
)
def test_configuration_files_that_are_none(tmp_path, text, message) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConversionError, match=message) as caught:
        read_config(tmp_path / "config.json")
    says(caught)


def test_the_recipe_of_a_configuration() -> None:
    recipe = recipe_from_config(CONFIG)
    preset = load_recipe("ve/cifar10_ncsnpp_continuous")
    changed = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (8,)}
    assert recipe.model == preset.model.model_copy(update=changed)
    assert recipe.sde == preset.sde
    assert recipe.data.shape == (3, 16, 16)
    assert (recipe.data.shift, recipe.data.scale, recipe.data.flip) == ((0.0,), (1.0,), True)
    vp = recipe_from_config({**CONFIG, "training.sde": "vpsde", "model.scale_by_sigma": False, "data.centered": True})
    assert (vp.sde.name, vp.data.shift, vp.data.scale) == ("vp", (0.5,), (0.5,))


CHANGED = {
    "data.centered": {"data.shift", "data.scale", "model.centered"},
    "data.image_size": {"data.shape"},
    "data.num_channels": {"data.shape"},
    "model.attn_resolutions": {"model.attention"},
    "model.ch_mult": {"model.multipliers"},
    "model.conditional": {"model.embedding"},
    "model.embedding_type": {"model.embedding", "model.time_label"},
    "model.fir": {"model.resample"},
    "model.nf": {"model.channels"},
    "model.num_res_blocks": {"model.blocks"},
    "model.num_scales": {"sde.steps", "sampling.steps"},
    "model.progressive_combine": {"model.combine"},
    "model.resamp_with_conv": {"model.resample_with_conv"},
    "model.resblock_type": {"model.residual"},
    "model.scale_by_sigma": {"model.parameterization"},
    "model.skip_rescale": {"model.rescale"},
    "training.likelihood_weighting": {"training.weighting"},
}
"""The keys of a recipe that a setting of the published code decides, where they have another name."""


@pytest.mark.parametrize("folder", parity_folders(), ids=lambda folder: folder.name)
def test_configurations_and_presets_say_the_same(folder) -> None:
    """Every key, except for the settings in which a recorded model differs and what is no setting: the images."""
    recorded = json.loads((folder / "config.json").read_text())
    ours = recipe_from_config(parity_config(folder)).model_dump()
    preset = load_recipe(recorded["reference_config"]).model_dump()
    free = {"data.name", "data.crop", "data.resize"}.union(*(CHANGED.get(key, {key}) for key in recorded["overrides"]))
    keys = {f"{section}.{key}" for section in ours for key in ours[section].keys() | preset[section].keys()}
    for section, _, key in (key.partition(".") for key in sorted(keys - free)):
        assert (key, ours[section].get(key)) == (key, preset[section].get(key))


DISCRETE = {"training.continuous": False, "model.embedding_type": "positional"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("ve", "scaled_score", "log_sigma")),
        ({"model.scale_by_sigma": False}, ("ve", "score", "log_sigma")),
        ({"model.conditional": False}, ("ve", "scaled_score", "log_sigma")),
        (DISCRETE, ("smld", "scaled_score", "descending_index")),
        ({"training.sde": "vpsde", "model.scale_by_sigma": False}, ("vp", "noise", "log_continuous")),
        ({**DISCRETE, "training.sde": "vpsde", "model.scale_by_sigma": False}, ("ddpm", "noise", "ascending_index")),
    ],
    ids=str,
)
def test_sde_parameterization_and_time_label_go_together(changes, expected) -> None:
    recipe = recipe_from_config({**CONFIG, **changes})
    assert (recipe.sde.name, recipe.model.parameterization, recipe.model.time_label) == expected
    assert recipe.training.times == ("table" if recipe.sde.name in ("smld", "ddpm") else "uniform")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "unet"}, "model.name is 'unet'; known are ncsnpp, ddpm"),
        ({"model.name": None}, "lacks 'model.name'"),
        ({"model.normalization": "InstanceNorm++"}, "model.normalization is 'InstanceNorm"),
        ({"model.nonlinearity": "gelu"}, "model.nonlinearity is 'gelu'; known are swish, relu"),
        ({"model.nf": None}, "lacks 'model.nf'"),
        ({"model.nf": -1}, "model.channels = -1"),
        ({"training.sde": "edm"}, "training.sde is 'edm'; known are vesde"),
        ({"training.sde": "vpsde"}, "do not divide by sigma"),
        ({"training.sde": "subvpsde", "training.continuous": False}, "subvpsde, which has no table"),
        ({"model.name": [1]}, r"model.name is \[1\], expected a text"),
        ({"model.nonlinearity": {}}, "model.nonlinearity is {}, expected a text"),
        ({"model.embedding_type": []}, r"model.embedding_type is \[\], expected a text"),
        ({"model.ch_mult": 3}, "model.ch_mult is 3, expected a list"),
        ({"model.attn_resolutions": 16}, "model.attn_resolutions is 16, expected a list"),
        ({"model.fir_kernel": "a"}, "model.fir_kernel is 'a', expected a list"),
        ({"model.fir_kernel": ["a"]}, "model.fir_taps.0 = 'a'"),
        ({"model.dropout": "a"}, "model.dropout is 'a', expected a number"),
        ({"model.fourier_scale": [16]}, r"model.fourier_scale is \[16\], expected a number"),
        ({"model.num_scales": "x"}, "model.num_scales is 'x', expected a number"),
        ({"model.num_scales": float("inf")}, "model.num_scales is inf, expected a finite number"),
        ({"training.sde": ["vesde"]}, r"training.sde is \['vesde'\]; known are vesde"),
        ({"training.n_iters": "a"}, "training.n_iters is 'a', expected a number"),
        ({"training.n_iters": float("nan")}, "training.n_iters is nan, expected a finite number"),
        ({"optim.grad_clip": "a"}, "optim.grad_clip is 'a', expected a number"),
        ({"optim.grad_clip": 10**400}, "training.clip = 1000000"),
        ({"sampling.predictor": []}, r"sampling.predictor is \[\], expected a text"),
        ({"model.embedding_type": "positional"}, "the published code cannot run"),
        ({"training.continuous": False}, "the published code cannot run"),
    ],
    ids=str,
)
def test_configurations_that_no_model_has(changes, message) -> None:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    with pytest.raises(ConversionError, match=message) as caught:
        recipe_from_config(config)
    says(caught)


@pytest.mark.parametrize("key", ["model.name", "model.dropout", "optim.grad_clip", "training.n_iters", "model.ch_mult"])
def test_settings_that_are_null(key) -> None:
    with pytest.raises(ConversionError, match=f"{key} is None, expected a"):
        recipe_from_config({**CONFIG, key: None})
