"""The objective: denoising score matching, written once for every SDE and parameterization.

    L = E_t w(t) E |eps_hat - z|²/dim,   x_t = alpha x_0 + sigma z                                  (1)

with w = 1 the paper's sigma²-weighted score matching and DDPM's "simple" loss (Song et al. 2021, eq. 7; Ho et al. 2020,
eq. 14), and w = g²/sigma² = -d logsnr/dt the likelihood weighting (Song, Durkan et al. 2021). A network is compared
with its own target, F = p x_0 + q z; since eps_hat - z = out (F_hat - F), the weight on F is w out².
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.network_model import NetworkModel
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, expand

Weighting = Literal["simple", "likelihood"]
TimeDistribution = Literal["uniform", "table", "logsnr"]
PerSample = Float[Tensor, "batch"]


def sample_times(sde: LinearSDE, u: PerSample, distribution: TimeDistribution) -> tuple[PerSample, PerSample]:
    """Turn u in [0, 1) into training times t in [t_min, T] and the factors by which to multiply their losses.

    "uniform" times have factor 1, and so do those of "table", the rows of an SDE's table (Song & Ermon 2019; Ho et al.
    2020). "logsnr" makes the log-SNR uniform: importance sampling for the likelihood weighting (Song, Durkan et al.
    2021, for VP; here for any SDE), whose weight times factor is then constant.

    >>> from scorefield.sde import VE
    >>> sample_times(VE(t_min=0.0), torch.tensor([0.5]), "logsnr")  # for VE the two are the same
    (tensor([0.5000]), tensor([1.]))
    """
    if distribution == "uniform":
        return sde.t_min + (sde.T - sde.t_min) * u, torch.ones_like(u)
    if distribution == "table":
        rows = sde.row(torch.tensor(sde.T, dtype=torch.float64)) + 1
        return (((u * rows).floor() + 1) / rows * sde.T).to(u.dtype), torch.ones_like(u)
    high, low = sde.logsnr(torch.tensor([sde.t_min, sde.T], dtype=torch.float64)).tolist()
    if low == float("-inf"):
        raise ValueError(f'times uniform in log-SNR, which {type(sde).__name__} takes to -inf: use "uniform"')
    t = sde.time(high + (low - high) * u.double()).clamp(sde.t_min, sde.T)
    density = likelihood_weight(sde, t) / (high - low)
    return t.to(u.dtype), (1 / (density * (sde.T - sde.t_min))).to(u.dtype)


def likelihood_weight(sde: LinearSDE, t: PerSample) -> PerSample:
    """g²/sigma² = -d logsnr/dt."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return 2 * (alpha * sde.dsigma(t) - sde.dalpha(t) * sigma) / (alpha * sigma)


def denoising_loss(
    model: NetworkModel, x0: Data, t: PerSample, z: Data, *, weighting: Weighting = "simple"
) -> PerSample:
    """The loss (1) of each sample: data `x0` in model units, noise `z`; a mean over coordinates."""
    sde, form = model.sde, model.parameterization
    x = expand(sde.alpha(t), x0) * x0 + expand(sde.sigma(t), z) * z
    p, q = form.target(sde, t)
    target = expand(p, x0) * x0 + expand(q, z) * z
    output: Tensor = model(x, t)
    error = torch.square(output.to(target.dtype) - target).flatten(1).mean(1)
    loss: Tensor = form.noise(sde, t)[1] ** 2 * error
    return loss if weighting == "simple" else loss * likelihood_weight(sde, t)
