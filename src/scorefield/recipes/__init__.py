"""Recipes: what a model is and how it was trained, checked, named, in YAML. `recipes.build` makes the model.

Importing this package does not import torch.
"""

from scorefield.recipes.load import RecipeError, describe, load_recipe, parse_recipe, preset_names, to_yaml
from scorefield.recipes.schema import Recipe

__all__ = ["Recipe", "RecipeError", "describe", "load_recipe", "parse_recipe", "preset_names", "to_yaml"]
