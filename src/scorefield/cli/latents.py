"""`scorefield encode` and `scorefield decode`: data to latent codes and back, along the probability flow."""

from typing import Annotated

import typer

from scorefield.cli.options import (
    BatchOption,
    CompileOption,
    DataOption,
    DeviceOption,
    FirstOption,
    JsonOption,
    LabelOption,
    ModelArgument,
    PrecisionOption,
    ResizeOption,
    SamplesOption,
    SplitOption,
    TolOption,
)


def encode(
    model: ModelArgument,
    data: DataOption,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="An .npz for the latent codes.")],
    n: FirstOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Decode again, and report how far the data come back from themselves.")
    ] = False,
    tol: TolOption = 1e-4,
    split: SplitOption = "train",
    resize: ResizeOption = False,
    label: LabelOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Encode data as latent codes, standard normal where the data are like the model's samples."""
    import torch

    import scorefield as sf
    from scorefield.cli.progress import progress
    from scorefield.cli.result import kept, stopwatch, tell
    from scorefield.cli.session import check_latents_path, data_for, open_model, write_latents

    check_latents_path(out)
    scored = open_model(model, device, label, precision, compiled)
    x = data_for(scored, data, first=n, resize=resize, split=split)
    error: dict[str, float] = {}
    parts = torch.split(x, batch_size)
    elapsed = stopwatch()
    with sf.count_evaluations(scored) as evaluations:
        with (
            kept(lambda z: write_latents(out, z), len(x), out) as done,
            progress("encoding", len(parts), evaluations) as advance,
        ):
            for part in parts:
                done.append(sf.encode(scored, part, batch_size=batch_size, tol=tol))
                advance()
        nfe = evaluations.forward / len(x)
        if check:
            back = sf.decode(scored, torch.cat(done), batch_size=batch_size, tol=tol)
            gap = back.cpu() - scored.space.to_data(scored.space.to_model(x)).cpu()
            error = {"max_error": float(gap.abs().max()), "rms_error": float(gap.square().mean().sqrt())}
    found = f"; decoded again, the largest error is {error['max_error']:.2g}" if check else ""
    tell(
        as_json,
        f"{len(x)} latent codes in {out}{found}",
        out=out,
        n=len(x),
        tol=tol,
        **error,
        nfe=nfe,
        device=str(sf.api.device_of(scored)),
        seconds=elapsed(),
    )


def decode(
    model: ModelArgument,
    data: Annotated[str, typer.Option("--data", metavar="FILE", help="Latent codes: the .npz of encode, or .npy.")],
    out: SamplesOption,
    n: FirstOption = None,
    tol: TolOption = 1e-4,
    label: LabelOption = None,
    batch_size: BatchOption = 64,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decode latent codes: the inverse of encode."""
    import torch

    import scorefield as sf
    from scorefield.cli.progress import progress
    from scorefield.cli.result import kept, stopwatch, tell
    from scorefield.cli.session import open_model, read_latents
    from scorefield.data import check_samples_path, save_samples

    scored = open_model(model, device, label, precision, compiled)
    check_samples_path(out, scored.space.shape)
    z = read_latents(data, scored.space, first=n)
    parts = torch.split(z, batch_size)
    elapsed = stopwatch()
    with (
        sf.count_evaluations(scored) as evaluations,
        kept(lambda x: save_samples(out, x), len(z), out) as done,
        progress("decoding", len(parts), evaluations) as advance,
    ):
        for part in parts:
            done.append(sf.decode(scored, part, batch_size=batch_size, tol=tol))
            advance()
    tell(
        as_json,
        f"{len(z)} data in {out}",
        out=out,
        n=len(z),
        tol=tol,
        nfe=evaluations.forward / len(z),
        device=str(sf.api.device_of(scored)),
        seconds=elapsed(),
    )
