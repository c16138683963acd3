"""Recipes by name or file, with dotted overrides.

A file states what differs from the defaults, or from the recipe that its key `base` names; a list of names stacks them,
later ones on top. A base is a recipe's name, or a path from the file that names it or from the working directory.
`base/NAME` are parts of presets, which no list of recipes shows. An override is
`section.key=value` with a YAML value. Choosing another `sde.name` or `model.network` starts that section afresh.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from scorefield.recipes.classifier import ClassifierRecipe
from scorefield.recipes.schema import Recipe, Section

Record = TypeVar("Record", bound=Section)
_PARTS = "base/"
_CHOOSERS = {"sde": "name", "model": "network"}
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises for a text that is not YAML, and for a date, a number or a tagged value that is none."""


class RecipeError(ValueError):
    """A recipe that does not exist or cannot be; one line that names the key, what is possible and the remedy."""


def preset_names() -> tuple[str, ...]:
    """The recipes that come with the package, parts of recipes left out.

    >>> "mnist" in preset_names() and "vp/cifar10_ddpmpp_continuous" in preset_names()
    True
    """
    folder = resources.files(__package__) / "presets"
    with resources.as_file(folder) as path:
        names = sorted(file.relative_to(path).with_suffix("").as_posix() for file in path.rglob("*.yaml"))
    return tuple(name for name in names if not name.startswith(_PARTS))


def describe(name: str | os.PathLike[str]) -> str:
    """What a recipe's file says about itself in the comment that it begins with; empty without one.

    >>> describe("ve/cifar10_ncsnpp_continuous")
    'CIFAR-10 · VE · NCSN++ · 62.8M · FID 2.38, IS 9.83'
    """
    first = _text(name)[0].partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def load_recipe(name: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of a preset's name or of a YAML file, changed by overrides like "model.channels=64".

    Raises:
        RecipeError: no such recipe, unknown keys, impossible values.

    >>> load_recipe("mnist", ["training.steps=100", "sde.name=subvp"]).sde.name
    'subvp'
    """
    return parse(Recipe, _read(name, ()), str(name), overrides)


def parse_recipe(tree: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of nested mappings; `where` is what messages call their origin. Raises RecipeError."""
    return parse(Recipe, tree, where)


def load_classifier_recipe(path: Path) -> ClassifierRecipe:
    """The recipe of a classifier, of a YAML file. Raises RecipeError."""
    return parse(ClassifierRecipe, _read(path, ()), str(path))


def parse(kind: type[Record], tree: Mapping[str, Any], where: str, overrides: Iterable[str] = ()) -> Record:
    """The record of that kind with what nested mappings say, changed by overrides. Raises RecipeError."""
    changed = dict(tree)
    for override in overrides:
        changed = _override(changed, override, kind)
    chosen = {
        name: {_CHOOSERS[name]: _default(name, kind), **section}
        if name in _CHOOSERS and isinstance(section, dict)
        else section
        for name, section in changed.items()
    }
    try:
        return kind.model_validate(chosen)
    except ValidationError as error:
        raise RecipeError(f"recipe {where}: {_explain(error, kind)}") from None


def unknown_sections(metadata: Mapping[str, Any]) -> set[str]:
    """The sections of a model's recipe that say nothing, those of a training of which its metadata say "unknown".

    >>> unknown_sections({"steps": 3})
    set()
    """
    return {"training", "evaluation"} if metadata.get("training") == "unknown" else set()


def to_yaml(recipe: Section, leave_out: set[str] | None = None) -> str:
    """The recipe with every value but those of sections to leave out, as YAML.

    >>> print(to_yaml(Recipe()).splitlines()[2])
      shape: [3, 32, 32]
    """
    sections = recipe.model_dump(mode="json", exclude=leave_out)
    return yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=120)


