import pytest
import torch

from scorefield.nn import MLP


def perturbed(network: MLP) -> MLP:
    """The network with a last layer that is not (nearly) zero."""
    torch.nn.init.normal_(network.linear_out.weight)
    for block in network.blocks:
        torch.nn.init.normal_(block.linear2.weight, std=0.2)
    return network.eval()


@pytest.mark.parametrize("shape", [(), (1,), (2,), (7,), (3, 5), (1, 4, 4), (2, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_shape(shape, batch) -> None:
    x = torch.randn(batch, *shape)
    assert MLP(shape, width=16, depth=2)(x, torch.zeros(batch)).shape == x.shape


def test_it_starts_as_nearly_zero() -> None:
    assert MLP((2,))(torch.randn(9, 2), torch.randn(9)).abs().max() < 1e-3


def test_the_noise_level_and_the_samples_mix_in_no_other_way() -> None:
    torch.manual_seed(0)
    network = perturbed(MLP((2,), width=16, depth=2))
    x, c = torch.randn(4, 2), torch.randn(4)
    with torch.no_grad():
        together = network(x, c)
        assert torch.allclose(together[2:3], network(x[2:3], c[2:3]), atol=1e-6)
        assert not torch.allclose(together, network(x, c + 0.5), atol=1e-3)


def test_time_scale_multiplies_the_noise_level() -> None:
    torch.manual_seed(0)
    plain = perturbed(MLP((2,), width=16, depth=1))
    scaled = MLP((2,), width=16, depth=1, time_scale=4 / 999).eval()
    scaled.load_state_dict(plain.state_dict())
    x, t = torch.randn(3, 2), torch.rand(3)
    assert torch.allclose(scaled(x, 999 * t), plain(x, 4 * t), atol=1e-5)


def test_labels() -> None:
    torch.manual_seed(0)
    network = perturbed(MLP((2,), width=16, depth=1, classes=2))
    x, c = torch.randn(3, 2), torch.randn(3)
    none, first, second = (network(x, c, label) for label in (None, torch.zeros(3).long(), torch.ones(3).long()))
    assert torch.equal(none, network(x, c, torch.full((3,), 2)))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, none)
    with pytest.raises(ValueError, match="labels must lie in 0…1"):
        network(x, c, torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match="without classes"):
        MLP((2,))(x, c, torch.zeros(3).long())


def test_float64_and_bfloat16() -> None:
    torch.manual_seed(0)
    network = perturbed(MLP((2,), width=16))
    x, c = torch.randn(3, 2), torch.randn(3)
    single = network(x, c)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, c)
    exact = network.double()(x.double(), c.double())
    assert half.dtype == torch.float32
    assert (half - exact).norm() < 0.05 * exact.norm()
    assert (single - exact).norm() < 1e-5 * exact.norm()


def test_gradient_of_the_input() -> None:
    torch.manual_seed(0)
    network = perturbed(MLP((2, 2), width=8, depth=1)).double()
    x, c = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True), torch.randn(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda value: network(value, c), x)


def test_it_learns_the_denoiser_of_two_points() -> None:
    """Data ±1: the best denoiser of x = data + sigma z is tanh(x / sigma²)."""
    torch.manual_seed(0)
    network = MLP((), width=32, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    sigmas = torch.tensor([0.3, 1.0, 3.0])
    for _ in range(400):
        data, sigma = torch.randint(2, (256,)) * 2.0 - 1.0, sigmas[torch.randint(3, (256,))]
        x = data + sigma * torch.randn(256)
        loss = (network(x / (1 + sigma**2).sqrt(), sigma.log()) - data).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for sigma in sigmas:
        x = torch.linspace(-1.5, 1.5, 31)
        found = network(x / (1 + sigma**2).sqrt(), sigma.log().expand(31))
        assert (found - torch.tanh(x / sigma**2)).square().mean().sqrt() < 0.15


def test_errors(unchecked) -> None:
    with pytest.raises(ValueError, match=r"samples have the shape \(3,\), the network takes \(2,\)"):
        MLP((2,))(torch.zeros(5, 3), torch.zeros(5))
    with pytest.raises(ValueError, match="c has the shape"):
        MLP((2,))(torch.zeros(5, 2), torch.zeros(1))
    with pytest.raises(ValueError, match="width=2"):
        MLP((2,), width=2)
    with pytest.raises(ValueError, match="depth=0"):
        MLP((2,), depth=0)
