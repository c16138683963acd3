import pytest
import torch

from scorefield.losses import denoising_loss, likelihood_weight, sample_times
from scorefield.recipes import load_recipe
from scorefield.recipes.build import RecipeModel, build
from scorefield.training.objective import Objective, draws, model_units


def model() -> RecipeModel:
    torch.manual_seed(0)
    made = build(load_recipe("table", ["model.width=8", "model.depth=1"]))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("times", ["uniform", "logsnr"])
@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
def test_the_objective_is_the_loss_at_its_times(weighting: str, times: str) -> None:
    made, (u, z, v, _) = model(), draws(0, 3, (16, 2), slice(0, 16))
    t, factor = sample_times(made.sde, u, times)
    expected = (factor * denoising_loss(made, v, t, z, weighting=weighting)).mean()
    torch.testing.assert_close(Objective(made, weighting, times)(v, u, z, None), expected)


def test_the_sum_is_half_the_dimension_times_the_mean() -> None:
    made, (u, z, v, _) = model(), draws(0, 3, (16, 2), slice(0, 16))
    mean, total = (Objective(made, "simple", "uniform", reduction=kind)(v, u, z, None) for kind in ("mean", "sum"))
    t, _ = sample_times(made.sde, u, "uniform")
    x = made.sde.alpha(t)[:, None] * v + made.sde.sigma(t)[:, None] * z
    torch.testing.assert_close(total, (0.5 * (made.noise(x, t) - z).square().sum(1)).mean())
    torch.testing.assert_close(mean, (made.noise(x, t) - z).square().mean())


def test_the_share_of_the_likelihood_has_its_times_with_weight_one() -> None:
    made = model()
    u = (torch.arange(1000) + 0.5) / 1000
    t, weight = Objective(made, "simple", "uniform", 0.25)._times(u)
    logsnr = made.sde.logsnr(t[:250].double())
    high, low = made.sde.logsnr(torch.tensor([1e-5, 1.0], dtype=torch.float64)).tolist()
    expected = high + (low - high) * (torch.arange(250).double() + 0.5) / 250
    torch.testing.assert_close(logsnr, expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(t[250:], 1e-5 + (1 - 1e-5) * (torch.arange(750) + 0.5) / 750)
    assert bool((weight == 1).all())
    _, weight = Objective(made, "likelihood", "uniform", 0.25)._times(u)
    assert bool((weight[:250] == 1).all())
    torch.testing.assert_close(weight[250:], likelihood_weight(made.sde, t[250:]))
    alone = Objective(made, "simple", "uniform", 1.0)._times(u)[0]
    torch.testing.assert_close(alone, sample_times(made.sde, u, "logsnr")[0])


def test_importance_sampling_leaves_the_likelihood_loss_as_it_is() -> None:
    made = model()
    u = (torch.arange(4000) + 0.5) / 4000
    t, factor = sample_times(made.sde, u, "logsnr")
    constant = factor * likelihood_weight(made.sde, t)
    torch.testing.assert_close(constant, constant[:1].expand(4000), rtol=1e-4, atol=0)


def test_draws_depend_on_seed_and_step_and_are_shared_out_by_rows() -> None:
    whole = draws(0, 5, (8, 3), slice(0, 8))
    for first, second, both in zip(
        draws(0, 5, (8, 3), slice(0, 4)), draws(0, 5, (8, 3), slice(4, 8)), whole, strict=True
    ):
        assert torch.equal(torch.cat([first, second]), both)
    for other in (draws(0, 6, (8, 3), slice(0, 8)), draws(1, 5, (8, 3), slice(0, 8))):
        assert not torch.equal(other[1], whole[1])


def test_dequantized_levels_lie_in_their_bins() -> None:
    images = build(load_recipe("mnist", ["model.channels=8", "model.blocks=1"]))
    x = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    y = model_units(images.space, x, torch.rand(2, 1, 28, 28), dequantize=True)
    assert torch.equal((images.space.to_data(y) * 256).floor().clamp(max=255).to(torch.uint8), x)
    plain = model_units(images.space, x, torch.rand(2, 1, 28, 28), dequantize=False)
    torch.testing.assert_close(plain, x / 255 / 0.5)
