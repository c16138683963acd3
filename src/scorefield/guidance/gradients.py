"""Conjugate gradients for many small systems at once, each with a pace and an end of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from scorefield.shapes import expand


def solve(apply: Callable[[Tensor], Tensor], b: Tensor, *, tol: float, iterations: int) -> Tensor:
    """w with apply(w) = b for each of a batch, where `apply` is symmetric and positive on the way from b.

    Stops at |apply(w) - b| <= tol |b|, after so many `iterations`, or where `apply` turns out not to be positive, as it
    may for the Jacobian of a network: w is then what was found so far. (Hestenes & Stiefel 1952.)

    >>> solve(lambda w: 2 * w, torch.ones(1, 3), tol=1e-6, iterations=5)
    tensor([[0.5000, 0.5000, 0.5000]])
    """
    w, residual = torch.zeros_like(b), b
    direction, size = residual, _squared(residual)
    enough = tol**2 * size
    for _ in range(iterations):
        image = apply(direction)
        curvature = _inner(direction, image)
        going = (size > enough) & (curvature > 0)
        if not bool(going.any()):
            break
        step = torch.where(going, size / torch.where(going, curvature, 1), 0)
        w = w + expand(step, w) * direction
        residual = residual - expand(step, w) * image
        before, size = size, torch.where(going, _squared(residual), 0)
        direction = residual + expand(torch.where(going, size / torch.where(going, before, 1), 0), w) * direction
    return w


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a.conj() * b).real.flatten(1).sum(1)


def _squared(a: Tensor) -> Tensor:
    return _inner(a, a)
