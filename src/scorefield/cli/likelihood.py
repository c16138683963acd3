"""`scorefield likelihood`: how probable data are under a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from scorefield.cli.options import (
    BatchOption,
    ClassifierOption,
    CompileOption,
    DataOption,
    DeviceOption,
    FirstOption,
    IntervalOption,
    JsonOption,
    LabelOption,
    ModelArgument,
    PrecisionOption,
    ResizeOption,
    ScaleOption,
    SeedOption,
    SplitOption,
    TolOption,
)

if TYPE_CHECKING:
    from rich.table import Table

    from scorefield.api import LogLikelihood


def likelihood(
    model: ModelArgument,
    data: DataOption,
    n: FirstOption = None,
    probes: Annotated[int, typer.Option("--probes", min=1, help="Random probes of the divergence for each datum.")] = 1,
    exact: Annotated[
        bool, typer.Option("--exact", help="The exact divergence: a backward evaluation for each coordinate.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="A .json, .csv or .npz with a row for each datum."),
    ] = None,
    seed: SeedOption = 0,
    tol: TolOption = 1e-3,
    split: SplitOption = "train",
    resize: ResizeOption = False,
    label: LabelOption = None,
    scale: ScaleOption = None,
    interval: IntervalOption = None,
    classifier: ClassifierOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Log-likelihood of data by the probability flow: bits per dimension of 8-bit images, nats of other data.

    The uncertainty over the data is that of their mean as an estimate for all such data; the uncertainty over the
    probes is that of the divergence's estimate for these data, and needs two probes or more.
    """
    import scorefield as sf
    from scorefield.api import batches
    from scorefield.cli.progress import progress
    from scorefield.cli.result import stopwatch, tell
    from scorefield.cli.session import data_for, open_model
    from scorefield.cli.table import check_table_path, write_table

    if out is not None:
        check_table_path(out)
    scored = open_model(
        model, device, label, precision, compiled, scale=scale, interval=interval, classifier=classifier
    )
    x = data_for(scored, data, first=n, resize=resize, split=split)
    total = len(list(batches(range(len(x)), batch_size)))
    elapsed = stopwatch()
    with (
        sf.count_evaluations(scored) as evaluations,
        progress("likelihood", total, evaluations) as advance,
    ):
        result = sf.log_likelihood(
            scored,
            x,
            probes=probes,
            exact=exact,
            seed=seed,
            batch_size=batch_size,
            tol=tol,
            callback=lambda _: advance(),
        )
    if out is not None:
        write_table(out, _columns(result))
    facts = _summary(result)
    tell(
        as_json,
        _table(facts, "exact trace" if exact else f"over {probes} probe{'s' * (probes > 1)}"),
        **facts,
        probes=None if exact else probes,
        seed=seed,
        tol=tol,
        out=out,
        device=str(sf.api.device_of(scored)),
        seconds=elapsed(),
    )


def _columns(result: "LogLikelihood") -> dict[str, list[float]]:
    """A column for each number that a datum has."""
    columns: dict[str, list[float]] = {"index": list(range(len(result.log_prob)))}
    columns["log_prob"] = result.log_prob.tolist()
    if result.bits_per_dim is not None:
        columns["bits_per_dim"] = result.bits_per_dim.tolist()
    columns["standard_error"] = result.standard_error.tolist()
    return columns | {name: part.tolist() for name, part in result.parts.items()}


def _summary(result: "LogLikelihood") -> dict[str, float | None]:
    """Means over the data, with both of their standard errors."""
    n = len(result.log_prob)
    facts: dict[str, float | None] = {"n": n}
    values = {"log_prob": (result.log_prob, result.standard_error)}
    if result.bits_per_dim is not None and result.bits_per_dim_error is not None:
        values["bits_per_dim"] = result.bits_per_dim, result.bits_per_dim_error
    for name, (value, error) in values.items():
        facts[name] = float(value.double().mean())
        facts[f"{name}_error_data"] = float(value.double().std() / n**0.5) if n > 1 else None
        facts[f"{name}_error_probes"] = float(error.double().square().sum().sqrt() / n)
    facts |= {name: float(part.double().mean()) for name, part in result.parts.items()}
    return facts | {"nfe": result.nfe, "nfe_backward": result.nfe_backward}


def _table(facts: dict[str, float | None], probes: str) -> "Table":
    """Means and their standard errors, over the data and over the probes."""
    from rich.table import Table

    table = Table("", "mean", f"± over {facts['n']} data", f"± {probes}", box=None)
    for name, title in (("bits_per_dim", "bits/dim"), ("log_prob", "log-probability, nats")):
        if name in facts:
            errors = (_number(facts[f"{name}_error_{over}"]) for over in ("data", "probes"))
            table.add_row(title, _number(facts[name]), *errors)
    return table


def _number(value: float | None) -> str:
    return "unknown" if value is None or value != value else f"{value:.5g}"
