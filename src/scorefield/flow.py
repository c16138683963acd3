"""The probability-flow ODE, run forwards (encode), backwards (decode) and with its divergence (likelihood).

Along the flow, log p_t(x_t) = log p_T(x_T) + integral of div u (Song et al. 2021, eq. 39). The divergence is the trace
of a Jacobian J: exactly, from one product e'J for each coordinate; or as an unbiased estimate e'Je with random signs e
(Hutchinson 1990; Grathwohl et al. 2019), one draw for the whole path, and K of them for a standard error.

The solver is Adams's unless another of :mod:`scorefield.ode` is given as `method`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.noise import Noise
from scorefield.ode import ADAMS, Method, solve
from scorefield.samplers import Adaptive
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
def encode(model: ScoreModel, x: Data, *, tol: float = 1e-5, method: Method = ADAMS) -> Data:
    """Data in model units to x_T.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> encode(model, torch.ones(1, 2))  # standard normal data are their own code
    tensor([[1.0000, 1.0000]])
    """
    flow = model.flow_variable()
    return flow.data(_follow(model, flow.state(x, flow.start), flow.start, flow.end, tol, method), flow.end)


@torch.no_grad()
def decode(model: ScoreModel, latent: Data, *, tol: float = 1e-5, method: Method = ADAMS) -> Data:
    """x_T to data in model units: the inverse of `encode`."""
    flow = model.flow_variable()
    return flow.data(_follow(model, flow.state(latent, flow.end), flow.end, flow.start, tol, method), flow.start)


@dataclass(frozen=True)
class ProbabilityFlow(Adaptive):
    """Samples by the adaptive ODE: deterministic given the prior's noise, with steps chosen to the tolerance `tol`."""

    tol: float = 1e-2
    method: Method = ADAMS

    def __post_init__(self) -> None:
        if not self.tol > 0:
            raise ValueError(f"ProbabilityFlow with tolerance {self.tol}, expected a positive number")

    @torch.no_grad()
    def sample(self, model: ScoreModel, x: Data, noise: Noise) -> Data:  # noqa: ARG002
        """x_T to data in model units, with a denoising evaluation at the end where the SDE is linear."""
        y = decode(model, x, tol=self.tol, method=self.method)
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
    method: Method = ADAMS,
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
    given = torch.eye(dim, dtype=x.dtype, device=x.device).reshape(1, dim, *x.shape[1:]) if probes is None else probes
    along = (_rows(x),) if exact else (_rows(x), given)

    def slope(u: Tensor, z: Tensor, rows: Tensor, probes: Tensor = given) -> tuple[Tensor, Tensor]:
        dz, traces = _with_divergence(_slope(model, rows), u, z, probes)
        return dz, traces.sum(1, keepdim=True) if exact else traces

    with torch.no_grad():
        z, divergence = solve(
            slope,
            flow.state(x, flow.start),
            flow.start,
            flow.end,
            method=method,
            tol=tol,
            integral_scale=float(dim),
            along=along,
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


def _rows(x: Data) -> Tensor:
    return torch.arange(len(x), device=x.device)


def _slope(model: ScoreModel, rows: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The slope of those samples of the batch."""
    return model.select(rows).flow_variable().slope


def _follow(model: ScoreModel, z: Tensor, start: float, end: float, tol: float, method: Method) -> Tensor:
    """The flow variable's state from u = `start` to `end`."""

    def slope(u: Tensor, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return _slope(model, rows)(u, z), z.new_empty(len(z), 0)

    return solve(slope, z, start, end, method=method, tol=tol, along=(_rows(z),))[0]


def _with_divergence(
    slope: Callable[[Tensor, Tensor], Tensor], u: Tensor, z: Tensor, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """The slope, and e'Je for each of the probes e, (batch, probes)."""
    directions = [e.expand_as(z) for e in probes.unbind(1)]
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        dz = slope(u.clone(), z)
        products = [
            sum_data(torch.autograd.grad(dz, z, e.clone(), retain_graph=i < len(directions) - 1)[0] * e)
            for i, e in enumerate(directions)
        ]
    return dz.detach(), torch.stack(products, 1)
