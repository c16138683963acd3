import json
from importlib.metadata import version

from scorefield.checkpoint import load_model
from scorefield.recipes import Recipe, load_recipe, preset_names


def test_info_counts_the_parameters_and_shows_the_recipe(cli, here):
    told = json.loads(cli("info", "grey", "--json").out)
    assert told["parameters"] == sum(p.numel() for p in load_model("./grey").network.parameters())
    assert told["metadata"] == {"steps": 3, "images_seen": 99}
    assert Recipe.model_validate(told["recipe"]) == load_model("./grey").recipe
    shown = cli("info", "grey").out
    assert f"{told['parameters']:,}" in shown
    assert "name vp" in shown


def test_recipes_are_listed_with_a_line_each(cli, here):
    lines = cli("recipes").out.splitlines()
    assert tuple(line.split()[0] for line in lines) == preset_names()
    assert all(len(line.split()) > 3 for line in lines)
    assert tuple(json.loads(cli("recipes", "--json").out)) == preset_names()


def test_a_printed_recipe_can_be_read_again(cli, here):
    (here / "mine.yaml").write_text(cli("recipes", "mnist", "model.channels=64").out)
    assert load_recipe("mine.yaml") == load_recipe("mnist", ["model.channels=64"])
    told = json.loads(cli("recipes", "mine.yaml", "--json").out)
    assert told["model"]["channels"] == 64


def test_the_version_is_the_packages(cli, here):
    assert cli("--version").out == f"scorefield {version('scorefield')}\n"
