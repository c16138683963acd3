"""`scorefield sample`: new data from a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.options import (
    BatchOption,
    ClassifierOption,
    CompileOption,
    CorrectorOption,
    DeviceOption,
    GridOption,
    IntervalOption,
    JsonOption,
    LabelOption,
    ModelArgument,
    PrecisionOption,
    SamplerName,
    ScaleOption,
    SeedOption,
    SnrOption,
)

if TYPE_CHECKING:
    from scorefield.cli.processes import Processes
    from scorefield.cli.sampling import Drawing
    from scorefield.samplers import Adaptive, Sampler

STEPS = 100


def sample(
    model: ModelArgument,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="FILE", help="A .png (grid), .npz or .npy, or a folder: a PNG each, other data .npz files."
        ),
    ],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many samples.")] = 64,
    seed: SeedOption = 0,
    sampler: Annotated[
        SamplerName,
        typer.Option(
            "--sampler",
            help="best: for the budget; pc: reverse diffusion, Langevin; ode: the flow; recipe: the recipe's own.",
        ),
    ] = "best",
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=2, help="Network evaluations for each sample.", show_default="50"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Predictor steps.", show_default=str(STEPS)),
    ] = None,
    corrector: CorrectorOption = None,
    snr: SnrOption = None,
    grid: GridOption = None,
    tol: Annotated[
        float | None,
        typer.Option("--tol", help="The error that an adaptive solver may make.", show_default="1e-2, SDE 2e-2"),
    ] = None,
    label: LabelOption = None,
    scale: ScaleOption = None,
    interval: IntervalOption = None,
    classifier: ClassifierOption = None,
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
    """Draw samples from a model.

    A folder is filled batch by batch. The same command goes on where it was killed,
    and adds to what is there with a larger --n. Several GPUs make the same files:

    torchrun --nproc-per-node 8 -m scorefield sample mnist --out many -n 50000
    """
    from pathlib import Path

    import scorefield as sf
    from scorefield.api import batches
    from scorefield.cli.choices import OptionError, adaptive, of_recipe, predictor_corrector, refuse_with_best
    from scorefield.cli.processes import launched
    from scorefield.cli.result import stopwatch, tell
    from scorefield.cli.sampling import Drawing, settings_of, to_file, to_folder
    from scorefield.cli.session import open_model
    from scorefield.cli.trajectory import Trajectory
    from scorefield.data import Shards, check_samples_path

    folder = Path(out).suffix == ""

    def prepare(team: "Processes") -> "Drawing":
        chosen: Sampler | Adaptive
        if budget is not None and sampler != "best":
            raise OptionError(f"--budget {budget} with --sampler {sampler}: leave one out; a budget names the sampler")
        if team.world > 1 and not folder:
            raise OptionError(f"--out {out} with {team.world} processes, which cannot write one file: give a folder")
        if sampler == "ode" or sampler == "adaptive-sde":
            chosen = adaptive(sampler, tol, steps=steps, grid=grid, corrector=corrector, snr=snr)
            if trajectory is not None:
                raise OptionError(
                    f"--trajectory with --sampler {sampler}, which walks no grid of steps: name another sampler"
                )
        elif sampler == "best":
            refuse_with_best(corrector=corrector, snr=snr, tol=tol)
        elif sampler != "recipe":
            chosen = predictor_corrector(sampler, corrector, snr, tol)
        scored = open_model(
            model,
            team.device(device),
            label,
            precision,
            compiled,
            scale=scale,
            interval=interval,
            classifier=classifier,
        )
        if not folder:
            check_samples_path(out, scored.space.shape)
        if sampler == "ode" or sampler == "adaptive-sde":
            return Drawing(scored, chosen, None, None, seed)
        if sampler == "best":
            chosen, best = sf.api.choose(scored, budget=budget, steps=steps, grid=grid)
            assert best is not None
            film = None if trajectory is None else Trajectory(trajectory, out, scored, len(best) - 1)
            return Drawing(scored, chosen, len(best) - 1, best, seed, film)
        count, times = steps or STEPS, grid or "logsnr"
        if sampler == "recipe":
            chosen, count, times = of_recipe(scored, steps, grid, corrector=corrector, snr=snr, tol=tol)
        film = None if trajectory is None else Trajectory(trajectory, out, scored, count)
        return Drawing(scored, chosen, count, times, seed, film)

    with launched() as team:
        drawing = team.together(lambda: prepare(team))
        elapsed = stopwatch()
        if folder:
            shards = Shards(Path(out), n, batch_size, seed, drawing.model.space.shape)
            guidance = {"guidance_scale": scale, "guidance_interval": interval}
            given = {name: value for name, value in guidance.items() if value is not None}
            settings = settings_of(drawing, batch_size, label=label, **given, precision=precision, compile=compiled)
            drawn = to_folder(drawing, shards, settings, model, team)
        else:
            drawn = to_file(drawing, list(batches(range(n), batch_size)), out)
        if not team.first:
            return
        made = n - drawn.resumed
        before = f", {drawn.resumed} of them from before" if drawn.resumed else ""
        tell(
            as_json,
            f"{n} samples of seed {seed} in {out}{before}" if made else f"{out} has all {n} samples: nothing to do",
            out=out,
            n=n,
            resumed=drawn.resumed,
            seed=seed,
            sampler=str(drawing.sampler),
            steps=drawing.steps,
            grid=drawing.grid if isinstance(drawing.grid, str | None) else "best",
            nfe=drawn.evaluations / made if made else None,
            device=str(sf.api.device_of(drawing.model)),
            processes=team.world,
            seconds=elapsed(),
        )
