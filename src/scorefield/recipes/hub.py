"""A model as a repository of the Hugging Face hub: its two files and a model card.

Needs the `hub` extra.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from scorefield.recipes.load import to_yaml, unknown_sections
from scorefield.recipes.schema import Recipe

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from scorefield.recipes.build import RecipeModel


def hub_api(token: str | None = None) -> "HfApi":
    """The hub's client. Raises ImportError, with the remedy, where the `hub` extra is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ImportError("the hub needs huggingface_hub: pip install 'scorefield[hub]'") from None
    return HfApi(token=token)


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what the hub, its client or the network on the way there refuses into an OSError of one line."""
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (OSError, HTTPError, HFValidationError) as error:
        raise OSError(f"{what}: {' '.join(str(error).split())}") from error


def push(
    model: "RecipeModel",
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload model",
    **metadata: Any,
) -> str:
    """Upload a model and its card to the repository `ORG/NAME`, which is made if it is not there; returns its address.

    `token` is that of `hf auth login` unless given. Raises OSError where the hub refuses.
    """
    api = hub_api(token)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, **metadata)
        card = model_card(repo_id, model.recipe, {**model.metadata, **metadata})
        (Path(folder) / "README.md").write_text(card, encoding="utf-8")
        with hub_errors(f"{repo_id} cannot be uploaded"):
            repository = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    return str(repository)


def model_card(repo_id: str, recipe: Recipe, metadata: Mapping[str, Any]) -> str:
    """What a model's repository says about it: how to load it, what is known of it, and its recipe.

    >>> print(model_card("org/dots", Recipe(), {"steps": 7}).splitlines()[1])
    library_name: scorefield
    """
    head: dict[str, Any] = {"library_name": "scorefield"}
    if len(recipe.data.shape) == 3:
        head["pipeline_tag"] = "unconditional-image-generation"
    head["tags"] = ["score-based-generative-modeling", "diffusion", recipe.sde.name, recipe.model.network]
    shape = " × ".join(map(str, recipe.data.shape))
    known = "".join(f"| {key} | {_cell(value)} |\n" for key, value in metadata.items())
    table = f"## Training\n\n| | |\n|---|---|\n{known}\n" if known else ""
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

# {repo_id.rpartition("/")[2]}

A score-based generative model of data of shape {shape}: the SDE `{recipe.sde.name}`, the network
`{recipe.model.network}`, which predicts `{recipe.model.parameterization}`. Made with scorefield.

```python
import scorefield as sf

model = sf.load("hub:{repo_id}")
samples = sf.sample(model, 16, seed=0)
```

{table}## Recipe

```yaml
{to_yaml(recipe, unknown_sections(metadata))}```
"""


def _cell(value: Any) -> str:
    """A value in a cell of a table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.replace("|", "\\|").split())
