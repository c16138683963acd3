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
        decode,
        encode,
        fit,
        load,
        log_likelihood,
        sample,
    )
    from scorefield.classifier import Classifier, NetworkClassifier
    from scorefield.conditional import colorize, inpaint, posterior
    from scorefield.convert.export import export
    from scorefield.counting import count_evaluations
    from scorefield.exact import ExactClassifier, ExactModel, GaussianMixture
    from scorefield.flow import ProbabilityFlow
    from scorefield.guidance import (
        DDRM,
        Average,
        Blur,
        ClassifierGuidance,
        Contrast,
        Fourier,
        Full,
        Grey,
        Interval,
        Isotropic,
        Linear,
        Mask,
        Matrix,
        Measurement,
        Nothing,
        Physics,
        Posterior,
        Proximal,
        Replacement,
        Resampled,
        RowSums,
        TwistedSMC,
    )
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
        "decode",
        "encode",
        "fit",
        "load",
        "log_likelihood",
        "sample",
    ),
    "classifier": ("Classifier", "NetworkClassifier"),
    "conditional": ("colorize", "inpaint", "posterior"),
    "convert.export": ("export",),
    "counting": ("count_evaluations",),
    "exact": ("ExactClassifier", "ExactModel", "GaussianMixture"),
    "flow": ("ProbabilityFlow",),
    "guidance": (
        "DDRM",
        "Average",
        "Blur",
        "ClassifierGuidance",
        "Contrast",
        "Fourier",
        "Full",
        "Grey",
        "Interval",
        "Isotropic",
        "Linear",
        "Mask",
        "Matrix",
        "Measurement",
        "Nothing",
        "Physics",
        "Posterior",
        "Proximal",
        "Replacement",
        "Resampled",
        "RowSums",
        "TwistedSMC",
    ),
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
    "DDRM",
    "DEIS",
    "EDM",
    "SDE",
    "SMLD",
    "VE",
    "VP",
    "AdamsBashforth",
    "AdaptiveSDE",
    "Ancestral",
    "Average",
    "Blur",
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
    "Fourier",
    "Full",
    "GaussianMixture",
    "Grey",
    "Heun",
    "Interval",
    "Isotropic",
    "Langevin",
    "Linear",
    "LinearSDE",
    "LogLikelihood",
    "Mask",
    "Matrix",
    "Measurement",
    "NetworkClassifier",
    "NetworkModel",
    "Noise",
    "Nothing",
    "Physics",
    "Posterior",
    "PredictorCorrector",
    "ProbabilityFlow",
    "Proximal",
    "RectifiedFlow",
    "Replacement",
    "Resampled",
    "Restart",
    "ReverseDiffusion",
    "RowSums",
    "ScoreFunction",
    "ScoreModel",
    "StochasticHeun",
    "SubVP",
    "TwistedSMC",
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
    "posterior",
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
