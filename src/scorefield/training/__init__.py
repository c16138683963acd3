"""Training by denoising score matching, and of classifiers of noisy data."""

from scorefield.training.task import TrainingError
from scorefield.training.trainer import Trained, train, train_classifier

__all__ = ["Trained", "TrainingError", "train", "train_classifier"]
