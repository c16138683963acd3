"""What every command of conditional samples is asked: which model, which data, how many samples, how, and where to.

A command is written as a function of a `Request` and of options of its own; `requested` makes of it the function whose
parameters are the options of both, as typer wants it.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorefield.cli.options import (
    BatchOption,
    CompileOption,
    CorrectorOption,
    CountOption,
    DataOption,
    DeviceOption,
    GridOption,
    ImagesOption,
    JsonOption,
    LabelOption,
    MethodName,
    ModelArgument,
    PrecisionOption,
    PredictorName,
    ResizeOption,
    SamplesOption,
    SeedOption,
    SnrOption,
    SplitOption,
)

if TYPE_CHECKING:
    from scorefield.conditional import Sampling
    from scorefield.score import Denoiser


@dataclass(frozen=True)
class Request:
    """The options that all of these commands share."""

    model: ModelArgument
    data: DataOption
    out: SamplesOption
    n: CountOption = 4
    images: ImagesOption = None
    method: Annotated[
        MethodName, typer.Option("--method", help="How the posterior is sampled: see docs/conditioning.md.")
    ] = "mmps"
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget", min=2, help="Evaluations for each sample, those of derivatives too.", show_default="150"
        ),
    ] = None
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Steps, in the place of a budget.")
    ] = None
    sampler: Annotated[
        PredictorName | None, typer.Option("--sampler", help="What walks the steps.", show_default="the method's own")
    ] = None
    corrector: CorrectorOption = None
    snr: SnrOption = None
    grid: GridOption = None
    seed: SeedOption = 0
    split: SplitOption = "train"
    resize: ResizeOption = False
    label: LabelOption = None
    batch_size: BatchOption = 64
    device: DeviceOption = "auto"
    precision: PrecisionOption = "fp32"
    compiled: CompileOption = False
    as_json: JsonOption = False

    def open(self) -> "Denoiser":
        """The model, when all that can be known to be wrong before sampling has been looked at."""
        from scorefield.cli.choices import OptionError
        from scorefield.cli.session import open_model
        from scorefield.data import check_samples_path

        if self.budget is not None and (self.steps is not None or self.sampler is not None):
            other = f"--steps {self.steps}" if self.steps is not None else f"--sampler {self.sampler}"
            raise OptionError(f"--budget {self.budget} with {other}: leave out one of them")
        if self.sampler is None and (self.corrector is not None or self.snr is not None):
            raise OptionError("--corrector or --snr without a --sampler that they belong to: name one")
        self.count()
        model = open_model(self.model, self.device, self.label, self.precision, self.compiled)
        check_samples_path(self.out, model.space.shape)
        return model

    def count(self) -> int:
        """How many steps there will be."""
        from scorefield.conditional import steps_for

        return steps_for(self.budget, self.method) if self.steps is None else self.steps

    def sampling(self, callback: Callable[[object], None]) -> "Sampling":
        """What the functions of the library take."""
        from scorefield.cli.choices import predictor_corrector

        return {
            "method": self.method,
            "n": self.n,
            "seed": self.seed,
            "sampler": None if self.sampler is None else predictor_corrector(self.sampler, self.corrector, self.snr),
            "steps": self.count(),
            "grid": self.grid,
            "batch_size": self.batch_size,
            "callback": callback,
        }


def requested(command: Callable[..., None]) -> Callable[..., None]:
    """A command of a `Request`, its first parameter, and of options of its own, as a function of them all."""
    shared = list(inspect.signature(Request).parameters.values())
    own = list(inspect.signature(command).parameters.values())[1:]
    names = [field.name for field in dataclasses.fields(Request)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        request = Request(**{name: given.pop(name) for name in names})
        command(request, **given)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*shared[:3], *own, *shared[3:])]
    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run
