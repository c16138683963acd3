"""Data whose score is known at every time: Gaussians and mixtures of Gaussians, the oracles of every test.

For x_0 ~ N(m, V) and x_t = alpha x_0 + sigma z, with W = alpha² V + sigma² (Song et al. 2021, eq. 29 on the exact law):

    E[x_0 | x_t] = m + alpha V W⁻¹ (x - alpha m),    E[z | x_t] = sigma W⁻¹ (x - alpha m),    x_t ~ N(alpha m, W)    (1)

and a mixture's views are its components' weighted with the posterior of the component given x_t. Neither view is
computed from the other, so both are exact in float32 at every noise level.

Where the components belong to classes, the posterior of a class is the sum of those of its components. The differences
of their log-densities are small where the noise is large, and guidance divides their gradients by alpha: they are
formed before anything large is subtracted. With W_0 = alpha² v_0 + sigma² for any v_0,

    (x - alpha m)²/W - x²/W_0 = alpha (alpha (v_0 - V) x²/W_0 - 2 m x + alpha m²)/W                   (2)
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.classifier import Classifier, LogProbs
from scorefield.score import Denoiser
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Time
from scorefield.space import DataSpace


class GaussianMixture:
    """A mixture of Gaussians on data of any shape, with diagonal or full covariances.

    Give `variances` (components, *shape) or `covariances` (components, dim, dim). As a law it also serves as the prior
    of a likelihood.

    >>> law = GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2))
    >>> law.log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    def __init__(
        self,
        means: Float[Tensor, "components *data"],
        *,
        variances: Float[Tensor, "components *data"] | None = None,
        covariances: Float[Tensor, "components dim dim"] | None = None,
        weights: Float[Tensor, "components"] | None = None,
    ) -> None:
        if (variances is None) == (covariances is None):
            raise ValueError("GaussianMixture: give either variances or covariances")
        count = len(means)
        self.shape = tuple(means.shape[1:])
        self.means = means.reshape(count, -1)
        self.basis: Tensor | None = None
        if covariances is not None:
            self.variances, self.basis = torch.linalg.eigh(covariances)
        elif variances is not None:
            self.variances = variances.reshape(count, -1)
        if not bool((self.variances > 0).all()):
            raise ValueError(
                f"GaussianMixture: smallest variance {float(self.variances.min()):.3g}, expected positive ones"
            )
        weights = means.new_ones(count) if weights is None else weights
        self.log_weights = torch.log(weights / weights.sum())

    @classmethod
    def gaussian(cls, mean: Float[Tensor, "*data"], covariance: Float[Tensor, "dim dim"]) -> "GaussianMixture":
        """One Gaussian with full covariance."""
        return cls(mean[None], covariances=covariance[None])

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)

    def to(self, where: torch.dtype | torch.device | str) -> "GaussianMixture":
        """The same law in another precision, or on another device."""
        return self._with(self.means.to(where), self.variances.to(where))

    def part(self, components: Sequence[int]) -> "GaussianMixture":
        """The law of some of the components alone."""
        rows = list(components)
        law = self._with(self.means[rows], self.variances[rows])
        law.basis = None if self.basis is None else self.basis[rows]
        law.log_weights = torch.log_softmax(self.log_weights[rows], 0)
        return law

    def posterior(
        self, matrix: Float[Tensor, "measured dim"], y: Float[Tensor, "measured"], std: float
    ) -> "GaussianMixture":
        """The law of x given y = A x + std n of a matrix A over flattened data: Gaussians again, with other weights.

        >>> law = GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2))
        >>> law.posterior(torch.tensor([[1.0, 0.0]]), torch.tensor([2.0]), std=1.0).mean
        tensor([1., 0.])
        """
        cross = self.covariances @ matrix.T
        gram = matrix @ cross + std**2 * torch.eye(len(matrix)).to(matrix)
        gain, gap = torch.linalg.solve(gram, cross, left=False), y - self.means @ matrix.T
        means = self.means + torch.einsum("kdm,km->kd", gain, gap)
        covariances = self.covariances - gain @ cross.mT
        explained = torch.einsum("km,km->k", gap, torch.linalg.solve(gram, gap)) + torch.logdet(gram)
        weights = torch.softmax(self.log_weights - 0.5 * explained, 0)
        covariances = 0.5 * (covariances + covariances.mT)
        return GaussianMixture(means.reshape(-1, *self.shape), covariances=covariances, weights=weights)

    def perturbed(self, alpha: Tensor, sigma: Tensor) -> "GaussianMixture":
        """The law of alpha x + sigma z, for scalar alpha and sigma."""
        return self._with(alpha * self.means, alpha**2 * self.variances + sigma**2)

    def _with(self, means: Tensor, variances: Tensor) -> "GaussianMixture":
        law = GaussianMixture(means.reshape(-1, *self.shape), variances=variances.reshape(-1, *self.shape))
        law.basis = None if self.basis is None else self.basis.to(means)
        law.log_weights = self.log_weights.to(means)
        return law

    def rotate(self, y: Float[Tensor, "batch components dim"]) -> Float[Tensor, "batch components dim"]:
        """To the eigenvectors of each component."""
        return y if self.basis is None else torch.einsum("bkd,kde->bke", y, self.basis)

    def unrotate(self, y: Float[Tensor, "batch components dim"]) -> Float[Tensor, "batch components dim"]:
        """Back from the eigenvectors of each component."""
        return y if self.basis is None else torch.einsum("bke,kde->bkd", y, self.basis)

    def log_joint(
        self, y: Float[Tensor, "batch components dim"], variances: Float[Tensor, "#batch components dim"]
    ) -> Float[Tensor, "batch components"]:
        """log(weight) + log-density of rotated offsets `y` from the means, for each component."""
        quadratic = (y * y / variances + torch.log(variances)).sum(-1)
        joint: Tensor = self.log_weights - 0.5 * quadratic - 0.5 * self.dim * math.log(2 * math.pi)
        return joint

    def log_prob(self, x: Data) -> Float[Tensor, "batch"]:
        """Log-density in nats."""
        y = self.rotate(x.reshape(len(x), 1, -1) - self.means)
        return torch.logsumexp(self.log_joint(y, self.variances[None]), 1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Data:
        """`count` independent draws."""
        component = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=generator)
        z = torch.randn(count, self.dim, generator=generator, dtype=self.means.dtype, device=self.means.device)
        y: Tensor = z * self.variances[component].sqrt()
        if self.basis is not None:
            y = torch.einsum("be,bde->bd", y, self.basis[component])
        return (self.means[component] + y).reshape(count, *self.shape)

    @property
    def mean(self) -> Float[Tensor, "*data"]:
        """The mean of the mixture."""
        mean: Tensor = self.log_weights.exp() @ self.means
        return mean.reshape(self.shape)

    @property
    def covariances(self) -> Float[Tensor, "components dim dim"]:
        """The covariance of each component, over flattened data."""
        if self.basis is None:
            return torch.diag_embed(self.variances)
        return torch.einsum("kde,ke,kfe->kdf", self.basis, self.variances, self.basis)

    @property
    def covariance(self) -> Float[Tensor, "dim dim"]:
        """The covariance of the mixture, over flattened data."""
        weights, offset = self.log_weights.exp(), self.means - self.mean.flatten()
        within = torch.einsum("k,kdf->df", weights, self.covariances)
        return within + torch.einsum("k,kd,ke->de", weights, offset, offset)


