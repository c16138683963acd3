"""Stochastic differential equations: see `scorefield.sde.base` for the mathematics."""

from scorefield.sde.base import SDE, LinearSDE, NormalPrior, Prior
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
    "LinearSDE",
    "NormalPrior",
    "Prior",
    "RectifiedFlow",
    "SubVP",
]
