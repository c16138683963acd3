"""The library in a dozen functions: data units in, data units out, batches of any size, samples that are their seed.

Images are (batch, channel, height, width), float in [0, 1] or uint8; other data are float in the units they were
trained in. Sample i of a seed is the same whatever the batch size.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from scorefield import calibration, flow
from scorefield.calibration import Calibration, plan_for, solver
from scorefield.counting import count_evaluations
from scorefield.noise import Noise
from scorefield.samplers import Adaptive, Progress, Sampler, StochasticHeun, UniPC, run
from scorefield.score import Denoiser, ScoreModel
from scorefield.sde import Density
from scorefield.times import GRIDS, Grid, GridName

if TYPE_CHECKING:
    from scorefield.network_model import NetworkModel
    from scorefield.recipes import Recipe
    from scorefield.recipes.build import RecipeModel

Callback = Callable[[Progress], None]
BUDGET, STEPS = 50, 100


def load(
    model: str | Path,
    *,
    recipe: "Recipe | str | Path | None" = None,
    config: Mapping[str, Any] | str | Path | None = None,
    ema: bool = True,
    device: torch.device | str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    compiled: bool = False,
) -> "RecipeModel":
    """A trained model, ready for use: a bundled name, a checkpoint folder, a run folder, or a public checkpoint.

    A bundled name wins; write `./name` for a folder of that name. The weights are frozen and on `device` (CUDA where
    there is one, unless given). `precision="bf16"` rounds convolutions and linear maps to bfloat16, which takes half
    the time where the processor has it; `compiled=True` has the network translated by `torch.compile`, which takes a
    minute once and needs a C++ compiler.

    Public checkpoints are `.pth` files of the code published with Song et al. (2021), `.pkl` files of that published
    with Karras et al. (2022), and folders of diffusers. A `.pth` holds weights only: say what they belong to, with
    `recipe` (a preset's name, a YAML file) or with `config` (the published code's configuration: a mapping or a JSON
    file). Of raw and averaged weights `ema` takes the average.

    `hub:ORG/NAME`, or `hub:ORG/NAME@REVISION`, is downloaded from the Hugging Face hub (with the `hub` extra), be it
    one of this library's models or one of diffusers.

    >>> load("mnist").space.shape
    (1, 28, 28)
    """
    from scorefield.checkpoint import bundled_models, load_model
    from scorefield.convert import is_public, load_public

    if isinstance(model, str) and model.startswith("hub:"):
        from scorefield.convert.download import download

        model = download(model)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if model not in bundled_models() and is_public(model):
        public = load_public(model, recipe=recipe, config=config, ema=ema)
        return public.to(device).prepare(precision, compiled=compiled)
    ours = model in bundled_models() or Path(model).exists()
    if ours and (recipe is not None or config is not None or not ema):
        given = "recipe" if recipe is not None else "config" if config is not None else "ema=False"
        it = "it" if ema else "it (--raw)"
        raise ValueError(f"{model} is no public checkpoint, and {given} was given; leave {it} out or check the path")
    return load_model(model, device=device).prepare(precision, compiled=compiled)


def fit(
    x: Shaped[Tensor, "n *data"],
    *,
    steps: int | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    device: str | None = None,
) -> "NetworkModel":
    """Train a model on an array of any shape, (n, *data), and return it with averaged weights.

    Float data are standardized (for each entry of the first axis of a datum) and learned by the `table` recipe's
    perceptron; uint8 images (n, channel, height, width) by the `mnist` recipe's U-Net. `recipe` names another preset or
    YAML file, and `overrides` are like "model.width=512". With a run folder `out` the training is written there and
    goes on from there.

    >>> model = fit(torch.randn(100, 2), steps=2)
    >>> sample(model, 3, steps=4).shape
    torch.Size([3, 2])
    """
    from scorefield.data import open_data
    from scorefield.recipes import load_recipe
    from scorefield.training import train

    source = open_data(x.cpu())
    shape = f"data.shape={list(source.shape)}"
    if x.dtype == torch.uint8:
        units = [shape]
    else:
        rows = x.cpu().double().transpose(0, 1).flatten(1) if x.ndim > 1 else x.cpu().double()[None]
        spread = rows.std(1).tolist()
        scale = [s if s > 0 else 1.0 for s in spread]
        units = [shape, f"data.shift={rows.mean(1).tolist()}", f"data.scale={scale}"]
    settings = [] if steps is None else [f"training.steps={steps}"]
    name = recipe or ("mnist" if x.dtype == torch.uint8 else "table")
    return train(load_recipe(name, [*units, *settings, *overrides]), source, out, device=device).model


def sample(
    model: ScoreModel,
    n: int = 1,
    *,
    seed: int = 0,
    budget: int | None = None,
    sampler: Sampler | Adaptive | None = None,
    steps: int | None = None,
    grid: GridName | Grid | None = None,
    batch_size: int = 64,
    first: int = 0,
    label: int | str | None = None,
    scale: float = 1.0,
    callback: Callback | None = None,
) -> Shaped[Tensor, "n *data"]:
    """`n` samples in data units: numbers `first` to `first + n - 1` of `seed`.

    With nothing else given, a `budget` of network evaluations for each sample, 50 unless given, is spent as is best for
    the model: as it was calibrated, or as is best on average (:mod:`scorefield.calibration`). Or name a `sampler`,
    which walks a grid of `steps` predictor updates (100 unless given) with a denoising evaluation at the end; they are
    equal in log-SNR ("logsnr"), in time ("uniform", the paper's), in its root ("quadratic") or as in EDM ("edm"), or
    `grid` is the times themselves. `ProbabilityFlow` and `AdaptiveSDE` take steps of their own choice.
    `label` asks for a class, by number or name: a model that was trained with labels, or one that has a classifier
    beside it. A `scale` above 1 makes the class clearer and the samples less varied (:mod:`scorefield.guidance`).

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.ones(1, 2)))
    >>> bool(torch.allclose(sample(model, 5, batch_size=2), sample(model, 5, batch_size=5), atol=1e-5))
    True
    """
    if label is not None:
        model = model.given(label=label) if scale == 1 else model.given(label=label, scale=scale)
    elif scale != 1:
        raise ValueError(f"scale={scale:g} without a label, which it is the scale of: give one")
    indices = range(first, first + positive(n, "samples"))
    chosen, times = choose(model, budget=budget, sampler=sampler, steps=steps, grid=grid)
    parts = [
        generate(
            model.select(torch.tensor(batch) - first), chosen, times, Noise(seed, batch, device_of(model)), callback
        )
        for batch in batches(indices, batch_size)
    ]
    return model.space.to_data(torch.cat(parts))


@dataclass(frozen=True)
class LogLikelihood:
    """Exact log-likelihoods of n data, and how sure they are.

    `log_prob` (n,) in nats: the log-density in data units of float data; for uint8 data the log-probability of the
    integers, bounded from below by uniform dequantization, and `bits_per_dim` (n,), None for float data.
    `standard_error` (n,) in nats is that of the probes: 0 for an exact trace, NaN for one probe. `parts` add up to
    `log_prob`. `nfe` and `nfe_backward` are network evaluations per datum; a batch goes on until its last
    datum is done.
    """

    log_prob: Float[Tensor, "n"]
    bits_per_dim: Float[Tensor, "n"] | None
    standard_error: Float[Tensor, "n"]
    nfe: float
    nfe_backward: float
    parts: dict[str, Float[Tensor, "n"]]

    @property
    def bits_per_dim_error(self) -> Float[Tensor, "n"] | None:
        """The standard error in bits per dimension."""
        if self.bits_per_dim is None:
            return None
        return self.standard_error * (self.bits_per_dim / -self.log_prob)


def log_likelihood(
    model: ScoreModel,
    x: Shaped[Tensor, "n *data"],
    *,
    probes: int = 1,
    exact: bool = False,
    seed: int = 0,
    batch_size: int = 64,
    tol: float = 1e-3,
    prior: Density | None = None,
    callback: Callable[[int], None] | None = None,
) -> LogLikelihood:
    """The log-likelihood of data, by the probability flow (Song et al. 2021, app. D).

    The divergence along the flow is estimated with `probes` random sign vectors, or computed by `exact=True` at one
    backward evaluation for each coordinate. uint8 data are dequantized. `callback` is told how many data are done.
    """
    space = model.space
    space.check(x)
    positive(len(x), "data")
    quantized = space.quantized(x)
    probes = positive(probes, "probes")
    results = []
    with count_evaluations(model) as evaluations:
        for batch in batches(range(len(x)), batch_size):
            part, noise = (
                x[batch.start : batch.stop].to(device_of(model)),
                Noise(seed, batch, device_of(model), "likelihood"),
            )
            y = place(model, space.to_model(space.dequantize(part, noise.uniform(space.shape)) if quantized else part))
            signs = None if exact else noise.rademacher((probes, *space.shape), y.dtype)
            results.append(flow.log_likelihood(model.select(torch.tensor(batch)), y, signs, prior=prior, tol=tol))
            if callback is not None:
                callback(batch.stop)
    parts = {name: torch.cat([r.parts[name] for r in results]) for name in results[0].parts}
    parts["units"] = torch.full_like(parts["prior"], -space.log_scale)
    if quantized and space.levels is not None:
        parts["quantization"] = torch.full_like(parts["prior"], -space.dim * math.log(space.levels))
    log_prob = torch.stack(list(parts.values())).sum(0)
    return LogLikelihood(
        log_prob,
        -log_prob / (space.dim * math.log(2)) if quantized else None,
        torch.cat([r.standard_error for r in results]),
        evaluations.forward / len(x),
        evaluations.backward / len(x),
        parts,
    )


def encode(
    model: ScoreModel, x: Shaped[Tensor, "n *data"], *, batch_size: int = 64, tol: float = 1e-4
) -> Float[Tensor, "n *data"]:
    """Latent codes of data along the probability flow: standard normal where the data are samples of the model."""
    prior = model.sde.prior

    def encoded(batch: range) -> Tensor:
        y = place(model, model.space.to_model(x[batch.start : batch.stop]))
        return prior.standardize(flow.encode(model.select(torch.tensor(batch)), y, tol=tol))

    return torch.cat([encoded(batch) for batch in batches(range(len(x)), batch_size)])


def decode(
    model: ScoreModel, z: Float[Tensor, "n *data"], *, batch_size: int = 64, tol: float = 1e-4
) -> Float[Tensor, "n *data"]:
    """The data of latent codes: the inverse of `encode`."""
    model.space.check(z)

    def decoded(batch: range) -> Tensor:
        y = place(model, model.sde.prior.sample(z[batch.start : batch.stop]))
        return flow.decode(model.select(torch.tensor(batch)), y, tol=tol)

    return model.space.to_data(torch.cat([decoded(batch) for batch in batches(range(len(z)), batch_size)]))


def generate(
    model: ScoreModel, sampler: Sampler | Adaptive, times: Grid | None, noise: Noise, callback: Callback | None
) -> Tensor:
    """One batch in model units, from the prior's noise."""
    x = model.sde.prior.sample(noise.normal(model.space.shape, dtype_of(model)))
    if isinstance(sampler, Adaptive):
        return sampler.sample(model, x, noise)
    assert times is not None
    return run(sampler, model, x, times, noise=noise, denoise=isinstance(model, Denoiser), callback=callback)


