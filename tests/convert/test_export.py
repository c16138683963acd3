"""An exported program computes what the model computes, at other batch sizes, and after a file."""

import json

import jaxtyping
import pytest
import torch
from torch import nn

import scorefield as sf
from scorefield.convert.export import export
from scorefield.exact import ExactModel, GaussianMixture
from scorefield.recipes import parse_recipe
from scorefield.recipes.build import build
from scorefield.score import ScoreFunction
from scorefield.sde import VE, VP
from scorefield.space import DataSpace

UNET = {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4], "dropout": 0.5}
FIR = {"resample": "fir", "progressive": "output_skip", "progressive_input": "input_skip", "embedding": "fourier"}
PLAIN = {"residual": "ddpm", "rescale": False, "group_channels": 1, "decoder_attention": "every", "head_channels": 8}
MODELS = {
    "ddpm": ({"name": "ddpm"}, {**UNET, **PLAIN, "time_label": "ascending_index"}, [3, 8, 8]),
    "ncsn++": (
        {"name": "ve"},
        {**UNET, **FIR, "time_label": "log_sigma", "parameterization": "scaled_score"},
        [3, 8, 8],
    ),
    "flow": (
        {"name": "rectified_flow"},
        {**UNET, "multipliers": [1], "attention": [8], "parameterization": "velocity"},
        [2, 8],
    ),
    "mlp": ({"name": "subvp"}, {"network": "mlp", "width": 16, "depth": 1}, [5]),
}


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Shapes are symbols while a program is traced."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def model_of(name, classes=0):
    sde, network, shape = MODELS[name]
    torch.manual_seed(0)
    model = build(parse_recipe({"data": {"shape": shape, "classes": classes}, "sde": sde, "model": network}, "test"))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def inputs(model, batch):
    x = torch.randn(batch, *model.space.shape, generator=torch.Generator().manual_seed(batch))
    return x, torch.linspace(0.1, 0.9, batch) * model.sde.T


@pytest.mark.parametrize(
    ("name", "view"),
    [("ddpm", "score"), ("ncsn++", "denoise"), ("flow", "velocity"), ("mlp", "noise")],
)
def test_programs_equal_models_at_any_batch_size(name, view):
    model = model_of(name)
    program = export(model, view=view).module()
    for batch in (1, 2, 5):
        x, t = inputs(model, batch)
        torch.testing.assert_close(program(x, t), getattr(model, view)(x, t), rtol=1e-6, atol=1e-6)


def test_a_file_holds_the_program_and_what_it_is(tmp_path):
    model = model_of("mlp")
    sf.export(model, tmp_path / "score.pt2", view="score")
    about = {"scorefield.json": ""}
    program = torch.export.load(tmp_path / "score.pt2", extra_files=about).module()
    x, t = inputs(model, 3)
    torch.testing.assert_close(program(x, t), model.score(x, t), rtol=1e-6, atol=1e-6)
    told = json.loads(about["scorefield.json"])
    assert (told["view"], told["shape"]) == ("score", [5])
    assert told["recipe"] == model.recipe.model_dump(mode="json")
    assert [path.name for path in tmp_path.iterdir()] == ["score.pt2"]


def test_labels_are_an_argument():
    model = model_of("mlp", classes=3)
    program = export(model, labels=True).module()
    x, t = inputs(model, 4)
    labelled = program(x, t, torch.tensor([0, 1, 2, 3]))
    for label in range(3):
        torch.testing.assert_close(labelled[label], model.given(label=label).denoise(x, t)[label])
    torch.testing.assert_close(labelled[3], model.denoise(x, t)[3])
    torch.testing.assert_close(export(model).module()(x, t), model.denoise(x, t))


def test_the_network_alone():
    model = model_of("ddpm", classes=3)
    x, _ = inputs(model, 4)
    c, label = torch.tensor([0.0, 1.0, 500.0, 999.0]), torch.tensor([0, 1, 2, 3])
    program = export(model, view="network", labels=True).module()
    torch.testing.assert_close(program(x, c, label), model.network(x, c, label))


def test_training_goes_on_and_programs_do_not_drop_out():
    model = model_of("flow").train()
    model.network.encoder.eval()
    program = export(model).module()
    assert model.network.decoder.training
    assert not model.network.encoder.training
    x, t = inputs(model, 3)
    torch.testing.assert_close(program(x, t), model.eval().denoise(x, t))


def test_a_network_in_16_bits_takes_and_gives_float32():
    model = model_of("flow").prepare("bf16")
    program = export(model, view="velocity").module()
    x, t = inputs(model, 3)
    velocity = program(x, t)
    assert velocity.dtype == torch.float32
    assert torch.equal(velocity, model.velocity(x, t))


def test_models_without_a_recipe(tmp_path):
    score = ScoreFunction(lambda x, t: -x / (1 + t.reshape(-1, 1)), VE(), DataSpace((2,)))
    program = export(score, tmp_path / "score.pt2", view="score").module()
    x, t = inputs(score, 3)
    torch.testing.assert_close(program(x, t), score.score(x, t))


def test_what_cannot_be_exported():
    model = model_of("mlp")
    with pytest.raises(ValueError, match="view 'scores', expected one of score, denoise, noise, velocity, network"):
        export(model, view="scores")
    with pytest.raises(ValueError, match="labels=True with a model without classes"):
        export(model, labels=True)
    exact = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    with pytest.raises(TypeError, match="view 'network' of ExactModel, which has none"):
        export(exact, view="network")
