"""Samplers on fixed time grids."""

from scorefield.samplers.base import Progress, Sampler, run
from scorefield.samplers.correctors import Corrector, CorrectorOnly, Langevin, PredictorCorrector
from scorefield.samplers.predictors import Ancestral, EulerMaruyama, Heun, ReverseDiffusion

__all__ = [
    "Ancestral",
    "Corrector",
    "CorrectorOnly",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "PredictorCorrector",
    "Progress",
    "ReverseDiffusion",
    "Sampler",
    "run",
]