class ExactModel(Denoiser):
    """The score model of data that follow a `GaussianMixture`.

    >>> from scorefield.sde import VE
    >>> model = ExactModel(VE(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> model.score(torch.ones(1, 2), torch.tensor(0.0))  # N(0, 1 + 0.01²)
    tensor([[-0.9999, -0.9999]])
    """

    def __init__(self, sde: LinearSDE, law: GaussianMixture, space: DataSpace | None = None) -> None:
        super().__init__(sde, DataSpace(law.shape) if space is None else space)
        self.law = law

    def marginal(self, t: Float[Tensor, ""]) -> GaussianMixture:
        """The law of x_t."""
        return self.law.perturbed(self.sde.alpha(t), self.sde.sigma(t))

    def predict(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) by eq. (1)."""
        denoised, noise = self(x, t)
        return denoised, noise

    def forward(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise): one evaluation."""
        law = self.law
        alpha = self.sde.alpha(t).to(x).reshape(-1, 1, 1)
        sigma = self.sde.sigma(t).to(x).reshape(-1, 1, 1)
        variances = alpha**2 * law.variances + sigma**2
        y = law.rotate(x.reshape(len(x), 1, -1) - alpha * law.means)
        posterior = torch.softmax(law.log_joint(y, variances), 1)
        denoised = law.means + law.unrotate(alpha * law.variances / variances * y)
        noise = law.unrotate(sigma / variances * y)
        return (
            torch.einsum("bk,bkd->bd", posterior, denoised).reshape(x.shape),
            torch.einsum("bk,bkd->bd", posterior, noise).reshape(x.shape),
        )


class ExactClassifier(Classifier):
    """p(y | x_t) of a mixture whose component k is of class labels[k]: the oracle of guidance.

    >>> from scorefield.sde import VP
    >>> law = GaussianMixture(torch.tensor([[-1.0], [1.0]]), variances=torch.ones(2, 1))
    >>> ExactClassifier(VP(), law, [0, 1]).log_probs(torch.zeros(1, 1), torch.tensor(0.5)).exp()
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, sde: LinearSDE, law: GaussianMixture, labels: Sequence[int], names: Sequence[str] = ()) -> None:
        super().__init__()
        self.sde, self.law, self.labels = sde, law, tuple(labels)
        self.classes, self.names = max(self.labels) + 1, tuple(names)
        if len(self.labels) != len(law.means) or set(self.labels) != set(range(self.classes)):
            raise ValueError(
                f"labels {list(labels)} of {len(law.means)} components, expected one for each and every class from 0 on"
            )

    def law_of(self, label: int | str) -> GaussianMixture:
        """The law of the data of one class."""
        return self.law.part([i for i, given in enumerate(self.labels) if given == self.index(label)])

    def forward(self, x: Data, t: Time) -> LogProbs:
        """Log-probabilities of the classes: one evaluation."""
        law = self.law
        alpha = self.sde.alpha(t).to(x).reshape(-1, 1, 1)
        sigma = self.sde.sigma(t).to(x).reshape(-1, 1, 1)
        typical = law.variances.mean()
        reference, variances = alpha**2 * typical + sigma**2, alpha**2 * law.variances + sigma**2
        means = law.rotate(law.means[None])
        y = law.rotate(x.reshape(len(x), 1, -1).expand(-1, len(law.means), -1))
        bend = alpha * (typical - law.variances)
        quadratic = alpha * (bend * y * y / reference - 2 * means * y + alpha * means**2) / variances
        volume = torch.log1p(-alpha * bend / reference)
        components = torch.log_softmax(law.log_weights - 0.5 * (quadratic + volume).sum(-1), 1)
        labels = torch.tensor(self.labels, device=x.device)
        others = labels != torch.arange(self.classes, device=x.device)[:, None]
        return torch.logsumexp(components[:, None].masked_fill(others, -math.inf), 2)

    def log_probs(self, x: Data, t: Time) -> LogProbs:
        """log p(y | x_t) of every class, by eq. (2)."""
        log_probs: Tensor = self(x, t)
        return log_probs
