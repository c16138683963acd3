"""The default method is what the record of photographs says it is."""

import json
from inspect import signature
from pathlib import Path

import pytest

from scorefield.conditional import _sampled

RECORD = max((Path(__file__).parents[2] / "benchmarks" / "records").glob("*_restoration"))
PROBLEMS = ("box", "random", "colour", "superres")
DEFAULT = f"scorefield {signature(_sampled).parameters['method'].default}"


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_nothing_is_better_than_the_default_in_all(problem):
    """For as many evaluations, the most that were spent: in the energy score and in PSNR, of images that both saw."""
    results = json.loads((RECORD / f"results_{problem}.json").read_text("utf-8"))
    budget = max(int(key.rpartition(" ")[2]) for key in results)
    ours = results[f"{DEFAULT} {budget}"]
    others = [results[key] for key in results if key.endswith(f" {budget}")]
    assert len(others) > 2
    for other in others:
        images = min(len(ours["psnr"]), len(other["psnr"]))
        nearer = mean(other["energy"]) < mean(ours["energy"])
        assert not (nearer and mean(other["psnr"][:images]) > mean(ours["psnr"][:images]))
