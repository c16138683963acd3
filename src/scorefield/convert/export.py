"""Models as programs of `torch.export`: one graph with its weights, which runs without this library.

The program takes x (batch, *data) in model units and t (batch,), of any batch size, and returns one view of the model.
It is loaded with ``torch.export.load(path).module()``, and is what PyTorch's own compilers for servers and devices
take.
"""

import json
import os
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from scorefield.data import atomic_write
from scorefield.network_model import NetworkModel
from scorefield.recipes.build import RecipeModel
from scorefield.score import ScoreModel
from scorefield.shapes import Data, Time

View = Literal["score", "denoise", "noise", "velocity", "network"]


def export(
    model: ScoreModel, path: str | os.PathLike[str] | None = None, *, view: View = "denoise", labels: bool = False
) -> ExportedProgram:
    """A view of a model as a program of `torch.export`, with any batch size; written to `path` if that is given.

    The views are "score", "denoise", "noise" and "velocity" of (x, t), and "network" of (x, c), the bare network and
    the number that it embeds. With `labels` the program takes (batch,) int64 class labels as a third argument, of which
    the number of classes means none. Dropout is off. A file's `scorefield.json` holds the view, the shape and the
    recipe.

    Raises:
        ValueError: an unknown view, or labels for a model without classes.
        TypeError: the view "network" of a model without one.

    >>> import scorefield as sf
    >>> program = export(sf.load("mnist"), view="denoise")
    >>> program.module()(torch.zeros(3, 1, 28, 28), torch.full((3,), 0.5)).shape
    torch.Size([3, 1, 28, 28])
    """
    if view not in get_args(View):
        raise ValueError(f"view {view!r}, expected one of {', '.join(get_args(View))}")
    if labels and not model.space.classes:
        raise ValueError("labels=True with a model without classes; leave it out")
    if view == "network" and not isinstance(model, NetworkModel):
        raise TypeError(f"view 'network' of {type(model).__name__}, which has none; take score")
    weight = next(model.parameters(), torch.empty(0))
    like = weight.new_zeros((), dtype=torch.promote_types(weight.dtype, torch.float32))
    arguments = [like.expand(2, *model.space.shape).clone(), (like + 0.5 * model.sde.T).expand(2).clone()]
    if labels:
        arguments.append(torch.zeros(2, dtype=torch.int64, device=like.device))
    batch = Dim("batch")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        shapes = tuple({0: batch} for _ in arguments)
        program = torch.export.export(_View(model, view), tuple(arguments), dynamic_shapes=shapes)
    finally:
        for module, training in modes:
            module.training = training
    if path is not None:
        recipe = model.recipe.model_dump(mode="json") if isinstance(model, RecipeModel) else None
        about = json.dumps({"view": view, "shape": model.space.shape, "recipe": recipe})
        with atomic_write(path) as file:
            torch.export.save(program, file, extra_files={"scorefield.json": about})
    return program


class _View(nn.Module):
    """One view of a model as a module of its own."""

    def __init__(self, model: ScoreModel, view: View) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(self, x: Data, t: Time, label: Tensor | None = None) -> Data:
        """The view."""
        if self.view == "network":
            assert isinstance(self.model, NetworkModel)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.model.precision == "bf16"):
                return self.model.network(x, t, label)  # type: ignore[no-any-return]
        model = self.model if label is None else self.model.given(label=label)
        return getattr(model, self.view)(x, t)  # type: ignore[no-any-return]
