"""The two schedules of a training: the learning rate and the decay of the averaged weights.

With n the number of steps done, N all of them, w the warm-up and d the fraction of the steps over which the rate falls,

    lr(n) = lr · min(1, n/w) · min(1, (N - n)/(d N))                                        (1)
    decay(n) = min(limit, (1 + n)/(10 + n))                                                 (2)

The first factor of (1) is Ho et al.'s (2020) linear warm-up, which starts at 0. The second keeps the rate constant and
then takes it to zero (Hu et al. 2024, "warm-up, stable, decay"): since it looks at the end only, a training may be made
shorter or longer while it runs, up to the start of its decay. (2) lets the average follow the weights at first and
forget where they started; Song et al. (2021) use it with limits 0.999 and 0.9999.
"""

import math

import torch
from torch import nn


def learning_rate(step: int, *, steps: int, lr: float, warmup: int, decay: float) -> float:
    """The rate (1) of the training step after `step` steps.

    >>> [round(learning_rate(n, steps=100, lr=1.0, warmup=10, decay=0.2), 2) for n in (0, 5, 10, 80, 90, 99)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.05]
    """
    rise = min(1.0, step / warmup) if warmup else 1.0
    fall = min(1.0, (steps - step) / (decay * steps)) if decay else 1.0
    return lr * rise * max(0.0, fall)


def ema_decay(step: int, limit: float) -> float:
    """The decay (2) of the average after `step` steps, the present one included.

    >>> ema_decay(1, 0.9999), ema_decay(10**6, 0.9999)
    (0.18181818181818182, 0.9999)
    """
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average ← decay · average + (1 - decay) · network, parameter by parameter; buffers are copied."""
    if not math.isfinite(decay) or not 0 <= decay <= 1:
        raise ValueError(f"decay {decay} of averaged weights, expected 0 to 1")
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(theirs)
