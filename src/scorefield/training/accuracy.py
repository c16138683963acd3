"""How often a classifier of noisy data is right, and how well it knows when, at several levels of noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scorefield.classifier import NetworkClassifier, of_labels
from scorefield.data import Source
from scorefield.noise import Noise
from scorefield.shapes import expand

RATIOS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Accuracy:
    """At noise-to-signal ratio sigma/alpha = `ratio`: the share of right answers, and -log p(label) on average."""

    ratio: float
    accuracy: float
    cross_entropy: float


@torch.no_grad()
def accuracy(
    classifier: NetworkClassifier,
    source: Source,
    ratios: Sequence[float] = RATIOS,
    *,
    seed: int = 0,
    batch_size: int = 250,
) -> list[Accuracy]:
    """What a classifier makes of labelled data with noise; a ratio below the least that the SDE has is that one."""
    sde, space, labels = classifier.sde, classifier.space, source.labels
    assert labels is not None
    device = next(classifier.parameters()).device
    rows = []
    for ratio in ratios:
        logsnr = -2 * torch.log(torch.tensor(max(ratio, 1e-30), dtype=torch.float64))
        t = sde.time(logsnr).clamp(sde.t_min, sde.T)
        right, nats = 0, 0.0
        for start in range(0, len(source), batch_size):
            indices = range(start, min(start + batch_size, len(source)))
            x0 = space.to_model(torch.stack([source.item(i) for i in indices])).to(device)
            z = Noise(seed, indices, device, "accuracy").normal(space.shape)
            log_probs = classifier.log_probs(expand(sde.alpha(t), x0) * x0 + expand(sde.sigma(t), z) * z, t)
            expected = labels[list(indices)].to(device)
            right += int((log_probs.argmax(1) == expected).sum())
            nats -= float(of_labels(log_probs, expected).sum())
        rows.append(Accuracy(ratio, right / len(source), nats / len(source)))
    return rows
