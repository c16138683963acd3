"""Conditional generation from unconditional models."""

from scorefield.guidance.replacement import Decomposition, Grey, Mask, Replacement, Subspace

__all__ = ["Decomposition", "Grey", "Mask", "Replacement", "Subspace"]
