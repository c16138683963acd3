"""What diffusers' JSON files say: the configurations that a UNet of this library can express, as pydantic models.

Each field has diffusers' own default, which a file may leave out, and a type that holds what is possible here. A value
outside of it, or a key that is not known, is an error that names the key, the value and what is possible.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from scorefield.convert.weights import ConversionError


class Config(BaseModel):
    """A frozen record of one JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Down = Literal["DownBlock2D", "AttnDownBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D"]
Up = Literal["UpBlock2D", "AttnUpBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"]


class UNet2D(Config):
    """The configuration of a `UNet2DModel`."""

    sample_size: PositiveInt | tuple[PositiveInt, PositiveInt]
    in_channels: PositiveInt = 3
    out_channels: PositiveInt = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "fourier"] = "positional"
    time_embedding_dim: PositiveInt | None = None
    freq_shift: float = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[Down, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    mid_block_type: Literal["UNetMidBlock2D"] = "UNetMidBlock2D"
    up_block_types: tuple[Up, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    block_out_channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (224, 448, 672, 896)
    layers_per_block: PositiveInt = 2
    mid_block_scale_factor: PositiveFloat = 1.0
    downsample_padding: int = 1
    downsample_type: Literal["conv"] = "conv"
    upsample_type: Literal["conv"] = "conv"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    act_fn: Literal["silu", "swish"] = "silu"
    attention_head_dim: PositiveInt | None = 8
    norm_num_groups: PositiveInt | None = 32
    attn_norm_num_groups: PositiveInt | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: Literal["default"] = "default"
    add_attention: Literal[True] = True
    class_embed_type: None = None
    num_class_embeds: None = None
    num_train_timesteps: int | None = None

    @property
    def skips(self) -> bool:
        """Whether the blocks are those of NCSN++, with image pyramids, rather than DDPM's."""
        return "Skip" in self.down_block_types[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return (self.sample_size, self.sample_size) if isinstance(self.sample_size, int) else self.sample_size


class Scheduler(Config):
    """What every scheduler has; options of its sampler are ignored."""

    model_config = ConfigDict(extra="ignore")


class Table(Scheduler):
    """The table of betas of `DDPMScheduler` and of the schedulers that sample the same models."""

    num_train_timesteps: PositiveInt = 1000
    beta_start: PositiveFloat = 0.0001
    beta_end: PositiveFloat = 0.02
    beta_schedule: Literal["linear"] = "linear"
    trained_betas: None = None
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    rescale_betas_zero_snr: Literal[False] = False


class VarianceExploding(Scheduler):
    """`ScoreSdeVeScheduler`."""

    num_train_timesteps: PositiveInt = 2000
    snr: PositiveFloat = 0.15
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat = 1348.0
    sampling_eps: PositiveFloat = 1e-5
    correct_steps: Annotated[int, Field(ge=0)] = 1


class VariancePreserving(Scheduler):
    """`ScoreSdeVpScheduler`."""

    num_train_timesteps: PositiveInt = 2000
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0
    sampling_eps: PositiveFloat = 1e-3


Process = Table | VarianceExploding | VariancePreserving
"""A scheduler, as far as it tells the noise levels of a training."""

SCHEDULERS: Mapping[str, type[Process]] = {
    "DDPMScheduler": Table,
    "DDIMScheduler": Table,
    "PNDMScheduler": Table,
    "ScoreSdeVeScheduler": VarianceExploding,
    "ScoreSdeVpScheduler": VariancePreserving,
}

C = TypeVar("C", bound=Config)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ConversionError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: damaged, not JSON ({error}); download it again") from None
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds {type(content).__name__}, expected an object with a configuration")
    return content


def parse(kind: type[C], content: Mapping[str, Any], where: str) -> C:
    """The configuration in `content`, whose keys with a leading underscore are diffusers' own notes.

    Raises:
        ConversionError: a key, its value and what is possible.

    >>> try:
    ...     parse(UNet2D, {"sample_size": 32, "act_fn": "mish"}, "config.json")
    ... except ConversionError as error:
    ...     str(error)
    "config.json: act_fn = 'mish' cannot be expressed; possible: 'silu' or 'swish'"
    """
    options = {key: value for key, value in content.items() if not key.startswith("_")}
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    key, given = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "extra_forbidden":
        raise ConversionError(f"{where}: unknown key {key} = {given!r}; known are {', '.join(kind.model_fields)}")
    if problem["type"] == "missing":
        raise ConversionError(f"{where} lacks {key}; add it")
    possible = problem.get("ctx", {}).get("expected") or problem["msg"].removeprefix("Input should be ")
    raise ConversionError(f"{where}: {key} = {given!r} cannot be expressed; possible: {possible}")
