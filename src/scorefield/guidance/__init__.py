"""Conditional generation: guided models, and samplers that know a part of the data."""

from scorefield.guidance.classifier import ClassifierGuidance
from scorefield.guidance.contrast import Contrast
from scorefield.guidance.ddrm import DDRM
from scorefield.guidance.frequencies import Blur, Fourier
from scorefield.guidance.guided import Guided, Interval
from scorefield.guidance.measurement import Measurement
from scorefield.guidance.operators import (
    Average,
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
    "ClassifierGuidance",
    "Contrast",
    "Covariance",
    "Fourier",
    "Full",
    "Grey",
    "Guided",
    "Interval",
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
