"""The probability-flow ODE, run forwards (encode), backwards (decode) and with its divergence (likelihood).

Along the flow, log p_t(x_t) = log p_T(x_T) + integral of div u (Song et al. 2021, eq. 39). The divergence is the trace
of a Jacobian J: exactly, from one product e'J for each coordinate; or as an unbiased estimate e'Je with random signs e
(Hutchinson 1990; Grathwohl et al. 2019), one draw for the whole path, and K of them for a standard error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.ode import Slope, solve
from scorefield.score import Denoiser, ScoreModel
from scorefield.sde import Density
from scorefield.shapes import Data, sum_data


@dataclass(frozen=True)
class Likelihood:
    """Log-densities in nats, of data in model units.

    `log_prob` (batch,) is the sum of `parts`: the prior's log-density of the latent code, the integral of the
    divergence, and the log-volume of the ODE's variable. `standard_error` (batch,) is that of the probes: 0 for an
    exact trace, NaN for a single probe. `latent` is x_T.
    """

    log_prob: Float[Tensor, "batch"]
    standard_error: Float[Tensor, "batch"]
    latent: Data
    parts: dict[str, Float[Tensor, "batch"]]


@torch.no_grad()
def encode(model: ScoreModel, x: Data, *, tol: float = 1e-5) -> Data:
    """Data in model units to x_T.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> encode(model, torch.ones(1, 2))  # standard normal data are their own code
    tensor([[1.0000, 1.0000]])
    """
    flow = model.flow_variable()
    z, _ = solve(_alone(flow.slope), flow.state(x, flow.start), flow.start, flow.end, tol=tol)
    return flow.data(z, flow.end)


@torch.no_grad()
def decode(model: ScoreModel, latent: Data, *, tol: float = 1e-5) -> Data:
    """x_T to data in model units: the inverse of `encode`."""
    flow = model.flow_variable()
    z, _ = solve(_alone(flow.slope), flow.state(latent, flow.end), flow.end, flow.start, tol=tol)
    return flow.data(z, flow.start)


@dataclass(frozen=True)
class ProbabilityFlow:
    """Samples by the adaptive ODE: deterministic given the prior's noise, with steps chosen to the tolerance `tol`."""

    tol: float = 1e-2

    def __post_init__(self) -> None:
        if not self.tol > 0:
            raise ValueError(f"ProbabilityFlow with tolerance {self.tol}, expected a positive number")

    @torch.no_grad()
    def sample(self, model: ScoreModel, x: Data) -> Data:
        """x_T to data in model units, with a denoising evaluation at the end where the SDE is linear."""
        y = decode(model, x, tol=self.tol)
        return (
            model.denoise(y, torch.tensor(model.sde.t_min, dtype=torch.float64)) if isinstance(model, Denoiser) else y
        )


def log_likelihood(
    model: ScoreModel,
    x: Data,
    probes: Float[Tensor, "batch probes *data"] | None = None,
    *,
    prior: Density | None = None,
    tol: float = 1e-5,
) -> Likelihood:
    """The log-density of data in model units, by the flow from t_min to T.

    `probes` are random signs; None computes the exact trace, at one backward evaluation for each coordinate. `prior` is
    the law of x_T, the SDE's unless given. The density is that of x at t_min, taken for the data's.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> log_likelihood(model, torch.zeros(1, 2)).log_prob  # -log(2 pi)
    tensor([-1.8379])
    """
    flow, dim = model.flow_variable(), math.prod(x.shape[1:])
    exact = probes is None
    if probes is None:
        probes = (
            torch.eye(dim, dtype=x.dtype, device=x.device).reshape(1, dim, *x.shape[1:]).expand(len(x), *[-1] * x.ndim)
        )
    slope = _with_divergence(flow.slope, probes, exact)
    with torch.no_grad():
        z, divergence = solve(
            slope, flow.state(x, flow.start), flow.start, flow.end, tol=tol, integral_scale=float(dim)
        )
    latent = flow.data(z, flow.end)
    count = divergence.shape[1]
    parts = {
        "prior": (model.sde.prior if prior is None else prior).log_prob(latent),
        "divergence": divergence.mean(1),
        "volume": torch.full_like(divergence[:, 0], flow.log_volume(dim)),
    }
    error = (
        divergence.std(1) / math.sqrt(count)
        if count > 1
        else torch.full_like(parts["volume"], 0 if exact else math.nan)
    )
    return Likelihood(torch.stack(list(parts.values())).sum(0), error, latent, parts)


def _alone(slope: Callable[[Tensor, Tensor], Tensor]) -> Slope:
    def with_nothing(u: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return slope(u, z), z.new_empty(len(z), 0)

    return with_nothing


def _with_divergence(slope: Callable[[Tensor, Tensor], Tensor], probes: Tensor, exact: bool) -> Slope:
    """The slope with e'Je for each probe e, or with their sum where they are all coordinates."""
    directions = probes.unbind(1)

    def with_divergence(u: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            dz = slope(u.clone(), z)
            products = [
                sum_data(torch.autograd.grad(dz, z, e.clone(), retain_graph=i < len(directions) - 1)[0] * e)
                for i, e in enumerate(directions)
            ]
        traces = torch.stack(products, 1)
        return dz.detach(), traces.sum(1, keepdim=True) if exact else traces

    return with_divergence
