"""Linear systems, many small ones at once, each with an end of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

from scorefield.shapes import single

_ROUNDING, _COARSE = 100, 0.01
"""An image below so many roundings of what the map makes elsewhere, or below this share of it where numbers are coarser
than that, is none: the direction is not seen."""


def solve(apply: Callable[[Tensor], Tensor], b: Tensor, *, tol: float, iterations: int) -> Tensor:
    """w with apply(w) = b for each of a batch, of a linear `apply` that is symmetric and positive, or nearly so.

    Looks for w among b and its images under powers of `apply`, one for each of the `iterations`, which cost an
    application each; ends before where |apply(w) - b| <= tol |b|, and where all that is left is in the null space.
    Among these, conjugate gradients take the w whose error is orthogonal to them all, which is the best one for a
    symmetric and positive map. The Jacobian of a network is not quite such a map, and then that w may lie anywhere: it
    is moved towards the one that leaves least until it leaves no more than |b| (full orthogonalization, Saad 1981;
    generalized conjugate residuals, Eisenstat et al. 1983). Where only the null space is left, the least it is.

    >>> solve(lambda w: 2 * w, torch.ones(1, 3), tol=1e-6, iterations=5)
    tensor([[0.5000, 0.5000, 0.5000]])
    """

    def flat(y: Tensor) -> Tensor:
        return single((torch.view_as_real(y) if y.is_complex() else y).flatten(1))

    def shaped(v: Tensor) -> Tensor:
        real = v.to(b.real.dtype)
        return torch.view_as_complex(real.reshape(*b.shape, 2)) if b.is_complex() else real.reshape(b.shape)

    null = min(_ROUNDING * torch.finfo(b.real.dtype).eps, _COARSE)
    target = residual = flat(b)
    whole, gain = target.norm(dim=1), target.new_zeros(len(b))
    ended = torch.zeros(len(b), dtype=torch.bool, device=b.device)
    going = ~ended
    directions = images = target.new_zeros(len(b), 0, target.shape[1])
    for _ in range(iterations):
        going &= residual.norm(dim=1) > tol * whole
        if not bool(going.any()):
            break
        direction = torch.where(going[:, None], residual, 0)
        image = flat(apply(shaped(direction)))
        gain = torch.maximum(gain, (image.norm(dim=1) / direction.norm(dim=1)).nan_to_num(0.0))
        rounding = null * gain * direction.norm(dim=1)
        for _ in range(2):  # orthogonal to rounding
            share = torch.einsum("bkd,bd->bk", images, image)
            direction = direction - torch.einsum("bk,bkd->bd", share, directions)
            image = image - torch.einsum("bk,bkd->bd", share, images)
        size = image.norm(dim=1)
        ended |= going & (size <= rounding)
        going &= ~ended
        direction, image = (torch.where(going[:, None], v / size[:, None], 0)[:, None] for v in (direction, image))
        directions, images = torch.cat([directions, direction], 1), torch.cat([images, image], 1)
        residual = residual - torch.einsum("bkd,bd,bke->be", image, residual, image)
    least = torch.einsum("bkd,bd->bk", images, target)
    projected = torch.einsum("bkd,bd->bk", directions, target)
    done = torch.diag_embed((images == 0).all(2).to(images))  # what was solved before its batch mates has rows of zeros
    best, _ = torch.linalg.solve_ex(torch.einsum("bkd,bjd->bkj", directions, images) + done, projected[..., None])
    beyond = (best[..., 0] - least).square().sum(1)  # what is left of b beyond the least, squared
    share = (least.square().sum(1) / beyond).sqrt().clamp(max=1).nan_to_num(0.0)
    share = torch.where(ended, 0, share)
    chosen = least + share[:, None] * (best[..., 0] - least).nan_to_num(0.0, 0.0, 0.0)
    return shaped(torch.einsum("bk,bkd->bd", chosen, directions).contiguous())
