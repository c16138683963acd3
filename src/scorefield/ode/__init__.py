"""Adaptive integration of batches of ordinary differential equations; knows no SDE."""

from scorefield.ode.adams import ADAMS, Adams
from scorefield.ode.base import IntegrationError, Method, Slope
from scorefield.ode.runge_kutta import BOGACKI_SHAMPINE, DORMAND_PRINCE, RungeKutta
from scorefield.ode.solve import solve

__all__ = [
    "ADAMS",
    "BOGACKI_SHAMPINE",
    "DORMAND_PRINCE",
    "Adams",
    "IntegrationError",
    "Method",
    "RungeKutta",
    "Slope",
    "solve",
]
