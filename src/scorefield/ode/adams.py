"""Adams's method, predict-evaluate-correct, with a step and an order of its own for each sample.

Through the last k slopes f_j at u_j goes a polynomial, and its integral over the next step predicts y; the slope there,
evaluated once, joins them and the integral of the new polynomial is the step (Hairer, Nørsett & Wanner, III.5):

    y* = y + sum_j c_j f_j,    y+ = y + c'_new f(u + h, y*) + sum_j c'_j f_j,    c_j = integral of l_j         (1)

with Lagrange's polynomials l_j of the nodes that take part. What the last of them changes is the error, and the order
moves to that neighbour which promises the longest step. A step costs one evaluation, at any order: where a sample needs
a few tens of evaluations in all, that is what counts.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from scorefield.ode.base import Method, Problem, Walk

_POINTS, _WEIGHTS = torch.from_numpy(np.stack(np.polynomial.legendre.leggauss(4)))
_TRIED = torch.tensor([0, -2, -1, 0, 1])
"""The orders of the predictor and of the correctors, beyond the walk's own."""
_SAFETY, _SHRINK, _GROW, _REJECTED = 0.7, 0.3, 2.0, 0.7


@dataclass(frozen=True)
class Adams(Method):
    """Adams's method with at most `order` past slopes.

    Its memory is the past slopes, latest first, their u, and how many there are.
    """

    order: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 6:
            raise ValueError(f"Adams of order {self.order}, expected 1 to 6")

    def begin(self, walk: Walk, slopes: Tensor) -> Walk:
        """One slope is known, and used."""
        past = torch.zeros(len(slopes), self.order, slopes.shape[1], dtype=slopes.dtype, device=slopes.device)
        past[:, 0] = slopes
        return replace(walk, memory=(past, walk.u[:, None].repeat(1, self.order), torch.ones_like(walk.rows)))

    def step(self, problem: Problem, walk: Walk) -> tuple[Tensor, Walk]:
        """Predict, evaluate, correct; then the next step and order."""
        (slopes, places, known), k = walk.memory, walk.order[:, None]
        h, after = problem.ahead(walk)
        nodes = (torch.cat([after[:, None], places], 1) - walk.u[:, None]) / h[:, None]
        index = torch.arange(self.order + 1, device=h.device)
        orders = k + _TRIED.to(h.device)
        used = index <= orders[..., None]
        used[:, 0, 0] = False  # the predictor's
        weights = h[:, None, None] * _integrals(nodes, used)

        predicted = walk.state + _sums(weights[:, :1, 1:], slopes)[:, 0]
        slopes = torch.cat([problem.slopes(after, predicted, walk.along)[:, None], slopes], 1)
        sums = _sums(torch.cat([weights[:, 3:4], weights[:, 1:].diff(dim=1)], 1), slopes)
        corrected, differences = walk.state + sums[:, 0], sums[:, 1:]

        e = problem.relative(differences, corrected) / problem.allowed(h)[:, None]
        e = e.nan_to_num(torch.inf, posinf=torch.inf).clamp(min=1e-12)
        taken = e[:, 1] <= 1
        possible = torch.cat([k > 1, k <= known[:, None], taken[:, None] & (k < known[:, None])], 1)
        reach = torch.where(possible, _SAFETY * e ** (-1 / orders[:, 2:].clamp(min=1)), 0)
        longest, choice = reach.max(1)
        scale = torch.minimum(longest.clamp(_SHRINK, _GROW), torch.where(taken, _GROW, _REJECTED))

        places = torch.cat([after[:, None], places[:, :-1]], 1)
        memory = slopes[:, :-1], places, (known + 1).clamp(max=self.order)
        order = walk.order + choice - 1
        return taken, replace(walk, u=after, h=h * scale, order=order, state=corrected, memory=memory)


ADAMS = Adams()


def _sums(weights: Float64[Tensor, "walking sums slopes"], slopes: Tensor) -> Tensor:
    """Weighted sums of slopes, (walking, sums, numbers)."""
    return weights.to(slopes) @ slopes


def _integrals(
    nodes: Float64[Tensor, "walking nodes"], used: Bool[Tensor, "walking orders nodes"]
) -> Float64[Tensor, "walking orders nodes"]:
    """The integrals from 0 to 1 of Lagrange's polynomials of the nodes in use, 0 for the others.

    Four points of Gauss integrate polynomials of degree 7.
    """
    x = 0.5 + 0.5 * _POINTS.to(nodes.device)
    skip = ~used[..., None, :] | torch.eye(nodes.shape[-1], dtype=torch.bool, device=nodes.device)
    factors = (x - nodes[:, None, :, None]) / (nodes[:, :, None] - nodes[:, None, :])[..., None]
    polynomials = torch.where(skip[..., None], 1, factors[:, None]).prod(-2)
    return torch.where(used, polynomials @ (0.5 * _WEIGHTS.to(nodes.device)), 0)
