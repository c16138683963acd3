"""Samplers, on time grids and with steps of their own choice."""

from scorefield.samplers.adaptive import AdaptiveSDE, StochasticHeun
from scorefield.samplers.base import Adaptive, Past, Progress, Sampler, run
from scorefield.samplers.correctors import Corrector, CorrectorOnly, Langevin, PredictorCorrector
from scorefield.samplers.exponential import DEIS, AdamsBashforth, DPMSolver, DPMSolverSinglestep, UniPC
from scorefield.samplers.heun import Heun, Restart
from scorefield.samplers.predictors import DDIM, Ancestral, EulerMaruyama, ReverseDiffusion

__all__ = [
    "DDIM",
    "DEIS",
    "AdamsBashforth",
    "Adaptive",
    "AdaptiveSDE",
    "Ancestral",
    "Corrector",
    "CorrectorOnly",
    "DPMSolver",
    "DPMSolverSinglestep",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "Past",
    "PredictorCorrector",
    "Progress",
    "Restart",
    "ReverseDiffusion",
    "Sampler",
    "StochasticHeun",
    "UniPC",
    "run",
]
