"""Every predictor with every SDE, alone, corrected, and correctors alone: each is right, or refused; and docs/pairs.md.

The pairs, and how they are measured, are those of benchmarks/pairs.py, which writes the page.
"""

import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scorefield import samplers
from scorefield.recipes.build import SDES
from scorefield.samplers import CorrectorOnly, EulerMaruyama, Langevin, PredictorCorrector, Sampler, StochasticHeun

ROOT = Path(__file__).parent.parent.parent
pairs = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "pairs.py")))
PREDICTORS = [pytest.param(predictor, id=pairs.label(predictor)) for predictor in pairs.PREDICTORS]
LINEAR = [pytest.param(sde, id=type(sde).__name__) for sde in pairs.LINEAR]
ALONE, CORRECTED, ONLY = "Predictors alone", "With a corrector", "Correctors alone"
OF_ANY_SDE = (EulerMaruyama, StochasticHeun)
ONLY_ROW = "CorrectorOnly(Langevin(snr=0.3, steps=12))"


def written(section, row, sde):
    """What the page says."""
    table = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", pairs.PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)[1]
    cells = {name: rest.split(" | ") for name, rest in re.findall(r"^\| `(.*?)` \| (.*) \|$", table, re.MULTILINE)}
    return cells[row][pairs.SDES.index(sde)]


def check_page(section, sampler, sde, error):
    """As written, but for the rounding of two digits and, where there is chance, of another machine."""
    rel = 0.5 if sde is pairs.GENERAL else 0.06
    assert float(written(section, pairs.label(sampler), sde)) == pytest.approx(error, rel=rel)


def test_no_sampler_and_no_sde_is_missing():
    public = [getattr(samplers, name) for name in samplers.__all__]
    classes = {each for each in public if isinstance(each, type) and issubclass(each, Sampler)}
    assert {type(p) for p in pairs.PREDICTORS} == classes - {Sampler, PredictorCorrector, CorrectorOnly}
    assert {type(sde) for sde in pairs.LINEAR} == set(SDES.values())


@pytest.mark.parametrize("sde", LINEAR)
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_linear_pairs_are_right(predictor, sde):
    """Alone, the law is as near as the page says, and less so with half the steps; with the corrector, as near but for
    what is the corrector's, snr² and the part of x that multistep samplers do not know of."""
    error = pairs.error(predictor, sde)
    assert error < 0.21
    assert pairs.error(predictor, sde, 50) > 1.75 * error or error < 1e-3
    both = pairs.error(pairs.corrected(predictor, sde), sde)
    assert both < error + Langevin().snr ** 2 + 0.005
    check_page(ALONE, predictor, sde, error)
    check_page(CORRECTED, predictor, sde, both)


@pytest.mark.parametrize("sde", LINEAR)
def test_correctors_alone_are_right_where_turns_are_many(sde):
    error = pairs.error(pairs.only(sde), sde)
    assert error < 0.13
    assert pairs.error(pairs.only(sde, 4), sde) > 1.85 * error
    assert float(written(ONLY, ONLY_ROW, sde)) == pytest.approx(error, rel=0.06)


def distance(x, law):
    """Kolmogorov's, of x to its law: 0.004 by chance."""
    at = torch.sort(x.flatten())[0]
    exact = (0.5 * (1 + torch.erf((at[:, None] - law.means.T) / (2 * law.variances.T).sqrt()))) @ law.log_weights.exp()
    return float((exact - (torch.arange(len(at)) + 0.5) / len(at)).abs().max())


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_general_sdes_go_with_those_for_any_sde_and_are_refused_by_the_others(predictor):
    general = pairs.GENERAL
    for section, sampler in ((ALONE, predictor), (CORRECTED, pairs.corrected(predictor, general))):
        if isinstance(predictor, OF_ANY_SDE):
            x, law = pairs.walk(sampler, 100)
            assert distance(x, law) < 0.03
            check_page(section, predictor, general, pairs.moments_error(x, law))
        else:
            with pytest.raises(TypeError, match=r"needs a model that denoises, of a linear SDE.*use EulerMaruyama"):
                pairs.error(sampler, general)
            assert written(section, pairs.label(predictor), general) == "refused"


def test_correctors_of_general_sdes():
    x, law = pairs.walk(pairs.only(pairs.GENERAL), 100)
    assert distance(x, law) < 0.02
    assert float(written(ONLY, ONLY_ROW, pairs.GENERAL)) == pytest.approx(pairs.moments_error(x, law), rel=0.5)
    for sampler in (PredictorCorrector(EulerMaruyama(), Langevin()), CorrectorOnly(Langevin())):
        with pytest.raises(TypeError, match=r"Langevin needs a model that denoises.*Langevin with rule='norm'"):
            pairs.error(sampler, pairs.GENERAL)


def test_the_general_sde_has_the_marginals_that_it_is_said_to_have():
    """Fokker–Planck: dp/dt = -(f p)' + g² p''/2, by differences of the density."""
    t, x, h = 0.3, torch.linspace(-2, 2, 41, dtype=torch.float64), 1e-3
    sde = pairs.GENERAL

    def density(x, t):
        return sde.exact.marginal(torch.tensor(t, dtype=torch.float64)).log_prob(x[:, None]).exp()

    def flux(x):
        return sde.drift(x[:, None], torch.tensor(t, dtype=torch.float64))[:, 0] * density(x, t)

    change = (density(x, t + h) - density(x, t - h)) / (2 * h)
    curvature = (density(x + h, t) - 2 * density(x, t) + density(x - h, t)) / h**2
    expected = 0.5 * sde.diffusion(torch.tensor(t)) ** 2 * curvature - (flux(x + h) - flux(x - h)) / (2 * h)
    assert math.sqrt(float(expected.square().mean())) > 0.1
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-4)
