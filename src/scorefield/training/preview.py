"""A few samples of a model in training."""

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.noise import Noise
from scorefield.recipes.build import RecipeModel, build_sampler
from scorefield.samplers import run


def preview_samples(model: RecipeModel, count: int = 25, seed: int = 0) -> Float[Tensor, "count *data"]:
    """Samples in data units by the recipe's own sampler, the same draws at every call."""
    device = next(model.parameters()).device
    sampler, times = build_sampler(model.recipe, model.sde)
    noise = Noise(seed, range(count), device)
    x = model.sde.prior.sample(noise.normal(model.space.shape))
    with torch.no_grad():
        return model.space.to_data(run(sampler, model, x, times, noise=noise, denoise=model.recipe.sampling.denoise))
