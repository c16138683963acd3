"""Names that the command line states again, because it shows its help without torch, are those of the library."""

from inspect import signature
from typing import get_args

import pytest

from scorefield import times
from scorefield.cli import choices, options
from scorefield.conditional import Method
from scorefield.data import open_data
from scorefield.network_model import Precision
from scorefield.recipes.schema import Evaluation, Sampling, Training


def parameter(function, name):
    return signature(function, eval_str=True).parameters[name].annotation


@pytest.mark.parametrize(
    ("given", "others"),
    [
        (
            options.GridName,
            [get_args(times.GridName), times.GRIDS, get_args(Sampling.model_fields["grid"].annotation)],
        ),
        (options.PredictorName, [choices._PREDICTORS]),
        (options.MethodName, [get_args(Method)]),
        (
            options.PrecisionName,
            [get_args(Precision), get_args(Training.model_fields["precision"].annotation)],
        ),
        (
            options.Split,
            [get_args(parameter(open_data, "split")), get_args(Evaluation.model_fields["split"].annotation)],
        ),
    ],
    ids=["grid", "sampler", "method", "precision", "split"],
)
def test_names_are_the_same_everywhere(given, others):
    names = sorted(get_args(given))
    assert names
    for other in others:
        assert sorted(other) == names
