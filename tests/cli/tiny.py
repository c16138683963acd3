"""Tiny models of random weights, and the command that trains one."""

from pathlib import Path

import torch

from scorefield.checkpoint import load_model, save_classifier, save_model
from scorefield.recipes import load_recipe
from scorefield.recipes.build import build
from scorefield.recipes.build_classifier import build_classifier, classifier_recipe

TINY = ("model.channels=8", "model.multipliers=[1,2]", "model.blocks=1", "model.attention=[]", "model.dropout=0")
SMALL = ["train", "mnist", "--data", "example:mnist", "--resize", "--out", "run", "data.shape=[1,8,8]", *TINY]


def tiny_model(folder: Path, shape: tuple[int, ...], *changes: str) -> None:
    torch.manual_seed(0)
    model = build(load_recipe("mnist", [f"data.shape={list(shape)}", *TINY, *changes]))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02)
    save_model(model, folder, steps=3, images_seen=99)


def tiny_classifier(folder: Path) -> None:
    """A classifier of ten classes beside a model."""
    torch.manual_seed(0)
    small = ["model.channels=8", "model.multipliers=[1]", "model.attention=[]"]
    save_classifier(
        build_classifier(classifier_recipe(load_model(folder).recipe, 10, overrides=small)), folder / "classifier"
    )
