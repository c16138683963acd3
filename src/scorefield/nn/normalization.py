r"""InstanceNorm++: instance normalization that keeps the means of the feature maps relative to one another.

Instance normalization takes from every feature map its mean and its scale, and with the means the network loses how
bright each map is. Song & Ermon (2019, appendix A) give back what is left of the means after a normalization of their
own. For feature map k of one sample, with mean :math:`\mu_k` and standard deviation :math:`s_k` over its pixels, and
mean m and standard deviation v of the numbers :math:`\mu_1 \dots \mu_C` themselves,

.. math:: z_k = \gamma_k \left[ \frac{x_k - \mu_k}{s_k} + \alpha_k \frac{\mu_k - m}{v} \right] + \beta_k. \tag{1}

The squares of s and v have 1e-5 added; v² divides by C - 1. In the **conditional** form, :math:`\gamma, \alpha,
\beta` are rows of a table with one row per noise level, which is all that an NCSN is told of the noise.

Statistics are taken in float32 or better, also under autocast.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from scorefield.shapes import single

Images = Float[Tensor, "_ _ _ _"]
Level = Integer[Tensor, " batch"]
Coefficients = Float[Tensor, "_ channels"]


class InstanceNormPlus(nn.Module):
    """InstanceNorm++ with one gamma, alpha and beta per channel, the same at all noise levels.

    >>> InstanceNormPlus(4)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(channels).mul_(0.02).add_(1.0))
        self.alpha = nn.Parameter(torch.randn(channels).mul_(0.02).add_(1.0))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Images, level: Level | None = None) -> Images:  # noqa: ARG002
        """Normalized images; the noise level has no effect."""
        return normalize(x, self.gamma[None], self.alpha[None], self.beta[None])


class ConditionalInstanceNormPlus(nn.Module):
    """InstanceNorm++ whose gamma, alpha and beta, one after the other in a row of ``table``, depend on the noise level.

    >>> ConditionalInstanceNormPlus(4, levels=10)(torch.randn(2, 4, 8, 8), torch.tensor([0, 9])).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.table = nn.Embedding(levels, 3 * channels)
        nn.init.normal_(self.table.weight[:, : 2 * channels], 1.0, 0.02)
        nn.init.zeros_(self.table.weight[:, 2 * channels :])

    def forward(self, x: Images, level: Level) -> Images:
        """Normalized images, with the coefficients of each sample's noise level."""
        gamma, alpha, beta = self.table(level).chunk(3, dim=1)
        return normalize(x, gamma, alpha, beta)


class Unnormalized(nn.Module):
    """What stands where a network has no normalization: images as they are."""

    def forward(self, x: Images, level: Level | None = None) -> Images:  # noqa: ARG002
        """Images as they are."""
        return x


def normalize(x: Images, gamma: Coefficients, alpha: Coefficients, beta: Coefficients) -> Images:
    """Equation (1), as one scale and one shift per feature map. Coefficients are (batch or 1, channels), and
    give the result their dtype.

    Means and variances over pixels are separate sums: on a CPU ``var_mean`` takes twenty times as long.
    """
    x = single(x)
    mean = x.mean((2, 3))
    deviation = x - mean[:, :, None, None]
    scale = gamma * torch.rsqrt(deviation.square().mean((2, 3)) + 1e-5)
    spread, centre = torch.var_mean(mean, dim=1, keepdim=True)
    shift = beta + gamma * alpha * (mean - centre) * torch.rsqrt(spread + 1e-5)
    return torch.addcmul(shift[:, :, None, None], deviation, scale[:, :, None, None]).to(gamma.dtype)
