"""`scorefield sample`: new data from a model."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.options import (
    BatchOption,
    CompileOption,
    CorrectorOption,
    DeviceOption,
    GridOption,
    JsonOption,
    LabelOption,
    ModelArgument,
    PrecisionOption,
    SamplerName,
    SamplesOption,
    SeedOption,
    SnrOption,
)

if TYPE_CHECKING:
    from scorefield.flow import ProbabilityFlow
    from scorefield.samplers import Sampler

STEPS, TOL = 100, 1e-4


def sample(
    model: ModelArgument,
    out: SamplesOption,
    n: Annotated[int, typer.Option("--n", min=1, help="How many samples.")] = 64,
    seed: SeedOption = 0,
    sampler: Annotated[
        SamplerName,
        typer.Option(
            "--sampler",
            help="pc: reverse diffusion, Langevin; ode: the probability flow; recipe: the recipe's own.",
        ),
    ] = "ancestral",
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Predictor steps.", show_default=str(STEPS))
    ] = None,
    corrector: CorrectorOption = None,
    snr: SnrOption = None,
    grid: GridOption = None,
    tol: Annotated[
        float | None,
        typer.Option("--tol", help="The error that the ODE solver may make along its way.", show_default=str(TOL)),
    ] = None,
    label: LabelOption = None,
    trajectory: Annotated[
        str | None,
        typer.Option(
            "--trajectory",
            metavar="FILE",
            help="How the first of them come about, 8 at most: .png (a filmstrip) or .gif (an animation).",
        ),
    ] = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw samples from a model."""
    import scorefield as sf
    from scorefield.api import batches
    from scorefield.cli.choices import OptionError, of_recipe, predictor_corrector, probability_flow
    from scorefield.cli.progress import progress
    from scorefield.cli.result import kept, stopwatch, tell
    from scorefield.cli.session import open_model
    from scorefield.cli.trajectory import Trajectory
    from scorefield.data import check_samples_path, save_samples
    from scorefield.samplers import Progress

    chosen: Sampler | ProbabilityFlow
    if sampler == "ode":
        chosen = probability_flow(tol, steps=steps, grid=grid, corrector=corrector, snr=snr)
        if trajectory is not None:
            raise OptionError("--trajectory with --sampler ode, which walks no grid of steps: name another sampler")
    elif sampler != "recipe":
        chosen = predictor_corrector(sampler, corrector, snr, tol)
    scored = open_model(model, device, label, precision, compiled)
    if sampler == "recipe":
        chosen, steps, grid = of_recipe(scored, steps, grid, corrector=corrector, snr=snr, tol=tol)
    check_samples_path(out, scored.space.shape)
    walk = sampler != "ode"
    steps, grid = steps or STEPS, grid or "logsnr"
    film = None if trajectory is None else Trajectory(trajectory, out, scored, steps)
    parts = list(batches(range(n), batch_size))

    elapsed = stopwatch()
    with (
        sf.count_evaluations(scored) as evaluations,
        kept(lambda samples: save_samples(out, samples, seed), n, out) as done,
        progress("sampling", len(parts) * (steps if walk else 1), evaluations) as advance,
    ):

        def stepped(done: Progress, film: Trajectory | None) -> None:
            advance()
            if film is not None:
                film.see(done)

        for part in parts:
            seen = film if part.start == 0 else None
            samples = sf.sample(
                scored,
                len(part),
                seed=seed,
                sampler=chosen,
                steps=steps,
                grid=grid,
                batch_size=len(part),
                first=part.start,
                callback=partial(stepped, film=seen),
            )
            if seen is not None:
                seen.write(samples)
            done.append(samples)
            if not walk:
                advance()
    tell(
        as_json,
        f"{n} samples of seed {seed} in {out}",
        out=out,
        n=n,
        seed=seed,
        sampler=str(chosen),
        steps=steps if walk else None,
        grid=grid if walk else None,
        nfe=evaluations.forward / n,
        device=str(sf.api.device_of(scored)),
        seconds=elapsed(),
    )
