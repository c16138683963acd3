"""A network as a score model: how time and data reach it, and how its output becomes each view."""

import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from scorefield.nn.inference import lay_out
from scorefield.nn.layers import check_choice
from scorefield.score import Denoiser, Parameterization, labels_of
from scorefield.sde import LinearSDE
from scorefield.shapes import Data, Time, expand
from scorefield.space import DataSpace

Precision = Literal["fp32", "bf16"]
Model = TypeVar("Model", bound="NetworkModel")


@dataclass(frozen=True)
class TimeLabel(ABC):
    """The number that stands for time in front of a network."""

    @abstractmethod
    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """The label at t."""


@dataclass(frozen=True)
class ContinuousTime(TimeLabel):
    """scale * t/T: the published networks of VP and sub-VP take 999 t, whatever the number of steps."""

    scale: float = 999.0

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """scale * t/T."""
        return t * (self.scale / sde.T)


@dataclass(frozen=True)
class LogSigma(TimeLabel):
    """log sigma(t): the published networks of the continuous VE SDE."""

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """log sigma(t)."""
        return torch.log(sde.sigma(t))


@dataclass(frozen=True)
class LogTime(TimeLabel):
    """log(scale * t/T): what a Fourier embedding is told in the published VP and sub-VP code."""

    scale: float = 999.0

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """log(scale * t/T)."""
        return torch.log(t * (self.scale / sde.T))


@dataclass(frozen=True)
class QuarterLogSigma(TimeLabel):
    """log(sigma(t))/4 (Karras et al. 2022, table 1, where alpha = 1)."""

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """log(sigma(t))/4."""
        return 0.25 * torch.log(sde.sigma(t))


@dataclass(frozen=True)
class QuarterLogSNR(TimeLabel):
    """-logsnr/4 = log(sigma/alpha)/2 for any SDE, kept to [-20, 20] where the log-SNR is infinite."""

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """-logsnr(t)/4."""
        return (-0.25 * sde.logsnr(t)).clamp(-20, 20)


@dataclass(frozen=True)
class DescendingIndex(TimeLabel):
    """The nearest row of the SDE's table, counted from the largest noise: discrete NCSN and NCSN++ (VE)."""

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """round(row(T) - row(t))."""
        return torch.round(sde.row(torch.full_like(t, sde.T)) - sde.row(t))


@dataclass(frozen=True)
class AscendingIndex(TimeLabel):
    """The row of the SDE's table, from the least noise, unrounded between rows: discrete DDPM and DDPM++ (VP).

    The published samplers pair the label with the row below it, or with continuous time; here label i is row i.
    """

    def __call__(self, sde: LinearSDE, t: Time) -> Time:
        """row(t)."""
        return sde.row(t)


TIME_LABELS: dict[str, type[TimeLabel]] = {
    "continuous": ContinuousTime,
    "log_continuous": LogTime,
    "log_sigma": LogSigma,
    "quarter_log_sigma": QuarterLogSigma,
    "quarter_logsnr": QuarterLogSNR,
    "descending_index": DescendingIndex,
    "ascending_index": AscendingIndex,
}