def choose(
    model: ScoreModel,
    *,
    budget: int | None = None,
    sampler: Sampler | Adaptive | None = None,
    steps: int | None = None,
    grid: GridName | Grid | None = None,
) -> tuple[Sampler | Adaptive, Grid | None]:
    """The sampler, and the times that it walks unless it chooses them itself, that `sample` would take."""
    if budget is not None and not (sampler is None and steps is None and grid is None):
        raise ValueError(f"budget={budget} with a sampler, steps or a grid, which it stands for: leave out one of them")
    if isinstance(sampler, Adaptive):
        if steps is not None or grid is not None:
            raise ValueError(
                f"steps or a grid with {type(sampler).__name__}, which chooses its own steps: leave them out"
            )
        return sampler, None
    if sampler is None and grid is None and isinstance(model, Denoiser):
        plan = plan_for(model.sde, model.plans, budget or (BUDGET if steps is None else positive(steps, "steps") + 1))
        return solver(plan), torch.tensor(plan.times, dtype=torch.float64)
    if budget is not None:
        raise ValueError(f"budget={budget} with {type(model.sde).__name__}, which is not linear: give steps")
    best = UniPC(3) if isinstance(model, Denoiser) else StochasticHeun()
    if isinstance(grid, Tensor):
        if steps is not None:
            raise ValueError(f"steps={steps} with a grid of {len(grid)} times: leave out one of them")
        return sampler or best, grid
    return sampler or best, time_grid(model, STEPS if steps is None else steps, grid)


