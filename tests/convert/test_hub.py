"""The hub, without a network: a client that keeps repositories in folders."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors
import pytest
import torch
import yaml

import scorefield as sf
from scorefield.checkpoint import load_model, read_checkpoint
from scorefield.convert.diffusers import write_diffusers
from scorefield.convert.download import download, wanted_files
from scorefield.convert.weights import ConversionError
from scorefield.recipes import load_recipe, parse_recipe
from scorefield.recipes.build import build
from scorefield.recipes.hub import model_card


class Client:
    """What this library uses of huggingface_hub.HfApi."""

    root: Path
    online = True
    calls: list = []  # noqa: RUF012

    def __init__(self, token=None):
        self.calls.append(("token", token))

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.calls.append(("create", repo_id, private))
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def list_repo_files(self, repo_id, *, revision):
        self.calls.append(("list", repo_id, revision))
        if not self.online:
            raise huggingface_hub.errors.HTTPError("no network")
        if not (self.root / repo_id).is_dir():
            raise OSError(f"404: no repository {repo_id}")
        return sorted(p.relative_to(self.root / repo_id).as_posix() for p in (self.root / repo_id).rglob("*"))

    def snapshot_download(self, repo_id, *, revision, allow_patterns=None, local_files_only=False):
        cache = self.root / "cache" / repo_id
        if local_files_only:
            if not cache.is_dir():
                raise FileNotFoundError("not in the cache")
            return str(cache)
        self.calls.append(("download", repo_id, revision, allow_patterns))
        for name in allow_patterns:
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / repo_id / name, cache / name)
        return str(cache)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(Client, "root", tmp_path / "hub", raising=False)
    monkeypatch.setattr(Client, "calls", [])
    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    return Client


def small():
    return build(load_recipe("table", ["data.shape=[3]", "model.width=8", "model.depth=1"])).eval()


def test_a_pushed_model_is_loaded_by_its_name(hub):
    model = small()
    address = model.push_to_hub("org/dots", private=True, token="secret", steps=7)
    assert address == "https://huggingface.co/org/dots"
    assert hub.calls == [("token", "secret"), ("create", "org/dots", True)]
    pushed = hub.root / "org" / "dots"
    assert sorted(path.name for path in pushed.iterdir()) == ["README.md", "model.json", "weights.safetensors"]
    assert read_checkpoint(pushed).metadata == {"steps": 7}
    loaded = sf.load("hub:org/dots", device="cpu")
    assert hub.calls[-1] == ("download", "org/dots", None, ["model.json", "weights.safetensors"])
    x, t = torch.randn(2, 3), torch.tensor(0.5)
    assert torch.equal(loaded.score(x, t), model.score(x, t))
    assert loaded.metadata == {"steps": 7}


def test_a_revision_and_a_folder_of_diffusers(hub):
    recipe = {
        "data": {"shape": [3, 8, 8]},
        "sde": {"name": "ddpm"},
        "model": {
            "channels": 32,
            "multipliers": [1],
            "blocks": 1,
            "attention": [],
            "residual": "ddpm",
            "rescale": False,
            "group_channels": 1,
            "time_label": "ascending_index",
        },
    }
    model = build(parse_recipe(recipe, "test")).eval()
    write_diffusers(model, hub.root / "google" / "ddpm")
    loaded = sf.load("hub:google/ddpm@v1.0", device="cpu")
    assert hub.calls[-1][:3] == ("download", "google/ddpm", "v1.0")
    x, t = torch.randn(2, 3, 8, 8), torch.tensor(0.5)
    torch.testing.assert_close(loaded.score(x, t), model.score(x, t))
    assert loaded.metadata == {"training": "unknown"}


def test_without_a_network_the_cache_is_read(hub, monkeypatch):
    small().push_to_hub("org/dots")
    sf.load("hub:org/dots")
    monkeypatch.setattr(hub, "online", False)
    assert load_model(download("hub:org/dots")).space.shape == (3,)
    with pytest.raises(OSError, match="hub:org/others cannot be downloaded: no network"):
        download("hub:org/others")


def test_what_the_hub_refuses_is_one_line(hub, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise huggingface_hub.errors.HTTPError("403\nForbidden")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(OSError, match="org/dots cannot be uploaded: 403 Forbidden"):
        small().push_to_hub("org/dots")


def test_what_cannot_be_downloaded(hub):
    with pytest.raises(OSError, match="404: no repository org/none"):
        sf.load("hub:org/none")
    (hub.root / "org" / "text").mkdir(parents=True)
    (hub.root / "org" / "text" / "model.safetensors").touch()
    with pytest.raises(ConversionError, match="hub:org/text holds no model that can be read"):
        sf.load("hub:org/text")
    for name in ("hub:dots", "hub:org/../dots", "hub:https://example.com/x", "hub:org/dots@", "hub:"):
        with pytest.raises(ConversionError, match="is no name of the hub, expected hub:ORG/NAME"):
            sf.load(name)
    assert not [call for call in hub.calls if call[0] == "download"]


@pytest.mark.parametrize("name", ["../..", "a/b--c", "org/dots.git", "-org/dots"])
def test_names_that_the_client_rejects_are_one_line(name):
    with pytest.raises(OSError, match=f"hub:{re.escape(name)} cannot be downloaded: ") as caught:
        sf.load(f"hub:{name}")
    assert "\n" not in str(caught.value)


def test_no_other_name_reaches_the_hub(hub):
    for name in ("org/dots", "./hub:org/dots", "google/ddpm-cifar10-32"):
        with pytest.raises(ValueError, match="no model"):
            sf.load(name)
    assert hub.calls == []


def test_one_file_of_weights_is_wanted():
    weights = [f"unet/diffusion_pytorch_model.{kind}" for kind in ("bin", "safetensors", "fp16.safetensors")]
    files = [*weights, "unet/config.json", "scheduler/scheduler_config.json", "model.ckpt", "images/1.png"]
    assert wanted_files(files) == [
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert wanted_files(["config.json", "pytorch_model.bin"]) == []


def test_the_card_says_how_to_load_what_is_known_and_the_recipe():
    model = small()
    card = model_card("org/dots", model.recipe, {"steps": 7, "note": "a|b\nc", "bits": {"mean": 2.5}})
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "scorefield",
        "tags": ["score-based-generative-modeling", "diffusion", "vp", "mlp"],
    }
    assert text.startswith("\n# dots\n")
    assert 'sf.load("hub:org/dots")' in text
    assert '| steps | 7 |\n| note | a\\|b c |\n| bits | {"mean": 2.5} |\n' in text
    recipe = text.partition("```yaml\n")[2].partition("```")[0]
    assert parse_recipe(yaml.safe_load(recipe), "card") == model.recipe
    assert "## Training" not in model_card("org/dots", model.recipe, {})
    recipe = model_card("org/dots", model.recipe, {"training": "unknown"}).partition("```yaml\n")[2].partition("```")[0]
    assert list(yaml.safe_load(recipe)) == ["data", "sde", "model", "sampling"]


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'scorefield\[hub\]'"):
        small().push_to_hub("org/dots")


def test_loading_imports_neither_the_hub_nor_diffusers_nor_the_compiler():
    code = """
import sys, scorefield as sf, scorefield.convert.diffusers
from scorefield.nn.weightless import weightless
from scorefield.recipes import load_recipe, preset_names
from scorefield.recipes.build import build
sf.sample(sf.load("mnist"), 1, steps=1)
with weightless():
    networks = [build(load_recipe(name)) for name in preset_names()]
assert not {"huggingface_hub", "diffusers", "torch._dynamo"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
