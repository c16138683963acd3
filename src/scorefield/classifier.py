"""Noise-conditional classifiers: log p(y | x_t) of noisy data at every time, whose gradient turns a score model of all
classes into one of a single class (Song et al. 2021, sec. 5; Dhariwal & Nichol 2021).

With x_t = alpha x_0 + sigma z and classes y of x_0, Bayes' rule at each time t is

    grad log p_t(x | y) = grad log p_t(x) + grad log p(y | x_t)                                   (1)

where p(y | x_t) must be that of the noisy x_t: a classifier of clean data knows nothing of it. One is trained by
cross-entropy on perturbed data, whose minimum over all functions of (x, t) is p(y | x_t) itself,

    min E_t E_(x_0, y) E_z  -log q(y | alpha x_0 + sigma z, t).                                   (2)
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scorefield.network_model import TimeLabel
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Time, expand
from scorefield.space import DataSpace

LogProbs = Float[Tensor, "batch classes"]


class Classifier(nn.Module, ABC):
    """Log-probabilities of the classes of noisy data. x is (batch, *data) in model units, t is () or (batch,).

    `names` are what the classes are called, () where nobody said.
    """

    sde: LinearSDE
    classes: int
    names: tuple[str, ...] = ()

    @abstractmethod
    def log_probs(self, x: Data, t: Time) -> LogProbs:
        """log p(y | x_t) of every class y."""

    def index(self, label: int | str) -> int:
        """The number of a class, given as a number or by its name. Raises ValueError where there is none."""
        return class_index(label, self.classes, self.names)


def class_index(label: int | str, classes: int, names: Sequence[str] = ()) -> int:
    """The number of one of so many classes, given as a number or by its name, in digits also as a text.

    >>> class_index("cat", 2, ("dog", "cat")), class_index("0", 2)
    (1, 0)
    """
    if isinstance(label, str) and label in names:
        return list(names).index(label)
    try:
        number = (int(label) if label.isdecimal() else -1) if isinstance(label, str) else operator.index(label)
    except TypeError:  # a fraction, or several
        number = -1
    if not 0 <= number < classes:
        named = f" or one of {', '.join(names)}" if names else ""
        raise ValueError(f"label {label}, expected 0 to {classes - 1}{named}")
    return number


def checked_labels(label: Tensor | int | str, classifier: Classifier) -> Tensor | int:
    """A label as a number, or (batch,) int64 labels, of the classifier's classes. Raises ValueError."""
    if not isinstance(label, Tensor):
        return classifier.index(label)
    if label.is_floating_point() or label.ndim > 1:
        raise ValueError(f"labels of type {label.dtype}, shape {tuple(label.shape)}; expected (batch,) of int64")
    if bool(((label < 0) | (label >= classifier.classes)).any()):
        raise ValueError(f"labels {label.tolist()}, expected 0 to {classifier.classes - 1}")
    return label.long()


def of_labels(log_probs: LogProbs, labels: Int64[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """The entry of each sample's label."""
    return log_probs.gather(1, labels[:, None])[:, 0]


class NetworkClassifier(Classifier):
    """A network as a noise-conditional classifier: `network(y, c)` gives logits (batch, classes).

    It is shown y = x/n, n² = alpha² d² + sigma² with the standard deviation d of the data (`data_std`), of order one
    at every time and for every SDE, and the number c of a time label.

    >>> from scorefield.network_model import QuarterLogSNR
    >>> from scorefield.sde import VP
    >>> class Undecided(nn.Module):
    ...     def forward(self, y, c): return torch.zeros(len(y), 2)
    >>> classifier = NetworkClassifier(Undecided(), VP(), DataSpace((2,), classes=2), QuarterLogSNR())
    >>> classifier.log_probs(torch.zeros(1, 2), torch.tensor(0.5)).exp()
    tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        network: nn.Module,
        sde: LinearSDE,
        space: DataSpace,
        time_label: TimeLabel,
        *,
        data_std: float = 0.5,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if space.classes < 2 or len(names) not in (0, space.classes):
            raise ValueError(
                f"a classifier of {space.classes} classes with {len(names)} names, expected 2 or more classes, and a "
                "name for each or none"
            )
        self.network, self.sde, self.space, self.time_label = network, sde, space, time_label
        self.data_std, self.classes, self.names = data_std, space.classes, tuple(names)

    def forward(self, x: Data, t: Time) -> LogProbs:
        """Logits: one evaluation."""
        n = torch.hypot(self.sde.alpha(t) * self.data_std, self.sde.sigma(t))
        c = self.time_label(self.sde, t).to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(len(x))
        logits: Tensor = self.network(x / expand(n, x), c)
        return logits.to(x.dtype)

    def log_probs(self, x: Data, t: Time) -> LogProbs:
        """The logarithms of the softmax of the logits."""
        return torch.log_softmax(self(x, t), 1)