class NetworkModel(Denoiser):
    """A network, an SDE, a parameterization and a data space.

    `network(x, c, label=None)` takes x (batch, *data) in model units, the time label c (batch,) and, where the space
    has classes, labels (batch,) int64.

    >>> from scorefield.score import NoisePrediction
    >>> from scorefield.sde import VP
    >>> class Zero(nn.Module):
    ...     def forward(self, x, c, label=None): return 0 * x
    >>> model = NetworkModel(Zero(), VP(), DataSpace((2,)), NoisePrediction(), ContinuousTime())
    >>> model.denoise(torch.ones(1, 2), torch.tensor(0.001))  # x/alpha: no noise was seen
    tensor([[1.0001, 1.0001]])
    """

    sde: LinearSDE

    def __init__(
        self,
        network: nn.Module,
        sde: LinearSDE,
        space: DataSpace,
        parameterization: Parameterization,
        time_label: TimeLabel,
    ) -> None:
        super().__init__(sde, space)
        self.network = network
        self.parameterization = parameterization
        self.time_label = time_label
        self.label: Tensor | int | None = None
        self.precision: Precision = "fp32"
        end = torch.tensor(sde.T, dtype=torch.float64, device="cpu")
        time_label(sde, end)
        p, q = parameterization.target(sde, end)
        self.singular = bool(q * sde.alpha(end) == p * sde.sigma(end))
        """Whether the output says nothing about the data at T."""

    def forward(self, x: Data, t: Time) -> Data:
        """The network's output F: one evaluation."""
        scale = self.parameterization.input_scale(self.sde, t)
        batch = x.shape[0]
        c = self.time_label(self.sde, t).to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(batch)
        y = x if scale is None else expand(scale, x) * x
        label = None if self.label is None else torch.as_tensor(self.label, device=x.device)
        if label is not None and label.ndim and label.shape[0] != batch:
            raise ValueError(f"{len(label)} labels for a batch of {batch}: bind one label, or one for each of a batch")
        label = None if label is None else label.expand(batch)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output: Tensor = self.network(y, c, label)
        return output.to(x.dtype)

    def prepare(self: Model, precision: Precision = "fp32", *, compiled: bool = False) -> Model:
        """Lay the network out for evaluation, in place, and return this model; see :mod:`scorefield.nn.inference`.

        With "bf16" its convolutions and linear maps are rounded to bfloat16, for good. A ``compiled`` network is
        translated by ``torch.compile`` at its first evaluation. Raises ValueError for another precision, and where no
        C++ compiler is there.
        """
        check_choice("precision", precision, Precision)
        lay_out(self.network, torch.bfloat16 if precision == "bf16" else None)
        self.precision = precision
        if compiled:
            compiler = os.environ.get("CXX", "g++")
            if shutil.which(compiler) is None:
                raise ValueError(f"a compiled network needs a C++ compiler and {compiler} is not there: install g++")
            self.network.compile()
        return self

    def given(self, **condition: Any) -> Denoiser:
        """This model with `label=`: an integer for all samples, or (batch,) int64."""
        if set(condition) != {"label"} or not self.space.classes:
            raise ValueError(
                f"condition {', '.join(condition)} given to a model with {self.space.classes} classes: "
                "label=… needs a model trained with labels"
            )
        label = torch.as_tensor(condition["label"])
        if not torch.compiler.is_compiling() and bool(((label < 0) | (label >= self.space.classes)).any()):
            raise ValueError(f"label {label.tolist()}, expected 0 to {self.space.classes - 1}")
        return self.labelled(condition["label"])

    def labelled(self, label: Tensor | int) -> "NetworkModel":
        """This model with labels as its network takes them: the number of classes means none."""
        return self._with(label=label)

    def select(self, rows: Int64[Tensor, "rows"]) -> "NetworkModel":
        """This model with the labels of those rows, where each sample of a batch has its own."""
        label = None if self.label is None else labels_of(self.label, rows)
        return self if label is None or label is self.label else self.labelled(label)

    def _view(self, coefficients: tuple[Time, Time], x: Data, output: Data) -> Data:
        skip, out = coefficients
        return expand(skip, x) * x + expand(out, x) * output

    def _refuse(self, t: Time, view: str) -> None:
        if self.singular and not torch.compiler.is_compiling() and bool((self.sde.alpha(t) < 1e-7).any()):
            raise ValueError(
                f"{view} near t = {self.sde.T}, where {type(self.sde).__name__} has alpha = 0: "
                f"{type(self.parameterization).__name__} says nothing about the data there; use the velocity, v, "
                "data or edm parameterization, or start below T"
            )

    def predict(self, x: Data, t: Time) -> tuple[Data, Data]:
        """(denoised, noise) from one evaluation."""
        self._refuse(t, "denoised")
        f, form = self(x, t), self.parameterization
        return self._view(form.denoised(self.sde, t), x, f), self._view(form.noise(self.sde, t), x, f)

    def blend(self, x: Data, t: Time, data: Time, noise: Time) -> Data:
        """``data`` D + ``noise`` eps, from one evaluation."""
        self._refuse(t, "denoised")
        return self._view(self.parameterization.blend(self.sde, t, data, noise), x, self(x, t))

    def denoise(self, x: Data, t: Time) -> Data:
        """E[x_0 | x_t]."""
        self._refuse(t, "denoised")
        return self._view(self.parameterization.denoised(self.sde, t), x, self(x, t))

    def noise(self, x: Data, t: Time) -> Data:
        """E[z | x_t]."""
        return self._view(self.parameterization.noise(self.sde, t), x, self(x, t))

    def velocity(self, x: Data, t: Time) -> Data:
        """alpha' denoised + sigma' noise."""
        self._refuse(t, "velocity")
        return self._view(self.parameterization.velocity(self.sde, t), x, self(x, t))
