"""Conditional generation: guided models, and samplers that know a part of the data."""

from scorefield.guidance.classifier import ClassifierGuidance
from scorefield.guidance.contrast import Contrast
from scorefield.guidance.guided import Guided, Interval
from scorefield.guidance.replacement import Decomposition, Grey, Mask, Replacement, Subspace

__all__ = [
    "ClassifierGuidance",
    "Contrast",
    "Decomposition",
    "Grey",
    "Guided",
    "Interval",
    "Mask",
    "Replacement",
    "Subspace",
]
