"""The loss of one training step as a function of (seed, step).

Everything random in a step is drawn from generators keyed by the seed and the step, for the whole batch on every
process, and each process takes its rows. So a training neither stores nor advances a random state, and a resumed one
makes the very draws that it would have made.

Times are stratified over the batch, u_i = (i + u)/B (Kingma et al. 2021): their spread costs the gradient less noise.

A `likelihood_share` of the batch has times uniform in log-SNR, all with weight 1: the likelihood weighting, importance
sampled. With the simple loss for the rest this is L_simple + lambda L_vlb (Nichol & Dhariwal 2021): the picture is
learned as with the simple loss, and so is the least noise, which that loss hardly ever sees and on which likelihoods
depend.

The loss of a sample is the mean over its coordinates, or with "sum" half their sum, as in the published training of the
VE models: all the same to Adam, which does not see the scale of a gradient, but not to clipping.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from scorefield.classifier import NetworkClassifier, of_labels
from scorefield.losses import PerSample, TimeDistribution, Weighting, denoising_loss, likelihood_weight, sample_times
from scorefield.network_model import NetworkModel
from scorefield.noise import key
from scorefield.shapes import Data, expand
from scorefield.space import DataSpace

Reduction = Literal["mean", "sum"]


def draws(seed: int, step: int, shape: tuple[int, ...], rows: slice) -> tuple[Tensor, Data, Data, Tensor]:
    """The random numbers of a step for the `rows` of a batch of `shape`: u of the times, normal z, uniform v and w.

    u: (rows,) stratified in [0, 1); z and v (dequantization): (rows, *data); w (label dropout): (rows,). All float32
    on the CPU.

    >>> u, z, v, w = draws(0, 7, (4, 3), slice(0, 4))
    >>> (4 * u).floor().tolist(), bool((draws(0, 7, (4, 3), slice(2, 4))[1] == z[2:]).all())
    ([0.0, 1.0, 2.0, 3.0], True)
    """
    generator = torch.Generator().manual_seed(key(seed, "training", step) % 2**32)
    u = (torch.arange(shape[0]) + torch.rand((), generator=generator)) / shape[0]
    z = torch.randn(shape, generator=generator)
    v = torch.rand(shape, generator=generator)
    w = torch.rand(shape[0], generator=generator)
    return u[rows], z[rows], v[rows], w[rows]


class Objective(nn.Module):
    """Denoising score matching of a model, as a module: what is run in parallel and in reduced precision."""

    def __init__(
        self,
        model: NetworkModel,
        weighting: Weighting,
        times: TimeDistribution,
        likelihood_share: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.share = likelihood_share
        self.scale = 1.0 if reduction == "mean" else 0.5 * model.space.dim
        self.model = model
        self.weighting: Weighting = weighting
        self.times: TimeDistribution = times

    def forward(
        self, x0: Data, u: Float[Tensor, " batch"], z: Data, labels: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, ""]:
        """The loss of data `x0` (model units) at the times of `u` with noise `z`, a mean over the batch.

        A label equal to the number of classes is none.
        """
        model = self.model if labels is None else self.model.labelled(labels)
        t, weight = self._times(u)
        return self.scale * (weight * denoising_loss(model, x0, t, z)).mean()

    def _times(self, u: PerSample) -> tuple[PerSample, PerSample]:
        """The times of u and the weights of |eps_hat - z|²; u below `share` have log-SNR-uniform times, weight 1."""
        sde, share = self.model.sde, self.share
        t, weight = sample_times(sde, ((u - share) / max(1 - share, 1e-6)).clamp(0, 1), self.times)
        if self.weighting == "likelihood":
            weight = weight * likelihood_weight(sde, t)
        if share == 0:
            return t, weight
        likely, _ = sample_times(sde, (u / share).clamp(0, 1), "logsnr")
        return torch.where(u < share, likely, t), torch.where(u < share, 1.0, weight)


class ClassObjective(nn.Module):
    """The cross-entropy of a classifier on perturbed data, a mean over the batch, as a module."""

    def __init__(self, classifier: NetworkClassifier, times: TimeDistribution) -> None:
        super().__init__()
        self.classifier = classifier
        self.times: TimeDistribution = times

    def forward(
        self, x0: Data, u: Float[Tensor, " batch"], z: Data, labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """-log q(y | x_t), weighted so that a mean over its times is one over uniform ones."""
        sde = self.classifier.sde
        t, weight = sample_times(sde, u, self.times)
        x = expand(sde.alpha(t), x0) * x0 + expand(sde.sigma(t), z) * z
        return -(weight * of_labels(self.classifier.log_probs(x, t), labels)).mean()


def model_units(space: DataSpace, x: Shaped[Tensor, "batch *data"], v: Data, dequantize: bool) -> Data:
    """A batch of data units or levels in model units; levels are dequantized with uniform `v` where asked."""
    if dequantize and not x.is_floating_point():
        return space.to_model(space.dequantize(x, v))
    return space.to_model(x)
