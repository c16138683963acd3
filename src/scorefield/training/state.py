"""The state of a training on disk, from which it goes on as if nothing had happened.

A state is one safetensors file, `state/STEP.safetensors`: the network, its average and Adam's moments as named tensors,
and the number of steps in the file's metadata. Nothing random is stored, because nothing random depends on the past
(`scorefield.training.objective`). A file appears whole or not at all, and the last two are kept.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scorefield.checkpoint import CheckpointError
from scorefield.data import atomic_write

KEPT = 2


def save_state(
    folder: Path, step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state after `step` steps into `folder` and drop all but the last `KEPT`. Raises OSError."""
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for prefix, part in (("network", network.state_dict()), ("average", average.state_dict()))
        for name, tensor in ((f"{prefix}.{key}", value) for key, value in part.items())
    }
    tensors |= {name: tensor.detach().to("cpu").contiguous() for name, tensor in _moments(network, optimizer)}
    with atomic_write(folder / f"{step:09d}.safetensors") as file:
        file.write(save(tensors, {"step": str(step)}))
    for path in _states(folder)[:-KEPT]:
        path.unlink()


def load_state(folder: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Fill network, average and optimizer with the last state in `folder`; the number of steps, 0 where there is none.

    Raises CheckpointError where the state is damaged or that of another network.
    """
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    states = _states(folder)
    if not states:
        return 0
    path = states[-1]
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step = int((file.metadata() or {})["step"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a training state ({error}); remove it to go on from the one before"
        ) from None
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        prefix, _, key = name.partition(".")
        parts[prefix][key] = tensor
    try:
        network.load_state_dict(parts["network"])
        average.load_state_dict(parts["average"])
    except RuntimeError as error:
        raise CheckpointError(f"{path} is the state of another network: {' '.join(str(error).split())[:400]}") from None
    for name, parameter in network.named_parameters():
        optimizer.state[parameter] = {
            key: parts["optimizer"][f"{name}.{key}"].to("cpu" if key == "step" else parameter.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{name}.{key}" in parts["optimizer"]
        }
    return step


def has_state(folder: Path) -> bool:
    """Whether `folder` holds a state to go on from."""
    return bool(_states(folder))


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.safetensors") if path.stem.isdigit())


def _moments(network: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Adam's tensors by the name of their parameter."""
    for name, parameter in network.named_parameters():
        for key, tensor in optimizer.state.get(parameter, {}).items():
            yield f"optimizer.{name}.{key}", tensor
