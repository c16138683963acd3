"""Guidance by a noise-conditional classifier: a class from a model of all classes (Song et al. 2021, sec. 5, app. I).

To the score is added the gradient of the log-probability of a class y,

    s_y = s + w grad log p(y | x_t),                                                              (1)

which for w = 1 is Bayes' rule: the score of the data of that class, at every t. Larger w make samples of which the
classifier is surer (Dhariwal & Nichol 2021), and are the score of no diffused density: of N(0, 1) data and a Gaussian
likelihood p(y | x_0), w = 3 does not sample the law p(x) p(y | x)³.

The gradient is taken by automatic differentiation, also where the caller has switched it off, and can itself be
differentiated where x asks for it: the likelihood of the guided flow needs its divergence.
"""

import math

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorefield.classifier import Classifier, checked_labels, of_labels
from scorefield.guidance.guided import ALWAYS, Guided, Interval, Views
from scorefield.score import Denoiser, labels_of
from scorefield.shapes import Data, Time, expand


class ClassifierGuidance(Guided):
    """The score model of the data of class `label`: a number, a name that the classifier knows, or (batch,) numbers.

    `scale` is the w of (1). The classifier must be of the model's SDE. NFE counts the model's evaluations; with each
    goes one of the classifier, forwards and backwards, where the interval has it.

    >>> from scorefield.exact import ExactClassifier, ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> law = GaussianMixture(torch.tensor([[-1.0], [1.0]]), variances=torch.full((2, 1), 0.01))
    >>> guided = ClassifierGuidance(ExactModel(VP(), law), ExactClassifier(VP(), law, [0, 1]), label=1)
    >>> guided.denoise(torch.zeros(1, 1), torch.tensor(0.5)).round(decimals=2)
    tensor([[1.]])
    """

    def __init__(
        self,
        model: Denoiser,
        classifier: Classifier,
        label: Tensor | int | str,
        scale: float = 1.0,
        interval: Interval = ALWAYS,
    ) -> None:
        super().__init__(model, interval)
        if classifier.sde != model.sde:
            raise ValueError(
                f"a classifier for {classifier.sde} with a model of {model.sde}: it must be trained on data perturbed "
                "by the model's SDE"
            )
        if not math.isfinite(scale):
            raise ValueError(f"guidance of scale {scale}, expected a finite number")
        self.classifier, self.label, self.scale = classifier, checked_labels(label, classifier), scale

    def guide(self, x: Data, t: Time, views: Views, gains: tuple[Time, ...]) -> tuple[Data, ...]:
        """Each view with its gain from the classifier's gradient."""
        own, gradient = self(x, t, self.model, views), self.gradient(x, t)
        return tuple(view + expand(gain, x) * gradient for view, gain in zip(own, gains, strict=True))

    def gradient(self, x: Data, t: Time) -> Data:
        """w grad log p(y | x_t), zero outside the interval."""
        inside = self.interval.inside(self.sde, t)
        if not bool(inside.any()):
            return torch.zeros_like(x)
        labels = torch.as_tensor(self.label, device=x.device)
        if labels.ndim and len(labels) != len(x):
            raise ValueError(
                f"{len(labels)} labels for a batch of {len(x)}: bind one label, or one for each of a batch"
            )
        differentiable = x.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            y = x.view_as(x) if differentiable else x.detach().clone().requires_grad_()
            chosen = of_labels(self.classifier.log_probs(y, t.clone()), labels.clone().expand(len(x)))
            (gradient,) = torch.autograd.grad(chosen.sum(), y, create_graph=differentiable)
        weight = torch.where(inside, self.scale, 0.0)
        return expand(weight, x) * gradient

    def select(self, rows: Int64[Tensor, "rows"]) -> Guided:
        """This model for some samples of its batch: of labels that belong to each sample, those."""
        bound, label = super().select(rows), labels_of(self.label, rows)
        return bound if label is self.label else bound._with(label=label)
