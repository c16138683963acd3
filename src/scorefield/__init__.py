"""Score-based generative modelling through stochastic differential equations (Song et al. 2021).

One unconditional score model gives samples, exact likelihoods, latent codes and conditional samples of data of any
shape:

    import scorefield as sf
    model = sf.load("mnist")
    images = sf.sample(model, 64, seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorefield.api import (
        LogLikelihood,
        calibrate,
        colorize,
        decode,
        encode,
        fit,
        inpaint,
        load,
        log_likelihood,
        sample,
    )
    from scorefield.classifier import Classifier, NetworkClassifier
    from scorefield.convert.export import export
    from scorefield.counting import count_evaluations
    from scorefield.exact import ExactClassifier, ExactModel, GaussianMixture
    from scorefield.flow import ProbabilityFlow
    from scorefield.guidance import ClassifierGuidance, Contrast, Grey, Interval, Mask, Replacement, Subspace
    from scorefield.network_model import NetworkModel
    from scorefield.noise import Noise
    from scorefield.samplers import (
        DDIM,
        DEIS,
        AdamsBashforth,
        AdaptiveSDE,
        Ancestral,
        DPMSolver,
        DPMSolverSinglestep,
        EulerMaruyama,
        Heun,
        Langevin,
        PredictorCorrector,
        Restart,
        ReverseDiffusion,
        StochasticHeun,
        UniPC,
        run,
    )
    from scorefield.score import ScoreFunction, ScoreModel
    from scorefield.sde import DDPM, EDM, SDE, SMLD, VE, VP, Cosine, LinearSDE, RectifiedFlow, SubVP
    from scorefield.space import DataSpace

_HOMES = {
    "api": (
        "LogLikelihood",
        "calibrate",
        "colorize",
        "decode",
        "encode",
        "fit",
        "inpaint",
        "load",
        "log_likelihood",
        "sample",
    ),
    "classifier": ("Classifier", "NetworkClassifier"),
    "convert.export": ("export",),
    "counting": ("count_evaluations",),
    "exact": ("ExactClassifier", "ExactModel", "GaussianMixture"),
    "flow": ("ProbabilityFlow",),
    "guidance": ("ClassifierGuidance", "Contrast", "Grey", "Interval", "Mask", "Replacement", "Subspace"),
    "network_model": ("NetworkModel",),
    "noise": ("Noise",),
    "samplers": (
        "DDIM",
        "DEIS",
        "AdamsBashforth",
        "AdaptiveSDE",
        "Ancestral",
        "DPMSolver",
        "DPMSolverSinglestep",
        "EulerMaruyama",
        "Heun",
        "Langevin",
        "PredictorCorrector",
        "Restart",
        "ReverseDiffusion",
        "StochasticHeun",
        "UniPC",
        "run",
    ),
    "score": ("ScoreFunction", "ScoreModel"),
    "sde": ("DDPM", "EDM", "SDE", "SMLD", "VE", "VP", "Cosine", "LinearSDE", "RectifiedFlow", "SubVP"),
    "space": ("DataSpace",),
}
_HOME = {name: f"scorefield.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "EDM",
    "SDE",
    "SMLD",
    "VE",
    "VP",
    "AdamsBashforth",
    "AdaptiveSDE",
    "Ancestral",
    "Classifier",
    "ClassifierGuidance",
    "Contrast",
    "Cosine",
    "DPMSolver",
    "DPMSolverSinglestep",
    "DataSpace",
    "EulerMaruyama",
    "ExactClassifier",
    "ExactModel",
    "GaussianMixture",
    "Grey",
    "Heun",
    "Interval",
    "Langevin",
    "LinearSDE",
    "LogLikelihood",
    "Mask",
    "NetworkClassifier",
    "NetworkModel",
    "Noise",
    "PredictorCorrector",
    "ProbabilityFlow",
    "RectifiedFlow",
    "Replacement",
    "Restart",
    "ReverseDiffusion",
    "ScoreFunction",
    "ScoreModel",
    "StochasticHeun",
    "SubVP",
    "Subspace",
    "UniPC",
    "calibrate",
    "colorize",
    "count_evaluations",
    "decode",
    "encode",
    "export",
    "fit",
    "inpaint",
    "load",
    "log_likelihood",
    "run",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'scorefield' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
