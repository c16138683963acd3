"""Samplers by the names of the command line. An option that would have no effect is an error."""

from collections.abc import Callable

from scorefield.cli.options import AdaptiveName, CorrectorName, PredictorName
from scorefield.flow import ProbabilityFlow
from scorefield.recipes.build import build_sampler, recipe_of
from scorefield.samplers import (
    DDIM,
    DEIS,
    AdamsBashforth,
    Adaptive,
    AdaptiveSDE,
    Ancestral,
    DPMSolver,
    DPMSolverSinglestep,
    EulerMaruyama,
    Heun,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Sampler,
    StochasticHeun,
    UniPC,
)
from scorefield.score import Denoiser, ScoreModel
from scorefield.times import GridName

_PREDICTORS: dict[str, Callable[[], Sampler]] = {
    "ancestral": Ancestral,
    "reverse-diffusion": ReverseDiffusion,
    "euler-maruyama": EulerMaruyama,
    "heun": Heun,
    "stochastic-heun": StochasticHeun,
    "ddim": DDIM,
    "dpmpp-2m": DPMSolver,
    "dpmpp-2m-sde": lambda: DPMSolver(tau=1.0),
    "dpmpp-2s": DPMSolverSinglestep,
    "dpmpp-3m": lambda: DPMSolver(order=3),
    "unipc": UniPC,
    "unipc-velocity": lambda: UniPC(of="velocity"),
    "deis": DEIS,
    "adams-bashforth": AdamsBashforth,
    "pc": ReverseDiffusion,
}

_ADAPTIVE: dict[AdaptiveName, Callable[..., Adaptive]] = {"ode": ProbabilityFlow, "adaptive-sde": AdaptiveSDE}


class OptionError(ValueError):
    """Options that do not go together."""


def predictor_corrector(
    name: PredictorName, corrector: CorrectorName | None, snr: float | None, tol: float | None = None
) -> Sampler:
    """A sampler on a grid of steps. Raises OptionError where one of the options has no effect."""
    if tol is not None:
        raise OptionError(f"--tol {tol:g} with --sampler {name}, which has no tolerance: give --steps")
    if name == "pc" and corrector == "none":
        raise OptionError("--corrector none with --sampler pc, which has one: give --sampler reverse-diffusion")
    predictor = _PREDICTORS[name]()
    if name != "pc" and corrector != "langevin":
        if snr is not None:
            raise OptionError(f"--snr {snr:g} without a corrector: give --corrector langevin")
        return predictor
    return PredictorCorrector(predictor, Langevin() if snr is None else Langevin(snr))


def refuse_with_best(**ignored: object) -> None:
    """Raise OptionError where an option is given that the best sampler for a budget would ignore."""
    for option, value in ignored.items():
        if value is not None:
            raise OptionError(f"--{option} {value} without a --sampler that takes it: name one")


def of_recipe(
    model: ScoreModel, steps: int | None, grid: GridName | None, **ignored: object
) -> tuple[Sampler, int, GridName]:
    """The sampler, steps and grid of the model's recipe. Raises OptionError where an option has no effect."""
    for option, value in ignored.items():
        if value is not None:
            raise OptionError(f"--{option} {value} with --sampler recipe, which has its own: name another sampler")
    recipe = recipe_of(model)
    if recipe is None or not isinstance(model, Denoiser):
        raise OptionError(f"--sampler recipe with a {type(model).__name__}, which has no recipe: name another sampler")
    sampling = recipe.sampling
    return build_sampler(recipe, model.sde)[0], steps or sampling.steps, grid or sampling.grid


def adaptive(name: AdaptiveName, tol: float | None, **ignored: object) -> Adaptive:
    """A sampler that chooses its own steps. Raises OptionError where an option that it would ignore is given."""
    for option, value in ignored.items():
        if value is not None:
            raise OptionError(f"--{option} {value} with --sampler {name}, which chooses its own steps: give --tol")
    return _ADAPTIVE[name]() if tol is None else _ADAPTIVE[name](tol)
