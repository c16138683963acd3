"""Conditional generation from unconditional models."""

from scorefield.guidance.ddrm import DDRM
from scorefield.guidance.measurement import Measurement
from scorefield.guidance.operators import (
    Average,
    Blur,
    Fourier,
    Grey,
    Linear,
    Mask,
    Matrix,
    Operator,
    Physics,
    Spectral,
)
from scorefield.guidance.posterior import Covariance, Full, Isotropic, Nothing, Posterior, Proximal, RowSums
from scorefield.guidance.replacement import Replacement, Resampled
from scorefield.guidance.smc import TwistedSMC

__all__ = [
    "DDRM",
    "Average",
    "Blur",
    "Covariance",
    "Fourier",
    "Full",
    "Grey",
    "Isotropic",
    "Linear",
    "Mask",
    "Matrix",
    "Measurement",
    "Nothing",
    "Operator",
    "Physics",
    "Posterior",
    "Proximal",
    "Replacement",
    "Resampled",
    "RowSums",
    "Spectral",
    "TwistedSMC",
]
