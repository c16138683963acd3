"""Counting evaluations where they happen, so that no report computes them by formula."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from scorefield.score import ScoreModel


@dataclass
class Evaluations:
    """Evaluations of a model, each of one sample: `forward`, and `backward` with respect to its input."""

    forward: int = 0
    backward: int = 0


@contextmanager
def count_evaluations(model: ScoreModel) -> Iterator[Evaluations]:
    """Count the evaluations of `model` inside the block.

    >>> import torch
    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VE
    >>> model = ExactModel(VE(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> with count_evaluations(model) as evaluations:
    ...     _ = model.score(torch.ones(8, 2), torch.tensor(0.5))
    >>> evaluations
    Evaluations(forward=8, backward=0)
    """
    evaluations = Evaluations()

    def on_forward(_: nn.Module, inputs: tuple[Any, ...], __: object) -> None:
        x: Tensor = inputs[0]
        evaluations.forward += len(x)
        if x.requires_grad:
            x.register_hook(on_backward)  # type: ignore[no-untyped-call]

    def on_backward(gradient: Tensor) -> None:
        evaluations.backward += len(gradient)

    handle = model.register_forward_hook(on_forward)
    try:
        yield evaluations
    finally:
        handle.remove()
