"""`scorefield calibrate`: how a model spends a budget of evaluations best."""

from typing import Annotated

import typer

from scorefield.cli.options import BatchOption, CompileOption, DeviceOption, JsonOption, ModelArgument, SeedOption


def calibrate(
    model: ModelArgument,
    budgets: Annotated[
        str, typer.Option("--budgets", metavar="N,N,…", help="Network evaluations for each sample, the last included.")
    ] = "5,8,10,15,20",
    samples: Annotated[int, typer.Option("--samples", min=1, help="How many samples the error is measured on.")] = 32,
    trials: Annotated[int, typer.Option("--trials", min=0, help="Runs to bend each of the best grids.")] = 60,
    seed: SeedOption = 0,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the solver, grid and end that lose least of each budget.

    What is found is written beside the model as calibration.json, budget by budget,
    and `scorefield sample MODEL --budget N` goes by it.
    """
    from pathlib import Path

    from rich.table import Table

    import scorefield as sf
    from scorefield.calibration import Calibration
    from scorefield.checkpoint import save_plans
    from scorefield.cli.choices import OptionError
    from scorefield.cli.progress import progress
    from scorefield.cli.result import stopwatch, tell
    from scorefield.cli.session import describe_model, open_model
    from scorefield.data import check_writable

    try:
        wanted = sorted({int(budget) for budget in budgets.split(",")})
    except ValueError:
        wanted = []
    if not wanted or wanted[0] < 2:
        raise OptionError(f"--budgets {budgets}: give numbers of evaluations from 2 on, such as 5,10,20")
    folder = Path(describe_model(model)[0])
    if not folder.is_dir():
        raise OptionError(f"{model} is no model folder, beside which plans could lie: convert it first")
    check_writable(folder / "calibration.json")
    scored = open_model(model, device, compiled=compiled)
    elapsed = stopwatch()
    found: dict[int, Calibration] = {}
    with sf.count_evaluations(scored) as evaluations, progress("calibrating", len(wanted), evaluations) as advance:
        for budget in wanted:
            found |= sf.calibrate(scored, [budget], samples=samples, seed=seed, batch_size=batch_size, trials=trials)
            save_plans(scored.plans, folder)
            advance()
    table = Table("budget", "solver", "error", "without calibration", box=None)
    for budget, each in found.items():
        table.add_row(str(budget), each.plan.solver, f"{each.plan.error:.2g}", f"{each.default.error:.2g}")
    tell(
        as_json,
        table,
        model=model,
        folder=str(folder),
        budgets={
            budget: {"solver": each.plan.solver, "error": each.plan.error, "default_error": each.default.error}
            for budget, each in found.items()
        },
        nfe=evaluations.forward / samples,
        device=str(sf.api.device_of(scored)),
        seconds=elapsed(),
    )
