import copy
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

import scorefield as sf
from scorefield.network_model import ContinuousTime, NetworkModel
from scorefield.nn import MLP, UNet
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build
from scorefield.score import VPrediction
from scorefield.sde import VP
from scorefield.space import DataSpace


def random_model(network: nn.Module, shape: tuple[int, ...]) -> NetworkModel:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 4
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan**0.5)
    return NetworkModel(network.eval(), VP(), DataSpace(shape), VPrediction(), ContinuousTime())


def unet(dims: int) -> NetworkModel:
    network = UNet(
        1, dims=dims, channels=8, multipliers=(1, 2), blocks=1, attention=(4,), size=8, resample="fir", classes=0
    )
    return random_model(network, (1, *[8] * dims))


MODELS = {f"unet {dims}-d": lambda dims=dims: unet(dims) for dims in (1, 2, 3)} | {
    "mlp": lambda: random_model(MLP((2, 3), width=16, depth=2), (2, 3))
}


@pytest.fixture(params=MODELS)
def model(request) -> NetworkModel:
    return MODELS[request.param]()


def inputs(model: NetworkModel) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, *model.space.shape, generator=generator), torch.tensor([0.01, 0.5, 0.99])


@torch.no_grad()
def test_layouts_change_nothing(model) -> None:
    x, t = inputs(model)
    expected = model.denoise(x, t)
    assert torch.allclose(copy.deepcopy(model).prepare().denoise(x, t), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_bfloat16_is_near(model) -> None:
    x, t = inputs(model)
    expected, prepared = model(x, t), copy.deepcopy(model).prepare("bf16")
    output = prepared(x, t)
    assert output.dtype == torch.float32
    assert 1e-4 < (output - expected).norm() / expected.norm() < 0.05
    assert prepared(x, t).equal(output)


def test_what_is_wide_stays_wide() -> None:
    network = unet(2).prepare("bf16").network
    narrow = {name for name, weight in network.named_parameters() if weight.dtype == torch.bfloat16}
    assert {"conv_in.weight", "encoder.0.blocks.0.conv1.weight", "middle.attention.query.weight"} <= narrow
    assert not any("norm" in name or name.startswith("condition") for name in narrow)


@pytest.mark.parametrize("name", ["ve/ncsnv2/cifar10", "cifar10"])
def test_samples_stay_wide_whatever_comes_first(name) -> None:
    """What walks is float32, also where the first of the weights is rounded; a model all in 16 bits has samples so."""
    model = build(load_recipe(name, ["model.channels=8"])).eval()
    assert sf.sample(copy.deepcopy(model).prepare("bf16"), 1, steps=1).dtype == torch.float32
    assert sf.sample(model.to(torch.bfloat16), 1, steps=1).dtype == torch.bfloat16


def test_gradients_pass_through_bfloat16(model) -> None:
    x, t = inputs(model)
    v = torch.randn_like(x)
    gradients = []
    for network in (model, copy.deepcopy(model).prepare("bf16")):
        y = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad((network(y, t) * v).sum(), y)[0])
    assert (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm()


def test_times_are_not_rounded_with_narrow_images() -> None:
    """Labels near 999 differ by less than bfloat16 can tell."""
    model = unet(2)
    seen = []
    model.network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    x, t = inputs(model)
    model.network.bfloat16()
    model(x.bfloat16(), t)
    assert seen[0].dtype == torch.float32
    assert torch.allclose(seen[0], 999 * t)


COMPILED = """
import copy, torch
import scorefield as sf
from scorefield.network_model import ContinuousTime, NetworkModel
from scorefield.nn import MLP
from scorefield.score import NoisePrediction
from scorefield.sde import VP
from scorefield.space import DataSpace

model = NetworkModel(MLP((2,), width=8, depth=1), VP(), DataSpace((2,)), NoisePrediction(), ContinuousTime())
torch.nn.init.normal_(model.network.linear_out.weight)
x, t = torch.randn(3, 2), torch.tensor(0.5)
with torch.no_grad():
    torch.testing.assert_close(copy.deepcopy(model).prepare(compiled=True)(x, t), model(x, t))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_gives_the_same() -> None:
    """In a process of its own, where signatures are not checked as they are in tests."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


def test_no_compiler(monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="no-such-compiler is not there"):
        unet(2).prepare(compiled=True)
