"""Stochastic differential equations: see `scorefield.sde.base` for the mathematics."""

from scorefield.sde.base import SDE, Density, LinearSDE, NormalPrior
from scorefield.sde.continuous import EDM, VE, VP, Cosine, RectifiedFlow, SubVP
from scorefield.sde.tables import DDPM, SMLD

__all__ = [
    "DDPM",
    "EDM",
    "SDE",
    "SMLD",
    "VE",
    "VP",
    "Cosine",
    "Density",
    "LinearSDE",
    "NormalPrior",
    "RectifiedFlow",
    "SubVP",
]