def calibrate(
    model: Denoiser,
    budgets: Sequence[int] = (5, 8, 10, 15, 20),
    *,
    samples: int = 32,
    seed: int = 0,
    batch_size: int = 64,
    trials: int = 60,
    callback: Callable[[int, int], None] | None = None,
) -> dict[int, Calibration]:
    """Find how this model spends each budget of evaluations best, and have `sample(model, budget=…)` do so.

    Solvers, grids and ends are compared on `samples` samples with a fine solution of the probability flow;
    `scorefield.checkpoint.save_plans(model.plans, folder)` writes what was found beside a model. `callback` is told how
    many budgets are done, and how many there are.

    >>> from scorefield.exact import ExactModel, GaussianMixture
    >>> from scorefield.sde import VP
    >>> model = ExactModel(VP(), GaussianMixture(torch.zeros(1, 2), variances=torch.full((1, 2), 0.1)))
    >>> found = calibrate(model, [5], samples=4, trials=10)
    >>> found[5].plan.error <= found[5].default.error
    True
    """
    noise = Noise(seed, range(positive(samples, "samples")), device_of(model), "calibration")
    x = model.sde.prior.sample(noise.normal(model.space.shape, dtype_of(model)))
    found = calibration.calibrate(model, x, budgets, batch_size=batch_size, trials=trials, callback=callback)
    model.plans = {**model.plans, **{budget: each.plan for budget, each in found.items()}}
    return found


