"""The objective: denoising score matching, written once for every SDE and parameterization.

    L = E_t E w(t) |eps_hat - z|²/dim,   x_t = alpha x_0 + sigma z                                  (1)

with w = 1 the paper's sigma²-weighted score matching and DDPM's "simple" loss (Song et al. 2021, eq. 7; Ho et al. 2020,
eq. 14), and w = g²/sigma² = -d logsnr/dt the likelihood weighting (Song et al. 2021, "Maximum likelihood training"). A
network is compared with its own target, F = p x_0 + q z; since eps_hat - z = out (F_hat - F), the weight on F is w out².
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.network_model import NetworkModel
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, expand

Weighting = Literal["simple", "likelihood"]
PerSample = Float[Tensor, "batch"]


def sample_times(sde: LinearSDE, u: PerSample, weighting: Weighting) -> PerSample:
    """Turn u in [0, 1) into training times in [t_min, T].

    Uniform times for the simple weighting. For the likelihood weighting the log-SNR is uniform: it is the importance
    sampling of Song et al. (2021, "Maximum likelihood training") for any SDE, and `denoising_loss` divides by it.

    >>> from scorefield.sde import VE
    >>> sample_times(VE(), torch.tensor([0.5]), "likelihood")  # for VE, a uniform log-SNR is a uniform time
    tensor([0.5000])
    """
    if weighting == "simple":
        return sde.t_min + (sde.T - sde.t_min) * u
    high, low = _logsnr_range(sde)
    return sde.time((high + (low - high) * u.double())).to(u.dtype).clamp(sde.t_min, sde.T)


def _logsnr_range(sde: LinearSDE) -> tuple[float, float]:
    high, low = sde.logsnr(torch.tensor([sde.t_min, sde.T], dtype=torch.float64)).tolist()
    if low == float("-inf"):
        raise ValueError(
            f"likelihood weighting with {type(sde).__name__}, whose log-SNR has no lower end: use the simple weighting"
        )
    return high, low


def denoising_loss(
    model: NetworkModel, x0: Data, t: PerSample, z: Data, *, weighting: Weighting = "simple"
) -> PerSample:
    """The loss (1) of each sample at times from `sample_times`, a mean over coordinates.

    With the likelihood weighting, (T - t_min) times its mean is the integral of g²/sigma² E|eps_hat - z|²/dim dt.
    """
    sde, form = model.sde, model.parameterization
    x = expand(sde.alpha(t), x0) * x0 + expand(sde.sigma(t), z) * z
    p, q = form.target(sde, t)
    target = expand(p, x0) * x0 + expand(q, z) * z
    out = form.noise(sde, t)[1]
    error = ((model.output(x, t).to(target.dtype) - target) ** 2).flatten(1).mean(1)
    loss = out**2 * error
    if weighting == "simple":
        return loss
    high, low = _logsnr_range(sde)
    return loss * (high - low) / (sde.T - sde.t_min)
