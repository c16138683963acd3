"""The space that data live in, and the way between data units and model units.

data = shift + scale * model, one number for all or one per channel. Images have data units [0, 1]; their `levels` say
that they are stored as integers k = 0 … levels - 1, so that a likelihood can be one of integers: y = (k + u)/levels
with u uniform in [0, 1) bounds log P(k) from below by E log p(y) - dim log(levels) (Theis et al. 2016).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class DataSpace:
    """Shape, units, quantization and number of classes of the data.

    >>> space = DataSpace.images((3, 32, 32))
    >>> space.to_model(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)).unique()
    tensor([1.])
    """

    shape: tuple[int, ...]
    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    levels: int | None = None
    classes: int = 0

    def __post_init__(self) -> None:
        channels = self.shape[0] if self.shape else 1
        for name, values in (("shift", self.shift), ("scale", self.scale)):
            if len(values) not in (1, channels):
                raise ValueError(
                    f"DataSpace: {len(values)} values of {name}, expected 1 or one per channel ({channels})"
                )
        if not all(s > 0 and math.isfinite(s) for s in self.scale):
            raise ValueError(f"DataSpace: scale {self.scale}, expected positive numbers")

    @classmethod
    def images(
        cls, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0, levels: int | None = 256, classes: int = 0
    ) -> "DataSpace":
        """Images with data units [0, 1] and model units [low, high]."""
        scale = 1 / (high - low)
        return cls(shape, (-low * scale,), (scale,), levels, classes)

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)

    @property
    def log_scale(self) -> float:
        """The sum of log(scale) over coordinates: log p_data = log p_model - log_scale."""
        per_value = self.dim // len(self.scale)
        return per_value * sum(math.log(s) for s in self.scale)

    def check(self, x: Shaped[Tensor, "..."]) -> None:
        """Raise a ValueError where `x` is not a batch of this space."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"data of shape {tuple(x.shape)}, expected (batch, {', '.join(map(str, self.shape))}): "
                "give a batch of what the model was trained on"
            )

    def quantized(self, x: Shaped[Tensor, "..."]) -> bool:
        """Whether `x` holds integer levels rather than data units."""
        if x.is_floating_point():
            return False
        if self.levels is None or x.dtype != torch.uint8:
            raise TypeError(f"data of type {x.dtype}, expected {'uint8 or ' if self.levels else ''}floating point")
        return True

    def _affine(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return like.new_tensor(values).reshape(-1, *[1] * max(0, len(self.shape) - 1))

    def to_model(self, x: Shaped[Tensor, "batch *data"]) -> Tensor:
        """Data units (or uint8 levels) to model units."""
        self.check(x)
        y = x.to(torch.get_default_dtype()) / ((self.levels or 2) - 1) if self.quantized(x) else x
        return (y - self._affine(self.shift, y)) / self._affine(self.scale, y)

    def to_data(self, x: Tensor) -> Tensor:
        """Model units to data units; images are clipped to [0, 1]."""
        y = self._affine(self.shift, x) + self._affine(self.scale, x) * x
        return y.clamp(0, 1) if self.levels else y

    def dequantize(self, x: Shaped[Tensor, "batch *data"], u: Tensor) -> Tensor:
        """Integer levels and uniform noise in [0, 1) to data units: (k + u)/levels."""
        self.check(x)
        if not self.quantized(x) or self.levels is None:
            raise TypeError(f"dequantize: data of type {x.dtype}, expected integer levels (uint8)")
        return (x.to(u.dtype) + u) / self.levels