def time_grid(model: ScoreModel, steps: int, grid: GridName | None) -> Grid:
    """The grid of that name for the model's SDE; by default "logsnr", and "uniform" for SDEs without a log-SNR."""
    if grid is None:
        grid = "logsnr" if isinstance(model, Denoiser) else "uniform"
    if grid not in GRIDS:
        raise ValueError(f"grid {grid!r}, expected one of {', '.join(GRIDS)}")
    return GRIDS[grid](model.sde, steps)


def device_of(model: ScoreModel) -> torch.device:
    """Where the model's weights live; the CPU for one that has none."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


def dtype_of(model: ScoreModel) -> torch.dtype:
    """The widest of the model's weights, some of which may be rounded; the default's for one that has none."""
    widths = {weight.dtype for weight in model.parameters()}
    widths = widths or {buffer.dtype for buffer in model.buffers() if buffer.is_floating_point()}
    return reduce(torch.promote_types, widths or {torch.get_default_dtype()})


def place(model: ScoreModel, y: Tensor) -> Tensor:
    """`y` in the device and dtype of the model's weights, complex numbers in those of float32 or better.

    It stays as it is where the model has no weights.
    """
    if next(model.parameters(), None) is None:
        return y
    dtype = dtype_of(model)
    parts = torch.promote_types(dtype, torch.float32)
    return y.to(device_of(model), parts.to_complex() if y.is_complex() else dtype)


def batches(indices: range, batch_size: int) -> Iterator[range]:
    """Cut `indices` into batches."""
    size = positive(batch_size, "batch size")
    return (indices[i : i + size] for i in range(0, len(indices), size))


def positive(value: int, what: str) -> int:
    """`value`, or a ValueError that says what it should be."""
    if value < 1:
        raise ValueError(f"{value} {what}, expected 1 or more")
    return value
