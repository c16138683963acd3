import json
import re
from importlib.metadata import version
from pathlib import Path

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


def test_info_names_the_classes_of_the_classifier_beside_a_model(cli, bundled):
    assert json.loads(cli("info", "mnist", "--json").out)["metadata"]["classifier"] == "10 classes"
    classifier = Path("bundle/mnist/classifier/model.json")
    content = json.loads(classifier.read_text())
    content["recipe"]["names"] = list("abcdefghij")
    classifier.write_text(json.dumps(content))
    assert "a, b, c, d, e, f, g, h, i, j" in cli("info", "mnist").out


def test_info_shows_texts_of_a_model_as_they_are(cli, here):
    noted = {"note": "[/]", "a [link=x]": "[red]hot[/red]", "cat": ":cat:"}
    model = json.loads((here / "grey" / "model.json").read_text())
    (here / "grey" / "model.json").write_text(json.dumps({**model, "metadata": noted}))
    (here / "grey").rename(here / "[old]")
    shown = cli("info", "[old]").out
    assert shown.count("[old]") == 2
    for text in ("[/]", "a [link=x]", "[red]hot[/red]", ":cat:"):
        assert text in shown


def test_recipes_are_listed_with_a_line_each(cli, here):
    lines = cli("recipes").out.splitlines()
    listed = [line.split()[0] for line in lines if line]
    assert sorted(listed) == sorted(preset_names())
    assert all(len(line.split()) > 3 for line in lines if line)
    assert tuple(json.loads(cli("recipes", "--json").out)) == preset_names()


def test_the_list_has_groups_and_columns(cli, here):
    groups = [group.splitlines() for group in cli("recipes").out.split("\n\n")]
    folders = [{line.split()[0].rpartition("/")[0] for line in group} for group in groups]
    assert folders == [{""}, {"subvp"}, {"ve"}, {"ve/ncsn"}, {"ve/ncsnv2"}, {"vp"}, {"vp/ddpm"}]
    (row,) = (line for group in groups for line in group if line.startswith("ve/cifar10_ncsnpp_continuous "))
    cells = [cell.strip() for cell in re.split(" {2,}", row)]
    assert cells == ["ve/cifar10_ncsnpp_continuous", "CIFAR-10", "VE", "NCSN++", "62.8M", "FID 2.38, IS 9.83"]
    starts = {line.index("CIFAR-10 ") for group in groups for line in group if " CIFAR-10 " in line}
    assert len(starts) == 1


def test_a_printed_recipe_can_be_read_again(cli, here):
    (here / "mine.yaml").write_text(cli("recipes", "mnist", "model.channels=64").out)
    assert load_recipe("mine.yaml") == load_recipe("mnist", ["model.channels=64"])
    told = json.loads(cli("recipes", "mine.yaml", "--json").out)
    assert told["model"]["channels"] == 64


def test_the_version_is_the_packages(cli, here):
    assert cli("--version").out == f"scorefield {version('scorefield')}\n"
