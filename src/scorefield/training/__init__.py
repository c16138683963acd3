"""Training by denoising score matching."""

from scorefield.training.trainer import Trained, TrainingError, train

__all__ = ["Trained", "TrainingError", "train"]