def _read(name: str | os.PathLike[str], above: tuple[str, ...]) -> dict[str, Any]:
    """The nested mappings of a preset or file, on top of those of its base."""
    text, where = _text(name)
    if where in above:
        raise RecipeError(f"recipe {where} is its own base: {' → '.join((*above, where))}; remove one `base`")
    try:
        tree = yaml.safe_load(text)
    except _NOT_YAML as error:
        raise RecipeError(f"recipe {where} is not YAML: {' '.join(str(error).split())}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise RecipeError(f"recipe {where} holds {type(tree).__name__}, expected sections: {', '.join(_sections())}")
    bases = tree.pop("base", [])
    below: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        below = _merge(below, _read(_beside(str(base), where), (*above, where)))
    return _merge(below, tree)


def _beside(base: str, where: str) -> str:
    """A base as a path from the recipe that names it if it is there, and neither a preset nor a part of presets."""
    path = Path(os.path.normpath(Path(where).parent / base))
    return str(path) if path.exists() and base not in preset_names() and not base.startswith(_PARTS) else base


def _text(name: str | os.PathLike[str]) -> tuple[str, str]:
    """What a recipe's name or path stands for, and what to call it."""
    presets = preset_names()
    if isinstance(name, str) and (name in presets or name.startswith(_PARTS)):
        file = resources.files(__package__) / "presets" / f"{name}.yaml"
        if file.is_file():
            return file.read_text(encoding="utf-8"), name
    path = Path(name)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if not path.is_file():
        close = difflib.get_close_matches(str(name), presets, 3, 0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise RecipeError(f"no recipe {name}: {hint}give a YAML file or a name that `scorefield recipes` lists")
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError:
        raise RecipeError(f"recipe {path} is not text in UTF-8; give a YAML file") from None


def _merge(below: dict[str, Any], above: Mapping[str, Any], kind: type[Section] = Recipe) -> dict[str, Any]:
    """Nested mappings on top of others."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if not isinstance(old, dict) or not isinstance(value, dict):
            merged[key] = value
            continue
        chooser = _CHOOSERS.get(key)
        if chooser in value and value[chooser] != old.get(chooser, _default(key, kind)):
            old = {}
        merged[key] = {**old, **value}
    return merged


def _default(section: str, kind: type[Section]) -> str:
    """The `sde.name` or `model.network` of a recipe that does not say."""
    return str(getattr(kind.model_fields[section].default, _CHOOSERS[section]))


def _override(tree: dict[str, Any], override: str, kind: type[Section]) -> dict[str, Any]:
    """The tree with "section.key=value" on top."""
    dotted, equals, text = override.partition("=")
    section, dot, key = dotted.strip().partition(".")
    if not equals or not dot or not key:
        raise RecipeError(f"override {override!r}, expected section.key=value, for example training.steps=1000")
    try:
        value = yaml.safe_load(text)
    except _NOT_YAML:
        raise RecipeError(f"override {override!r:.100}: {text!r:.100} is not a YAML value; quote it") from None
    return _merge(tree, {section: {key: value}}, kind)


def _sections(kind: type[Section] = Recipe) -> list[str]:
    return list(kind.model_fields)


def _explain(error: ValidationError, record: type[Section]) -> str:
    """The first of pydantic's complaints, as one line; of a key that may be one of several things, all of them."""
    problem, *others = error.errors(include_url=False)
    where, kind, context = list(problem["loc"]), problem["type"], problem.get("ctx", {})
    keys = _sections(record)
    if len(where) > 1:
        chosen = str(where.pop(1)) if where[0] in _CHOOSERS else ""
        keys = _keys(str(where[0]), chosen, record)
    of_a_union = len(where) > 2 and isinstance(where[2], str)
    dotted, given = ".".join(map(str, where[:2] if of_a_union else where)), problem["input"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(where[-1]), keys, 1, 0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        place = where[0] if len(where) > 1 else "a recipe"
        return f"unknown key {dotted}; {hint}{place} has {', '.join(keys)}"
    if kind == "union_tag_invalid":
        return f"{dotted}.{_CHOOSERS[dotted]} = {context['tag']!r}, expected {context['expected_tags']}"
    if kind == "literal_error":
        return f"{dotted} = {given!r}, expected {context['expected']}"
    key = problem["loc"][:-1]
    alike = [problem, *(other for other in others if of_a_union and other["loc"][: len(key)] == key)]
    return f"{dotted} = {given!r}: {', or '.join(one['msg'][0].lower() + one['msg'][1:] for one in alike)}"


def _keys(section: str, chosen: str, record: type[Section]) -> list[str]:
    """The keys of a section, for the choice of its `name` or `network` where it has one."""
    field = record.model_fields[section]
    for kind in get_args(field.annotation) or (field.annotation,):
        chooser = kind.model_fields.get(_CHOOSERS.get(section, ""))
        if chooser is None or chooser.default == chosen:
            return list(kind.model_fields)
    return []
