import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from scorefield.nn import MLP, NCSN, NCSNv2, UNet
from scorefield.recipes import Recipe, RecipeError, load_recipe, parse_recipe, preset_names, schema, to_yaml
from scorefield.recipes.build import SDES, build, build_sampler
from scorefield.score import EDMPrediction

SECTIONS = {
    kind.model_fields["name"].default: kind
    for kind in (
        schema.VP,
        schema.SubVP,
        schema.VE,
        schema.EDM,
        schema.RectifiedFlow,
        schema.Cosine,
        schema.DDPM,
        schema.SMLD,
    )
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_and_comes_back_from_its_yaml(name: str) -> None:
    recipe = load_recipe(name)
    assert parse_recipe(yaml.safe_load(to_yaml(recipe)), name) == recipe
    with torch.device("meta"):
        model = build(recipe)
    assert model.recipe == recipe
    assert all(parameter.is_meta for parameter in model.parameters())
    build_sampler(recipe, model.sde)


def test_presets_need_no_torch() -> None:
    program = (
        "import sys; from scorefield.recipes import *; load_recipe(preset_names()[0]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", SECTIONS)
def test_the_schema_of_an_sde_is_the_sde(name: str) -> None:
    ours = {key: field.default for key, field in SECTIONS[name].model_fields.items() if key != "name"}
    theirs = {field.name: field.default for field in dataclasses.fields(SDES[name])}  # type: ignore[arg-type]
    assert ours == theirs
    assert SDES.keys() == SECTIONS.keys()


@pytest.mark.parametrize(
    ("section", "network"),
    [(schema.UNet, UNet), (schema.MLP, MLP), (schema.NCSN, NCSN), (schema.NCSNv2, NCSNv2)],
)
def test_the_schema_of_a_network_has_all_its_options(section: type[schema.Network], network: type) -> None:

    options = set(inspect.signature(network).parameters) - {
        "in_channels",
        "dims",
        "size",
        "shape",
        "levels",
        "classes",
    }
    common = {"network", "parameterization", "data_std", "time_label"}
    assert set(section.model_fields) - common == options
    defaults = {key: p.default for key, p in inspect.signature(network).parameters.items() if key in options}
    assert {key: section.model_fields[key].default for key in options} == defaults


NCSN_10 = {
    "data": {"shape": [3, 32, 32]},
    "sde": {"name": "smld", "steps": 10, "sigma_max": 1.0},
    "model": {"network": "ncsn", "channels": 4},
}


@pytest.mark.parametrize("shape", [[2, 16], [1, 8, 16], [2, 8, 4, 8]])
def test_series_images_and_volumes_have_a_unet(shape: list[int]) -> None:
    small = ["model.channels=8", "model.multipliers=[1,2]", "model.blocks=1", "model.attention=[]"]
    units = ["data.levels=null", "data.shift=[0.0]", "data.scale=[1.0]", "data.flip=false"]
    model = build(load_recipe("vp/cifar10_ddpmpp_continuous", [f"data.shape={shape}", *units, *small]))
    x = torch.randn(3, *shape)
    score = model.score(x, torch.tensor(0.5))
    assert score.shape == x.shape
    score.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_ncsn_has_as_many_noise_levels_as_its_table_has_rows() -> None:
    model = build(parse_recipe(NCSN_10, "mine"))
    assert isinstance(model.network, NCSN)
    assert model.network.levels == 10
    x, rows = torch.rand(10, 3, 32, 32), torch.arange(1, 11) / 10
    expected = model.network(x, torch.arange(10).flip(0).float())
    torch.testing.assert_close(model.score(x, rows), expected)


def test_an_ncsnv2_predicts_sigma_times_the_score_for_any_sde() -> None:
    changes = {"sde": {"name": "ve", "sigma_max": 190.0}, "model": {"network": "ncsnv2", "channels": 4, "stages": 5}}
    model = build(parse_recipe({**NCSN_10, **changes}, "mine"))
    assert isinstance(model.network, NCSNv2)
    x, t = torch.rand(2, 3, 32, 32), torch.tensor([0.2, 0.9])
    expected = model.network(x, t) / model.sde.sigma(t)[:, None, None, None]
    torch.testing.assert_close(model.score(x, t), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sde": {"name": "ve"}}, "sde.name = ve with model.time_label = descending_index, .*: use smld"),
        ({"model": {"network": "ncsn", "time_label": "log_sigma"}}, "time_label = log_sigma, .* descending_index"),
        ({"data": {"shape": [3, 32]}}, r"data.shape = \[3, 32\], and an ncsn takes \[channels, height, width\]"),
        ({"data": {"shape": [3, 32, 31]}}, "images of 32×31 pixels; both sides must be multiples of 2"),
        ({"data": {"classes": 10}}, "data.classes = 10, and an ncsn takes no labels"),
        ({"model": {"network": "ncsn", "channels": 1}}, "channels=1; InstanceNorm"),
        ({"model": {"network": "ncsn", "dropout": 0.1}}, "dropout"),
        ({"model": {"network": "ncsnv2", "stages": 7}}, "stages"),
    ],
    ids=str,
)
def test_what_no_ncsn_can_be_is_refused(changes: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(parse_recipe({**NCSN_10, **changes}, "mine"))


def test_overrides_are_yaml_and_later_ones_win() -> None:
    changes = ["training.lr=1e-3", "model.multipliers=[1, 2]", "training.steps=5", "training.steps=7", "data.flip=no"]
    recipe = load_recipe("vp/cifar10_ddpmpp_continuous", [*changes, "model.attention=[]"])
    assert recipe.training.lr == 1e-3
    assert recipe.training.steps == 7
    assert recipe.data.flip is False
    assert isinstance(recipe.model, schema.UNet)
    assert recipe.model.multipliers == (1, 2)
    assert recipe.model.attention == ()


def test_another_sde_or_network_starts_its_section_afresh() -> None:
    recipe = load_recipe("ve/cifar10_ncsnpp_continuous", ["sde.sigma_max=90", "sde.name=vp", "sde.beta_max=10"])
    assert recipe.sde == schema.VP(beta_max=10)
    assert load_recipe("mnist", ["model.network=mlp", "model.width=16"]).model == schema.MLP(width=16)


def test_the_same_sde_keeps_its_section() -> None:
    assert load_recipe("ve/cifar10_ncsnpp_continuous", ["sde.sigma_max=90", "sde.name=ve"]).sde == schema.VE(
        sigma_max=90
    )


def test_a_file_stands_on_its_base(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: mnist\ntraining: {steps: 3}\n")
    mine, mnist = load_recipe(tmp_path / "mine.yaml"), load_recipe("mnist")
    assert mine.training.steps == 3
    assert mine.model == mnist.model
    assert mine.training.batch_size == mnist.training.batch_size


def test_a_file_stands_on_several_bases_the_last_on_top(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("training: {steps: 3, lr: 0.5}\nsde: {name: ve, sigma_max: 7}\n")
    (tmp_path / "two.yaml").write_text("training: {lr: 0.25}\nmodel: {network: mlp}\n")
    (tmp_path / "mine.yaml").write_text(
        f"base: [mnist, {tmp_path}/one.yaml, {tmp_path}/two.yaml]\ntraining: {{seed: 4}}\n"
    )
    mine = load_recipe(tmp_path / "mine.yaml")
    assert (mine.training.steps, mine.training.lr, mine.training.seed) == (3, 0.25, 4)
    assert mine.sde == schema.VE(sigma_max=7)
    assert mine.model == schema.MLP()
    assert mine.data == load_recipe("mnist").data


def test_another_network_than_the_default_starts_a_section_without_a_name_afresh(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("model: {channels: 256}\nsde: {beta_max: 9}\n")
    assert load_recipe(tmp_path / "wide.yaml", ["model.network=mlp"]).model == schema.MLP()
    assert load_recipe(tmp_path / "wide.yaml", ["sde.name=ve"]).sde == schema.VE()
    assert load_recipe(tmp_path / "wide.yaml", ["sde.name=vp"]).sde == schema.VP(beta_max=9)


def test_parts_of_recipes_are_read_but_not_listed() -> None:
    assert load_recipe("base/ve").sde == schema.VE()
    assert not any(name.startswith("base/") for name in preset_names())
    with pytest.raises(RecipeError, match="no recipe base/nothing"):
        load_recipe("base/nothing")


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().training = schema.Training()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.step=3", ["unknown key training.step", "did you mean steps"]),
        ("trainin.steps=3", ["trainin", "did you mean training"]),
        ("model.chanels=3", ["unknown key model.chanels", "did you mean channels"]),
        ("sde.sigma_min=3", ["unknown key sde.sigma_min", "beta_min"]),
        ("sde.name=vpp", ["sde.name = 'vpp'", "'vp'", "'subvp'"]),
        ("model.network=transformer", ["model.network = 'transformer'", "'unet'", "'mlp'"]),
        ("model.parameterization=eps", ["model.parameterization = 'eps'", "'noise'"]),
        ("training.lr=fast", ["training.lr = 'fast'", "number"]),
        ("training.lr=-1", ["training.lr = -1", "greater than 0"]),
        ("training.lr=.nan", ["training.lr", "finite"]),
        ("training.steps=1.5", ["training.steps = 1.5", "integer"]),
        ("data.shape=[1, 0]", ["data.shape", "greater than 0"]),
        ("data.crop=0", ["data.crop = 0: input should be greater than 0, or", "'square'"]),
        ("data.crop=circle", ["data.crop = 'circle'", "integer", "'square'"]),
        ("model.blocks=[1,0]", ["model.blocks = [1, 0]", "integer", "greater than 0"]),
        ("model.blocks=9223372036854775808", ["model.blocks", "less than or equal to 1000"]),
        ("sde.steps=100000000000", ["sde.steps"]),
        ("data.resize=lanczos", ["data.resize = 'lanczos'", "'box', 'bilinear'"]),
        ("sampling.corrector=ald", ["sampling.corrector = 'ald'", "'annealed_langevin'"]),
        ("evaluation.snapshots=[3]", ["evaluation.snapshots"]),
        ("training=3", ["expected section.key=value"]),
        ("training.steps", ["expected section.key=value"]),
        ("training.steps=[1", ["YAML"]),
        ("data.name=2024-99-99", ["'2024-99-99' is not a YAML value; quote it"]),
        ("data.name=2024-01-01", ["data.name", "string"]),
        ("training.steps=" + 5000 * "1", ["is not a YAML value"]),
        ("training.steps=" + 5000 * "[", ["is not a YAML value"]),
        ("data.flip=!!bool maybe", ["'!!bool maybe' is not a YAML value"]),
        ("data.name=!!timestamp never", ["'!!timestamp never' is not a YAML value"]),
    ],
)
def test_bad_overrides_are_one_line_that_helps(override: str, expected: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("mnist", [override])
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: [1]", "training"),
        ("- 1", "sections"),
        ("training: {steps: 1", "not YAML"),
        ("data: {name: 2024-99-99}", "not YAML: month must be in"),
        ("training: {steps: " + 5000 * "1" + "}", "not YAML"),
        ("training: " + 5000 * "[", "not YAML"),
        ("data: {flip: !!bool maybe}", "not YAML"),
        ("base: nowhere", "no recipe nowhere"),
        ("base: bad.yaml", "its own base"),
        ("base: ./../bad/bad.yaml", "its own base"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    (tmp_path / "bad").mkdir()
    monkeypatch.chdir(tmp_path / "bad")
    Path("bad.yaml").write_text(text)
    with pytest.raises(RecipeError, match=expected) as caught:
        load_recipe("bad.yaml")
    assert "\n" not in str(caught.value)


def test_a_base_lies_beside_the_file_that_names_it_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub/deep").mkdir(parents=True)
    Path("base.yaml").write_text("training: {steps: 1}")
    Path("only_here.yaml").write_text("training: {steps: 2}")
    Path("sub/base.yaml").write_text("base: deep/base.yaml\ntraining: {batch_size: 4}")
    Path("sub/deep/base.yaml").write_text("base: ../mnist.yaml")
    Path("sub/mnist.yaml").write_text("base: mnist\ntraining: {steps: 3}")
    for base, steps in (("base.yaml", 3), ("only_here.yaml", 2), (tmp_path / "base.yaml", 1)):
        Path("sub/r.yaml").write_text(f"base: {base}")
        assert load_recipe("sub/r.yaml").training.steps == steps
        assert load_recipe(tmp_path / "sub" / "r.yaml").training.steps == steps


def test_no_recipe_says_where_they_are_listed() -> None:
    with pytest.raises(RecipeError, match=r"^no recipe nowhere: give a YAML file or a name that `scorefield recipes`"):
        load_recipe("nowhere")


def test_a_misspelt_preset_is_guessed() -> None:
    with pytest.raises(RecipeError, match="did you mean mnist"):
        load_recipe("minst")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.shape=[7]"], r"channels, height, width"),
        (["data.shape=[1, 30, 30]"], "size=30"),
        (["model.attention=[5]"], "attention"),
        (["data.shift=[0.0, 0.0]"], "shift"),
        (["sde.name=ddpm", "sde.steps=10"], "DDPM"),
    ],
)
def test_options_that_do_not_fit_together(overrides: list[str], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected) as caught, torch.device("meta"):
        build(load_recipe("mnist", overrides))
    assert "\n" not in str(caught.value)


def test_data_std_reaches_the_parameterization() -> None:
    model = build(load_recipe("table", ["model.parameterization=edm", "model.data_std=0.25"]))
    assert model.parameterization == EDMPrediction(0.25)


def test_a_sampler_of_neither_predictor_nor_corrector_is_refused() -> None:
    recipe = load_recipe("table", ["sampling.predictor=none"])
    with pytest.raises(RecipeError, match="both none"):
        build_sampler(recipe, build(recipe).sde)
